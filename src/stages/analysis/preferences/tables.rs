//! The tables of `preferences`. Independent of how their numbers are computed.

use super::Preferences as Params;
use super::asking::{Answer, Questions};
use super::correlated::Correlated;
use super::elo::{Pair, position_bias};
use super::steered::Moved;
use crate::lm::Layer;
use crate::stages::analysis::{LayerVectors, Places, Tables, VectorSet};
use crate::store::table::{Column, Table};

/// Below this total probability of both letters an answer is not informative.
pub const MASS: f64 = 0.1;

/// Columns under construction, row by row.
#[derive(Default)]
struct Rows {
    places: Places,
    texts: Vec<Vec<String>>,
    integers: Vec<Vec<i32>>,
    numbers: Vec<Vec<f64>>,
    options: Vec<Vec<Option<f64>>>,
}

impl Rows {
    fn push(&mut self, texts: &[&str], integers: &[i32], numbers: &[f64], options: &[Option<f64>]) {
        fn put<T>(columns: &mut Vec<Vec<T>>, values: impl ExactSizeIterator<Item = T>) {
            columns.resize_with(values.len(), Vec::new);
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        put(&mut self.texts, texts.iter().map(|text| text.to_string()));
        put(&mut self.integers, integers.iter().copied());
        put(&mut self.numbers, numbers.iter().copied());
        put(&mut self.options, options.iter().copied());
    }

    /// Columns by name: texts, integers, numbers, and optional numbers.
    fn table(self, schema: &str, [texts, integers, numbers, options]: [&[&'static str]; 4]) -> Table {
        let mut columns: Vec<(&str, Column)> = Vec::new();
        columns.extend(texts.iter().copied().zip(self.texts.into_iter().map(Column::Str)));
        columns.extend(integers.iter().copied().zip(self.integers.into_iter().map(Column::I32)));
        columns.extend(numbers.iter().copied().zip(self.numbers.into_iter().map(Column::F64)));
        columns.extend(options.iter().copied().zip(self.options.into_iter().map(Column::OptF64)));
        self.places.table(schema, columns)
    }
}

pub struct Preferences<'a> {
    params: &'a Params,
    set: &'a VectorSet,
    correlations: Rows,
    activities: Rows,
    pairs: Rows,
    readings: Rows,
    steered: Rows,
    elo: Rows,
}

impl<'a> Preferences<'a> {
    pub fn new(params: &'a Params, set: &'a VectorSet) -> Preferences<'a> {
        let [correlations, activities, pairs, readings, steered, elo] =
            std::array::from_fn(|_| Rows::default());
        Preferences { params, set, correlations, activities, pairs, readings, steered, elo }
    }

    /// Each emotion's correlation, and its reading of each activity.
    pub fn layer(&mut self, layer: &LayerVectors, found: &[Correlated], readings: &[Vec<f64>]) {
        for (emotion, of) in layer.emotions.iter().zip(found) {
            self.correlations.places.push(self.set, layer.layer);
            self.correlations.push(
                &[emotion],
                &[self.params.list.len() as i32],
                &[of.r, of.p, of.p_max, of.within, of.p_within, of.p_within_max, of.between],
                &[of.interval.map(|i| i.low), of.interval.map(|i| i.high), of.beyond, of.p_beyond],
            );
        }
        for (emotion, readings) in layer.emotions.iter().zip(readings) {
            for (activity, reading) in self.params.list.iter().zip(readings) {
                self.readings.places.push(self.set, layer.layer);
                self.readings.push(&[emotion, &activity.category, &activity.activity], &[], &[*reading], &[]);
            }
        }
    }

    /// The answers, and the ratings derived from them.
    pub fn ratings(
        &mut self,
        layer: Layer,
        ratings: &[f64],
        pairs: &[Pair],
        (questions, answers): (&Questions, &[Answer]),
    ) {
        let low = answers.iter().filter(|answer| answer.mass < MASS).count() as f64 / answers.len() as f64;
        let mass = answers.iter().map(|answer| answer.mass).sum::<f64>() / answers.len() as f64;
        let bias = position_bias(pairs);
        for (activity, rating) in self.params.list.iter().zip(ratings) {
            self.activities.places.push(self.set, layer);
            let texts = [activity.category.as_str(), &activity.activity];
            self.activities.push(&texts, &[], &[*rating, bias, mass, low], &[]);
        }
        for (question, answer) in questions.all.iter().zip(answers) {
            let [a, b] = question.of.map(|at| self.params.list[at].activity.as_str());
            self.pairs.places.push(self.set, layer);
            self.pairs.push(&[a, b], &[], &[answer.logit, answer.mass], &[]);
        }
    }

    /// The effects of steering.
    pub fn steered(&mut self, layer: Layer, moved: &Moved) {
        for of in &moved.moves {
            self.steered.places.push(self.set, layer);
            let integers = [of.split as i32, of.half as i32];
            self.steered.push(&[&of.steered], &integers, &[of.strength, of.shift, of.slope], &[]);
        }
        for of in &moved.rated {
            for (activity, [before, after]) in self.params.list.iter().zip(&of.ratings) {
                self.elo.places.push(self.set, layer);
                let texts = [of.steered.as_str(), &activity.category, &activity.activity];
                self.elo.push(&texts, &[], &[of.strength, *before, *after], &[]);
            }
        }
    }

    pub fn finish(self) -> Tables {
        let numbers: &[&str] = &["r", "p", "p_max", "r_within", "p_within", "p_within_max", "r_between"];
        let options: &[&str] = &["low", "high", "r_beyond", "p_beyond"];
        let correlations =
            self.correlations.table("preferences/2", [&["emotion"], &["n_activities"], numbers, options]);
        let numbers: &[&str] = &["elo", "position_bias", "mass", "low_mass"];
        let activities =
            self.activities.table("preferences_activities/1", [&["category", "activity"], &[], numbers, &[]]);
        let texts: &[&str] = &["activity_a", "activity_b"];
        let pairs = self.pairs.table("preferences_pairs/1", [texts, &[], &["logit", "mass"], &[]]);
        let texts: &[&str] = &["emotion", "category", "activity"];
        let readings = self.readings.table("preferences_readings/1", [texts, &[], &["reading"], &[]]);
        let mut tables = vec![
            ("preferences".to_string(), correlations),
            ("preferences_activities".to_string(), activities),
            ("preferences_pairs".to_string(), pairs),
            ("preferences_readings".to_string(), readings),
        ];
        if self.params.steer.is_some() {
            let (integers, numbers): (&[&str], &[&str]) =
                (&["split", "half"], &["strength", "shift", "slope"]);
            let steered = self.steered.table("preferences_steered/1", [&["steered"], integers, numbers, &[]]);
            let texts: &[&str] = &["steered", "category", "activity"];
            let numbers: &[&str] = &["strength", "elo", "steered_elo"];
            let elo = self.elo.table("preferences_elo/1", [texts, &[], numbers, &[]]);
            tables
                .extend([("preferences_steered".to_string(), steered), ("preferences_elo".to_string(), elo)]);
        }
        tables
    }
}
