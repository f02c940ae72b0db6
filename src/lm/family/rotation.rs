//! Reads the rotary settings of a `config.json`, in all their spellings, as a [`Rope`].

use super::config::Fields;
use crate::lm::spec::{Rope, RopeScaling, Spec};
use anyhow::{Result, bail, ensure};
use std::f64::consts::PI;

/// Rotary settings of all layers, from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`
/// (earlier checkpoints on the hub; if both are present, `rope_scaling` counts). `context` replaces a missing original
/// context; `in_part`: `partial_rotary_factor` counts.
pub fn rope(f: &Fields, d_head: usize, theta: f64, context: usize, in_part: bool) -> Result<Rope> {
    let settings = RopeSettings {
        d_head,
        theta: f.positive_or("rope_theta", theta)?,
        fraction: if in_part { f.positive_or("partial_rotary_factor", 1.0)? } else { 1.0 },
        in_part,
        context,
        original: optional_size(f, "original_max_position_embeddings")?,
    };
    let p = chosen(f)?;
    if let Some(p) = &p {
        for kind in ["full_attention", "sliding_attention"] {
            if p.get(kind).is_some() {
                bail!(
                    p.refused(kind, "rotations for kinds of layers are not supported in this architecture")
                );
            }
        }
    }
    settings.rope(p.as_ref())
}

/// The table of rotary settings to use: `rope_scaling`, unless it is empty.
pub fn chosen<'a>(f: &Fields<'a>) -> Result<Option<Fields<'a>>> {
    match f.table("rope_scaling")?.filter(|p| p.keys().next().is_some()) {
        Some(old) => Ok(Some(old)),
        None => f.table("rope_parameters"),
    }
}

/// A size, if present.
pub fn optional_size(f: &Fields, key: &str) -> Result<Option<usize>> {
    f.get(key).map(|_| f.size(key, None)).transpose()
}

/// Gives the layers of `sliding` one rotation, with base `local_theta`, and the others another, with base `theta`,
/// unless the tables in `rope_parameters` override these. Fields next to those tables are ignored, as in transformers.
/// In the hub's configs `rope_scaling` applies to the layers without a window.
pub fn two_ropes(f: &Fields, spec: &mut Spec, sliding: &[bool], theta: f64, local_theta: f64) -> Result<()> {
    let context = spec.context;
    let d_head = spec.attentions().next().map_or(0, |(_, of)| of.d_head);
    let settings =
        |theta: f64| RopeSettings { d_head, theta, fraction: 1.0, in_part: false, context, original: None };
    let parameters = f.table("rope_parameters")?;
    let of = |kind: &str| parameters.as_ref().map(|p| p.table(kind)).transpose().map(Option::flatten);
    let (global, local) = (of("full_attention")?, of("sliding_attention")?);
    let theta = global.as_ref().map_or(Ok(theta), |p| p.positive_or("rope_theta", theta))?;
    let global = f.table("rope_scaling")?.filter(|p| p.keys().next().is_some()).or(global);
    let (global, local) =
        (settings(theta).rope(global.as_ref())?, settings(local_theta).rope(local.as_ref())?);
    for (layer, attention) in spec.attentions() {
        attention.rope = Some(if sliding[layer] { local.clone() } else { global.clone() });
    }
    Ok(())
}

/// Rotary settings before a table overrides them.
pub struct RopeSettings {
    /// Width of a head.
    pub d_head: usize,
    /// Base of the wavelengths.
    pub theta: f64,
    /// Fraction of the head that is rotated.
    pub fraction: f64,
    /// Whether the table may override the fraction.
    pub in_part: bool,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Context length of the original training.
    pub original: Option<usize>,
}

impl RopeSettings {
    /// The rotation, with the settings of the table `p`. Only the settings of its type are read.
    ///
    /// # Errors
    /// An unsupported type; a field that is missing, out of range or not understood.
    pub fn rope(&self, p: Option<&Fields>) -> Result<Rope> {
        let Some(p) = p else { return self.plain(self.theta, self.fraction) };
        let theta = p.positive_or("rope_theta", self.theta)?;
        let (new, old) = (p.word("rope_type")?, p.word("type")?);
        let kind = new.or(old).unwrap_or("default");
        let fraction = match kind {
            "default" if !self.in_part => self.fraction,
            _ => p.positive_or("partial_rotary_factor", self.fraction)?,
        };
        if !self.in_part && kind != "proportional" && fraction != self.fraction {
            bail!(p.refused("partial_rotary_factor", "heads turn as a whole in this architecture"));
        }
        // With "proportional", the pairs span the whole head, although only some of them are rotated.
        let mut rope = self.plain(theta, if kind == "proportional" { 1.0 } else { fraction })?;
        // A field next to the table takes precedence over the same field in it, as in transformers.
        let original = || -> Result<Option<usize>> {
            let inner = optional_size(p, "original_max_position_embeddings")?;
            Ok(self.original.or(inner))
        };
        match kind {
            "default" => {}
            "linear" => rope.scaling = RopeScaling::Linear { factor: p.needed("factor")? },
            "proportional" => {
                rope.pairs = (fraction * self.d_head as f64 / 2.0) as usize;
                if let Some(factor) = p.positive("factor")? {
                    rope.scaling = RopeScaling::Linear { factor };
                }
            }
            "llama3" => {
                let low_freq_factor = p.needed("low_freq_factor")?;
                let high_freq_factor = p.needed("high_freq_factor")?;
                ensure!(
                    high_freq_factor > low_freq_factor,
                    "{} must be above `low_freq_factor`",
                    p.name("high_freq_factor")
                );
                rope.scaling = RopeScaling::Llama3 {
                    factor: p.needed("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_context: original()?.unwrap_or(self.context) as f64,
                };
            }
            // `su` and `yarn` are the names in the first published Phi-3 configs; transformers reads both as longrope.
            "longrope" | "su" | "yarn" if p.get("long_factor").is_some() => {
                let original_context = original()?.unwrap_or(self.context);
                let factor = p.positive("factor")?;
                let factor = factor.unwrap_or(self.context as f64 / original_context as f64);
                let by_length = match factor > 1.0 {
                    true => (1.0 + factor.ln() / (original_context as f64).ln()).sqrt(),
                    false => 1.0,
                };
                rope.scaling = RopeScaling::LongRope {
                    short: p.numbers("short_factor", rope.pairs)?,
                    long: p.numbers("long_factor", rope.pairs)?,
                    original_context,
                };
                rope.amplitude = p.positive_or("attention_factor", by_length)?;
            }
            "yarn" => {
                let original = original()?.unwrap_or(self.context) as f64;
                let factor = p.positive_or("factor", self.context as f64 / original)?;
                // The pair that completes `turns` rotations within the original context.
                let pair =
                    |turns: f64| rope.dims as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let (first, last) =
                    (pair(p.positive_or("beta_fast", 32.0)?), pair(p.positive_or("beta_slow", 1.0)?));
                let whole = p.switch("truncate", true)?;
                let (first, last) = if whole { (first.floor(), last.ceil()) } else { (first, last) };
                let (first, last) = (first.max(0.0), last.min(rope.dims as f64 - 1.0));
                let last = if first == last { last + 0.001 } else { last };
                rope.scaling = RopeScaling::Yarn { factor, first, last };
                let grown = |scale: f64| 1.0 + 0.1 * scale * factor.max(1.0).ln();
                let by_factor = match (p.number("mscale")?, p.number("mscale_all_dim")?) {
                    (Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => grown(scale) / grown(all),
                    _ => grown(1.0),
                };
                rope.amplitude = p.positive_or("attention_factor", by_factor)?;
                ensure!(
                    rope.amplitude.is_finite() && rope.amplitude > 0.0,
                    "{} and `mscale_all_dim` give cosines and sines the scale {}",
                    p.name("mscale"),
                    rope.amplitude
                );
            }
            _ => {
                let key = if new.is_some() { "rope_type" } else { "type" };
                let known = "default, linear, llama3, longrope, proportional, yarn";
                bail!(p.refused(key, &format!("this rotary scaling is not supported yet, only {known}")));
            }
        }
        Ok(rope)
    }

    fn plain(&self, theta: f64, fraction: f64) -> Result<Rope> {
        let dims = (self.d_head as f64 * fraction) as usize;
        ensure!(
            dims > 0 && dims <= self.d_head && dims.is_multiple_of(2),
            "config.json: {dims} of {} entries of a head cannot be rotated in pairs",
            self.d_head
        );
        Ok(Rope { theta, dims, pairs: dims / 2, amplitude: 1.0, scaling: RopeScaling::None })
    }
}

#[cfg(test)]
mod tests {
    use crate::lm::Spec;
    use crate::lm::spec::RopeScaling;
    use serde_json::{Value, json};

    /// Amplitudes of cosines and sines, and factors, as computed by `ROPE_INIT_FUNCTIONS["yarn"]` of transformers
    /// 5.24.
    #[test]
    fn yarn_takes_its_scale_from_mscale_or_from_the_factor() {
        for (settings, amplitude, factor) in [
            (json!({"factor": 4.0, "mscale": 0.707, "mscale_all_dim": 1.3}), 0.9303457183160174, 4.0),
            (json!({"factor": 4.0, "mscale": 0.707}), 1.138629436111989, 4.0),
            (json!({"factor": 4.0, "mscale": 0.0, "mscale_all_dim": 1.0}), 1.138629436111989, 4.0),
            (json!({}), 1.2079441541679836, 8.0),
        ] {
            let mut table = json!({"rope_type": "yarn", "original_max_position_embeddings": 4096});
            let more = settings.as_object().into_iter().flatten();
            more.for_each(|(key, value): (&String, &Value)| table[key] = value.clone());
            let config = json!({
                "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "num_attention_heads": 32,
                "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 8,
                "max_position_embeddings": 32_768, "rope_parameters": table
            });
            let rope =
                Spec::from_config(&config).unwrap().layers[0].attention().unwrap().rope.clone().unwrap();
            assert!((rope.amplitude - amplitude).abs() < 1e-12, "{settings}: {}", rope.amplitude);
            assert!(matches!(rope.scaling, RopeScaling::Yarn { factor: found, .. } if found == factor));
        }
    }
}
