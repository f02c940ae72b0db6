//! Reading fields of a `config.json` that a stranger wrote: types, ranges, fields that must have the
//! one value that is understood, and fields that nobody read. Knows no family.

use crate::lm::spec::Dtype;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// No size in a real checkpoint comes near this; products of four sizes still fit in 128 bits and
/// those of two in 64.
const LARGEST: u64 = 1 << 28;

/// Fields that change nothing in what a text-only forward pass computes: bookkeeping, training,
/// defaults of generation, and what belongs to other towers.
const HARMLESS: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "audio_config",
    "audio_token_id",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "boa_token_id",
    "boi_token_id",
    "boi_token_index",
    "cache_implementation",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eoa_token_id",
    "eoa_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "id2label",
    "image_token_id",
    "image_token_index",
    "initializer_range",
    "is_decoder",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "mm_tokens_per_image",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_logits_to_keep",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "video_token_id",
    "vision_config",
    "vision_soft_tokens_per_image",
];

/// Fields that add a part to the model unless they are false, empty or absent.
const MUST_BE_OFF: &[&str] = &[
    "add_cross_attention",
    "alibi",
    "cross_attention_hidden_size",
    "is_encoder_decoder",
    "pruned_heads",
    "rope_interleaved",
    "tie_encoder_decoder",
    "use_qk_norm",
];

/// One table of a `config.json`, which remembers what was asked of it.
pub struct Fields<'a> {
    /// What stands before a field's name in an error: empty, or `text_config.`
    prefix: String,
    table: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// What is no table.
    pub fn new(prefix: &str, value: &'a Value) -> Result<Fields<'a>> {
        let table = value.as_object();
        let table =
            table.with_context(|| format!("config.json: `{prefix}` is {value}; a table is needed"))?;
        Ok(Fields { prefix: prefix.to_string(), table, read: RefCell::default() })
    }

    /// The field `key`, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_string());
        self.table.get(key).filter(|v| !v.is_null())
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The names of all fields.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.table.keys().map(String::as_str)
    }

    /// The table under `key`, if there is one.
    pub fn table(&self, key: &str) -> Result<Option<Fields<'a>>> {
        self.get(key).map(|value| Fields::new(&format!("{}{key}.", self.prefix), value)).transpose()
    }

    /// A field's name for people.
    pub fn name(&self, key: &str) -> String {
        format!("config.json: `{}{key}`", self.prefix)
    }

    /// A size in `1..=2^28`, or `default` where it is absent.
    pub fn size(&self, key: &str, default: impl Into<Option<usize>>) -> Result<usize> {
        let Some(value) = self.get(key) else {
            return default.into().with_context(|| format!("{} is missing", self.name(key)));
        };
        let size = value.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
        size.with_context(|| {
            format!("{} is {value}; a whole number from 1 to {LARGEST} is needed", self.name(key))
        })
    }

    /// Sizes in `1..=2^28`.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let value = self.get(key).with_context(|| format!("{} is missing", self.name(key)))?;
        let one = |v: &Value| v.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
        let sizes: Option<Vec<usize>> = value.as_array().and_then(|all| all.iter().map(one).collect());
        sizes.with_context(|| format!("{} is {value}; whole numbers from 1 are needed", self.name(key)))
    }

    /// A count in `0..=2^28`, 0 where it is absent.
    pub fn count(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => self.size(key, 0),
        }
    }

    /// A count in `0..=2^28`, or `default` where it is absent.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.count(key) } else { Ok(default) }
    }

    /// A positive finite number: `default` where the field is absent, `None` where it is null.
    pub fn positive_unless_null(&self, key: &str, default: f64) -> Result<Option<f64>> {
        if self.has(key) { self.positive(key) } else { Ok(Some(default)) }
    }

    /// A positive finite number, if it is there.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let number =
            number.with_context(|| format!("{} is {value}; a positive number is needed", self.name(key)));
        number.map(Some)
    }

    /// A positive finite number, or `default` where it is absent.
    pub fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.positive(key)?.unwrap_or(default))
    }

    /// A positive finite number that must be there.
    pub fn needed(&self, key: &str) -> Result<f64> {
        self.positive(key)?.with_context(|| format!("{} is missing", self.name(key)))
    }

    /// Positive finite numbers, `count` of them.
    pub fn numbers(&self, key: &str, count: usize) -> Result<Vec<f64>> {
        let value = self.get(key).with_context(|| format!("{} is missing", self.name(key)))?;
        let one = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|all| all.iter().map(one).collect());
        numbers
            .filter(|all| all.len() == count)
            .with_context(|| format!("{}: {count} positive numbers are needed", self.name(key)))
    }

    /// A switch, or `default` where it is absent.
    pub fn switch(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().with_context(|| format!("{} is {value}; true or false is needed", self.name(key)))
    }

    /// A word, if it is there.
    pub fn word(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).with_context(|| format!("{} is {value}; a text is needed", self.name(key)))
    }

    /// Refuses `key` unless it is absent or one of `understood`.
    pub fn only(&self, key: &str, understood: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(value) if !understood.contains(value) => {
                bail!("{} = {value} changes the computation and is not supported yet", self.name(key))
            }
            _ => Ok(()),
        }
    }

    /// Token ids written as a number or as a list of numbers; none where absent.
    pub fn token_ids(&self, key: &str) -> Result<Vec<i64>> {
        let one = |v: &Value| {
            v.as_i64()
                .filter(|id| (0..LARGEST as i64).contains(id))
                .with_context(|| format!("`{key}` holds {v}, which is no token id"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(one).collect(),
            Some(id) => Ok(vec![one(id)?]),
        }
    }

    /// The declared dtype: `dtype` (transformers 5) or `torch_dtype`.
    pub fn dtype(&self) -> Result<Option<Dtype>> {
        let (new, old) = (self.get("dtype"), self.get("torch_dtype"));
        let Some(value) = new.or(old) else { return Ok(None) };
        match value.as_str().map(|s| s.trim_start_matches("torch.")) {
            Some("float32") => Ok(Some(Dtype::F32)),
            Some("bfloat16") => Ok(Some(Dtype::Bf16)),
            Some("float16") => Ok(Some(Dtype::F16)),
            _ => bail!("config.json: dtype {value} is not supported (float32, bfloat16, float16)"),
        }
    }

    /// For each layer whether `layer_types` makes it a sliding one, or `default` where there is none.
    pub fn sliding(&self, n_layers: usize, default: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        let Some(value) = self.get("layer_types") else { return Ok((0..n_layers).map(default).collect()) };
        let kinds = value.as_array().with_context(|| format!("{} is no list", self.name("layer_types")))?;
        let kinds = kinds.iter().map(|kind| match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => bail!("{} holds {kind}, which is not supported yet", self.name("layer_types")),
        });
        let kinds = kinds.collect::<Result<Vec<bool>>>()?;
        ensure!(
            kinds.len() == n_layers,
            "{} has {} entries for {n_layers} layers",
            self.name("layer_types"),
            kinds.len()
        );
        Ok(kinds)
    }

    /// Refuses fields that nobody asked for and that may change the computation.
    pub fn finish(&self) -> Result<()> {
        for key in MUST_BE_OFF {
            let off = self.get(key).is_none_or(|value| {
                value == &Value::Bool(false)
                    || value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty)
            });
            ensure!(off, "{} changes the computation and is not supported yet", self.name(key));
        }
        let read = self.read.borrow();
        let unknown: Vec<String> = self
            .table
            .iter()
            .filter(|(key, value)| {
                let known = read.contains(*key) || HARMLESS.contains(&key.as_str());
                !known && !value.is_null() && !key.starts_with(['_']) && !key.starts_with("unsloth")
            })
            .map(|(key, value)| format!("`{}{key}` = {}", self.prefix, shortened(value)))
            .collect();
        ensure!(
            unknown.is_empty(),
            "config.json: not understood, and it may change what the model computes: {}. A field that changes \
             nothing belongs in the list `HARMLESS` of the family reader; in a copy of the checkpoint it can be \
             removed",
            unknown.join(", ")
        );
        Ok(())
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(40).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}
