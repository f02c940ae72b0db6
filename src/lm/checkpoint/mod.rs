//! One checkpoint, in any supported form, located and pinned. Does not read weights itself. It is untrusted: the size
//! of every JSON file is bounded.

mod folder;

pub use folder::{Folder, TokenizerFiles};

use super::adapter::{AdapterFiles, Merged};
use super::family::{self, Reading, Refused};
use super::gguf::{self, Gguf};
use super::spec::Spec;
use super::tokenizer::gguf::Rebuilt;
use super::weights::{self, Dequantized, Shards, TensorSource};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Limit on `config.json`, `generation_config.json` and `tokenizer_config.json`, in bytes; the largest of popular
/// checkpoints (added tokens of Gemma and Llama 3) take about 1.2 MB.
const LARGEST_CONFIG: u64 = 16 << 20;
/// Limit on `tokenizer.json` and the shard index, in bytes; Gemma's tokenizer takes 33 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;

/// One model on disk: its weights and config, and its tokenizer.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The folder, or the file.
    pub path: PathBuf,
    form: Form,
    weights: Vec<PathBuf>,
    /// The tokenizer's files; `None`: the tokenizer is in the weights file.
    tokenizer: Option<TokenizerFiles>,
    adapter: Option<AdapterFiles>,
    /// Fields of `config.json` that are treated as absent.
    ignore: Vec<String>,
}

/// How a checkpoint is stored.
#[derive(Clone, Debug)]
enum Form {
    /// A folder in Hugging Face's format.
    Folder(Folder),
    /// A GGUF file, possibly split into several.
    Gguf(Arc<Gguf>),
}

/// Parts of a checkpoint that are stored elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Beside<'a> {
    /// Names of files that its folder will have before weights are read.
    pub promised: &'a [&'a str],
    /// The tokenizer to use instead of the checkpoint's own.
    pub tokenizer: Option<TokenizerFiles>,
}

impl Checkpoint {
    /// Finds the files of the checkpoint at `path`: a folder, or a GGUF file of any name.
    ///
    /// # Errors
    /// A file that is missing; a checkpoint that is stored only as pickle; a shard index with anything but plain file
    /// names; see also [`Gguf::open`].
    pub fn open(path: &Path) -> Result<Checkpoint> {
        Checkpoint::open_with(path, Beside::default())
    }

    /// Like [`Checkpoint::open`], with the parts that are stored elsewhere.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn open_with(path: &Path, beside: Beside) -> Result<Checkpoint> {
        let open = || -> Result<Checkpoint> {
            let (form, weights, own) = if path.is_file() {
                let file = Arc::new(Gguf::open(path)?);
                let weights = file.paths();
                (Form::Gguf(file), weights, None)
            } else {
                let folder = Folder::open(path, beside.promised)?;
                let weights = folder.weights.clone();
                let own = beside.tokenizer.is_none().then(|| TokenizerFiles::open(path, beside.promised));
                (Form::Folder(folder), weights, own.transpose()?)
            };
            let tokenizer = beside.tokenizer.or(own);
            let path = path.to_path_buf();
            Ok(Checkpoint { path, form, weights, tokenizer, adapter: None, ignore: Vec::new() })
        };
        open().with_context(|| format!("checkpoint {}", path.display()))
    }

    /// The same checkpoint with an adapter, which is merged when the weights are read.
    pub fn with_adapter(self, adapter: AdapterFiles) -> Checkpoint {
        Checkpoint { adapter: Some(adapter), ..self }
    }

    /// The adapter to merge into the weights.
    pub fn adapter(&self) -> Option<&AdapterFiles> {
        self.adapter.as_ref()
    }

    /// The files that hold the weights, sorted by name.
    pub fn weights(&self) -> &[PathBuf] {
        &self.weights
    }

    /// Description of the storage format, if the weights are dequantised from it.
    pub fn dequantised_from(&self, spec: &Spec) -> Option<String> {
        match &self.form {
            Form::Folder(_) => spec.quantization.map(|method| method.to_string()),
            Form::Gguf(file) => Some(file.kinds()),
        }
    }

    /// Every file that affects what the model computes, with its role, in a fixed order: weights, config, tokenizer,
    /// template, adapter.
    pub fn files(&self) -> Vec<(String, PathBuf)> {
        let one = |role: &str, path: &PathBuf| (role.to_string(), path.clone());
        let mut files: Vec<(String, PathBuf)> =
            self.weights().iter().enumerate().map(|(i, path)| one(&format!("weights/{i}"), path)).collect();
        if let Form::Folder(folder) = &self.form {
            files.push(one("config", &folder.config));
            files.extend(folder.generation_config.iter().map(|path| one("generation_config", path)));
        }
        if let Some(TokenizerFiles { tokenizer, config, chat_template }) = &self.tokenizer {
            files.push(one("tokenizer", tokenizer));
            files.extend(config.iter().map(|path| one("tokenizer_config", path)));
            files.extend(chat_template.iter().map(|path| one("chat_template", path)));
        }
        files.extend(self.adapter.iter().flat_map(AdapterFiles::files));
        files
    }

    /// The parsed `config.json`, or its equivalent reconstructed from a GGUF file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read_config(&self) -> Result<Value> {
        match &self.form {
            Form::Folder(folder) => read_json(&folder.config, LARGEST_CONFIG),
            Form::Gguf(file) => file.config(),
        }
    }

    /// The same checkpoint, with `fields` of its `config.json` treated as absent.
    pub fn ignoring(self, fields: &[String]) -> Checkpoint {
        Checkpoint { ignore: fields.to_vec(), ..self }
    }

    /// The model's sizes and switches. Reads no weights.
    ///
    /// # Errors
    /// Those of [`family::read`].
    pub fn spec(&self) -> Result<Spec> {
        Ok(self.reading()?.spec)
    }

    /// Everything that `config.json` states about the model, and which of its fields were unread or ignored.
    ///
    /// # Errors
    /// Those of [`family::read`].
    pub fn reading(&self) -> Result<Reading> {
        self.read_config()
            .and_then(|config| {
                self.refuse_modelopt(&config)?;
                family::read(&config, &self.ignore)
            })
            .map_err(|error| self.advised(error))
            .with_context(|| format!("checkpoint {}", self.path.display()))
    }

    /// An error if NVIDIA's ModelOpt declares the weights quantised in a file of its own and not in `config.json`.
    fn refuse_modelopt(&self, config: &Value) -> Result<()> {
        let Form::Folder(_) = &self.form else { return Ok(()) };
        let path = self.path.join("hf_quant_config.json");
        if !path.is_file() || !config["quantization_config"].is_null() {
            return Ok(());
        }
        match read_json(&path, LARGEST_CONFIG)?["quantization"]["quant_algo"].as_str() {
            Some(algorithm) => bail!(Refused::new(format!("{algorithm} by NVIDIA ModelOpt"))),
            None => Ok(()), // at most the key/value cache is quantised, which concerns only servers
        }
    }

    /// `error`; if it refuses a quantisation method, the likely name of the unquantised repository is added.
    pub(super) fn advised(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Refused>() {
            Ok(refused) => {
                let config = self.read_config().unwrap_or_default();
                refused.at(self.origin().as_deref(), config["_name_or_path"].as_str()).into()
            }
            Err(error) => error,
        }
    }

    /// The repository, if the folder is in the hub's cache (`models--owner--name/snapshots/...`), or the folder's
    /// name.
    fn origin(&self) -> Option<String> {
        let mut parts = self.path.iter().filter_map(|part| part.to_str());
        let repo = parts.find_map(|part| Some(part.strip_prefix("models--")?.replacen("--", "/", 1)));
        repo.or_else(|| Some(self.path.file_name()?.to_str()?.to_string()))
    }

    /// Opens the weights; reads only headers.
    ///
    /// # Errors
    /// A file that cannot be read or is not in the format of its name.
    pub fn open_weights(&self) -> Result<Box<dyn TensorSource>> {
        let spec = self.spec()?;
        let own: Box<dyn TensorSource> = match (&self.form, spec.quantization) {
            (Form::Folder(folder), Some(method)) => {
                Box::new(Dequantized::open(Shards::open(&folder.weights)?, method, &spec)?)
            }
            (Form::Folder(folder), None) => Box::new(Shards::open(&folder.weights)?),
            (Form::Gguf(file), _) => Box::new(gguf::Source::new(file.clone(), &spec)?),
        };
        match &self.adapter {
            Some(adapter) => Ok(Box::new(Merged::open(own, adapter, &spec)?)),
            None => Ok(own),
        }
    }

    /// Checks the weights against `spec` by their headers alone: every tensor is present with its shape, there are no
    /// others, and no file is truncated.
    ///
    /// # Errors
    /// Every mismatch; a file that cannot be read.
    pub fn check_weights(&self, spec: &Spec) -> Result<()> {
        let check = || weights::check_source(spec, &*self.open_weights()?);
        check().with_context(|| format!("checkpoint {}", self.path.display()))
    }

    /// The tokens that end a text: those of `config.json` and of `generation_config.json`. A family's default applies
    /// only if neither names any, as in transformers' `generate`.
    ///
    /// # Errors
    /// A file that cannot be read, or an invalid token id.
    pub fn end_tokens(&self, spec: &Spec) -> Result<Vec<i64>> {
        let mut ids: BTreeSet<i64> = spec.eos.iter().copied().collect();
        if let Form::Folder(Folder { generation_config: Some(path), .. }) = &self.form {
            let own = super::family::token_ids(&read_json(path, LARGEST_CONFIG)?, "eos_token_id")?;
            if !own.is_empty() && !self.read_config()?.to_string().contains("\"eos_token_id\"") {
                ids.clear();
            }
            ids.extend(own);
        }
        Ok(ids.into_iter().collect())
    }

    /// Where the tokenizer comes from, for messages.
    pub(super) fn tokenizer_path(&self) -> &Path {
        self.tokenizer.as_ref().map_or(&self.path, |files| &files.tokenizer)
    }

    /// Whether the tokenizer is rebuilt from the metadata of a GGUF file instead of files of its own.
    pub(super) fn tokenizer_is_rebuilt(&self) -> bool {
        self.tokenizer.is_none() && matches!(self.form, Form::Gguf(_))
    }

    /// `tokenizer.json`, and `tokenizer_config.json` or null: from their files, or as rebuilt from the weights file.
    pub(super) fn read_tokenizer(&self) -> Result<(Vec<u8>, Value)> {
        match (&self.tokenizer, &self.form) {
            (Some(files), _) => {
                let config = files.config.as_ref().map(|path| read_json(path, LARGEST_CONFIG));
                Ok((read(&files.tokenizer, LARGEST_TOKENIZER)?, config.transpose()?.unwrap_or_default()))
            }
            (None, Form::Gguf(file)) => {
                let Rebuilt { tokenizer, config } = file.vocabulary()?.rebuild()?;
                Ok((serde_json::to_vec(&tokenizer)?, config))
            }
            (None, Form::Folder(_)) => bail!("there is no `tokenizer.json`"),
        }
    }

    /// The contents of `chat_template.jinja`.
    pub(super) fn read_chat_template(&self) -> Result<Option<String>> {
        let path = self.tokenizer.as_ref().and_then(|files| files.chat_template.as_ref());
        let Some(path) = path else { return Ok(None) };
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
    refuse_pointer(path, &bytes)?;
    Ok(bytes)
}

pub(super) fn read_json(path: &Path, largest: u64) -> Result<Value> {
    serde_json::from_slice(&read(path, largest)?).with_context(|| format!("{} is not JSON", path.display()))
}

/// An error if the file at `path`, which begins with `bytes`, is a Git LFS pointer.
pub(super) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(b"version https://git-lfs") {
        bail!(
            "{} is a pointer of Git LFS, not the file itself: `git lfs pull` in the folder that was cloned fetches it",
            path.display()
        );
    }
    Ok(())
}
