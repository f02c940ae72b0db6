//! The kinds of sub-layers in which models differ. Independent of their tensors and of how they are computed.

use serde::Serialize;

/// How rotary frequencies are scaled for contexts longer than in the original training.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Unchanged frequencies.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Scaling factor.
        factor: f64,
    },
    /// Llama 3.1: only wavelengths that are long relative to the original context are scaled, with a smooth
    /// transition.
    Llama3 {
        /// Scaling factor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are fully scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are unchanged.
        high_freq_factor: f64,
        /// Context length of the original training, in tokens.
        original_context: f64,
    },
    /// Each frequency is divided by its own factor, from one of two sets: all positions of a sequence longer than the
    /// original context use `long`.
    LongRope {
        /// One divisor per frequency, for sequences within the original context.
        short: Vec<f64>,
        /// One divisor per frequency, for longer sequences.
        long: Vec<f64>,
        /// Context length of the original training, in tokens.
        original_context: usize,
    },
    /// YaRN: pairs with many rotations within the original context are unchanged, pairs with few are scaled, with a
    /// linear transition.
    Yarn {
        /// Scaling factor of pairs with few rotations.
        factor: f64,
        /// Pairs before this one are unchanged.
        first: f64,
        /// Pairs from this one on are fully scaled.
        last: f64,
    },
}

/// Rotary position embedding of one layer's heads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the geometric sequence of wavelengths.
    pub theta: f64,
    /// Leading entries of a head that form the rotated pairs: entry `i` with `i + dims / 2`.
    pub dims: usize,
    /// Number of pairs that are rotated, at most `dims / 2`; the others are unchanged.
    pub pairs: usize,
    /// Multiplies cosines and sines.
    pub amplitude: f64,
    /// Scaling for long contexts.
    pub scaling: RopeScaling,
}

/// The kind of norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Norm {
    /// RMSNorm: divides by the root mean square, then multiplies by the gain.
    Rms {
        /// How the gain is applied.
        gain: Gain,
    },
    /// LayerNorm: subtracts the mean, divides by the standard deviation, then multiplies by a learned gain and adds a
    /// learned bias.
    Layer,
}

/// How an RMSNorm applies its learned parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gain {
    /// Multiplies by them.
    Times,
    /// Multiplies by them plus 1.
    OnePlus,
}

/// The activation of an MLP, applied to its gate if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// Gaussian error linear unit: `x` times the standard normal distribution function of `x`.
    Gelu,
    /// The same, approximated by a hyperbolic tangent.
    GeluTanh,
    /// The same, approximated by `x sigmoid(1.702 x)`.
    GeluSigmoid,
    /// `x` where it is positive, else 0.
    Relu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

/// How a block's mixer and MLP add to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// The MLP reads the residual stream after the mixer's addition.
    Sequential,
    /// Both mixer and MLP read the block's input, each through its own norm.
    Parallel,
}

/// Norm of queries and keys before rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head separately, with one gain for all heads.
    Head,
    /// Over all heads together.
    Whole,
}

/// Where a layer's keys and values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValues {
    /// The layer's own projections.
    Own,
    /// The key projection gives both: the values are the keys before norm and rotation.
    KeysAsValues,
    /// Those of an earlier layer, reused unchanged.
    Of(usize),
}

/// Per-layer token embeddings, added at the end of each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PerLayerEmbed {
    /// Entries per token and layer.
    pub width: usize,
    /// Rows of the embedding table.
    pub d_vocab: usize,
}

/// Settings that may differ from layer to layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// The sub-layer that mixes information across tokens.
    pub mixer: Mixer,
    /// Hidden width of the MLP; `None`: there is none.
    pub d_mlp: Option<usize>,
    /// Experts, in place of the MLP or in parallel with it.
    pub experts: Option<Experts>,
}

/// The first sub-layer of a block.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Mixer {
    /// Softmax attention.
    Attention(Attention),
    /// A gated delta net.
    GatedDelta(DeltaHeads),
}

/// Softmax attention of one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Width of one head.
    pub d_head: usize,
    /// Key and value heads; a divisor of the query heads.
    pub n_kv_heads: usize,
    /// Tokens that a token attends to, including itself; `None`: all before it.
    pub window: Option<usize>,
    /// Rotary position embedding; `None`: no rotation.
    pub rope: Option<Rope>,
    /// Where keys and values come from.
    pub kv: KeyValues,
    /// Multiplies query-key products.
    pub scale: f64,
    /// Whether the attention output is multiplied by the sigmoid of a separate projection.
    pub gate: bool,
}

impl Attention {
    /// Width of a token's key or value, over all heads.
    pub fn d_kv(&self) -> usize {
        self.n_kv_heads * self.d_head
    }
}

impl Layer {
    /// Its attention, if that is its mixer.
    pub fn attention(&self) -> Option<&Attention> {
        match &self.mixer {
            Mixer::Attention(attention) => Some(attention),
            Mixer::GatedDelta(_) => None,
        }
    }

    /// The same, mutable.
    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        match &mut self.mixer {
            Mixer::Attention(attention) => Some(attention),
            Mixer::GatedDelta(_) => None,
        }
    }
}

/// The heads of a layer with the gated delta rule, whose queries, keys and values pass through a convolution along the
/// sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeltaHeads {
    /// Query heads, and the same number of key heads; a divisor of the value heads.
    pub n_k_heads: usize,
    /// Value heads, each with a state of `d_k * d_v`.
    pub n_v_heads: usize,
    /// Width of a query or key head.
    pub d_k: usize,
    /// Width of a value head.
    pub d_v: usize,
    /// Tokens that the convolution spans, including the token itself.
    pub kernel: usize,
}

impl DeltaHeads {
    /// Total width of a token's queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.n_k_heads * self.d_k + self.values()
    }

    /// Total width of a token's values.
    pub fn values(&self) -> usize {
        self.n_v_heads * self.d_v
    }
}

/// A mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Experts {
    /// Number of experts.
    pub count: usize,
    /// Number of experts used per token.
    pub active: usize,
    /// Hidden width of one expert.
    pub d_mlp: usize,
    /// Whether the weights of the active experts are normalised to sum to 1.
    pub normalized: bool,
}
