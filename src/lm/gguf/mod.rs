//! GGUF files: their contents, located and pinned, and reading of their tensors. Quantised blocks are decoded as in
//! gguf-py, in float32, and rounded once to the requested type.
//!
//! A file is untrusted: sizes in its header are bounded, and data is read with `read`, not mapped, so that a truncated
//! file is an error.

mod architecture;
mod blocks;
mod config;
mod metadata;
mod names;
mod source;
mod undo;
mod vocabulary;

pub use blocks::Rows;
pub use metadata::Metadata;
pub use source::Source;

use anamnesis::{GgufType, ParseLimits, parse_gguf_front_matter_from_reader_with_limits};
use anyhow::{Context, Result, anyhow, bail, ensure};
use fs_err as fs;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Limits on what a header may make the reader allocate: total bytes, and tensors or keys. The largest of popular
/// models (a vocabulary of 262,144 tokens with merges) takes about 60 MB; mixtures of experts have about a thousand
/// tensors.
const LARGEST_HEADER: u64 = 1 << 30;
const MOST_ITEMS: u64 = 200_000;

/// A GGUF file, or the parts of one that was split.
pub struct Gguf {
    files: Vec<Part>,
    metadata: Metadata,
    tensors: Vec<Stored>,
}

struct Part {
    path: PathBuf,
    file: fs::File,
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gguf {:?} of {} tensors", self.paths(), self.tensors.len())
    }
}

/// A stored tensor.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name in the file.
    pub name: String,
    /// Its shape, the slowest axis first.
    pub shape: Vec<i64>,
    kind: GgufType,
    /// Index of the file that holds it, and offset in that file.
    part: usize,
    offset: u64,
}

impl Stored {
    /// The type of its numbers or blocks, by its GGUF name.
    pub fn kind(&self) -> String {
        self.kind.to_string()
    }
}

impl Gguf {
    /// Opens the file at `path` and, if it is the first part of a split file, the other parts next to it. Reads only
    /// headers.
    ///
    /// # Errors
    /// A file that is not the GGUF file of a language model; a missing part; an unknown block type.
    pub fn open(path: &Path) -> Result<Gguf> {
        let (first, metadata, mut tensors) = header(path, 0)?;
        let kind = metadata.word("general.type")?.unwrap_or("model");
        let architecture = metadata.word("general.architecture")?.unwrap_or_default();
        match (kind, architecture) {
            ("mmproj", _) | (_, "clip") => bail!(
                "it holds the part of a model that sees or hears (mmproj), not the language model, which is in a file \
                 of its own: give that one"
            ),
            ("adapter", _) => bail!(
                "it holds an adapter, not a model; `adapter` takes adapters as PEFT saves them, in safetensors"
            ),
            ("model", _) => {}
            (other, _) => bail!("it holds a GGUF of type `{other}`, not a model"),
        }
        let mut files = vec![first];
        let count = metadata.whole("split.count")?.unwrap_or(1);
        if count > 1 {
            for (at, path) in others(path, count)?.into_iter().enumerate() {
                let (part, of_part, found) =
                    header(&path, at + 1).with_context(|| path.display().to_string())?;
                let number = of_part.whole("split.no")?;
                ensure!(
                    number == Some(at as u64 + 1),
                    "{} is part {number:?} by its own count",
                    path.display()
                );
                files.push(part);
                tensors.extend(found);
            }
        }
        let mut names = HashSet::new();
        for tensor in &tensors {
            ensure!(names.insert(&tensor.name), "tensor `{}` is there twice", tensor.name);
        }
        ensure!(!tensors.is_empty(), "it holds no tensors, only a vocabulary");
        Ok(Gguf { files, metadata, tensors })
    }

    /// The metadata as a `config.json`.
    ///
    /// # Errors
    /// An unknown architecture; a key that is missing, of another type, or not understood.
    pub fn config(&self) -> Result<Value> {
        config::read(self)
    }

    /// Its files, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|part| part.path.clone()).collect()
    }

    /// The file's metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All stored tensors.
    pub fn tensors(&self) -> &[Stored] {
        &self.tensors
    }

    /// The tensor `name`.
    pub fn tensor(&self, name: &str) -> Option<&Stored> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The number of tensors of each type, the most frequent first: `Q4_1 (210 tensors), F32 (61), Q8_0 (1)`.
    pub fn kinds(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for tensor in &self.tensors {
            *counts.entry(tensor.kind()).or_default() += 1;
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut parts = counts.iter().map(|(kind, count)| format!("{kind} ({count})"));
        let first = parts.next().unwrap_or_default().replace(')', " tensors)");
        std::iter::once(first).chain(parts).collect::<Vec<_>>().join(", ")
    }
}

/// The file at `path` with its metadata and its tensors; `at` is its part number.
fn header(path: &Path, at: usize) -> Result<(Part, Metadata, Vec<Stored>)> {
    let file = fs::File::open(path)?;
    let limits = ParseLimits::default().with_max_total_bytes(LARGEST_HEADER).with_max_item_count(MOST_ITEMS);
    let mut begin = [0; 32];
    let read = std::os::unix::fs::FileExt::read_at(file.file(), &mut begin, 0)?;
    crate::lm::checkpoint::refuse_pointer(path, &begin[..read])?;
    let front = parse_gguf_front_matter_from_reader_with_limits(file.file(), &limits);
    let front = front.map_err(|e| anyhow!("{e}"))?;
    let tensors = front.tensor_infos.into_iter().map(|info| {
        blocks::ensure_known(info.dtype).with_context(|| format!("tensor `{}`", info.name))?;
        Ok(Stored {
            name: info.name,
            shape: info.shape.iter().rev().map(|&n| n as i64).collect(),
            kind: info.dtype,
            part: at,
            offset: info.data_offset,
        })
    });
    let tensors = tensors.collect::<Result<Vec<Stored>>>()?;
    Ok((Part { path: path.to_path_buf(), file }, Metadata::new(front.metadata), tensors))
}

/// Paths of the second to the last of `count` parts; `path` is the first part.
fn others(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let first = format!("-00001-of-{count:05}.gguf");
    let stem = name.strip_suffix(&first).with_context(|| {
        format!("it is one of {count} parts: give the first of them, whose name ends in `{first}`")
    })?;
    let all = (2..=count).map(|number| {
        let part = path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf"));
        ensure!(part.is_file(), "part {number} of {count} is missing: `{}`", part.display());
        Ok(part)
    });
    all.collect()
}
