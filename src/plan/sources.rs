//! Sources of texts in a plan: stories, neutral text and dialogues, which are generated in the same way. Creates no
//! nodes.

use super::preimage::FileParams;
use super::{Subject, rounds};
use crate::config::{Experiment, SourceKind, Writer};
use crate::resolve::{Resolved, StoryFiles};
use crate::stages::stories::{Item, file};
use crate::stages::texts::Pairing;

/// A source of texts, under the name that its nodes carry.
pub struct Texts<'a> {
    pub name: &'a str,
    pub kind: &'a SourceKind,
    /// `None` for neutral text.
    pub emotions: Option<&'a [String]>,
    /// For dialogues: what the two emotions refer to.
    pub pairing: Option<Pairing>,
}

impl Texts<'_> {
    /// Sorts the items in the order of their shards, after adding the second emotions of dialogues.
    pub fn ordered(&self, items: Vec<Item>, experiment: &Experiment) -> Vec<Item> {
        let items = match (self.pairing, self.emotions) {
            (Some(pairing), Some(emotions)) => pairing.paired(items, emotions, experiment.seed),
            _ => items,
        };
        rounds::order(items, self.n_emotions(), experiment.shard)
    }

    /// Number of emotions; 1 for neutral text.
    pub fn n_emotions(&self) -> usize {
        self.emotions.map_or(1, <[String]>::len)
    }

    pub fn writer(&self) -> Option<&Writer> {
        match self.kind {
            SourceKind::Generate { writer, .. } => Some(writer),
            _ => None,
        }
    }
}

/// Notes on sources for which a limit is exceeded: shards are computed completely, and files are read completely.
pub fn limit_notes(resolved: &Resolved, limit: usize) -> Vec<String> {
    let emotions = resolved.experiment.emotions.len();
    let depth = rounds::depth(emotions, resolved.experiment.shard);
    let sources = resolved.experiment.stories.iter().filter_map(|source| {
        let each = match &source.kind {
            SourceKind::Template(template) => template.passages.len(),
            SourceKind::Generate { params, .. } | SourceKind::Served { params, .. } => {
                params.topics.len() * params.per_topic
            }
            SourceKind::File { .. } | SourceKind::Dataset(_) => {
                return Some(format!(
                    "{}: a file is always read completely",
                    Subject::stories(&source.name, None)
                ));
            }
        };
        let taken = limit.next_multiple_of(depth).min(each);
        let why = format!("shards hold {} stories per emotion and are computed completely", depth.min(each));
        (taken > limit)
            .then(|| format!("{}: {taken} of {each}, for {why}", Subject::stories(&source.name, None)))
    });
    sources.collect()
}

/// The part of each file that enters keys.
pub(super) fn files(pinned: &StoryFiles) -> Vec<FileParams<'_>> {
    let files = pinned.files.paths.iter().zip(&pinned.digests).zip(&pinned.survey.by_name);
    let params = files.map(|((path, content), label)| FileParams {
        content: *content,
        format: file::format_of(path),
        label: label.as_deref(),
    });
    params.collect()
}
