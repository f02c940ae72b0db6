//! Analyses of two sets of emotion vectors together, one file per analysis. The only model that is loaded is that of
//! the second set, and only for analyses that steer it.

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

/// The input of an analysis of two sets.
pub struct Input<'a> {
    pub sides: [Side<'a>; 2],
    /// The model of the second set; present for analyses that request it.
    pub model: Option<&'a LanguageModel>,
    /// The experiment's seed.
    pub seed: u64,
    pub progress: &'a mut Progress<'a>,
}

/// One of the two sets.
pub struct Side<'a> {
    /// Number of blocks of the model.
    pub n_layers: usize,
    /// The layers that the analysis reads, in ascending order.
    pub layers: Vec<Layer>,
    /// The vectors at one of these layers.
    pub vectors: &'a dyn Fn(Layer) -> Result<LayerVectors>,
    /// Number of activation tables per layer, equal to the number of story tables.
    pub shards: usize,
    /// The activation table of a shard at a layer, read again on each call; schema `activations/2`.
    pub activations: &'a dyn Fn(Layer, usize) -> Result<Table>,
    /// The stories of a shard; schema `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
    /// Number of tables of conversation spans, for an analysis that reads them.
    pub n_spans: usize,
    /// One of these tables; schema `spans/1`.
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

/// The stories that are analysed, and their assignment to cells.
#[derive(Clone)]
struct Shared {
    emotions: Vec<String>,
    design: Design,
    /// In the order of the first model's activations.
    stories: Vec<Story>,
}

/// One story with its cell.
#[derive(Clone, Debug, PartialEq)]
struct Story {
    id: String,
    emotion: usize,
    group: usize,
}

impl Shared {
    /// The stories that both sides have an activation of and whose emotion is among both sides' vectors, in one
    /// design for both.
    ///
    /// An error if the sides have different emotions, or if there is no such story.
    fn read(sides: &[Side; 2], seed: u64) -> Result<Shared> {
        let [a, b] = sides;
        let shared = Shared::of(a, &Shared::ids(b)?, seed)?;
        let others = (b.vectors)(*b.layers.first().context("a set without layers")?)?.emotions;
        ensure!(shared.emotions == others, "the two sets are of different emotions");
        Ok(shared)
    }

    /// The stories of each side: one common design where the sides share stories, otherwise a separate design for
    /// each side.
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

    /// The ids of the stories that a side has read.
    fn ids(side: &Side) -> Result<HashSet<String>> {
        let layer = *side.layers.first().context("a set without layers")?;
        let mut ids = HashSet::new();
        for shard in 0..side.shards {
            ids.extend((side.activations)(layer, shard)?.str("story_id")?.iter().cloned());
        }
        Ok(ids)
    }

    /// The stories of a side whose ids are in `wanted`.
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

/// The layer among `layers` of a model with `n_layers` blocks whose relative depth is nearest to that of `layer` in a
/// model with `of` blocks; of two equally near, the later one. The embedding is matched with a block only where there
/// is no alternative.
pub fn nearest(layer: Layer, of: usize, layers: &[Layer], n_layers: usize) -> Option<Layer> {
    // Integer arithmetic: the depths are multiplied by twice the product of both numbers of blocks.
    let middle =
        |layer: Layer, times: usize| layer.block().map_or(0, |block| (2 * block as i64 + 1) * times as i64);
    let distance = |other: Layer| (middle(layer, n_layers) - middle(other, of)).abs();
    let differ = |other: Layer| other.block().is_some() != layer.block().is_some();
    layers.iter().copied().min_by_key(|&other| (differ(other), distance(other), std::cmp::Reverse(other)))
}

/// For each layer of the first side, the layer of the second side at the nearest relative depth.
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
