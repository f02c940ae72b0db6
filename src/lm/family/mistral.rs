//! Mistral 7B and its successors of the same architecture: a Llama with an optional window in all layers.

use super::common::{DEFAULTS, Defaults, one_kind, plain, windows};
use super::config::Fields;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Reads the `config.json` of a Mistral checkpoint. Defaults are those of transformers' `MistralConfig`;
/// `sliding_window` may be null, which means no window.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults { n_kv_heads: Some(8), context: 131_072, ..DEFAULTS };
    let mut spec = plain(f, &defaults)?;
    let all = vec![true; spec.n_layers()];
    windows(f, &mut spec, &all, None)?;
    one_kind(f, &spec)?;
    Ok(spec)
}
