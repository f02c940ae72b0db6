//! Sentencepiece BPE: merges follow from the vocabulary, spaces are replaced by marks, unknown characters become
//! bytes. Merges and parts are as in transformers (`integrations/gguf`, `LlamaTokenizer`, `GemmaTokenizer`), except
//! for the space before a text.

use super::{Parts, Vocabulary, bpe};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

/// Represents a space.
const MARK: &str = "\u{2581}";

/// The parts for a vocabulary with scores.
pub fn parts(vocabulary: &Vocabulary) -> Result<Parts> {
    match vocabulary.architecture.as_str() {
        // Runs of spaces are stored as spaces. Scores do not follow the order of merges; the ids do.
        "gemma" | "gemma2" | "gemma3" => {
            let spelled = vocabulary.tokens.iter().map(|token| match token.trim_matches(' ') {
                "" => MARK.repeat(token.len()),
                _ => token.clone(),
            });
            let tokens: Vec<String> = spelled.collect();
            let merges = merges(&tokens, |id| -f64::from(id));
            Ok(gemma(vocabulary, tokens.iter().cloned(), merges))
        }
        _ => {
            ensure!(!vocabulary.scores.is_empty(), "`tokenizer.ggml.scores` is missing");
            let scores = &vocabulary.scores;
            let merges = merges(&vocabulary.tokens, |id| f64::from(scores[id as usize]));
            let model = model(vocabulary, vocabulary.tokens.iter().cloned(), merges);
            let adds_space = vocabulary.add_space_prefix.unwrap_or(true);
            // Mistral's third tokenizer is the only one with turn markers as special tokens, and adds the space only
            // before the text; in the others it follows every special token, as in sentencepiece and llama.cpp.
            let only_first = vocabulary.tokens.iter().zip(&vocabulary.token_types);
            let mut only_first =
                only_first.filter(|&(token, &t)| token == "[INST]" && t == super::kind::CONTROL);
            let marked = json!({ "type": "Replace", "pattern": { "String": " " }, "content": MARK });
            let prepend = json!({ "type": "Prepend", "prepend": MARK });
            let (normalizer, pre_tokenizer) = match (adds_space, only_first.next().is_some()) {
                (false, _) => (marked, Value::Null),
                (true, false) => {
                    (json!({ "type": "Sequence", "normalizers": [prepend, marked] }), Value::Null)
                }
                (true, true) => (Value::Null, metaspace()),
            };
            Ok(Parts {
                normalizer,
                pre_tokenizer,
                decoder: decoder(adds_space),
                model,
                adds_bos: adds_bos(vocabulary),
            })
        }
    }
}

/// Gemma 4: the merges are listed. Its own tokenizer adds no BOS, regardless of `add_bos_token`: the chat template
/// does.
pub fn with_merges(vocabulary: &Vocabulary) -> Result<Parts> {
    let merges = vocabulary.listed_merges()?;
    Ok(Parts { adds_bos: Some(false), ..gemma(vocabulary, vocabulary.tokens.iter().cloned(), merges) })
}

/// Older files without this key get a BOS.
fn adds_bos(vocabulary: &Vocabulary) -> Option<bool> {
    Some(vocabulary.add_bos.unwrap_or(true))
}

fn gemma<'t>(
    vocabulary: &Vocabulary,
    tokens: impl Iterator<Item = String>,
    merges: Vec<(&'t str, &'t str)>,
) -> Parts {
    Parts {
        normalizer: json!({ "type": "Replace", "pattern": { "String": " " }, "content": MARK }),
        pre_tokenizer: json!({
            "type": "Split", "pattern": { "String": " " }, "behavior": "MergedWithPrevious", "invert": false,
        }),
        decoder: decoder(false),
        model: model(vocabulary, tokens, merges),
        adds_bos: adds_bos(vocabulary),
    }
}

fn model<'t>(
    vocabulary: &Vocabulary,
    tokens: impl Iterator<Item = String>,
    merges: Vec<(&'t str, &'t str)>,
) -> Value {
    let unknown = vocabulary.unknown.map(|id| &vocabulary.tokens[id as usize]);
    bpe(tokens, merges, json!({ "unk_token": unknown, "fuse_unk": true, "byte_fallback": true }))
}

fn metaspace() -> Value {
    json!({ "type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": false })
}

/// Decodes tokens to text, without the space that was added before it.
fn decoder(adds_space: bool) -> Value {
    let mut steps = vec![
        json!({ "type": "Replace", "pattern": { "String": MARK }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if adds_space {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

/// Every way to form a token from two others, best first: by the token's score, then by the longer left part, then by
/// the longer right part, then by id.
fn merges(tokens: &[String], score: impl Fn(u32) -> f64) -> Vec<(&str, &str)> {
    let ids: HashMap<&str, u32> = tokens.iter().map(String::as_str).zip(0..).collect();
    let mut merges = Vec::new();
    for (token, id) in tokens.iter().zip(0..) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                let longer = [left, right].map(|part| Reverse(part.chars().count()));
                merges.push((score(id), (longer, id, l, r), (left, right)));
            }
        }
    }
    merges.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)));
    merges.into_iter().map(|(_, _, pair)| pair).collect()
}
