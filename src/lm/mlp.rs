//! The gated MLP of a block. Knows nothing of the residual stream around it.

use super::linear::Linear;
use tch::Tensor;

/// `down(silu(gate(x)) * up(x))`.
pub struct Mlp {
    /// `d_model -> d_mlp`, through SiLU.
    pub gate: Linear,
    /// `d_model -> d_mlp`.
    pub up: Linear,
    /// `d_mlp -> d_model`.
    pub down: Linear,
}

impl Mlp {
    /// `mlp_out` of a normalised residual: `[batch, pos, d_model]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.down.forward(&(self.gate.forward(x).silu() * self.up.forward(x)))
    }
}
