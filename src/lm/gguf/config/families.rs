//! Configs of Llama and its relatives: what is specific to each architecture.

use super::rope::whole_heads;
use super::{Config, Keys, plain};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Llama, Mistral and Mixtral, which are one architecture in GGUF. A window, as in Mistral 7B v0.1, is not stored.
pub fn llama(k: &Keys) -> Result<Config> {
    let experts = k.whole("expert_count")?.unwrap_or(0);
    let mut config = plain(k, if experts > 0 { "MixtralForCausalLM" } else { "LlamaForCausalLM" })?;
    whole_heads(k, &mut config)?;
    if experts > 0 {
        config.insert("num_local_experts".into(), experts.into());
        config.insert("num_experts_per_tok".into(), k.size("expert_used_count")?.into());
        only_softmax(k)?;
    } else {
        k.only("expert_used_count", 0)?;
    }
    Ok(config)
}

/// Qwen2 and Qwen2.5; the optional windows of their configs are not stored.
pub fn qwen2(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Qwen2ForCausalLM")?;
    whole_heads(k, &mut config)?;
    Ok(config)
}

/// Qwen3.
pub fn qwen3(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Qwen3ForCausalLM")?;
    whole_heads(k, &mut config)?;
    Ok(config)
}

/// Qwen3 MoE. That the weights of the active experts sum to 1 is not stored; it is fixed in llama.cpp.
pub fn qwen3_moe(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Qwen3MoeForCausalLM")?;
    whole_heads(k, &mut config)?;
    let n_layers = k.size("block_count")?;
    let dense: Vec<u64> = (0..n_layers)
        .filter(|layer| k.file.tensor(&format!("blk.{layer}.ffn_gate_inp.weight")).is_none())
        .collect();
    config.insert("mlp_only_layers".into(), dense.into());
    config.insert("num_experts".into(), k.size("expert_count")?.into());
    config.insert("num_experts_per_tok".into(), k.size("expert_used_count")?.into());
    config.insert("moe_intermediate_size".into(), k.size("expert_feed_forward_length")?.into());
    config.insert("norm_topk_prob".into(), k.switch("expert_weights_norm")?.unwrap_or(true).into());
    k.only("expert_shared_feed_forward_length", 0)?;
    only_softmax(k)?;
    Ok(config)
}

/// Phi-3 and Phi-4: a fraction of each head is rotated, with one of two sets of frequency divisors.
pub fn phi3(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Phi3ForCausalLM")?;
    let d_head = config["head_dim"].as_u64().context("`head_dim`")?;
    let dims = k.whole("rope.dimension_count")?.unwrap_or(d_head);
    config.insert("partial_rotary_factor".into(), (dims as f64 / d_head as f64).into());
    // Phi-4 writes 0, which means no window.
    let window = k.whole("attention.sliding_window")?.filter(|window| *window > 0);
    config.insert("sliding_window".into(), window.map_or(Value::Null, Value::from));
    let original = k.whole("rope.scaling.original_context_length")?;
    let amplitude = k.number("rope.scaling.attn_factor")?;
    let (short, long) = (k.numbers("rope_factors_short.weight")?, k.numbers("rope_factors_long.weight")?);
    match (short, long) {
        (None, None) => ensure!(
            amplitude.is_none_or(|amplitude| amplitude == 1.0),
            "`phi3.rope.scaling.attn_factor` without factors"
        ),
        (Some(short), Some(long)) => {
            let original = original.context("`phi3.rope.scaling.original_context_length` is missing")?;
            config.insert("original_max_position_embeddings".into(), original.into());
            let mut scaling = json!({"type": "longrope", "short_factor": short, "long_factor": long});
            // A value that follows from the two context lengths is stored with fewer digits.
            let ratio = k.size("context_length")? as f64 / original as f64;
            let follows = (1.0 + ratio.max(1.0).ln() / (original as f64).ln()).sqrt();
            if let Some(amplitude) = amplitude.filter(|amplitude| (amplitude - follows).abs() > 1e-6) {
                scaling["attention_factor"] = amplitude.into();
            }
            config.insert("rope_scaling".into(), scaling);
        }
        _ => anyhow::bail!("one of `rope_factors_short.weight` and `rope_factors_long.weight` is missing"),
    }
    let _ = (k.word("rope.scaling.type")?, k.number("rope.scaling.factor")?);
    Ok(config)
}

/// OLMo 2 and, with windows, OLMo 3.
pub fn olmo(k: &Keys) -> Result<Config> {
    let window = k.whole("attention.sliding_window")?;
    let mut config = plain(k, if window.is_some() { "Olmo3ForCausalLM" } else { "Olmo2ForCausalLM" })?;
    whole_heads(k, &mut config)?;
    if let Some(window) = window {
        config.insert("sliding_window".into(), window.into());
        let n_layers = k.size("block_count")? as usize;
        if let Some(sliding) = k.switches("attention.sliding_window_pattern", n_layers)? {
            config.insert("layer_types".into(), layer_types(sliding));
        }
    }
    Ok(config)
}

/// SmolLM3. That every fourth layer has no rotation is not stored; it is fixed in llama.cpp.
pub fn smollm3(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "SmolLM3ForCausalLM")?;
    whole_heads(k, &mut config)?;
    config.insert("no_rope_layer_interval".into(), 4.into());
    Ok(config)
}

/// Granite 3, dense.
pub fn granite(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "GraniteForCausalLM")?;
    whole_heads(k, &mut config)?;
    let scales = [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ];
    for (field, key) in scales {
        // A scale of 0 means that the converter did not find it.
        if let Some(scale) = k.number(key)?.filter(|scale| *scale != 0.0) {
            config.insert(field.into(), scale.into());
        }
    }
    k.only("expert_count", 0)?;
    k.only("expert_used_count", 0)?;
    Ok(config)
}

/// `layer_types` for layers with and without a window.
pub fn layer_types(sliding: &[bool]) -> Value {
    let kind = |sliding: &bool| if *sliding { "sliding_attention" } else { "full_attention" };
    sliding.iter().map(kind).collect::<Vec<_>>().into()
}

/// Checks that experts are chosen by the softmax of their scores, which is stored as 1.
pub fn only_softmax(k: &Keys) -> Result<()> {
    k.only("expert_gating_func", 1)
}
