//! The MLP of a block. Independent of the residual stream around it.

use super::backend::Backend;
use super::linear::{Linear, Linears};
use super::spec::Activation;
use tch::{Device, Tensor};

/// `down(inner(x))`.
pub struct Mlp {
    /// Inner part.
    pub inner: Inner,
    /// `d_mlp -> d_model`.
    pub down: Linear,
    /// Elementwise activation of the inner part.
    pub activation: Activation,
}

/// Inner part of an MLP.
pub enum Inner {
    /// `activation(gate(x)) * up(x)`: gate and up, `d_model -> d_mlp` each.
    Gated(Linears),
    /// `activation(up(x))`: up, `d_model -> d_mlp`.
    Plain(Linear),
}

impl Mlp {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> Mlp {
        let inner = match &self.inner {
            Inner::Gated(gate_up) => Inner::Gated(gate_up.on(device)),
            Inner::Plain(up) => Inner::Plain(up.on(device)),
        };
        Mlp { inner, down: self.down.on(device), activation: self.activation }
    }

    /// `mlp_out` for a normalised residual: `[batch, pos, d_model]` to the same shape.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        let inner = match &self.inner {
            Inner::Gated(gate_up) => {
                let gate_up = gate_up.forward(x, backend);
                backend.gate(self.activation, &gate_up[0], &gate_up[1])
            }
            Inner::Plain(up) => backend.activate(self.activation, &up.forward(x, backend)),
        };
        self.down.forward(&inner, backend)
    }
}

impl Activation {
    /// Applies the activation elementwise with libtorch's kernels.
    pub(super) fn by_libtorch(self, x: &Tensor) -> Tensor {
        match self {
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
            Activation::GeluSigmoid => (x * 1.702).sigmoid() * x,
            Activation::Relu => x.relu(),
            Activation::Sigmoid => x.sigmoid(),
        }
    }
}
