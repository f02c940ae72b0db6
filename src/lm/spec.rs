//! The switches in which one model family differs from another, and the tensors that follow from
//! them. Knows no family by name: `family/` fills it in.

use serde::{Deserialize, Serialize};
use tch::Kind;

/// The type in which a model's weights and activations are held.
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
}

/// How rotary frequencies are stretched for contexts longer than the one trained on first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// The frequencies as they are.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The stretch.
        factor: f64,
    },
    /// Llama 3.1: only wavelengths long against the original context are stretched, with a smooth
    /// passage between.
    Llama3 {
        /// The stretch of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are left alone.
        high_freq_factor: f64,
        /// Context length of the first training, in tokens.
        original_context: f64,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the geometric row of wavelengths.
    pub theta: f64,
    /// Stretching for long contexts.
    pub scaling: RopeScaling,
}

/// What a checkpoint calls its tensors: module names, to which `.weight` or `.bias` is added.
/// `{}` in `block` stands for the layer; the names below it are relative to the block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Names {
    /// Token embedding.
    pub embed: &'static str,
    /// Norm before the unembedding.
    pub final_norm: &'static str,
    /// Unembedding; absent from checkpoints that tie it to the embedding.
    pub unembed: &'static str,
    /// Prefix of one block.
    pub block: &'static str,
    /// Norm before attention.
    pub attn_norm: &'static str,
    /// Query projection.
    pub q: &'static str,
    /// Key projection.
    pub k: &'static str,
    /// Value projection.
    pub v: &'static str,
    /// Output projection of attention.
    pub o: &'static str,
    /// Norm before the MLP.
    pub mlp_norm: &'static str,
    /// Gate projection of the MLP.
    pub gate: &'static str,
    /// Up projection of the MLP.
    pub up: &'static str,
    /// Down projection of the MLP.
    pub down: &'static str,
    /// Endings of tensors that hold nothing learned (buffers of old checkpoints).
    pub ignorable: &'static [&'static str],
}

/// One model: its sizes and switches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spec {
    /// The architecture as `config.json` names it.
    pub architecture: String,
    /// Number of blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one attention head.
    pub d_head: usize,
    /// Width inside the MLP.
    pub d_mlp: usize,
    /// Number of tokens in the vocabulary, rows of the embedding.
    pub d_vocab: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; a divisor of `n_heads`.
    pub n_kv_heads: usize,
    /// Added to the mean square in every RMSNorm.
    pub norm_eps: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Whether the unembedding is the embedding.
    pub tied: bool,
    /// Whether query, key, value and output projections have biases.
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// The dtype that the checkpoint declares.
    pub dtype: Dtype,
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
    /// changes the maths in a way not known here.
    pub fn from_config(config: &serde_json::Value) -> anyhow::Result<Spec> {
        super::family::from_config(config)
    }

    /// Prefix of the tensors of block `layer`, with the dot at its end.
    pub fn block(&self, layer: usize) -> String {
        self.names.block.replace("{}", &layer.to_string())
    }

    /// Every tensor of the model with its shape, in the order of the forward pass. A linear map is
    /// `[out, in]`.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let n = &self.names;
        let [d_model, d_mlp, d_vocab] = [self.d_model, self.d_mlp, self.d_vocab].map(|x| x as i64);
        let q_out = (self.n_heads * self.d_head) as i64;
        let kv_out = (self.n_kv_heads * self.d_head) as i64;
        let mut all = vec![(format!("{}.weight", n.embed), vec![d_vocab, d_model])];
        for layer in 0..self.n_layers {
            let block = self.block(layer);
            let mut linear = |name: &str, out: i64, inp: i64, bias: bool| {
                all.push((format!("{block}{name}.weight"), vec![out, inp]));
                if bias {
                    all.push((format!("{block}{name}.bias"), vec![out]));
                }
            };
            linear(n.q, q_out, d_model, self.attention_bias);
            linear(n.k, kv_out, d_model, self.attention_bias);
            linear(n.v, kv_out, d_model, self.attention_bias);
            linear(n.o, d_model, q_out, self.attention_bias);
            linear(n.gate, d_mlp, d_model, self.mlp_bias);
            linear(n.up, d_mlp, d_model, self.mlp_bias);
            linear(n.down, d_model, d_mlp, self.mlp_bias);
            all.push((format!("{block}{}.weight", n.attn_norm), vec![d_model]));
            all.push((format!("{block}{}.weight", n.mlp_norm), vec![d_model]));
        }
        all.push((format!("{}.weight", n.final_norm), vec![d_model]));
        if !self.tied {
            all.push((format!("{}.weight", n.unembed), vec![d_vocab, d_model]));
        }
        all
    }

    /// Number of learned numbers; a tied unembedding counts once.
    pub fn n_params(&self) -> u64 {
        self.tensors().iter().map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
    }
}
