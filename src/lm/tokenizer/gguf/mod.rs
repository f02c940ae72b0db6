//! Rebuilds the tokenizer of a GGUF file from its metadata, as the `tokenizer.json` and `tokenizer_config.json` that
//! the model was published with. A kind that the metadata does not determine is refused. Independent of the container
//! format and of the text.

mod byte_level;
mod sentencepiece;

pub(super) use byte_level::{TEKKEN, split};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// The tokenizer metadata of a GGUF file, each field named after its key.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default)]
pub struct Vocabulary {
    /// `general.architecture`
    pub architecture: String,
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (sentencepiece), `gemma4`.
    pub model: String,
    /// `tokenizer.ggml.pre`: how a text is split before byte-level BPE.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, in the order of their ids.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.scores`
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`: 3 for special tokens, 4 for added ones that are not special.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: two tokens with a space between them.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unknown: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub padding: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`
    pub chat_template: Option<String>,
}

/// The two files of a tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuilt {
    /// `tokenizer.json`
    pub tokenizer: Value,
    /// `tokenizer_config.json`
    pub config: Value,
}

/// Kinds of added tokens, as numbered by llama.cpp in `token_type`.
mod kind {
    /// Special tokens.
    pub const CONTROL: i32 = 3;
    /// Added tokens that are not special, such as `<think>`.
    pub const USER_DEFINED: i32 = 4;
}

/// How a kind of tokenizer treats text: the parts of `tokenizer.json` that the metadata only names.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// `model`, with its vocabulary and merges.
    model: Value,
    /// Whether a BOS is added before a text; `None`: unknown, since the file does not specify it.
    adds_bos: Option<bool>,
}

impl Vocabulary {
    /// The tokenizer's files.
    ///
    /// # Errors
    /// A kind of tokenizer, or a splitting rule, that the metadata does not determine; metadata that is missing or
    /// inconsistent.
    pub fn rebuild(&self) -> Result<Rebuilt> {
        self.check()?;
        let parts = match self.model.as_str() {
            // Some of its special tokens absorb the white space after them, and no key specifies which.
            _ if self.architecture == "phi3" => {
                Err(anyhow!("what special tokens of Phi do to spaces is not in it"))
            }
            "gpt2" => byte_level::parts(self),
            "llama" => sentencepiece::parts(self),
            "gemma4" => sentencepiece::with_merges(self),
            other => Err(anyhow!("`tokenizer.ggml.model` is `{other}`")),
        };
        let whole = parts.and_then(|parts| {
            let adds_bos = parts.adds_bos.context("`tokenizer.ggml.add_bos_token` is missing")?;
            let post_processor = if adds_bos { self.begins_with_bos()? } else { Value::Null };
            Ok((parts, post_processor))
        });
        let (parts, post_processor) = whole.context(
            "the tokenizer in the GGUF file cannot be rebuilt exactly; set `tokenizer` in the model's table to the \
             repository or folder of the model that the file was converted from",
        )?;
        let known = parts.model["vocab"].as_object().context("a model without a vocabulary")?;
        let added = self.added(known);
        let mut tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": parts.normalizer,
            "pre_tokenizer": parts.pre_tokenizer,
            "post_processor": post_processor,
            "decoder": parts.decoder,
        });
        tokenizer["model"] = parts.model; // moved, not cloned: it is large
        Ok(Rebuilt { tokenizer, config: self.config() })
    }

    fn check(&self) -> Result<()> {
        let n = self.tokens.len();
        ensure!(n > 0, "`tokenizer.ggml.tokens` is missing or empty");
        for (name, length) in [("scores", self.scores.len()), ("token_type", self.token_types.len())] {
            ensure!(
                length == 0 || length == n,
                "`tokenizer.ggml.{name}` has {length} entries for {n} tokens"
            );
        }
        ensure!(self.scores.iter().all(|score| !score.is_nan()), "`tokenizer.ggml.scores` holds NaN");
        for (name, id) in self.named_ids() {
            ensure!((id as usize) < n, "`{name}` is token {id}, of {n}");
        }
        let mut seen = HashSet::with_capacity(n);
        if let Some(twice) = self.tokens.iter().find(|token| !seen.insert(token.as_str())) {
            bail!("`tokenizer.ggml.tokens` holds {twice:?} twice");
        }
        Ok(())
    }

    /// The named tokens that the file specifies.
    fn named_ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let named = [
            ("bos_token", self.bos),
            ("eos_token", self.eos),
            ("unk_token", self.unknown),
            ("pad_token", self.padding),
        ];
        named.into_iter().filter_map(|(name, id)| Some((name, id?)))
    }

    /// The added tokens, which are matched in a text before everything else: special ones, and those added by the
    /// model's authors. A token that is spelled differently in the vocabulary is not included.
    fn added(&self, known: &Map<String, Value>) -> Vec<Value> {
        let types = self.token_types.iter().zip(0u32..);
        let of = |kind: i32| types.clone().filter(move |&(&t, _)| t == kind).map(|(_, id)| id);
        let mut special: BTreeMap<u32, bool> = of(kind::USER_DEFINED).map(|id| (id, false)).collect();
        special.extend(of(kind::CONTROL).chain(self.named_ids().map(|(_, id)| id)).map(|id| (id, true)));
        let tokens = special.into_iter().map(|(id, special)| (id, &self.tokens[id as usize], special));
        let spelled = tokens.filter(|(_, token, _)| known.contains_key(*token));
        let added = spelled.map(|(id, token, special)| {
            json!({
                "id": id, "content": token, "special": special,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        });
        added.collect()
    }

    /// Adds a BOS before the text. An EOS is never added after it: see [`encode`](super::Tokenizer::encode).
    fn begins_with_bos(&self) -> Result<Value> {
        let id = self.bos.context("a BOS is to be added, but the GGUF file names none")?;
        let bos = &self.tokens[id as usize];
        let mark = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
        let text = |name: &str, type_id: u32| json!({ "Sequence": { "id": name, "type_id": type_id } });
        let mut special = Map::new();
        special.insert(bos.clone(), json!({ "id": bos, "ids": [id], "tokens": [bos] }));
        Ok(json!({
            "type": "TemplateProcessing",
            "single": [mark, text("A", 0)],
            "pair": [mark, text("A", 0), mark, text("B", 1)],
            "special_tokens": special,
        }))
    }

    fn config(&self) -> Value {
        let mut config = Map::new();
        for (name, id) in self.named_ids() {
            config.insert(name.into(), json!(self.tokens[id as usize]));
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        Value::Object(config)
    }

    /// The merges listed in the file.
    fn listed_merges(&self) -> Result<Vec<(&str, &str)>> {
        ensure!(!self.merges.is_empty(), "`tokenizer.ggml.merges` is missing");
        let merges = self.merges.iter().map(|merge| {
            let pair = merge.split_once(' ').filter(|(_, right)| !right.contains(' '));
            pair.with_context(|| {
                format!("`tokenizer.ggml.merges` holds {merge:?}, which is no pair of tokens")
            })
        });
        merges.collect()
    }
}

/// A BPE `model` of `tokenizer.json`.
fn bpe<'t>(
    tokens: impl Iterator<Item = String>,
    merges: impl IntoIterator<Item = (&'t str, &'t str)>,
    options: Value,
) -> Value {
    let vocab: Map<String, Value> = tokens.zip(0u32..).map(|(token, id)| (token, json!(id))).collect();
    let merges: Vec<Value> = merges.into_iter().map(|(left, right)| json!([left, right])).collect();
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
    });
    for (name, value) in options.as_object().into_iter().flatten() {
        model[name] = value.clone();
    }
    model["vocab"] = Value::Object(vocab);
    model["merges"] = Value::Array(merges);
    model
}
