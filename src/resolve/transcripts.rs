//! Files of transcripts: found, counted and digested. Knows no model.

use std::collections::BTreeMap;

use anyhow::Result;

use super::digested::Digested;
use super::local;
use crate::config::problem::Problem;
use crate::config::{Asked, Transcripts};
use crate::plan::key::Digest;
use crate::stages::texts::file::{KNOWN, refused};
use crate::stages::texts::{Files, Survey};
use crate::store::Store;

/// The files of a source as they are now.
#[derive(Debug)]
pub struct TranscriptFiles {
    pub files: Files,
    /// Of each file, in the same order.
    pub digests: Vec<Digest>,
    as_they_were: Vec<Digested>,
    pub survey: Survey,
}

impl TranscriptFiles {
    /// An error if a file is not what it was when the run began, or was changed in between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.as_they_were.iter().try_for_each(|file| file.ensure_unchanged(store))
    }
}

/// The files that a source means.
fn files(asked: &Asked, source: &Transcripts) -> Result<Files, Problem> {
    let keys = &source.keys;
    let paths = local::found_of(&keys.path, asked.root, (refused, KNOWN));
    let paths = paths.map_err(|(message, hint)| Problem::at(source.span.clone(), message).hint(hint))?;
    Ok(Files { paths, label: keys.label.clone(), event: keys.event.clone(), broken: keys.broken })
}

fn survey(files: &Files, source: &Transcripts) -> Result<Survey, Problem> {
    files.survey().map_err(|error| Problem::at(source.span.clone(), format!("{error:#}")))
}

/// What is wrong with the files that an experiment asks for. `notes` gets what is to be known of those that can be read.
pub(super) fn check(asked: &Asked, notes: &mut Vec<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in asked.transcripts {
        match files(asked, source).and_then(|files| survey(&files, source)) {
            Ok(survey) => notes.extend(survey.notes(&source.name)),
            Err(problem) => problems.push(problem),
        }
    }
    problems
}

/// The files of every source, by its name. What is wrong goes to `problems`.
///
/// # Errors
/// A file cannot be digested.
pub(super) fn pin(
    asked: &Asked,
    store: &Store,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<String, TranscriptFiles>> {
    let mut all = BTreeMap::new();
    for source in asked.transcripts {
        let files = match files(asked, source) {
            Ok(files) => files,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        // Before they are counted: what is changed meanwhile is found.
        let as_they_were = files.paths.iter().map(|path| Digested::of(path, store));
        let as_they_were = as_they_were.collect::<Result<Vec<_>>>()?;
        match survey(&files, source) {
            Ok(survey) => {
                let digests = as_they_were.iter().map(|file| file.digest).collect();
                all.insert(source.name.clone(), TranscriptFiles { files, digests, as_they_were, survey });
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(all)
}
