//! Qwen3 MoE: a Qwen3 in which most layers have many small experts in place of the MLP.

use super::common::{DEFAULTS, Defaults, attention_biases, mixture, optional_windows, plain};
use super::config::Fields;
use crate::lm::spec::{QkNorm, Spec};
use anyhow::{Context, Result};

/// Reads the `config.json` of a Qwen3-MoE checkpoint. Defaults are those of transformers'
/// `Qwen3MoeConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = plain(f, &Defaults { n_kv_heads: Some(4), context: 32_768, ..DEFAULTS })?;
    attention_biases(f, &mut spec)?;
    spec.qk_norm = QkNorm::Head;
    // If there is a window, it applies to every layer.
    optional_windows(f, &mut spec, |_| true)?;
    // The hub names it `num_experts`, transformers 5 `num_local_experts`.
    let count = f.size("num_local_experts", f.size("num_experts", 128)?)?;
    let of = mixture(
        count,
        f.size("num_experts_per_tok", 8)?,
        f.size("moe_intermediate_size", 768)?,
        f.switch("norm_topk_prob", false)?,
    )?;
    let every = f.size("decoder_sparse_step", 1)?;
    let dense = match f.get("mlp_only_layers") {
        None => Vec::new(),
        Some(layers) => {
            let layers =
                layers.as_array().and_then(|all| all.iter().map(serde_json::Value::as_u64).collect());
            layers.with_context(|| format!("{} is no list of layers", f.name("mlp_only_layers")))?
        }
    };
    for (at, layer) in spec.layers.iter_mut().enumerate() {
        if (at + 1) % every == 0 && !dense.contains(&(at as u64)) {
            layer.d_mlp = None;
            layer.experts = Some(of);
        }
    }
    f.off("per_layer_config")?;
    Ok(spec)
}
