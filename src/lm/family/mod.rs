//! Model families: `config.json` to `Spec`. The one place where an architecture's name is looked at.

mod config;
mod llama;

use super::spec::Spec;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Architectures that can be read, as `config.json` names them.
pub const SUPPORTED: [&str; 1] = ["LlamaForCausalLM"];

/// Reads a parsed `config.json`; the errors are those of [`Spec::from_config`].
pub fn from_config(config: &Value) -> Result<Spec> {
    let architecture = config["architectures"][0].as_str().context(
        "config.json names no architecture: `architectures` must hold one, such as \"LlamaForCausalLM\"",
    )?;
    match architecture {
        "LlamaForCausalLM" => llama::spec(config),
        other => {
            bail!("architecture `{other}` is not supported yet (supported: {})", SUPPORTED.join(", "))
        }
    }
}
