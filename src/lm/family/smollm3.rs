//! SmolLM3: a Llama without rotation in some layers.

use super::common::{DEFAULTS, Defaults, biases, optional_windows, plain};
use super::config::Fields;
use crate::lm::spec::Spec;
use anyhow::{Context, Result};

/// Reads the `config.json` of a SmolLM3 checkpoint. Defaults are those of transformers' `SmolLM3Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults { theta: 2_000_000.0, context: 32_768, tied: true, ..DEFAULTS };
    let mut spec = plain(f, &defaults)?;
    biases(f, &mut spec)?;
    let rotates = rotating(f, spec.n_layers())?;
    optional_windows(f, &mut spec, |layer| !rotates[layer])?;
    for (_, attention) in spec.attentions().filter(|(layer, _)| !rotates[*layer]) {
        attention.rope = None;
    }
    f.off("per_layer_config")?;
    Ok(spec)
}

/// `no_rope_layers` holds a 1 for every layer with rotation; without it, every `no_rope_layer_interval`-th layer has
/// none.
fn rotating(f: &Fields, n_layers: usize) -> Result<Vec<bool>> {
    let every = f.size("no_rope_layer_interval", 4)?;
    let Some(marks) = f.get("no_rope_layers") else {
        return Ok((0..n_layers).map(|layer| (layer + 1) % every != 0).collect());
    };
    let mark = |mark: &serde_json::Value| mark.as_u64().filter(|n| *n <= 1).map(|n| n == 1);
    let marks: Option<Vec<bool>> = marks.as_array().and_then(|marks| marks.iter().map(mark).collect());
    marks.filter(|marks| marks.len() == n_layers).with_context(|| {
        format!("{}: a 0 or 1 for each of {n_layers} layers is needed", f.name("no_rope_layers"))
    })
}
