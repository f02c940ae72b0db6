//! Qwen3, dense: query and key norms over each head.

use super::common::{DEFAULTS, Defaults, attention_biases, optional_windows, plain};
use super::config::Fields;
use crate::lm::spec::{QkNorm, Spec};
use anyhow::Result;

/// Reads the `config.json` of a Qwen3 checkpoint. Defaults are those of transformers' `Qwen3Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults { d_head: Some(128), context: 32_768, ..DEFAULTS };
    let mut spec = plain(f, &defaults)?;
    attention_biases(f, &mut spec)?;
    spec.qk_norm = QkNorm::Head;
    let first = f.count_or("max_window_layers", 28)?;
    optional_windows(f, &mut spec, |layer| layer >= first)?;
    f.off("per_layer_config")?;
    Ok(spec)
}
