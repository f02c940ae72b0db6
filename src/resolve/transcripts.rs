//! Files of transcripts: found, counted and digested. Knows no model.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::digested::Digested;
use super::local;
use crate::config::problem::Problem;
use crate::config::{Asked, DialogueSource, Span};
use crate::plan::key::Digest;
use crate::stages::texts::file::{KNOWN, LabelFields, refused};
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

/// A source that is files.
struct Source<'a> {
    name: &'a str,
    span: &'a Span,
    path: &'a Path,
    files: Files,
}

/// Every source that is files, with none of them found yet.
fn sources<'a>(asked: &Asked<'a>) -> impl Iterator<Item = Source<'a>> {
    let told = asked.transcripts.iter().map(|source| {
        let keys = &source.keys;
        let (label, event) = (keys.label.clone(), keys.event.clone());
        let files = Files { paths: Vec::new(), label, event, broken: keys.broken, labels: None };
        Source { name: &source.name, span: &source.span, path: &keys.path, files }
    });
    let spoken = asked.dialogues.iter().filter_map(|source| {
        let DialogueSource::Files(keys) = &source.source else { return None };
        let labels = LabelFields {
            emotion: keys.emotion.clone(),
            other: keys.other.clone(),
            topic: keys.topic.clone(),
        };
        let files =
            Files { paths: Vec::new(), label: None, event: None, broken: keys.broken, labels: Some(labels) };
        Some(Source { name: &source.name, span: &source.span, path: &keys.path, files })
    });
    told.chain(spoken)
}

impl Source<'_> {
    /// The files that it means.
    fn found(&self, asked: &Asked) -> Result<Files, Problem> {
        let paths = local::found_of(self.path, asked.root, (refused, KNOWN));
        let paths = paths.map_err(|(message, hint)| Problem::at(self.span.clone(), message).hint(hint))?;
        Ok(Files { paths, ..self.files.clone() })
    }

    fn survey(&self, files: &Files) -> Result<Survey, Problem> {
        files.survey().map_err(|error| Problem::at(self.span.clone(), format!("{error:#}")))
    }
}

/// What is wrong with the files that an experiment asks for. `notes` gets what is to be known of those that can be read.
pub(super) fn check(asked: &Asked, notes: &mut Vec<String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for source in sources(asked) {
        match source.found(asked).and_then(|files| source.survey(&files)) {
            Ok(survey) => notes.extend(survey.notes(source.name)),
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
    for source in sources(asked) {
        let files = match source.found(asked) {
            Ok(files) => files,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        // Before they are counted: what is changed meanwhile is found.
        let as_they_were = files.paths.iter().map(|path| Digested::of(path, store));
        let as_they_were = as_they_were.collect::<Result<Vec<_>>>()?;
        match source.survey(&files) {
            Ok(survey) => {
                let digests = as_they_were.iter().map(|file| file.digest).collect();
                all.insert(source.name.to_string(), TranscriptFiles { files, digests, as_they_were, survey });
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(all)
}
