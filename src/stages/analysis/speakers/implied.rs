//! Whether situations that imply an emotion have the same readings along the stories' vectors and along those of the
//! present speaker's emotion. Independent of the tables.

use super::super::tested::Tested;
use super::measure::Draw;
use crate::stages::principal::cosine;
use crate::stages::statistics::correlation::pearson;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{mean, p_value, percentile};

/// The minimum number of situations for an interval.
const FEWEST: usize = 5;

/// R^2 over situations and emotions of the cosines with both sets' vectors (`[emotion, d]`); then the same with each
/// emotion centred over the situations in both sets: emotions differ in their means, which alone produce an R^2. Null:
/// emotions permuted; p is that of r, one-sided. Interval: situations drawn with replacement.
pub fn shared(resids: &[Vec<f64>], stories: &[f64], present: &[f64], d: usize, draw: &Draw) -> [Tested; 2] {
    let cosines = |vectors: &[f64]| -> Vec<Vec<f64>> {
        resids.iter().map(|resid| vectors.chunks_exact(d).map(|v| cosine(resid, v)).collect()).collect()
    };
    let both = [cosines(stories), cosines(present)];
    let (n, emotions) = (resids.len(), stories.len() / d.max(1));
    let r = |rows: &[usize], names: &[usize], centred: bool| {
        let flat = |of: &[Vec<f64>], names: &[usize]| -> Vec<f64> {
            let column = |&e: &usize| {
                let values: Vec<f64> = rows.iter().map(|&row| of[row][e]).collect();
                let middle = if centred { mean(&values) } else { 0.0 };
                values.into_iter().map(move |x| x - middle).collect::<Vec<_>>()
            };
            names.iter().flat_map(column).collect()
        };
        let straight: Vec<usize> = (0..emotions).collect();
        pearson(&flat(&both[0], &straight), &flat(&both[1], names))
    };
    let (rows, names): (Vec<usize>, Vec<usize>) = ((0..n).collect(), (0..emotions).collect());
    [false, true].map(|centred| {
        let value = r(&rows, &names, centred);
        let null = rounds(draw.seed, "speakers situations named", draw.shuffles, |draws: &mut Draws| {
            r(&rows, &draws.shuffled(emotions), centred)
        });
        let resamples = if n < FEWEST { 0 } else { draw.resamples };
        let drawn = rounds(draw.seed, "speakers situations", resamples, |draws| {
            r(&draws.resampled(n), &names, centred).powi(2)
        });
        let null_mean = mean(&null.iter().map(|r| r * r).collect::<Vec<_>>());
        Tested { value: value * value, interval: percentile(&drawn), null_mean, p: p_value(value, &null) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: usize = 24;
    const EMOTIONS: usize = 8;

    fn rows(purpose: &str, seed: u64, n: usize) -> Vec<Vec<f64>> {
        (0..n).map(|at| Draws::new(purpose, &[seed, at as u64]).direction(D)).collect()
    }

    /// For unrelated vectors p is small at its nominal rate; for identical ones R^2 is 1.
    #[test]
    fn noise_is_found_at_the_stated_rate_and_the_same_vectors_share_all() {
        let mut small = [0; 2];
        for seed in 0..200 {
            let resids = rows("situations", seed, 12);
            let [stories, present] = ["stories", "present"].map(|set| rows(set, seed, EMOTIONS).concat());
            let draw = Draw { shuffles: 19, resamples: 2, seed };
            let found = shared(&resids, &stories, &present, D, &draw);
            small.iter_mut().zip(found).for_each(|(n, tested)| *n += usize::from(tested.p <= 0.05));
        }
        // scipy.stats.binom.ppf([.001, .999], 200, .05) is 2 and 21.
        assert!(small.iter().all(|n| (2..=21).contains(n)), "{small:?}");
        let (resids, stories) = (rows("situations", 1, 12), rows("stories", 1, EMOTIONS).concat());
        let draw = Draw { shuffles: 99, resamples: 20, seed: 0 };
        for tested in shared(&resids, &stories, &stories, D, &draw) {
            assert!((tested.value - 1.0).abs() < 1e-12 && tested.p == 0.01 && tested.null_mean < 0.5);
        }
    }
}
