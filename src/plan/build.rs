//! Builds the plan from the resolved experiment. Pure: accesses no files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::absent::{self, denoised, lost_writer};
use super::imports::without_stories;
use super::key::Key;
use super::preimage::{
    ActivationParams, AnalysisParams, FilesParams, NeutralParams, Numerics, TemplateParams, VectorParams,
    WrittenParams, key,
};
use super::rollouts::other_judge;
use super::sources::{Texts, files};
use super::variants::Merged;
use super::{Node, NodeId, Plan, Set, Subject, Unit, UnitId, Work, rounds};
use crate::config::{self, Experiment, Setting, SourceKind, Writer};
use crate::lm::{Chat, Dtype, Layer, decoder};
use crate::resolve::{Model, Resolved};
use crate::stages::analysis::Analysis;
use crate::stages::stories::{file, generate, served, template, writing};
use crate::stages::{activations, vectors};

/// The name of the neutral text in the plan; no story source may use it.
pub const NEUTRAL: &str = "neutral";

/// The plan of `resolved`: every model reads every source, every analysis runs on every resulting set of vectors.
pub fn build(resolved: &Resolved) -> Plan {
    build_limited(resolved, None)
}

/// The plan of `resolved`, limited to the first `limit` stories of every emotion: the first shards of each generated or
/// template source, exactly as in the full plan, and everything computed from them.
///
/// Variants of a sweep share all nodes that are the same for them.
pub fn build_limited(resolved: &Resolved, limit: Option<usize>) -> Plan {
    let variants = resolved.experiment.variants().into_iter();
    let mut plan = Builder {
        resolved,
        variants: variants.map(|(_, experiment)| experiment).collect(),
        limit,
        nodes: Vec::new(),
        shared: HashMap::new(),
        merged: Merged::default(),
    };
    let all = 0..plan.variants.len();
    for variant in all.clone() {
        for source in plan.sources(variant) {
            plan.shared_stories(variant, &source);
        }
        plan.transcripts(variant);
    }
    // Models that write for others come first; the last of them reads first, as it is already loaded.
    let mut order: Vec<usize> = (0..resolved.models.len()).collect();
    let is_reader = |m: &usize| resolved.models[*m].checks.is_none();
    let writes = |m: &usize| {
        let name = &resolved.models[*m].name;
        let sources = all.clone().flat_map(|variant| plan.sources(variant));
        sources.into_iter().any(|s| s.writer() == Some(&Writer::Model(name.clone())))
    };
    let writers: Vec<usize> = order.iter().copied().filter(writes).collect();
    if let Some(last) = writers.last() {
        order.sort_by_key(|m| m != last);
    }
    for &model in &writers {
        all.clone().for_each(|variant| plan.written_stories(variant, model, false));
    }
    for model in order {
        if is_reader(&model) {
            all.clone().for_each(|variant| plan.written_stories(variant, model, true));
        }
        all.clone().for_each(|variant| {
            plan.readings(variant, model);
            plan.imports(variant, model);
        });
    }
    // Texts of other models are judged model by model.
    for judge in 0..resolved.models.len() {
        all.clone().for_each(|variant| plan.judged(variant, judge));
    }
    // Analyses that need the same model loaded are adjacent.
    for target in std::iter::once(None).chain((0..resolved.models.len()).map(Some)) {
        all.clone().for_each(|variant| plan.across(variant, target));
    }
    let settings: Vec<&[Setting]> = resolved.experiment.variants().into_iter().map(|(s, _)| s).collect();
    plan.merged.name(&mut plan.nodes, &settings);
    let scale = resolved.experiment.scale.iter().map(|scale| scale.name.clone()).collect();
    plan.nodes.shrink_to_fit();
    Plan { nodes: plan.nodes, absent: absent::absent(resolved), scale }
}

pub(super) struct Builder<'a> {
    pub(super) resolved: &'a Resolved,
    /// The experiment itself if there is no sweep.
    pub(super) variants: Vec<&'a Experiment>,
    /// Maximum number of stories per emotion.
    limit: Option<usize>,
    pub(super) nodes: Vec<Node>,
    pub(super) merged: Merged,
    /// The parameters of analyses, by variant and place in the file.
    shared: HashMap<(usize, usize), Arc<Analysis>>,
}

impl<'a> Builder<'a> {
    /// All available sources of texts of a variant, including dialogues, which are generated like stories.
    pub(super) fn sources(&self, variant: usize) -> Vec<Texts<'a>> {
        let experiment = self.variants[variant];
        let stories = experiment.stories.iter();
        let mut all: Vec<_> = stories
            .map(|s| Texts {
                name: &s.name,
                kind: &s.kind,
                emotions: Some(&experiment.emotions),
                pairing: None,
            })
            .collect();
        let neutral = denoised(experiment);
        all.extend(neutral.map(|kind| Texts { name: NEUTRAL, kind, emotions: None, pairing: None }));
        let spoken = experiment.dialogues.iter().filter_map(|d| Some((d, d.written()?)));
        all.extend(spoken.map(|(dialogues, kind)| Texts {
            name: &dialogues.name,
            kind,
            emotions: Some(&experiment.emotions),
            pairing: Some(dialogues.pairing),
        }));
        all.retain(|texts| lost_writer(self.resolved, texts.kind).is_none());
        all
    }

    /// Adds the stories of a source that no model of the experiment writes.
    fn shared_stories(&mut self, variant: usize, texts: &Texts) {
        let subject = Subject::stories(texts.name, None);
        match texts.kind {
            SourceKind::Generate { .. } => {}
            SourceKind::Template(source) => {
                let experiment = self.variants[variant];
                let shard = experiment.shard;
                let items = texts.ordered(template::items(source, texts.emotions), experiment);
                let units = shards(self.ranges(texts, items.len(), shard), |range| {
                    let stories =
                        items[range].iter().map(|i| (i, source.passages[i.index].as_str())).collect();
                    let params = TemplateParams { stories };
                    key("stories/template", template::VERSION, &params, &[], None, None)
                });
                self.push(variant, subject, Work::Template { source: source.clone(), items }, None, units);
            }
            SourceKind::Served { server, params: source } => {
                let experiment = self.variants[variant];
                let identity = self.resolved.served[variant][texts.name];
                let items = texts.ordered(writing::items(source, texts.emotions), experiment);
                let units = shards(self.ranges(texts, items.len(), experiment.shard), |range| {
                    let stories = &items[range];
                    let params = WrittenParams::at_server(source, stories, experiment.seed, server);
                    key("stories/served", served::VERSION, &params, &[], Some(&identity), None)
                });
                let (server, source) = (Box::new(server.clone()), Box::new(source.clone()));
                let seed = experiment.seed;
                let work = Work::Served { server, source, items, seed, identity };
                self.push(variant, subject, work, None, units);
            }
            SourceKind::File { .. } | SourceKind::Dataset(_) => {
                let pinned = &self.resolved.files[variant][texts.name];
                let (shard, read) = (self.variants[variant].shard, &pinned.files);
                let units = shards(rounds::shards(pinned.survey.stories, 1, shard, None), |range| {
                    let params = FilesParams::of(read, files(pinned), range);
                    key("stories/file", file::VERSION, &params, &[], None, None)
                });
                self.push(variant, subject, Work::File(read.clone()), None, units);
            }
        }
        if texts.pairing.is_some() && !matches!(texts.kind, SourceKind::Generate { .. }) {
            self.dialogues(variant, texts.name, None);
        }
    }

    /// Adds the stories that `model` writes: for itself (`own`), or for all readers.
    fn written_stories(&mut self, variant: usize, model: usize, own: bool) {
        let writer = &self.resolved.models[model];
        let (seed, chat) = (self.variants[variant].seed, self.chat(model));
        for texts in self.sources(variant) {
            let SourceKind::Generate { writer: who, params: source } = texts.kind else { continue };
            let subject = match who {
                Writer::Own if own => Subject::stories(texts.name, Some(&writer.name)),
                Writer::Model(name) if !own && *name == writer.name => Subject::stories(texts.name, None),
                _ => continue,
            };
            let experiment = self.variants[variant];
            let shard = experiment.shard;
            let items = texts.ordered(writing::items(source, texts.emotions), experiment);
            let units = shards(self.ranges(&texts, items.len(), shard), |range| {
                let params = WrittenParams::here(source, &items[range], seed, chat);
                let numerics = Some(self.numerics(writer, None));
                key("stories/generate", generate::VERSION, &params, &[], Some(&writer.identity), numerics)
            });
            let work = Work::Generate { source: Box::new(source.clone()), items, seed, chat };
            self.push(variant, subject, work, Some(model), units);
            if texts.pairing.is_some() {
                self.dialogues(variant, texts.name, own.then_some(&writer.name));
            }
        }
    }

    /// Adds all nodes for `model` reading the available stories.
    fn readings(&mut self, variant: usize, model: usize) {
        let reader = &self.resolved.models[model];
        let experiment = self.variants[variant];
        let mut sources = self.sources(variant);
        sources.retain(|texts| texts.name == NEUTRAL || !self.is_itself(variant, model, texts.name));
        if sources.iter().all(|texts| texts.name == NEUTRAL) {
            return;
        }
        let mut neutral = None;
        // Neutral text first, as every set of vectors needs it.
        for texts in sources.iter().rev().filter(|t| t.name == NEUTRAL) {
            let read = self.activations(variant, model, texts.name);
            let units = reader.layers.iter().map(|&layer| {
                let inputs = self.at_layer(read, layer);
                let params = NeutralParams::of(&experiment.vectors);
                let keyed =
                    key("neutral", vectors::NEUTRAL_VERSION, &params, &self.keys(&inputs), None, None);
                unit(keyed, 0..0, Some(layer), inputs)
            });
            let units = units.collect();
            let work = Work::Neutral(experiment.vectors.clone());
            neutral = Some(self.push(variant, Subject::neutral(&reader.name), work, None, units));
        }
        for texts in sources.iter().filter(|t| t.name != NEUTRAL && t.pairing.is_none()) {
            let read = self.activations(variant, model, texts.name);
            if neutral.is_none() && denoised(experiment).is_some() {
                continue; // its writer is unavailable
            }
            let vectors = self.vectors(variant, model, texts.name, read, neutral);
            self.analyses(variant, model, texts.name, vectors, None);
        }
    }

    /// The node of the stories of `source` that `model` reads.
    pub(super) fn stories(&self, variant: usize, model: usize, source: &str) -> usize {
        let writer = &self.resolved.models[self.resolved.models[model].checks.unwrap_or(model)];
        let find = |own: Option<&str>| self.merged.find(variant, &Subject::stories(source, own));
        find(Some(&writer.name)).or_else(|| find(None)).expect("stories come first")
    }

    fn activations(&mut self, variant: usize, model: usize, source: &str) -> usize {
        let reader = &self.resolved.models[model];
        let (params, chat) = (&self.variants[variant].activations, self.chat(model));
        let tokens = self.variants[variant].vectors.tokens.filter(|_| source == NEUTRAL);
        let stories = self.stories(variant, model, source);
        let mut units = Vec::new();
        let read = self.are_read(model, &self.nodes[stories].units);
        for (shard, text) in self.nodes[stories].units.iter().enumerate() {
            if source != NEUTRAL && !read[shard] {
                continue;
            }
            for &layer in &reader.layers {
                let inputs = vec![UnitId { node: stories, unit: shard }];
                let kept = ActivationParams::of(params, layer, chat, tokens);
                let keyed = key(
                    "activations",
                    activations::VERSION,
                    &kept,
                    &self.keys(&inputs),
                    Some(&reader.identity),
                    Some(self.numerics(reader, Some(params.batch_tokens(self.resolved.device.device)))),
                );
                units.push(unit(keyed, text.stories.clone(), Some(layer), inputs));
            }
        }
        let subject = Subject::activations(&reader.name, source);
        let work = Work::Activations { params: params.clone(), chat, tokens };
        self.push(variant, subject, work, Some(model), units)
    }

    fn vectors(
        &mut self,
        variant: usize,
        model: usize,
        source: &str,
        read: usize,
        neutral: Option<usize>,
    ) -> usize {
        let reader = &self.resolved.models[model];
        let experiment = self.variants[variant];
        let params = VectorParams::of(&experiment.vectors, &experiment.emotions, reader.checks.is_some());
        let units = reader.layers.iter().map(|&layer| {
            let mut inputs = self.at_layer(read, layer);
            inputs.extend(neutral.into_iter().flat_map(|n| self.at_layer(n, layer)));
            let keyed = key("vectors", vectors::VERSION, &params, &self.keys(&inputs), None, None);
            unit(keyed, 0..0, Some(layer), inputs)
        });
        let units = units.collect();
        let work = Work::Vectors {
            params: experiment.vectors.clone(),
            emotions: experiment.emotions.clone(),
            set: self.set(reader, source),
            theirs: None,
        };
        self.push(variant, Subject::vectors(&reader.name, source), work, None, units)
    }

    /// Adds the analyses of a set of vectors. With `judge`: those that this other model judges. Without: all others,
    /// and the texts that other models will judge.
    pub(super) fn analyses(
        &mut self,
        variant: usize,
        model: usize,
        source: &str,
        vectors: usize,
        judge: Option<usize>,
    ) {
        let models = &self.resolved.models;
        let reader = &models[model];
        let experiment = self.variants[variant];
        let imported = matches!(self.nodes[vectors].work, Work::Vectors { theirs: Some(_), .. });
        let kept: Vec<Layer> = self.nodes[vectors].units.iter().filter_map(|unit| unit.layer).collect();
        for (place, config) in experiment.analysis.iter().enumerate() {
            let fitted = if imported { without_stories(config) } else { Some(Cow::Borrowed(config)) };
            let Some(config @ config::Analysis { name, kind: analysis, .. }) = fitted.as_deref() else {
                continue;
            };
            let inputs = analysis.inputs();
            let of_texts =
                analysis.reads().is_some() || analysis.spans().is_some() || analysis.writes().is_some();
            let checks_nothing = reader.checks.is_some_and(|of| models[of].compute_dtype == Dtype::F32);
            if reader.checks.is_some() && (of_texts || inputs.batches || checks_nothing) {
                continue; // checks use no such texts; a check of an f32 model is only there for comparisons
            }
            if !self.has_texts(variant, model, analysis) {
                continue; // their writer is unavailable
            }
            let layers = analysis.layers(&kept, reader.spec.n_layers());
            if imported && layers.is_empty() {
                continue; // the file has none of its layers
            }
            let other = other_judge(analysis).filter(|name| *name != reader.name);
            let later = other.is_some() && judge.is_none();
            if !later && other.and_then(|name| self.place_of(name)) != judge {
                continue;
            }
            let written = analysis.writes().map(|(writing, scorer)| {
                let scorer = (!later).then_some(scorer);
                self.rollouts(variant, (model, source), (vectors, &layers), name, (writing, scorer))
            });
            if later {
                continue;
            }
            let read = analysis
                .reads()
                .map(|wanted| self.read_tokens(variant, (model, source), vectors, &layers, config, &wanted));
            let read = match (read, analysis.spans()) {
                (None, Some(wanted)) => {
                    Some(self.read_spans(variant, model, vectors, name, &layers, &wanted))
                }
                (read, _) => read,
            };
            // Readings of generated texts come after the texts.
            let read = match (written, read) {
                (Some(mut written), Some(read)) => {
                    let more: Vec<UnitId> = read.into_iter().filter(|id| !written.contains(id)).collect();
                    written.extend(more);
                    Some(written)
                }
                (written, read) => written.or(read),
            };
            let reads = inputs;
            let asks = reads.model;
            let one = |layers: &[Layer], layer: Option<Layer>, inputs: Vec<UnitId>| {
                let params = AnalysisParams {
                    analysis,
                    layers,
                    n_layers: reader.spec.n_layers(),
                    seed: reads.seed.then_some(experiment.seed),
                    chat: reads.chat.then(|| self.chat(model)),
                };
                let keyed = key(
                    analysis.kind(),
                    analysis.version(),
                    &params,
                    &self.keys(&inputs),
                    asks.then_some(&reader.identity),
                    asks.then(|| self.numerics(reader, None)),
                );
                unit(keyed, 0..0, layer, inputs)
            };
            let at = |&layer: &Layer| self.at_layer(vectors, layer);
            let units = match (read, reads.activations) {
                (Some(read), _) => vec![one(&layers, None, read)],
                (None, false) => vec![one(&layers, None, layers.iter().flat_map(at).collect())],
                // Vectors, then all their inputs, then the texts that these were read from.
                (None, true) => layers
                    .iter()
                    .map(|layer| {
                        let vectors = at(layer);
                        let made_of: Vec<UnitId> =
                            vectors.iter().flat_map(|&id| &self.unit(id).inputs).copied().collect();
                        let read =
                            made_of.iter().filter(|id| self.nodes[id.node].work.stage() == "activations");
                        let texts = read.flat_map(|&id| &self.unit(id).inputs).copied();
                        let inputs = vectors.iter().chain(&made_of).copied().chain(texts);
                        one(&[*layer], Some(*layer), inputs.collect())
                    })
                    .collect(),
            };
            let work = Work::Analysis {
                name: name.clone(),
                analysis: if imported { Arc::new(analysis.clone()) } else { self.shared(variant, place) },
                chat: self.chat(model),
                seed: experiment.seed,
                set: self.set(reader, source),
                vectors: experiment.vectors.clone(),
            };
            let subject = Subject::analysis(name, &reader.name, source);
            self.push(variant, subject, work, asks.then_some(model), units);
        }
    }

    /// The parameters of an analysis, shared by all its nodes.
    fn shared(&mut self, variant: usize, place: usize) -> Arc<Analysis> {
        let analysis = &self.variants[variant].analysis[place].kind;
        self.shared.entry((variant, place)).or_insert_with(|| Arc::new(analysis.clone())).clone()
    }

    /// The shards of `count` stories. Neutral text is not limited, as every set of vectors uses all of it.
    fn ranges(&self, texts: &Texts, count: usize, shard: usize) -> Vec<Range<usize>> {
        let limit = self.limit.filter(|_| texts.emotions.is_some());
        rounds::shards(count, texts.n_emotions(), shard, limit)
    }

    /// Settings for `model`'s chat template.
    pub(super) fn chat(&self, model: usize) -> Chat {
        Chat { date: self.resolved.experiment.date, thinking: self.resolved.models[model].thinking }
    }

    pub(super) fn set(&self, reader: &Model, source: &str) -> Set {
        Set {
            model: reader.name.clone(),
            stories: source.to_string(),
            axes: Vec::new(),
            n_layers: reader.spec.n_layers(),
            is_check: reader.checks.is_some(),
        }
    }

    pub(super) fn numerics(&self, model: &Model, batch_tokens: Option<usize>) -> Numerics {
        Numerics {
            dtype: model.dtype,
            compute_dtype: model.compute_dtype,
            device: self.resolved.device.kind(),
            backend: self.resolved.device.backend.name(),
            forward: decoder::VERSION,
            batch_tokens,
        }
    }

    /// Adds a node of a variant, unless another variant already has the same node.
    pub(super) fn push(
        &mut self,
        variant: usize,
        subject: Subject,
        work: Work,
        model: Option<usize>,
        units: Vec<Unit>,
    ) -> usize {
        let node = Node { id: NodeId { subject, axes: Vec::new() }, work, model, units };
        self.merged.push(variant, node, &mut self.nodes)
    }

    pub(super) fn unit(&self, id: UnitId) -> &Unit {
        &self.nodes[id.node].units[id.unit]
    }

    /// The units of `node` at `layer`, in the order of their shards.
    pub(super) fn at_layer(&self, node: usize, layer: Layer) -> Vec<UnitId> {
        let units = self.nodes[node].units.iter().enumerate();
        units.filter(|(_, u)| u.layer == Some(layer)).map(|(unit, _)| UnitId { node, unit }).collect()
    }

    pub(super) fn keys(&self, inputs: &[UnitId]) -> Vec<(&'static str, Key)> {
        inputs.iter().map(|&id| (self.nodes[id.node].work.stage(), self.unit(id).key)).collect()
    }
}

/// One unit for each of `ranges`.
fn shards(ranges: Vec<Range<usize>>, keyed: impl Fn(Range<usize>) -> (Key, String)) -> Vec<Unit> {
    let units = ranges.into_iter().map(|range| unit(keyed(range.clone()), range, None, Vec::new()));
    units.collect()
}

pub(super) fn unit(
    (key, preimage): (Key, String),
    stories: Range<usize>,
    layer: Option<Layer>,
    inputs: Vec<UnitId>,
) -> Unit {
    Unit { key, preimage, stories, layer, inputs }
}
