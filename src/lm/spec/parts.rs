//! The kinds of sub-layers in which models differ. Knows neither their tensors nor how they are computed.

use serde::Serialize;

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

/// What the norms of a model do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Norm {
    /// RMSNorm: divides by the root mean square, then multiplies.
    Rms {
        /// By what.
        gain: Gain,
    },
    /// LayerNorm: subtracts the mean, divides by the standard deviation, then multiplies by learned numbers and adds
    /// others.
    Layer,
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

/// What an MLP does to each of its inner entries, or to those of its gate where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// The Gaussian error unit: `x` times the share of a normal distribution below it.
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

/// How a block's two halves add to the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Residual {
    /// The MLP reads what the mixer has added to.
    Sequential,
    /// Both read the block's input, each through its own norm.
    Parallel,
}

/// Norm of queries and keys before they are rotated.
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
    /// What lets its tokens see those before them.
    pub mixer: Mixer,
    /// Width inside the MLP; `None`: there is none.
    pub d_mlp: Option<usize>,
    /// Experts, in the place of the MLP or beside it.
    pub experts: Option<Experts>,
}

/// The first half of a block.
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
    /// Tokens that a token sees, itself included; `None`: all before it.
    pub window: Option<usize>,
    /// Rotary position embedding; `None`: nothing is rotated.
    pub rope: Option<Rope>,
    /// Where keys and values come from.
    pub kv: KeyValues,
    /// Multiplies query-key products.
    pub scale: f64,
    /// Whether what the query heads read is multiplied by the sigmoid of a projection of its own.
    pub gate: bool,
}

impl Attention {
    /// Numbers in a token's key or value.
    pub fn d_kv(&self) -> usize {
        self.n_kv_heads * self.d_head
    }
}

impl Layer {
    /// Its attention, where that is its mixer.
    pub fn attention(&self) -> Option<&Attention> {
        match &self.mixer {
            Mixer::Attention(attention) => Some(attention),
            Mixer::GatedDelta(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        match &mut self.mixer {
            Mixer::Attention(attention) => Some(attention),
            Mixer::GatedDelta(_) => None,
        }
    }
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
        2 * self.n_k_heads * self.d_k + self.values()
    }

    /// Numbers in the values of a token.
    pub fn values(&self) -> usize {
        self.n_v_heads * self.d_v
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
