//! Configs of GPT-2 and GPT-NeoX, which use different field names.

use super::rope::parts_of_heads;
use super::{Config, Keys, plain};
use crate::lm::gguf::metadata::needed;
use anyhow::Result;
use serde_json::json;

/// GPT-2. Its activation (tanh GELU) is not stored; it is fixed in llama.cpp.
pub fn gpt2(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "GPT2LMHeadModel")?;
    for (own, field) in [
        ("n_embd", "hidden_size"),
        ("n_head", "num_attention_heads"),
        ("n_layer", "num_hidden_layers"),
        ("n_positions", "max_position_embeddings"),
        ("n_inner", "intermediate_size"),
    ] {
        if let Some(size) = config.remove(field) {
            config.insert(own.into(), size);
        }
    }
    config.remove("rope_theta");
    without_grouped_heads(k, &mut config)?;
    config.insert("layer_norm_epsilon".into(), epsilon(k)?.into());
    Ok(config)
}

/// GPT-NeoX. The base of its rotation, 10,000 in llama.cpp, is not stored; neither is its activation, which is that of
/// Pythia and transformers' default, except in the one model of 44 layers, GPT-NeoX-20B.
pub fn gpt_neox(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "GPTNeoXForCausalLM")?;
    parts_of_heads(k, &mut config, "rotary_pct")?;
    if let Some(theta) = config.remove("rope_theta") {
        config.insert("rotary_emb_base".into(), theta);
    }
    without_grouped_heads(k, &mut config)?;
    config.insert("layer_norm_eps".into(), epsilon(k)?.into());
    let is_20b = config["num_hidden_layers"] == 44;
    config.insert("hidden_act".into(), if is_20b { "gelu_fast" } else { "gelu" }.into());
    config.insert("use_parallel_residual".into(), k.switch("use_parallel_residual")?.unwrap_or(true).into());
    config.insert("attention_bias".into(), k.file.tensor("blk.0.attn_qkv.bias").is_some().into());
    Ok(config)
}

/// Removes fields that follow from the others: they have as many key heads as query heads, of one width, and MLPs with
/// biases.
fn without_grouped_heads(k: &Keys, config: &mut Config) -> Result<()> {
    let heads = json!(k.size("attention.head_count")?);
    let there = config.remove("num_key_value_heads");
    anyhow::ensure!(
        there.as_ref().is_none_or(|there| *there == heads),
        "`attention.head_count_kv` is {there:?} of {heads} heads"
    );
    for field in ["head_dim", "attention_bias", "mlp_bias"] {
        config.remove(field);
    }
    Ok(())
}

fn epsilon(k: &Keys) -> Result<f64> {
    needed("attention.layer_norm_epsilon", k.number("attention.layer_norm_epsilon")?)
}
