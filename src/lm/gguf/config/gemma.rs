//! Configs of the Gemma family: windows, soft caps, two rotations, and scales that follow from a model's size.

use super::families::{layer_types, only_softmax};
use super::rope::whole_heads;
use super::{Config, Keys, plain};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const GELU: &str = "gelu_pytorch_tanh";

/// Gemma.
pub fn gemma(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "GemmaForCausalLM")?;
    whole_heads(k, &mut config)?;
    config.insert("hidden_activation".into(), GELU.into());
    Ok(config)
}

/// Gemma 2.
pub fn gemma2(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Gemma2ForCausalLM")?;
    whole_heads(k, &mut config)?;
    config.insert("hidden_activation".into(), GELU.into());
    config.insert("query_pre_attn_scalar".into(), query_scale(&config, 46));
    config.insert("sliding_window".into(), k.whole("attention.sliding_window")?.unwrap_or(4096).into());
    for (field, key) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        config.insert(field.into(), cap(k.number(key)?));
    }
    Ok(config)
}

/// Gemma 3; the file of a multimodal model holds the language model alone, or the vision tower as well.
pub fn gemma3(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Gemma3ForCausalLM")?;
    whole_heads(k, &mut config)?;
    config.insert("hidden_activation".into(), GELU.into());
    config.insert("query_pre_attn_scalar".into(), query_scale(&config, 62));
    config.insert("final_logit_softcapping".into(), cap(k.number("final_logit_softcapping")?));
    // Ollama's converter uses different names for the two bases.
    let (global, local) = (k.number("rope.global.freq_base")?, k.number("rope.local.freq_base")?);
    if let (None, Some(theta)) = (k.number("rope.freq_base")?, global) {
        config.insert("rope_theta".into(), theta.into());
    }
    ensure!(k.number("rope.freq_base")?.or(global).is_some(), "`gemma3.rope.freq_base` is missing");
    let local = k.number("rope.freq_base_swa")?.or(local).unwrap_or(10_000.0);
    config.insert("rope_local_base_freq".into(), local.into());
    if let Some(window) = k.whole("attention.sliding_window")? {
        config.insert("sliding_window".into(), window.into());
    }
    sliding(k, &mut config)?;
    Ok(config)
}

/// Gemma 4: global layers have their own head size; keys and values may be shared between layers, or identical.
pub fn gemma4(k: &Keys) -> Result<Config> {
    let mut config = plain(k, "Gemma4ForCausalLM")?;
    config.insert("hidden_activation".into(), GELU.into());
    let n_layers = k.size("block_count")? as usize;
    let windowed = k.switches("attention.sliding_window_pattern", n_layers)?;
    let windowed = windowed.context("`gemma4.attention.sliding_window_pattern` is missing")?;
    config.insert("layer_types".into(), layer_types(windowed));
    config.insert("sliding_window".into(), k.size("attention.sliding_window")?.into());
    let (d_global, d_local) = (k.size("attention.key_length")?, k.size("attention.key_length_swa")?);
    k.only("attention.value_length_swa", d_local)?;
    k.only("rope.dimension_count", d_global)?;
    k.only("rope.dimension_count_swa", d_local)?;
    config.insert("head_dim".into(), d_local.into());
    let kv_heads: Vec<i64> = match k.is_list("attention.head_count_kv") {
        true => k.wholes("attention.head_count_kv")?.unwrap_or_default(),
        false => vec![k.size("attention.head_count_kv")? as i64; n_layers],
    };
    ensure!(
        kv_heads.len() == n_layers,
        "`gemma4.attention.head_count_kv` has {} entries for {n_layers} layers",
        kv_heads.len()
    );
    let local_heads = kv_heads
        .iter()
        .zip(windowed)
        .find(|(_, windowed)| **windowed)
        .map_or(kv_heads[0], |(heads, _)| *heads);
    config.insert("num_key_value_heads".into(), local_heads.into());
    let own = |layer: usize| {
        (layer.to_string(), json!({"head_dim": d_global, "num_key_value_heads": kv_heads[layer]}))
    };
    let global: Config = (0..n_layers).filter(|&layer| !windowed[layer]).map(own).collect();
    config.insert("per_layer_config".into(), global.into());
    let shared = k.whole("attention.shared_kv_layers")?.unwrap_or(0);
    config.insert("num_kv_shared_layers".into(), shared.into());
    let without_values = |layer: usize| k.file.tensor(&format!("blk.{layer}.attn_v.weight")).is_none();
    let own_keys = 0..n_layers.saturating_sub(shared as usize);
    let keys_as_values = own_keys.clone().any(|layer| !windowed[layer] && without_values(layer));
    config.insert("attention_k_eq_v".into(), keys_as_values.into());
    mlp(k, &mut config, own_keys.len())?;
    rotations(k, &mut config, d_global)?;
    let width = k.whole("embedding_length_per_layer_input")?.unwrap_or(0);
    config.insert("hidden_size_per_layer_input".into(), width.into());
    if let Some(table) = k.file.tensor("per_layer_token_embd.weight") {
        config.insert("vocab_size_per_layer_input".into(), table.rows().into());
    }
    config.insert("final_logit_softcapping".into(), cap(k.number("final_logit_softcapping")?));
    Ok(config)
}

/// Widths of the MLP: layers that share keys and values may have one twice as wide; also experts in parallel with it.
fn mlp(k: &Keys, config: &mut Config, own_keys: usize) -> Result<()> {
    if let Ok(Some(widths)) = k.wholes("feed_forward_length") {
        let first = *widths.first().context("`gemma4.feed_forward_length` is empty")?;
        let wide = widths.last() != Some(&first);
        let want = |layer: usize| if wide && layer >= own_keys { 2 * first } else { first };
        ensure!(
            widths.iter().enumerate().all(|(layer, width)| *width == want(layer)),
            "`gemma4.feed_forward_length` has widths that are not understood: {widths:?}"
        );
        config.insert("intermediate_size".into(), first.into());
        config.insert("use_double_wide_mlp".into(), wide.into());
    }
    let experts = k.whole("expert_count")?.unwrap_or(0);
    config.insert("enable_moe_block".into(), (experts > 0).into());
    let (active, width) = (k.whole("expert_used_count")?, k.whole("expert_feed_forward_length")?);
    if experts > 0 {
        config.insert("num_experts".into(), experts.into());
        config
            .insert("top_k_experts".into(), active.context("`gemma4.expert_used_count` is missing")?.into());
        config.insert(
            "moe_intermediate_size".into(),
            width.context("`gemma4.expert_feed_forward_length` is missing")?.into(),
        );
        only_softmax(k)?;
    }
    Ok(())
}

/// Which pairs of a global head are rotated is stored as divisors of their frequencies: 1 for those that rotate, 1e30
/// for the others.
fn rotations(k: &Keys, config: &mut Config, d_global: u64) -> Result<()> {
    let divisors = k.numbers("rope_freqs.weight")?.context("there is no tensor `rope_freqs.weight`")?;
    let turning = divisors.iter().take_while(|divisor| **divisor == 1.0).count();
    ensure!(
        divisors.len() as u64 == d_global / 2 && divisors[turning..].iter().all(|divisor| *divisor >= 1e30),
        "`rope_freqs.weight` holds divisors that are not understood"
    );
    let (theta, local) =
        (k.number("rope.freq_base")?.unwrap_or(1e6), k.number("rope.freq_base_swa")?.unwrap_or(1e4));
    config.remove("rope_theta");
    config.insert("rope_parameters".into(), json!({
        "full_attention": {
            "rope_type": "proportional", "rope_theta": theta, "partial_rotary_factor": 2.0 * turning as f64 / d_global as f64
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": local}
    }));
    Ok(())
}

/// Layers with windows, if the file specifies them: as a list, or as a period n (all but every n-th layer).
fn sliding(k: &Keys, config: &mut Config) -> Result<()> {
    let key = "attention.sliding_window_pattern";
    let n_layers = k.size("block_count")? as usize;
    if let Ok(Some(sliding)) = k.switches(key, n_layers) {
        config.insert("layer_types".into(), layer_types(sliding));
    } else if let Some(every) = k.whole(key)? {
        config.insert("sliding_window_pattern".into(), every.into());
    }
    Ok(())
}

/// Query-key products are divided by the root of this number: the width of a head, except in the 27B models, which
/// llama.cpp recognises by their number of layers; there it is the width of the residual stream divided by the number
/// of heads.
fn query_scale(config: &Config, layers_of_27b: u64) -> Value {
    let size = |field: &str| config[field].as_u64().unwrap_or_default();
    match size("num_hidden_layers") == layers_of_27b {
        true => (size("hidden_size") / size("num_attention_heads").max(1)).into(),
        false => config["head_dim"].clone(),
    }
}

/// A soft cap; 0 means none.
fn cap(bound: Option<f64>) -> Value {
    bound.filter(|bound| *bound > 0.0).map_or(Value::Null, Value::from)
}
