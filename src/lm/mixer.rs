//! The mixer of a block, through which tokens see earlier tokens. Independent of the residual stream around it.

use super::attention::{Attention, Projected};
use super::block::Pass;
use super::delta_net::DeltaNet;
use std::collections::HashMap;
use tch::{Device, Tensor};

/// First half of a block.
pub enum Mixer {
    /// Softmax attention.
    Attention(SelfAttention),
    /// A gated delta net.
    GatedDelta(DeltaNet),
}

/// Softmax attention to a layer's own keys and values, or to those of an earlier layer.
pub struct SelfAttention {
    /// The attention itself.
    pub attention: Attention,
    /// Index of the decoder's frequencies that rotate its heads.
    pub rotation: Option<usize>,
    /// Number of tokens that a token sees, including itself; `None`: all earlier tokens.
    pub window: Option<usize>,
    /// The layer whose keys and values are used.
    pub source: usize,
}

impl Mixer {
    /// The output, to be added to the residual stream, for the normalised residual `[batch, pos, d_model]`, and the
    /// keys and values if the block computes its own, `[batch, n_kv_heads, slots, d_head]` each. `shared` are those of
    /// earlier layers.
    pub fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        match self {
            Mixer::Attention(attention) => attention.forward(layer, x, pass, shared),
            Mixer::GatedDelta(net) => (net.forward(layer, x, pass), None),
        }
    }

    /// Copy on `device`.
    pub fn on(&self, device: Device) -> Mixer {
        match self {
            Mixer::Attention(of) => {
                Mixer::Attention(SelfAttention { attention: of.attention.on(device), ..*of })
            }
            Mixer::GatedDelta(net) => Mixer::GatedDelta(net.on(device)),
        }
    }
}

impl SelfAttention {
    fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let rotation = self.rotation.map(|which| &pass.rotations[which]);
        let Projected { q, kv, gate } = self.attention.project(x, rotation, pass.backend);
        let own = kv.map(|(keys, values)| match pass.cache {
            Some(cache) => cache.keep(layer, keys, values),
            None => (keys, values),
        });
        let (keys, values) = own.as_ref().unwrap_or_else(|| &shared[&self.source]);
        let (mask, backend) = (&pass.mask, pass.backend);
        let out = self.attention.forward(&q, (keys, values), gate.as_ref(), mask, self.window, backend);
        (out, own)
    }
}
