//! Accuracy of the assigned outcomes according to human labels: sensitivity and specificity in each arm, and shares
//! corrected for them. Independent of models and files.

use std::collections::HashMap;

use super::Scenario;
use super::labels::{Label, Of};
use super::samples::{Sample, Samples};
use crate::lm::Layer;
use crate::stages::analysis::{Places, VectorSet};
use crate::stages::rollouts::cells::is_random;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{clopper_pearson, p_value};
use crate::stages::statistics::shares::{corrected, corrected_interval};
use crate::store::table::{Column, Table};

/// Shuffles of labelled texts over arms.
const SHUFFLES: usize = 999;
/// The name of the arm of all random directions of one strength, and of that of all arms.
const RANDOM: &str = "random";
pub const ALL: &str = "all";

/// Hits and trials.
type Count = (usize, usize);

/// Texts under one kind of steering, labelled ones and all.
#[derive(Clone, Debug, Default)]
struct Arm {
    /// Of the labelled texts that are the act, how many are scored as the act; of those that are not, how many are
    /// scored as not.
    sensitivity: Count,
    specificity: Count,
    /// Of all texts, how many are scored as the act.
    told: Count,
}

impl Arm {
    fn add(&mut self, told: bool, label: Option<bool>) {
        let add = |count: &mut Count, hit: bool| *count = (count.0 + usize::from(hit), count.1 + 1);
        add(&mut self.told, told);
        match label {
            Some(true) => add(&mut self.sensitivity, told),
            Some(false) => add(&mut self.specificity, !told),
            None => {}
        }
    }
}

/// The label of each text, if it has one.
fn labelled(labels: &[Label]) -> impl Fn(&Sample) -> Option<bool> {
    let mut by: HashMap<(bool, &str), bool> = HashMap::new();
    for Label { of, act } in labels {
        match of {
            Of::SampleId(id) => by.insert((true, id), *act),
            Of::Text(text) => by.insert((false, text), *act),
        };
    }
    move |sample| {
        by.get(&(true, sample.id.as_str())).or_else(|| by.get(&(false, sample.text.trim()))).copied()
    }
}

/// The table `scenario_accuracy`: one row per arm with labelled texts, and one for all. Controls are excluded: rates
/// refer to the cases with grounds for the act. `None` if no text has a label.
pub fn table(
    params: &Scenario,
    (set, layer): (&VectorSet, Layer),
    samples: &Samples,
    seed: u64,
) -> Option<Table> {
    let label = labelled(&params.labelled);
    let name = |cell: usize| {
        let (steered, strength) = &samples.cells[cell];
        (if is_random(steered) { RANDOM.to_string() } else { steered.clone() }, *strength)
    };
    let mut names: Vec<(String, f64)> = Vec::new();
    let mut arms: Vec<Arm> = Vec::new();
    // For each labelled text, its arm, its label and whether it is scored correctly.
    let mut judged: Vec<(usize, bool, bool)> = Vec::new();
    for sample in samples.all.iter().filter(|sample| !samples.cases[sample.case].control) {
        let own = name(sample.cell);
        let at = names.iter().position(|name| *name == own).unwrap_or_else(|| {
            names.push(own);
            arms.push(Arm::default());
            names.len() - 1
        });
        let label = label(sample);
        arms[at].add(sample.act, label);
        judged.extend(label.map(|label| (at, label, label == sample.act)));
    }
    if judged.is_empty() {
        return None;
    }
    let mut all = Arm::default();
    for arm in &arms {
        for (sum, own) in [
            (&mut all.sensitivity, arm.sensitivity),
            (&mut all.specificity, arm.specificity),
            (&mut all.told, arm.told),
        ] {
            *sum = (sum.0 + own.0, sum.1 + own.1);
        }
    }
    let p = differs(&judged, arms.len(), seed);
    let has_labels = |arm: &Arm| arm.sensitivity.1 + arm.specificity.1 > 0;
    let mut rows: Vec<(String, f64, Arm)> = names
        .into_iter()
        .zip(arms)
        .filter(|(_, arm)| has_labels(arm))
        .map(|((name, at), arm)| (name, at, arm))
        .collect();
    rows.push((ALL.to_string(), 0.0, all.clone()));
    let mut places = Places::default();
    rows.iter().for_each(|_| places.push(set, layer));
    let counts = |of: &dyn Fn(&Arm) -> usize| Column::I32(rows.iter().map(|row| of(&row.2) as i32).collect());
    let shares =
        |of: &dyn Fn(&Arm) -> Option<f64>| Column::OptF64(rows.iter().map(|row| of(&row.2)).collect());
    let share = |(hits, n): Count| (n > 0).then(|| hits as f64 / n as f64);
    let ends = |of: fn(&Arm) -> Count, high: bool| {
        shares(&move |arm| {
            let (hits, n) = of(arm);
            clopper_pearson(hits, n).map(|ends| if high { ends.high } else { ends.low })
        })
    };
    let fixed = |arm: &Arm, by: &Arm| corrected(arm.told, by.sensitivity, by.specificity);
    let interval = |arm: &Arm, by: &Arm| corrected_interval(arm.told, by.sensitivity, by.specificity);
    let columns = vec![
        ("arm", Column::Str(rows.iter().map(|row| row.0.clone()).collect())),
        ("strength", Column::F64(rows.iter().map(|row| row.1).collect())),
        ("n_act", counts(&|arm| arm.sensitivity.1)),
        ("n_other", counts(&|arm| arm.specificity.1)),
        ("sensitivity", shares(&|arm| share(arm.sensitivity))),
        ("sensitivity_low", ends(|arm| arm.sensitivity, false)),
        ("sensitivity_high", ends(|arm| arm.sensitivity, true)),
        ("specificity", shares(&|arm| share(arm.specificity))),
        ("specificity_low", ends(|arm| arm.specificity, false)),
        ("specificity_high", ends(|arm| arm.specificity, true)),
        ("n", counts(&|arm| arm.told.1)),
        ("told", shares(&|arm| share(arm.told))),
        ("corrected", shares(&|arm| fixed(arm, arm))),
        ("low", shares(&|arm| interval(arm, arm).map(|ends| ends.low))),
        ("high", shares(&|arm| interval(arm, arm).map(|ends| ends.high))),
        ("pooled", shares(&|arm| fixed(arm, &all))),
        ("pooled_low", shares(&|arm| interval(arm, &all).map(|ends| ends.low))),
        ("pooled_high", shares(&|arm| interval(arm, &all).map(|ends| ends.high))),
        ("p_differs", Column::OptF64(vec![p; rows.len()])),
    ];
    Some(places.table("scenario_accuracy/1", columns))
}

/// The p-value of the differences in accuracy between arms: texts are shuffled over arms, separately for those that
/// are the act and those that are not. The statistic is the sum over arms of n (share - mean)^2. `None` for fewer than
/// two arms, and if all or none are scored correctly: there is nothing to compare.
fn differs(judged: &[(usize, bool, bool)], arms: usize, seed: u64) -> Option<f64> {
    let strata: Vec<Vec<(usize, bool)>> = [true, false]
        .map(|act| judged.iter().filter(|of| of.1 == act).map(|of| (of.0, of.2)).collect::<Vec<_>>())
        .into_iter()
        .filter(|own| own.iter().any(|of| of.1) && own.iter().any(|of| !of.1))
        .collect();
    if !strata.iter().any(|own| own.iter().any(|of| of.0 != own[0].0)) {
        return None;
    }
    let spread = |arm: &mut dyn Iterator<Item = usize>, right: &[(usize, bool)]| {
        let mut counts = vec![(0.0f64, 0.0f64); arms];
        for (arm, (_, right)) in arm.zip(right) {
            counts[arm].0 += f64::from(u8::from(*right));
            counts[arm].1 += 1.0;
        }
        let mean = right.iter().filter(|of| of.1).count() as f64 / right.len() as f64;
        counts.iter().filter(|of| of.1 > 0.0).map(|(hits, n)| n * (hits / n - mean).powi(2)).sum::<f64>()
    };
    let of = |orders: Option<&[Vec<usize>]>| -> f64 {
        let one = |(at, own): (usize, &Vec<(usize, bool)>)| match orders {
            None => spread(&mut own.iter().map(|of| of.0), own),
            Some(orders) => spread(&mut orders[at].iter().map(|&other| own[other].0), own),
        };
        strata.iter().enumerate().map(one).sum()
    };
    let null = rounds(seed, "scenario accuracy", SHUFFLES, |draws| {
        let orders: Vec<Vec<usize>> = strata.iter().map(|own| draws.shuffled(own.len())).collect();
        of(Some(&orders))
    });
    Some(p_value(of(None), &null))
}

#[cfg(test)]
mod tests;
