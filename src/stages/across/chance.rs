//! Rank correlations with permutation p-values, and bootstrap intervals where some resamples are undefined.
//! Independent of what the numbers mean.

use crate::stages::statistics::Interval;
use crate::stages::statistics::correlation::{self, ranks};
use crate::stages::statistics::design::FEWEST;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{as_large, p_value, percentile};

/// The central 95 % of the finite values, see [`percentile`]; `all` where fewer than two are finite. `None` where
/// resamples were drawn from fewer than [`FEWEST`] groups.
pub fn interval(values: &[f64], all: (f64, f64), groups: usize) -> Option<Interval> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let all = Interval { low: all.0, high: all.1 };
    (groups >= FEWEST).then(|| percentile(&finite).unwrap_or(all))
}

/// Pearson's correlation; NaN where a side is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    correlation::of(x, y).unwrap_or(f64::NAN)
}

/// Spearman's rank correlation; NaN where a side is constant.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    correlation::of_ranks(x, y).unwrap_or(f64::NAN)
}

/// Up to this many values all orders are enumerated: 8! is 40,320.
const ALL_ORDERS: usize = 8;

/// The two-sided p-value of [`spearman`] under random pairing: over all orders of up to eight values, otherwise over
/// `drawn` random orders. `None` where the correlation is undefined. With `n` values and no ties it cannot be below
/// `2 / n!`.
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
        return Some(p_value(found.abs(), &null));
    }
    let null: Vec<f64> = orders(n).iter().map(|order| of(order)).collect();
    // The observed order is one of them.
    Some(as_large(found.abs(), &null) as f64 / null.len() as f64)
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
        let values = [8.0, 1.0, f64::NAN, 4.0, 16.0, 2.0];
        let Interval { low, high } = interval(&values, (0.0, 0.0), 5).unwrap();
        assert!((low - 1.1).abs() < 1e-12 && (high - 15.2).abs() < 1e-12, "{low} {high}");
        assert_eq!(interval(&[f64::NAN], (-1.0, 1.0), 5), Some(Interval { low: -1.0, high: 1.0 }));
        assert_eq!(interval(&values, (0.0, 0.0), 4), None);
    }

    #[test]
    fn p_values_over_all_orders_by_hand() {
        // Of the 24 orders of four values, only the ascending and the descending one have a correlation of 1 or -1.
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 25.0, 90.0]);
        assert_eq!(spearman_p(&x, &y, 0, 0), Some(2.0 / 24.0));
        assert_eq!(spearman_p(&x, &[1.0; 4], 0, 0), None);
        assert_eq!(orders(5).into_iter().collect::<std::collections::HashSet<_>>().len(), 120);
        let long: Vec<f64> = (0..12).map(f64::from).collect();
        assert_eq!(spearman_p(&long, &long, 499, 1), Some(0.002));
    }
}
