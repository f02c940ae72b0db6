//! GPT-NeoX and Pythia: attention and MLP in parallel, a fraction of each head is rotated, queries, keys and values
//! stored interleaved by head.

use super::common::{NAMES, named_activation};
use super::config::Fields;
use super::gpt::{Parts, d_head, decoder};
use super::rotation::{RopeSettings, chosen, optional_size};
use crate::lm::spec::{MlpNames, Names, QkvNames, Residual, Spec};
use anyhow::Result;

const NEOX_NAMES: Names = Names {
    embed: "gpt_neox.embed_in",
    final_norm: "gpt_neox.final_layer_norm",
    unembed: "embed_out",
    block: "gpt_neox.layers.{}.",
    qkv: QkvNames::FusedPerHead("attention.query_key_value"),
    o: "attention.dense",
    mlp: MlpNames::Plain("mlp.dense_h_to_4h"),
    down: "mlp.dense_4h_to_h",
    // The name in transformers 5.
    aliases: &[("lm_head.", "embed_out.")],
    buffers: &[".attention.bias", ".attention.masked_bias", "rotary_emb.inv_freq"],
    ..NAMES
};

/// Reads the `config.json` of a GPT-NeoX checkpoint. Defaults are those of transformers' `GPTNeoXConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let (d_model, n_heads) = (f.size("hidden_size", 6144)?, f.size("num_attention_heads", 64)?);
    let width = d_head(d_model, n_heads)?;
    f.only("head_dim", &[width.into()])?;
    let context = f.size("max_position_embeddings", 2048)?;
    let settings = RopeSettings {
        d_head: width,
        theta: f.positive_or("rotary_emb_base", 10_000.0)?,
        fraction: f.positive_or("rotary_pct", 0.25)?,
        in_part: true,
        context,
        original: optional_size(f, "original_max_position_embeddings")?,
    };
    let parts = Parts {
        d_model,
        d_vocab: f.size("vocab_size", 50_432)?,
        n_heads,
        n_layers: f.size("num_hidden_layers", 44)?,
        d_mlp: f.size("intermediate_size", 24_576)?,
        context,
        norm_eps: f.positive_or("layer_norm_eps", 1e-5)?,
        activation: named_activation(f, "hidden_act", "gelu")?,
        rope: Some(settings.rope(chosen(f)?.as_ref())?),
        tied: f.switch("tie_word_embeddings", false)?,
        ends: (0, 2),
        names: NEOX_NAMES,
    };
    let mut spec = decoder(f, parts)?;
    spec.qkv_bias = f.switch("attention_bias", true)?;
    spec.o_bias = spec.qkv_bias;
    if f.switch("use_parallel_residual", true)? {
        spec.residual = Residual::Parallel;
    }
    Ok(spec)
}
