//! Names of the tensors in checkpoints. Independent of their shapes and of the computation.

/// Query, key and value projections as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QkvNames {
    /// Three tensors: query, key, value.
    Split(&'static str, &'static str, &'static str),
    /// One tensor, query, key and value stacked along the rows.
    Fused(&'static str),
    /// One tensor, grouped by head: query, key and value of the first head, then those of the second...
    FusedPerHead(&'static str),
}

/// Projections into the MLP as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MlpNames {
    /// Two tensors: gate, up.
    Split(&'static str, &'static str),
    /// One tensor, gate and up stacked along the rows.
    Fused(&'static str),
    /// One tensor, up: the MLP has no gate.
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

/// The linear maps of the experts as the checkpoint stores them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EachExpertNames {
    /// Modules of each expert: gate, up, down; `{}` is replaced by the expert's index.
    Split(&'static str, &'static str, &'static str),
    /// Tensors of all experts: gate stacked on up, `[experts, 2 * d_mlp, d_model]`, and down,
    /// `[experts, d_model, d_mlp]`.
    Stacked(&'static str, &'static str),
}

/// Names of the tensors of experts in a checkpoint, relative to the block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertNames {
    /// Router, which scores the experts.
    pub router: &'static str,
    /// The experts.
    pub each: EachExpertNames,
    /// Additional tensors of experts in parallel with an MLP.
    pub beside: Option<BesideNames>,
}

/// Norms of an MLP and of experts in parallel with it, and scales of their router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BesideNames {
    /// Norm of the MLP's output.
    pub mlp_post_norm: &'static str,
    /// Norm before the experts.
    pub norm: &'static str,
    /// Norm of the experts' output.
    pub post_norm: &'static str,
    /// Tensor that multiplies the router's input, `[d_model]`.
    pub router_scale: &'static str,
    /// Tensor that multiplies the experts' weights, `[experts]`.
    pub expert_scale: &'static str,
}

/// Names of the tensors in a checkpoint: module names, to which `.weight` or `.bias` is appended. `{}` in `block` is
/// replaced by the layer number; the names inside a block are relative to it. `None` for a norm means that the model
/// does not have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Names {
    /// Token embedding.
    pub embed: &'static str,
    /// Position embedding, `[context, d_model]`, added to the token embedding; `None` if there is none.
    pub position_embed: Option<&'static str>,
    /// Norm before the unembedding.
    pub final_norm: &'static str,
    /// Unembedding; absent from checkpoints that tie it to the embedding.
    pub unembed: &'static str,
    /// Prefix of one block.
    pub block: &'static str,
    /// Layout of the blocks' linear maps, except those of experts.
    pub layout: Layout,
    /// Norm before attention.
    pub attn_norm: Option<&'static str>,
    /// Query, key and value projections.
    pub qkv: QkvNames,
    /// Norms of queries and keys, if the model has them.
    pub qk_norm: (&'static str, &'static str),
    /// Output projection of attention.
    pub o: &'static str,
    /// Norm of the output of attention.
    pub attn_post_norm: Option<&'static str>,
    /// Norm before the MLP.
    pub mlp_norm: Option<&'static str>,
    /// Projections into the MLP.
    pub mlp: MlpNames,
    /// Down projection of the MLP.
    pub down: &'static str,
    /// Norm of the output of the MLP.
    pub mlp_post_norm: Option<&'static str>,
    /// Experts, if the model has them.
    pub experts: ExpertNames,
    /// Alternative prefixes: as found in a checkpoint, and as used by the names above.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Prefixes of tensors outside the language model: towers for images and sound, layers that predict further tokens.
    pub towers: &'static [&'static str],
    /// Suffixes of tensors without learned content (buffers of old checkpoints).
    pub buffers: &'static [&'static str],
}

/// Names of the tensors of [`PerLayerEmbed`] and of the layer scalars, the same in every checkpoint that has them.
pub mod per_layer {
    /// The table, `[d_vocab, n_layers * width]`.
    pub const EMBED: &str = "model.embed_tokens_per_layer.weight";
    /// Projection of the residual stream at the start, `[n_layers * width, d_model]`.
    pub const PROJECTION: &str = "model.per_layer_model_projection.weight";
    /// The norm of that projection, of `width` entries.
    pub const NORM: &str = "model.per_layer_projection_norm";
    /// In a block: projection from the residual stream, `[width, d_model]`.
    pub const GATE: &str = "per_layer_input_gate.weight";
    /// In a block: projection back to it, `[d_model, width]`.
    pub const OUT: &str = "per_layer_projection.weight";
    /// In a block: the norm of that projection's output, of `d_model` entries.
    pub const POST_NORM: &str = "post_per_layer_input_norm";
    /// In a block: its scalar, `[1]`.
    pub const SCALAR: &str = "layer_scalar";
}

/// Names of the tensors of a gated delta net within its block, the same in every checkpoint that has them.
pub mod delta_net {
    /// Queries, keys and values: a linear map.
    pub const QKV: &str = "linear_attn.in_proj_qkv";
    /// Output gate: a linear map.
    pub const GATE: &str = "linear_attn.in_proj_z";
    /// Input of the decay: a linear map.
    pub const DECAY: &str = "linear_attn.in_proj_a";
    /// Input of the write rate: a linear map.
    pub const RATE: &str = "linear_attn.in_proj_b";
    /// Weights of the convolution, `[channels, 1, kernel]`.
    pub const CONV: &str = "linear_attn.conv1d.weight";
    /// Logarithm of the decay's scale, `[n_v_heads]`.
    pub const A_LOG: &str = "linear_attn.A_log";
    /// Added to the input of the decay, `[n_v_heads]`.
    pub const DT_BIAS: &str = "linear_attn.dt_bias";
    /// Gain of the output norm, `[d_v]`.
    pub const NORM: &str = "linear_attn.norm.weight";
    /// Output projection: a linear map.
    pub const O: &str = "linear_attn.out_proj";
}
