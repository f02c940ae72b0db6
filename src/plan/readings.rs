//! Nodes of texts that are read token by token, and of what a model makes of them.

use super::build::{Builder, unit};
use super::preimage::{ReadingParams, TextParams, key};
use super::{Subject, UnitId, Work, rounds};
use crate::config;
use crate::lm::Layer;
use crate::stages::readings::{self, From};
use crate::stages::texts;

impl Builder<'_> {
    /// The transcripts of a variant, and the texts of the file that are read token by token.
    pub(super) fn transcripts(&mut self, variant: usize) {
        for source in &self.variants[variant].transcripts {
            let pinned = &self.resolved.transcripts[variant][&source.name];
            let ranges = rounds::shards(pinned.survey.transcripts, 1, self.variants[variant].shard, None);
            let units = ranges.into_iter().map(|range| {
                let params = TextParams::of(&pinned.files, &pinned.digests, range.clone());
                unit(key("texts/file", texts::VERSION, &params, &[], None, None), range, None, Vec::new())
            });
            let units = units.collect();
            self.push(variant, Subject::texts(&source.name), Work::Texts(pinned.files.clone()), None, units);
        }
        for analysis in &self.variants[variant].analysis {
            for from in analysis.kind.reads().into_iter().flat_map(|wanted| wanted.from) {
                let From::Written(lines) = from else { continue };
                let keyed = key("texts/written", texts::VERSION, &lines, &[], None, None);
                let units = vec![unit(keyed, 0..lines.len(), None, Vec::new())];
                self.push(variant, written(&analysis.name), Work::Written(lines), None, units);
            }
        }
    }

    /// What `model` makes of the texts that an analysis reads by the vectors at `layers`, which are among the units of the node
    /// `vectors`: the vectors, then the readings, text after text; then the stories, where they are wanted too.
    pub(super) fn read_tokens(
        &mut self,
        variant: usize,
        (model, source): (usize, &str),
        vectors: usize,
        layers: &[Layer],
        config::Analysis { name, .. }: &config::Analysis,
        wanted: &readings::Wanted,
    ) -> Vec<UnitId> {
        let (reader, experiment) = (&self.resolved.models[model], self.variants[variant]);
        let directions: Vec<UnitId> =
            layers.iter().flat_map(|&layer| self.at_layer(vectors, layer)).collect();
        let made_of: Vec<UnitId> = directions.iter().flat_map(|&id| &self.unit(id).inputs).copied().collect();
        let of_stage = |stage: &str| {
            made_of.iter().copied().filter(|id| self.nodes[id.node].work.stage() == stage).collect::<Vec<_>>()
        };
        let activations = of_stage("activations");
        let mut stories: Vec<UnitId> =
            activations.iter().flat_map(|&id| &self.unit(id).inputs).copied().collect();
        let first = layers.len().max(1);
        stories.truncate(stories.len() / first);
        let params = readings::Params {
            random: wanted.random,
            seed: experiment.seed,
            wrap: experiment.activations.wrap,
            chat: self.chat(model),
        };
        // Texts are numbered over all sources: two units of a node are about different ones.
        let (mut units, mut before) = (Vec::new(), 0);
        for from in &wanted.from {
            let texts: Vec<UnitId> = match from {
                From::Stories => stories.clone(),
                From::Transcripts(name) => self.whole(variant, &Subject::texts(name)),
                From::Written(_) => self.whole(variant, &written(name)),
            };
            for text in texts {
                let mut inputs = directions.clone();
                inputs.extend(activations.iter().filter(|_| wanted.random > 0));
                inputs.push(text);
                let turns = matches!(from, From::Transcripts(_));
                let params = ReadingParams::of(&params, layers, turns);
                let numerics = Some(self.numerics(reader, Some(readings::BATCH_TOKENS)));
                let identity = Some(&reader.identity);
                let keyed =
                    key("readings", readings::VERSION, &params, &self.keys(&inputs), identity, numerics);
                let count = self.unit(text).stories.len();
                units.push(unit(keyed, before..before + count, None, inputs));
                before += count;
            }
        }
        let count = units.len();
        let work = Work::Readings { params, set: self.set(reader, source) };
        let subject = Subject::readings(name, &reader.name, source);
        let node = self.push(variant, subject, work, Some(model), units);
        let read = (0..count).map(|unit| UnitId { node, unit });
        let stories = stories.into_iter().filter(|_| wanted.words);
        directions.into_iter().chain(read).chain(stories).collect()
    }

    /// All units of a node.
    fn whole(&self, variant: usize, subject: &Subject) -> Vec<UnitId> {
        let node = self.merged.find(variant, subject).expect("texts come first");
        (0..self.nodes[node].units.len()).map(|unit| UnitId { node, unit }).collect()
    }
}

/// The texts that an analysis has in the file.
fn written(analysis: &str) -> Subject {
    Subject::texts(&format!("{analysis}.texts"))
}
