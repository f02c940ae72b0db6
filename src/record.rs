//! `run.json`: the record of the last run, written and read only through these types. Independent of how a run is
//! executed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic;
use crate::lm::{Dtype, Layer};
use crate::plan::key::{Digest, Key};
use crate::store::Process;

/// The file's name in an experiment's results.
pub const FILE: &str = "run.json";

/// The version of this program.
pub const EMOFLOW: &str = env!("CARGO_PKG_VERSION");
/// The version of libtorch that this program is built for.
pub const LIBTORCH: &str = env!("EMOFLOW_LIBTORCH_VERSION");

/// Defines a struct, and `FIELDS` with the name and doc comment of each field.
macro_rules! described {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[serde($($serde:tt)*)])?
                pub $field:ident: $type:ty,
            )+
        }
    ) => {
        $(#[$outer])*
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[serde($($serde)*)])?
                pub $field: $type,
            )+
        }

        impl $name {
            /// Each field's name and meaning.
            pub const FIELDS: &[(&str, &str)] = &[$((stringify!($field), concat!($($doc),*))),+];
        }
    };
}

described! {
    /// A run: what was run, on what, and how it went. What an earlier version did not say is empty.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Run {
        /// The experiment file, whose results these are.
        #[serde(default)]
        pub file: Option<PathBuf>,
        /// The experiment as it was understood, with every default.
        #[serde(default)]
        pub experiment: Value,
        #[serde(default)]
        pub models: Vec<Model>,
        /// Sources of stories that came from the hub.
        #[serde(default)]
        pub datasets: Vec<Dataset>,
        /// What stood for the models at servers, by source: one, but where variants name several.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub served: BTreeMap<String, Vec<Digest>>,
        #[serde(default)]
        pub device: Device,
        #[serde(default)]
        pub versions: Versions,
        /// How it went, node by node; empty until it has ended.
        pub nodes: Vec<NodeOutcome>,
        #[serde(default)]
        pub summary: Summary,
        /// It was asked to stop before all was done: the same command continues.
        #[serde(default)]
        pub interrupted: bool,
        /// Each node's name and its units' keys: all that the run was about, whatever happens to the experiment file meanwhile.
        pub plan: Vec<(String, Box<[Key]>)>,
        /// The stage of each node of the plan.
        #[serde(default)]
        pub stages: Vec<String>,
        /// Of each node of the plan its units' layers; none where it has no layers.
        #[serde(default)]
        pub layers: Vec<Vec<Option<Layer>>>,
        #[serde(default)]
        pub run: Option<Header>,
        /// What this run did not compute, as an earlier one has it; `None` where that is as the plan has it. Reasons are
        /// found by it.
        #[serde(default)]
        pub before: Vec<(String, Option<Vec<Made>>)>,
        /// How long it took.
        #[serde(default)]
        pub seconds: f64,
    }
}

described! {
    /// One model of a run.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Model {
        /// As the experiment file names it.
        pub name: String,
        /// The repository, or the folder as the experiment file has it.
        pub repo: String,
        /// The hub's commit; `None` for a folder.
        pub commit: Option<String>,
        /// Of the checkpoint's files.
        pub digest: Digest,
        /// Of the weights in memory.
        pub dtype: Dtype,
        /// Of the arithmetic.
        pub compute_dtype: Dtype,
        /// Why this dtype.
        pub dtype_reason: String,
        /// How the checkpoint's weights are quantised, from which those of `dtype` are computed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub dequantised_from: Option<String>,
        /// What was merged into the weights.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub adapter: Option<Origin>,
        /// The repository or folder of a tokenizer that is not the checkpoint's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tokenizer: Option<Origin>,
        /// What is odd about the tokenizer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub tokenizer_note: Option<String>,
        /// Blocks.
        pub n_layers: usize,
        /// Width of the residual stream.
        pub d_model: usize,
        /// Parameters.
        pub n_params: u64,
        /// The layers that are kept.
        pub layers: Vec<Layer>,
        /// Prefixes of the checkpoint's tensors that are no part of the language model, and are not read.
        #[serde(default)]
        pub not_read: Vec<String>,
        /// Fields of `config.json` that have no part in what the model computes.
        #[serde(default)]
        pub config_unread: Vec<String>,
        /// Fields of `config.json` that would have one, but are ignored because the experiment file says so.
        #[serde(default)]
        pub config_ignored: Vec<String>,
    }
}

described! {
    /// Where an adapter or a tokenizer is from.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Origin {
        /// The repository, or the folder as the experiment file has it.
        pub name: String,
        /// The hub's commit; `None` for a folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub commit: Option<String>,
        /// The model that an adapter was trained on, as its own file says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub made_for: Option<String>,
    }
}

described! {
    /// A source of stories that came from the hub.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Dataset {
        pub source: String,
        pub repo: String,
        pub commit: String,
        /// Names in the repository, in order.
        pub files: Vec<String>,
        /// Of each file.
        pub digests: Vec<Digest>,
    }
}

described! {
    /// On what a run computes.
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub struct Device {
        /// Its class: `cpu`, `cuda`, `mps`.
        pub kind: String,
        #[serde(default)]
        pub name: String,
        /// What computes on it, as in keys.
        #[serde(default)]
        pub backend: String,
        /// Why it was chosen.
        #[serde(default)]
        pub reason: String,
    }
}

described! {
    /// By what a run was done.
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    pub struct Versions {
        pub emoflow: String,
        #[serde(default)]
        pub libtorch: String,
    }
}

impl Versions {
    /// The versions of this program.
    pub fn here() -> Versions {
        Versions { emoflow: EMOFLOW.into(), libtorch: LIBTORCH.into() }
    }
}

described! {
    /// When a run was, and who did it.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct Header {
        /// Seconds since 1970.
        pub started: u64,
        /// `None`: it runs, or it was stopped before it could say how it went.
        pub ended: Option<u64>,
        pub process: Process,
    }
}

described! {
    /// How one node went.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub struct NodeOutcome {
        pub name: String,
        /// The first unit's key; `None` of what has no units, such as a model that is missing.
        #[serde(default)]
        pub key: Option<Key>,
        pub state: State,
        /// Why it ran, failed or was left.
        #[serde(default)]
        pub reason: String,
        #[serde(default)]
        pub seconds: f64,
        #[serde(default)]
        pub units: usize,
        /// How many of them this run made.
        #[serde(default)]
        pub made: usize,
        /// Which of the units are not in the store now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub absent: Vec<usize>,
    }
}

/// The outcome of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ran,
    Cached,
    /// Not in the cache, and not required by any requested node.
    NotNeeded,
    Failed,
    /// One of its inputs failed.
    Blocked,
    /// The run was asked to stop; finished units are kept.
    Interrupted,
}

described! {
    /// The line at the end of a run.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Summary {
        pub ran: usize,
        pub cached: usize,
        /// Failed and blocked nodes.
        pub failed: usize,
    }
}

described! {
    /// A unit of an earlier run: its key, and its place in its node.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Made {
        pub key: Key,
        /// Which shard of the stories.
        pub shard: usize,
        pub layer: Option<Layer>,
    }
}

impl Header {
    /// The header of a run in this process that started `took` ago; `ended`: it ends now.
    pub fn of_this(took: Duration, ended: bool) -> Header {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = SystemTime::now();
        Header { started: seconds(now - took), ended: ended.then(|| seconds(now)), process: Process::this() }
    }
}

impl Run {
    /// The last run with results in `dir`; `None` if there was none.
    ///
    /// # Errors
    /// `run.json` cannot be read or is no valid record.
    pub fn read(dir: &Path) -> Result<Option<Run>> {
        Run::read_file(&dir.join(FILE))
    }

    /// The run recorded in a file; `None` if the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read or is no valid record of a run.
    pub fn read_file(path: &Path) -> Result<Option<Run>> {
        read_json(path)
    }

    /// Writes this record as the last run of the results in `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        atomic::replace_with_json(&dir.join(FILE), self)
    }
}

/// Parses a JSON file about runs; `None` if the file does not exist.
///
/// # Errors
/// The file cannot be read, or has another content.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let file = match fs_err::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    // Parsed while reading: the record of ten thousand nodes has 4 MB.
    let parsed = serde_json::from_reader(std::io::BufReader::new(file));
    parsed.map(Some).with_context(|| {
        format!("{} is no record of a run: `emoflow run` the experiment again, or remove it", path.display())
    })
}

/// The fields of `run.json`, formatted as a chapter of docs/results.md.
pub fn document() -> String {
    let tables = [
        ("run.json", Run::FIELDS),
        ("models[]", Model::FIELDS),
        ("models[].adapter, .tokenizer", Origin::FIELDS),
        ("datasets[]", Dataset::FIELDS),
        ("device", Device::FIELDS),
        ("versions", Versions::FIELDS),
        ("nodes[]", NodeOutcome::FIELDS),
        ("summary", Summary::FIELDS),
        ("run", Header::FIELDS),
        ("before[][1][]", Made::FIELDS),
    ];
    let mut out = String::from("Times are in seconds; digests and keys are SHA-256.\n");
    for (name, fields) in tables {
        out.push_str(&format!("\n`{name}`\n\n| field | meaning |\n|---|---|\n"));
        for (field, meaning) in fields {
            out.push_str(&format!("| `{field}` | {} |\n", meaning.trim()));
        }
    }
    out
}
