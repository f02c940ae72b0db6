//! The tables of the outcomes of texts: shares, their changes under steering, and every text. Does not depend on a
//! model.

use anyhow::{Context, Result};

use super::samples::{Sample, Samples};
use super::tables::{Effects, over_cases};
use super::{Scenario, accuracy};
use crate::lm::Layer;
use crate::stages::analysis::{Places, Tables, VectorSet};
use crate::stages::scores::CUT;
use crate::stages::statistics::Interval;
use crate::stages::statistics::shares::newcombe;
use crate::store::table::{Column, Table};

/// The methods of the intervals of differences, for few cases and for more.
pub const NEWCOMBE: &str = "Newcombe";
pub const WIDER: &str = "the wider of Newcombe's and a bootstrap over cases";

/// Hits and trials.
type Count = (usize, usize);

/// The frequency of each outcome: `[cell][case]`.
struct Counts<'a> {
    samples: &'a Samples,
    /// `[cell][case]`: indices of samples.
    of: Vec<Vec<Vec<usize>>>,
}

impl<'a> Counts<'a> {
    fn new(samples: &'a Samples) -> Counts<'a> {
        let mut of = vec![vec![Vec::new(); samples.cases.len()]; samples.cells.len()];
        for (place, sample) in samples.all.iter().enumerate() {
            of[sample.cell][sample.case].push(place);
        }
        Counts { samples, of }
    }

    /// The number of samples of a cell and case that satisfy `is`, and their total.
    fn case(&self, cell: usize, case: usize, is: &dyn Fn(&Sample) -> bool) -> Count {
        let own = &self.of[cell][case];
        (own.iter().filter(|&&place| is(&self.samples.all[place])).count(), own.len())
    }

    /// The same over the cases that are, or are not, controls.
    fn cell(&self, cell: usize, control: bool, is: &dyn Fn(&Sample) -> bool) -> Count {
        let own = (0..self.samples.cases.len()).filter(|&case| self.samples.cases[case].control == control);
        own.map(|case| self.case(cell, case, is)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

fn share((hits, n): Count) -> Option<f64> {
    (n > 0).then(|| hits as f64 / n as f64)
}

/// The tables `scenario`, `scenario_outcomes` and `scenario_samples`, and with labels `scenario_accuracy`. `outcomes`:
/// the name of every outcome, and whether it is the act.
///
/// Texts of one case are more similar to each other than texts of different cases: with five cases or more, each end
/// of the interval of a difference is the wider one of a bootstrap over cases and Newcombe's interval.
pub fn tables(
    params: &Scenario,
    place: (&VectorSet, Layer),
    samples: &Samples,
    outcomes: &[(&str, bool)],
    seed: u64,
) -> Result<Tables> {
    let counts = Counts::new(samples);
    let act = |sample: &Sample| sample.act;
    let grounds: Vec<usize> = (0..samples.cases.len()).filter(|&case| !samples.cases[case].control).collect();
    let of_case = |cell: usize, case: usize| share(counts.case(cell, case, &act)).unwrap_or_default();
    let bootstrap = |cell: usize| {
        let effects: Vec<f64> = grounds.iter().map(|&case| of_case(cell, case) - of_case(0, case)).collect();
        over_cases(&effects, params.bootstrap, seed)
    };
    let interval = |cell: usize| {
        let own = newcombe(counts.cell(cell, false, &act), counts.cell(0, false, &act))?;
        let Some(cases) = bootstrap(cell) else { return Some(own) };
        Some(Interval { low: own.low.min(cases.low), high: own.high.max(cases.high) })
    };
    let every = 0..samples.cells.len();
    let effects = Effects {
        cells: samples.cells.clone(),
        value: every.clone().map(|cell| share(counts.cell(cell, false, &act)).unwrap_or_default()).collect(),
        control: every.clone().map(|cell| share(counts.cell(cell, true, &act))).collect(),
        interval: every.clone().map(interval).collect(),
        method: if bootstrap(0).is_some() { WIDER } else { NEWCOMBE },
        n: counts.cell(0, false, &act).1,
        aside: every
            .map(|cell| share(counts.cell(cell, false, &|of| of.outcome == CUT)).unwrap_or(0.0))
            .collect(),
    };
    // Without steering there is no effect to report.
    let steered = (samples.cells.len() > 1).then(|| ("scenario".to_string(), effects.table(place)));
    let mut tables: Tables = steered.into_iter().collect();
    tables.extend([
        ("scenario_outcomes".into(), shares(place, &counts, outcomes)?),
        ("scenario_samples".into(), all(place, samples)),
    ]);
    let accuracy = accuracy::table(params, place, samples, seed);
    tables.extend(accuracy.map(|table| ("scenario_accuracy".to_string(), table)));
    Ok(tables)
}

/// The frequency of each outcome in each cell, in the cases with grounds for the act and in the controls.
fn shares((set, layer): (&VectorSet, Layer), counts: &Counts, outcomes: &[(&str, bool)]) -> Result<Table> {
    let samples = counts.samples;
    let unknown = samples.all.iter().find(|sample| outcomes.iter().all(|(name, _)| *name != sample.outcome));
    unknown.is_none().then_some(()).context("a score of an outcome that is not declared")?;
    let mut places = Places::default();
    let (mut steered, mut strength, mut control) = (Vec::new(), Vec::new(), Vec::new());
    let (mut outcome, mut acts, mut count, mut of) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (cell, (name, at)) in samples.cells.iter().enumerate() {
        for is_control in [false, true] {
            for (found, act) in outcomes {
                let (hits, n) = counts.cell(cell, is_control, &|sample| sample.outcome == *found);
                if n == 0 {
                    continue;
                }
                places.push(set, layer);
                steered.push(name.clone());
                strength.push(*at);
                control.push(is_control);
                outcome.push(found.to_string());
                acts.push(*act);
                count.push(hits as i32);
                of.push(n as i32);
            }
        }
    }
    let columns = vec![
        ("steered", Column::Str(steered)),
        ("strength", Column::F64(strength)),
        ("control", Column::Bool(control)),
        ("outcome", Column::Str(outcome)),
        ("act", Column::Bool(acts)),
        ("count", Column::I32(count)),
        ("n", Column::I32(of)),
    ];
    Ok(places.table("scenario_outcomes/1", columns))
}

/// All texts.
fn all((set, layer): (&VectorSet, Layer), samples: &Samples) -> Table {
    let all = &samples.all;
    let mut places = Places::default();
    all.iter().for_each(|_| places.push(set, layer));
    let texts = |of: &dyn Fn(&Sample) -> String| Column::Str(all.iter().map(of).collect());
    let columns = vec![
        ("sample_id", texts(&|s| s.id.clone())),
        ("steered", texts(&|s| samples.cells[s.cell].0.clone())),
        ("strength", Column::F64(all.iter().map(|s| samples.cells[s.cell].1).collect())),
        ("case", texts(&|s| samples.cases[s.case].name.clone())),
        ("control", Column::Bool(all.iter().map(|s| samples.cases[s.case].control).collect())),
        ("sample", Column::I32(all.iter().map(|s| s.number).collect())),
        ("seed", texts(&|s| s.seed.clone())),
        ("outcome", texts(&|s| s.outcome.clone())),
        ("act", Column::Bool(all.iter().map(|s| s.act).collect())),
        ("evidence", texts(&|s| s.evidence.clone())),
        ("ended", texts(&|s| s.ended.clone())),
        ("n_tokens", Column::I32(all.iter().map(|s| s.tokens).collect())),
        ("text", texts(&|s| s.text.clone())),
        ("earlier", texts(&|s| s.earlier.join("\n\n"))),
    ];
    places.table("scenario_samples/2", columns)
}
