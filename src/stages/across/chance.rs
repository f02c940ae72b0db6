//! Seeded shuffles and resamples, ranks, correlations, and what a p-value and an interval are. Knows nothing of what
//! the numbers mean.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// Random numbers that follow from a seed and a purpose: SplitMix64 (Steele, Lea and Flood 2014), begun at the SHA-256
/// of both, so that draws for different purposes have nothing to do with each other.
pub struct Dice(u64);

impl Dice {
    /// The numbers of `seed` for `purpose`, from the `round`-th beginning.
    pub fn new(seed: u64, purpose: &str, round: usize) -> Dice {
        let digest = Sha256::new_with_prefix(purpose)
            .chain_update(seed.to_le_bytes())
            .chain_update((round as u64).to_le_bytes())
            .finalize();
        Dice(u64::from_le_bytes(digest[..8].try_into().expect("eight bytes")))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..bound`, by the high bits of a product (Lemire 2019), whose bias below 2^-32 nobody sees.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `0..n` in random order (Fisher and Yates).
    pub fn shuffled(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }

    /// `n` of `0..n`, drawn with replacement.
    pub fn resampled(&mut self, n: usize) -> Vec<usize> {
        (0..n).map(|_| self.below(n)).collect()
    }
}

/// `draw` of each of `rounds` rounds, on all cores; the same on any number of them.
pub fn rounds<T: Send>(
    seed: u64,
    purpose: &str,
    rounds: usize,
    draw: impl Fn(&mut Dice) -> T + Sync,
) -> Vec<T> {
    let one = |round| draw(&mut Dice::new(seed, purpose, round));
    (0..rounds).into_par_iter().map(one).collect()
}

/// The p-value of a permutation test of which `as_extreme` of `drawn` permutations gave as much as was found:
/// `(1 + as_extreme) / (1 + drawn)`, which is never 0 (Phipson and Smyth 2010).
pub fn p_value(as_extreme: usize, drawn: usize) -> f64 {
    (1 + as_extreme) as f64 / (1 + drawn) as f64
}

/// How many of `null` are at least `found`, rounding apart.
pub fn at_least(null: &[f64], found: f64) -> usize {
    null.iter().filter(|&&value| value >= found - 1e-12 * found.abs().max(1.0)).count()
}

/// The 2.5 and the 97.5 percentile, by linear interpolation between order statistics as in `numpy.percentile`, of the
/// finite values; `all` where there is none.
pub fn interval(values: &[f64], all: (f64, f64)) -> (f64, f64) {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return all };
    let at = |share: f64| {
        let place = share * last as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        sorted[below] + part * (sorted[(below + 1).min(last)] - sorted[below])
    };
    (at(0.025), at(0.975))
}

/// Ranks from 1, equal values at the mean of theirs, as `scipy.stats.rankdata`.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let equal = order[from..].iter().take_while(|&&at| values[at] == values[order[from]]).count();
        let mean = from as f64 + (equal + 1) as f64 / 2.0;
        order[from..from + equal].iter().for_each(|&at| ranks[at] = mean);
        from += equal;
    }
    ranks
}

/// Pearson's correlation; NaN where a side does not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mx, y - my);
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    if xx > 0.0 && yy > 0.0 { (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0) } else { f64::NAN }
}

/// Spearman's rank correlation, as `scipy.stats.spearmanr`; NaN where a side does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    pearson(&ranks(x), &ranks(y))
}

/// Up to so many values all orders are tried: 8! is 40,320.
const ALL_ORDERS: usize = 8;

/// The two-sided p-value of [`spearman`] under random pairing: over all orders of up to eight values, over `drawn` random
/// ones else. `None` where it is not defined. With `n` values and no ties it cannot be below `2 / n!`.
pub fn spearman_p(x: &[f64], y: &[f64], drawn: usize, seed: u64) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    let found = pearson(&x, &y);
    if !found.is_finite() {
        return None;
    }
    let of = |order: &[usize]| pearson(&x, &order.iter().map(|&at| y[at]).collect::<Vec<_>>()).abs();
    let n = x.len();
    if n > ALL_ORDERS {
        let null = rounds(seed, "rank correlation", drawn, |dice| of(&dice.shuffled(n)));
        return Some(p_value(at_least(&null, found.abs()), drawn));
    }
    let null: Vec<f64> = orders(n).iter().map(|order| of(order)).collect();
    Some(at_least(&null, found.abs()) as f64 / null.len() as f64)
}

/// All orders of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for next in 0..n {
        let longer = |order: &Vec<usize>| {
            (0..=order.len()).map(|at| [&order[..at], &[next], &order[at..]].concat()).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_correlations_are_those_of_scipy() {
        // scipy.stats.rankdata, spearmanr and pearsonr of x and y, scipy 1.17
        let x = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
        let y = [2.0, 7.0, 1.0, 8.0, 2.0, 8.0, 1.0, 8.0];
        assert_eq!(ranks(&x), [4.0, 1.5, 5.0, 1.5, 6.0, 8.0, 3.0, 7.0]);
        assert_eq!(ranks(&y), [3.5, 5.0, 1.5, 7.0, 3.5, 7.0, 1.5, 7.0]);
        assert!((spearman(&x, &y) - SPEARMAN).abs() < 1e-14, "{}", spearman(&x, &y));
        assert!((pearson(&x, &y) - PEARSON).abs() < 1e-14, "{}", pearson(&x, &y));
        assert!(spearman(&x, &[1.0; 8]).is_nan());
    }

    const SPEARMAN: f64 = 0.198_853_681_209_924_67;
    const PEARSON: f64 = 0.209_655_319_073_012_1;

    #[test]
    fn intervals_are_those_of_numpy() {
        // numpy.percentile([1, 2, 4, 8, 16], [2.5, 97.5])
        let (low, high) = interval(&[8.0, 1.0, f64::NAN, 4.0, 16.0, 2.0], (0.0, 0.0));
        assert!((low - 1.1).abs() < 1e-12 && (high - 15.2).abs() < 1e-12, "{low} {high}");
        assert_eq!(interval(&[f64::NAN], (-1.0, 1.0)), (-1.0, 1.0));
    }

    #[test]
    fn p_values_by_hand() {
        assert_eq!((p_value(0, 999), p_value(999, 999)), (0.001, 1.0));
        // Of the 24 orders of four values only the rising and the falling one correlate fully.
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 25.0, 90.0]);
        assert_eq!(spearman_p(&x, &y, 0, 0), Some(2.0 / 24.0));
        assert_eq!(spearman_p(&x, &[1.0; 4], 0, 0), None);
        assert_eq!(orders(5).into_iter().collect::<std::collections::HashSet<_>>().len(), 120);
        let long: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(spearman_p(&long, &long, 499, 1), Some(0.002));
    }

    #[test]
    fn every_order_is_as_likely_as_any_other() {
        let mut counts = std::collections::HashMap::new();
        for order in rounds(3, "test", 6000, |dice| dice.shuffled(3)) {
            *counts.entry(order).or_insert(0) += 1;
        }
        // Each 1000 in the mean, with a standard deviation of 29.
        assert!(counts.len() == 6 && counts.values().all(|n: &i32| (n - 1000).abs() < 130), "{counts:?}");
        let drawn = rounds(3, "test", 2, |dice| dice.resampled(50));
        assert!(drawn[0] != drawn[1] && drawn[0].iter().all(|&at| at < 50));
        assert_eq!(drawn, rounds(3, "test", 2, |dice| dice.resampled(50)));
        assert_ne!(drawn, rounds(4, "test", 2, |dice| dice.resampled(50)));
    }
}
