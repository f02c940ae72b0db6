//! The tables of a scenario, and what is derived from its cells: effects, intervals, p-values. Does not depend on a
//! model.

use super::Scenario;
use super::choices::Odds;
use crate::lm::Layer;
use crate::stages::analysis::claim::adjusted;
use crate::stages::analysis::{Places, Tables, VectorSet};
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::cells::{Cell, NONE, is_random};
use crate::stages::statistics::Interval;
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::{percentile, two_sided};
use crate::store::table::{Column, Table};

/// The minimum number of cases for a bootstrap over cases.
const CASES: usize = 5;

/// The effect of each cell on the act, in log-odds or as a share.
pub struct Effects {
    /// `[cell]`: what is added, and at which strength; the first is unsteered.
    pub cells: Vec<(String, f64)>,
    /// `[cell]`: over the cases with grounds for the act; and over the controls.
    pub value: Vec<f64>,
    pub control: Vec<Option<f64>>,
    pub interval: Vec<Option<Interval>>,
    pub method: &'static str,
    /// For each cell: the number of cases, or of texts.
    pub n: usize,
    /// The share of truncated texts; for choices, the total probability of the letters.
    pub aside: Vec<f64>,
}

impl Effects {
    /// The table `scenario`: each emotion's cells compared with the unsteered one.
    pub fn table(&self, (set, layer): (&VectorSet, Layer)) -> Table {
        let effect = |cell: usize| self.value[cell] - self.value[0];
        let own: Vec<usize> = (1..self.cells.len()).filter(|&cell| !is_random(&self.cells[cell].0)).collect();
        let random = |strength: f64| -> Vec<f64> {
            let same = |&cell: &usize| is_random(&self.cells[cell].0) && self.cells[cell].1 == strength;
            (1..self.cells.len()).filter(same).map(effect).collect()
        };
        let p = own.iter().map(|&cell| {
            let null = random(self.cells[cell].1);
            (!null.is_empty()).then(|| two_sided(effect(cell), &null))
        });
        let p: Vec<Option<f64>> = p.collect();
        let q = match p.iter().copied().collect::<Option<Vec<f64>>>() {
            Some(p) => adjusted(&p).into_iter().map(Some).collect(),
            None => vec![None; p.len()],
        };
        let band = own.iter().map(|&cell| {
            let null = random(self.cells[cell].1);
            let ends = [f64::min, f64::max].map(|of| null.iter().copied().reduce(of));
            (ends[0], ends[1], null.len() as i32)
        });
        let band: Vec<(Option<f64>, Option<f64>, i32)> = band.collect();
        let mut places = Places::default();
        own.iter().for_each(|_| places.push(set, layer));
        let numbers = |of: &dyn Fn(usize) -> f64| Column::F64(own.iter().map(|&cell| of(cell)).collect());
        let options =
            |of: &dyn Fn(usize) -> Option<f64>| Column::OptF64(own.iter().map(|&cell| of(cell)).collect());
        let columns = vec![
            ("steered", Column::Str(own.iter().map(|&cell| self.cells[cell].0.clone()).collect())),
            ("strength", numbers(&|cell| self.cells[cell].1)),
            ("unsteered", numbers(&|_| self.value[0])),
            ("value", numbers(&|cell| self.value[cell])),
            ("effect", numbers(&effect)),
            ("low", options(&|cell| self.interval[cell].map(|i| i.low))),
            ("high", options(&|cell| self.interval[cell].map(|i| i.high))),
            ("method", Column::Str(own.iter().map(|_| self.method.to_string()).collect())),
            ("control_effect", options(&|cell| Some(self.control[cell]? - self.control[0]?))),
            ("n", Column::I32(vec![self.n as i32; own.len()])),
            ("aside", numbers(&|cell| self.aside[cell])),
            ("random_low", Column::OptF64(band.iter().map(|of| of.0).collect())),
            ("random_high", Column::OptF64(band.iter().map(|of| of.1).collect())),
            ("n_random", Column::I32(band.iter().map(|of| of.2).collect())),
            ("p", Column::OptF64(p)),
            ("q", Column::OptF64(q)),
        ];
        places.table("scenario/1", columns)
    }
}

/// The mean over the cases that are, or are not, controls.
fn mean(values: impl Fn(usize) -> f64, asked: &[Asked], control: bool) -> Option<f64> {
    let own: Vec<usize> = (0..asked.len()).filter(|&case| asked[case].control == control).collect();
    (!own.is_empty()).then(|| own.iter().map(|&case| values(case)).sum::<f64>() / own.len() as f64)
}

/// The bootstrap interval of a cell's mean effect over cases, with the same draws in all cells. `None` for fewer than
/// five.
pub fn over_cases(effects: &[f64], draws: usize, seed: u64) -> Option<Interval> {
    if effects.len() < CASES {
        return None;
    }
    let drawn = |number| {
        let order = Draws::new("scenario cases", &[seed, number as u64]).resampled(effects.len());
        order.iter().map(|&case| effects[case]).sum::<f64>() / effects.len() as f64
    };
    percentile(&(0..draws).map(drawn).collect::<Vec<_>>())
}

/// The effects for `choices`; `odds[cell][case]`.
pub fn choices(
    params: &Scenario,
    place: (&VectorSet, Layer),
    asked: &[Asked],
    cells: &[Cell],
    odds: &[Vec<Odds>],
    seed: u64,
) -> Tables {
    let grounds: Vec<usize> = (0..asked.len()).filter(|&case| !asked[case].control).collect();
    let interval = |cell: usize| {
        let effects = grounds.iter().map(|&case| odds[cell][case].logodds - odds[0][case].logodds);
        over_cases(&effects.collect::<Vec<_>>(), params.bootstrap, seed)
    };
    let every = 0..cells.len();
    let of = |control| {
        let every = every.clone();
        every.map(move |cell| mean(|case| odds[cell][case].logodds, asked, control)).collect::<Vec<_>>()
    };
    let effects = Effects {
        cells: cells.iter().map(|cell| (cell.steered.clone(), cell.strength)).collect(),
        value: of(false).into_iter().map(Option::unwrap_or_default).collect(),
        control: of(true),
        interval: every.clone().map(interval).collect(),
        method: "percentile bootstrap over cases",
        n: grounds.len(),
        aside: every
            .clone()
            .map(|cell| mean(|case| odds[cell][case].mass, asked, false).unwrap_or(1.0))
            .collect(),
    };
    let mut places = Places::default();
    let rows: Vec<(usize, usize)> =
        every.flat_map(|cell| (0..asked.len()).map(move |case| (cell, case))).collect();
    rows.iter().for_each(|_| places.push(place.0, place.1));
    let numbers = |of: &dyn Fn(usize, usize) -> f64| {
        Column::F64(rows.iter().map(|&(cell, case)| of(cell, case)).collect())
    };
    let columns = vec![
        ("steered", Column::Str(rows.iter().map(|&(cell, _)| cells[cell].steered.clone()).collect())),
        ("strength", numbers(&|cell, _| cells[cell].strength)),
        ("case", Column::Str(rows.iter().map(|&(_, case)| asked[case].name.clone()).collect())),
        ("control", Column::Bool(rows.iter().map(|&(_, case)| asked[case].control).collect())),
        ("logodds", numbers(&|cell, case| odds[cell][case].logodds)),
        ("mass", numbers(&|cell, case| odds[cell][case].mass)),
    ];
    vec![
        ("scenario".into(), effects.table(place)),
        ("scenario_choices".into(), places.table("scenario_choices/1", columns)),
    ]
}

/// Whether a row is unsteered.
pub fn is_unsteered(steered: &str) -> bool {
    steered == NONE
}
