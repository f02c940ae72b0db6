//! The gated MLP of a block. Knows nothing of the residual stream around it.

use super::cpu;
use super::linear::{Linear, Linears};
use super::spec::Activation;
use tch::{Device, Tensor};

/// `down(activation(gate(x)) * up(x))`.
pub struct Mlp {
    /// Gate, which goes through the activation, and up: `d_model -> d_mlp` each.
    pub gate_up: Linears,
    /// `d_mlp -> d_model`.
    pub down: Linear,
    /// What the gate passes through.
    pub activation: Activation,
}

impl Mlp {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Mlp {
        Mlp { gate_up: self.gate_up.on(device), down: self.down.on(device), activation: self.activation }
    }

    /// `mlp_out` of a normalised residual: `[batch, pos, d_model]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let gate_up = self.gate_up.forward(x);
        self.down.forward(&self.activation.gate(&gate_up[0], &gate_up[1]))
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
