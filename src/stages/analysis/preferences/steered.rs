//! Whether a vector added to the tokens of half of the activities makes that half preferred over the other.

use anyhow::Result;

use super::asking::{Answer, Questions};
use super::correlated::halves;
use super::elo::{POINTS, bradley_terry, elo};
use super::{Preferences, Steered};
use crate::lm::{LanguageModel, Spans};
use crate::stages::analysis::LayerVectors;
use crate::stages::analysis::steering::Unit;
use crate::stages::analysis::steering_nulls::{scaled, scales};
use crate::stages::principal::norm;
use crate::stages::statistics::draws::Draws;

/// The effect of one vector at one strength on one half of one split.
pub struct Move {
    pub strength: f64,
    /// An emotion, or `random-1`, ...
    pub steered: String,
    /// From 1.
    pub split: usize,
    /// Which half was steered: 1 or 2.
    pub half: usize,
    /// The rise of the steered half relative to the other, in Elo points.
    pub shift: f64,
    /// The slope of the steered ratings on the unsteered ones, within the halves: below 1, preferences have become
    /// more similar.
    pub slope: f64,
}

/// Ratings of activities under an emotion's vector, averaged over the splits in which they were steered.
pub struct Rated {
    pub strength: f64,
    pub steered: String,
    /// `[activity]`: without steering, from the same pairs; and with it.
    pub ratings: Vec<[f64; 2]>,
}

/// All results of one layer.
pub struct Moved {
    pub moves: Vec<Move>,
    pub rated: Vec<Rated>,
    /// The number of questions asked under some vector.
    pub asked: usize,
}

impl Steered {
    /// The number of passes over all pairs across two halves.
    pub fn rounds(&self, emotions: usize, layers: usize) -> usize {
        let emotions = if self.emotions.is_empty() { emotions } else { self.emotions.len() };
        (emotions + self.random) * self.strength.len() * self.splits * 2 * layers
    }
}

/// A named vector to be added.
struct Added {
    strength: f64,
    name: String,
    is_emotion: bool,
    vector: Vec<f32>,
}

fn added(params: &Steered, layer: &LayerVectors, seed: u64) -> Result<Vec<Added>> {
    let mut all = Vec::new();
    let chosen: Vec<usize> = (0..layer.emotions.len())
        .filter(|&at| params.emotions.is_empty() || params.emotions.contains(&layer.emotions[at]))
        .collect();
    for &strength in &params.strength {
        let scales = scales(Unit::ResidNorm, strength, layer)?;
        for &at in &chosen {
            let vector = scaled(layer.vector(at), scales[at]);
            all.push(Added { strength, name: layer.emotions[at].clone(), is_emotion: true, vector });
        }
        // All vectors are added with the same norm, so that one set of random directions serves for all of them.
        let Some(&first) = chosen.first() else { continue };
        let length = scales[first] * norm(layer.vector(first));
        for number in 1..=params.random {
            let parts = [seed, layer.layer.number() as u64, number as u64];
            let direction = Draws::new("preferences random", &parts).direction(layer.d_model);
            let name = format!("random-{number}");
            all.push(Added { strength, name, is_emotion: false, vector: scaled(&direction, length) });
        }
    }
    Ok(all)
}

/// Steers each half of each split in turn; `unsteered` are the answers to all questions. `told` receives the number of
/// questions asked so far.
pub fn run(
    (params, steer): (&Preferences, &Steered),
    (model, layer, questions): (&LanguageModel, &LayerVectors, &Questions),
    (categories, unsteered, seed): (&[usize], &[Answer], u64),
    told: &mut dyn FnMut(usize),
) -> Result<Moved> {
    let n = categories.len();
    let all = added(steer, layer, seed)?;
    let vectors: Vec<Vec<f32>> = all.iter().map(|added| added.vector.clone()).collect();
    let mut moved = Moved { moves: Vec::new(), rated: Vec::new(), asked: 0 };
    // For each vector and activity: how often it was steered, and the sums of its ratings without and with steering.
    let mut sums = vec![vec![(0usize, [0.0; 2]); n]; all.len()];
    for split in 1..=steer.splits {
        let first = halves(categories, &mut Draws::new("preferences halves", &[seed, split as u64]));
        let asked: Vec<usize> = (0..questions.all.len())
            .filter(|&at| first[questions.all[at].of[0]] != first[questions.all[at].of[1]])
            .collect();
        let before: Vec<Answer> = asked.iter().map(|&at| unsteered[at]).collect();
        let before = bradley_terry(n, &questions.pairs(&asked, &before), params.hard)?;
        for half in [1, 2] {
            let steered: Vec<bool> = first.iter().map(|&first| first == (half == 1)).collect();
            let spans = asked.iter().map(|&at| {
                let question = &questions.all[at];
                let own = question.of.iter().zip(&question.spans).filter(|(of, _)| steered[**of]);
                own.map(|(_, span)| span.clone()).collect()
            });
            let spans = Spans::Each(spans.collect());
            let done = moved.asked;
            let mut progress = |rows: usize, _: usize| told(done + rows);
            let added = (Some(layer.layer), vectors.as_slice(), spans);
            let found = questions.answers(model, &asked, added, &mut progress)?;
            moved.asked += asked.len() * vectors.len();
            for (at, answers) in found.iter().enumerate() {
                let after = bradley_terry(n, &questions.pairs(&asked, answers), params.hard)?;
                let Added { strength, name, .. } = &all[at];
                moved.moves.push(Move {
                    strength: *strength,
                    steered: name.clone(),
                    split,
                    half,
                    shift: POINTS * (gap(&after, &steered) - gap(&before, &steered)),
                    slope: slope(&before, &after, &steered),
                });
                let ratings = elo(&before).into_iter().zip(elo(&after));
                for ((sum, steered), (before, after)) in sums[at].iter_mut().zip(&steered).zip(ratings) {
                    if *steered {
                        *sum = (sum.0 + 1, [sum.1[0] + before, sum.1[1] + after]);
                    }
                }
            }
        }
    }
    for (added, sums) in all.iter().zip(sums).filter(|(added, _)| added.is_emotion) {
        let ratings = sums.into_iter().map(|(count, sums)| sums.map(|sum| sum / count as f64)).collect();
        moved.rated.push(Rated { strength: added.strength, steered: added.name.clone(), ratings });
    }
    Ok(moved)
}

fn mean_of(theta: &[f64], half: &[bool], wanted: bool) -> f64 {
    let own = || theta.iter().zip(half).filter(move |(_, half)| **half == wanted);
    own().map(|(theta, _)| theta).sum::<f64>() / own().count() as f64
}

/// The mean of the steered half minus that of the other.
fn gap(theta: &[f64], steered: &[bool]) -> f64 {
    mean_of(theta, steered, true) - mean_of(theta, steered, false)
}

/// The least-squares slope of `after` on `before`, both minus the means of their halves.
fn slope(before: &[f64], after: &[f64], steered: &[bool]) -> f64 {
    let centred = |theta: &[f64]| -> Vec<f64> {
        let means = [false, true].map(|half| mean_of(theta, steered, half));
        theta.iter().zip(steered).map(|(theta, &half)| theta - means[usize::from(half)]).collect()
    };
    let (x, y) = (centred(before), centred(after));
    let square: f64 = x.iter().map(|x| x * x).sum();
    if square > 0.0 { x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>() / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_and_slope_are_those_of_a_line() {
        let steered = [true, false, true, false];
        let before = [0.3, -0.1, -0.9, 0.7];
        // Compressed to .4, with the steered half raised by 1.2.
        let after: Vec<f64> =
            before.iter().zip(steered).map(|(x, s)| 0.4 * x + if s { 0.6 } else { -0.6 }).collect();
        assert!((slope(&before, &after, &steered) - 0.4).abs() < 1e-12);
        let wanted = 1.2 + 0.4 * gap(&before, &steered);
        assert!((gap(&after, &steered) - wanted).abs() < 1e-12);
    }
}
