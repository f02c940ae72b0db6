//! A folder in Hugging Face's format: `config.json` and safetensors files. It may come from a stranger: no name leads out
//! of it.

use super::{LARGEST_TOKENIZER, read_json};
use anyhow::{Context, Result, ensure};
use fs_err as fs;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a folder, but for the tokenizer's.
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

/// What a folder has, or will have before weights are read.
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
    /// Finds the files in `dir`, which will have those called `promised`, too.
    ///
    /// # Errors
    /// See [`Checkpoint::open`](super::Checkpoint::open).
    pub fn open(dir: &Path, promised: &[&str]) -> Result<Folder> {
        ensure!(dir.is_dir(), "there is no such folder");
        let of = Contents { dir, promised };
        let config = of.needed("config.json")?;
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
    /// Finds the tokenizer's files in `dir`, which will have those called `promised`, too.
    ///
    /// # Errors
    /// There is no `tokenizer.json`.
    pub fn open(dir: &Path, promised: &[&str]) -> Result<TokenizerFiles> {
        let of = Contents { dir, promised };
        let tokenizer = of.needed("tokenizer.json").context(
            "only fast tokenizers are read; transformers writes one: \
             AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
        )?;
        let (config, chat_template) =
            (of.optional("tokenizer_config.json"), of.optional("chat_template.jinja"));
        Ok(TokenizerFiles { tokenizer, config, chat_template })
    }
}

/// The shards that an index names, each of which must be a plain file name in the same folder. The
/// file itself may be a link, as in the hub's own cache.
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

fn no_weights(of: &Contents) -> anyhow::Error {
    let is_pickle = |name: &String| [".bin", ".pt", ".pth"].iter().any(|ending| name.ends_with(ending));
    let entries = fs::read_dir(of.dir).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pickle = names.chain(of.promised.iter().map(|name| name.to_string())).find(is_pickle);
    match pickle {
        Some(name) => anyhow::anyhow!(
            "`{name}` is a pickle, which can run code when it is read; only safetensors are. Convert it where you \
             trust it: python -c \"from transformers import AutoModelForCausalLM as M; \
             M.from_pretrained('DIR').save_pretrained('DIR', safe_serialization=True)\""
        ),
        None => anyhow::anyhow!("there is neither `model.safetensors` nor `model.safetensors.index.json`"),
    }
}
