//! Qwen2 and Qwen2.5: biases on queries, keys and values.

use super::common::{DEFAULTS, Defaults, optional_windows, plain};
use super::config::Fields;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Reads the `config.json` of a Qwen2 checkpoint. Defaults are those of transformers' `Qwen2Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = plain(f, &Defaults { context: 32_768, ..DEFAULTS })?;
    spec.qkv_bias = true;
    let first = f.count_or("max_window_layers", 28)?;
    optional_windows(f, &mut spec, |layer| layer >= first)?;
    f.off("per_layer_config")?;
    Ok(spec)
}
