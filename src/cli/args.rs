//! Arguments shared by several commands: the experiment file, its scope, the machine, the output.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::completions;
use crate::config::problem::Problems;
use crate::config::{self, Experiment};
use crate::progress::{self, Progress, Style};

/// The default experiment file: the one that `emoflow init` writes.
pub const DEFAULT: &str = "experiment.toml";

/// The experiment file, and what is laid over it.
#[derive(Args)]
pub struct ExperimentArgs {
    /// The experiment file
    #[arg(value_name = "EXP.toml", default_value = DEFAULT, value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// Replace one key of the file, as in `activations.from_token=20`; repeatable
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Where the file's relative paths start, if not at the project that it is in: a frozen copy is elsewhere
    #[arg(long, value_name = "DIR", hide = true)]
    pub project: Option<PathBuf>,
}

impl ExperimentArgs {
    /// Reads and checks the file; `outside` finds problems in what it refers to.
    pub fn read(&self, outside: &config::Outside) -> Result<Experiment, Problems> {
        match &self.project {
            Some(root) => Experiment::read_in(&self.file, root, &self.set, outside),
            None => Experiment::read_with(&self.file, &self.set, outside),
        }
    }
}

/// What part of an experiment is meant.
#[derive(Args)]
pub struct Scope {
    /// Only what matches, and what it needs: a node's name, `stage:`, `model:`, `source:`, `emotion:`, `layer:` or
    /// `variant:` with a value, or several with commas, of which all must hold (`*` matches anything); repeatable
    #[arg(long, value_name = "PATTERN", add = completions::nodes())]
    pub only: Vec<String>,
    #[command(flatten)]
    pub limit: Limit,
}

/// How many stories are taken.
#[derive(Args)]
pub struct Limit {
    /// Only the first N stories of each emotion, rounded up to whole shards: a later run without it keeps them
    #[arg(long = "limit", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub stories: Option<u32>,
}

/// What a command that runs units says, and how.
#[derive(Args)]
pub struct Voice {
    /// How progress is shown, on stderr
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    pub progress: Style,
    /// Only warnings and the last line
    #[arg(short, long)]
    pub quiet: bool,
    /// Also say what is cached, and when a model is loaded
    #[arg(short, long)]
    pub verbose: bool,
    /// The last line as JSON
    #[arg(long)]
    pub json: bool,
}

impl Voice {
    /// Starts the progress display.
    pub fn start(&self) -> Box<dyn Progress> {
        progress::start(if self.quiet { Style::None } else { self.progress })
    }
}

/// Where models run, and where what is computed is kept.
#[derive(Args)]
pub struct MachineArgs {
    /// Where models run: auto, cpu, cuda, cuda:N, mps; several with commas, as in cuda:0,cuda:1: `run` works on all
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: String,
    /// Where artifacts are kept [default: `cache/` of the experiment's project]
    #[arg(long, value_name = "DIR", env = "EMOFLOW_CACHE")]
    pub cache: Option<PathBuf>,
    /// Where results are written [default: `results/` of the experiment's project]
    #[arg(long, value_name = "DIR", env = "EMOFLOW_RESULTS")]
    pub results: Option<PathBuf>,
    /// How long what a run is making stays its own when it says nothing
    #[arg(long, value_name = "SECONDS", env = "EMOFLOW_LEASE_SECONDS", hide = true, default_value_t = 30.0)]
    pub lease_seconds: f64,
    /// Never open a socket
    #[arg(long)]
    pub offline: bool,
}

impl MachineArgs {
    /// The cache folder.
    pub fn cache(&self, experiment: &Experiment) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| experiment.root.join("cache"))
    }

    /// `results/<name>/`
    pub fn results(&self, experiment: &Experiment) -> PathBuf {
        let all = self.results.clone().unwrap_or_else(|| experiment.root.join("results"));
        all.join(&experiment.name)
    }
}
