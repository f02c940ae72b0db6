//! Nodes of texts that are read token by token, and of what a model makes of them.

use super::build::{Builder, unit};
use super::preimage::{ReadingParams, TextParams, key};
use super::{Subject, UnitId, Work, rounds};
use crate::config;
use crate::lm::Layer;
use crate::stages::readings::{self, From};
use crate::stages::texts;

impl Builder<'_> {
    /// The transcripts of a variant.
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
        let mut units = Vec::new();
        for from in &wanted.from {
            let texts: Vec<UnitId> = match from {
                From::Stories => stories.clone(),
                From::Transcripts(name) => self.whole(variant, &Subject::texts(name)),
                From::Written(texts) => {
                    let keyed = key("texts/written", texts::VERSION, texts, &[], None, None);
                    let all = unit(keyed, 0..texts.len(), None, Vec::new());
                    let node = self.push(
                        variant,
                        Subject::texts(name),
                        Work::Written(texts.clone()),
                        None,
                        vec![all],
                    );
                    vec![UnitId { node, unit: 0 }]
                }
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
                units.push(unit(keyed, self.unit(text).stories.clone(), None, inputs));
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
