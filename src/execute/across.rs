//! An analysis of two sets of vectors: reads its inputs from the store one layer and one shard at a time.

use anyhow::{Context, Result};

use super::dispatch::{Tables, input};
use crate::lm::{LanguageModel, Layer};
use crate::plan::{Pair, Plan, Unit};
use crate::stages::across::{Input, Side};
use crate::stages::analysis::{Analysis, LayerVectors, Progress, VectorSet};
use crate::store::Store;
use crate::store::table::Table;

/// Computes the tables of a unit that compares `pair`. `model`: the model of the second set, if the analysis needs it.
pub fn run<'a>(
    (plan, store): (&'a Plan, &'a Store),
    unit: &'a Unit,
    pair: &'a Pair,
    across: &Analysis,
    model: Option<&'a LanguageModel>,
    seed: u64,
    progress: &'a mut Progress<'a>,
) -> Result<Tables> {
    let sides = [0, 1].map(|side| Read { plan, store, unit, pair, side });
    let reads = sides.each_ref().map(|read| {
        (
            |layer: Layer| read.vectors(layer),
            |layer: Layer, shard: usize| read.shard("activations", Some(layer), shard),
            |shard: usize| read.shard("stories", None, shard),
            |shard: usize| read.shard("spans", None, shard),
        )
    });
    let side = |at: usize| {
        let (vectors, activations, stories, spans) = &reads[at];
        let shards = sides[at].of("stories", None).len();
        let (n_layers, layers) = (pair.sets[at].n_layers, sides[at].layers());
        let n_spans = sides[at].of("spans", None).len();
        Side { n_layers, layers, vectors, shards, activations, stories, n_spans, spans }
    };
    across.run_two(Input { sides: [side(0), side(1)], model, seed, progress })
}

/// Reads the inputs of one of the two sets.
struct Read<'a> {
    plan: &'a Plan,
    store: &'a Store,
    unit: &'a Unit,
    pair: &'a Pair,
    side: usize,
}

impl Read<'_> {
    /// Indices of the unit's inputs of a stage, at `layer` if one is given.
    fn of(&self, stage: &str, layer: Option<Layer>) -> Vec<usize> {
        let (first, all) = (self.pair.first, self.unit.inputs.len());
        let mine = if self.side == 0 { 0..first } else { first..all };
        let is_of = |&at: &usize| {
            let id = self.unit.inputs[at];
            let at_layer = layer.is_none() || self.plan.unit(id).layer == layer;
            self.plan.nodes[id.node].work.stage() == stage && at_layer
        };
        mine.filter(is_of).collect()
    }

    fn layers(&self) -> Vec<Layer> {
        let inputs = self.of("vectors", None).into_iter();
        inputs.filter_map(|at| self.plan.unit(self.unit.inputs[at]).layer).collect()
    }

    fn vectors(&self, layer: Layer) -> Result<LayerVectors> {
        let table = self.shard("vectors", Some(layer), 0)?;
        let set = &self.pair.sets[self.side];
        let mut set = VectorSet::from_tables(&set.model, &set.stories, set.n_layers, &[table])?;
        Ok(set.layers.remove(0))
    }

    fn shard(&self, stage: &str, layer: Option<Layer>, shard: usize) -> Result<Table> {
        let at = self.of(stage, layer).get(shard).copied();
        input(self.plan, self.store, self.unit, at.with_context(|| format!("no {stage} {shard}"))?)
    }
}
