//! Granite 3, dense: a Llama with four multipliers.

use super::common::{DEFAULTS, Defaults, biases, no_window, one_kind, plain};
use super::config::Fields;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Reads the `config.json` of a Granite checkpoint. Defaults are those of transformers' `GraniteConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = plain(f, &Defaults { ..DEFAULTS })?;
    biases(f, &mut spec)?;
    spec.embed_scale = f.positive_or("embedding_multiplier", 1.0)?;
    let scale = f.positive_or("attention_multiplier", 1.0)?;
    spec.attentions().for_each(|(_, attention)| attention.scale = scale);
    spec.residual_scale = f.positive_or("residual_multiplier", 1.0)?;
    spec.logit_divisor = f.positive_or("logits_scaling", 1.0)?;
    no_window(f, &spec)?;
    one_kind(f, &spec)?;
    Ok(spec)
}
