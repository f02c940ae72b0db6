//! Mistral's `tokenizer.json` of the Tekken kind, many of which were published with a regular expression that differs
//! from the one used in training. Handled as in transformers (`_patch_mistral_regex`), except that the hub's tags,
//! which it queries, are not used.

use super::gguf::{TEKKEN, split};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokenizers::Tokenizer as Fast;

/// `model_type` of the models whose tokenizers may be of the Tekken kind.
const MODELS: [&str; 5] = ["mistral", "mistral3", "voxtral", "ministral", "pixtral"];
/// Tekken vocabularies are larger than this.
const SMALLEST: usize = 100_000;

/// Replaces the regular expression with the correct one if `tokenizer_config.json` requests it (`fix_mistral_regex`).
/// Returns a warning if the wrong one is kept, as in transformers by default.
///
/// # Errors
/// Parts of the tokenizer that cannot be serialised and parsed again.
pub fn correct(fast: &mut Fast, config: &Value, model: &Value) -> Result<Option<String>> {
    let Some(splitting) = fast.get_pre_tokenizer().filter(|_| is_concerned(model)) else { return Ok(None) };
    if fast.get_vocab_size(true) <= SMALLEST {
        return Ok(None);
    }
    let mut splitting = serde_json::to_value(splitting)?;
    let first = if splitting["type"] == "Sequence" { &splitting["pretokenizers"][0] } else { &splitting };
    if first["pattern"]["Regex"] == TEKKEN {
        return Ok(None);
    }
    if config["fix_mistral_regex"] != true {
        return Ok(Some(
            "its tokenizer.json splits text by a regular expression that Mistral has since corrected; it is followed, as \
             transformers does where `fix_mistral_regex` is not set"
                .into(),
        ));
    }
    let split = split(TEKKEN);
    if splitting["type"] == "Sequence" {
        *splitting["pretokenizers"].get_mut(0).context("`pre_tokenizer` is a sequence of nothing")? = split;
    } else {
        if splitting["type"] == "Metaspace" {
            splitting = json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
            });
        }
        splitting = json!({ "type": "Sequence", "pretokenizers": [split, splitting] });
    }
    let corrected: tokenizers::PreTokenizerWrapper = serde_json::from_value(splitting)?;
    fast.with_pre_tokenizer(Some(corrected));
    Ok(None)
}

/// Whether `config.json` belongs to a Mistral model saved before transformers 5 corrected such files.
pub fn is_concerned(model: &Value) -> bool {
    let is_old = model["transformers_version"].as_str().is_none_or(|version| {
        let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let before = version.strip_prefix("5.0.0").map(|rest| rest.trim_start_matches('.'));
        major < 5
            || before.is_some_and(|rest| ["rc", "dev", "a", "b"].iter().any(|mark| rest.starts_with(mark)))
    });
    is_old && model["model_type"].as_str().is_none_or(|kind| MODELS.contains(&kind)) && model.is_object()
}
