//! RMSNorm. Knows nothing of where it stands.

use tch::{Kind, Tensor};

/// Divides by the root mean square over the last axis, then multiplies by a learned gain.
pub struct RmsNorm {
    /// `[d_model]`
    pub gain: Tensor,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// `[.., d_model]` to the same shape. The division is done in fp32, its result is rounded to the
    /// dtype of `x`, and only then multiplied by the gain: transformers' order for Llama.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        &self.gain * normalize(x, self.eps).to_kind(x.kind())
    }
}

/// `x` divided by its root mean square over the last axis, in fp32.
pub fn normalize(x: &Tensor, eps: f64) -> Tensor {
    let x = x.to_kind(Kind::Float);
    let mean_square = x.square().mean_dim(-1, true, Kind::Float);
    &x * (mean_square + eps).rsqrt()
}
