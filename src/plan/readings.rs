//! Nodes for texts that are read token by token, and for a model's readings of them.

use super::build::{Builder, unit};
use super::preimage::{ReadingParams, SampleParams, TextParams, key};
use super::{Subject, Unit, UnitId, Work, rounds};
use crate::config;
use crate::lm::Layer;
use crate::stages::analysis::Analysis;
use crate::stages::readings::{self, From};
use crate::stages::{spans, texts};

impl Builder<'_> {
    /// Adds the transcripts of a variant, and the texts from the experiment file that are read token by token.
    pub(super) fn transcripts(&mut self, variant: usize) {
        let experiment = self.variants[variant];
        let told = experiment.transcripts.iter().map(|source| &source.name);
        let spoken = experiment.dialogues.iter().filter(|source| source.written().is_none());
        for name in told.chain(spoken.map(|source| &source.name)) {
            let pinned = &self.resolved.transcripts[variant][name];
            let ranges = rounds::shards(pinned.survey.transcripts, 1, self.variants[variant].shard, None);
            let units = ranges.into_iter().map(|range| {
                let params = TextParams::of(&pinned.files, &pinned.digests, range.clone());
                unit(key("texts/file", texts::VERSION, &params, &[], None, None), range, None, Vec::new())
            });
            let units = units.collect();
            self.push(variant, Subject::texts(name), Work::Texts(pinned.files.clone()), None, units);
        }
        let single = experiment.analysis.iter().map(|analysis| (&analysis.name, &analysis.kind));
        let across = experiment.across.iter().map(|analysis| (&analysis.name, &analysis.kind));
        for (name, kind) in single.chain(across) {
            let pooled = kind.spans().map(|wanted| wanted.from);
            for from in kind.reads().into_iter().flat_map(|wanted| wanted.from).chain(pooled) {
                let (keyed, count, work) = match from {
                    From::Written(lines) => {
                        let keyed = key("texts/written", texts::VERSION, &lines, &[], None, None);
                        (keyed, lines.len(), Work::Written(lines))
                    }
                    From::Prompts(prompts) => {
                        let version = texts::dialogues::VERSION;
                        let keyed = key("texts/prompts", version, &prompts, &[], None, None);
                        (keyed, prompts.len(), Work::Prompts(prompts))
                    }
                    From::Stories | From::Transcripts(_) | From::Rollouts(_) => continue,
                };
                self.push(variant, written(name), work, None, vec![unit(keyed, 0..count, None, Vec::new())]);
            }
        }
    }

    /// Adds the dialogues in the stories of a source. `own`: the model that wrote them for itself.
    pub(super) fn dialogues(&mut self, variant: usize, source: &str, own: Option<&String>) {
        let own = own.map(String::as_str);
        let stories = self.merged.find(variant, &Subject::stories(source, own)).expect("stories come first");
        let units = (0..self.nodes[stories].units.len()).map(|unit| {
            let inputs = vec![UnitId { node: stories, unit }];
            let keyed =
                key("texts/dialogues", texts::dialogues::VERSION, &(), &self.keys(&inputs), None, None);
            super::build::unit(keyed, self.nodes[stories].units[unit].stories.clone(), None, inputs)
        });
        let units = units.collect();
        self.push(variant, spoken(source, own), Work::Dialogues, None, units);
    }

    /// The units of the conversations that `model` reads: those that it wrote itself, or the shared ones.
    fn conversations(&self, variant: usize, model: usize, source: &str) -> Option<Vec<UnitId>> {
        let own = spoken(source, Some(&self.resolved.models[model].name));
        let node = [own, spoken(source, None)].iter().find_map(|s| self.merged.find(variant, s))?;
        Some((0..self.nodes[node].units.len()).map(|unit| UnitId { node, unit }).collect())
    }

    /// Whether all conversations that an analysis reads are available.
    pub(super) fn has_texts(&self, variant: usize, model: usize, analysis: &Analysis) -> bool {
        let pooled = analysis.spans().map(|wanted| wanted.from);
        let mut all = analysis.reads().into_iter().flat_map(|wanted| wanted.from).chain(pooled);
        all.all(|from| match from {
            From::Transcripts(name) => self.conversations(variant, model, &name).is_some(),
            _ => true,
        })
    }

    /// The inputs of an analysis of spans at `layers`: the vectors, which are units of the node `vectors`; the
    /// components of neutral text; and spans of the conversations.
    pub(super) fn read_spans(
        &mut self,
        variant: usize,
        model: usize,
        vectors: usize,
        name: &str,
        layers: &[Layer],
        wanted: &spans::Wanted,
    ) -> Vec<UnitId> {
        let pooled = self.pooled(variant, model, name, layers, wanted);
        let of: Vec<UnitId> = layers.iter().flat_map(|&layer| self.at_layer(vectors, layer)).collect();
        let made_of = of.iter().flat_map(|&id| &self.unit(id).inputs).copied();
        let neutral = made_of.filter(|id| self.nodes[id.node].work.stage() == "neutral");
        let neutral: Vec<UnitId> = neutral.collect();
        of.into_iter().chain(neutral).chain(pooled).collect()
    }

    /// Spans of the conversations that the analysis `name` reads with `model`, pooled at `layers`: one unit per shard.
    pub(super) fn pooled(
        &mut self,
        variant: usize,
        model: usize,
        name: &str,
        layers: &[Layer],
        wanted: &spans::Wanted,
    ) -> Vec<UnitId> {
        let reader = &self.resolved.models[model];
        let texts = match &wanted.from {
            From::Transcripts(source) => {
                self.conversations(variant, model, source).expect("texts come first")
            }
            _ => self.whole(variant, &written(name)),
        };
        let params = spans::Params {
            layers: layers.to_vec(),
            spans: wanted.spans.clone(),
            open: wanted.open,
            chat: (wanted.wrap == spans::Wrapped::Chat).then(|| self.chat(model)),
        };
        let units = texts.into_iter().map(|text| {
            let numerics = Some(self.numerics(reader, Some(spans::BATCH_TOKENS)));
            let keys = self.keys(&[text]);
            let keyed = key("spans", spans::VERSION, &params, &keys, Some(&reader.identity), numerics);
            unit(keyed, self.unit(text).stories.clone(), None, vec![text])
        });
        let units: Vec<Unit> = units.collect();
        let count = units.len();
        let subject = Subject::spans(name, &reader.name);
        let node = self.push(variant, subject, Work::Spans(params), Some(model), units);
        (0..count).map(|unit| UnitId { node, unit }).collect()
    }

    /// The inputs of an analysis that reads texts token by token at `layers`: the vectors, which are units of the node
    /// `vectors`; then `model`'s readings, in the order of the texts; then the stories, if they are wanted too.
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
        let behind = self.with_stories(variant, model, vectors);
        let behind = layers.iter().flat_map(|&layer| self.at_layer(behind, layer));
        let made_of: Vec<UnitId> = behind.flat_map(|id| self.unit(id).inputs.clone()).collect();
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
        // Texts are numbered across all sources, so that different units of a node cover different texts.
        let (mut units, mut before) = (Vec::new(), 0);
        for from in &wanted.from {
            let texts: Vec<UnitId> = match from {
                From::Stories => stories.clone(),
                From::Transcripts(name) => {
                    self.conversations(variant, model, name).expect("texts come first")
                }
                From::Written(_) | From::Prompts(_) => self.whole(variant, &written(name)),
                From::Rollouts(most) => self.samples(variant, (model, source), name, *most),
            };
            for text in texts {
                let mut inputs = directions.clone();
                inputs.extend(activations.iter().filter(|_| wanted.random > 0));
                inputs.push(text);
                let turns = matches!(from, From::Transcripts(_) | From::Rollouts(_));
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

    /// The texts that `model` wrote for an analysis, as conversations: one unit per case.
    fn samples(
        &mut self,
        variant: usize,
        (model, source): (usize, &str),
        analysis: &str,
        most: usize,
    ) -> Vec<UnitId> {
        let name = self.resolved.models[model].name.clone();
        let rollouts =
            self.merged.find(variant, &Subject::rollouts(analysis, &name, source)).expect("they come first");
        let Work::Rollouts { writing, .. } = &self.nodes[rollouts].work else {
            unreachable!("a node of rollouts")
        };
        let cases = writing.cases.clone();
        let units = cases.iter().enumerate().map(|(at, case)| {
            let inputs = vec![UnitId { node: rollouts, unit: at }];
            let params = SampleParams::of(case, most);
            let keyed =
                key("texts/rollouts", texts::samples::VERSION, &params, &self.keys(&inputs), None, None);
            let stories = self.nodes[rollouts].units[at].stories.clone();
            unit(keyed, stories, None, inputs)
        });
        let units: Vec<Unit> = units.collect();
        let count = units.len();
        let subject = Subject::texts(&format!("{analysis}/{name}/{source}"));
        let node = self.push(variant, subject, Work::Samples { cases, most }, None, units);
        (0..count).map(|unit| UnitId { node, unit }).collect()
    }

    /// All units of a node.
    fn whole(&self, variant: usize, subject: &Subject) -> Vec<UnitId> {
        let node = self.merged.find(variant, subject).expect("texts come first");
        (0..self.nodes[node].units.len()).map(|unit| UnitId { node, unit }).collect()
    }
}

/// The name of the conversations of a source. `own`: the model that wrote them for itself.
fn spoken(source: &str, own: Option<&str>) -> Subject {
    match own {
        Some(model) => Subject::texts(&format!("{source}@{model}")),
        None => Subject::texts(source),
    }
}

/// The name of an analysis's texts from the experiment file.
fn written(analysis: &str) -> Subject {
    Subject::texts(&format!("{analysis}.texts"))
}
