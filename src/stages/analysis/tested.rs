//! An estimate with its interval and its null distribution, and the table columns for such estimates. Independent of
//! what was measured.

use anyhow::Result;

use crate::report::figure::Cell;
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::{mean, two_sided};
use crate::store::table::{Column, Table};

/// An estimate, its 95 % interval, and its null distribution.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    pub value: f64,
    pub interval: Option<Interval>,
    pub null_mean: f64,
    pub p: f64,
}

impl Tested {
    /// A two-sided test: p is the share of draws that are as far from the middle of all as `value`, which is itself
    /// counted among them, so that under the null each is equally likely to be the farthest.
    pub fn on_either_side(value: f64, null: &[f64], interval: Option<Interval>) -> Tested {
        let all: Vec<f64> = null.iter().copied().chain([value]).collect();
        let middle = mean(&all);
        let around: Vec<f64> = null.iter().map(|x| x - middle).collect();
        Tested { value, interval, null_mean: mean(null), p: two_sided(value - middle, &around) }
    }
}

/// Table columns for tested estimates.
#[derive(Default)]
pub struct Numbers {
    value: Vec<f64>,
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
    null_mean: Vec<f64>,
    p: Vec<f64>,
}

impl Numbers {
    pub fn push(&mut self, tested: &Tested) {
        self.value.push(tested.value);
        self.low.push(tested.interval.map(|ends| ends.low));
        self.high.push(tested.interval.map(|ends| ends.high));
        self.null_mean.push(tested.null_mean);
        self.p.push(tested.p);
    }

    pub fn columns(self) -> Vec<(&'static str, Column)> {
        vec![
            ("value", Column::F64(self.value)),
            ("low", Column::OptF64(self.low)),
            ("high", Column::OptF64(self.high)),
            ("null_mean", Column::F64(self.null_mean)),
            ("p", Column::F64(self.p)),
        ]
    }
}

/// The interval in a row of such columns.
pub fn interval(table: &Table, row: usize) -> Result<Option<Interval>> {
    let (low, high) = (table.opt_f64("low")?[row], table.opt_f64("high")?[row]);
    Ok(low.zip(high).map(|(low, high)| Interval { low, high }))
}

/// The estimate in a row, followed by its interval if there is one.
pub fn cell(table: &Table, row: usize, decimals: usize) -> Result<Cell> {
    let value = table.f64("value")?[row];
    Ok(match interval(table, row)? {
        Some(ends) => Cell::Ranged(value, (ends.low, ends.high), decimals),
        None => Cell::Number(value, decimals),
    })
}
