//! The forward pass, once for all families. Sees only a `Spec`; knows no tokenizer, no hook and no
//! family's name. Nothing here turns gradients off or works in place, so it trains as it runs.

use super::attention::Attention;
use super::cache::Cache;
use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::rope::{Frequencies, Rotation};
use super::spec::Spec;
use super::weights;
use anyhow::{Context, Result};
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// A decoder-only transformer: embedding, blocks, final norm, unembedding.
pub struct Decoder {
    embed: Tensor,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    unembed: Tensor,
    frequencies: Frequencies,
    n_layers: usize,
}

struct Block {
    attn_norm: RmsNorm,
    attn: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

impl Decoder {
    /// Takes every tensor of `spec.tensors()` out of `tensors`; they are used as they are (dtype,
    /// device, `requires_grad`) and shared, not copied.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of the wrong shape, all of them by name.
    pub fn from_tensors(spec: &Spec, tensors: &mut HashMap<String, Tensor>) -> Result<Decoder> {
        weights::take_ignorable(spec, tensors)?;
        weights::check(spec, tensors.iter().map(|(name, t)| (name.as_str(), t.size())))?;
        let mut take =
            |name: String| tensors.remove(&name).with_context(|| format!("tensor `{name}` is missing"));
        let mut blocks = Vec::with_capacity(spec.n_layers);
        for layer in 0..spec.n_layers {
            blocks.push(Block::new(spec, layer, &mut take)?);
        }
        let embed = take(format!("{}.weight", spec.names.embed))?;
        let unembed = match spec.tied {
            true => embed.shallow_clone(),
            false => take(format!("{}.weight", spec.names.unembed))?,
        };
        let final_norm =
            RmsNorm { gain: take(format!("{}.weight", spec.names.final_norm))?, eps: spec.norm_eps };
        let frequencies = Frequencies::new(&spec.rope, spec.d_head, embed.device());
        Ok(Decoder { embed, blocks, final_norm, unembed, frequencies, n_layers: spec.n_layers })
    }

    /// The residual after the last block, `[batch, pos, d_model]`, of token ids `[batch, pos]`
    /// (int64, on the decoder's device). Every row starts at position 0.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        self.run(ids, None, self.n_layers - 1, &mut |_, resid| resid)
    }

    /// Blocks `0..=last`. With a cache, the pass fills it or is one step after it (see [`Cache`]).
    /// `resid_post` receives each block's output with its layer and returns what goes on.
    pub fn run(
        &self,
        ids: &Tensor,
        cache: Option<&Cache>,
        last: usize,
        resid_post: &mut dyn FnMut(usize, Tensor) -> Tensor,
    ) -> Tensor {
        let mut resid = Tensor::embedding(&self.embed, ids, -1, false, false);
        let rotation = self.rotation(ids, cache);
        for (layer, block) in self.blocks.iter().enumerate().take(last + 1) {
            let attn_out = block.attn.forward(
                &block.attn_norm.forward(&resid),
                &rotation,
                cache.map(|cache| cache.layer(layer)),
            );
            let resid_mid = resid + attn_out;
            let mlp_out = block.mlp.forward(&block.mlp_norm.forward(&resid_mid));
            resid = resid_post(layer, resid_mid + mlp_out);
        }
        resid
    }

    /// Logits `[.., d_vocab]` of residuals `[.., d_model]`: final norm, then unembedding.
    pub fn unembed(&self, resid: &Tensor) -> Tensor {
        self.final_norm.forward(resid).linear::<&Tensor>(&self.unembed, None)
    }

    /// The final norm.
    pub fn final_norm(&self) -> &RmsNorm {
        &self.final_norm
    }

    /// The unembedding, `[d_vocab, d_model]`.
    pub fn unembed_weight(&self) -> &Tensor {
        &self.unembed
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embed.device()
    }

    /// The dtype of weights and activations.
    pub fn kind(&self) -> Kind {
        self.embed.kind()
    }

    fn rotation(&self, ids: &Tensor, cache: Option<&Cache>) -> Rotation {
        match cache.and_then(Cache::step) {
            Some(step) => self.frequencies.at(&step.positions.view([-1, 1, 1]), self.kind()),
            None => {
                let positions = Tensor::arange(ids.size()[1], (Kind::Int64, self.device()));
                self.frequencies.at(&positions, self.kind())
            }
        }
    }
}

impl Block {
    fn new(spec: &Spec, layer: usize, take: &mut dyn FnMut(String) -> Result<Tensor>) -> Result<Block> {
        let (names, block) = (&spec.names, spec.block(layer));
        let mut linear = |name: &str, bias: bool| -> Result<Linear> {
            Ok(Linear {
                weight: take(format!("{block}{name}.weight"))?,
                bias: bias.then(|| take(format!("{block}{name}.bias"))).transpose()?,
            })
        };
        let attn = Attention {
            q: linear(names.q, spec.attention_bias)?,
            k: linear(names.k, spec.attention_bias)?,
            v: linear(names.v, spec.attention_bias)?,
            o: linear(names.o, spec.attention_bias)?,
            n_heads: spec.n_heads as i64,
            n_kv_heads: spec.n_kv_heads as i64,
            d_head: spec.d_head as i64,
        };
        let mlp = Mlp {
            gate: linear(names.gate, spec.mlp_bias)?,
            up: linear(names.up, spec.mlp_bias)?,
            down: linear(names.down, spec.mlp_bias)?,
        };
        let mut norm = |name: &str| -> Result<RmsNorm> {
            Ok(RmsNorm { gain: take(format!("{block}{name}.weight"))?, eps: spec.norm_eps })
        };
        Ok(Block { attn_norm: norm(names.attn_norm)?, attn, mlp_norm: norm(names.mlp_norm)?, mlp })
    }
}
