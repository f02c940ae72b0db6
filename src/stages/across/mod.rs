//! What is computed from two sets of emotion vectors together: one file an analysis. Loads no model but that of the
//! second set, and that only where it is steered.

mod cells;
mod chance;
pub mod cka;
mod cosines;
mod halves;
mod hsic;
mod map;
mod pairs;
pub mod rsa;
pub mod shift;
mod steered;
pub mod transfer;
mod transfer_figures;

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, ensure};

pub use chance::{spearman, spearman_p};

use crate::lm::{LanguageModel, Layer};
use crate::stages::analysis::{LayerVectors, Progress};
use crate::stages::read::{self, Shards};
use crate::stages::statistics::Design;
use crate::stages::statistics::sums::Sums;
use crate::store::table::Table;

/// What an analysis of two sets is given.
pub struct Input<'a> {
    pub sides: [Side<'a>; 2],
    /// That of the second set; given to those that ask for it.
    pub model: Option<&'a LanguageModel>,
    /// The experiment's.
    pub seed: u64,
    pub progress: &'a mut Progress<'a>,
}

/// One of the two sets.
pub struct Side<'a> {
    /// Blocks of the model.
    pub n_layers: usize,
    /// Those that the analysis reads, in rising order.
    pub layers: Vec<Layer>,
    /// The vectors of one of them.
    pub vectors: &'a dyn Fn(Layer) -> Result<LayerVectors>,
    /// How many tables of activations each layer has; of stories there are as many.
    pub shards: usize,
    /// One of them at a layer, read anew each time; schema `activations/2`.
    pub activations: &'a dyn Fn(Layer, usize) -> Result<Table>,
    /// The stories of a shard; schema `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
    /// How many tables there are of spans of conversations, for an analysis that reads some.
    pub n_spans: usize,
    /// One of them; schema `spans/1`.
    pub spans: &'a dyn Fn(usize) -> Result<Table>,
}

impl Side<'_> {
    /// Reads the tables of one layer.
    fn at<T>(&self, layer: Layer, work: impl FnOnce(Shards) -> Result<T>) -> Result<T> {
        let activations = |shard| (self.activations)(layer, shard);
        work(Shards { count: self.shards, activations: &activations, stories: self.stories })
            .with_context(|| format!("activations at layer {layer}"))
    }
}

/// Stories that were read, and the cells that they are in.
#[derive(Clone)]
struct Shared {
    emotions: Vec<String>,
    design: Design,
    /// In the order of the first model's.
    stories: Vec<Story>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
struct Story {
    id: String,
    emotion: usize,
    group: usize,
}

impl Shared {
    /// Those that both sides have an activation of, and that are of an emotion of both sides' vectors: one design for both.
    ///
    /// An error if the sides are of different emotions, or if there is no such story.
    fn read(sides: &[Side; 2], seed: u64) -> Result<Shared> {
        let [a, b] = sides;
        let shared = Shared::of(a, &Shared::ids(b)?, seed)?;
        let others = (b.vectors)(*b.layers.first().context("a set without layers")?)?.emotions;
        ensure!(shared.emotions == others, "the two sets are of different emotions");
        Ok(shared)
    }

    /// What each side has read: where these are the same stories, one design for both; else each side its own.
    fn each(sides: &[Side; 2], seed: u64) -> Result<[Shared; 2]> {
        let [a, b] = sides;
        let ids = [Shared::ids(a)?, Shared::ids(b)?];
        if !ids[0].is_disjoint(&ids[1]) {
            let shared = Shared::read(sides, seed)?;
            return Ok([shared.clone(), shared]);
        }
        let [a, b] = [Shared::of(a, &ids[0], seed)?, Shared::of(b, &ids[1], seed)?];
        ensure!(a.emotions == b.emotions, "the two sets are of different emotions");
        Ok([a, b])
    }

    /// The names of the stories that a side has read.
    fn ids(side: &Side) -> Result<HashSet<String>> {
        let layer = *side.layers.first().context("a set without layers")?;
        let mut ids = HashSet::new();
        for shard in 0..side.shards {
            ids.extend((side.activations)(layer, shard)?.str("story_id")?.iter().cloned());
        }
        Ok(ids)
    }

    /// The stories of a side that `wanted` names.
    fn of(side: &Side, wanted: &HashSet<String>, seed: u64) -> Result<Shared> {
        let layer = *side.layers.first().context("a set without layers")?;
        let emotions = (side.vectors)(layer)?.emotions;
        let mut stories = Vec::new();
        let design = side.at(layer, |shards| {
            read::each(shards, &emotions, seed, &|id| wanted.contains(id), &mut |row| {
                stories.push(Story { id: row.id.to_string(), emotion: row.emotion, group: row.group });
                Ok(())
            })
        })?;
        Ok(Shared { emotions, design, stories })
    }

    /// The sums of the cells at a layer of a side.
    fn sums(&self, side: &Side, layer: Layer) -> Result<Sums> {
        let cells = self.stories.iter().map(|story| (story.id.as_str(), (story.group, story.emotion)));
        let cells: HashMap<&str, (usize, usize)> = cells.collect();
        side.at(layer, |shards| read::sums_of(shards, &cells, self.emotions.len()))
    }
}

/// The one of `layers` in a model of `n_layers` blocks whose depth is nearest to that of `layer` in a model of `of`
/// blocks; of two, the later. The embedding and a block are near each other only where there is nothing else.
pub fn nearest(layer: Layer, of: usize, layers: &[Layer], n_layers: usize) -> Option<Layer> {
    // Twice both products of the blocks times the distance, in whole numbers.
    let middle =
        |layer: Layer, times: usize| layer.block().map_or(0, |block| (2 * block as i64 + 1) * times as i64);
    let distance = |other: Layer| (middle(layer, n_layers) - middle(other, of)).abs();
    let differ = |other: Layer| other.block().is_some() != layer.block().is_some();
    layers.iter().copied().min_by_key(|&other| (differ(other), distance(other), std::cmp::Reverse(other)))
}

/// For each layer of the first side, that of the second at the nearest depth.
fn equal_depth(sides: &[Side; 2]) -> Result<Vec<(Layer, Layer)>> {
    let [a, b] = sides;
    let at = |&layer: &Layer| {
        let other = nearest(layer, a.n_layers, &b.layers, b.n_layers).context("a set without layers")?;
        Ok((layer, other))
    };
    a.layers.iter().map(at).collect()
}

#[cfg(test)]
mod tests;
