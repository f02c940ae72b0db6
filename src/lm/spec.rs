//! The switches in which one model family differs from another, and the tensors that follow from
//! them. Knows no family by name: `family/` fills it in.

pub use super::names::{BesideNames, EachExpertNames, ExpertNames, GateUpNames, Names, QkvNames, per_layer};
use super::quantization::Quantization;
use serde::{Deserialize, Serialize};
use tch::Kind;

/// How a model is held and computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its weights in memory.
    pub weights: Dtype,
    /// Its activations and arithmetic. Where this is another type, each weight is converted whenever it is used.
    pub compute: Dtype,
    /// Whether its weights stay in the mapped file and its blocks come to the device one by one.
    pub streamed: bool,
}

impl From<Dtype> for Held {
    /// One type for both, all of it on the device.
    fn from(dtype: Dtype) -> Held {
        Held { weights: dtype, compute: dtype, streamed: false }
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
    },
    /// YaRN: pairs that turn often within the original context are left alone, those that turn
    /// little are stretched, with a straight passage between.
    Yarn {
        /// The stretch of pairs that turn little.
        factor: f64,
        /// Pairs before this one are left alone.
        first: f64,
        /// Pairs from this one on are stretched in full.
        last: f64,
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
    /// Multiplies cosines and sines.
    pub amplitude: f64,
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
    /// Width inside the MLP; `None`: there is none.
    pub d_mlp: Option<usize>,
    /// Experts, in the place of the MLP or beside it.
    pub experts: Option<Experts>,
}

/// The heads of a layer that follows the gated delta rule, whose queries, keys and values go through a convolution along
/// the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeltaHeads {
    /// Query and key heads, as many of each; a divisor of the value heads.
    pub n_k_heads: usize,
    /// Value heads, each with a memory of `d_k * d_v`.
    pub n_v_heads: usize,
    /// Width of a query or key head.
    pub d_k: usize,
    /// Width of a value head.
    pub d_v: usize,
    /// Tokens that the convolution spans, the token itself included.
    pub kernel: usize,
}

impl DeltaHeads {
    /// Numbers in the queries, keys and values of a token.
    pub fn channels(&self) -> usize {
        2 * self.n_k_heads * self.d_k + self.n_v_heads * self.d_v
    }
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each token goes through.
    pub active: usize,
    /// Width inside one.
    pub d_mlp: usize,
    /// Whether the weights of the active ones are made to sum to 1.
    pub normalized: bool,
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

    /// Numbers in the tensors of block `layer`.
    pub fn block_numbers(&self, layer: usize) -> u64 {
        let tensors = self.block_tensors(&self.layers[layer]);
        let numbers = tensors
            .iter()
            .map(|(_, shape)| shape.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64)));
        numbers.fold(0, u64::saturating_add)
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
        if let Some(d_mlp) = of.d_mlp {
            match n.gate_up {
                GateUpNames::Fused(name) => linear(name, 2 * d_mlp, d_model, self.mlp_bias),
                GateUpNames::Split(gate, up) => {
                    linear(gate, d_mlp, d_model, self.mlp_bias);
                    linear(up, d_mlp, d_model, self.mlp_bias);
                }
            }
            linear(n.down, d_model, d_mlp, self.mlp_bias);
        }
        if let Some(experts) = of.experts {
            all.extend(self.expert_tensors(experts, of.d_mlp.is_some()));
        }
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

    /// The tensors of one block's experts, named relative to it.
    fn expert_tensors(&self, of: Experts, beside: bool) -> Vec<(String, Vec<usize>)> {
        let (n, d_model) = (&self.names.experts, self.d_model);
        let mut all = vec![(format!("{}.weight", n.router), vec![of.count, d_model])];
        match n.each {
            EachExpertNames::Stacked(gate_up, down) => {
                all.push((gate_up.into(), vec![of.count, 2 * of.d_mlp, d_model]));
                all.push((down.into(), vec![of.count, d_model, of.d_mlp]));
            }
            EachExpertNames::Split(gate, up, down) => {
                for expert in 0..of.count {
                    let name = |name: &str| format!("{}.weight", name.replace("{}", &expert.to_string()));
                    all.push((name(gate), vec![of.d_mlp, d_model]));
                    all.push((name(up), vec![of.d_mlp, d_model]));
                    all.push((name(down), vec![d_model, of.d_mlp]));
                }
            }
        }
        if let Some(n) = n.beside.filter(|_| beside) {
            let norms = [n.mlp_post_norm, n.norm, n.post_norm];
            all.extend(norms.map(|norm| (format!("{norm}.weight"), vec![d_model])));
            all.push((n.router_scale.into(), vec![d_model]));
            all.push((n.expert_scale.into(), vec![of.count]));
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
