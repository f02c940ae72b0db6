//! A gated delta net: a mixer whose tokens see earlier tokens through a memory of fixed size. Independent of the
//! residual stream around it.

use super::block::Pass;
use super::gated_delta::{GatedDelta, Inputs};
use super::linear::{Linear, Linears};
use super::norm::RmsNorm;
use super::spec::Activation;
use tch::{Device, Kind, Tensor};

/// The gated delta rule with its input and output projections.
pub struct DeltaNet {
    /// Projections from `d_model`: concatenated queries, keys and values; the output gate; the input of the decay; the
    /// input of the write rate.
    pub maps: Linears,
    /// The rule.
    pub delta: GatedDelta,
    /// Norm of the output of a value head, `[d_v]`.
    pub norm: RmsNorm,
    /// `n_v_heads * d_v -> d_model`
    pub o: Linear,
}

impl DeltaNet {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> DeltaNet {
        DeltaNet {
            maps: self.maps.on(device),
            delta: self.delta.on(device),
            norm: self.norm.on(device),
            o: self.o.on(device),
        }
    }

    /// Output of layer `layer`, to be added to the residual stream, for the normalised residual
    /// `[batch, pos, d_model]`. Everything from the convolution to the gate is in fp32 and rounded once.
    pub fn forward(&self, layer: usize, x: &Tensor, pass: &Pass) -> Tensor {
        let [qkv, z, a, b]: [Tensor; 4] = self.maps.forward(x, pass.backend).try_into().expect("four maps");
        let of = Inputs { qkv: &qkv, a: &a, b: &b };
        let read = match pass.cache {
            None => self.delta.forward(&of, &pass.lengths, pass.backend),
            Some(cache) => {
                let state = cache.state(layer);
                let (read, state) =
                    self.delta.forward_and_keep(&of, &pass.lengths, state.as_ref(), pass.backend);
                cache.keep_state(layer, &state);
                read
            }
        };
        let read = self.norm.forward(&read, pass.backend).reshape(z.size());
        let gated = pass.backend.gate(Activation::Silu, &z.to_kind(Kind::Float), &read);
        self.o.forward(&gated.to_kind(x.kind()), pass.backend)
    }
}
