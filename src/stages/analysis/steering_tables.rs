//! The columns of the tables of steering, filled row by row.

use super::Places;
use super::steering::Unit;
use crate::store::table::{Column, Table};

/// `steering`: one row per effect on a word.
#[derive(Default)]
pub struct Rows {
    pub places: Places,
    pub layers: Vec<String>,
    pub prompt: Vec<String>,
    pub strength: Vec<f64>,
    pub steered: Vec<String>,
    pub measured: Vec<String>,
    pub baseline: Vec<f64>,
    pub after: Vec<f64>,
}

/// `steering_interval`: one row per interval of an emotion's effect on its own word.
#[derive(Default)]
pub struct Intervals {
    pub places: Places,
    pub strength: Vec<f64>,
    pub emotion: Vec<String>,
    pub topics: Vec<i32>,
    pub resamples: Vec<i32>,
    pub low: Vec<f64>,
    pub high: Vec<f64>,
}

/// `steering_coherence`: one row per addition, with its effect on neutral text; log-probabilities per token, in nats.
#[derive(Default)]
pub struct Coherence {
    pub places: Places,
    pub strength: Vec<f64>,
    pub steered: Vec<String>,
    pub n_tokens: Vec<i32>,
    pub baseline: Vec<f64>,
    pub after: Vec<f64>,
}

/// `steering_text`: one row per text generated under an addition.
#[derive(Default)]
pub struct Written {
    pub places: Places,
    pub prompt: Vec<String>,
    pub strength: Vec<f64>,
    pub steered: Vec<String>,
    pub n_tokens: Vec<i32>,
    pub surprise: Vec<Option<f64>>,
    pub repeated: Vec<Option<f64>>,
    pub text: Vec<String>,
}

impl Written {
    pub fn finish(self, unit: Unit) -> Table {
        let columns = vec![
            ("unit", units(unit, self.prompt.len())),
            ("prompt", Column::Str(self.prompt)),
            ("strength", Column::F64(self.strength)),
            ("steered", Column::Str(self.steered)),
            ("n_tokens", Column::I32(self.n_tokens)),
            ("surprise", Column::OptF64(self.surprise)),
            ("repeated", Column::OptF64(self.repeated)),
            ("text", Column::Str(self.text)),
        ];
        self.places.table("steering_text/1", columns)
    }
}

fn units(unit: Unit, rows: usize) -> Column {
    let unit = match unit {
        Unit::Vector => "vector",
        Unit::ResidNorm => "resid_norm",
    };
    Column::Str(vec![unit.to_string(); rows])
}

fn delta(after: &[f64], before: &[f64]) -> Column {
    Column::F64(after.iter().zip(before).map(|(after, before)| after - before).collect())
}

impl Rows {
    pub fn finish(self, unit: Unit) -> Table {
        let delta = delta(&self.after, &self.baseline);
        let columns = vec![
            ("unit", units(unit, self.prompt.len())),
            ("layers", Column::Str(self.layers)),
            ("prompt", Column::Str(self.prompt)),
            ("strength", Column::F64(self.strength)),
            ("steered", Column::Str(self.steered)),
            ("measured", Column::Str(self.measured)),
            ("baseline_logprob", Column::F64(self.baseline)),
            ("steered_logprob", Column::F64(self.after)),
            ("delta", delta),
        ];
        self.places.table("steering/1", columns)
    }
}

impl Intervals {
    pub fn finish(self, unit: Unit) -> Table {
        let columns = vec![
            ("unit", units(unit, self.emotion.len())),
            ("strength", Column::F64(self.strength)),
            ("emotion", Column::Str(self.emotion)),
            ("topics", Column::I32(self.topics)),
            ("resamples", Column::I32(self.resamples)),
            ("low", Column::F64(self.low)),
            ("high", Column::F64(self.high)),
        ];
        self.places.table("steering_interval/1", columns)
    }
}

impl Coherence {
    pub fn finish(self, unit: Unit) -> Table {
        let delta = delta(&self.after, &self.baseline);
        let columns = vec![
            ("unit", units(unit, self.steered.len())),
            ("strength", Column::F64(self.strength)),
            ("steered", Column::Str(self.steered)),
            ("n_tokens", Column::I32(self.n_tokens)),
            ("baseline_logprob", Column::F64(self.baseline)),
            ("steered_logprob", Column::F64(self.after)),
            ("delta", delta),
        ];
        self.places.table("steering_coherence/1", columns)
    }
}
