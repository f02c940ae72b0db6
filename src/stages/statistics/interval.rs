//! Intervals from resamples, p-values from permutations. Independent of what was measured.

/// The bounds of a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// The quantiles at the bounds of a 95 % interval.
const TAILS: [f64; 2] = [0.025, 0.975];

/// The scale on which resamples are compared with the estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Untransformed.
    Plain,
    /// For values between -1 and 1: Fisher's z, `atanh`.
    Correlation,
    /// For values between 0 and 1: the logit.
    Share,
}

impl Scale {
    /// Values are kept this far from the ends of the scale, where the transform is infinite.
    const EDGE: f64 = 1e-12;

    fn onto(self, x: f64) -> f64 {
        match self {
            Scale::Plain => x,
            Scale::Correlation => x.clamp(-1.0 + Self::EDGE, 1.0 - Self::EDGE).atanh(),
            Scale::Share => {
                let x = x.clamp(Self::EDGE, 1.0 - Self::EDGE);
                (x / (1.0 - x)).ln()
            }
        }
    }

    fn back(self, x: f64) -> f64 {
        match self {
            Scale::Plain => x,
            Scale::Correlation => x.tanh(),
            Scale::Share => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

/// The percentile interval: the 2.5th and 97.5th percentile of the resamples (Efron and Tibshirani 1993, section
/// 13.3). `None` for fewer than two resamples.
pub fn percentile(resamples: &[f64]) -> Option<Interval> {
    let [low, high] = quantiles(resamples)?;
    Some(Interval { low, high })
}

/// The basic interval on `scale`: the percentiles reflected about the estimate, `2 f(x) - f(q)` (Davison and Hinkley
/// 1997, section 5.2.1). Where resampling biases a statistic, as noise added to vectors lowers cosines and shares,
/// the estimate is biased by the same amount: the basic interval corrects this bias, whereas the percentile interval
/// would double it.
pub fn basic(estimate: f64, resamples: &[f64], scale: Scale) -> Option<Interval> {
    let [low, high] = quantiles(resamples)?;
    let reflect = |end: f64| scale.back(2.0 * scale.onto(estimate) - scale.onto(end));
    Some(Interval { low: reflect(high), high: reflect(low) })
}

/// The 2.5th and 97.5th percentile, with linear interpolation (NumPy's `quantile`).
pub fn quantiles(values: &[f64]) -> Option<[f64; 2]> {
    if values.len() < 2 {
        return None;
    }
    Some(TAILS.map(|tail| quantile(values, tail)))
}

/// The quantile at `tail`, with linear interpolation (NumPy's `quantile`); NaN for an empty slice.
pub fn quantile(values: &[f64], tail: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let place = tail * (values.len() - 1) as f64;
    let (_, below, above) = values.select_nth_unstable_by(place as usize, f64::total_cmp);
    let below = *below;
    let next = above.iter().copied().fold(f64::INFINITY, f64::min);
    if place.fract() > 0.0 { below + place.fract() * (next - below) } else { below }
}

/// The permutation p-value of a value at least as large as `observed`: `(1 + count) / (1 + shuffles)` (Phipson and
/// Smyth 2010).
pub fn p_value(observed: f64, null: &[f64]) -> f64 {
    (1 + as_large(observed, null)) as f64 / (1 + null.len()) as f64
}

/// How many of `null` are at least as large as `observed`; values that differ only by rounding count as equal.
pub fn as_large(observed: f64, null: &[f64]) -> usize {
    let least = observed - 1e-9 * observed.abs();
    null.iter().filter(|&&value| value >= least).count()
}

/// The two-sided p-value: of a value at least as far from zero.
pub fn two_sided(observed: f64, null: &[f64]) -> f64 {
    p_value(observed.abs(), &null.iter().map(|x| x.abs()).collect::<Vec<_>>())
}

/// The 97.5th percentile of Student's t: the half-width of a 95 % interval in standard errors. By bisection of the
/// distribution's closed form (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4); infinite for zero degrees of freedom.
pub fn t_95(degrees: usize) -> f64 {
    if degrees == 0 {
        return f64::INFINITY;
    }
    let n = degrees as f64;
    // The probability of an absolute value below t.
    let within = |t: f64| {
        let angle = (t / n.sqrt()).atan();
        let square = angle.cos().powi(2);
        let odd = degrees % 2 == 1;
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..degrees.saturating_sub(1).div_ceil(2) {
            let (above, below) = if odd { (2 * k, 2 * k + 1) } else { (2 * k - 1, 2 * k) };
            term *= square * above as f64 / below as f64;
            sum += term;
        }
        match (odd, degrees) {
            (true, 1) => 2.0 * angle / std::f64::consts::PI,
            (true, _) => 2.0 / std::f64::consts::PI * (angle + angle.sin() * angle.cos() * sum),
            (false, _) => angle.sin() * sum,
        }
    };
    let (mut low, mut high) = (1.9, 13.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if within(middle) < TAILS[1] - TAILS[0] { low = middle } else { high = middle }
    }
    low
}

/// The 95 % interval of Clopper and Pearson (1934) for a share, given `hits` in `n` independent trials: the shares at
/// which at least, or at most, as many hits have a probability of .025. `None` without trials.
pub fn clopper_pearson(hits: usize, n: usize) -> Option<Interval> {
    // The probability of more than `k` hits, which increases with the share.
    let above = |k: usize, share: f64| {
        let mut log_choose = 0.0;
        let mut below = 0.0;
        for i in 0..=k {
            below += (log_choose + i as f64 * share.ln() + (n - i) as f64 * (-share).ln_1p()).exp();
            log_choose += ((n - i) as f64 / (i + 1) as f64).ln();
        }
        1.0 - below
    };
    let solve = |k: usize, chance: f64| {
        let (mut low, mut high) = (0.0, 1.0);
        // Enough bisections to exceed the precision of f64.
        for _ in 0..64 {
            let middle = 0.5 * (low + high);
            if above(k, middle) < chance { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    };
    (n > 0 && hits <= n).then(|| Interval {
        low: if hits == 0 { 0.0 } else { solve(hits - 1, TAILS[0]) },
        high: if hits == n { 1.0 } else { solve(hits, TAILS[1]) },
    })
}

/// The arithmetic mean; 0 for an empty slice.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // np.quantile([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [.025, .975])
        let got = quantiles(&[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0]).unwrap();
        assert!((got[0] - 1.0).abs() < 1e-12 && (got[1] - 8.325).abs() < 1e-12, "{got:?}");
        // np.quantile(np.arange(41.) ** 2, [.025, .975]): integer positions.
        let squares: Vec<f64> = (0..41).rev().map(|x| f64::from(x * x)).collect();
        assert_eq!(quantiles(&squares).unwrap(), [1.0, 1521.0]);
        assert_eq!(quantiles(&[1.0]), None);
    }

    #[test]
    fn student_s_t_is_that_of_scipy() {
        // scipy.stats.t.ppf(.975, [1, 2, 3, 4, 5, 19, 60])
        for (degrees, want) in STUDENT {
            assert!((t_95(degrees) - want).abs() < 1e-9, "{degrees}: {}", t_95(degrees));
        }
        assert_eq!(t_95(0), f64::INFINITY);
    }

    const STUDENT: [(usize, f64); 7] = [
        (1, 12.70620473617469),
        (2, 4.30265272974946),
        (3, 3.18244630528371),
        (4, 2.77644510519779),
        (5, 2.57058183563631),
        (19, 2.09302405440831),
        (60, 2.00029782201426),
    ];

    #[test]
    fn the_basic_interval_takes_the_shift_out() {
        let resamples: Vec<f64> = (0..=1000).map(|i| 0.4 + 0.0001 * f64::from(i)).collect();
        let got = basic(0.5, &resamples, Scale::Plain).unwrap();
        assert!((got.low - 0.5025).abs() < 1e-12 && (got.high - 0.5975).abs() < 1e-12, "{got:?}");
        // By hand: tanh(2 atanh(0.5) - atanh(q)).
        let got = basic(0.5, &resamples, Scale::Correlation).unwrap();
        let by_hand = |q: f64| (2.0 * 0.5f64.atanh() - q.atanh()).tanh();
        assert!((got.low - by_hand(0.4975)).abs() < 1e-12 && (got.high - by_hand(0.4025)).abs() < 1e-12);
        // The odds of 0.5 are 1, those of 0.4975 are 0.4975 / 0.5025.
        let got = basic(0.5, &resamples, Scale::Share).unwrap();
        assert!((got.low - 0.5025).abs() < 1e-12 && (got.high - 0.5975).abs() < 1e-12);
        // At the end of the scale, too.
        let ones = basic(1.0, &[1.0, 1.0, 1.0], Scale::Correlation).unwrap();
        assert!((ones.low - 1.0).abs() < 1e-9 && (ones.high - 1.0).abs() < 1e-9);
    }

    #[test]
    fn shares_have_clopper_and_pearson_s_interval() {
        // scipy.stats.beta.ppf(.025, hits, n - hits + 1) and ppf(.975, hits + 1, n - hits)
        let wanted = [
            (0, 10, 0.0, 0.3084971078187607),
            (10, 10, 0.6915028921812392, 1.0),
            (3, 12, 0.05486064452799272, 0.5718584618781891),
            (150, 200, 0.6840371666701309, 0.8083928303774125),
        ];
        for (hits, n, low, high) in wanted {
            let got = clopper_pearson(hits, n).unwrap();
            assert!((got.low - low).abs() < 1e-9 && (got.high - high).abs() < 1e-9, "{hits} of {n}: {got:?}");
        }
        assert_eq!(clopper_pearson(0, 0), None);
    }

    #[test]
    fn p_values_count_the_observed_one() {
        assert_eq!(p_value(3.0, &[1.0, 2.0, 3.0, 4.0]), 3.0 / 5.0);
        assert_eq!(p_value(9.0, &[0.0; 999]), 0.001);
        assert_eq!(two_sided(-3.0, &[1.0, -4.0, 3.0, 2.0]), 3.0 / 5.0);
    }
}
