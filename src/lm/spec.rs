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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Each frequency divided by a factor of its own, of which there are two sets: a sequence
    /// longer than the original context takes `long`, all of it.
    LongRope {
        /// One divisor a frequency, for sequences within the original context.
        short: Vec<f64>,
        /// One divisor a frequency, for longer ones.
        long: Vec<f64>,
        /// Context length of the first training, in tokens.
        original_context: usize,
        /// Multiplies cosines and sines, in sequences of any length.
        amplitude: f64,
    },
}

/// Rotary position embedding of one layer's heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the geometric row of wavelengths.
    pub theta: f64,
    /// Leading entries of a head that form the pairs to rotate: entry `i` with `i + dims / 2`.
    pub dims: usize,
    /// Pairs that turn, at most `dims / 2`: those after them stand still.
    pub pairs: usize,
    /// Stretching for long contexts.
    pub scaling: RopeScaling,
}

/// How an RMSNorm uses its learned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// Multiplies by them.
    Times,
    /// Multiplies by one more than they say.
    OnePlus,
}

/// What the gate of an MLP passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// The Gaussian error unit, in its approximation by a hyperbolic tangent.
    GeluTanh,
}

/// RMSNorm of queries and keys before they are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head by itself, one gain for all heads.
    Head,
    /// Over all heads together.
    Whole,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValues {
    /// Projections of their own.
    Own,
    /// The key projection gives both: the values are the keys before norm and rotation.
    KeysAsValues,
    /// An earlier layer's, as they are there.
    Of(usize),
}

/// An embedding of every token for each layer, which enters at the layer's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PerLayerEmbed {
    /// Entries for a token and layer.
    pub width: usize,
    /// Rows of its table.
    pub d_vocab: usize,
}

/// What may differ from layer to layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Width of one attention head.
    pub d_head: usize,
    /// Key and value heads; a divisor of the query heads.
    pub n_kv_heads: usize,
    /// Tokens that a token sees, itself included; `None`: all before it.
    pub window: Option<usize>,
    /// Rotary position embedding; `None`: no position enters.
    pub rope: Option<Rope>,
    /// Where keys and values come from.
    pub kv: KeyValues,
    /// Width inside the MLP.
    pub d_mlp: usize,
}

/// Query, key and value projections as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkvNames {
    /// Three tensors: query, key, value.
    Split(&'static str, &'static str, &'static str),
    /// One, with the three below each other.
    Fused(&'static str),
}

/// Gate and up projections as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateUpNames {
    /// Two tensors: gate, up.
    Split(&'static str, &'static str),
    /// One, with the two below each other.
    Fused(&'static str),
}

/// What a checkpoint calls its tensors: module names, to which `.weight` or `.bias` is added.
/// `{}` in `block` stands for the layer; the names below it are relative to the block. A norm
/// without a name is one that the model does not have.
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
    pub attn_norm: Option<&'static str>,
    /// Query, key and value projections.
    pub qkv: QkvNames,
    /// Norms of queries and keys, where the model has them.
    pub qk_norm: (&'static str, &'static str),
    /// Output projection of attention.
    pub o: &'static str,
    /// Norm of what attention gives to the residual stream.
    pub attn_post_norm: Option<&'static str>,
    /// Norm before the MLP.
    pub mlp_norm: Option<&'static str>,
    /// Gate and up projections of the MLP.
    pub gate_up: GateUpNames,
    /// Down projection of the MLP.
    pub down: &'static str,
    /// Norm of what the MLP gives to the residual stream.
    pub mlp_post_norm: Option<&'static str>,
    /// Prefixes that stand for another one: as found, and as the names above have it.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Prefixes of what is not the language model: towers for images and sound.
    pub towers: &'static [&'static str],
    /// Endings of tensors that hold nothing learned (buffers of old checkpoints).
    pub buffers: &'static [&'static str],
}

/// Names of the tensors of [`PerLayerEmbed`] and of the layers' scalars, the same in every
/// checkpoint that has them.
pub mod per_layer {
    /// The table, `[d_vocab, n_layers * width]`.
    pub const EMBED: &str = "model.embed_tokens_per_layer.weight";
    /// From the residual stream at the start, `[n_layers * width, d_model]`.
    pub const PROJECTION: &str = "model.per_layer_model_projection.weight";
    /// Gain of the norm of that projection, `[width]`.
    pub const NORM: &str = "model.per_layer_projection_norm.weight";
    /// In a block: from the residual stream, `[width, d_model]`.
    pub const GATE: &str = "per_layer_input_gate.weight";
    /// In a block: back to it, `[d_model, width]`.
    pub const OUT: &str = "per_layer_projection.weight";
    /// In a block: gain of the norm of what goes back, `[d_model]`.
    pub const POST_NORM: &str = "post_per_layer_input_norm.weight";
    /// In a block: its scalar, `[1]`.
    pub const SCALAR: &str = "layer_scalar";
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
    /// Added to the mean square in every RMSNorm.
    pub norm_eps: f64,
    /// What the learned numbers of an RMSNorm mean.
    pub norm_gain: Gain,
    /// Multiplies query-key products.
    pub attention_scale: f64,
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
    /// What the MLP's gate passes through.
    pub activation: Activation,
    /// Multiplies what attention and the MLP give to the residual stream.
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

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// Prefix of the tensors of block `layer`, with the dot at its end.
    pub fn block(&self, layer: usize) -> String {
        self.names.block.replace("{}", &layer.to_string())
    }

    /// Every tensor of the model with its shape, in the order of the forward pass. A linear map is
    /// `[out, in]`.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let n = &self.names;
        let d_model = self.d_model as i64;
        let mut all = vec![(format!("{}.weight", n.embed), vec![self.d_vocab as i64, d_model])];
        if let Some(PerLayerEmbed { width, d_vocab }) = self.per_layer_embed {
            let all_layers = (self.n_layers() * width) as i64;
            all.push((per_layer::EMBED.into(), vec![d_vocab as i64, all_layers]));
            all.push((per_layer::PROJECTION.into(), vec![all_layers, d_model]));
            all.push((per_layer::NORM.into(), vec![width as i64]));
        }
        for (layer, of) in self.layers.iter().enumerate() {
            all.extend(self.block_tensors(of).into_iter().map(|(name, shape)| {
                (format!("{}{name}", self.block(layer)), shape.into_iter().map(|n| n as i64).collect())
            }));
        }
        all.push((format!("{}.weight", n.final_norm), vec![d_model]));
        if !self.tied {
            all.push((format!("{}.weight", n.unembed), vec![self.d_vocab as i64, d_model]));
        }
        all
    }

    /// The tensors of one block, named relative to it.
    fn block_tensors(&self, of: &Layer) -> Vec<(String, Vec<usize>)> {
        let n = &self.names;
        let (d_model, q, kv) = (self.d_model, self.n_heads * of.d_head, of.n_kv_heads * of.d_head);
        let mut all = Vec::new();
        let mut linear = |name: &str, out: usize, inp: usize, bias: bool| {
            all.push((format!("{name}.weight"), vec![out, inp]));
            if bias {
                all.push((format!("{name}.bias"), vec![out]));
            }
        };
        match (n.qkv, of.kv) {
            (QkvNames::Fused(name), _) => linear(name, q + 2 * kv, d_model, self.qkv_bias),
            (QkvNames::Split(q_name, ..), KeyValues::Of(_)) => linear(q_name, q, d_model, self.qkv_bias),
            (QkvNames::Split(q_name, k_name, v_name), own) => {
                linear(q_name, q, d_model, self.qkv_bias);
                linear(k_name, kv, d_model, self.qkv_bias);
                if own == KeyValues::Own {
                    linear(v_name, kv, d_model, self.qkv_bias);
                }
            }
        }
        linear(n.o, d_model, q, self.o_bias);
        match n.gate_up {
            GateUpNames::Fused(name) => linear(name, 2 * of.d_mlp, d_model, self.mlp_bias),
            GateUpNames::Split(gate, up) => {
                linear(gate, of.d_mlp, d_model, self.mlp_bias);
                linear(up, of.d_mlp, d_model, self.mlp_bias);
            }
        }
        linear(n.down, d_model, of.d_mlp, self.mlp_bias);
        let qk = match self.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some((of.d_head, of.d_head)),
            QkNorm::Whole => Some((q, kv)),
        };
        if let Some((q, k)) = qk {
            all.push((format!("{}.weight", n.qk_norm.0), vec![q]));
            if !matches!(of.kv, KeyValues::Of(_)) {
                all.push((format!("{}.weight", n.qk_norm.1), vec![k]));
            }
        }
        for norm in [n.attn_norm, n.attn_post_norm, n.mlp_norm, n.mlp_post_norm].into_iter().flatten() {
            all.push((format!("{norm}.weight"), vec![d_model]));
        }
        if let Some(PerLayerEmbed { width, .. }) = self.per_layer_embed {
            all.push((per_layer::GATE.into(), vec![width, d_model]));
            all.push((per_layer::OUT.into(), vec![d_model, width]));
            all.push((per_layer::POST_NORM.into(), vec![d_model]));
        }
        if self.layer_scalars {
            all.push((per_layer::SCALAR.into(), vec![1]));
        }
        all
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
            let parts = match of.kv {
                KeyValues::Of(_) => vec![k, v, self.names.qk_norm.1],
                _ => Vec::new(),
            };
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
