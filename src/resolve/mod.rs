//! Pins what is outside the experiment file: checkpoints, story files, the device. The only part that may
//! touch the network before a run; knows nothing of the plan.

mod hub;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment, ModelSource, Offload, SourceKind};
use crate::lm::device::Choice;
use crate::lm::{Checkpoint, Dtype, Held, Spec};
use crate::plan::NEUTRAL;
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::stages::stories::{Columns, file};
use crate::store::Store;
use hub::{Hub, Snapshot};

/// An experiment with everything outside it pinned.
#[derive(Debug)]
pub struct Resolved {
    pub experiment: Experiment,
    pub models: Vec<Model>,
    /// Of each variant of the experiment its story files, by the source's name.
    pub files: Vec<BTreeMap<String, StoryFile>>,
    pub device: Choice,
}

/// A model whose content is known; its weights may still be on the hub.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    /// The repository, or the folder as the experiment file has it.
    pub origin: String,
    /// The hub's commit; `None` for a folder.
    pub commit: Option<String>,
    /// Its weights are on this machine after [`Model::fetch`].
    pub checkpoint: Checkpoint,
    /// Where the rest of it is; `None` for a folder.
    snapshot: Option<Snapshot>,
    pub spec: Spec,
    pub dtype: Dtype,
    /// The type of activations and arithmetic.
    pub compute_dtype: Dtype,
    pub offload: Offload,
    /// Why that dtype.
    pub dtype_reason: &'static str,
    /// The kept layers, ascending.
    pub layers: Vec<usize>,
    /// Digest of the digests of every file that makes the model what it is.
    pub identity: Digest,
    /// The files that were digested here, not by the hub.
    files: Vec<(PathBuf, Digest)>,
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
    snapshot: Option<Snapshot>,
    checkpoint: Checkpoint,
    spec: Spec,
    layers: Vec<usize>,
}

/// What is wrong with what a file asks for, without the network and without reading weights. A hub model that is not
/// on this machine yet is not a problem.
pub fn check(asked: &Asked) -> Vec<Problem> {
    let hub = Hub::open(true);
    let models = asked.models.iter();
    let mut problems: Vec<Problem> =
        models.filter_map(|model| find(asked, model, &hub, Reach::Here).err().flatten()).collect();
    for StoryPath { path, columns, emotions, span, .. } in story_paths(asked) {
        if let Err(error) = file::count(path, columns, emotions) {
            problems.push(Problem::at(span.clone(), format!("{error:#}")));
        }
    }
    problems
}

/// Pins every model, file and the device of `experiment`. Fetches what is small; weights stay on the hub until
/// [`Model::fetch`]. `offline` opens no socket.
///
/// # Errors
/// A [`Problems`] where the experiment file asks for what is not there; else what the hub or the disk said.
pub fn resolve(
    experiment: Experiment,
    store: &Store,
    device: Choice,
    offline: bool,
    progress: &dyn Progress,
) -> Result<Resolved> {
    let hub = Hub::open(offline);
    let mut problems = Vec::new();
    let mut models = Vec::new();
    for model in &experiment.models {
        match find(&experiment.asked(), model, &hub, Reach::Hub(progress)) {
            Ok(Some(found)) => models.push(pin(model, found, store)?),
            Ok(None) => unreachable!("only a check leaves a model unfound"),
            Err(Some(problem)) => problems.push(problem),
            Err(None) => {}
        }
    }
    let mut files = Vec::new();
    for (_, variant) in experiment.variants() {
        files.push(story_files(variant, store, &mut problems)?);
    }
    if !problems.is_empty() {
        return Err(experiment.problems(problems).into());
    }
    Ok(Resolved { experiment, models, files, device })
}

/// The story files of one variant; what is wrong with them goes to `problems`.
fn story_files(
    experiment: &Experiment,
    store: &Store,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, StoryFile>> {
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
    Ok(files)
}

/// How far to look for a model.
#[derive(Clone, Copy)]
enum Reach<'a> {
    /// What is on this machine; what is not is left out.
    Here,
    /// What the hub has; what it has not is an error.
    Hub(&'a dyn Progress),
}

/// The checkpoint of `model`, its spec and its kept layers.
fn find(
    asked: &Asked,
    model: &config::Model,
    hub: &Arc<Hub>,
    reach: Reach<'_>,
) -> Result<Option<Found>, Option<Problem>> {
    let problem = |error: anyhow::Error| Some(Problem::at(model.source_span.clone(), format!("{error:#}")));
    let (checkpoint, origin, snapshot) = match &model.source {
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
            (Checkpoint::open(path).map_err(problem)?, shown.display().to_string(), None)
        }
        ModelSource::Repo { repo, revision } => {
            let snapshot = match reach {
                Reach::Hub(progress) => hub.pin(repo, revision, progress).map_err(problem)?,
                Reach::Here => match hub.cached(repo, revision) {
                    Ok(snapshot) => snapshot,
                    Err(_) => return Ok(None),
                },
            };
            let checkpoint = snapshot.checkpoint().map_err(problem)?;
            if let Reach::Hub(progress) = reach {
                snapshot.prepare_weights(&checkpoint.weights, progress).map_err(problem)?;
            }
            (checkpoint, repo.clone(), Some(snapshot))
        }
    };
    let spec = checkpoint.spec().map_err(problem)?;
    let mut layers = Vec::new();
    if let Some(wanted) = model.layers.as_ref().or(asked.layers) {
        layers = wanted.resolve(spec.n_layers()).map_err(|message| {
            Some(Problem::at(model.layers_span.clone(), format!("model `{}`: {message}", model.name)))
        })?;
    }
    Ok(Some(Found { origin, snapshot, checkpoint, spec, layers }))
}

fn pin(model: &config::Model, found: Found, store: &Store) -> Result<Model> {
    #[derive(Serialize)]
    struct File {
        name: String,
        sha256: Digest,
    }
    let mut here = Vec::new();
    let files = found.checkpoint.files().into_iter().map(|(name, path)| {
        let promised = found.snapshot.as_ref().and_then(|snapshot| snapshot.promised(&path));
        if let Some(sha256) = promised {
            return Ok(File { name, sha256 });
        }
        let sha256 = store.digest_file(&path).with_context(|| format!("digest model `{}`", model.name))?;
        here.push((path, sha256));
        Ok(File { name, sha256 })
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    let dtype = model.dtype.unwrap_or(found.spec.dtype);
    Ok(Model {
        name: model.name.clone(),
        origin: found.origin,
        commit: found.snapshot.as_ref().map(|snapshot| snapshot.commit.clone()),
        snapshot: found.snapshot,
        dtype,
        compute_dtype: model.compute_dtype.unwrap_or(dtype),
        offload: model.offload,
        dtype_reason: if model.dtype.is_some() {
            "asked for in the experiment file"
        } else {
            "the checkpoint's own"
        },
        layers: found.layers,
        identity: Digest::of(&serde_json::to_vec(&files)?),
        files: here,
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

/// An error if `path` is not what it was when it had the digest `known`: what was made of it since would be stored
/// under the key of something else.
fn ensure_unchanged(path: &Path, known: Digest, store: &Store) -> Result<()> {
    let changed = || format!("{} was changed while this run was at work: run it again", path.display());
    ensure!(store.digest_file(path).with_context(changed)? == known, changed());
    Ok(())
}

impl StoryFile {
    /// An error if the file is not what it was when the run began.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        ensure_unchanged(&self.path, self.digest, store)
    }
}

impl Model {
    /// An error if a file of it is not what it was when the run began. Costs one `stat` a file where none was changed.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.files.iter().try_for_each(|(path, digest)| ensure_unchanged(path, *digest, store))
    }

    /// Has the weights be on this machine: what is missing of them is fetched.
    ///
    /// # Errors
    /// What the hub, the network or the disk says, with what to do.
    pub fn fetch(&self, progress: &dyn Progress) -> Result<()> {
        match &self.snapshot {
            Some(snapshot) => snapshot.fetch_weights(&self.checkpoint.weights, progress),
            None => Ok(()),
        }
    }

    /// How it is held and computed.
    pub fn held(&self) -> Held {
        let streamed = self.offload == Offload::Layers;
        Held { weights: self.dtype, compute: self.compute_dtype, streamed }
    }

    /// For people: where it is from, and at which commit.
    pub fn shown(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at {}", self.origin, &commit[..commit.len().min(7)]),
            None => self.origin.clone(),
        }
    }
}
