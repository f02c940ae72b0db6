//! Statistics of small samples in float64: percentiles, empirical p-values, rank correlation, matches. Independent of
//! what was measured. The formulas are in `docs/methods.md`.

use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval;

/// The mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The middle 95 %, see [`interval::quantiles`]; for a single value, the value itself. `None` for no values.
pub fn middle(values: &[f64]) -> Option<(f64, f64)> {
    match values {
        [value] => Some((*value, *value)),
        _ => interval::quantiles(values).map(|[low, high]| (low, high)),
    }
}

/// The middle 95 %, shifted so that the mean of the values is `estimate`, which then lies between both ends.
pub fn around(estimate: f64, values: &[f64]) -> Option<(f64, f64)> {
    let shift = estimate - mean(values)?;
    middle(values).map(|(low, high)| (low + shift, high + shift))
}

/// The smallest number of values whose middle 95 % is narrower than their range: each end excludes one in forty.
pub const ENOUGH: usize = 40;

/// The band of a null: the middle 95 % of at least [`ENOUGH`] values, otherwise their range. `None` for no values.
pub fn band(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() >= ENOUGH {
        return middle(values);
    }
    values.iter().copied().reduce(f64::min).zip(values.iter().copied().reduce(f64::max))
}

/// A description of [`band`] for `n` values.
pub fn band_is(n: usize) -> &'static str {
    if n >= ENOUGH { "2.5th to 97.5th percentile" } else { "range" }
}

/// The probability of a value at least this large under the null, see [`interval::p_value`]. `None` for an empty null.
pub fn p_at_least(value: f64, null: &[f64]) -> Option<f64> {
    (!null.is_empty()).then(|| interval::p_value(value, null))
}

/// The largest number of places for which matches are counted exactly: the terms of the sum alternate and grow like
/// `C(n, n / 2)`, which at this size leaves nine correct digits.
const EXACT: usize = 24;

/// The number of random assignments of labels beyond that.
const DEALS: usize = 9_999;

/// The number of random assignments that [`p_hits`] uses for this number of places; 0: it is exact.
pub fn deals(places: usize) -> usize {
    if places > EXACT { DEALS } else { 0 }
}

/// The probability of at least as many places with `chosen[place] == labels[place]` when the labels are assigned to
/// the places at random, without replacement. Exact up to [`EXACT`] places; beyond that, the share of [`DEALS`] random
/// assignments, always the same ones, with the true one counted in.
pub fn p_hits(chosen: &[usize], labels: &[usize]) -> f64 {
    let hits = |labels: &[usize]| chosen.iter().zip(labels).filter(|(a, b)| a == b).count();
    let found = hits(labels);
    if labels.len() > EXACT {
        let (mut draws, mut dealt) = (Draws::new("labels dealt", &[]), labels.to_vec());
        let mut deal = |_| {
            draws.shuffle(&mut dealt);
            hits(&dealt) as f64
        };
        let null: Vec<f64> = (0..DEALS).map(&mut deal).collect();
        return p_at_least(found as f64, &null).unwrap_or(1.0);
    }
    let mut different = labels.to_vec();
    different.sort_unstable();
    different.dedup();
    let count = |of: &[usize], label| of.iter().filter(|&&x| x == label).count();
    let pairs: Vec<_> = different.iter().map(|&l| (count(chosen, l), count(labels, l))).collect();
    p_matches(found, labels.len(), &pairs)
}

/// The probability of at least `hits` matches when labels are assigned to places at random, without replacement.
///
/// `pairs`: for each label, how many places chose it and how often it is assigned; places that chose a label which is
/// never assigned are not included. `n`: the number of places, and of labels assigned. Exact: labels on chosen places
/// are rooks on a board of rectangles, so that the k-th factorial moment of the matches is `k! r_k (n - k)! / n!` with
/// the rook numbers `r_k`, and inclusion-exclusion gives the distribution (Riordan, An Introduction to Combinatorial
/// Analysis, 1958, chapter 7).
fn p_matches(hits: usize, n: usize, pairs: &[(usize, usize)]) -> f64 {
    // moments[k] = r_k (n - k)! / n!: the expected number of ways to choose k of the matches.
    let mut rooks = vec![1.0];
    for &(places, labels) in pairs {
        let rectangle = rectangle(places, labels);
        let mut product = vec![0.0; rooks.len() + rectangle.len() - 1];
        for (i, a) in rooks.iter().enumerate() {
            rectangle.iter().enumerate().for_each(|(j, b)| product[i + j] += a * b);
        }
        rooks = product;
    }
    let mut falling = 1.0;
    let moments: Vec<f64> = rooks
        .iter()
        .take(n + 1)
        .enumerate()
        .map(|(k, rooks)| {
            falling *= if k == 0 { 1.0 } else { (n + 1 - k) as f64 };
            rooks / falling
        })
        .collect();
    // P(exactly j) = sum over k >= j of (-1)^(k-j) C(k, j) moments[k].
    let exactly = |j: usize| -> f64 {
        let term = |(k, moment): (usize, &f64)| {
            let sign = if (k - j).is_multiple_of(2) { 1.0 } else { -1.0 };
            sign * choose(k, j) * moment
        };
        moments.iter().enumerate().skip(j).map(term).sum()
    };
    (hits..moments.len()).map(exactly).sum::<f64>().clamp(0.0, 1.0)
}

/// The rook numbers of a board of `a` times `b`: `C(a, k) C(b, k) k!`.
fn rectangle(a: usize, b: usize) -> Vec<f64> {
    let mut rooks = vec![1.0];
    for k in 0..a.min(b) {
        rooks.push(rooks[k] * ((a - k) * (b - k)) as f64 / (k + 1) as f64);
    }
    rooks
}

fn choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_are_numpy_s() {
        assert_eq!(band(&[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]), Some((1.0, 9.0)));
        // np.quantile(np.arange(40), [.025, .975])
        let (low, high) = band(&(0..40).map(f64::from).collect::<Vec<_>>()).unwrap();
        assert!((low - 0.975).abs() < 1e-12 && (high - 38.025).abs() < 1e-12, "{low} {high}");
        assert_eq!((middle(&[7.0]), middle(&[])), (Some((7.0, 7.0)), None));
    }

    #[test]
    fn p_counts_the_value_itself() {
        assert_eq!(p_at_least(2.0, &[1.0, 2.0, 3.0]), Some(0.75));
        assert_eq!(p_at_least(9.0, &[0.0; 19]), Some(0.05));
        assert_eq!(p_at_least(9.0, &[]), None);
    }

    #[test]
    fn p_of_noise_is_below_a_twentieth_one_time_in_twenty() {
        // Value and null from one distribution, 200 seeds: at most 18 of them below .05 with probability .994
        // (scipy.stats.binom.cdf(18, 200, .05)), at least 3 with .998.
        let significant = (0..200).filter(|&seed| {
            let mut draws = Draws::new("noise", &[seed]);
            let values: Vec<f64> = (0..20).map(|_| draws.below(1 << 40) as f64).collect();
            p_at_least(values[0], &values[1..]).unwrap() <= 0.05
        });
        let n = significant.count();
        assert!((3..=18).contains(&n), "{n} of 200");
    }

    /// The same by enumerating all orders of the labels.
    fn tried(hits: usize, chosen: &[usize], labels: &[usize]) -> f64 {
        fn orders(rest: &mut Vec<usize>, chosen: &[usize], found: usize, counts: &mut Vec<f64>) {
            let Some((first, others)) = chosen.split_first() else {
                counts[found] += 1.0;
                return;
            };
            for at in 0..rest.len() {
                let label = rest.swap_remove(at);
                orders(rest, others, found + usize::from(label == *first), counts);
                rest.push(label);
                let last = rest.len() - 1;
                rest.swap(at, last);
            }
        }
        let mut counts = vec![0.0; labels.len() + 1];
        orders(&mut labels.to_vec(), chosen, 0, &mut counts);
        counts[hits..].iter().sum::<f64>() / counts.iter().sum::<f64>()
    }

    #[test]
    fn matches_agree_with_every_order_of_the_labels() {
        let check = |chosen: &[usize], labels: &[usize]| {
            let count = |of: &[usize], label| of.iter().filter(|&&x| x == label).count();
            let mut different = labels.to_vec();
            different.sort_unstable();
            different.dedup();
            let pairs: Vec<_> = different.iter().map(|&l| (count(chosen, l), count(labels, l))).collect();
            for hits in 0..=labels.len() {
                let (got, want) = (p_matches(hits, labels.len(), &pairs), tried(hits, chosen, labels));
                assert!((got - want).abs() < 1e-12, "{chosen:?} {labels:?} {hits}: {got} is not {want}");
            }
        };
        check(&[0, 1, 2, 3, 4, 5], &[0, 1, 2, 3, 4, 5]);
        check(&[0, 0, 0, 3, 4, 3], &[0, 1, 2, 3, 4, 5]);
        check(&[0, 0, 1, 1, 9, 2, 0], &[0, 0, 0, 1, 1, 2, 2]);
        check(&[7, 7], &[0, 1]);
    }

    #[test]
    fn hits_of_two_labels_are_hypergeometric() {
        // Half of n places chose each label: there are as many hits with one label as with the other.
        let p = |n: usize, hits: usize| {
            let chosen: Vec<usize> = (0..n).map(|at| usize::from(at < n / 2)).collect();
            // Labels with hits / 2 correct ones of each kind.
            let labels: Vec<usize> =
                (0..n).map(|at| if at % (n / 2) < hits / 2 { chosen[at] } else { 1 - chosen[at] }).collect();
            p_hits(&chosen, &labels)
        };
        // scipy.stats.hypergeom.sf(7, 24, 12, 12) and sf(29, 100, 50, 50)
        assert!((p(24, 16) - 0.11017337757141228).abs() < 1e-8, "{}", p(24, 16));
        let many: f64 = 0.03567120174410515;
        let error = 3.0 * (many * (1.0 - many) / 9_999.0).sqrt();
        assert!((p(100, 60) - many).abs() < error, "{} is not {many}", p(100, 60));
    }

    #[test]
    fn matches_of_one_label_each_are_derangements() {
        // P(no match) of n distinct labels is the sum of (-1)^k / k!; at 12 that is 1/e to ten digits.
        let none = 1.0 - p_matches(1, 12, &[(1, 1); 12]);
        assert!((none - (-1f64).exp()).abs() < 1e-9, "{none}");
        assert_eq!(p_matches(0, 12, &[(1, 1); 12]), 1.0);
        // All twelve correct: one order of 12!.
        assert!((p_matches(12, 12, &[(1, 1); 12]) * 479_001_600.0 - 1.0).abs() < 1e-6);
    }
}
