//! Random numbers for nulls and resamples: the same on every machine. Knows nothing of what is drawn for.

use sha2::{Digest, Sha256};

use crate::stages::principal::norm;

/// A stream of random numbers: SHA-256 in counter mode over what it is for and a few numbers, each digest four words.
pub struct Draws {
    what: &'static str,
    parts: Vec<u64>,
    counter: u64,
    /// Of the last digest, those not yet given, the first at the end.
    words: Vec<u64>,
}

impl Draws {
    /// The stream of `what` and `parts`, from its beginning.
    pub fn new(what: &'static str, parts: &[u64]) -> Draws {
        Draws { what, parts: parts.to_vec(), counter: 0, words: Vec::new() }
    }

    /// Any 64 bits.
    fn word(&mut self) -> u64 {
        if self.words.is_empty() {
            let mut hasher = Sha256::new_with_prefix(self.what);
            for part in self.parts.iter().chain([&self.counter]) {
                hasher.update(part.to_le_bytes());
            }
            self.counter += 1;
            let digest = hasher.finalize();
            let words = digest.chunks_exact(8).rev();
            self.words.extend(words.map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes"))));
        }
        self.words.pop().expect("a digest has four words")
    }

    /// 53 bits make a float64 in (0, 1), never 0.
    fn uniform(&mut self) -> f64 {
        ((self.word() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// A whole number below `bound`: the upper half of `word * bound`, whose bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` into an order of which each is as likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `[d]`: a Gaussian direction of unit norm; pairs of normal numbers by Box and Muller's formula.
    pub fn direction(&mut self, d: usize) -> Vec<f64> {
        let mut values = Vec::with_capacity(d + 1);
        while values.len() < d {
            let (radius, angle) =
                ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        values.truncate(d);
        let length = norm(&values);
        values.iter().map(|x| x / length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_stream_is_sha_256_in_counter_mode() {
        // python3 -c "import hashlib, struct; d = hashlib.sha256(b'test' + struct.pack('<2Q', 5, 0)).digest();
        // print(struct.unpack('<4Q', d)); d = hashlib.sha256(b'test' + struct.pack('<2Q', 5, 1)).digest();
        // print(struct.unpack('<4Q', d)[0])"
        let mut draws = Draws::new("test", &[5]);
        let words: Vec<u64> = (0..5).map(|_| draws.word()).collect();
        assert_eq!(
            words,
            [
                18045071523566019458,
                10263508180302617648,
                9428664769020771450,
                6802093287107487771,
                7363786827095274016
            ]
        );
    }

    #[test]
    fn every_order_is_as_likely() {
        // 6 orders of three in 6,000 draws: the chi-square statistic has 5 degrees of freedom, and
        // scipy.stats.chi2.ppf(0.999, 5) is 20.5.
        let mut counts = std::collections::BTreeMap::new();
        let mut draws = Draws::new("test", &[1]);
        for _ in 0..6000 {
            let mut items = [0, 1, 2];
            draws.shuffle(&mut items);
            *counts.entry(items).or_insert(0.0) += 1.0;
        }
        let statistic: f64 = counts.values().map(|n: &f64| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(counts.len() == 6 && statistic < 20.5, "{counts:?}");
    }
}
