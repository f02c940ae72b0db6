//! Model families: `config.json` to `Spec`. The one place where an architecture's name is looked at.

mod common;
mod config;
mod gemma2;
mod gemma3;
mod gemma4;
mod granite;
mod llama;
mod mistral;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use self::config::Fields;
use super::spec::Spec;
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// How one architecture is read.
struct Family {
    /// As `architectures` in `config.json` names it.
    architecture: &'static str,
    /// As `model_type` does, which decides where there is no `architectures`.
    model_type: &'static str,
    spec: fn(&Fields) -> Result<Spec>,
}

/// Every architecture that can be read.
const FAMILIES: [Family; 15] = [
    family("LlamaForCausalLM", "llama", llama::spec),
    family("MistralForCausalLM", "mistral", mistral::spec),
    family("Qwen2ForCausalLM", "qwen2", qwen2::spec),
    family("Qwen3ForCausalLM", "qwen3", qwen3::spec),
    family("Gemma2ForCausalLM", "gemma2", gemma2::spec),
    family("Gemma3ForCausalLM", "gemma3_text", gemma3::spec),
    family("Gemma3ForConditionalGeneration", "gemma3", gemma3::wrapped),
    family("Gemma4ForCausalLM", "gemma4_text", gemma4::spec),
    family("Gemma4ForConditionalGeneration", "gemma4", gemma4::wrapped),
    family("Gemma4UnifiedForCausalLM", "gemma4_unified_text", gemma4::unified_text),
    family("Gemma4UnifiedForConditionalGeneration", "gemma4_unified", gemma4::unified),
    family("Phi3ForCausalLM", "phi3", phi3::spec),
    family("Olmo2ForCausalLM", "olmo2", olmo2::spec),
    family("SmolLM3ForCausalLM", "smollm3", smollm3::spec),
    family("GraniteForCausalLM", "granite", granite::spec),
];

const fn family(
    architecture: &'static str,
    model_type: &'static str,
    spec: fn(&Fields) -> Result<Spec>,
) -> Family {
    Family { architecture, model_type, spec }
}

/// Architectures that can be read, as `config.json` names them.
pub fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.architecture)
}

/// Token ids that a file of settings holds under `key`; see [`Fields::token_ids`].
///
/// # Errors
/// What is no table, or holds what is no token id.
pub fn token_ids(settings: &Value, key: &str) -> Result<Vec<i64>> {
    Fields::new("", settings)?.token_ids(key)
}

/// Reads a parsed `config.json`; the errors are those of [`Spec::from_config`].
pub fn from_config(config: &Value) -> Result<Spec> {
    let architecture = config["architectures"][0].as_str();
    let model_type = config["model_type"].as_str();
    let family = FAMILIES.iter().find(|family| match (architecture, model_type) {
        (Some(architecture), _) => family.architecture == architecture,
        (None, model_type) => model_type == Some(family.model_type),
    });
    match (family, architecture.or(model_type)) {
        (Some(family), _) => {
            let spec = (family.spec)(&Fields::new("", config)?)?;
            Ok(Spec { architecture: family.architecture.into(), ..spec })
        }
        (None, Some(other)) => bail!(
            "architecture `{other}` is not supported yet. Supported: {}. docs/models.md says how to add one",
            supported().collect::<Vec<_>>().join(", ")
        ),
        (None, None) => None.context(
            "config.json names no architecture: `architectures` must hold one, such as \"LlamaForCausalLM\"",
        ),
    }
}
