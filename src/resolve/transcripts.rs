//! Files of transcripts, on this machine or in a hub dataset repository: found, counted and digested. Independent of
//! models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::dataset::{NoFiles, OnHub, Pinned};
use super::digested::Digested;
use super::hub::Hub;
use super::local;
use crate::config::problem::Problem;
use crate::config::{Asked, DialogueFields, DialogueSource, Span};
use crate::interrupt::Interrupted;
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::stages::texts::file::{KNOWN, LabelFields, refused};
use crate::stages::texts::{Files, Survey};
use crate::store::Store;

/// The files of a source in their current state.
#[derive(Debug)]
pub struct TranscriptFiles {
    pub files: Files,
    /// For each file, in the same order.
    pub digests: Vec<Digest>,
    as_they_were: Vec<Digested>,
    pub survey: Survey,
    /// `None`: local files.
    pub dataset: Option<Pinned>,
}

impl TranscriptFiles {
    /// An error if a file is no longer as it was when the run began, or was changed in between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.as_they_were.iter().try_for_each(|file| file.ensure_unchanged(store))
    }
}

/// A source that reads files.
struct Source<'a> {
    name: &'a str,
    span: &'a Span,
    place: Place<'a>,
    files: Files,
}

/// Where the files are.
enum Place<'a> {
    Here(&'a Path),
    Hub(OnHub<'a>),
}

/// Every source that reads files; no file has been looked up yet.
fn sources<'a>(asked: &Asked<'a>) -> impl Iterator<Item = Source<'a>> {
    let told = asked.transcripts.iter().map(|source| {
        let keys = &source.keys;
        let (label, event) = (keys.label.clone(), keys.event.clone());
        let files = Files { paths: Vec::new(), label, event, broken: keys.broken, labels: None };
        Source { name: &source.name, span: &source.span, place: Place::Here(&keys.path), files }
    });
    let spoken = asked.dialogues.iter().filter_map(|source| {
        let (place, fields) = match &source.source {
            DialogueSource::Written(_) => return None,
            DialogueSource::Files(keys) => (Place::Here(&keys.path), &keys.fields),
            DialogueSource::Dataset(data) => {
                let (repo, revision, files) = (&data.repo, &data.revision, &data.files);
                let readable = (refused as fn(&str) -> Option<&'static str>, KNOWN);
                (Place::Hub(OnHub { repo, revision, files, span: &data.files_span, readable }), &data.fields)
            }
        };
        let DialogueFields { emotion, other, topic, broken } = fields.clone();
        let labels = Some(LabelFields { emotion, other, topic });
        let files = Files { paths: Vec::new(), label: None, event: None, broken, labels };
        Some(Source { name: &source.name, span: &source.span, place, files })
    });
    told.chain(spoken)
}

/// Returns the paths of a dataset's files on this machine, and the commit.
type Fetched<'a> = &'a dyn Fn(&OnHub) -> Result<(Vec<PathBuf>, Option<Pinned>)>;

impl Source<'_> {
    /// The files of the source on this machine; for a dataset, `fetched` returns them.
    fn found(&self, asked: &Asked, fetched: Fetched) -> Result<(Files, Option<Pinned>)> {
        let (paths, pinned) = match &self.place {
            Place::Here(path) => {
                let paths = local::found_of(path, asked.root, (refused, KNOWN))
                    .map_err(|(message, hint)| NoFiles(Problem::at(self.span.clone(), message).hint(hint)));
                (paths?, None)
            }
            Place::Hub(data) => fetched(data)?,
        };
        Ok((Files { paths, ..self.files.clone() }, pinned))
    }

    /// The error as a problem with a location.
    fn problem(&self, error: anyhow::Error) -> Problem {
        match error.downcast::<NoFiles>() {
            Ok(NoFiles(problem)) => problem,
            Err(error) => Problem::at(self.span.clone(), format!("{error:#}")),
        }
    }
}

/// Problems with the files that an experiment refers to; `None`: datasets are not checked. A dataset that is not on
/// this machine yet is not a problem. `notes` receives remarks about files that can be read.
pub(super) fn check(asked: &Asked, hub: Option<&Arc<Hub>>, notes: &mut Vec<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources(asked) {
        let snapshot = match &source.place {
            Place::Here(_) => None,
            Place::Hub(data) => {
                let cached = hub.and_then(|hub| hub.cached_dataset(data.repo, data.revision).ok());
                let Some(snapshot) = cached else { continue };
                Some(snapshot)
            }
        };
        let found = source.found(asked, &|data| {
            let snapshot = snapshot.as_ref().context("a repository that was looked for")?;
            let names = data.matching(snapshot).map_err(NoFiles)?;
            Ok((snapshot.paths(&names).unwrap_or_default(), None))
        });
        match found {
            // Some of them are not on this machine yet.
            Ok((files, _)) if files.paths.is_empty() => {}
            Ok((files, _)) => match files.survey() {
                Ok(survey) => notes.extend(survey.notes(source.name)),
                Err(error) => problems.push(source.problem(error)),
            },
            Err(error) => problems.push(source.problem(error)),
        }
    }
    problems
}

/// The files of every source, by name; files on the hub are fetched. Failures go to `problems`.
///
/// # Errors
/// The run was interrupted, or a file cannot be digested.
pub(super) fn pin(
    asked: &Asked,
    hub: &Arc<Hub>,
    store: &Store,
    progress: &dyn Progress,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, TranscriptFiles>> {
    let mut all = BTreeMap::new();
    for source in sources(asked) {
        let (files, dataset) = match source.found(asked, &|data| data.fetched(hub, progress)) {
            Ok(found) => found,
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                problems.push(source.problem(error));
                continue;
            }
        };
        // Recorded before counting, so that changes during counting are detected.
        let as_they_were = files.paths.iter().map(|path| Digested::of(path, store));
        let as_they_were = as_they_were.collect::<Result<Vec<_>>>()?;
        match files.survey() {
            Ok(survey) => {
                let digests = as_they_were.iter().map(|file| file.digest).collect();
                let found = TranscriptFiles { files, digests, as_they_were, survey, dataset };
                all.insert(source.name.to_string(), found);
            }
            Err(error) => problems.push(source.problem(error)),
        }
    }
    Ok(all)
}
