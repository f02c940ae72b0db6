//! Checks of the numerics: computes results again with another dtype, to see how much they change. Determines which
//! stories and which pairs of sets are used.

use super::Unit;
use super::across::Place;
use super::build::Builder;
use crate::config;
use crate::lm::{Dtype, Layer};
use crate::resolve::Model;
use crate::stages::across::nearest;
use crate::stages::analysis::Analysis;
use crate::stages::analysis::steering::nearest_two_thirds;

impl Builder<'_> {
    /// Which of `shards` a model reads: a check reads a sample spread over all shards, as neighbours are on the same
    /// topic.
    pub(super) fn are_read(&self, model: usize, shards: &[Unit]) -> Vec<bool> {
        let (n, sample) = (shards.len(), self.resolved.experiment.check_precision);
        let stories = shards.last().map_or(0, |shard| shard.stories.end);
        let wanted = match self.resolved.models[model].checks.is_none() || stories <= sample {
            true => n,
            false => (n * sample).div_ceil(stories),
        };
        (0..n).map(|at| (at + 1) * wanted / n > at * wanted / n).collect()
    }

    /// Whether `model` is a check that would use the same dtype and stories as the model that it checks.
    pub(super) fn is_itself(&self, variant: usize, model: usize, source: &str) -> bool {
        let models = &self.resolved.models;
        let of = |checked: usize| models[checked].compute_dtype == models[model].compute_dtype;
        let shards = || &self.nodes[self.stories(variant, model, source)].units;
        models[model].checks.is_some_and(of) && self.are_read(model, shards()).into_iter().all(|read| read)
    }

    /// The pairs of checks for `pairs`: once with each model's own dtype and once in f32. Pairs of which both models
    /// use f32 anyway need none.
    pub(super) fn checked<'a>(
        &self,
        variant: usize,
        across: &config::Across,
        pairs: &[[Place<'a>; 2]],
    ) -> Vec<[Place<'a>; 2]> {
        if across.kind.spans().is_some() {
            return Vec::new(); // checks read no conversations
        }
        let models = &self.resolved.models;
        let is_rounded = |(model, _): &Place| models[*model].compute_dtype != Dtype::F32;
        let mut checks = Vec::new();
        for &pair in pairs.iter().filter(|pair| pair.iter().any(is_rounded)) {
            let pair = self.in_order(variant, &across.kind, pair);
            if !self.checks_have_its_layers(&across.kind, pair) {
                continue;
            }
            for in_f32 in [false, true] {
                let [Some(a), Some(b)] = pair.map(|place| self.stand_in(variant, place, in_f32)) else {
                    continue;
                };
                if [a, b] != pair {
                    checks.push([a, b]);
                }
            }
        }
        checks
    }

    /// Whether the layers that the checks of two models read are also compared with each other when all layers are
    /// read.
    fn checks_have_its_layers(&self, kind: &Analysis, pair: [Place; 2]) -> bool {
        let [first, second] = pair.map(|(model, _)| &self.resolved.models[model]);
        let (from, to) = if kind.inputs().sets.is_directed() { (second, first) } else { (first, second) };
        let met = nearest(checked_layer(from), from.spec.n_layers(), &to.layers, to.spec.n_layers());
        met == Some(checked_layer(to))
    }

    /// The place that reads the stories of checks with a model's own dtype or in f32: a check, or the model itself if
    /// that would be the same.
    fn stand_in<'a>(&self, variant: usize, (model, source): Place<'a>, in_f32: bool) -> Option<Place<'a>> {
        let models = &self.resolved.models;
        let dtype = if in_f32 { Dtype::F32 } else { models[model].compute_dtype };
        let is_wanted = |of: &Model| of.checks == Some(model) && of.compute_dtype == dtype;
        let check = models.iter().position(is_wanted)?;
        match self.read(variant, (check, source)) {
            Some(_) => Some((check, source)),
            None => self.is_itself(variant, check, source).then_some((model, source)),
        }
    }
}

/// The layer at which the numerics of `model`, or of the model that it checks, are checked.
pub(super) fn checked_layer(model: &Model) -> Layer {
    nearest_two_thirds(&model.layers, model.spec.n_layers())
}
