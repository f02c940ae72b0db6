//! The gated MLP of a block. Knows nothing of the residual stream around it.

use super::cpu;
use super::linear::Linear;
use super::spec::Activation;
use tch::{Device, Tensor};

/// `down(activation(gate(x)) * up(x))`.
pub struct Mlp {
    /// `d_model -> d_mlp`, through the activation.
    pub gate: Linear,
    /// `d_model -> d_mlp`.
    pub up: Linear,
    /// `d_mlp -> d_model`.
    pub down: Linear,
    /// What the gate passes through.
    pub activation: Activation,
}

impl Mlp {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Mlp {
        let [gate, up, down] = [&self.gate, &self.up, &self.down].map(|linear| linear.on(device));
        Mlp { gate, up, down, activation: self.activation }
    }

    /// `mlp_out` of a normalised residual: `[batch, pos, d_model]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.down.forward(&self.activation.gate(&self.gate.forward(x), &self.up.forward(x)))
    }
}

impl Activation {
    /// What it makes of `x`, times `by`, entry by entry.
    pub fn gate(self, x: &Tensor, by: &Tensor) -> Tensor {
        if let Some(gated) = cpu::gated(self, x, by) {
            return gated;
        }
        let open = match self {
            Activation::Silu => x.silu(),
            Activation::GeluTanh => x.gelu("tanh"),
        };
        open * by
    }
}
