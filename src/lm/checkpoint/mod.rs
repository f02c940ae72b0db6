//! One checkpoint, whatever its form, found and pinned. Reads no weights itself. It may come from a stranger: every JSON
//! file is bounded.

mod folder;

pub use folder::{Folder, TokenizerFiles};

use super::adapter::{AdapterFiles, Merged};
use super::family::Refused;
use super::spec::Spec;
use super::weights::{self, Dequantized, Shards, TensorSource};
use anyhow::{Context, Result, bail};
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

/// One model on disk: what it is computed with, and what turns text into its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder, for people.
    pub path: PathBuf,
    form: Form,
    /// The tokenizer's files.
    tokenizer: TokenizerFiles,
    adapter: Option<AdapterFiles>,
}

/// How a checkpoint is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A folder in Hugging Face's format.
    Folder(Folder),
}

/// What belongs to a checkpoint without being in it.
#[derive(Clone, Debug, Default)]
pub struct Beside<'a> {
    /// Names of files that its folder will have before weights are read.
    pub promised: &'a [&'a str],
    /// The tokenizer that is to be used in the place of its own.
    pub tokenizer: Option<TokenizerFiles>,
}

impl Checkpoint {
    /// Finds the files of the checkpoint at `path`, a folder.
    ///
    /// # Errors
    /// A file that is missing; a checkpoint that is stored as pickle only; a shard index that names
    /// anything but plain file names.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        Checkpoint::open_with(path, Beside::default())
    }

    /// Like [`Checkpoint::open`], with what is not in it.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn open_with(path: &Path, beside: Beside) -> Result<Checkpoint> {
        let open = || -> Result<Checkpoint> {
            let folder = Folder::open(path, beside.promised)?;
            let tokenizer =
                beside.tokenizer.map_or_else(|| TokenizerFiles::open(path, beside.promised), Ok)?;
            Ok(Checkpoint { path: path.to_path_buf(), form: Form::Folder(folder), tokenizer, adapter: None })
        };
        open().with_context(|| format!("checkpoint {}", path.display()))
    }

    /// The same with an adapter, which is merged when the weights are read.
    pub fn with_adapter(self, adapter: AdapterFiles) -> Checkpoint {
        Checkpoint { adapter: Some(adapter), ..self }
    }

    /// The adapter that is merged into the weights.
    pub fn adapter(&self) -> Option<&AdapterFiles> {
        self.adapter.as_ref()
    }

    /// The files that hold the weights, in the order of their names.
    pub fn weights(&self) -> &[PathBuf] {
        match &self.form {
            Form::Folder(folder) => &folder.weights,
        }
    }

    /// Every file that decides what the model computes, with its role, in a fixed order: weights,
    /// config, tokenizer, template, adapter.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let one = |role: &str, path: &PathBuf| (role.to_string(), path.clone());
        let mut files: Vec<(String, PathBuf)> =
            self.weights().iter().enumerate().map(|(i, path)| one(&format!("weights/{i}"), path)).collect();
        match &self.form {
            Form::Folder(folder) => {
                files.push(one("config", &folder.config));
                files.extend(folder.generation_config.iter().map(|path| one("generation_config", path)));
            }
        }
        let TokenizerFiles { tokenizer, config, chat_template } = &self.tokenizer;
        files.push(one("tokenizer", tokenizer));
        files.extend(config.iter().map(|path| one("tokenizer_config", path)));
        files.extend(chat_template.iter().map(|path| one("chat_template", path)));
        files.extend(self.adapter.iter().flat_map(AdapterFiles::files));
        files
    }

    /// What `config.json` says, or would.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read_config(&self) -> Result<Value> {
        match &self.form {
            Form::Folder(folder) => read_json(&folder.config, LARGEST_CONFIG),
        }
    }

    /// The model's sizes and switches. Reads no weights.
    ///
    /// # Errors
    /// Those of [`Spec::from_config`].
    pub fn spec(&self) -> Result<Spec> {
        self.read_config()
            .and_then(|config| Spec::from_config(&config))
            .map_err(|error| self.advised(error))
            .with_context(|| format!("checkpoint {}", self.path.display()))
    }

    /// `error`, which says in the place of a refused method of quantisation what the unquantised repository is likely
    /// called.
    pub(super) fn advised(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Refused>() {
            Ok(refused) => {
                let config = self.read_config().unwrap_or_default();
                refused.at(self.origin().as_deref(), config["_name_or_path"].as_str()).into()
            }
            Err(error) => error,
        }
    }

    /// The repository, where the folder is one of the hub's cache (`models--owner--name/snapshots/...`), or the
    /// folder's name.
    fn origin(&self) -> Option<String> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        let repo = parts.find_map(|part| Some(part.strip_prefix("models--")?.replacen("--", "/", 1)));
        repo.or_else(|| Some(self.path.file_name()?.to_str()?.to_string()))
    }

    /// The weights, of which only headers are read here.
    ///
    /// # Errors
    /// A file that cannot be read or is not what its name says.
    pub fn open_weights(&self) -> Result<Box<dyn TensorSource>> {
        let spec = self.spec()?;
        let own: Box<dyn TensorSource> = match &self.form {
            Form::Folder(folder) => {
                let stored = Shards::open(&folder.weights)?;
                match spec.quantization {
                    Some(method) => Box::new(Dequantized::open(stored, method, &spec)?),
                    None => Box::new(stored),
                }
            }
        };
        match &self.adapter {
            Some(adapter) => Ok(Box::new(Merged::open(own, adapter, &spec)?)),
            None => Ok(own),
        }
    }

    /// Whether the weights are those of `spec`, as far as headers say: every tensor is there with its shape, nothing else
    /// is, and no file is cut short.
    ///
    /// # Errors
    /// What is wrong; a file that cannot be read.
    pub fn check_weights(&self, spec: &Spec) -> Result<()> {
        let check = || weights::check_source(spec, &*self.open_weights()?);
        check().with_context(|| format!("checkpoint {}", self.path.display()))
    }

    /// The tokens that end a text: those of `config.json` and of `generation_config.json`.
    ///
    /// # Errors
    /// A file that cannot be read, or an id that is none.
    pub fn end_tokens(&self, spec: &Spec) -> Result<Vec<i64>> {
        let mut ids: BTreeSet<i64> = spec.eos.iter().copied().collect();
        match &self.form {
            Form::Folder(Folder { generation_config: Some(path), .. }) => {
                ids.extend(super::family::token_ids(&read_json(path, LARGEST_CONFIG)?, "eos_token_id")?);
            }
            Form::Folder(_) => {}
        }
        Ok(ids.into_iter().collect())
    }

    /// Where the tokenizer is from, for people.
    pub(super) fn tokenizer_path(&self) -> &Path {
        &self.tokenizer.tokenizer
    }

    /// The bytes of `tokenizer.json`.
    pub(super) fn read_tokenizer(&self) -> Result<Vec<u8>> {
        read(&self.tokenizer.tokenizer, LARGEST_TOKENIZER)
    }

    /// `tokenizer_config.json`, or an empty table.
    pub(super) fn read_tokenizer_config(&self) -> Result<Value> {
        self.tokenizer.config.as_ref().map_or(Ok(Value::Null), |path| read_json(path, LARGEST_CONFIG))
    }

    /// The text of `chat_template.jinja`.
    pub(super) fn read_chat_template(&self) -> Result<Option<String>> {
        let Some(path) = &self.tokenizer.chat_template else { return Ok(None) };
        let bytes = read(path, super::template::LARGEST_TEMPLATE as u64)?;
        Ok(Some(String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?))
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

pub(super) fn read_json(path: &Path, largest: u64) -> Result<Value> {
    serde_json::from_slice(&read(path, largest)?).with_context(|| format!("{} is not JSON", path.display()))
}
