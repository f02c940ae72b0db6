//! Settings in `tokenizer_config.json` that `tokenizer.json` does not contain. Independent of the text.

use anyhow::Result;
use serde_json::Value;
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer as Fast};

/// The post-processor with offsets that include the spaces of a token, so that each byte belongs to a token.
pub fn with_whole_offsets(processor: &PostProcessorWrapper) -> Result<PostProcessorWrapper> {
    fn keep_spaces(json: &mut Value) {
        match json {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if name == "trim_offsets" {
                        *value = Value::Bool(false);
                    } else {
                        keep_spaces(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(keep_spaces),
            _ => {}
        }
    }
    let mut json = serde_json::to_value(processor)?;
    keep_spaces(&mut json);
    Ok(serde_json::from_value(json)?)
}

/// The template in `tokenizer_config.json`: a string, or a list of named templates, of which `default` is used.
pub fn chat_template(config: &Value) -> Option<String> {
    match &config["chat_template"] {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|t| t["name"] == "default")?;
            Some(default["template"].as_str()?.to_string())
        }
        _ => None,
    }
}

/// `bos_token` and similar tokens by name: fields that end in `_token`, and the named tokens of
/// `extra_special_tokens`.
pub fn special_tokens(config: &Value) -> Vec<(String, String)> {
    let ours = config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let extra = config["extra_special_tokens"].as_object().into_iter().flatten();
    let named = |(name, token): (&String, &Value)| Some((name.clone(), content(token)?.to_string()));
    ours.chain(extra).filter_map(named).collect()
}

/// Adds the tokens of `tokenizer_config.json` that `tokenizer.json` lacks or has with other flags: the flags of the
/// former take precedence, as in transformers 5.
pub fn add_tokens(fast: &mut Fast, config: &Value) {
    let known = fast.get_added_tokens_decoder();
    let mut new: Vec<(u32, AddedToken)> = Vec::new();
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let (Ok(id), Some(token)) = (id.parse(), added_token(token)) else { continue };
        if known.get(&id).is_none_or(|known| flags(known) != flags(&token)) {
            new.push((id, token));
        }
    }
    new.sort_by_key(|(id, _)| *id);
    let mut new: Vec<AddedToken> = new.into_iter().map(|(_, token)| token).collect();
    let listed = ["extra_special_tokens", "additional_special_tokens"].into_iter();
    let listed = listed.flat_map(|name| config[name].as_array().into_iter().flatten());
    let listed = listed.filter_map(|token| Some(content(token)?.to_string()));
    for token in special_tokens(config).into_iter().map(|(_, token)| token).chain(listed) {
        if known.values().chain(&new).all(|known| known.content != token) {
            new.push(AddedToken::from(token, true));
        }
    }
    fast.add_tokens(&new);
}

/// The token that ends a text.
pub fn end_token(config: &Value) -> Option<String> {
    content(&config["eos_token"]).map(str::to_string)
}

/// The text of a token that is written as a string or as a table.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

fn added_token(token: &Value) -> Option<AddedToken> {
    let is = |flag: &str| token[flag].as_bool();
    let special = is("special").unwrap_or(false);
    Some(
        AddedToken::from(token["content"].as_str()?, special)
            .single_word(is("single_word").unwrap_or(false))
            .lstrip(is("lstrip").unwrap_or(false))
            .rstrip(is("rstrip").unwrap_or(false))
            .normalized(is("normalized").unwrap_or(!special)),
    )
}

fn flags(token: &AddedToken) -> (&str, [bool; 5]) {
    let flags = [token.single_word, token.lstrip, token.rstrip, token.normalized, token.special];
    (&token.content, flags)
}
