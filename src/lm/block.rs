//! One block: attention and MLP around the residual stream, with the norms and scales that a `Spec`
//! asks for. Knows nothing of the other blocks but the keys and values that it takes from one.

use super::attention::{Attention, KeysValues, Projected};
use super::cache::Cache;
use super::experts::{Experts, Router};
use super::feed_forward::{Both, FeedForward};
use super::linear::{Linear, Linears};
use super::mlp::Mlp;
use super::norm::RmsNorm;
use super::per_layer::PerLayerBlock;
use super::rope::Rotation;
use super::sight::Sight;
use super::spec::{self, EachExpertNames, GateUpNames, KeyValues, Layer, QkNorm, QkvNames, Spec, per_layer};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use tch::{Device, Tensor};

/// One block of a decoder.
pub struct Block {
    attn_norm: Option<RmsNorm>,
    attn: Attention,
    attn_post_norm: Option<RmsNorm>,
    mlp_norm: Option<RmsNorm>,
    mlp: FeedForward,
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
pub struct Pass<'a> {
    /// By the decoder's frequencies.
    pub rotations: Vec<Rotation>,
    /// What its tokens see.
    pub sight: Sight,
    /// Keys and values of earlier passes, and the place for those of this one.
    pub cache: Option<&'a Cache>,
}

impl Block {
    /// `resid_post` of `resid_pre`, `[batch, pos, d_model]`, and the keys and values if they are the
    /// block's own.
    pub fn forward(
        &self,
        layer: usize,
        resid_pre: Tensor,
        per_layer_input: Option<Tensor>,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let x = normed(&self.attn_norm, &resid_pre);
        let rotation = self.rotation.map(|which| &pass.rotations[which]);
        let Projected { q, kv } = self.attn.project(&x, rotation);
        let own = kv.map(|(keys, values)| match pass.cache {
            Some(cache) => cache.keep(layer, keys, values),
            None => (keys, values),
        });
        let (keys, values) = own.as_ref().unwrap_or_else(|| &shared[&self.source]);
        let attn_out = self.attn.forward(&q, (keys, values), &pass.sight, self.window);
        let resid_mid = resid_pre + self.scaled(normed(&self.attn_post_norm, &attn_out));
        let mlp_out = self.mlp.forward(&resid_mid, &normed(&self.mlp_norm, &resid_mid));
        let mut resid = resid_mid + self.scaled(normed(&self.mlp_post_norm, &mlp_out));
        if let (Some(per_layer), Some(input)) = (&self.per_layer, per_layer_input) {
            resid = &resid + per_layer.forward(&resid, &input);
        }
        if let Some(scalar) = &self.scalar {
            resid = &resid * scalar;
        }
        (resid, own)
    }

    /// The same on `device`; there already, it shares its numbers with this one.
    pub fn on(&self, device: Device) -> Block {
        let norm = |norm: &Option<RmsNorm>| norm.as_ref().map(|norm| norm.on(device));
        Block {
            attn_norm: norm(&self.attn_norm),
            attn: self.attn.on(device),
            attn_post_norm: norm(&self.attn_post_norm),
            mlp_norm: norm(&self.mlp_norm),
            mlp: self.mlp.on(device),
            mlp_post_norm: norm(&self.mlp_post_norm),
            per_layer: self.per_layer.as_ref().map(|per_layer| per_layer.on(device)),
            scalar: self.scalar.as_ref().map(|scalar| scalar.to_device(device)),
            ..*self
        }
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
pub struct BlockTensors<'a> {
    /// The model.
    pub spec: &'a Spec,
    /// The block.
    pub of: &'a Layer,
    /// Gives a tensor away.
    pub take: &'a mut dyn FnMut(&str) -> Result<Tensor>,
}

impl BlockTensors<'_> {
    /// Block `layer`, whose heads the decoder's frequencies number `rotation` turn.
    ///
    /// # Errors
    /// A tensor that is missing.
    pub fn block(&mut self, layer: usize, rotation: Option<usize>) -> Result<Block> {
        let (spec, of, names) = (self.spec, self.of, &self.spec.names);
        let attn = self.attention()?;
        let mlp = self.feed_forward()?;
        let per_layer = match spec.per_layer_embed {
            None => None,
            Some(_) => {
                let post_norm = (self.take)(per_layer::POST_NORM)?;
                Some(PerLayerBlock {
                    gate: Linear { weight: (self.take)(per_layer::GATE)?, bias: None },
                    out: Linear { weight: (self.take)(per_layer::OUT)?, bias: None },
                    post_norm: self.norm_of(Some(post_norm)),
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

    fn feed_forward(&mut self) -> Result<FeedForward> {
        let dense = self.of.d_mlp.map(|d_mlp| self.mlp(d_mlp)).transpose()?;
        let names = &self.spec.names.experts;
        Ok(match (dense, self.of.experts) {
            (Some(mlp), None) => FeedForward::Dense(mlp),
            (None, None) => bail!("a block needs an MLP or experts"),
            (None, Some(of)) => FeedForward::Experts(self.experts(of)?),
            (Some(mlp), Some(of)) => {
                let beside = names.beside.context("experts beside an MLP need norms of their own")?;
                FeedForward::Both(Box::new(Both {
                    mlp,
                    mlp_post_norm: self.needed_norm(beside.mlp_post_norm)?,
                    experts: self.experts(of)?,
                    experts_norm: self.needed_norm(beside.norm)?,
                    experts_post_norm: self.needed_norm(beside.post_norm)?,
                }))
            }
        })
    }

    fn mlp(&mut self, d_mlp: usize) -> Result<Mlp> {
        let (names, bias) = (&self.spec.names, self.spec.mlp_bias);
        let gate_up = match names.gate_up {
            GateUpNames::Split(gate, up) => {
                Linears::new(vec![self.linear(gate, bias)?, self.linear(up, bias)?])
            }
            GateUpNames::Fused(name) => Linears::of_rows(self.linear(name, bias)?, &[d_mlp; 2]),
        };
        Ok(Mlp { gate_up, down: self.linear(names.down, bias)?, activation: self.spec.activation })
    }

    fn experts(&mut self, of: spec::Experts) -> Result<Experts> {
        let (names, activation) = (&self.spec.names.experts, self.spec.activation);
        let router = Router {
            weight: (self.take)(&format!("{}.weight", names.router))?,
            norm: names.beside.map(|_| self.norm_of(None)),
            input_scale: names.beside.map(|beside| (self.take)(beside.router_scale)).transpose()?,
            expert_scale: names.beside.map(|beside| (self.take)(beside.expert_scale)).transpose()?,
            active: of.active as i64,
            normalized: of.normalized,
        };
        let one = |weight: Tensor| Linear { weight, bias: None };
        let each = match names.each {
            EachExpertNames::Split(gate, up, down) => (0..of.count)
                .map(|expert| {
                    let mut linear =
                        |name: &str| self.linear(&name.replace("{}", &expert.to_string()), false);
                    let gate_up = Linears::new(vec![linear(gate)?, linear(up)?]);
                    Ok(Mlp { gate_up, down: linear(down)?, activation })
                })
                .collect::<Result<Vec<Mlp>>>()?,
            EachExpertNames::Stacked(gate_up, down) => {
                let (gate_up, down) = ((self.take)(gate_up)?, (self.take)(down)?);
                let mlp = |expert: usize| {
                    let gate_up = Linears::of_rows(one(gate_up.get(expert as i64)), &[of.d_mlp; 2]);
                    Mlp { gate_up, down: one(down.get(expert as i64)), activation }
                };
                (0..of.count).map(mlp).collect()
            }
        };
        Ok(Experts { router, each })
    }

    fn attention(&mut self) -> Result<Attention> {
        let (spec, of, names) = (self.spec, self.of, &self.spec.names);
        let (q_out, kv_out) = (spec.n_heads * of.d_head, of.n_kv_heads * of.d_head);
        let qkv = match names.qkv {
            QkvNames::Fused(name) => {
                Linears::of_rows(self.linear(name, spec.qkv_bias)?, &[q_out, kv_out, kv_out])
            }
            QkvNames::Split(q, k, v) => {
                let all: &[&str] = match of.kv {
                    KeyValues::Of(_) => &[q],
                    KeyValues::Own => &[q, k, v],
                    _ => &[q, k],
                };
                let each = all.iter().map(|name| self.linear(name, spec.qkv_bias));
                Linears::new(each.collect::<Result<_>>()?)
            }
        };
        let (q_name, k_name) = match spec.qk_norm {
            QkNorm::None => (None, None),
            _ => (Some(names.qk_norm.0), Some(names.qk_norm.1)),
        };
        let kv = match of.kv {
            KeyValues::Of(_) => None,
            _ => Some(KeysValues {
                k_norm: self.norm(k_name)?,
                v_norm: spec.v_norm.then(|| self.norm_of(None)),
            }),
        };
        Ok(Attention {
            qkv,
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
        name.map(|name| self.needed_norm(name)).transpose()
    }

    fn needed_norm(&mut self, name: &str) -> Result<RmsNorm> {
        let learned = (self.take)(&format!("{name}.weight"))?;
        Ok(self.norm_of(Some(learned)))
    }

    fn norm_of(&self, learned: Option<Tensor>) -> RmsNorm {
        RmsNorm { learned, gain: self.spec.norm_gain, eps: self.spec.norm_eps }
    }
}
