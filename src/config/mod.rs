//! The experiment file, parsed and checked. Independent of everything outside the file: no network, no weights.

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
    /// The file's text, so that later phases can report locations in it.
    #[serde(skip)]
    pub text: String,
    /// The `--set` arguments applied to it.
    pub sets: Vec<String>,
    pub name: String,
    pub description: String,
    pub seed: u64,
    /// Number of stories per shard: the unit in which they are generated, read and stored.
    pub shard: usize,
    /// Number of stories of each source for which claims are also computed in f32, if the arithmetic is not f32; 0:
    /// none.
    pub check_precision: usize,
    /// The date passed to chat templates.
    pub date: crate::lm::Date,
    pub layers: Layers,
    pub models: Vec<Model>,
    pub emotions: Vec<String>,
    pub stories: Vec<Source>,
    /// Emotionless text for denoising.
    pub neutral: Option<SourceKind>,
    /// The location of `neutral`; `0..0`: not in the file.
    #[serde(skip)]
    pub neutral_span: Span,
    /// Existing conversations, which analyses read token by token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcripts: Vec<Transcripts>,
    /// Conversations in which both speakers' emotions are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dialogues: Vec<Dialogues>,
    /// The models that classify the texts of scenarios.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub judges: Vec<Judge>,
    pub activations: activations::Params,
    pub vectors: vectors::Params,
    /// Vectors imported from files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// Analyses of one set of vectors each.
    pub analysis: Vec<Analysis>,
    /// Analyses of two sets.
    pub across: Vec<Across>,
    /// Metrics of analyses over models.
    pub scale: Vec<Scale>,
    /// The declared findings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub criteria: Vec<Criterion>,
    /// The variants of `[sweep]`; the first of them is this experiment. Empty without a sweep.
    pub sweep: Vec<Variant>,
}

/// Which layers are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layers {
    /// Whether the token embeddings are kept too.
    pub embed: bool,
    pub blocks: Blocks,
}

/// The blocks after which the residual stream is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocks {
    All,
    /// In ascending order.
    List(Vec<usize>),
    Every(usize),
    /// The one block at this fraction of the depth.
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
    /// `None`: the checkpoint's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<OtherTokenizer>,
    /// `None`: the checkpoint's own.
    pub dtype: Option<crate::lm::Dtype>,
    /// `None`: the type of the weights.
    pub compute_dtype: Option<crate::lm::Dtype>,
    pub offload: Offload,
    /// Fields of `config.json` that are ignored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_config: Vec<String>,
    /// `None`: the experiment's.
    pub layers: Option<Layers>,
    /// Whether chat templates are told that the model may reason before it answers.
    pub thinking: bool,
    #[serde(skip)]
    pub span: Span,
    /// The location of `path`, `ollama` or `repo`.
    #[serde(skip)]
    pub source_span: Span,
    /// The location of `layers` (the model's or the experiment's).
    #[serde(skip)]
    pub layers_span: Span,
    /// The location of each of `ignore_config`.
    #[serde(skip)]
    pub ignore_spans: Vec<Span>,
    /// The location of `thinking`.
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
    /// As written in the file: a folder or, if there is none, a hub repository.
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
    /// A model in Ollama's store, by name and tag.
    Ollama(String),
}

/// A tokenizer that replaces the model's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherTokenizer {
    /// As written in the file: a folder or, if there is none, a hub repository.
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
    /// The table's header; for a file, its `path`; for a dataset, its `repo`.
    #[serde(skip)]
    pub span: Span,
}

impl Source {
    /// Whether all models read the same stories from it.
    pub fn is_shared(&self) -> bool {
        !matches!(self.kind, SourceKind::Generate { writer: Writer::Own, .. })
    }
}

/// Where the texts of a source come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Template(stories::Template),
    Generate {
        writer: Writer,
        params: stories::Generate,
    },
    /// Generated by a model at a server.
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
    /// How the model `name` generates the texts, if it does.
    pub fn written_by(&self, name: &str) -> Option<&stories::Generate> {
        match self {
            SourceKind::Generate { writer: Writer::Own, params } => Some(params),
            SourceKind::Generate { writer: Writer::Model(writer), params } if writer == name => Some(params),
            _ => None,
        }
    }
}

/// The model that generates stories.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Each model generates its own.
    Own,
    /// One of `[models]` generates for all.
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
    /// Names of analyses; `None`: all analyses of single models.
    pub of: Option<Vec<String>>,
    /// The location of each.
    #[serde(skip)]
    pub of_spans: Vec<Span>,
    pub permutations: usize,
    #[serde(skip)]
    pub span: Span,
}

impl Scale {
    /// Whether it shows metrics of the analysis `name`.
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
