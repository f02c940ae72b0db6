//! Converts the metadata of a GGUF file to the `config.json` that it was converted from, so that the same readers
//! handle both. Fields omitted by the converter get the values that llama.cpp assumes.

mod families;
mod gemma;
mod gpt;
mod keys;
mod qwen3_5;
mod rope;

pub use families::{granite, llama, olmo, phi3, qwen2, qwen3, qwen3_moe, smollm3};
pub use gemma::{gemma, gemma2, gemma3, gemma4};
pub use gpt::{gpt_neox, gpt2};
pub use keys::Keys;
pub use qwen3_5::qwen3_5;

use super::{Gguf, architecture};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// Fields of a `config.json`.
pub type Config = Map<String, Value>;

/// The whole `config.json`.
///
/// # Errors
/// An unknown architecture; a key that is missing, of another type, or not understood.
pub fn read(file: &Gguf) -> Result<Value> {
    let name = file.metadata().word("general.architecture")?;
    let of = architecture::find(name.context("`general.architecture` is missing")?)?;
    let keys = Keys::new(file, of.name);
    let config = (of.config)(&keys)?;
    keys.finish()?;
    Ok(Value::Object(config))
}

/// Fields that most architectures share.
fn plain(k: &Keys, architecture: &str) -> Result<Config> {
    let (d_model, n_heads) = (k.size("embedding_length")?, k.size("attention.head_count")?);
    let embed = k.file.tensor("token_embd.weight").context("there is no tensor `token_embd.weight`")?;
    let mut config = object(json!({
        "architectures": [architecture],
        "hidden_size": d_model,
        "num_hidden_layers": k.size("block_count")?,
        "num_attention_heads": n_heads,
        "max_position_embeddings": k.size("context_length")?,
        "rope_theta": k.number("rope.freq_base")?.unwrap_or(10_000.0),
        "vocab_size": embed.rows(),
        "tie_word_embeddings": k.file.tensor("output.weight").is_none(),
        "dtype": dtype(k.file),
    }));
    for (field, key) in
        [("intermediate_size", "feed_forward_length"), ("num_key_value_heads", "attention.head_count_kv")]
    {
        // Lists, with one entry per layer, are read by the architecture.
        if k.is_list(key) {
            continue;
        }
        if let Some(value) = k.whole(key)? {
            config.insert(field.into(), value.into());
        }
    }
    config.entry("num_key_value_heads").or_insert(n_heads.into());
    if let Some(epsilon) = k.number("attention.layer_norm_rms_epsilon")? {
        config.insert("rms_norm_eps".into(), epsilon.into());
    }
    // Qwen2's biases, which its output projection lacks, need no switch.
    for (field, tensor) in [("attention_bias", "blk.0.attn_output.bias"), ("mlp_bias", "blk.0.ffn_down.bias")]
    {
        if k.file.tensor(tensor).is_some() {
            config.insert(field.into(), true.into());
        }
    }
    let d_head = match k.whole("attention.key_length")? {
        Some(d_head) => d_head,
        None => {
            ensure!(d_model % n_heads == 0, "{d_model} columns cannot be shared by {n_heads} heads evenly");
            d_model / n_heads
        }
    };
    config.insert("head_dim".into(), d_head.into());
    k.only("attention.value_length", d_head)?;
    ensure!(
        k.switch("attention.causal")?.unwrap_or(true),
        "its attention is not causal: it sees what comes after, so it is no model that predicts the next token"
    );
    let tokens = k.file.metadata();
    if let Some(bos) = tokens.whole("tokenizer.ggml.bos_token_id")? {
        config.insert("bos_token_id".into(), bos.into());
    }
    let mut ends = Vec::new();
    for end in ["eos", "eot", "eom"] {
        ends.extend(tokens.whole(&format!("tokenizer.ggml.{end}_token_id"))?);
    }
    ends.dedup();
    config.insert("eos_token_id".into(), ends.into());
    Ok(config)
}

/// The dtype that represents most parameters of the file exactly: that of unquantised numbers, float32 for quantised
/// ones.
fn dtype(file: &Gguf) -> &'static str {
    let numbers = |kind: &str| -> i64 {
        let of_kind = file.tensors().iter().filter(|tensor| tensor.kind() == kind);
        of_kind.map(|tensor| tensor.shape.iter().product::<i64>()).sum()
    };
    let all: i64 = file.tensors().iter().map(|tensor| tensor.shape.iter().product::<i64>()).sum();
    match (2 * numbers("BF16") > all, 2 * numbers("F16") > all) {
        (true, _) => "bfloat16",
        (_, true) => "float16",
        _ => "float32",
    }
}

fn object(value: Value) -> Config {
    match value {
        Value::Object(fields) => fields,
        _ => Config::new(),
    }
}
