//! The experiment file as written and checked. Knows nothing of what is outside it: no network, no weights.

mod across;
mod analyses;
mod criteria;
mod dialogues;
mod imports;
mod judges;
pub mod keys;
mod layers;
mod models;
mod read;
mod root;
mod sources;
mod sweep;
mod transcripts;
mod validate;

pub use crate::params::{Problem, Problems, Span, presets, problem};
pub use criteria::{Criterion, Of};
pub use dialogues::{DialogueSource, Dialogues, Fields as DialogueFields};
pub use imports::Import;
pub use judges::Judge;
pub use models::is_repo;
pub use read::{Asked, Outside, project_root};
pub use sources::{CONVERTED, matcher};
pub use sweep::{Setting, Variant};
pub use transcripts::Transcripts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::params::{Case, Params as _, Type, inline, params, words};
use crate::stages::{activations, analysis, stories, vectors};

/// A checked experiment: every default filled in, every preset replaced by its words or texts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Experiment {
    /// The file it was read from.
    pub file: PathBuf,
    /// The project folder that relative paths start from.
    pub root: PathBuf,
    /// The file's text, so that later phases can point at its lines too.
    #[serde(skip)]
    pub text: String,
    /// The `--set` texts laid over it.
    pub sets: Vec<String>,
    pub name: String,
    pub description: String,
    pub seed: u64,
    /// Stories in a shard: the unit in which they are written, read and stored.
    pub shard: usize,
    /// Stories of each source of which claims are computed in f32 too, where arithmetic is not; 0: none.
    pub check_precision: usize,
    /// The day that chat templates see.
    pub date: crate::lm::Date,
    pub layers: Layers,
    pub models: Vec<Model>,
    pub emotions: Vec<String>,
    pub stories: Vec<Source>,
    /// Emotionless text for denoising.
    pub neutral: Option<SourceKind>,
    /// Where that was written; `0..0`: nowhere.
    #[serde(skip)]
    pub neutral_span: Span,
    /// Conversations of others, which analyses read token by token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcripts: Vec<Transcripts>,
    /// Conversations in which both speakers' emotions are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dialogues: Vec<Dialogues>,
    /// Who says what texts of scenarios are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<Judge>,
    pub activations: activations::Params,
    pub vectors: vectors::Params,
    /// Vectors of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// Of one set of vectors each.
    pub analysis: Vec<Analysis>,
    /// Of two sets.
    pub across: Vec<Across>,
    /// Metrics of analyses over models.
    pub scale: Vec<Scale>,
    /// What counts as a finding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
    /// The variants of `[sweep]`; the first of them is this experiment. None: no sweep.
    pub sweep: Vec<Variant>,
}

/// Which layers are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layers {
    /// Whether the token embeddings are, too.
    pub embed: bool,
    pub blocks: Blocks,
}

/// After which blocks the residual stream is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    All,
    /// In rising order.
    List(Vec<usize>),
    Every(usize),
    /// The one block in which this fraction of the depth falls.
    Depth(f64),
    /// All blocks between two fractions of the depth, both ends included.
    Range {
        from: f64,
        to: f64,
    },
}

/// One `[models.<name>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    pub name: String,
    pub source: ModelSource,
    pub adapter: Option<Adapter>,
    /// `None`: its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<OtherTokenizer>,
    /// `None`: the checkpoint's own.
    pub dtype: Option<crate::lm::Dtype>,
    /// `None`: the type of the weights.
    pub compute_dtype: Option<crate::lm::Dtype>,
    pub offload: Offload,
    /// Fields of `config.json` that are read as if they were not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_config: Vec<String>,
    /// `None`: the experiment's.
    pub layers: Option<Layers>,
    /// Whether chat templates are told that the model may think first.
    pub thinking: bool,
    #[serde(skip)]
    pub span: Span,
    /// Where `path`, `ollama` or `repo` was written.
    #[serde(skip)]
    pub source_span: Span,
    /// Where `layers` (the model's or the experiment's) was written.
    #[serde(skip)]
    pub layers_span: Span,
    /// Where each of `ignore_config` was written.
    #[serde(skip)]
    pub ignore_spans: Vec<Span>,
    /// Where `thinking` was written.
    #[serde(skip)]
    pub thinking_span: Span,
}

words! {
    /// Where a model's weights are while it is used.
    pub enum Offload {
        /// On the device.
        None = "none",
        /// In the checkpoint's files: blocks come to the device one by one.
        Layers = "layers",
    }
}

/// A LoRA adapter of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Adapter {
    /// As it is written: a folder, or else a repository of the hub.
    pub written: String,
    /// The folder, absolute (joined with the project root).
    #[serde(skip)]
    pub path: PathBuf,
    /// Of the repository; `None`: `main`.
    pub revision: Option<String>,
    #[serde(skip)]
    pub span: Span,
}

/// Where a model's checkpoint is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// A folder or a GGUF file, absolute (joined with the project root).
    Path(PathBuf),
    /// A hub repository at a revision not yet resolved.
    Repo { repo: String, revision: String },
    /// A model in Ollama's store, by its name and tag.
    Ollama(String),
}

/// The tokenizer that a model is to be read with in the place of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherTokenizer {
    /// As it is written: a folder, or else a repository of the hub.
    pub written: String,
    /// The folder, absolute (joined with the project root).
    #[serde(skip)]
    pub path: PathBuf,
    #[serde(skip)]
    pub span: Span,
}

/// One `[stories.<name>.<kind>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    pub name: String,
    pub kind: SourceKind,
    /// The table's header; of a file, its `path`; of a dataset, its `repo`.
    #[serde(skip)]
    pub span: Span,
}

impl Source {
    /// Whether all models read the same stories of it.
    pub fn is_shared(&self) -> bool {
        !matches!(self.kind, SourceKind::Generate { writer: Writer::Own, .. })
    }
}

/// How the texts of a source come to be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Template(stories::Template),
    Generate {
        writer: Writer,
        params: stories::Generate,
    },
    /// Written by a model at a server.
    Served {
        server: stories::Server,
        params: stories::Generate,
    },
    /// `path` is absolute (joined with the project root), and may be a glob.
    File {
        path: PathBuf,
        rows: FileRows,
    },
    Dataset(Dataset),
}

params! {
    /// How the rows of story files are to be read.
    pub struct FileRows {
        /// Which column holds what.
        pub columns: stories::Columns = {};
        /// Which emotion a label of the file means, where it is not its name: `{ 0 = "sad", 1 = "happy" }`. Names that Hugging
        /// Face's `datasets` keeps in Parquet files (`ClassLabel`) need none; case, spaces, hyphens and underscores do not
        /// matter.
        #[only(Case::Stories)]
        pub labels: BTreeMap<String, String> = {};
        /// A row without a text: skipped and counted, or an error. Not part of any key.
        pub empty: stories::file::Empty = "skip";
    }
}

params! {
    /// Stories from a dataset repository on the hub.
    #[when(Case::Neutral, "Neutral texts from a dataset repository on the hub.")]
    pub struct Dataset {
        /// A dataset repository on the hub, `owner/name`.
        #[with(models::repo)]
        pub repo: String;
        /// Branch, tag or commit; resolved to a commit, which the run records.
        #[with(models::revision)]
        pub revision: String = "main";
        /// Which of its files, as a glob; in the formats of `stories.<name>.file`.
        #[with(sources::glob)]
        pub files: String;
        #[of(Type::Inline(FileRows::TABLE))]
        #[with(inline::<FileRows>)]
        pub rows: FileRows;
        /// The first so many stories of each emotion.
        #[unset("all")]
        #[only(Case::Stories)]
        pub limit_per_emotion: Option<usize>, 1..;
        /// Where `files` was written.
        #[of(Type::NONE)]
        #[with(sources::files_span)]
        #[serde(skip)]
        pub files_span: Span;
    }
}

impl SourceKind {
    /// How the model called `name` writes the texts, if it does.
    pub fn written_by(&self, name: &str) -> Option<&stories::Generate> {
        match self {
            SourceKind::Generate { writer: Writer::Own, params } => Some(params),
            SourceKind::Generate { writer: Writer::Model(writer), params } if writer == name => Some(params),
            _ => None,
        }
    }
}

/// Which model writes generated stories.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Each model writes its own.
    Own,
    /// One of `[models]` writes for all.
    Model(String),
}

/// One `[analysis.<name>.<kind>]` table of a kind that reads two sets of vectors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Across {
    pub name: String,
    pub kind: analysis::Analysis,
    #[serde(skip)]
    pub span: Span,
}

/// One `[analysis.<name>.scale]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scale {
    pub name: String,
    /// Names of analyses; `None`: all of single models.
    pub of: Option<Vec<String>>,
    /// Where each was written.
    #[serde(skip)]
    pub of_spans: Vec<Span>,
    pub permutations: usize,
    #[serde(skip)]
    pub span: Span,
}

impl Scale {
    /// Whether it shows metrics of the analysis called `name`.
    pub fn shows(&self, name: &str) -> bool {
        self.of.as_ref().is_none_or(|of| of.iter().any(|wanted| wanted == name))
    }
}

/// One `[analysis.<name>.<kind>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    pub name: String,
    pub kind: analysis::Analysis,
    #[serde(skip)]
    pub span: Span,
}
