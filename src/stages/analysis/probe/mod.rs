//! How well a linear classifier distinguishes the emotions on topics that it was not trained on. The formulas are in
//! `docs/methods.md`.

mod figures;
mod fit;
mod ridge;

use anyhow::{Context, Result, bail};

use super::{Claim, Input, Inputs, Kind, LayerVectors, Places, Tables, VectorSet};
use crate::params::params;
use crate::report::figure::Figure;
use crate::stages::statistics::Interval;
use crate::stages::statistics::design::Weights;
use crate::stages::statistics::interval::{self, p_value, percentile};
use crate::store::table::{Column, Table};
use fit::{Found, Settings};

/// Must be increased when the same activations would give different tables.
const VERSION: u32 = 3;

params! {
    /// How well a linear classifier tells the emotions apart in stories on topics that it has not seen: see docs/methods.md.
    /// Reads the activations, a layer at a time.
    pub struct Probe {
        /// Folds of the cross-validation; each is predicted from the others. No topic is in two folds.
        pub folds: usize = 5, 2..=100;
        /// Of the ridge, as a fraction of the mean variance of a dimension times the number of stories.
        pub penalty: f64 = 0.01, above 0.0..=1000.0;
        /// Bootstrap resamples of the topics, for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Shuffles of the emotions' labels within topics, each with refitted classifiers, for the null.
        pub permutations: usize = 1000, 0..=100_000;
    }
}

impl Kind for Probe {
    fn kind(&self) -> &'static str {
        "probe"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Linear probe"
    }

    fn intro(&self) -> &'static str {
        "How well a linear classifier predicts the emotion of stories on held-out topics."
    }

    fn inputs(&self) -> Inputs {
        Inputs { activations: true, seed: true, ..Inputs::VECTORS }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// The tables `probe` (one row), `probe_recall` (one row per emotion), `probe_confusion` (each emotion by each
/// prediction) and `probe_stories` (the first stories) of one layer.
///
/// An error if there are fewer than two groups of stories.
fn run(params: &Probe, input: Input) -> Result<Tables> {
    let Input { set, activations, seed, progress, .. } = input;
    let activations = activations.context("this analysis needs the activations")?;
    let [layer] = set.layers.as_slice() else { bail!("one layer at a time") };
    let settings =
        Settings { folds: params.folds, penalty: params.penalty, permutations: params.permutations, seed };
    let found = fit::fit(&activations, &layer.emotions, settings, progress)
        .with_context(|| format!("probe at layer {} of {} on {}", layer.layer, set.model, set.stories))?;
    let weights = (0..found.design.resamples(params.resamples)).map(|number| found.design.drawn(number));
    let weights = weights.collect::<Result<Vec<_>>>()?;
    Ok(vec![
        ("probe".into(), accuracy(set, layer, &found, &weights)),
        ("probe_recall".into(), recall(set, layer, &found, &weights)),
        ("probe_confusion".into(), confusion(set, layer, &found)),
        ("probe_stories".into(), stories(set, layer, &found)),
    ])
}

/// The share of correctly classified stories, and its percentiles over resamples of the groups. `of`: whether an
/// emotion is included.
fn share(
    found: &Found,
    n: usize,
    weights: &[Weights],
    of: impl Fn(usize) -> bool,
) -> (f64, Option<Interval>) {
    let sums = |cells: &[f64]| -> Vec<f64> {
        cells.chunks_exact(n).map(|row| (0..n).filter(|&e| of(e)).map(|e| row[e]).sum()).collect()
    };
    let (right, stories) = (sums(&found.right), sums(found.design.counts()));
    let weighted = |weights: &[f32], sums: &[f64]| -> f64 {
        weights.iter().zip(sums).map(|(w, x)| f64::from(*w) * x).sum()
    };
    let drawn = weights.iter().map(|w| weighted(w, &right) / weighted(w, &stories));
    let whole = right.iter().sum::<f64>() / stories.iter().sum::<f64>();
    (whole, percentile(&drawn.collect::<Vec<_>>()))
}

fn accuracy(set: &VectorSet, layer: &LayerVectors, found: &Found, weights: &[Weights]) -> Table {
    let n = layer.emotions.len();
    let (value, interval) = share(found, n, weights, |_| true);
    let stories = found.design.stories(&found.design.every());
    let all: f64 = stories.iter().sum();
    let chance = stories.iter().copied().fold(0.0, f64::max) / all;
    let null = (!found.shuffled.is_empty()).then_some(&found.shuffled);
    let band = null.and_then(|null| percentile(null));
    let mut places = Places::default();
    places.push(set, layer.layer);
    let columns = vec![
        ("stories_read", Column::I32(vec![all as i32])),
        ("folds", Column::I32(vec![found.folds as i32])),
        ("groups", Column::Str(vec![found.design.grouped().to_string()])),
        ("accuracy", Column::F64(vec![value])),
        ("low", Column::OptF64(vec![interval.map(|i| i.low)])),
        ("high", Column::OptF64(vec![interval.map(|i| i.high)])),
        ("chance", Column::F64(vec![chance])),
        ("p", Column::OptF64(vec![null.map(|null| p_value(found.tried, null))])),
        ("null_mean", Column::OptF64(vec![null.map(|null| interval::mean(null))])),
        ("null_low", Column::OptF64(vec![band.map(|b| b.low)])),
        ("null_high", Column::OptF64(vec![band.map(|b| b.high)])),
    ];
    places.table("probe/1", columns)
}

fn recall(set: &VectorSet, layer: &LayerVectors, found: &Found, weights: &[Weights]) -> Table {
    let n = layer.emotions.len();
    let stories = found.design.stories(&found.design.every());
    let mut places = Places::default();
    let (mut count, mut value) = (Vec::new(), Vec::new());
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for (emotion, stories) in stories.into_iter().enumerate() {
        places.push(set, layer.layer);
        count.push(stories as i32);
        let (recall, interval) = share(found, n, weights, |e| e == emotion);
        value.push(recall);
        low.push(interval.map(|i| i.low));
        high.push(interval.map(|i| i.high));
    }
    let columns = vec![
        ("emotion", Column::Str(layer.emotions.clone())),
        ("n_stories", Column::I32(count)),
        ("recall", Column::F64(value)),
        ("low", Column::OptF64(low)),
        ("high", Column::OptF64(high)),
    ];
    places.table("probe_recall/1", columns)
}

/// For the stories of each emotion, the share predicted as each emotion.
fn confusion(set: &VectorSet, layer: &LayerVectors, found: &Found) -> Table {
    let n = layer.emotions.len();
    let mut places = Places::default();
    let (mut emotion, mut told, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for (a, row) in found.confusion.chunks_exact(n).enumerate() {
        let all: f64 = row.iter().sum();
        for (b, count) in row.iter().enumerate() {
            places.push(set, layer.layer);
            emotion.push(layer.emotions[a].clone());
            told.push(layer.emotions[b].clone());
            share.push(count / all);
        }
    }
    let columns = vec![
        ("emotion", Column::Str(emotion)),
        ("told_as", Column::Str(told)),
        ("share", Column::F64(share)),
    ];
    places.table("probe_confusion/1", columns)
}

/// The first stories, in the order of the shards.
fn stories(set: &VectorSet, layer: &LayerVectors, found: &Found) -> Table {
    let mut places = Places::default();
    found.stories.iter().for_each(|_| places.push(set, layer.layer));
    let name = |at: usize| layer.emotions[at].clone();
    let columns = vec![
        ("story_id", Column::Str(found.stories.iter().map(|story| story.id.clone()).collect())),
        ("emotion", Column::Str(found.stories.iter().map(|story| name(story.emotion)).collect())),
        ("told_as", Column::Str(found.stories.iter().map(|story| name(story.told)).collect())),
        ("margin", Column::F64(found.stories.iter().map(|story| story.margin).collect())),
    ];
    places.table("probe_stories/1", columns)
}

#[cfg(test)]
mod tests;
