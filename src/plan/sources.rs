//! Sources of texts as a plan sees them: stories, neutral text and dialogues, which are written alike. Makes no node.

use super::rounds;
use crate::config::{Experiment, SourceKind, Writer};
use crate::stages::stories::Item;
use crate::stages::texts::Pairing;

/// A story source, or the neutral text, under the name that its nodes carry.
pub struct Texts<'a> {
    pub name: &'a str,
    pub kind: &'a SourceKind,
    /// `None`: neutral text.
    pub emotions: Option<&'a [String]>,
    /// Of dialogues: whose the two emotions are.
    pub pairing: Option<Pairing>,
}

impl Texts<'_> {
    /// Those of dialogues with their second emotions, in the order of their shards.
    pub fn ordered(&self, items: Vec<Item>, experiment: &Experiment) -> Vec<Item> {
        let items = match (self.pairing, self.emotions) {
            (Some(pairing), Some(emotions)) => pairing.paired(items, emotions, experiment.seed),
            _ => items,
        };
        rounds::order(items, self.n_emotions(), experiment.shard)
    }

    /// One for neutral text.
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
