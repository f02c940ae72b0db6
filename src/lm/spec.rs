//! The switches by which model families differ, and the resulting tensors. Independent of the families' names:
//! `family/` fills it in.

mod parts;
mod tensors;

pub use super::names::{
    BesideNames, EachExpertNames, ExpertNames, Layout, MlpNames, Names, QkvNames, delta_net, per_layer,
};
use super::quantization::Quantization;
pub use parts::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// Dtypes of weights and arithmetic, and the location of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtypePolicy {
    /// Dtype of the weights in memory.
    pub weights: Dtype,
    /// Dtype of activations and arithmetic. If it differs from that of the weights, each weight is converted whenever
    /// it is used.
    pub compute: Dtype,
    /// Whether the weights stay in the mapped file and the blocks are copied to the device one by one.
    pub streamed: bool,
}

impl From<Dtype> for DtypePolicy {
    /// The same dtype for both, with all weights on the device.
    fn from(dtype: Dtype) -> DtypePolicy {
        DtypePolicy { weights: dtype, compute: dtype, streamed: false }
    }
}

/// Dtype of a model's weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// bfloat16: the range of f32 with 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits of precision, largest value 65504.
    F16,
}

impl Dtype {
    /// All dtypes.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::Bf16, Dtype::F16];

    /// The corresponding libtorch dtype.
    pub fn kind(self) -> Kind {
        match self {
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F16 => Kind::Half,
        }
    }

    /// The name used in experiment files.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::F16 => "f16",
        }
    }

    /// Default dtype of arithmetic for weights of this dtype. On a CPU it is fp32: the rounding of bf16 alone changes
    /// the effect of steering by a fifth of its size (SmolLM2), and most processors are slower in bf16.
    pub fn computed_on(self, device: Device) -> Dtype {
        if device == Device::Cpu { Dtype::F32 } else { self }
    }
}

/// A model's sizes and architecture switches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// The architecture, as named in `config.json`.
    pub architecture: String,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Vocabulary size, the number of rows of the embedding.
    pub d_vocab: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Multiplies the embedding; rounded to the model's dtype before.
    pub embed_scale: f64,
    /// Kind of all norms.
    pub norm: Norm,
    /// Added to the mean square, or to the variance, in every norm.
    pub norm_eps: f64,
    /// Bounds the scaled products to `cap * tanh(product / cap)`.
    pub attention_cap: Option<f64>,
    /// Norm of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether the values of each head are divided by their root mean square.
    pub v_norm: bool,
    /// Whether query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub o_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Activation of MLPs and experts.
    pub activation: Activation,
    /// How the two halves of a block are added to the residual stream.
    pub residual: Residual,
    /// Multiplies the output of each half of a block.
    pub residual_scale: f64,
    /// Per-layer embeddings.
    pub per_layer_embed: Option<PerLayerEmbed>,
    /// Whether each block's output is multiplied by a learned scalar.
    pub layer_scalars: bool,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
    /// Divides the logits.
    pub logit_divisor: f64,
    /// Bounds the logits to `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f64>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// The dtype that the checkpoint declares.
    pub dtype: Dtype,
    /// Quantisation of the checkpoint's weights; `None` if they are not quantised.
    pub quantization: Option<Quantization>,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// The token at the beginning of every text, if any.
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
    /// An unsupported architecture; a field that is missing, out of range, or that changes the computation in an
    /// unsupported way; quantised weights.
    pub fn from_config(config: &serde_json::Value) -> anyhow::Result<Spec> {
        Ok(super::family::read(config, &[])?.spec)
    }

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The attention layers, mutable, with their layer numbers.
    pub fn attentions(&mut self) -> impl Iterator<Item = (usize, &mut Attention)> {
        let layers = self.layers.iter_mut().enumerate();
        layers.filter_map(|(layer, of)| Some((layer, of.attention_mut()?)))
    }

    /// Whether the MLPs are gated.
    pub fn is_gated(&self) -> bool {
        !matches!(self.names.mlp, MlpNames::Plain(_))
    }

    /// Prefix of the tensors of block `layer`, including the final dot.
    pub fn block(&self, layer: usize) -> String {
        self.names.block.replace("{}", &layer.to_string())
    }

    /// A tensor's name with its prefix replaced by the one that this spec uses.
    pub fn canonical(&self, name: &str) -> String {
        let alias = self.names.aliases.iter().find_map(|(from, to)| Some((name.strip_prefix(from)?, to)));
        alias.map_or_else(|| name.to_string(), |(rest, to)| format!("{to}{rest}"))
    }

    /// Why a tensor of the checkpoint, given by its canonical name, is not part of the model; `None` if it is.
    pub fn spare(&self, name: &str) -> Option<Spare> {
        if let Some(tower) = self.names.towers.iter().find(|tower| name.starts_with(**tower)) {
            return Some(Spare::Tower(tower));
        }
        if self.names.buffers.iter().any(|ending| name.ends_with(ending)) {
            return Some(Spare::Buffer);
        }
        // Checkpoints contain projections that a layer with shared keys and values never uses.
        let QkvNames::Split(_, k, v) = self.names.qkv else { return None };
        let unused = self.layers.iter().enumerate().any(|(layer, of)| {
            let shares = of.attention().is_some_and(|attention| matches!(attention.kv, KeyValues::Of(_)));
            let parts: &[&str] = if shares { &[k, v, self.names.qk_norm.1] } else { &[] };
            let rest = name.strip_prefix(self.block(layer).as_str()).unwrap_or_default();
            parts.iter().any(|part| rest.strip_prefix(part).is_some_and(|end| end.starts_with('.')))
        });
        unused.then_some(Spare::Unused)
    }

    /// Number of learned parameters; a tied unembedding counts once.
    pub fn n_params(&self) -> u64 {
        self.tensors().iter().map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
    }
}

/// Why a tensor of a checkpoint is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spare {
    /// Part of a tower for images or sound, with its prefix.
    Tower(&'static str),
    /// A buffer without learned content.
    Buffer,
    /// Keys and values of a layer that uses another layer's.
    Unused,
}
