//! Builds blocks from the tensors of a checkpoint. Depends on a `Spec` and on how checkpoints store tensors, not on how
//! blocks are computed.

use super::attention::{self, Attention};
use super::block::Block;
use super::delta_net::DeltaNet;
use super::experts::{Experts, Router};
use super::feed_forward::{Both, FeedForward};
use super::gated_delta::GatedDelta;
use super::linear::{Linear, Linears};
use super::mixer::{Mixer, SelfAttention};
use super::mlp::{Inner, Mlp};
use super::norm::{LayerNorm, Norm, RmsNorm};
use super::per_layer::PerLayerBlock;
use super::spec::{
    self, EachExpertNames, Gain, KeyValues, Layer, Layout, MlpNames, QkNorm, QkvNames, Spec, delta_net,
    per_layer,
};
use anyhow::{Context, Result, bail};
use tch::Tensor;

/// Builds a block from its tensors, which `take` returns by their names within the block.
pub struct BlockTensors<'a> {
    /// The model.
    pub spec: &'a Spec,
    /// The block to build.
    pub of: &'a Layer,
    /// Removes a tensor from the checkpoint and returns it.
    pub take: &'a mut dyn FnMut(&str) -> Result<Tensor>,
}

impl BlockTensors<'_> {
    /// Builds block `layer`; `rotation` is the index of its frequencies in the decoder. Tensors that the checkpoint
    /// stores in another layout than [`Linear`] remain views until the block is moved [`on`](Block::on) a device.
    ///
    /// # Errors
    /// A missing tensor.
    pub fn block(&mut self, layer: usize, rotation: Option<usize>) -> Result<Block> {
        let (spec, names) = (self.spec, &self.spec.names);
        let mixer = match &self.of.mixer {
            spec::Mixer::Attention(of) => Mixer::Attention(SelfAttention {
                attention: self.attention(of)?,
                rotation,
                window: of.window,
                source: match of.kv {
                    KeyValues::Of(source) => source,
                    _ => layer,
                },
            }),
            spec::Mixer::GatedDelta(heads) => Mixer::GatedDelta(self.delta_net(*heads)?),
        };
        let mlp = self.feed_forward()?;
        let per_layer = match spec.per_layer_embed {
            None => None,
            Some(_) => Some(PerLayerBlock {
                gate: Linear { weight: (self.take)(per_layer::GATE)?, bias: None },
                out: Linear { weight: (self.take)(per_layer::OUT)?, bias: None },
                post_norm: self.needed_norm(per_layer::POST_NORM)?,
                activation: spec.activation,
            }),
        };
        Ok(Block {
            attn_norm: self.norm(names.attn_norm)?,
            mixer,
            attn_post_norm: self.norm(names.attn_post_norm)?,
            mlp_norm: self.norm(names.mlp_norm)?,
            mlp,
            mlp_post_norm: self.norm(names.mlp_post_norm)?,
            residual: spec.residual,
            residual_scale: spec.residual_scale,
            per_layer,
            scalar: spec.layer_scalars.then(|| (self.take)(per_layer::SCALAR)).transpose()?,
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
        let inner = match names.mlp {
            MlpNames::Split(gate, up) => {
                Inner::Gated(Linears::new(vec![self.linear(gate, bias)?, self.linear(up, bias)?]))
            }
            MlpNames::Fused(name) => Inner::Gated(Linears::of_rows(self.linear(name, bias)?, &[d_mlp; 2])),
            MlpNames::Plain(name) => Inner::Plain(self.linear(name, bias)?),
        };
        Ok(Mlp { inner, down: self.linear(names.down, bias)?, activation: self.spec.activation })
    }

    fn experts(&mut self, of: spec::Experts) -> Result<Experts> {
        let (names, activation) = (&self.spec.names.experts, self.spec.activation);
        let router = Router {
            weight: (self.take)(&format!("{}.weight", names.router))?,
            norm: names.beside.map(|_| self.without_gain()),
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
                        |name: &str| self.expert_linear(&name.replace("{}", &expert.to_string()));
                    let inner = Inner::Gated(Linears::new(vec![linear(gate)?, linear(up)?]));
                    Ok(Mlp { inner, down: linear(down)?, activation })
                })
                .collect::<Result<Vec<Mlp>>>()?,
            EachExpertNames::Stacked(gate_up, down) => {
                let (gate_up, down) = ((self.take)(gate_up)?, (self.take)(down)?);
                let mlp = |expert: usize| {
                    let gate_up = Linears::of_rows(one(gate_up.get(expert as i64)), &[of.d_mlp; 2]);
                    Mlp { inner: Inner::Gated(gate_up), down: one(down.get(expert as i64)), activation }
                };
                (0..of.count).map(mlp).collect()
            }
        };
        Ok(Experts { router, each })
    }

    fn attention(&mut self, of: &spec::Attention) -> Result<Attention> {
        let (spec, names) = (self.spec, &self.spec.names);
        let (q_out, kv_out) = (spec.n_heads * of.d_head, of.d_kv());
        let qkv = match names.qkv {
            QkvNames::Fused(name) => {
                Linears::of_rows(self.linear(name, spec.qkv_bias)?, &[q_out, kv_out, kv_out])
            }
            QkvNames::FusedPerHead(name) => {
                Linears::new(self.linear(name, spec.qkv_bias)?.parts_of_heads(spec.n_heads, 3))
            }
            QkvNames::Split(q, k, v) => {
                let all: &[&str] = match of.kv {
                    KeyValues::Of(_) => &[q],
                    KeyValues::Own => &[q, k, v],
                    KeyValues::KeysAsValues => &[q, k],
                };
                let each = all.iter().map(|name| self.linear(name, spec.qkv_bias));
                let mut each: Vec<Linear> = each.collect::<Result<_>>()?;
                if of.gate {
                    let q_and_gate = each[0].parts_of_heads(spec.n_heads, 2);
                    each.splice(..1, q_and_gate);
                    each[1..].rotate_left(1);
                }
                Linears::new(each)
            }
        };
        let (q_name, k_name) = match spec.qk_norm {
            QkNorm::None => (None, None),
            _ => (Some(names.qk_norm.0), Some(names.qk_norm.1)),
        };
        let kv = match of.kv {
            KeyValues::Of(_) => None,
            _ => Some(attention::KeysValues {
                k_norm: self.norm(k_name)?,
                v_norm: spec.v_norm.then(|| self.without_gain()),
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
            scale: of.scale,
            cap: spec.attention_cap,
            gate: of.gate,
        })
    }

    fn delta_net(&mut self, heads: spec::DeltaHeads) -> Result<DeltaNet> {
        let maps = [delta_net::QKV, delta_net::GATE, delta_net::DECAY, delta_net::RATE];
        let maps = maps.into_iter().map(|name| self.linear(name, false)).collect::<Result<_>>()?;
        let learned = Some((self.take)(delta_net::NORM)?);
        Ok(DeltaNet {
            maps: Linears::new(maps),
            delta: GatedDelta {
                conv: (self.take)(delta_net::CONV)?.squeeze_dim(1).tr(),
                a_log: (self.take)(delta_net::A_LOG)?,
                dt_bias: (self.take)(delta_net::DT_BIAS)?,
                heads,
            },
            norm: RmsNorm { learned, gain: Gain::Times, eps: self.spec.norm_eps },
            o: self.linear(delta_net::O, false)?,
        })
    }

    fn linear(&mut self, name: &str, bias: bool) -> Result<Linear> {
        let weight = (self.take)(&format!("{name}.weight"))?;
        let weight = match self.spec.names.layout {
            Layout::OutIn => weight,
            Layout::InOut => weight.tr(),
        };
        Ok(Linear { weight, bias: bias.then(|| (self.take)(&format!("{name}.bias"))).transpose()? })
    }

    /// Experts are always stored as `[out, in]`, whatever the layout of the other maps.
    fn expert_linear(&mut self, name: &str) -> Result<Linear> {
        Ok(Linear { weight: (self.take)(&format!("{name}.weight"))?, bias: None })
    }

    fn norm(&mut self, name: Option<&str>) -> Result<Option<Norm>> {
        name.map(|name| self.needed_norm(name)).transpose()
    }

    fn needed_norm(&mut self, name: &str) -> Result<Norm> {
        norm(self.spec, name, self.take)
    }

    /// A norm by the root mean square, without a gain.
    fn without_gain(&self) -> RmsNorm {
        RmsNorm { learned: None, gain: Gain::Times, eps: self.spec.norm_eps }
    }
}

/// Builds the norm `name` of a model from the tensors that `take` returns.
///
/// # Errors
/// A missing tensor.
pub fn norm(spec: &Spec, name: &str, take: &mut dyn FnMut(&str) -> Result<Tensor>) -> Result<Norm> {
    let mut part = |part: &str| take(&format!("{name}.{part}"));
    Ok(match spec.norm {
        spec::Norm::Rms { gain } => {
            Norm::Rms(RmsNorm { learned: Some(part("weight")?), gain, eps: spec.norm_eps })
        }
        spec::Norm::Layer => {
            Norm::Layer(LayerNorm { gain: part("weight")?, bias: part("bias")?, eps: spec.norm_eps })
        }
    })
}
