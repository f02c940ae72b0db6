//! One block: a mixer and an MLP around the residual stream, with the norms and scales that a `Spec`
//! asks for. Knows nothing of the other blocks but the keys and values that it takes from one.

use super::attention_mask::AttentionMask;
use super::backend::Backend;
use super::cache::Cache;
use super::feed_forward::FeedForward;
use super::mixer::Mixer;
use super::norm::Norm;
use super::per_layer::PerLayerBlock;
use super::rope::Rotation;
use super::spec::Residual;
use std::collections::HashMap;
use tch::{Device, Tensor};

/// One block of a decoder.
pub struct Block {
    /// Norm of what the mixer reads.
    pub attn_norm: Option<Norm>,
    /// The first half.
    pub mixer: Mixer,
    /// Norm of what the mixer gives.
    pub attn_post_norm: Option<Norm>,
    /// Norm of what the second half reads.
    pub mlp_norm: Option<Norm>,
    /// The second half.
    pub mlp: FeedForward,
    /// Norm of what the second half gives.
    pub mlp_post_norm: Option<Norm>,
    /// How the halves add to the residual stream.
    pub residual: Residual,
    /// Multiplies what each half gives.
    pub residual_scale: f64,
    /// Embeddings for each layer.
    pub per_layer: Option<PerLayerBlock>,
    /// Multiplies what the block gives, `[1]`.
    pub scalar: Option<Tensor>,
}

/// What is the same for all blocks in one pass.
pub struct Pass<'a> {
    /// What computes it.
    pub backend: Backend,
    /// By the decoder's frequencies.
    pub rotations: Vec<Rotation>,
    /// What its tokens see.
    pub mask: AttentionMask,
    /// How many tokens of each row are in it; what follows them is padding.
    pub lengths: Vec<usize>,
    /// Keys and values, or states, of earlier passes, and the place for those of this one.
    pub cache: Option<&'a Cache>,
}

impl Block {
    /// `resid_post` of `resid_pre`, `[batch, pos, d_model]`, and the keys and values if they are the
    /// block's own.
    pub fn forward(
        &self,
        layer: usize,
        resid_pre: Tensor,
        per_layer_input: Option<Tensor>,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let backend = pass.backend;
        let normed = |norm: &Option<Norm>, x: &Tensor| {
            norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x, backend))
        };
        let (attn_out, own) = self.mixer.forward(layer, &normed(&self.attn_norm, &resid_pre), pass, shared);
        let attn_out = self.scaled(normed(&self.attn_post_norm, &attn_out));
        let mlp_out = |resid: &Tensor| {
            let mlp_out = self.mlp.forward(resid, &normed(&self.mlp_norm, resid), backend);
            self.scaled(normed(&self.mlp_post_norm, &mlp_out))
        };
        let mut resid = match self.residual {
            Residual::Sequential => {
                let resid_mid = resid_pre + attn_out;
                let mlp_out = mlp_out(&resid_mid);
                resid_mid + mlp_out
            }
            Residual::Parallel => mlp_out(&resid_pre) + attn_out + resid_pre,
        };
        if let (Some(per_layer), Some(input)) = (&self.per_layer, per_layer_input) {
            resid = &resid + per_layer.forward(&resid, &input, backend);
        }
        if let Some(scalar) = &self.scalar {
            resid = &resid * scalar;
        }
        (resid, own)
    }

    /// The same on `device`; there already, it shares its numbers with this one.
    pub fn on(&self, device: Device) -> Block {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.on(device));
        Block {
            attn_norm: norm(&self.attn_norm),
            mixer: self.mixer.on(device),
            attn_post_norm: norm(&self.attn_post_norm),
            mlp_norm: norm(&self.mlp_norm),
            mlp: self.mlp.on(device),
            mlp_post_norm: norm(&self.mlp_post_norm),
            per_layer: self.per_layer.as_ref().map(|per_layer| per_layer.on(device)),
            scalar: self.scalar.as_ref().map(|scalar| scalar.to_device(device)),
            ..*self
        }
    }

    fn scaled(&self, x: Tensor) -> Tensor {
        if self.residual_scale == 1.0 { x } else { x * self.residual_scale }
    }
}
