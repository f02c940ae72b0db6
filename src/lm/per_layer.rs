//! Per-layer token embeddings, which a layer adds at its end. Independent of the rest of the block.

use super::backend::Backend;
use super::linear::Linear;
use super::norm::Norm;
use super::spec::Activation;
use tch::{Device, Tensor};

/// The part shared by all layers.
pub struct PerLayer {
    /// `[d_vocab, n_layers * width]`
    pub table: Tensor,
    /// `[n_layers * width, d_model]`
    pub projection: Tensor,
    /// Norm of the projection, `[width]`.
    pub norm: Norm,
    /// Multiplies the table's rows, rounded to the dtype of the arithmetic.
    pub scale: f64,
    /// Number of entries per token and layer.
    pub width: i64,
}

/// The part of one layer.
pub struct PerLayerBlock {
    /// `d_model -> width`, followed by the activation.
    pub gate: Linear,
    /// `width -> d_model`
    pub out: Linear,
    /// Norm of the output to the residual stream.
    pub post_norm: Norm,
    /// Activation of the gate.
    pub activation: Activation,
}

impl PerLayer {
    /// Input at `layer`, `[batch, pos, width]`, for token ids `[batch, pos]` whose embeddings are
    /// `[batch, pos, d_model]`. A layer that is not run costs nothing.
    pub fn input(&self, layer: usize, ids: &Tensor, embedded: &Tensor, backend: Backend) -> Tensor {
        let from = layer as i64 * self.width;
        let (device, kind) = (embedded.device(), embedded.kind());
        let ids = ids.to_device(self.table.device());
        let token = Tensor::embedding(&self.table.narrow(1, from, self.width), &ids, -1, false, false);
        let token = token.to_device(device).to_kind(kind);
        let projection = self.projection.narrow(0, from, self.width).to_device(device);
        let d_model = embedded.size()[2] as f64;
        let context = backend.linear(embedded, &projection, None) * d_model.sqrt().recip();
        (self.norm.forward(&context, backend) + token * self.scale) * std::f64::consts::FRAC_1_SQRT_2
    }
}

impl PerLayerBlock {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> PerLayerBlock {
        PerLayerBlock {
            gate: self.gate.on(device),
            out: self.out.on(device),
            post_norm: self.post_norm.on(device),
            activation: self.activation,
        }
    }

    /// The term added to the residual `[batch, pos, d_model]`, given the layer's input.
    pub fn forward(&self, resid: &Tensor, input: &Tensor, backend: Backend) -> Tensor {
        let gated = backend.gate(self.activation, &self.gate.forward(resid, backend), input);
        self.post_norm.forward(&self.out.forward(&gated, backend), backend)
    }
}
