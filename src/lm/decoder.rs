//! The forward pass, once for all families. Sees only a `Spec`; knows no tokenizer, no hook and no
//! family's name. Nothing here turns gradients off or works in place, so it trains as it runs.

use super::attention::{Attention, KeysValues};
use super::cache::Cache;
use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::per_layer::{PerLayer, PerLayerBlock};
use super::rope::{Frequencies, Rotation};
use super::spec::{GateUpNames, KeyValues, Layer, QkNorm, QkvNames, Rope, Spec, per_layer};
use super::weights;
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashMap};
use tch::{Device, Kind, Tensor};

/// Raised when the forward pass gives other numbers, be it in the last bits, for a checkpoint that it
/// could run before. Part of the key of everything that a model computes.
pub const VERSION: u32 = 2;

/// A decoder-only transformer: embedding, blocks, final norm, unembedding.
pub struct Decoder {
    embed: Tensor,
    embed_scale: f64,
    per_layer: Option<PerLayer>,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    unembed: Tensor,
    logit_divisor: f64,
    logit_cap: Option<f64>,
    /// The distinct rotations of the blocks.
    frequencies: Vec<Frequencies>,
    /// Layers whose keys and values later ones use.
    sources: BTreeSet<usize>,
}

struct Block {
    attn_norm: Option<RmsNorm>,
    attn: Attention,
    attn_post_norm: Option<RmsNorm>,
    mlp_norm: Option<RmsNorm>,
    mlp: Mlp,
    mlp_post_norm: Option<RmsNorm>,
    residual_scale: f64,
    per_layer: Option<PerLayerBlock>,
    /// `[1]`
    scalar: Option<Tensor>,
    /// Which of the decoder's frequencies turn its heads.
    rotation: Option<usize>,
    window: Option<usize>,
    /// The layer whose keys and values it uses.
    source: usize,
}

/// What is the same for all blocks in one pass.
struct Pass<'a> {
    rotations: Vec<Rotation>,
    cache: Option<&'a Cache>,
    /// Where the kernel's own causal mask will not do, by window: `[1, 1, pos, pos]`.
    masks: Vec<(Option<usize>, Tensor)>,
}

impl Decoder {
    /// Takes every tensor of `spec.tensors()` out of `tensors`; they are used as they are (dtype,
    /// device, `requires_grad`) and shared, not copied.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of the wrong shape, all of them by name.
    pub fn from_tensors(spec: &Spec, tensors: &mut HashMap<String, Tensor>) -> Result<Decoder> {
        weights::take_spare(spec, tensors)?;
        weights::check(spec, tensors.iter().map(|(name, t)| (name.as_str(), t.size())))?;
        let mut take =
            |name: &str| tensors.remove(name).with_context(|| format!("tensor `{name}` is missing"));
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut blocks = Vec::with_capacity(spec.n_layers());
        for (layer, of) in spec.layers.iter().enumerate() {
            let rotation = of.rope.as_ref().map(|rope| {
                ropes.iter().position(|known| *known == rope).unwrap_or_else(|| {
                    ropes.push(rope);
                    ropes.len() - 1
                })
            });
            let prefix = spec.block(layer);
            let mut block = BlockTensors { spec, of, take: &mut |name| take(&format!("{prefix}{name}")) };
            blocks.push(block.block(layer, rotation)?);
        }
        let embed = take(&format!("{}.weight", spec.names.embed))?;
        let unembed = match spec.tied {
            true => embed.shallow_clone(),
            false => take(&format!("{}.weight", spec.names.unembed))?,
        };
        let norm =
            |learned: Tensor| RmsNorm { learned: Some(learned), gain: spec.norm_gain, eps: spec.norm_eps };
        let per_layer = match spec.per_layer_embed {
            None => None,
            Some(of) => Some(PerLayer {
                table: take(per_layer::EMBED)?,
                projection: take(per_layer::PROJECTION)?,
                norm: norm(take(per_layer::NORM)?),
                scale: rounded((of.width as f64).sqrt(), embed.kind()),
                width: of.width as i64,
            }),
        };
        let source = |layer: &Layer| match layer.kv {
            KeyValues::Of(source) => Some(source),
            _ => None,
        };
        Ok(Decoder {
            embed_scale: rounded(spec.embed_scale, embed.kind()),
            per_layer,
            blocks,
            final_norm: norm(take(&format!("{}.weight", spec.names.final_norm))?),
            unembed,
            logit_divisor: spec.logit_divisor,
            logit_cap: spec.logit_cap,
            frequencies: ropes.into_iter().map(|rope| Frequencies::new(rope, embed.device())).collect(),
            sources: spec.layers.iter().filter_map(source).collect(),
            embed,
        })
    }

    /// The residual after the last block, `[batch, pos, d_model]`, of token ids `[batch, pos]`
    /// (int64, on the decoder's device). Every row starts at position 0 and has no padding.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let lengths = vec![ids.size()[1] as usize; ids.size()[0] as usize];
        self.run(ids, &lengths, None, self.blocks.len() - 1, &mut |_, resid| resid)
    }

    /// Blocks `0..=last` on token ids `[batch, pos]`, padded on the right; `lengths` are the real
    /// tokens of each row's sequence so far. With a cache, the pass fills it or is one step after it
    /// (see [`Cache`]). `resid_post` receives each block's output with its layer and returns what
    /// goes on.
    pub fn run(
        &self,
        ids: &Tensor,
        lengths: &[usize],
        cache: Option<&Cache>,
        last: usize,
        resid_post: &mut dyn FnMut(usize, Tensor) -> Tensor,
    ) -> Tensor {
        let embedded = self.embed(ids);
        let pass = self.pass(ids, lengths, cache);
        let mut shared: HashMap<usize, (Tensor, Tensor)> = HashMap::new();
        let mut resid = embedded.shallow_clone();
        for (layer, block) in self.blocks.iter().enumerate().take(last + 1) {
            let input = self.per_layer.as_ref().map(|all| all.input(layer, ids, &embedded));
            let (out, keys_values) = block.forward(layer, resid, input, &pass, &shared);
            if let Some(keys_values) = keys_values.filter(|_| self.sources.contains(&layer)) {
                shared.insert(layer, keys_values);
            }
            resid = resid_post(layer, out);
        }
        resid
    }

    /// Logits `[.., d_vocab]` of residuals `[.., d_model]`: final norm, then unembedding.
    pub fn unembed(&self, resid: &Tensor) -> Tensor {
        let logits = self.final_norm.forward(resid).linear::<&Tensor>(&self.unembed, None);
        let logits = if self.logit_divisor == 1.0 { logits } else { logits / self.logit_divisor };
        match self.logit_cap {
            None => logits,
            Some(cap) => (logits / cap).tanh() * cap,
        }
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

    /// The number of tokens past which a sequence is computed anew from its start, if there is one.
    pub fn original_context(&self) -> Option<usize> {
        self.frequencies.iter().filter_map(Frequencies::original_context).min()
    }

    fn embed(&self, ids: &Tensor) -> Tensor {
        let rows = Tensor::embedding(&self.embed, ids, -1, false, false);
        if self.embed_scale == 1.0 { rows } else { rows * self.embed_scale }
    }

    fn pass<'a>(&self, ids: &Tensor, lengths: &[usize], cache: Option<&'a Cache>) -> Pass<'a> {
        let device = self.device();
        let step = cache.and_then(Cache::step);
        let pos = ids.size()[1];
        let positions = match step {
            Some(step) => step.positions.unsqueeze(1),
            None => Tensor::arange(pos, (Kind::Int64, device)).unsqueeze(0),
        };
        let lengths: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
        let lengths = Tensor::from_slice(&lengths).to_device(device);
        let rotations = self.frequencies.iter().map(|f| f.at(&positions, &lengths)).collect();
        let mut masks: Vec<(Option<usize>, Tensor)> = Vec::new();
        for block in &self.blocks {
            let beyond = block.window.is_some_and(|window| pos > window as i64);
            let needed = step.is_none() && (beyond || block.attn.cap.is_some());
            if needed && !masks.iter().any(|(window, _)| *window == block.window) {
                masks.push((block.window, causal_mask(pos, block.window, device)));
            }
        }
        Pass { rotations, cache, masks }
    }
}

impl Pass<'_> {
    fn mask(&self, window: Option<usize>) -> Option<&Tensor> {
        match self.cache.and_then(Cache::step) {
            Some(step) => step.mask(window),
            None => self.masks.iter().find(|(of, _)| *of == window).map(|(_, mask)| mask),
        }
    }
}

/// `[1, 1, pos, pos]`, true where a query (row) sees a key (column).
fn causal_mask(pos: i64, window: Option<usize>, device: Device) -> Tensor {
    let mask = Tensor::ones([pos, pos], (Kind::Bool, device)).tril(0);
    let mask = match window {
        None => mask,
        // A window of one token is the token itself.
        Some(window) => mask.triu(1 - window as i64),
    };
    mask.view([1, 1, pos, pos])
}

/// `x` as a model of this dtype holds it.
fn rounded(x: f64, kind: Kind) -> f64 {
    Tensor::from(x).to_kind(kind).double_value(&[])
}

impl Block {
    /// `resid_post` of `resid_pre`, `[batch, pos, d_model]`, and the keys and values if they are the
    /// block's own.
    fn forward(
        &self,
        layer: usize,
        resid_pre: Tensor,
        per_layer_input: Option<Tensor>,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let x = normed(&self.attn_norm, &resid_pre);
        let rotation = self.rotation.map(|which| &pass.rotations[which]);
        let own = self.attn.keys_values(&x, rotation).map(|(keys, values)| match pass.cache {
            Some(cache) => cache.keep(layer, keys, values),
            None => (keys, values),
        });
        let (keys, values) = own.as_ref().unwrap_or_else(|| &shared[&self.source]);
        let attn_out = self.attn.forward(&x, rotation, (keys, values), pass.mask(self.window));
        let resid_mid = resid_pre + self.scaled(normed(&self.attn_post_norm, &attn_out));
        let mlp_out = self.mlp.forward(&normed(&self.mlp_norm, &resid_mid));
        let mut resid = resid_mid + self.scaled(normed(&self.mlp_post_norm, &mlp_out));
        if let (Some(per_layer), Some(input)) = (&self.per_layer, per_layer_input) {
            resid = &resid + per_layer.forward(&resid, &input);
        }
        if let Some(scalar) = &self.scalar {
            resid = &resid * scalar;
        }
        (resid, own)
    }

    fn scaled(&self, x: Tensor) -> Tensor {
        if self.residual_scale == 1.0 { x } else { x * self.residual_scale }
    }
}

/// `x` through a norm, where there is one.
fn normed(norm: &Option<RmsNorm>, x: &Tensor) -> Tensor {
    norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x))
}

/// Makes a block out of its tensors, which `take` gives by their names within the block.
struct BlockTensors<'a> {
    spec: &'a Spec,
    of: &'a Layer,
    take: &'a mut dyn FnMut(&str) -> Result<Tensor>,
}

impl BlockTensors<'_> {
    fn block(&mut self, layer: usize, rotation: Option<usize>) -> Result<Block> {
        let (spec, of, names) = (self.spec, self.of, &self.spec.names);
        let attn = self.attention()?;
        let [gate, up] = match names.gate_up {
            GateUpNames::Split(gate, up) => {
                [self.linear(gate, spec.mlp_bias)?, self.linear(up, spec.mlp_bias)?]
            }
            GateUpNames::Fused(name) => {
                let both = self.linear(name, spec.mlp_bias)?;
                [0, 1].map(|part| both.rows(part * of.d_mlp, of.d_mlp))
            }
        };
        let mlp =
            Mlp { gate, up, down: self.linear(names.down, spec.mlp_bias)?, activation: spec.activation };
        let per_layer = match spec.per_layer_embed {
            None => None,
            Some(_) => {
                let post_norm = (self.take)(per_layer::POST_NORM)?;
                Some(PerLayerBlock {
                    gate: Linear { weight: (self.take)(per_layer::GATE)?, bias: None },
                    out: Linear { weight: (self.take)(per_layer::OUT)?, bias: None },
                    post_norm: self.norm_of(post_norm),
                    activation: spec.activation,
                })
            }
        };
        Ok(Block {
            attn_norm: self.norm(names.attn_norm)?,
            attn,
            attn_post_norm: self.norm(names.attn_post_norm)?,
            mlp_norm: self.norm(names.mlp_norm)?,
            mlp,
            mlp_post_norm: self.norm(names.mlp_post_norm)?,
            residual_scale: spec.residual_scale,
            per_layer,
            scalar: spec.layer_scalars.then(|| (self.take)(per_layer::SCALAR)).transpose()?,
            rotation,
            window: of.window,
            source: match of.kv {
                KeyValues::Of(source) => source,
                _ => layer,
            },
        })
    }

    fn attention(&mut self) -> Result<Attention> {
        let (spec, of, names) = (self.spec, self.of, &self.spec.names);
        let (q_out, kv_out) = (spec.n_heads * of.d_head, of.n_kv_heads * of.d_head);
        let (q, kv) = match (names.qkv, of.kv) {
            (QkvNames::Fused(name), _) => {
                let all = self.linear(name, spec.qkv_bias)?;
                let (k, v) = (all.rows(q_out, kv_out), all.rows(q_out + kv_out, kv_out));
                (all.rows(0, q_out), Some((k, Some(v))))
            }
            (QkvNames::Split(q, ..), KeyValues::Of(_)) => (self.linear(q, spec.qkv_bias)?, None),
            (QkvNames::Split(q, k, v), own) => {
                let q = self.linear(q, spec.qkv_bias)?;
                let k = self.linear(k, spec.qkv_bias)?;
                let v = (own == KeyValues::Own).then(|| self.linear(v, spec.qkv_bias)).transpose()?;
                (q, Some((k, v)))
            }
        };
        let (q_name, k_name) = match spec.qk_norm {
            QkNorm::None => (None, None),
            _ => (Some(names.qk_norm.0), Some(names.qk_norm.1)),
        };
        let kv = match kv {
            None => None,
            Some((k, v)) => Some(KeysValues {
                k,
                v,
                k_norm: self.norm(k_name)?,
                v_norm: spec.v_norm.then(|| RmsNorm {
                    learned: None,
                    gain: spec.norm_gain,
                    eps: spec.norm_eps,
                }),
            }),
        };
        Ok(Attention {
            q,
            q_norm: self.norm(q_name)?,
            kv,
            o: self.linear(names.o, spec.o_bias)?,
            qk_norm: spec.qk_norm,
            n_heads: spec.n_heads as i64,
            n_kv_heads: of.n_kv_heads as i64,
            d_head: of.d_head as i64,
            scale: spec.attention_scale,
            cap: spec.attention_cap,
        })
    }

    fn linear(&mut self, name: &str, bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: (self.take)(&format!("{name}.weight"))?,
            bias: bias.then(|| (self.take)(&format!("{name}.bias"))).transpose()?,
        })
    }

    fn norm(&mut self, name: Option<&str>) -> Result<Option<RmsNorm>> {
        let learned = name.map(|name| (self.take)(&format!("{name}.weight"))).transpose()?;
        Ok(learned.map(|learned| self.norm_of(learned)))
    }

    fn norm_of(&self, learned: Tensor) -> RmsNorm {
        RmsNorm { learned: Some(learned), gain: self.spec.norm_gain, eps: self.spec.norm_eps }
    }
}
