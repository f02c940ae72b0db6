//! Nodes for imported vectors, read from files, and for their analyses.

use std::borrow::Cow;

use serde::Serialize;

use super::build::{Builder, unit};
use super::key::Digest;
use super::preimage::key;
use super::{Subject, Unit, Work};
use crate::config;
use crate::lm::Layer;
use crate::stages::analysis::Analysis;
use crate::stages::vectors::imported;

/// The part of an import that enters keys, independent of where the files are.
#[derive(Serialize)]
struct ImportParams<'a> {
    files: &'a [(Digest, Option<String>)],
    layers: Option<&'a [Layer]>,
    emotions: &'a [String],
    layer: Layer,
}

impl Builder<'_> {
    /// The vectors of the first source of stories, whose norms serve as the unit of strengths if a file states none.
    fn first_of_stories(&self, variant: usize, model: usize) -> Option<usize> {
        let name = &self.resolved.models[model].name;
        let mut sources = self.variants[variant].stories.iter();
        sources.find_map(|source| self.merged.find(variant, &Subject::vectors(name, &source.name)))
    }

    /// The vectors whose stories belong to a set: its own, or, for imported vectors, those of the first source.
    pub(super) fn with_stories(&self, variant: usize, model: usize, vectors: usize) -> usize {
        match self.nodes[vectors].work {
            Work::Vectors { theirs: Some(_), .. } => self.first_of_stories(variant, model).unwrap_or(vectors),
            _ => vectors,
        }
    }

    /// The imported vectors that belong to `model`, and their analyses.
    pub(super) fn imports(&mut self, variant: usize, model: usize) {
        let (reader, experiment) = (&self.resolved.models[model], self.variants[variant]);
        let ours = self.first_of_stories(variant, model);
        for import in &experiment.imports {
            let pinned = &self.resolved.vectors[variant][&import.name];
            if !pinned.are_of(reader) {
                continue;
            }
            let mut units: Vec<Unit> = Vec::new();
            for &(layer, says_norm) in pinned.layers.iter().filter(|(layer, _)| reader.layers.contains(layer))
            {
                let inputs = match (says_norm, ours) {
                    (true, _) => Vec::new(),
                    (false, Some(ours)) => self.at_layer(ours, layer),
                    (false, None) => continue, // no stories are available
                };
                let params = ImportParams {
                    files: &pinned.contents,
                    layers: pinned.files.layers.as_deref(),
                    emotions: &pinned.emotions,
                    layer,
                };
                let keyed = key("vectors/file", imported::VERSION, &params, &self.keys(&inputs), None, None);
                units.push(unit(keyed, 0..0, Some(layer), inputs));
            }
            if units.is_empty() {
                continue;
            }
            let work = Work::Vectors {
                params: experiment.vectors.clone(),
                emotions: pinned.emotions.clone(),
                set: self.set(reader, &import.name),
                theirs: Some(pinned.files.clone()),
            };
            let vectors = self.push(variant, Subject::vectors(&reader.name, &import.name), work, None, units);
            self.analyses(variant, model, &import.name, vectors, None);
        }
    }
}

/// An analysis without the parts that need stories, for vectors that have none. `None` if nothing of it remains, since
/// it needs activations or spans.
pub(super) fn without_stories(analysis: &config::Analysis) -> Option<Cow<'static, config::Analysis>> {
    let mut fitted = analysis.clone();
    match &mut fitted.kind {
        Analysis::Steering(steering) => {
            (steering.shuffled, steering.topics, steering.resamples) = (0, 0, 0);
        }
        Analysis::LogitLens(lens) => lens.topics = 0,
        _ => {}
    }
    (!fitted.kind.inputs().activations && fitted.kind.spans().is_none()).then_some(Cow::Owned(fitted))
}
