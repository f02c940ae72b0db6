//! One checkpoint, whatever its form, found and pinned. Reads no weights itself. It may come from a stranger: every JSON
//! file is bounded.

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

/// Bound on `config.json`, `generation_config.json` and `tokenizer_config.json`, in bytes; the
/// largest of popular checkpoints (added tokens of Gemma and Llama 3) take about 1.2 MB.
const LARGEST_CONFIG: u64 = 16 << 20;
/// Bound on `tokenizer.json` and the shard index, in bytes; Gemma's tokenizer takes 33 MB.
const LARGEST_TOKENIZER: u64 = 256 << 20;

/// One model on disk: what it is computed with, and what turns text into its tokens.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The folder, or the file.
    pub path: PathBuf,
    form: Form,
    weights: Vec<PathBuf>,
    /// The tokenizer's files; `None`: it is in the weights' file.
    tokenizer: Option<TokenizerFiles>,
    adapter: Option<AdapterFiles>,
    /// Fields of `config.json` that are read as if they were not there.
    ignore: Vec<String>,
}

/// How a checkpoint is stored.
#[derive(Clone, Debug)]
enum Form {
    /// A folder in Hugging Face's format.
    Folder(Folder),
    /// A GGUF file, or several that are one.
    Gguf(Arc<Gguf>),
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
    /// Finds the files of the checkpoint at `path`: a folder, or a GGUF file, whatever its name.
    ///
    /// # Errors
    /// A file that is missing; a checkpoint that is stored as pickle only; a shard index that names
    /// anything but plain file names; see also [`Gguf::open`].
    pub fn open(path: &Path) -> Result<Checkpoint> {
        Checkpoint::open_with(path, Beside::default())
    }

    /// Like [`Checkpoint::open`], with what is not in it.
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
        &self.weights
    }

    /// How the weights are stored, where they are computed from that: for people.
    pub fn dequantised_from(&self, spec: &Spec) -> Option<String> {
        match &self.form {
            Form::Folder(_) => spec.quantization.map(|method| method.to_string()),
            Form::Gguf(file) => Some(file.kinds()),
        }
    }

    /// Every file that decides what the model computes, with its role, in a fixed order: weights,
    /// config, tokenizer, template, adapter.
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

    /// What `config.json` says, or would.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read_config(&self) -> Result<Value> {
        match &self.form {
            Form::Folder(folder) => read_json(&folder.config, LARGEST_CONFIG),
            Form::Gguf(file) => file.config(),
        }
    }

    /// The same checkpoint, whose `config.json` is read as if it had not the `fields`.
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

    /// All that `config.json` says of the model, and what of it had no part in that.
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

    /// An error where NVIDIA's ModelOpt says in a file of its own, not in `config.json`, that it quantised the weights.
    fn refuse_modelopt(&self, config: &Value) -> Result<()> {
        let Form::Folder(_) = &self.form else { return Ok(()) };
        let path = self.path.join("hf_quant_config.json");
        if !path.is_file() || !config["quantization_config"].is_null() {
            return Ok(());
        }
        match read_json(&path, LARGEST_CONFIG)?["quantization"]["quant_algo"].as_str() {
            Some(algorithm) => bail!(Refused::new(format!("{algorithm} by NVIDIA ModelOpt"))),
            None => Ok(()), // of keys and values at most, which is for servers
        }
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

    /// Whether the weights are those of `spec`, as far as headers say: every tensor is there with its shape, nothing else
    /// is, and no file is cut short.
    ///
    /// # Errors
    /// What is wrong; a file that cannot be read.
    pub fn check_weights(&self, spec: &Spec) -> Result<()> {
        let check = || weights::check_source(spec, &*self.open_weights()?);
        check().with_context(|| format!("checkpoint {}", self.path.display()))
    }

    /// The tokens that end a text: those of `config.json` and of `generation_config.json`. What a family has by default
    /// counts only where neither names any, as in transformers' `generate`.
    ///
    /// # Errors
    /// A file that cannot be read, or an id that is none.
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

    /// Where the tokenizer is from, for people.
    pub(super) fn tokenizer_path(&self) -> &Path {
        self.tokenizer.as_ref().map_or(&self.path, |files| &files.tokenizer)
    }

    /// Whether the tokenizer is none of files of its own, but of what a GGUF file says of it.
    pub(super) fn tokenizer_is_rebuilt(&self) -> bool {
        self.tokenizer.is_none() && matches!(self.form, Form::Gguf(_))
    }

    /// `tokenizer.json`, and `tokenizer_config.json` or null: as they stand, or as the weights' file determines them.
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

    /// The text of `chat_template.jinja`.
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

/// An error where the file at `path`, which begins with `bytes`, is what git leaves in the place of a large file.
pub(super) fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(b"version https://git-lfs") {
        bail!(
            "{} is a pointer of Git LFS, not the file itself: `git lfs pull` in the folder that was cloned fetches it",
            path.display()
        );
    }
    Ok(())
}
