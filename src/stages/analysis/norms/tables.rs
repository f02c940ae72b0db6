//! The columns of the tables of `norms`, filled row by row.

use super::super::{LayerVectors, Places, VectorSet};
use super::Tested;
use super::ratings::Rated;
use crate::lm::Layer;
use crate::stages::statistics::correlation::fisher;
use crate::stages::statistics::interval::{self, p_value, percentile};
use crate::store::table::{Column, Table};

#[derive(Default)]
pub struct Correlations {
    places: Places,
    component: Vec<String>,
    rating: Vec<String>,
    n: Vec<i32>,
    pearson: Vec<f64>,
    ends: [Vec<Option<f64>>; 4],
    spearman: Vec<f64>,
    p: Vec<Option<f64>>,
    partial: [Vec<Option<f64>>; 2],
    /// The controls, and the number of blocks of near-synonyms.
    pub controls: Vec<String>,
    pub blocks: Vec<i32>,
}

impl Correlations {
    pub fn rows(&self) -> usize {
        self.n.len()
    }

    pub fn push(
        &mut self,
        set: &VectorSet,
        layer: Layer,
        component: &str,
        rating: &str,
        n: usize,
        tested: Tested,
    ) {
        self.places.push(set, layer);
        self.component.push(component.to_string());
        self.rating.push(rating.to_string());
        self.n.push(n as i32);
        self.pearson.push(tested.r);
        let closed = fisher(tested.r, n);
        let ends = [
            tested.interval.map(|i| i.low),
            tested.interval.map(|i| i.high),
            closed.map(|i| i.low),
            closed.map(|i| i.high),
        ];
        self.ends.iter_mut().zip(ends).for_each(|(column, end)| column.push(end));
        self.spearman.push(tested.rank);
        self.p.push(tested.p);
        self.partial[0].push(tested.partial);
        self.partial[1].push(tested.partial_p);
    }

    pub fn finish(self, source: &str) -> Table {
        let source = vec![source.to_string(); self.n.len()];
        let [low, high, fisher_low, fisher_high] = self.ends;
        let [partial, partial_p] = self.partial;
        let columns = vec![
            ("component", Column::Str(self.component)),
            ("rating", Column::Str(self.rating)),
            ("n_emotions", Column::I32(self.n)),
            ("pearson", Column::F64(self.pearson)),
            ("low", Column::OptF64(low)),
            ("high", Column::OptF64(high)),
            ("fisher_low", Column::OptF64(fisher_low)),
            ("fisher_high", Column::OptF64(fisher_high)),
            ("spearman", Column::F64(self.spearman)),
            ("p", Column::OptF64(self.p)),
            ("partial", Column::OptF64(partial)),
            ("partial_p", Column::OptF64(partial_p)),
            ("controls", Column::Str(self.controls)),
            ("blocks", Column::I32(self.blocks)),
            ("ratings", Column::Str(source)),
        ];
        self.places.table("norms/1", columns)
    }
}

#[derive(Default)]
pub struct Planes {
    places: Places,
    n: Vec<i32>,
    r2: Vec<f64>,
    p: Vec<Option<f64>>,
    null: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
}

impl Planes {
    pub fn push(&mut self, set: &VectorSet, layer: Layer, n: usize, r2: f64, null: Vec<f64>) {
        self.places.push(set, layer);
        self.n.push(n as i32);
        self.r2.push(r2);
        self.p.push((!null.is_empty()).then(|| p_value(r2, &null)));
        self.null.push((!null.is_empty()).then(|| interval::mean(&null)));
        self.high.push(percentile(&null).map(|i| i.high));
    }

    pub fn finish(self) -> Table {
        let columns = vec![
            ("n_emotions", Column::I32(self.n)),
            ("r2", Column::F64(self.r2)),
            ("p", Column::OptF64(self.p)),
            ("null_mean", Column::OptF64(self.null)),
            ("null_high", Column::OptF64(self.high)),
        ];
        self.places.table("norms_plane/1", columns)
    }
}

#[derive(Default)]
pub struct Words {
    places: Places,
    emotion: Vec<String>,
    word: Vec<String>,
    exact: Vec<bool>,
    ratings: [Vec<Option<f64>>; 3],
    turned: [Vec<Option<f64>>; 2],
}

impl Words {
    pub fn push(&mut self, set: &VectorSet, layer: &LayerVectors, rated: &Rated, place: Option<[f64; 2]>) {
        self.places.push(set, layer.layer);
        self.emotion.push(layer.emotions[rated.emotion].clone());
        self.word.push(rated.word.clone());
        self.exact.push(rated.exact);
        self.ratings.iter_mut().zip(rated.ratings).for_each(|(column, rating)| column.push(rating));
        self.turned.iter_mut().enumerate().for_each(|(at, column)| column.push(place.map(|p| p[at])));
    }

    pub fn finish(self) -> Table {
        let [valence, arousal, dominance] = self.ratings;
        let [x, y] = self.turned;
        let columns = vec![
            ("emotion", Column::Str(self.emotion)),
            ("word", Column::Str(self.word)),
            ("exact", Column::Bool(self.exact)),
            ("valence", Column::OptF64(valence)),
            ("arousal", Column::OptF64(arousal)),
            ("dominance", Column::OptF64(dominance)),
            ("turned_valence", Column::OptF64(x)),
            ("turned_arousal", Column::OptF64(y)),
        ];
        self.places.table("norms_words/1", columns)
    }
}
