//! Pins what is outside the experiment file: checkpoints, story files, the device. The only part that may
//! touch the network before a run; knows nothing of the plan.

mod hub;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::config::problem::{Problem, Problems};
use crate::config::{self, Experiment, ModelSource, SourceKind};
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

/// Everything about `experiment` that can be found wrong without the network and without reading weights.
///
/// # Errors
/// Every problem at once. A hub model that is not on this machine yet is not a problem.
pub fn check(experiment: &Experiment) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for model in &experiment.models {
        if let Err(problem) = find(experiment, model, Network::Local) {
            problems.extend(problem);
        }
    }
    for (_, path, columns, emotions, span) in story_files(experiment) {
        if let Err(error) = file::count(path, columns, emotions) {
            problems.push(Problem::at(span.clone(), format!("{error:#}")));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(experiment.problems(problems)) }
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
        match find(&experiment, model, network) {
            Ok(Some(found)) => models.push(pin(model, found, store)?),
            Ok(None) => unreachable!("only a check leaves a model unfound"),
            Err(Some(problem)) => problems.push(problem),
            Err(None) => {}
        }
    }
    let mut files = BTreeMap::new();
    for (name, path, columns, emotions, span) in story_files(&experiment) {
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
fn find(
    experiment: &Experiment,
    model: &config::Model,
    network: Network,
) -> Result<Option<Found>, Option<Problem>> {
    let problem = |error: anyhow::Error| Some(Problem::at(model.span.clone(), format!("{error:#}")));
    let (dir, origin, commit) = match &model.source {
        ModelSource::Path(path) => {
            if !path.is_dir() {
                let problem = Problem::at(model.span.clone(), format!("no folder `{}`", path.display()));
                return Err(Some(problem.hint(format!(
                    "relative paths start from the project folder, `{}`",
                    experiment.root.display()
                ))));
            }
            let shown = path.strip_prefix(&experiment.root).unwrap_or(path);
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
    let layers = model.layers.as_ref().unwrap_or(&experiment.layers);
    let layers = layers.resolve(spec.n_layers).map_err(|message| {
        Some(Problem::at(model.layers_span.clone(), format!("model `{}`: {message}", model.name)))
    })?;
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
        layers: found.layers,
        identity: Digest::of(&serde_json::to_vec(&files)?),
        checkpoint: found.checkpoint,
        spec: found.spec,
    })
}

/// Name, path, columns, emotions and place of every source that is a file.
fn story_files(
    experiment: &Experiment,
) -> impl Iterator<Item = (&str, &PathBuf, &Columns, Option<&[String]>, &config::Span)> {
    let stories = experiment
        .stories
        .iter()
        .map(|s| (s.name.as_str(), &s.kind, Some(experiment.emotions.as_slice()), &s.span));
    let neutral = experiment.neutral.iter().map(|kind| (NEUTRAL, kind, None, &experiment.neutral_span));
    stories.chain(neutral).filter_map(|(name, kind, emotions, span)| match kind {
        SourceKind::File { path, columns } => Some((name, path, columns, emotions, span)),
        _ => None,
    })
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
