//! The files of one checkpoint folder in Hugging Face's format, found and pinned. Reads no weights.
//! The folder may come from a stranger: every JSON file is bounded, and no name leads out of it.

use super::spec::Spec;
use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bound on `config.json`, `generation_config.json` and `tokenizer_config.json`, in bytes; the
/// largest of popular checkpoints (added tokens of Gemma and Llama 3) take about 1.2 MB.
const LARGEST_CONFIG: u64 = 16 << 20;
/// Bound on `tokenizer.json` and the shard index, in bytes; Gemma's tokenizer takes 33 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;

/// The files of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder.
    pub dir: PathBuf,
    /// The single safetensors file, or the shards in the order of their names.
    pub weights: Vec<PathBuf>,
    /// `model.safetensors.index.json`, where there are shards.
    pub index: Option<PathBuf>,
    /// `config.json`
    pub config: PathBuf,
    /// `tokenizer.json`
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<PathBuf>,
    /// `chat_template.jinja`
    pub chat_template: Option<PathBuf>,
    /// `generation_config.json`
    pub generation_config: Option<PathBuf>,
}

impl Checkpoint {
    /// Finds the files of the checkpoint in `dir`.
    ///
    /// # Errors
    /// A file that is missing; a checkpoint that is stored as pickle only; a shard index that names
    /// anything but plain file names.
    pub fn open(dir: &Path) -> Result<Checkpoint> {
        Checkpoint::open_with(dir, &[])
    }

    /// Like [`Checkpoint::open`], for a folder that will have the files called `promised` before weights are read.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn open_with(dir: &Path, promised: &[&str]) -> Result<Checkpoint> {
        open(dir, promised).with_context(|| format!("checkpoint {}", dir.display()))
    }

    /// Every file that decides what the model computes, with its role, in a fixed order: weights,
    /// config, tokenizer, template.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let weights = self.weights.iter().enumerate().map(|(i, path)| (format!("weights/{i}"), path.clone()));
        let one = |role: &str, path: &PathBuf| (role.to_string(), path.clone());
        let mut files: Vec<(String, PathBuf)> = weights.collect();
        files.push(one("config", &self.config));
        files.extend(self.generation_config.iter().map(|path| one("generation_config", path)));
        files.push(one("tokenizer", &self.tokenizer));
        files.extend(self.tokenizer_config.iter().map(|path| one("tokenizer_config", path)));
        files.extend(self.chat_template.iter().map(|path| one("chat_template", path)));
        files
    }

    /// Reads `config.json` alone.
    ///
    /// # Errors
    /// Those of [`Spec::from_config`].
    pub fn spec(&self) -> Result<Spec> {
        Spec::from_config(&read_json(&self.config, LARGEST_CONFIG)?)
            .with_context(|| format!("checkpoint {}", self.dir.display()))
    }

    /// The tokens that end a text: those of `config.json` and of `generation_config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, or an id that is none.
    pub fn end_tokens(&self, spec: &Spec) -> Result<Vec<i64>> {
        let mut ids: BTreeSet<i64> = spec.eos.iter().copied().collect();
        if let Some(path) = &self.generation_config {
            ids.extend(super::family::token_ids(&read_json(path, LARGEST_CONFIG)?, "eos_token_id")?);
        }
        Ok(ids.into_iter().collect())
    }

    /// The bytes of `tokenizer.json`.
    pub(super) fn read_tokenizer(&self) -> Result<Vec<u8>> {
        read(&self.tokenizer, LARGEST_TOKENIZER)
    }

    /// `tokenizer_config.json`, or an empty table.
    pub(super) fn read_tokenizer_config(&self) -> Result<Value> {
        self.tokenizer_config.as_ref().map_or(Ok(Value::Null), |path| read_json(path, LARGEST_CONFIG))
    }

    /// The text of `chat_template.jinja`.
    pub(super) fn read_chat_template(&self) -> Result<Option<String>> {
        let Some(path) = &self.chat_template else { return Ok(None) };
        let bytes = read(path, super::template::LARGEST_TEMPLATE as u64)?;
        Ok(Some(String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?))
    }
}

fn open(dir: &Path, promised: &[&str]) -> Result<Checkpoint> {
    ensure!(dir.is_dir(), "there is no such folder");
    let optional =
        |name: &str| Some(dir.join(name)).filter(|path| path.is_file() || promised.contains(&name));
    let needed = |name: &str| optional(name).with_context(|| format!("there is no `{name}`"));
    let config = needed("config.json")?;
    let (weights, index) = match (optional("model.safetensors"), optional("model.safetensors.index.json")) {
        (Some(single), _) => (vec![single], None),
        (None, Some(index)) => (shards(dir, &index, promised)?, Some(index)),
        (None, None) => return Err(no_weights(dir, promised)),
    };
    let tokenizer = needed("tokenizer.json").context(
        "only fast tokenizers are read; transformers writes one: \
         AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
    )?;
    Ok(Checkpoint {
        dir: dir.to_path_buf(),
        weights,
        index,
        config,
        tokenizer,
        tokenizer_config: optional("tokenizer_config.json"),
        chat_template: optional("chat_template.jinja"),
        generation_config: optional("generation_config.json"),
    })
}

/// The shards that an index names, each of which must be a plain file name in the same folder. The
/// file itself may be a link, as in the hub's own cache.
fn shards(dir: &Path, index: &Path, promised: &[&str]) -> Result<Vec<PathBuf>> {
    let json = read_json(index, LARGEST_TOKENIZER)?;
    let map = json["weight_map"].as_object().context("the shard index has no `weight_map`")?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().with_context(|| format!("the shard index names {name} as a file"))?;
        let plain = !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.');
        ensure!(
            plain && name.ends_with(".safetensors"),
            "the shard index names {name:?}, which is not the name of a safetensors file in this folder"
        );
        names.insert(name);
    }
    ensure!(!names.is_empty(), "the shard index names no file");
    for name in &names {
        ensure!(dir.join(name).is_file() || promised.contains(name), "shard `{name}` is missing");
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn no_weights(dir: &Path, promised: &[&str]) -> anyhow::Error {
    let is_pickle = |name: &String| [".bin", ".pt", ".pth"].iter().any(|ending| name.ends_with(ending));
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pickle = names.chain(promised.iter().map(|name| name.to_string())).find(is_pickle);
    match pickle {
        Some(name) => anyhow::anyhow!(
            "`{name}` is a pickle, which can run code when it is read; only safetensors are. Convert it where you \
             trust it: python -c \"from transformers import AutoModelForCausalLM as M; \
             M.from_pretrained('DIR').save_pretrained('DIR', safe_serialization=True)\""
        ),
        None => anyhow::anyhow!("there is neither `model.safetensors` nor `model.safetensors.index.json`"),
    }
}

fn read(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        bail!("{} is larger than {largest} bytes", path.display());
    }
    Ok(bytes)
}

fn read_json(path: &Path, largest: u64) -> Result<Value> {
    serde_json::from_slice(&read(path, largest)?).with_context(|| format!("{} is not JSON", path.display()))
}
