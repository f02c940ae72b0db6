//! Correlations and their closed forms. Independent of what is correlated.

use super::Interval;

/// Pearson's correlation; `None` where one side is constant.
pub fn of(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xy, mut xx, mut yy, mut squares) = (0.0, 0.0, 0.0, [0.0; 2]);
    for (&x, &y) in x.iter().zip(y) {
        let (dx, dy) = (x - mx, y - my);
        (xy, xx, yy) = (xy + dx * dy, xx + dx * dx, yy + dy * dy);
        squares = [squares[0] + x * x, squares[1] + y * y];
    }
    // Differences from rounding alone count as constant.
    let varies = xx > 1e-18 * squares[0] && yy > 1e-18 * squares[1];
    varies.then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// Pearson's correlation; 0 where one side is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    of(x, y).unwrap_or(0.0)
}

/// The residuals of a least-squares regression of `values` on `controls` with an intercept. A control that is
/// linearly dependent on the earlier ones is skipped.
pub fn residuals(values: &[f64], controls: &[Vec<f64>]) -> Vec<f64> {
    let centred = |of: &[f64]| {
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        of.iter().map(|x| x - mean).collect::<Vec<f64>>()
    };
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let take_out = |of: &mut [f64], basis: &[Vec<f64>]| {
        // Twice, so that the residual is orthogonal to the basis despite rounding.
        for axis in basis.iter().chain(basis) {
            let along: f64 = axis.iter().zip(of.iter()).map(|(a, x)| a * x).sum();
            of.iter_mut().zip(axis).for_each(|(x, a)| *x -= along * a);
        }
    };
    let length = |of: &[f64]| of.iter().map(|x| x * x).sum::<f64>().sqrt();
    for control in controls {
        let mut axis = centred(control);
        let before = length(&axis);
        take_out(&mut axis, &basis);
        let left = length(&axis);
        if left > 1e-9 * before {
            axis.iter_mut().for_each(|x| *x /= left);
            basis.push(axis);
        }
    }
    let mut left = centred(values);
    let before = length(&left);
    take_out(&mut left, &basis);
    if length(&left) <= 1e-9 * before {
        left.iter_mut().for_each(|x| *x = 0.0);
    }
    left
}

/// The partial correlation: Pearson's correlation of the residuals of both sides after regression on `controls`.
/// `None` where one side has no residual variance.
pub fn partial(x: &[f64], y: &[f64], controls: &[Vec<f64>]) -> Option<f64> {
    of(&residuals(x, controls), &residuals(y, controls))
}

/// Spearman's correlation: Pearson's of the ranks, ties at their mean rank. `None` where one side is constant.
pub fn of_ranks(x: &[f64], y: &[f64]) -> Option<f64> {
    of(&ranks(x), &ranks(y))
}

/// Spearman's correlation; 0 where one side is constant.
pub fn spearman(x: &[f64], y: &[f64]) -> f64 {
    of_ranks(x, y).unwrap_or(0.0)
}

/// Ranks from 1, ties at their mean rank.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut done = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = done as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&at| ranks[at] = rank);
        done += tied.len();
    }
    ranks
}

/// The 95 % confidence interval of a correlation of `n` pairs of normally distributed numbers:
/// `tanh(atanh(r) +- 1.96 / sqrt(n - 3))` (Fisher 1921). `None` for fewer than four pairs.
pub fn fisher(r: f64, n: usize) -> Option<Interval> {
    /// Number of standard errors around the mean that contain 95 % of a normal distribution.
    const NINETY_FIVE: f64 = 1.959963984540054;
    let reach = NINETY_FIVE / (n.checked_sub(3).filter(|&n| n > 0)? as f64).sqrt();
    let z = r.clamp(-1.0 + 1e-15, 1.0 - 1e-15).atanh();
    Some(Interval { low: (z - reach).tanh(), high: (z + reach).tanh() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 8] = [1.0, 2.5, 2.5, 4.0, 6.0, 3.0, -1.0, 0.0];
    const Y: [f64; 8] = [2.0, 1.0, 3.0, 5.0, 4.0, 4.0, 0.5, 1.5];

    #[test]
    fn correlations_are_those_of_scipy() {
        // scipy.stats.pearsonr(X, Y), its .confidence_interval(), scipy.stats.spearmanr(X, Y), scipy.stats.rankdata(X)
        assert!((pearson(&X, &Y) - PEARSON).abs() < 1e-12, "{}", pearson(&X, &Y));
        assert!((spearman(&X, &Y) - SPEARMAN).abs() < 1e-12, "{}", spearman(&X, &Y));
        let got = fisher(pearson(&X, &Y), 8).unwrap();
        assert!((got.low - LOW).abs() < 1e-9 && (got.high - HIGH).abs() < 1e-9, "{got:?}");
        assert_eq!(ranks(&X), [3.0, 4.5, 4.5, 7.0, 8.0, 6.0, 1.0, 2.0]);
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
        assert_eq!(fisher(0.5, 3), None);
    }

    #[test]
    fn partial_correlations_are_those_of_least_squares() {
        // np.corrcoef of v - A @ np.linalg.lstsq(A, v)[0] for both, with A = [1, LENGTH] and [1, LENGTH, OTHER]
        const LENGTH: [f64; 8] = [3.0, 5.0, 4.0, 8.0, 7.0, 3.0, 2.0, 6.0];
        const OTHER: [f64; 8] = [1.0, 0.0, 2.0, 1.0, 5.0, 3.0, 2.0, 2.0];
        let of = |controls: &[&[f64]]| {
            partial(&X, &Y, &controls.iter().map(|c| c.to_vec()).collect::<Vec<_>>()).unwrap()
        };
        assert!((of(&[]) - PEARSON).abs() < 1e-12);
        assert!((of(&[&LENGTH]) - 0.696302192391167).abs() < 1e-12, "{}", of(&[&LENGTH]));
        assert!((of(&[&LENGTH, &OTHER]) - 0.6242153026822151).abs() < 1e-12);
        // A repeated control and a constant one change nothing.
        assert!((of(&[&LENGTH, &[7.0; 8], &LENGTH]) - of(&[&LENGTH])).abs() < 1e-12);
        assert_eq!(partial(&X, &Y, &[X.to_vec()]), None);
    }

    const PEARSON: f64 = 0.7985044329532957;
    const SPEARMAN: f64 = 0.8554216867469879;
    const LOW: f64 = 0.2145624733649886;
    const HIGH: f64 = 0.9619199541678302;
}
