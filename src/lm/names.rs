//! What checkpoints call their tensors. Knows nothing of their shapes or of how they are computed with.

/// Query, key and value projections as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkvNames {
    /// Three tensors: query, key, value.
    Split(&'static str, &'static str, &'static str),
    /// One, with the three below each other.
    Fused(&'static str),
    /// One, with the heads below each other: the three of the first head, those of the second...
    FusedPerHead(&'static str),
}

/// Projections into the MLP as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MlpNames {
    /// Two tensors: gate, up.
    Split(&'static str, &'static str),
    /// One, with gate and up below each other.
    Fused(&'static str),
    /// One, up: the MLP has no gate.
    Plain(&'static str),
}

/// How the checkpoint stores the linear maps of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[out, in]`
    OutIn,
    /// `[in, out]`
    InOut,
}

/// The maps of the experts as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EachExpertNames {
    /// Modules of each expert: gate, up, down; `{}` stands for the expert.
    Split(&'static str, &'static str, &'static str),
    /// Tensors of all experts: gate above up, `[experts, 2 * d_mlp, d_model]`, and down,
    /// `[experts, d_model, d_mlp]`.
    Stacked(&'static str, &'static str),
}

/// What a checkpoint calls the tensors of experts, relative to the block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertNames {
    /// Scores of the experts.
    pub router: &'static str,
    /// The experts.
    pub each: EachExpertNames,
    /// What experts beside an MLP have more.
    pub beside: Option<BesideNames>,
}

/// Norms of an MLP and of experts that stand beside it, and scales of their router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BesideNames {
    /// Norm of what the MLP gives.
    pub mlp_post_norm: &'static str,
    /// Norm before the experts.
    pub norm: &'static str,
    /// Norm of what the experts give.
    pub post_norm: &'static str,
    /// Tensor that multiplies what the router reads, `[d_model]`.
    pub router_scale: &'static str,
    /// Tensor that multiplies the experts' weights, `[experts]`.
    pub expert_scale: &'static str,
}

/// What a checkpoint calls its tensors: module names, to which `.weight` or `.bias` is added.
/// `{}` in `block` stands for the layer; the names below it are relative to the block. A norm
/// without a name is one that the model does not have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Names {
    /// Token embedding.
    pub embed: &'static str,
    /// Embedding of positions, `[context, d_model]`, which is added to that of tokens; `None`: there is none.
    pub position_embed: Option<&'static str>,
    /// Norm before the unembedding.
    pub final_norm: &'static str,
    /// Unembedding; absent from checkpoints that tie it to the embedding.
    pub unembed: &'static str,
    /// Prefix of one block.
    pub block: &'static str,
    /// How linear maps of blocks are stored, but for those of experts.
    pub layout: Layout,
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
    /// Projections into the MLP.
    pub mlp: MlpNames,
    /// Down projection of the MLP.
    pub down: &'static str,
    /// Norm of what the MLP gives to the residual stream.
    pub mlp_post_norm: Option<&'static str>,
    /// Experts, where the model has them.
    pub experts: ExpertNames,
    /// Prefixes that stand for another one: as found, and as the names above have it.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Prefixes of what is not the language model: towers for images and sound, layers that predict further tokens.
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
    /// The norm of that projection, of `width` entries.
    pub const NORM: &str = "model.per_layer_projection_norm";
    /// In a block: from the residual stream, `[width, d_model]`.
    pub const GATE: &str = "per_layer_input_gate.weight";
    /// In a block: back to it, `[d_model, width]`.
    pub const OUT: &str = "per_layer_projection.weight";
    /// In a block: the norm of what goes back, of `d_model` entries.
    pub const POST_NORM: &str = "post_per_layer_input_norm";
    /// In a block: its scalar, `[1]`.
    pub const SCALAR: &str = "layer_scalar";
}

/// Names of the tensors of a gated delta net in its block, the same in every checkpoint that has them.
pub mod delta_net {
    /// Queries, keys and values: a linear map.
    pub const QKV: &str = "linear_attn.in_proj_qkv";
    /// What gates the output: a linear map.
    pub const GATE: &str = "linear_attn.in_proj_z";
    /// What the decay is made of: a linear map.
    pub const DECAY: &str = "linear_attn.in_proj_a";
    /// What the rate of writing is made of: a linear map.
    pub const RATE: &str = "linear_attn.in_proj_b";
    /// Weights of the convolution, `[channels, 1, kernel]`.
    pub const CONV: &str = "linear_attn.conv1d.weight";
    /// Logarithm of the decay's scale, `[n_v_heads]`.
    pub const A_LOG: &str = "linear_attn.A_log";
    /// Added to what the decay is made of, `[n_v_heads]`.
    pub const DT_BIAS: &str = "linear_attn.dt_bias";
    /// Gain of the norm of what is read, `[d_v]`.
    pub const NORM: &str = "linear_attn.norm.weight";
    /// Output projection: a linear map.
    pub const O: &str = "linear_attn.out_proj";
}
