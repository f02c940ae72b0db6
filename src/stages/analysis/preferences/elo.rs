//! From choices between pairs to a scale of preference: soft wins, Bradley and Terry's model, Elo. Knows no model.

use anyhow::{Context, Result};
use nalgebra::{DMatrix, DVector};

/// Elo points of a unit of Bradley and Terry's scale, on which a difference of 1 is odds of e: 400 / ln 10.
pub const POINTS: f64 = 173.717_792_761_240_73;

/// Pulls every strength towards 0, as much as one choice in 25 of even odds: without it what always wins would be infinite.
const RIDGE: f64 = 0.01;

/// Newton's steps; eight are enough for 64 activities.
const STEPS: usize = 100;

/// A pair of which both orders were asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    pub a: usize,
    pub b: usize,
    /// The chance that `a` is chosen where it stands first.
    pub first: f64,
    /// The chance that `b` is chosen where that stands first.
    pub second: f64,
}

impl Pair {
    /// How often `a` wins, both orders counting alike; `hard`: always, never or as often as not.
    pub fn wins(&self, hard: bool) -> f64 {
        let soft = (self.first + 1.0 - self.second) / 2.0;
        match hard {
            true if soft > 0.5 => 1.0,
            true if soft < 0.5 => 0.0,
            true => 0.5,
            false => soft,
        }
    }
}

/// The mean over pairs of how much likelier what stands first is chosen: from -1 to 1.
pub fn position_bias(pairs: &[Pair]) -> f64 {
    pairs.iter().map(|pair| pair.first + pair.second - 1.0).sum::<f64>() / pairs.len() as f64
}

/// The strengths of `n` activities by Bradley and Terry (1952) on soft wins: those of the largest likelihood with a small
/// ridge. Their sum is 0.
///
/// # Errors
/// Wins that are not finite.
pub fn bradley_terry(n: usize, pairs: &[Pair], hard: bool) -> Result<Vec<f64>> {
    let mut theta = DVector::<f64>::zeros(n);
    for _ in 0..STEPS {
        let mut slope = -RIDGE * &theta;
        let mut curvature = DMatrix::<f64>::identity(n, n) * RIDGE;
        for pair in pairs {
            let (a, b) = (pair.a, pair.b);
            let p = 1.0 / (1.0 + (theta[b] - theta[a]).exp());
            let surprise = pair.wins(hard) - p;
            slope[a] += surprise;
            slope[b] -= surprise;
            let weight = p * (1.0 - p);
            for (row, column, sign) in [(a, a, 1.0), (b, b, 1.0), (a, b, -1.0), (b, a, -1.0)] {
                curvature[(row, column)] += sign * weight;
            }
        }
        let solved = curvature.cholesky().context("choices that are not finite have no scale")?;
        let step = solved.solve(&slope);
        // A long step from where the likelihood is flat would go too far.
        let longest = step.amax();
        theta += &step * (2.0 / longest.max(2.0));
        if longest < 1e-10 {
            break;
        }
    }
    let theta = theta.add_scalar(-theta.mean());
    Ok(theta.iter().copied().collect())
}

/// Elo ratings around 1500.
pub fn elo(theta: &[f64]) -> Vec<f64> {
    theta.iter().map(|theta| 1500.0 + POINTS * theta).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn all(n: usize, of: impl Fn(usize, usize) -> f64) -> Vec<Pair> {
        let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
        pairs.map(|(a, b)| Pair { a, b, first: of(a, b), second: of(b, a) }).collect()
    }

    /// Choices that follow the model give its strengths back: the closed form is what they were computed from.
    #[test]
    fn strengths_come_back_from_their_own_choices() {
        let theta: Vec<f64> = (0..40).map(|i| 1.5 * (f64::from(i) * 0.7).sin()).collect();
        let mean = theta.iter().sum::<f64>() / 40.0;
        let found = bradley_terry(40, &all(40, |a, b| sigmoid(theta[a] - theta[b])), false).unwrap();
        assert!(found.iter().sum::<f64>().abs() < 1e-9);
        // The ridge is a thousandth of what the choices weigh.
        assert!(found.iter().zip(&theta).all(|(f, t)| (f - (t - mean)).abs() < 5e-3), "{found:?}");
        // What stands first is preferred by all alike: the bias is seen, and to first order out of the strengths.
        let biased = all(40, |a, b| sigmoid(0.2 * (theta[a] - theta[b]) + 0.5));
        assert!((position_bias(&biased) - 0.24).abs() < 0.01, "{}", position_bias(&biased));
        let found = bradley_terry(40, &biased, false).unwrap();
        let ratio = found[1] / (0.2 * (theta[1] - mean));
        assert!((0.9..1.0).contains(&ratio), "{ratio}");
    }

    /// Two activities of which one wins three times in four: odds of 3, that is ln 3 apart, and 400 log10 3 Elo points.
    #[test]
    fn two_activities_are_as_far_apart_as_their_odds() {
        let pairs = [Pair { a: 0, b: 1, first: 0.75, second: 0.25 }; 50];
        let theta = bradley_terry(2, &pairs, false).unwrap();
        assert!((theta[0] - theta[1] - 3f64.ln()).abs() < 2e-3, "{theta:?}");
        let elo = elo(&theta);
        assert!(
            (elo[0] - elo[1] - 400.0 * 3f64.log10()).abs() < 0.3 && (elo[0] + elo[1] - 3000.0).abs() < 1e-9
        );
    }

    #[test]
    fn what_always_wins_is_finite_and_hard_choices_keep_their_order() {
        let pairs = all(12, |a, b| if a < b { 1.0 } else { 0.0 });
        let theta = bradley_terry(12, &pairs, false).unwrap();
        assert!(theta.windows(2).all(|two| two[0] > two[1]) && theta[0] < 100.0, "{theta:?}");
        // A hair's breadth decides as much.
        let close = all(12, |a, b| if a < b { 0.501 } else { 0.499 });
        assert_eq!(bradley_terry(12, &close, true).unwrap(), theta);
        let even = Pair { a: 0, b: 1, first: 0.8, second: 0.8 };
        assert_eq!((even.wins(true), even.wins(false)), (0.5, 0.5));
        assert!(bradley_terry(2, &[Pair { first: f64::NAN, ..even }], false).is_err());
    }
}
