//! Pins what is outside the experiment file: checkpoints, story files, the device. The only part that may
//! touch the network before a run; knows nothing of the plan.

mod hub;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment, ModelSource, SourceKind};
use crate::lm::device::Choice;
use crate::lm::{Checkpoint, Dtype, Spec};
use crate::plan::NEUTRAL;
use crate::plan::key::Digest;
use crate::stages::stories::{Columns, file};
use crate::store::Store;

/// An experiment with everything outside it pinned.
#[derive(Debug)]
pub struct Resolved {
    pub experiment: Experiment,
    pub models: Vec<Model>,
    /// Story files, by the source's name.
    pub files: BTreeMap<String, StoryFile>,
    pub device: Choice,
}

/// A model whose checkpoint is here and whose content is known.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    /// The repository, or the folder as the experiment file has it.
    pub origin: String,
    /// The hub's commit; `None` for a folder.
    pub commit: Option<String>,
    pub checkpoint: Checkpoint,
    pub spec: Spec,
    pub dtype: Dtype,
    /// Why that dtype.
    pub dtype_reason: &'static str,
    /// The kept layers, ascending.
    pub layers: Vec<usize>,
    /// Digest of the digests of every file that makes the model what it is.
    pub identity: Digest,
}

/// A story file as it is now.
#[derive(Debug)]
pub struct StoryFile {
    pub path: PathBuf,
    pub digest: Digest,
    /// Stories in it that the experiment asks for.
    pub rows: usize,
}

/// A model that has been found but not yet digested.
struct Found {
    origin: String,
    commit: Option<String>,
    checkpoint: Checkpoint,
    spec: Spec,
    layers: Vec<usize>,
}

/// What is wrong with what a file asks for, without the network and without reading weights. A hub model that is not
/// on this machine yet is not a problem.
pub fn check(asked: &Asked) -> Vec<Problem> {
    let mut problems: Vec<Problem> =
        asked.models.iter().filter_map(|model| find(asked, model, Network::Local).err().flatten()).collect();
    for StoryPath { path, columns, emotions, span, .. } in story_paths(asked) {
        if let Err(error) = file::count(path, columns, emotions) {
            problems.push(Problem::at(span.clone(), format!("{error:#}")));
        }
    }
    problems
}

/// Pins every model, file and the device of `experiment`.
///
/// # Errors
/// A [`Problems`] where the experiment file asks for what is not there; else what the hub or the disk said.
pub fn resolve(experiment: Experiment, store: &Store, device: Choice, offline: bool) -> Result<Resolved> {
    let network = if offline { Network::Cached } else { Network::Hub };
    let mut problems = Vec::new();
    let mut models = Vec::new();
    for model in &experiment.models {
        match find(&experiment.asked(), model, network) {
            Ok(Some(found)) => models.push(pin(model, found, store)?),
            Ok(None) => unreachable!("only a check leaves a model unfound"),
            Err(Some(problem)) => problems.push(problem),
            Err(None) => {}
        }
    }
    let mut files = BTreeMap::new();
    for StoryPath { name, path, columns, emotions, span } in story_paths(&experiment.asked()) {
        match file::count(path, columns, emotions) {
            Ok(rows) => {
                let digest = store.digest_file(path)?;
                files.insert(name.to_string(), StoryFile { path: path.clone(), digest, rows });
            }
            Err(error) => problems.push(Problem::at(span.clone(), format!("{error:#}"))),
        }
    }
    if !problems.is_empty() {
        return Err(experiment.problems(problems).into());
    }
    Ok(Resolved { experiment, models, files, device })
}

/// How far to look for a model.
#[derive(Clone, Copy, PartialEq)]
enum Network {
    /// What is on this machine; what is not is left out.
    Local,
    /// What is on this machine; what is not is an error.
    Cached,
    /// The hub.
    Hub,
}

/// The checkpoint of `model`, its spec and its kept layers.
fn find(asked: &Asked, model: &config::Model, network: Network) -> Result<Option<Found>, Option<Problem>> {
    let problem = |error: anyhow::Error| Some(Problem::at(model.source_span.clone(), format!("{error:#}")));
    let (dir, origin, commit) = match &model.source {
        ModelSource::Path(path) => {
            if !path.is_dir() {
                let problem =
                    Problem::at(model.source_span.clone(), format!("no folder `{}`", path.display()));
                return Err(Some(problem.hint(format!(
                    "relative paths start from the project folder, `{}`",
                    asked.root.display()
                ))));
            }
            let shown = path.strip_prefix(asked.root).unwrap_or(path);
            (path.clone(), shown.display().to_string(), None)
        }
        ModelSource::Repo { repo, revision } => {
            let pinned = match network {
                Network::Hub => hub::fetch(repo, revision).map_err(problem)?,
                Network::Cached => hub::cached(repo, revision).map_err(problem)?,
                Network::Local => match hub::cached(repo, revision) {
                    Ok(pinned) => pinned,
                    Err(_) => return Ok(None),
                },
            };
            (pinned.dir, repo.clone(), Some(pinned.commit))
        }
    };
    let checkpoint = Checkpoint::open(&dir).map_err(problem)?;
    let spec = checkpoint.spec().map_err(problem)?;
    let mut layers = Vec::new();
    if let Some(wanted) = model.layers.as_ref().or(asked.layers) {
        layers = wanted.resolve(spec.n_layers()).map_err(|message| {
            Some(Problem::at(model.layers_span.clone(), format!("model `{}`: {message}", model.name)))
        })?;
    }
    Ok(Some(Found { origin, commit, checkpoint, spec, layers }))
}

fn pin(model: &config::Model, found: Found, store: &Store) -> Result<Model> {
    #[derive(Serialize)]
    struct File {
        name: String,
        sha256: Digest,
    }
    let files = found.checkpoint.files().into_iter().map(|(name, path)| {
        let sha256 = store.digest_file(&path).with_context(|| format!("digest model `{}`", model.name))?;
        Ok(File { name, sha256 })
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    Ok(Model {
        name: model.name.clone(),
        origin: found.origin,
        commit: found.commit,
        dtype: model.dtype.unwrap_or(found.spec.dtype),
        dtype_reason: if model.dtype.is_some() {
            "asked for in the experiment file"
        } else {
            "the checkpoint's own"
        },
        layers: found.layers,
        identity: Digest::of(&serde_json::to_vec(&files)?),
        checkpoint: found.checkpoint,
        spec: found.spec,
    })
}

/// A source that is a file.
struct StoryPath<'a> {
    name: &'a str,
    path: &'a PathBuf,
    columns: &'a Columns,
    /// `None`: neutral text.
    emotions: Option<&'a [String]>,
    span: &'a config::Span,
}

/// Every source that is a file and whose emotions are known.
fn story_paths<'a>(asked: &Asked<'a>) -> Vec<StoryPath<'a>> {
    let emotions = asked.emotions;
    let told = asked.stories.iter().filter(|_| emotions.is_some());
    let told = told.map(|source| (source.name.as_str(), &source.kind, &source.span, emotions));
    let neutral = asked.neutral.map(|(kind, span)| (NEUTRAL, kind, span, None));
    let files = told.chain(neutral).filter_map(|(name, kind, span, emotions)| match kind {
        SourceKind::File { path, columns } => Some(StoryPath { name, path, columns, emotions, span }),
        _ => None,
    });
    files.collect()
}

impl Model {
    /// For people: where it is from, and at which commit.
    pub fn shown(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at {}", self.origin, &commit[..commit.len().min(7)]),
            None => self.origin.clone(),
        }
    }
}
