//! The switches in which one model family differs from another, and the tensors that follow from
//! them. Knows no family by name: `family/` fills it in.

mod parts;
mod tensors;

pub use super::names::{
    BesideNames, EachExpertNames, ExpertNames, Layout, MlpNames, Names, QkvNames, delta_net, per_layer,
};
use super::quantization::Quantization;
pub use parts::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// In which types a model is held and computed, and where its weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtypePolicy {
    /// Its weights in memory.
    pub weights: Dtype,
    /// Its activations and arithmetic. Where this is another type, each weight is converted whenever it is used.
    pub compute: Dtype,
    /// Whether its weights stay in the mapped file and its blocks come to the device one by one.
    pub streamed: bool,
}

impl From<Dtype> for DtypePolicy {
    /// One type for both, all of it on the device.
    fn from(dtype: Dtype) -> DtypePolicy {
        DtypePolicy { weights: dtype, compute: dtype, streamed: false }
    }
}

/// The type in which a model's weights and activations are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// bfloat16: the range of f32 with 8 bits of precision.
    Bf16,
    /// IEEE half held: 11 bits of precision, largest value 65504.
    F16,
}

impl Dtype {
    /// Each of them.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

    /// libtorch's name for it.
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
        }
    }

    /// As experiment files write it.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// The type of arithmetic that weights of this type get where none is asked for. On a CPU fp32: the rounding of bf16 alone moves
    /// what steering does by a fifth of its size (SmolLM2), and most processors compute in bf16 more slowly.
    pub fn computed_on(self, device: Device) -> Dtype {
        if device == Device::Cpu { Dtype::F32 } else { self }
    }
}

/// One model: its sizes and switches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// The architecture as `config.json` names it.
    pub architecture: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of tokens in the vocabulary, rows of the embedding.
    pub d_vocab: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Multiplies the embedding; rounded to the model's dtype first.
    pub embed_scale: f64,
    /// What every norm does.
    pub norm: Norm,
    /// Added to the mean square, or to the variance, in every norm.
    pub norm_eps: f64,
    /// Bounds the scaled products to `cap * tanh(product / cap)`.
    pub attention_cap: Option<f64>,
    /// Norm of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether values are divided by their root mean square, over each head.
    pub v_norm: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub o_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// That of MLPs and experts.
    pub activation: Activation,
    /// How a block's halves add to the residual stream.
    pub residual: Residual,
    /// Multiplies what each half of a block gives to the residual stream.
    pub residual_scale: f64,
    /// Embeddings for each layer.
    pub per_layer_embed: Option<PerLayerEmbed>,
    /// Whether each block's output is multiplied by a learned number.
    pub layer_scalars: bool,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
    /// Logits are divided by it.
    pub logit_divisor: f64,
    /// Bounds the logits to `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f64>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// The dtype that the checkpoint declares.
    pub dtype: Dtype,
    /// How the checkpoint's weights are quantised; `None`: they are not.
    pub quantization: Option<Quantization>,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// The token before every text, where there is one.
    pub bos: Option<i64>,
    /// Tokens that end a text.
    pub eos: Vec<i64>,
    /// The checkpoint's names for its tensors.
    #[serde(skip)]
    pub names: Names,
}

impl Spec {
    /// Reads a parsed `config.json`.
    ///
    /// # Errors
    /// An architecture that is not supported; a field that is missing, out of range, or that
    /// changes the maths in a way not known here; weights that are quantised.
    pub fn from_config(config: &serde_json::Value) -> anyhow::Result<Spec> {
        Ok(super::family::read(config, &[])?.spec)
    }

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The layers that have attention, with their numbers, to be changed.
    pub fn attentions(&mut self) -> impl Iterator<Item = (usize, &mut Attention)> {
        let layers = self.layers.iter_mut().enumerate();
        layers.filter_map(|(layer, of)| Some((layer, of.attention_mut()?)))
    }

    /// Whether its MLPs have a gate.
    pub fn is_gated(&self) -> bool {
        !matches!(self.names.mlp, MlpNames::Plain(_))
    }

    /// Prefix of the tensors of block `layer`, with the dot at its end.
    pub fn block(&self, layer: usize) -> String {
        self.names.block.replace("{}", &layer.to_string())
    }

    /// A tensor's name with the prefix that this spec has for it.
    pub fn canonical(&self, name: &str) -> String {
        let alias = self.names.aliases.iter().find_map(|(from, to)| Some((name.strip_prefix(from)?, to)));
        alias.map_or_else(|| name.to_string(), |(rest, to)| format!("{to}{rest}"))
    }

    /// Why a tensor of the checkpoint, by its canonical name, is no part of the model, if it is none.
    pub fn spare(&self, name: &str) -> Option<Spare> {
        if let Some(tower) = self.names.towers.iter().find(|tower| name.starts_with(**tower)) {
            return Some(Spare::Tower(tower));
        }
        if self.names.buffers.iter().any(|ending| name.ends_with(ending)) {
            return Some(Spare::Buffer);
        }
        // Checkpoints hold projections that a layer with another's keys and values never uses.
        let QkvNames::Split(_, k, v) = self.names.qkv else { return None };
        let unused = self.layers.iter().enumerate().any(|(layer, of)| {
            let shares = of.attention().is_some_and(|attention| matches!(attention.kv, KeyValues::Of(_)));
            let parts: &[&str] = if shares { &[k, v, self.names.qk_norm.1] } else { &[] };
            let rest = name.strip_prefix(self.block(layer).as_str()).unwrap_or_default();
            parts.iter().any(|part| rest.strip_prefix(part).is_some_and(|end| end.starts_with('.')))
        });
        unused.then_some(Spare::Unused)
    }

    /// Number of learned numbers; a tied unembedding counts once.
    pub fn n_params(&self) -> u64 {
        self.tensors().iter().map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
    }
}

/// Why a tensor of a checkpoint is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// Part of a tower for images or sound, by its prefix.
    Tower(&'static str),
    /// A buffer that holds nothing learned.
    Buffer,
    /// Keys and values of a layer that uses another's.
    Unused,
}
