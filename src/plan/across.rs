//! Nodes for analyses of two sets of vectors: which sets are paired, and what enters their keys.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::build::{Builder, unit};
use super::checks::checked_layer;
use super::preimage::{AcrossParams, key};
use super::{Absent, Set, Subject, Unit, UnitId, Work};
use crate::config::{self, Experiment, Source};
use crate::lm::Layer;
use crate::resolve::Resolved;
use crate::stages::analysis::Analysis;

/// Two sets that are compared: one unit of the analysis's node.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The second is the target if the analysis has one.
    pub sets: [Set; 2],
    /// Number of the unit's inputs that belong to the first set.
    pub first: usize,
}

impl Pair {
    /// Whether it only checks the numerics of another pair.
    pub fn is_check(&self) -> bool {
        self.sets.iter().any(|set| set.is_check)
    }
}

/// A model's index in `Resolved::models`, and a source of stories.
pub(super) type Place<'a> = (usize, &'a str);

/// The pairs of sets among `places` that an analysis is run on, each once; in both directions if the analysis has a
/// target. `name`: returns the name of a model.
fn pairs<'a>(
    kind: &config::Across,
    sources: &[Source],
    places: &[Place<'a>],
    name: &dyn Fn(usize) -> &'a str,
) -> Vec<[Place<'a>; 2]> {
    let shared = |source: &str| sources.iter().any(|s| s.name == source && s.is_shared());
    let mut pairs = Vec::new();
    for (at, &a) in places.iter().enumerate() {
        for &b in &places[at + 1..] {
            let same_stories = a.1 == b.1 && a.0 != b.0 && shared(a.1);
            if kind.kind.inputs().sets.same_stories() && !same_stories {
                continue;
            }
            pairs.push([a, b]);
            if kind.kind.inputs().sets.is_directed() {
                pairs.push([b, a]);
            }
        }
    }
    pairs.retain(|pair| kind.kind.pair().is_none_or(|wanted| pair.map(|(model, _)| name(model)) == wanted));
    pairs
}

/// For each model, the pooled spans of the conversations that an analysis reads.
type Pooled = BTreeMap<usize, Vec<UnitId>>;

impl Builder<'_> {
    /// Adds the analyses of two sets, after all models have read: those with the model `target`, or those without a
    /// target.
    pub(super) fn across(&mut self, variant: usize, target: Option<usize>) {
        let experiment = self.variants[variant];
        let mut places: Vec<Place> = Vec::new();
        for (model, _) in self.resolved.models.iter().enumerate().filter(|(_, it)| it.checks.is_none()) {
            let read = experiment.stories.iter().map(|source| source.name.as_str());
            places.extend(
                read.map(|source| (model, source)).filter(|&place| self.read(variant, place).is_some()),
            );
        }
        for across in &experiment.across {
            let resolved = self.resolved;
            let name = |model: usize| resolved.models[model].name.as_str();
            let mut pairs = pairs(across, &experiment.stories, &places, &name);
            pairs.extend(self.checked(variant, across, &pairs));
            if across.kind.inputs().sets.is_directed() != target.is_some() {
                continue;
            }
            if target.is_none() {
                let pooled = self.pooled_of(variant, across, &pairs);
                self.across_node(variant, across, Subject::across(&across.name), None, (&pairs, &pooled));
            }
            let sources = experiment.stories.iter().map(|source| source.name.as_str());
            for (model, source) in sources.filter_map(|source| Some((target?, source))) {
                let here: Vec<_> = pairs.iter().copied().filter(|pair| pair[1] == (model, source)).collect();
                let subject = Subject::analysis(&across.name, &self.resolved.models[model].name, source);
                let pooled = self.pooled_of(variant, across, &here);
                self.across_node(variant, across, subject, Some(model), (&here, &pooled));
            }
        }
    }

    fn across_node(
        &mut self,
        variant: usize,
        across: &config::Across,
        subject: Subject,
        target: Option<usize>,
        (pairs, pooled): (&[[Place; 2]], &Pooled),
    ) {
        let made = pairs.iter().map(|pair| self.pair(variant, across, *pair, pooled));
        let (pairs, units): (Vec<Pair>, Vec<Unit>) = made.collect();
        if units.is_empty() {
            return;
        }
        let work = Work::Across {
            name: across.name.clone(),
            across: across.kind.clone().into(),
            seed: self.variants[variant].seed,
            pairs,
        };
        self.push(variant, subject, work, target.filter(|_| across.kind.inputs().model), units);
    }

    /// A pair in canonical order. If neither set is the target, the set with fewer layers comes first, or, if they have
    /// equally many, the one with the smaller keys; so the order in the file and the names do not matter.
    pub(super) fn in_order<'a>(
        &self,
        variant: usize,
        kind: &Analysis,
        mut pair: [Place<'a>; 2],
    ) -> [Place<'a>; 2] {
        // Checks have the order of the models that they check.
        let order = |(model, source): Place| {
            let model = self.resolved.models[model].checks.unwrap_or(model);
            let vectors = self.read(variant, (model, source)).map(|node| &self.nodes[node].units);
            let keys = vectors.into_iter().flatten().map(|unit| unit.key.to_string());
            (self.resolved.models[model].layers.len(), keys.collect::<Vec<_>>())
        };
        if !kind.inputs().sets.is_directed() && order(pair[1]) < order(pair[0]) {
            pair.reverse();
        }
        pair
    }

    /// A pair and its unit.
    fn pair(
        &self,
        variant: usize,
        across: &config::Across,
        pair: [Place; 2],
        pooled: &Pooled,
    ) -> (Pair, Unit) {
        let experiment = self.variants[variant];
        let pair = self.in_order(variant, &across.kind, pair);
        let models = pair.map(|(model, _)| &self.resolved.models[model]);
        let n_layers = models.map(|model| model.spec.n_layers());
        let is_check = models.iter().any(|model| model.checks.is_some());
        let kept = models.map(|model| match is_check {
            true => vec![checked_layer(model)],
            false => model.layers.clone(),
        });
        let layers = across.kind.layers_of_two(kept.each_ref().map(Vec::as_slice), n_layers);
        let sides = [0, 1].map(|side| {
            let mut inputs = self.side(variant, pair[side], &layers[side], &across.kind);
            inputs.extend(pooled.get(&pair[side].0).into_iter().flatten());
            inputs
        });
        let first = sides[0].len();
        let inputs: Vec<UnitId> = sides.concat();
        let params = AcrossParams { across: &across.kind, layers: &layers, n_layers, seed: experiment.seed };
        let asks = across.kind.inputs().model;
        let keyed = key(
            across.kind.kind(),
            across.kind.version(),
            &params,
            &self.keys(&inputs),
            asks.then_some(&models[1].identity),
            asks.then(|| self.numerics(models[1], None)),
        );
        let sets = [0, 1].map(|side| self.set(models[side], pair[side].1));
        (Pair { sets, first }, unit(keyed, 0..0, None, inputs))
    }

    /// The pooled spans of the conversations that an analysis of `pairs` reads, for each of their models.
    fn pooled_of(&mut self, variant: usize, across: &config::Across, pairs: &[[Place; 2]]) -> Pooled {
        let mut pooled = Pooled::new();
        let Some(wanted) = across.kind.spans() else { return pooled };
        for pair in pairs {
            let models = pair.map(|(model, _)| &self.resolved.models[model]);
            let n_layers = models.map(|model| model.spec.n_layers());
            let layers = across.kind.layers_of_two(models.map(|model| model.layers.as_slice()), n_layers);
            for (side, layers) in pair.iter().zip(layers) {
                if let Entry::Vacant(entry) = pooled.entry(side.0) {
                    entry.insert(self.pooled(variant, side.0, &across.name, &layers, &wanted));
                }
            }
        }
        pooled
    }

    /// The inputs from one set: vectors; then activations and stories, if the analysis needs them.
    fn side(&self, variant: usize, place: Place, layers: &[Layer], kind: &Analysis) -> Vec<UnitId> {
        let Some(vectors) = self.read(variant, place) else { return Vec::new() };
        let mut inputs: Vec<UnitId> =
            layers.iter().flat_map(|&layer| self.at_layer(vectors, layer)).collect();
        if kind.inputs().activations {
            let of = |stage: &str, ids: &[UnitId]| {
                let inputs = ids.iter().flat_map(|&id| self.unit(id).inputs.iter().copied());
                let inputs = inputs.filter(|id| self.nodes[id.node].work.stage() == stage);
                let mut found: Vec<UnitId> = Vec::new();
                inputs.for_each(|id| {
                    if !found.contains(&id) {
                        found.push(id)
                    }
                });
                found
            };
            let activations = of("activations", &inputs);
            let stories = of("stories", &activations);
            inputs.extend(activations.into_iter().chain(stories));
        }
        inputs
    }

    /// The node of a set's vectors.
    pub(super) fn read(&self, variant: usize, (model, source): Place) -> Option<usize> {
        self.merged.find(variant, &Subject::vectors(&self.resolved.models[model].name, source))
    }
}

/// The analyses that have no pair because models are unavailable.
pub(super) fn without_pairs(resolved: &Resolved, sources: &[&str]) -> Vec<Absent> {
    let experiment = &resolved.experiment;
    let readers = (0..resolved.models.len()).filter(|model| resolved.models[*model].checks.is_none());
    let places: Vec<Place> =
        readers.flat_map(|model| sources.iter().map(move |source| (model, *source))).collect();
    let name = |model: usize| resolved.models[model].name.as_str();
    let missing: Vec<String> =
        resolved.absent.iter().map(|absent| format!("models/{}", absent.name)).collect();
    let lost = experiment
        .across
        .iter()
        .filter(|across| pairs(across, &experiment.stories, &places, &name).is_empty());
    let lost = lost.filter(|_| !missing.is_empty()).map(|across| Absent {
        subject: Subject::across(&across.name),
        why: format!("compares two sets of vectors, and lacks {}", missing.join(", ")),
        nodes: vec![(Subject::across(&across.name), across.kind.kind().to_string())],
    });
    let trends = experiment.scale.iter().filter(|_| !missing.is_empty() && resolved.readers().count() < 2);
    let trends = trends.map(|scale| Absent {
        subject: Subject::across(&scale.name),
        why: format!("compares models, and lacks {}", missing.join(", ")),
        nodes: vec![(Subject::across(&scale.name), "scale".to_string())],
    });
    lost.chain(trends).collect()
}

/// The nodes that analyses of two sets would have, or would extend, with `model` reading `source`.
pub(super) fn readings<'a>(
    experiment: &'a Experiment,
    model: &'a str,
    source: &'a str,
) -> impl Iterator<Item = (Subject, String)> + 'a {
    let shared = experiment.stories.iter().any(|s| s.name == source && s.is_shared());
    let reads = move |across: &&config::Across| shared || !across.kind.inputs().sets.same_stories();
    experiment.across.iter().filter(reads).map(move |across| {
        let subject = match across.kind.inputs().sets.is_directed() {
            true => Subject::analysis(&across.name, model, source),
            false => Subject::across(&across.name),
        };
        (subject, across.kind.kind().to_string())
    })
}
