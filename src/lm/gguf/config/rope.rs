//! Rotary settings of a GGUF file as `rope_scaling` of a `config.json`. Independent of any architecture.

use super::{Config, Keys};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::f64::consts::PI;

/// Adds `rope_scaling` to `config`, if there is scaling, and checks that whole heads are rotated.
pub fn whole_heads(k: &Keys, config: &mut Config) -> Result<()> {
    let d_head = config["head_dim"].as_u64().context("`head_dim`")?;
    k.only("rope.dimension_count", d_head)?;
    scaled(k, config)
}

/// Adds `rope_scaling` to `config`, if there is scaling, and the rotated fraction of a head as `fraction`; by default
/// the whole head is rotated.
pub fn parts_of_heads(k: &Keys, config: &mut Config, fraction: &str) -> Result<()> {
    let d_head = config["head_dim"].as_u64().context("`head_dim`")?;
    let dims = k.whole("rope.dimension_count")?.unwrap_or(d_head);
    config.insert(fraction.into(), (dims as f64 / d_head as f64).into());
    scaled(k, config)
}

fn scaled(k: &Keys, config: &mut Config) -> Result<()> {
    if let Some(scaling) = scaling(k, config)? {
        config.insert("rope_scaling".into(), scaling);
    }
    Ok(())
}

fn scaling(k: &Keys, config: &Config) -> Result<Option<Value>> {
    let factor = k.number("rope.scaling.factor")?.or(k.number("rope.scale_linear")?);
    let original = k.whole("rope.scaling.original_context_length")?;
    let kind = k.word("rope.scaling.type")?.unwrap_or(if factor.is_some() { "linear" } else { "none" });
    let divisors = k.numbers("rope_freqs.weight")?;
    let stretched = divisors.filter(|divisors| divisors.iter().any(|divisor| *divisor != 1.0));
    Ok(match (kind, stretched) {
        ("none", None) => None,
        ("none", Some(divisors)) => Some(by_divisors(&divisors, config)?),
        (kind, Some(_)) => {
            bail!("rotary scaling of type `{kind}` and `rope_freqs.weight` at once is not understood")
        }
        ("linear", None) => Some(
            json!({"rope_type": "linear", "factor": factor.context("`rope.scaling.factor` is missing")?}),
        ),
        ("yarn", None) => {
            let extrapolation = k.number("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0);
            let log = k.number("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
            ensure!(
                extrapolation == 1.0 && log == 0.0,
                "YaRN with an extrapolation factor of {extrapolation} and a logarithm's multiplier of {log} is not read"
            );
            let mut yarn =
                json!({"rope_type": "yarn", "factor": factor.context("`rope.scaling.factor` is missing")?});
            let fields = [
                (
                    "attention_factor",
                    k.number("rope.scaling.yarn_attn_factor")?.or(k.number("rope.scaling.attn_factor")?),
                ),
                ("beta_fast", k.number("rope.scaling.yarn_beta_fast")?),
                ("beta_slow", k.number("rope.scaling.yarn_beta_slow")?),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    yarn[field] = value.into();
                }
            }
            if let Some(original) = original {
                yarn["original_max_position_embeddings"] = original.into();
            }
            Some(yarn)
        }
        (other, None) => bail!("rotary scaling of type `{other}` is not read"),
    })
}

/// Frequencies with individual divisors, which is how Llama 3.1's scaling is stored: expressed as the settings of all
/// published models if these give the same numbers, otherwise as the numbers themselves.
fn by_divisors(divisors: &[f64], config: &Config) -> Result<Value> {
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    const ORIGINAL: f64 = 8192.0;
    let theta = config["rope_theta"].as_f64().context("`rope_theta`")?;
    let factor = divisors.iter().copied().fold(1.0, f64::max);
    let published = divisors.iter().enumerate().all(|(pair, divisor)| {
        let turns = ORIGINAL / (2.0 * PI * theta.powf(pair as f64 / divisors.len() as f64));
        let smooth = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        let want = 1.0 / ((1.0 - smooth) / factor + smooth);
        (divisor - want).abs() <= 1e-5 * want
    });
    if published {
        return Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": ORIGINAL as u64
        }));
    }
    Ok(json!({
        "rope_type": "longrope", "short_factor": divisors, "long_factor": divisors, "attention_factor": 1.0,
        "factor": 1.0, "original_max_position_embeddings": config["max_position_embeddings"]
    }))
}
