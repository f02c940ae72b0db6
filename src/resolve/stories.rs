//! Story files, on this machine or in a hub dataset repository: found, counted and digested. Independent of models.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::dataset::{NoFiles, OnHub, Pinned};
use super::digested::Digested;
use super::hub::Hub;
use super::{labels, local};
use crate::config::problem::Problem;
use crate::config::{self, Asked, SourceKind};
use crate::interrupt::Interrupted;
use crate::plan::NEUTRAL;
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::stages::stories::file::{self, Files, Survey};
use crate::store::Store;

/// The files of a source in their current state.
#[derive(Debug)]
pub struct StoryFiles {
    pub files: Files,
    /// For each file, in the same order.
    pub digests: Vec<Digest>,
    as_they_were: Vec<Digested>,
    pub survey: Survey,
    /// `None`: local files.
    pub dataset: Option<Pinned>,
}

impl StoryFiles {
    /// Notes about the files, with the name of their source.
    pub fn notes(&self, name: &str) -> Vec<String> {
        labels::notes(name, &self.files, &self.survey)
    }

    /// An error if a file is no longer as it was when the run began, or was changed in between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.as_they_were.iter().try_for_each(|file| file.ensure_unchanged(store))
    }
}

/// A source that reads files.
struct Wanted<'a> {
    name: &'a str,
    place: Place<'a>,
    rows: &'a config::FileRows,
    /// `None`: neutral text.
    emotions: Option<&'a [String]>,
    limit_per_emotion: Option<usize>,
    /// The location of the path or repository.
    span: &'a config::Span,
}

enum Place<'a> {
    Here(&'a PathBuf),
    Hub(&'a config::Dataset),
}

impl Wanted<'_> {
    fn files(&self, paths: Vec<PathBuf>) -> Files {
        Files {
            paths,
            columns: self.rows.columns.clone(),
            labels: self.rows.labels.clone(),
            empty: self.rows.empty,
            emotions: self.emotions.map(<[String]>::to_vec),
            limit_per_emotion: self.limit_per_emotion,
        }
    }

    fn problem(&self, error: &anyhow::Error) -> Problem {
        Problem::at(self.span.clone(), format!("{error:#}"))
    }

    /// A survey of the content of `files`; an error if an emotion has no story there.
    fn survey(&self, files: &Files) -> Result<Survey, Problem> {
        let survey = files.survey().map_err(|error| self.problem(&error))?;
        match labels::lacking(files, &survey) {
            Some((message, hint)) => Err(Problem::at(self.span.clone(), message).hint(hint)),
            None => Ok(survey),
        }
    }
}

/// Every source that reads files and whose emotions are known.
fn wanted<'a>(asked: &Asked<'a>) -> impl Iterator<Item = Wanted<'a>> {
    let emotions = asked.emotions;
    let told = asked.stories.iter().filter(move |_| emotions.is_some());
    let told = told.map(move |source| (source.name.as_str(), &source.kind, &source.span, emotions));
    let neutral = asked.neutral.map(|(kind, span)| (NEUTRAL, kind, span, None));
    told.chain(neutral).filter_map(|(name, kind, span, emotions)| {
        let (place, rows, limit_per_emotion) = match kind {
            SourceKind::File { path, rows } => (Place::Here(path), rows, None),
            SourceKind::Dataset(data) => (Place::Hub(data), &data.rows, data.limit_per_emotion),
            _ => return None,
        };
        Some(Wanted { name, place, rows, emotions, limit_per_emotion, span })
    })
}

/// Problems with the files that an experiment refers to; `None`: datasets are not checked. A dataset that is not on
/// this machine yet is not a problem.
///
/// `notes` receives remarks about files that can be read.
pub(super) fn check(asked: &Asked, hub: Option<&Arc<Hub>>, notes: &mut Vec<String>) -> Vec<Problem> {
    let mut check = |source: Wanted| {
        let paths = match source.place {
            Place::Here(path) => match local::found(path, asked.root) {
                Ok(paths) => paths,
                Err((message, hint)) => return Some(Problem::at(source.span.clone(), message).hint(hint)),
            },
            Place::Hub(data) => {
                let snapshot = hub?.cached_dataset(&data.repo, &data.revision).ok()?;
                match on_hub(data).matching(&snapshot) {
                    Ok(names) => snapshot.paths(&names)?,
                    Err(problem) => return Some(problem),
                }
            }
        };
        let files = source.files(paths);
        match source.survey(&files) {
            Ok(survey) => {
                notes.extend(labels::notes(source.name, &files, &survey));
                None
            }
            Err(problem) => Some(problem),
        }
    };
    wanted(asked).filter_map(&mut check).collect()
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
) -> Result<BTreeMap<String, StoryFiles>> {
    let mut all = BTreeMap::new();
    for source in wanted(asked) {
        let found = match source.place {
            Place::Here(path) => match local::found(path, asked.root) {
                Ok(paths) => Ok((paths, None)),
                Err((message, hint)) => {
                    Err(NoFiles(Problem::at(source.span.clone(), message).hint(hint)).into())
                }
            },
            Place::Hub(data) => on_hub(data).fetched(hub, progress),
        };
        let counted = found.and_then(|(paths, dataset)| {
            let files = source.files(paths);
            // Recorded before counting, so that changes during counting are detected.
            let as_they_were = files.paths.iter().map(|path| Digested::of(path, store));
            let as_they_were = as_they_were.collect::<Result<Vec<_>>>()?;
            Ok((source.survey(&files).map_err(NoFiles)?, files, dataset, as_they_were))
        });
        match counted {
            Ok((survey, files, dataset, as_they_were)) => {
                let digests = as_they_were.iter().map(|file| file.digest).collect();
                let found = StoryFiles { files, digests, as_they_were, survey, dataset };
                all.insert(source.name.to_string(), found);
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => problems.push(match error.downcast::<NoFiles>() {
                Ok(NoFiles(problem)) => problem,
                Err(error) => source.problem(&error),
            }),
        }
    }
    Ok(all)
}

fn on_hub(data: &config::Dataset) -> OnHub<'_> {
    OnHub {
        repo: &data.repo,
        revision: &data.revision,
        files: &data.files,
        span: &data.files_span,
        readable: (file::refused as fn(&str) -> Option<&'static str>, config::CONVERTED),
    }
}
