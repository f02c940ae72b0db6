//! Whether the readings of emotion vectors in texts are related to the outcomes of the texts: areas under the ROC
//! curve, compared with permuted outcomes and with random directions. For texts without steering. Does not depend on a
//! model.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::samples::Samples;
use crate::lm::Layer;
use crate::stages::analysis::claim::adjusted;
use crate::stages::analysis::reads::TextRead;
use crate::stages::analysis::{Places, Reads, VectorSet};
use crate::stages::scores::{CUT, UNCLEAR};
use crate::stages::statistics::Interval;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{mean, p_value, percentile};
use crate::store::table::{Column, Table};

/// Permutations of outcomes over texts, or of readings over cases.
pub const DEALS: usize = 2000;
/// The minimum number of cases for a comparison of readings and outcomes across cases.
const CASES: usize = 5;

/// Where a text is read.
pub const PLACES: [&str; 3] = ["user's last turn", "token before the answer", "answer"];
/// What is compared.
pub const WITHIN: &str = "within cases";
pub const ACROSS: &str = "across cases";

/// A text with its readings: for each direction at each of [`PLACES`].
struct Read {
    case: usize,
    act: bool,
    at: [Vec<f64>; 3],
}

/// The readings around the last answer; `None` for a text without one.
fn around(read: &TextRead) -> Option<[Vec<f64>; 3]> {
    let is = |turn: &Option<usize>, role: &str| turn.is_some_and(|turn| read.text.role(turn) == role);
    let last = read.turns.iter().rposition(|turn| is(turn, "assistant"))?;
    let start = read.turns.iter().position(|turn| *turn == read.turns[last])?;
    let to = read.turns[..start].iter().rposition(|turn| is(turn, "user"))?;
    let from = read.turns.iter().position(|turn| *turn == read.turns[to])?;
    let at = |tokens: std::ops::Range<usize>| -> Vec<f64> {
        let one = |direction: usize| {
            let values = tokens.clone().map(|token| f64::from(read.values[token * read.width + direction]));
            mean(&values.collect::<Vec<_>>())
        };
        (0..read.width).map(one).collect()
    };
    Some([at(from..to + 1), at(start - 1..start), at(start..last + 1)])
}

/// The share of pairs of a text that is the act and a text of the same case that is not in which the former has the
/// larger number; ties count half. `cases`: the indices of the texts of each. `None` if there is no such pair.
fn within(cases: &[Vec<usize>], act: &[bool], values: &[f64]) -> Option<f64> {
    let (mut wins, mut pairs) = (0.0f64, 0.0f64);
    for own in cases {
        let (yes, no): (Vec<usize>, Vec<usize>) = own.iter().partition(|&&at| act[at]);
        pairs += (yes.len() * no.len()) as f64;
        wins += yes.iter().flat_map(|&a| no.iter().map(move |&b| win(values[a], values[b]))).sum::<f64>();
    }
    (pairs > 0.0).then(|| wins / pairs)
}

/// The same for pairs of texts of different cases, each with the number of its case.
fn across(cases: &[Vec<usize>], act: &[bool], numbers: &[f64]) -> Option<f64> {
    let acts: Vec<f64> = cases.iter().map(|own| own.iter().filter(|&&at| act[at]).count() as f64).collect();
    let (mut wins, mut pairs) = (0.0f64, 0.0f64);
    for a in 0..cases.len() {
        for b in (0..cases.len()).filter(|&b| b != a) {
            let n = acts[a] * (cases[b].len() as f64 - acts[b]);
            pairs += n;
            wins += n * win(numbers[a], numbers[b]);
        }
    }
    (pairs > 0.0).then(|| wins / pairs)
}

fn win(x: f64, y: f64) -> f64 {
    if x > y {
        1.0
    } else if x == y {
        0.5
    } else {
        0.0
    }
}

/// The mean over the texts of each case.
fn means(cases: &[Vec<usize>], values: &[f64]) -> Vec<f64> {
    cases.iter().map(|own| mean(&own.iter().map(|&at| values[at]).collect::<Vec<_>>())).collect()
}

/// Whether numbers differ within a case.
fn vary(cases: &[Vec<usize>], values: &[f64]) -> bool {
    let size = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let differs = |own: &Vec<usize>| own.iter().any(|&at| (values[at] - values[own[0]]).abs() > 1e-4 * size);
    cases.iter().any(differs)
}

/// Outcomes permuted over the texts of each case.
fn dealt(cases: &[Vec<usize>], act: &[bool], draws: &mut Draws) -> Vec<bool> {
    let mut again = act.to_vec();
    for own in cases {
        for (&at, from) in own.iter().zip(draws.shuffled(own.len())) {
            again[at] = act[own[from]];
        }
    }
    again
}

/// Cases with as many texts drawn from each, with replacement; or as many whole cases, where a case that is drawn
/// twice counts as two.
fn drawn(cases: &[Vec<usize>], whole: bool, draws: &mut Draws) -> Vec<Vec<usize>> {
    if whole {
        return draws.resampled(cases.len()).into_iter().map(|case| cases[case].clone()).collect();
    }
    let one = |own: &Vec<usize>| draws.resampled(own.len()).into_iter().map(|at| own[at]).collect();
    cases.iter().map(one).collect()
}

/// One emotion at one place.
struct Found {
    layer: Layer,
    place: &'static str,
    form: &'static str,
    emotion: String,
    area: f64,
    interval: Option<Interval>,
    /// The number of compared texts, and how many of them are the act.
    n: usize,
    n_act: usize,
    p: f64,
    /// The smallest and the largest area of a random direction, and the rank among them.
    random: Option<(f64, f64, f64)>,
}

/// The table `scenario_probe`: for each emotion at each place, the area within cases, and across them; `None` if no
/// case has texts of both kinds and there are fewer than five cases. Controls are excluded.
pub fn table(
    set: &VectorSet,
    samples: &Samples,
    reads: &Reads,
    (draws, seed): (usize, u64),
) -> Result<Option<Table>> {
    let by: HashMap<&str, usize> =
        samples.all.iter().enumerate().map(|(at, sample)| (sample.id.as_str(), at)).collect();
    let mut read: Vec<Vec<Read>> = set.layers.iter().map(|_| Vec::new()).collect();
    reads.each(set, &mut |text| {
        let sample = by.get(text.text.id.as_str()).map(|&at| &samples.all[at]);
        // Texts without an assigned outcome count as neither.
        let told = sample.filter(|of| {
            of.cell == 0 && !samples.cases[of.case].control && ![CUT, UNCLEAR].contains(&of.outcome.as_str())
        });
        if let Some((sample, at)) = told.zip(around(text)) {
            read[text.layer].push(Read { case: sample.case, act: sample.act, at });
        }
        Ok(())
    })?;
    let mut found = Vec::new();
    for (layer, read) in set.layers.iter().zip(&read) {
        found.extend(of_layer(layer.layer, &layer.emotions, read, (draws, DEALS, seed)));
    }
    Ok((!found.is_empty()).then(|| written(set, found)))
}

/// The results of one layer; the numbers of draws for intervals and of permutations for p, and the seed of both.
fn of_layer(
    layer: Layer,
    emotions: &[String],
    read: &[Read],
    (draws, deals, seed): (usize, usize, u64),
) -> Vec<Found> {
    let mut by: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    read.iter().enumerate().for_each(|(at, of)| by.entry(of.case).or_default().push(at));
    let cases: Vec<Vec<usize>> = by.into_values().collect();
    let act: Vec<bool> = read.iter().map(|of| of.act).collect();
    let n_act = act.iter().filter(|&&act| act).count();
    let width = read.first().map_or(0, |of| of.at[0].len());
    let outcomes = rounds(seed, "scenario probe within", deals, |draws| dealt(&cases, &act, draws));
    let orders = rounds(seed, "scenario probe across", deals, |draws| draws.shuffled(cases.len()));
    let mut found = Vec::new();
    for (at, &place) in PLACES.iter().enumerate() {
        for form in [WITHIN, ACROSS] {
            let of = |direction: usize| -> Vec<f64> { read.iter().map(|of| of.at[at][direction]).collect() };
            // The text before an answer is the same in all texts of a case, except for intermediate answers.
            let there = if form == WITHIN { width > 0 && vary(&cases, &of(0)) } else { cases.len() >= CASES };
            if !there {
                continue;
            }
            let area = |cases: &[Vec<usize>], values: &[f64]| match form {
                WITHIN => within(cases, &act, values),
                _ => across(cases, &act, &means(cases, values)),
            };
            let areas: Vec<Option<f64>> = (0..width).map(|direction| area(&cases, &of(direction))).collect();
            let random: Vec<f64> = areas[emotions.len()..].iter().flatten().copied().collect();
            let away: Vec<f64> = random.iter().map(|area| (area - 0.5).abs()).collect();
            let end = |of: fn(f64, f64) -> f64| random.iter().copied().reduce(of);
            for (number, emotion) in emotions.iter().enumerate() {
                let (Some(found_area), own) = (areas[number], of(number)) else { continue };
                let own_means = means(&cases, &own);
                let again: Vec<Option<f64>> = match form {
                    WITHIN => outcomes.iter().map(|act| within(&cases, act, &own)).collect(),
                    _ => {
                        let moved = |order: &Vec<usize>| {
                            order.iter().map(|&case| own_means[case]).collect::<Vec<_>>()
                        };
                        orders.iter().map(|order| across(&cases, &act, &moved(order))).collect()
                    }
                };
                let null: Vec<f64> = again.into_iter().flatten().map(|area| (area - 0.5).abs()).collect();
                let size = (found_area - 0.5).abs();
                let resampled = rounds(seed, "scenario probe", draws, |draws| {
                    area(&drawn(&cases, form == ACROSS, draws), &own)
                });
                found.push(Found {
                    layer,
                    place,
                    form,
                    emotion: emotion.clone(),
                    area: found_area,
                    interval: percentile(&resampled.into_iter().flatten().collect::<Vec<_>>()),
                    n: read.len(),
                    n_act,
                    p: p_value(size, &null),
                    random: end(f64::min)
                        .zip(end(f64::max))
                        .map(|(low, high)| (low, high, p_value(size, &away))),
                });
            }
        }
    }
    found
}

fn written(set: &VectorSet, found: Vec<Found>) -> Table {
    let q = adjusted(&found.iter().map(|of| of.p).collect::<Vec<_>>());
    let mut places = Places::default();
    found.iter().for_each(|of| places.push(set, of.layer));
    let texts =
        |of: &dyn Fn(&Found) -> &str| Column::Str(found.iter().map(|one| of(one).to_string()).collect());
    let numbers = |of: &dyn Fn(&Found) -> Option<f64>| Column::OptF64(found.iter().map(of).collect());
    let columns = vec![
        ("emotion", texts(&|of| &of.emotion)),
        ("place", texts(&|of| of.place)),
        ("compared", texts(&|of| of.form)),
        ("auc", Column::F64(found.iter().map(|of| of.area).collect())),
        ("low", numbers(&|of| of.interval.map(|ends| ends.low))),
        ("high", numbers(&|of| of.interval.map(|ends| ends.high))),
        ("n", Column::I32(found.iter().map(|of| of.n as i32).collect())),
        ("n_act", Column::I32(found.iter().map(|of| of.n_act as i32).collect())),
        ("p", Column::F64(found.iter().map(|of| of.p).collect())),
        ("q", Column::F64(q)),
        ("random_low", numbers(&|of| Some(of.random?.0))),
        ("random_high", numbers(&|of| Some(of.random?.1))),
        ("p_random", numbers(&|of| Some(of.random?.2))),
    ];
    places.table("scenario_probe/1", columns)
}

#[cfg(test)]
mod tests;
