//! Byte-level BPE: `tokenizer.ggml.pre` names the rule by which a text is first split. The names are llama.cpp's
//! (`src/llama-vocab.cpp`), whose authors identified them by comparing token ids with those of published tokenizers.

use super::{Parts, Vocabulary, bpe};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Splitting rules as regular expressions; each match is a piece.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's; also the correction for a `tokenizer.json` of Mistral's that was written with another expression.
pub const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The splitting rule that a `pre` names.
struct Splitting {
    pre_tokenizer: Value,
    /// Whether Unicode is composed (NFC) first. llama.cpp does not compose, nor does transformers for a GGUF file; the
    /// models were trained with composed text.
    composes: bool,
    /// Whether a piece that is itself a token becomes that token, regardless of the merges.
    ignores_merges: bool,
    /// Whether a BOS is added if the file does not specify it; `None`: the file must specify it.
    adds_bos: Option<bool>,
}

pub fn parts(vocabulary: &Vocabulary) -> Result<Parts> {
    let pre = vocabulary.pre.as_deref().context("there is no `tokenizer.ggml.pre`")?;
    let Some(splitting) = splitting(pre, &vocabulary.architecture) else {
        bail!(
            "`tokenizer.ggml.pre` is `{pre}`, which is none of those known to split text in one certain way"
        )
    };
    let options = json!({ "ignore_merges": splitting.ignores_merges });
    Ok(Parts {
        normalizer: if splitting.composes { json!({ "type": "NFC" }) } else { Value::Null },
        pre_tokenizer: splitting.pre_tokenizer,
        decoder: byte_level(false),
        model: bpe(vocabulary.tokens.iter().cloned(), vocabulary.listed_merges()?, options),
        adds_bos: vocabulary.add_bos.or(splitting.adds_bos),
    })
}

fn splitting(pre: &str, architecture: &str) -> Option<Splitting> {
    let plain = |pre_tokenizer| Splitting {
        pre_tokenizer,
        composes: false,
        ignores_merges: false,
        adds_bos: Some(false),
    };
    Some(match pre {
        "gpt-2" => plain(byte_level(true)),
        // SmolLM 1 and 2; Granite 3: each digit is a separate piece.
        "smollm" | "refact" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            plain(json!({ "type": "Sequence", "pretokenizers": [digits, byte_level(true)] }))
        }
        // Llama 3 adds a BOS; SmolLM3, which has the same vocabulary, does not.
        "llama-bpe" | "llama3" | "llama-v3" => Splitting {
            ignores_merges: true,
            adds_bos: Some(true).filter(|_| architecture == "llama"),
            ..plain(by(LLAMA_3))
        },
        // OLMo 2 and other models with GPT-4's vocabulary.
        "dbrx" => plain(by(LLAMA_3)),
        "tekken" => Splitting { ignores_merges: true, adds_bos: Some(true), ..plain(by(TEKKEN)) },
        "qwen2" => Splitting { composes: true, ..plain(by(QWEN_2)) },
        "qwen35" => Splitting { composes: true, ..plain(by(QWEN_3_5)) },
        _ => return None,
    })
}

/// Maps bytes to printable characters; with GPT-2's own splitting first if `splits`.
fn byte_level(splits: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits })
}

/// Splits by a regular expression, then maps to bytes.
fn by(regex: &str) -> Value {
    json!({ "type": "Sequence", "pretokenizers": [split(regex), byte_level(false)] })
}

/// Each match of a regular expression is a piece, and so is the text between matches.
pub fn split(regex: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false })
}
