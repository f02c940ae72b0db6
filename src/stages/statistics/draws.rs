//! Random numbers that are the same on every machine and in every thread: a separate stream for each purpose and
//! number. Independent of what is drawn.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::stages::principal::norm;

/// One stream of random numbers: SplitMix64 (Steele, Lea and Flood 2014), with an initial state derived by SHA-256
/// from the purpose and the numbers.
pub struct Draws(u64);

impl Draws {
    /// The stream for `purpose` and `parts`: the seed, the number of the resample, ...
    pub fn new(purpose: &str, parts: &[u64]) -> Draws {
        let mut hasher = Sha256::new_with_prefix(purpose);
        parts.iter().for_each(|part| hasher.update(part.to_le_bytes()));
        let digest = hasher.finalize();
        Draws(u64::from_le_bytes(digest[..8].try_into().expect("eight bytes")))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1. Its bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `n` indices from `0..n`, drawn with replacement.
    pub fn resampled(&mut self, n: usize) -> Vec<usize> {
        (0..n).map(|_| self.below(n)).collect()
    }

    /// `0..n` in random order.
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }

    /// `[d]`: a Gaussian direction of unit norm.
    pub fn direction(&mut self, d: usize) -> Vec<f64> {
        let values: Vec<f64> = (0..d).map(|_| self.normal()).collect();
        let length = norm(&values);
        values.iter().map(|x| x / length).collect()
    }

    /// A standard normal number (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let (radius, angle) = (uniform(self.bits()), uniform(self.bits()));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// Calls `draw` for each of `rounds` rounds with the stream of `purpose`, `seed` and the round's number. Runs on all
/// cores; the results do not depend on their number.
pub fn rounds<T: Send>(
    seed: u64,
    purpose: &str,
    rounds: usize,
    draw: impl Fn(&mut Draws) -> T + Sync,
) -> Vec<T> {
    let one = |round| draw(&mut Draws::new(purpose, &[seed, round as u64]));
    (0..rounds).into_par_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_their_own_and_repeat() {
        let first = |purpose: &str, parts: &[u64]| Draws::new(purpose, parts).bits();
        assert_eq!(first("a", &[1, 2]), first("a", &[1, 2]));
        let all = [first("a", &[1, 2]), first("a", &[2, 1]), first("b", &[1, 2]), first("a", &[1])];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn numbers_and_orders_are_uniform() {
        let mut draws = Draws::new("test", &[]);
        let mut counts = [0usize; 5];
        (0..50_000).for_each(|_| counts[draws.below(5)] += 1);
        // 10,000 each, with a standard deviation of 89.
        assert!(counts.iter().all(|n| n.abs_diff(10_000) < 450), "{counts:?}");
        // The six orders of three, 10,000 each, with a standard deviation of 91.
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            let mut items = [0, 1, 2];
            draws.shuffle(&mut items);
            *orders.entry(items).or_insert(0usize) += 1;
        }
        assert!(orders.len() == 6 && orders.values().all(|n| n.abs_diff(10_000) < 460), "{orders:?}");
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..50_000 {
            let x = draws.normal();
            sum += x;
            squares += x * x;
        }
        assert!((sum / 5e4).abs() < 0.023 && (squares / 5e4 - 1.0).abs() < 0.032, "{sum} {squares}");
    }

    #[test]
    fn directions_are_unit_gaussian_and_repeatable() {
        let direction = |parts: &[u64], d| Draws::new("test", parts).direction(d);
        let d = 4096;
        let a = direction(&[7, 3, 1], d);
        assert_eq!(a, direction(&[7, 3, 1], d));
        assert!((norm(&a) - 1.0).abs() < 1e-12);
        // Entries of a unit Gaussian direction have variance 1/d and kurtosis 3.
        let scaled: Vec<f64> = a.iter().map(|x| x * (d as f64).sqrt()).collect();
        let mean = scaled.iter().sum::<f64>() / d as f64;
        let kurtosis = scaled.iter().map(|x| x.powi(4)).sum::<f64>() / d as f64;
        assert!(mean.abs() < 0.06 && (kurtosis - 3.0).abs() < 0.4, "{mean} {kurtosis}");
        for other in [direction(&[8, 3, 1], d), direction(&[7, 4, 1], d), direction(&[7, 3, 2], d)] {
            let cosine: f64 = a.iter().zip(&other).map(|(a, b)| a * b).sum();
            assert!(cosine.abs() < 0.07, "{cosine}");
        }
        assert_eq!(direction(&[7, 3, 1], 5).len(), 5);
    }

    #[test]
    fn every_order_is_as_likely_as_any_other() {
        let mut counts = std::collections::HashMap::new();
        for order in rounds(3, "test", 6000, |draws| draws.shuffled(3)) {
            *counts.entry(order).or_insert(0) += 1;
        }
        // Each 1000 on average, with a standard deviation of 29.
        assert!(counts.len() == 6 && counts.values().all(|n: &i32| (n - 1000).abs() < 130), "{counts:?}");
        let drawn = rounds(3, "test", 2, |draws| draws.resampled(50));
        assert!(drawn[0] != drawn[1] && drawn[0].iter().all(|&at| at < 50));
        assert_eq!(drawn, rounds(3, "test", 2, |draws| draws.resampled(50)));
        assert_ne!(drawn, rounds(4, "test", 2, |draws| draws.resampled(50)));
    }
}
