//! GPT-2: learned position embeddings, weights stored as `[in, out]`, config fields with different names.

use super::common::{NAMES, named_activation};
use super::config::Fields;
use super::gpt::{Parts, decoder};
use crate::lm::spec::{Layout, MlpNames, Names, QkvNames, Spec};
use anyhow::Result;

const GPT2_NAMES: Names = Names {
    embed: "transformer.wte",
    position_embed: Some("transformer.wpe"),
    final_norm: "transformer.ln_f",
    block: "transformer.h.{}.",
    layout: Layout::InOut,
    attn_norm: Some("ln_1"),
    qkv: QkvNames::Fused("attn.c_attn"),
    o: "attn.c_proj",
    mlp_norm: Some("ln_2"),
    mlp: MlpNames::Plain("mlp.c_fc"),
    down: "mlp.c_proj",
    // The first checkpoints hold the model without its head.
    aliases: &[
        ("wte.", "transformer.wte."),
        ("wpe.", "transformer.wpe."),
        ("h.", "transformer.h."),
        ("ln_f.", "transformer.ln_f."),
    ],
    // With the leading dot: `c_attn.bias` is a learned tensor.
    buffers: &[".attn.bias", ".attn.masked_bias"],
    ..NAMES
};

/// Reads the `config.json` of a GPT-2 checkpoint. Defaults are those of transformers' `GPT2Config`, which also accepts
/// the sizes under the field names of other families.
pub fn spec(f: &Fields) -> Result<Spec> {
    let size = |own: &str, other: &str, default: usize| f.size(own, f.size(other, default)?);
    let d_model = size("n_embd", "hidden_size", 768)?;
    let parts = Parts {
        d_model,
        d_vocab: f.size("vocab_size", 50_257)?,
        n_heads: size("n_head", "num_attention_heads", 12)?,
        n_layers: size("n_layer", "num_hidden_layers", 12)?,
        d_mlp: f.size("n_inner", 4 * d_model)?,
        context: size("n_positions", "max_position_embeddings", 1024)?,
        norm_eps: f.positive_or("layer_norm_epsilon", 1e-5)?,
        activation: named_activation(f, "activation_function", "gelu_new")?,
        rope: None,
        tied: f.switch("tie_word_embeddings", true)?,
        ends: (50_256, 50_256),
        names: GPT2_NAMES,
    };
    let mut spec = decoder(f, parts)?;
    let scaled = f.switch("scale_attn_weights", true)?;
    let by_layer = f.switch("scale_attn_by_inverse_layer_idx", false)?;
    for (layer, attention) in spec.attentions() {
        let scale = if scaled { attention.scale } else { 1.0 };
        attention.scale = if by_layer { scale / (layer + 1) as f64 } else { scale };
    }
    Ok(spec)
}
