//! What is computed from two sets of emotion vectors together: one file an analysis. Loads no model but that of the
//! second set, and that only where it is steered.

mod cells;
mod chance;
pub mod cka;
mod hsic;
mod map;
mod pairs;
pub mod rsa;
mod steered;
pub mod transfer;
mod transfer_figures;

use std::collections::HashSet;
use std::ops::Deref;

use anyhow::{Context, Result};
use serde::Serialize;

pub use chance::{spearman, spearman_p};

use crate::lm::{LanguageModel, Layer};
use crate::report::figure::Figure;
use crate::stages::analysis::{LayerVectors, Progress, Tables};
use crate::store::table::Table;

/// Every analysis across models.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    Rsa(rsa::Rsa),
    Cka(cka::Cka),
    Transfer(transfer::Transfer),
}

impl Deref for Across {
    type Target = dyn Kind;

    fn deref(&self) -> &(dyn Kind + 'static) {
        match self {
            Across::Rsa(params) => params,
            Across::Cka(params) => params,
            Across::Transfer(params) => params,
        }
    }
}

/// What there is to know of an analysis of two sets with its parameters.
pub trait Kind {
    /// The kind, as the experiment file spells it.
    fn kind(&self) -> &'static str;

    /// Raised when the same input would give other tables.
    fn version(&self) -> u32;

    /// Its chapter's title in the report.
    fn title(&self) -> &'static str;

    /// What the chapter shows, for a reader who has not seen the experiment file.
    fn intro(&self) -> &'static str;

    /// Whether it reads the activations of the same stories in both models. It then runs on two models that read one
    /// source; else on any two sets of vectors.
    fn reads_activations(&self) -> bool {
        false
    }

    /// Whether the second set is the target, so that both directions are computed, each under the target's name.
    fn is_directed(&self) -> bool {
        false
    }

    /// Whether it looks into the model of the second set.
    fn needs_model(&self) -> bool {
        false
    }

    /// Which of the kept layers of the two models it reads.
    fn layers(&self, kept: [&[Layer]; 2], _n_layers: [usize; 2]) -> [Vec<Layer>; 2] {
        kept.map(<[Layer]>::to_vec)
    }

    /// The tables of one pair of sets. They name no model and no source: `a` and `b` are the first and the second set.
    fn run(&self, input: Input) -> Result<Tables>;

    /// The figures of the analysis `name`, from the tables of all pairs, with the columns `model_a`, `stories_a`,
    /// `model_b`, `stories_b` and `variant` in front.
    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>>;
}

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
    /// Those of [`Kind::layers`], in rising order.
    pub layers: Vec<Layer>,
    /// The vectors of one of them.
    pub vectors: &'a dyn Fn(Layer) -> Result<LayerVectors>,
    /// How many tables of activations each layer has; of stories there are as many.
    pub shards: usize,
    /// One of them at a layer, read anew each time; schema `activations/1`.
    pub activations: &'a dyn Fn(Layer, usize) -> Result<Table>,
    /// The stories of a shard; schema `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
}

/// A story that both models have read.
#[derive(Clone, Debug, PartialEq)]
struct Story {
    id: String,
    emotion: Option<String>,
    /// What is never split: the topic, or without one the passage.
    group: String,
}

/// The stories that both sides have an activation of, in their order.
fn shared(sides: &[Side; 2]) -> Result<Vec<Story>> {
    let read = |side: &Side| -> Result<HashSet<String>> {
        let layer = *side.layers.first().context("a set without layers")?;
        let mut ids = HashSet::new();
        for shard in 0..side.shards {
            ids.extend((side.activations)(layer, shard)?.str("story_id")?.iter().cloned());
        }
        Ok(ids)
    };
    let ids = [read(&sides[0])?, read(&sides[1])?];
    let mut stories = Vec::new();
    for shard in 0..sides[0].shards {
        let table = (sides[0].stories)(shard)?;
        let (id, emotion) = (table.str("story_id")?, table.opt_str("emotion")?);
        let (topic, index) = (table.opt_str("topic")?, table.i32("index")?);
        for row in (0..table.rows()).filter(|&row| ids.iter().all(|ids| ids.contains(&id[row]))) {
            stories.push(Story {
                id: id[row].clone(),
                emotion: emotion[row].clone(),
                group: topic[row].clone().unwrap_or_else(|| format!("passage {}", index[row])),
            });
        }
    }
    Ok(stories)
}

/// The one of `layers` in a model of `n_layers` blocks whose depth is nearest to that of `layer` in a model of `of`
/// blocks; of two, the later. The embedding and a block are near each other only where there is nothing else.
fn nearest(layer: Layer, of: usize, layers: &[Layer], n_layers: usize) -> Option<Layer> {
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
