//! The config of Qwen3.5, dense.

use super::rope::parts_of_heads;
use super::{Config, Keys, plain};
use anyhow::{Result, ensure};

/// Qwen3.5 in the format of llama.cpp's converter. Which layers have attention follows from their tensors. The format
/// of Ollama's own converter, which lists the key heads of every layer, is not supported.
pub fn qwen3_5(k: &Keys) -> Result<Config> {
    ensure!(
        !k.is_list("attention.head_count_kv"),
        "`qwen35.attention.head_count_kv` is a list, as Ollama's own converter writes it; Qwen3.5 is read as llama.cpp's \
         converter writes it: take such a file, or the model's safetensors"
    );
    let mut config = plain(k, "Qwen3_5ForCausalLM")?;
    parts_of_heads(k, &mut config, "partial_rotary_factor")?;
    let more = k.whole("nextn_predict_layers")?.unwrap_or(0);
    let n_layers = k.size("block_count")?;
    ensure!(more < n_layers, "`qwen35.nextn_predict_layers` is {more} of {n_layers} blocks");
    let n_layers = n_layers - more;
    config.insert("num_hidden_layers".into(), n_layers.into());
    let is_linear = |layer: &u64| k.file.tensor(&format!("blk.{layer}.ssm_a")).is_some();
    let kinds = (0..n_layers).map(|l| if is_linear(&l) { "linear_attention" } else { "full_attention" });
    config.insert("layer_types".into(), kinds.collect::<Vec<_>>().into());
    let _ = k.whole("full_attention_interval")?; // llama.cpp derives the same kinds from it
    let full = (0..n_layers).find(|layer| !is_linear(layer)).unwrap_or(0);
    let biased = k.file.tensor(&format!("blk.{full}.attn_output.bias")).is_some();
    config.insert("attention_bias".into(), biased.into());
    let n_v_heads = k.size("ssm.time_step_rank")?;
    let values = k.size("ssm.inner_size")?;
    ensure!(
        values % n_v_heads == 0,
        "`qwen35.ssm.inner_size` is {values}, which {n_v_heads} heads cannot share evenly"
    );
    for (field, size) in [
        ("linear_conv_kernel_dim", k.size("ssm.conv_kernel")?),
        ("linear_key_head_dim", k.size("ssm.state_size")?),
        ("linear_num_key_heads", k.size("ssm.group_count")?),
        ("linear_num_value_heads", n_v_heads),
        ("linear_value_head_dim", values / n_v_heads),
    ] {
        config.insert(field.into(), size.into());
    }
    Ok(config)
}
