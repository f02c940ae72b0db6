//! A folder in Hugging Face's format: `config.json` and safetensors files. It is untrusted: no file name may lead out
//! of it.

use super::{LARGEST_TOKENIZER, read_json};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a folder, except the tokenizer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The single safetensors file, or the shards in the order of their names.
    pub weights: Vec<PathBuf>,
    /// `config.json`
    pub config: PathBuf,
    /// `generation_config.json`
    pub generation_config: Option<PathBuf>,
}

/// The files of a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`
    pub config: Option<PathBuf>,
    /// `chat_template.jinja`
    pub chat_template: Option<PathBuf>,
}

/// Files that a folder has, or will have before weights are read.
struct Contents<'a> {
    dir: &'a Path,
    promised: &'a [&'a str],
}

impl Contents<'_> {
    fn optional(&self, name: &str) -> Option<PathBuf> {
        Some(self.dir.join(name)).filter(|path| path.is_file() || self.promised.contains(&name))
    }

    fn needed(&self, name: &str) -> Result<PathBuf> {
        self.optional(name).with_context(|| format!("there is no `{name}`"))
    }
}

impl Folder {
    /// Finds the files in `dir`; files named in `promised` count as present.
    ///
    /// # Errors
    /// See [`Checkpoint::open`](super::Checkpoint::open).
    pub fn open(dir: &Path, promised: &[&str]) -> Result<Folder> {
        ensure!(dir.is_dir(), "there is no such folder");
        let of = Contents { dir, promised };
        let config = match of.optional("config.json") {
            Some(config) => config,
            None => return Err(no_config(&of)),
        };
        let index = of.optional("model.safetensors.index.json");
        let weights = match (of.optional("model.safetensors"), index) {
            (Some(single), _) => vec![single],
            (None, Some(index)) => shards(&of, &index)?,
            (None, None) => return Err(no_weights(&of)),
        };
        Ok(Folder { weights, config, generation_config: of.optional("generation_config.json") })
    }
}

impl TokenizerFiles {
    /// Finds the tokenizer's files in `dir`; files named in `promised` count as present.
    ///
    /// # Errors
    /// `tokenizer.json` is missing.
    pub fn open(dir: &Path, promised: &[&str]) -> Result<TokenizerFiles> {
        let of = Contents { dir, promised };
        let tokenizer = of.needed("tokenizer.json").context(
            "only fast tokenizers are read (a sentencepiece `tokenizer.model` alone is none): set `tokenizer` in the \
             model's table to a repository or folder that has it, or write one into a new folder with transformers: \
             AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(NEW)",
        )?;
        let (config, chat_template) =
            (of.optional("tokenizer_config.json"), of.optional("chat_template.jinja"));
        Ok(TokenizerFiles { tokenizer, config, chat_template })
    }
}

/// The shards listed in an index; each must be a plain file name in the same folder. The file itself may be a symbolic
/// link, as in the hub's own cache.
fn shards(of: &Contents, index: &Path) -> Result<Vec<PathBuf>> {
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
        ensure!(of.optional(name).is_some(), "shard `{name}` is missing");
    }
    Ok(names.into_iter().map(|name| of.dir.join(name)).collect())
}

/// All file names in the folder, present or promised.
fn names(of: &Contents) -> Vec<String> {
    let entries = fs::read_dir(of.dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.extend(of.promised.iter().map(|name| name.to_string()));
    names.sort();
    names.dedup();
    names
}

/// The error for a folder without `config.json`.
fn no_config(of: &Contents) -> anyhow::Error {
    const SHOWN: usize = 12;
    let names = names(of);
    let gguf: Vec<&str> = names.iter().filter(|name| name.ends_with(".gguf")).map(String::as_str).collect();
    if !gguf.is_empty() {
        let more = if gguf.len() > SHOWN { ", ..." } else { "" };
        let shown = gguf[..gguf.len().min(SHOWN)].join(", ");
        return anyhow::anyhow!(
            "it has GGUF files ({shown}{more}) and no `config.json`: choose one, download it if it is on the hub, and \
             give it as `path = \"file.gguf\"`"
        );
    }
    if of_its_makers(&names) {
        return makers_format();
    }
    anyhow::anyhow!("there is no `config.json`")
}

/// Whether there are files in Meta's or Mistral's own formats.
fn of_its_makers(names: &[String]) -> bool {
    names.iter().any(|name| name.starts_with("consolidated.") || name == "params.json" || name == "original")
}

fn makers_format() -> anyhow::Error {
    anyhow::anyhow!(
        "it is in the format of its makers' own program (`consolidated.*`, `params.json`, `original/`), which is not read: \
         use the repository in Hugging Face's format, with `config.json` and `model.safetensors`"
    )
}

fn no_weights(of: &Contents) -> anyhow::Error {
    let names = names(of);
    let is_pickle = |name: &&String| [".bin", ".pt", ".pth"].iter().any(|ending| name.ends_with(ending));
    if of_its_makers(&names) {
        return makers_format();
    }
    match names.iter().find(is_pickle) {
        Some(name) => anyhow::anyhow!(
            "`{name}` is a pickle, which can run code when it is read; only safetensors are. Write a converted copy where \
             you trust it: python -c \"from transformers import AutoModelForCausalLM as M; \
             M.from_pretrained('DIR').save_pretrained('NEW', safe_serialization=True)\""
        ),
        None => anyhow::anyhow!("there is neither `model.safetensors` nor `model.safetensors.index.json`"),
    }
}
