//! The second half of a block, after attention: an MLP, a mixture of experts, or both in parallel. Independent of the
//! residual stream around it.

use super::backend::Backend;
use super::experts::Experts;
use super::mlp::Mlp;
use super::norm::Norm;
use tch::{Device, Tensor};

/// The second half of a block.
pub enum FeedForward {
    /// One MLP.
    Dense(Mlp),
    /// A mixture of experts instead.
    Experts(Experts),
    /// Both in parallel, each followed by a norm, and summed.
    Both(Box<Both>),
}

/// An MLP and a mixture of experts in parallel.
pub struct Both {
    /// The MLP.
    pub mlp: Mlp,
    /// Norm of the MLP's output.
    pub mlp_post_norm: Norm,
    /// The experts, whose router reads the residual stream without a norm.
    pub experts: Experts,
    /// Norm before the experts.
    pub experts_norm: Norm,
    /// Norm of the experts' output.
    pub experts_post_norm: Norm,
}

impl FeedForward {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> FeedForward {
        match self {
            FeedForward::Dense(mlp) => FeedForward::Dense(mlp.on(device)),
            FeedForward::Experts(experts) => FeedForward::Experts(experts.on(device)),
            FeedForward::Both(both) => FeedForward::Both(Box::new(Both {
                mlp: both.mlp.on(device),
                mlp_post_norm: both.mlp_post_norm.on(device),
                experts: both.experts.on(device),
                experts_norm: both.experts_norm.on(device),
                experts_post_norm: both.experts_post_norm.on(device),
            })),
        }
    }

    /// `mlp_out` for `resid_mid` and for the same after the block's norm, `normed`; all `[batch, pos, d_model]`.
    pub fn forward(&self, resid_mid: &Tensor, normed: &Tensor, backend: Backend) -> Tensor {
        match self {
            FeedForward::Dense(mlp) => mlp.forward(normed, backend),
            FeedForward::Experts(experts) => experts.forward(normed, normed, backend),
            FeedForward::Both(both) => {
                let dense = both.mlp_post_norm.forward(&both.mlp.forward(normed, backend), backend);
                let experts =
                    both.experts.forward(&both.experts_norm.forward(resid_mid, backend), resid_mid, backend);
                dense + both.experts_post_norm.forward(&experts, backend)
            }
        }
    }
}
