//! Pins everything outside the experiment file: checkpoints, story files, the device. The only part that may use the
//! network before a run. Independent of the plan.

mod activities;
mod adapter;
mod checks;
mod dataset;
mod digested;
pub mod hub;
mod labels;
mod lengths;
mod local;
mod model;
mod norms;
mod ollama;
mod served;
mod stories;
mod tokenizer;
mod transcripts;
mod turns;
mod vectors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment, ModelSource, Offload};
use crate::interrupt::Interrupted;
use crate::lm::checkpoint::Beside;
use crate::lm::device::Choice;
use crate::lm::family::{Reading, has_field};
use crate::lm::{Checkpoint, Layer, Spec, Tokenizer};
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::stages::stories::Server;
use crate::store::Store;
pub use adapter::Adapter;
pub use dataset::Pinned;
pub use digested::Changed;
use digested::Digested;
use hub::{Hub, Outage, Snapshot, Wanted};
pub use model::Model;
use served::servers;
pub use served::{AnotherModel, ensure_same, judged_by};
pub use stories::StoryFiles;
pub use tokenizer::OtherTokenizer;
pub use transcripts::TranscriptFiles;
pub use vectors::VectorFiles;

/// An experiment with everything outside it pinned.
#[derive(Debug)]
pub struct Resolved {
    pub experiment: Experiment,
    /// The models that could be pinned.
    pub models: Vec<Model>,
    /// The models that could not; empty for an experiment with a single model.
    pub absent: Vec<Absent>,
    /// For each variant of the experiment, its story files by source name.
    pub files: Vec<BTreeMap<String, StoryFiles>>,
    /// For each variant, its files of transcripts by source name.
    pub transcripts: Vec<BTreeMap<String, TranscriptFiles>>,
    /// For each variant, its files of imported vectors by set name.
    pub vectors: Vec<BTreeMap<String, VectorFiles>>,
    /// For each variant, the digest that identifies the model of each served source, by source name, and of each
    /// judge, by [`judged_by`].
    pub served: Vec<BTreeMap<String, Digest>>,
    pub device: Choice,
    /// No socket may be opened.
    pub offline: bool,
}

impl Resolved {
    /// The models of the experiment, without the copies that check precision.
    pub fn readers(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(|model| model.checks.is_none())
    }

    /// The story files of all variants by source name, without duplicates.
    pub fn story_files(&self) -> Vec<(&str, &StoryFiles)> {
        let mut all: Vec<(&str, &StoryFiles)> = Vec::new();
        for (name, files) in self.files.iter().flatten() {
            if all.iter().all(|(other, known)| other != name || known.digests != files.digests) {
                all.push((name, files));
            }
        }
        all
    }

    /// The files of transcripts and dialogues of all variants by source name, without duplicates.
    pub fn transcript_files(&self) -> Vec<(&str, &TranscriptFiles)> {
        let mut all: Vec<(&str, &TranscriptFiles)> = Vec::new();
        for (name, files) in self.transcripts.iter().flatten() {
            if all.iter().all(|(other, known)| other != name || known.digests != files.digests) {
                all.push((name, files));
            }
        }
        all
    }
}

/// A model that the experiment continues without.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    pub name: String,
    pub why: String,
}

/// A model that has been found but not yet digested.
struct Found {
    origin: String,
    snapshot: Option<Snapshot>,
    checkpoint: Checkpoint,
    adapter: Option<Adapter>,
    other: Option<OtherTokenizer>,
    spec: Spec,
    unread: Vec<String>,
    ignored: Vec<String>,
    layers: Vec<Layer>,
}

/// Problems with what a file refers to, found without the network and without reading weights. A repository that is
/// not on this machine yet is not a problem.
///
/// `notes` receives remarks about valid parts.
pub fn check(asked: &Asked, notes: &mut Vec<String>) -> Vec<Problem> {
    let hub = Hub::open(true);
    let mut problems: Vec<Problem> = faults(asked, &hub).map(|(model, fault)| fault.problem(model)).collect();
    problems.extend(stories::check(asked, Some(&hub), notes));
    problems.extend(transcripts::check(asked, Some(&hub), notes));
    problems.extend(vectors::check(asked));
    problems.extend(norms::check(asked));
    problems.extend(activities::check(asked));
    problems
}

/// Problems of the file itself: those of [`check`], except what a run can continue without or will find itself.
pub fn check_file(asked: &Asked) -> Vec<Problem> {
    let hub = Hub::open(true);
    let alone = asked.models.len() == 1;
    let faults = faults(asked, &hub).filter(|(_, fault)| alone || matches!(fault, Fault::Written(_)));
    let mut problems: Vec<Problem> = faults.map(|(model, fault)| fault.problem(model)).collect();
    problems.extend(stories::check(asked, None, &mut Vec::new()));
    problems.extend(transcripts::check(asked, None, &mut Vec::new()));
    problems.extend(vectors::check(asked));
    problems.extend(norms::check(asked));
    problems.extend(activities::check(asked));
    problems
}

/// Problems with the models, as far as they can be detected on this machine.
fn faults<'a>(asked: &'a Asked, hub: &'a Arc<Hub>) -> impl Iterator<Item = (&'a config::Model, Fault)> {
    asked.models.iter().filter_map(|model| Some((model, find(asked, model, hub, Reach::Here).err()?)))
}

/// Pins every model and file and the device of `experiment`. Fetches story files and other small files; weights stay
/// on the hub until [`Model::fetch`]. `offline` opens no socket. If there are several models, those that cannot be
/// pinned are skipped.
///
/// # Errors
/// Problems if the experiment file refers to something that does not exist, or if no model can be pinned; otherwise
/// errors of the disk, or that the run was interrupted.
pub fn resolve(
    mut experiment: Experiment,
    store: &Store,
    device: Choice,
    offline: bool,
    progress: &dyn Progress,
) -> Result<Resolved> {
    let hub = Hub::open(offline);
    let mut problems = Vec::new();
    norms::pin(&mut experiment, store, &mut problems)?;
    activities::pin(&mut experiment, &mut problems);
    let (mut models, mut lost) = (Vec::new(), Vec::new());
    for model in &experiment.models {
        match find(&experiment.asked(), model, &hub, Reach::Hub(progress)) {
            Ok(Some(found)) => match pin(model, found, &device, store) {
                Ok(pinned) => models.push(pinned),
                Err(error) if experiment.models.len() == 1 => return Err(error),
                Err(error) => lost.push((model, error)),
            },
            Ok(None) => unreachable!("only a check leaves a model unfound"),
            Err(Fault::Found(error)) if error.is::<Interrupted>() => return Err(error),
            Err(Fault::Found(error)) => lost.push((model, error)),
            Err(Fault::Written(problem)) => problems.push(problem),
        }
    }
    let (mut files, mut transcripts, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    for (_, variant) in experiment.variants() {
        transcripts.push(transcripts::pin(&variant.asked(), &hub, store, progress, &mut problems)?);
        vectors.push(vectors::pin(&variant.asked(), &models, store, &mut problems)?);
        files.push(stories::pin(&variant.asked(), &hub, store, progress, &mut problems)?);
    }
    let mut served = Vec::new();
    let mut known: Vec<(&Server, Option<Digest>)> = Vec::new();
    for (_, variant) in experiment.variants() {
        let mut identities = BTreeMap::new();
        for (name, server, span) in servers(variant.asked()) {
            let asked = known.iter().find(|(other, _)| *other == server).map(|(_, identity)| *identity);
            let identity = asked.unwrap_or_else(|| {
                let found = served::identity(&name, server, store, offline, progress);
                let found = found.map_err(|error| problems.push(unserved(server, span, &error))).ok();
                known.push((server, found));
                found
            });
            identities.extend(identity.map(|identity| (name, identity)));
        }
        served.push(identities);
    }
    if problems.is_empty() && models.is_empty() && lost.iter().all(|(_, error)| error.is::<Outage>()) {
        let said = lost.iter().map(|(model, error)| format!("model `{}`: {error:#}", model.name));
        bail!("{}", said.collect::<Vec<_>>().join("; "));
    }
    if !problems.is_empty() || models.is_empty() {
        problems.extend(lost.into_iter().map(|(model, error)| Fault::Found(error).problem(model)));
        return Err(experiment.problems(problems).into());
    }
    models.extend(checks::of(&experiment, &models));
    let absent =
        lost.into_iter().map(|(model, error)| Absent { name: model.name.clone(), why: format!("{error:#}") });
    let absent = absent.collect();
    Ok(Resolved { experiment, models, absent, files, transcripts, vectors, served, device, offline })
}

/// The problem of a server that cannot be asked for its model and has no earlier record.
fn unserved(server: &Server, span: &config::Span, error: &anyhow::Error) -> Problem {
    Problem::at(span.clone(), format!("{error:#}")).hint(format!(
        "start the server (`ollama serve`) and have it fetch the model: `ollama pull {}`",
        server.model
    ))
}

/// Why a model cannot be found.
enum Fault {
    /// The experiment file asks for something impossible.
    Written(Problem),
    /// A failure of the checkpoint, the hub, the network or the disk; it may be temporary.
    Found(anyhow::Error),
}

impl Fault {
    fn problem(self, model: &config::Model) -> Problem {
        match self {
            Fault::Written(problem) => problem,
            Fault::Found(error) => Problem::at(model.source_span.clone(), format!("{error:#}")),
        }
    }
}

/// Where to look for a model.
#[derive(Clone, Copy)]
enum Reach<'a> {
    /// Only on this machine; what is not here is skipped.
    Here,
    /// On the hub too; what the hub does not have is an error.
    Hub(&'a dyn Progress),
}

/// The checkpoint of `model`, its spec and its kept layers.
fn find(
    asked: &Asked,
    model: &config::Model,
    hub: &Arc<Hub>,
    reach: Reach<'_>,
) -> Result<Option<Found>, Fault> {
    let (tokenizer, other) = match &model.tokenizer {
        None => (None, None),
        Some(named) => match tokenizer::find(named, asked, hub, reach)? {
            Some((files, other)) => (Some(files), Some(other)),
            None => return Ok(None),
        },
    };
    let (checkpoint, origin, snapshot) = match &model.source {
        ModelSource::Path(path) => {
            if !path.exists() {
                let form = if path.extension().is_some_and(|end| end == "gguf") { "file" } else { "folder" };
                let problem =
                    Problem::at(model.source_span.clone(), format!("no {form} `{}`", path.display()));
                let written = path.strip_prefix(asked.root).unwrap_or(path).display().to_string();
                let hub = match config::is_repo(&written) {
                    true => format!("; a model of the hub is `repo = \"{written}\"`"),
                    false => String::new(),
                };
                return Err(Fault::Written(problem.hint(format!(
                    "relative paths start from the project folder, `{}`{hub}",
                    asked.root.display()
                ))));
            }
            let shown = path.strip_prefix(asked.root).unwrap_or(path);
            let checkpoint = Checkpoint::open_with(path, Beside { tokenizer, ..Beside::default() });
            (checkpoint.map_err(Fault::Found)?, shown.display().to_string(), None)
        }
        ModelSource::Ollama(name) => {
            let open =
                |file: PathBuf| Checkpoint::open_with(&file, Beside { tokenizer, ..Beside::default() });
            (ollama::find(name).and_then(open).map_err(Fault::Found)?, format!("ollama {name}"), None)
        }
        ModelSource::Repo { repo, revision } => {
            let snapshot = match reach {
                Reach::Hub(progress) => {
                    hub.pin(repo, revision, Wanted::Model, progress).map_err(Fault::Found)?
                }
                Reach::Here => match hub.cached(repo, revision, Wanted::Model) {
                    Ok(snapshot) => snapshot,
                    Err(_) => return Ok(None),
                },
            };
            let checkpoint = snapshot.checkpoint(tokenizer).map_err(Fault::Found)?;
            if let Reach::Hub(progress) = reach {
                snapshot.prepare_weights(checkpoint.weights(), progress).map_err(Fault::Found)?;
            }
            (checkpoint, repo.clone(), Some(snapshot))
        }
    };
    let (checkpoint, adapter) = match &model.adapter {
        None => (checkpoint, None),
        Some(named) => match adapter::find(named, asked.root, hub, reach)? {
            Some((files, adapter)) => (checkpoint.with_adapter(files), Some(adapter)),
            None => return Ok(None),
        },
    };
    if let (Some(adapter), Reach::Hub(progress)) = (&adapter, reach)
        && let Some(other) = adapter.made_for_another(&origin)
    {
        let (name, adapter) = (&model.name, &adapter.name);
        progress.note(&format!(
            "warning: the adapter {adapter} of model `{name}` was made for `{other}`, not for {origin}"
        ));
    }
    let checkpoint = checkpoint.ignoring(&model.ignore_config);
    if !model.ignore_config.is_empty() {
        let config = checkpoint.read_config().map_err(Fault::Found)?;
        let mut named = model.ignore_config.iter().zip(&model.ignore_spans);
        if let Some((name, span)) = named.find(|(name, _)| !has_field(&config, name)) {
            let problem = Problem::at(
                span.clone(),
                format!("the config.json of model `{}` has no field `{name}`", model.name),
            );
            return Err(Fault::Written(problem.hint("remove it; a nested field is written `table.field`")));
        }
    }
    let Reading { spec, unread, ignored } = checkpoint.reading().map_err(Fault::Found)?;
    // Weights on the hub are checked later.
    let mut weights = checkpoint.weights().iter().chain(checkpoint.adapter().map(|files| &files.weights));
    if weights.all(|file| file.is_file()) {
        checkpoint.check_weights(&spec).map_err(Fault::Found)?;
    }
    let computed = match (&adapter, spec.quantization) {
        (Some(adapter), _) => Some(format!("the adapter {} is merged into its weights", adapter.name)),
        (None, Some(method)) => Some(format!("its weights are computed from {method}")),
        (None, None) => None,
    };
    if let (Offload::Layers, Some(how)) = (model.offload, computed) {
        let message =
            format!("`offload` of model `{}`: blocks are streamed as they are stored, but {how}", model.name);
        let problem = Problem::at(model.source_span.clone(), message);
        return Err(Fault::Written(
            problem
                .hint("remove `offload`, or use a checkpoint that is stored in the dtype of the computation"),
        ));
    }
    let unfit = lengths::check(asked, model, &spec).or_else(|| turns::check(asked, model, &checkpoint));
    if let Some(problem) = unfit {
        return Err(Fault::Written(problem));
    }
    let mut layers = Vec::new();
    if let Some(wanted) = model.layers.as_ref().or(asked.layers) {
        layers = wanted.resolve(spec.n_layers()).map_err(|message| {
            let message = format!("model `{}`: {message}", model.name);
            let hint = format!(
                "`layers` in `[models.{}]` are its own; `layers = {{ depth = 0.667 }}` means the block at that depth of any \
                 model",
                model.name
            );
            Fault::Written(Problem::at(model.layers_span.clone(), message).hint(hint))
        })?;
    }
    Ok(Some(Found { origin, snapshot, checkpoint, adapter, other, spec, unread, ignored, layers }))
}

fn pin(model: &config::Model, found: Found, device: &Choice, store: &Store) -> Result<Model> {
    #[derive(Serialize)]
    struct File {
        name: String,
        sha256: Digest,
    }
    let mut here = Vec::new();
    let files = found.checkpoint.files().into_iter().map(|(name, path)| {
        let of_adapter = found.adapter.as_ref().and_then(|adapter| adapter.snapshot.as_ref());
        let mut snapshots = found.snapshot.iter().chain(of_adapter);
        let promised = snapshots.find_map(|snapshot| snapshot.promised(&path));
        if let Some(sha256) = promised {
            return Ok(File { name, sha256 });
        }
        let file = Digested::of(&path, store).with_context(|| format!("digest model `{}`", model.name))?;
        let sha256 = file.digest;
        here.push(file);
        Ok(File { name, sha256 })
    });
    let files = files.collect::<Result<Vec<_>>>()?;
    let dtype = model.dtype.unwrap_or(found.spec.dtype);
    Ok(Model {
        name: model.name.clone(),
        checks: None,
        origin: found.origin,
        commit: found.snapshot.as_ref().map(|snapshot| snapshot.commit.clone()),
        snapshot: found.snapshot,
        adapter: found.adapter,
        dtype,
        compute_dtype: model.compute_dtype.unwrap_or_else(|| dtype.computed_on(device.device)),
        offload: model.offload,
        dtype_reason: if model.dtype.is_some() {
            "asked for in the experiment file"
        } else {
            "the checkpoint's own"
        },
        thinking: model.thinking,
        layers: found.layers,
        tokenizer: found.other,
        tokenizer_note: Tokenizer::oddity(&found.checkpoint),
        identity: Digest::of(&match found.ignored.as_slice() {
            [] => serde_json::to_vec(&files)?,
            ignored => serde_json::to_vec(&(&files, ignored))?,
        }),
        files: here,
        checkpoint: found.checkpoint,
        spec: found.spec,
        unread: found.unread,
        ignored: found.ignored,
    })
}
