//! Byte-level BPE: `tokenizer.ggml.pre` names the way in which a text is split first. Its names are llama.cpp's
//! (`src/llama-vocab.cpp`), who found them by comparing token ids with those of published tokenizers.

use super::{Parts, Vocabulary, bpe};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A regular expression of which each match is a piece.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_3_5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's; also what corrects a `tokenizer.json` of theirs that was written with another.
pub const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a `pre` stands for.
struct Splitting {
    pre_tokenizer: Value,
    /// Whether Unicode is composed first. llama.cpp leaves it as it is, and so does transformers for a GGUF file; the
    /// models were trained with it composed.
    composes: bool,
    /// Whether a piece that is a token as a whole becomes it, whatever the merges say.
    ignores_merges: bool,
    /// Whether a BOS is added where the file does not say so; `None`: it has to say so.
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
        // SmolLM 1 and 2; Granite 3: each digit by itself.
        "smollm" | "refact" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            plain(json!({ "type": "Sequence", "pretokenizers": [digits, byte_level(true)] }))
        }
        // Llama 3 adds a BOS; of other models with its vocabulary, SmolLM3 does not.
        "llama-bpe" | "llama3" | "llama-v3" => Splitting {
            ignores_merges: true,
            adds_bos: Some(true).filter(|_| architecture == "llama"),
            ..plain(by(LLAMA_3))
        },
        // OLMo 2 and others with the vocabulary of GPT-4.
        "dbrx" => plain(by(LLAMA_3)),
        "tekken" => Splitting { ignores_merges: true, adds_bos: Some(true), ..plain(by(TEKKEN)) },
        "qwen2" => Splitting { composes: true, ..plain(by(QWEN_2)) },
        "qwen35" => Splitting { composes: true, ..plain(by(QWEN_3_5)) },
        _ => return None,
    })
}

/// Bytes become printable characters; with GPT-2's own splitting first.
fn byte_level(splits: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits })
}

/// Split by a regular expression, then into bytes.
fn by(regex: &str) -> Value {
    json!({ "type": "Sequence", "pretokenizers": [split(regex), byte_level(false)] })
}

/// Each match of a regular expression is a piece, and so is what stands between them.
pub fn split(regex: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false })
}
