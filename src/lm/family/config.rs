//! Reading fields of a `config.json` that a stranger wrote: types, ranges, and fields that must
//! have the one value that is understood. Knows no family.

use crate::lm::spec::{Dtype, Rope, RopeScaling};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// No size in a real checkpoint comes near this; products of four sizes still fit in 128 bits and
/// those of two in 64.
const LARGEST: u64 = 1 << 28;

/// The field `key`, if it is there and not null.
pub fn field<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|v| !v.is_null())
}

/// A size that must be there and lie in `1..=2^28`.
pub fn size(config: &Value, key: &str) -> Result<usize> {
    size_or(config, key, None)
}

/// A size in `1..=2^28`, or `default` where it is absent or null.
pub fn size_or(config: &Value, key: &str, default: Option<usize>) -> Result<usize> {
    match (field(config, key), default) {
        (None, Some(default)) => Ok(default),
        (None, None) => bail!("config.json: `{key}` is missing"),
        (Some(value), _) => {
            value.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize).with_context(|| {
                format!("config.json: `{key}` is {value}; a whole number from 1 to {LARGEST} is needed")
            })
        }
    }
}

/// A positive finite number, or `default` where it is absent or null.
pub fn positive_or(config: &Value, key: &str, default: Option<f64>) -> Result<f64> {
    match (field(config, key), default) {
        (None, Some(default)) => Ok(default),
        (None, None) => bail!("config.json: `{key}` is missing"),
        (Some(value), _) => value
            .as_f64()
            .filter(|x| x.is_finite() && *x > 0.0)
            .with_context(|| format!("config.json: `{key}` is {value}; a positive number is needed")),
    }
}

/// A switch, or `default` where it is absent or null.
pub fn switch(config: &Value, key: &str, default: bool) -> Result<bool> {
    match field(config, key) {
        None => Ok(default),
        Some(v) => {
            v.as_bool().with_context(|| format!("config.json: `{key}` is {v}; true or false is needed"))
        }
    }
}

/// Refuses `key` unless it is absent, null or one of `understood`.
pub fn only(config: &Value, key: &str, understood: &[Value]) -> Result<()> {
    match field(config, key) {
        Some(value) if !understood.contains(value) => {
            bail!("config.json: `{key}` = {value} changes the computation and is not supported yet")
        }
        _ => Ok(()),
    }
}

/// Token ids written as a number or as a list of numbers; none where absent or null.
pub fn token_ids(config: &Value, key: &str) -> Result<Vec<i64>> {
    let one = |v: &Value| {
        v.as_i64()
            .filter(|id| (0..LARGEST as i64).contains(id))
            .with_context(|| format!("`{key}` holds {v}, which is no token id"))
    };
    match field(config, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}

/// The declared dtype: `dtype` (transformers 5) or `torch_dtype`; f32 where there is none, as in
/// transformers.
pub fn dtype(config: &Value) -> Result<Dtype> {
    let Some(value) = field(config, "dtype").or_else(|| field(config, "torch_dtype")) else {
        return Ok(Dtype::F32);
    };
    match value.as_str().map(|s| s.trim_start_matches("torch.")) {
        Some("float32") => Ok(Dtype::F32),
        Some("bfloat16") => Ok(Dtype::Bf16),
        Some("float16") => Ok(Dtype::F16),
        _ => bail!("config.json: dtype {value} is not supported (float32, bfloat16, float16)"),
    }
}

/// Rotary settings, from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`
/// (all hub checkpoints before it). `context` stands in for a missing original context.
pub fn rope(config: &Value, default_theta: f64, context: usize) -> Result<Rope> {
    let new = field(config, "rope_parameters");
    let old = field(config, "rope_scaling");
    let theta = match new {
        Some(p) if field(p, "rope_theta").is_some() => positive_or(p, "rope_theta", None)?,
        _ => positive_or(config, "rope_theta", Some(default_theta))?,
    };
    let scaling = match new.or(old) {
        None => RopeScaling::None,
        Some(p) => scaling(p, context).with_context(|| format!("config.json: rotary scaling {p}"))?,
    };
    Ok(Rope { theta, scaling })
}

fn scaling(p: &Value, context: usize) -> Result<RopeScaling> {
    ensure!(p.is_object(), "is not a table");
    only(p, "partial_rotary_factor", &[1.into(), 1.0.into()])?;
    only(p, "attention_factor", &[1.into(), 1.0.into()])?;
    let kind = field(p, "rope_type").or_else(|| field(p, "type"));
    match kind.map(|k| k.as_str().unwrap_or("?")) {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: positive_or(p, "factor", None)? }),
        Some("llama3") => {
            let low_freq_factor = positive_or(p, "low_freq_factor", None)?;
            let high_freq_factor = positive_or(p, "high_freq_factor", None)?;
            ensure!(high_freq_factor > low_freq_factor, "`high_freq_factor` must be above `low_freq_factor`");
            Ok(RopeScaling::Llama3 {
                factor: positive_or(p, "factor", None)?,
                low_freq_factor,
                high_freq_factor,
                original_context: positive_or(p, "original_max_position_embeddings", Some(context as f64))?,
            })
        }
        Some(other) => bail!("rope type `{other}` is not supported yet (default, linear, llama3)"),
    }
}
