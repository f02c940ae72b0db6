//! The calibrated alarm: a threshold that a new neutral transcript exceeds with at most a stated probability, and a
//! bound on the rate. Independent of models and texts.

use anyhow::{Result, ensure};

/// The threshold of one length class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// An alarm is raised by a larger statistic.
    pub value: f64,
    /// The number of neutral transcripts that it was calibrated on.
    pub n: usize,
    /// It is the k-th smallest of their statistics.
    pub k: usize,
}

/// The minimum number of neutral transcripts for which a rate of `a` can be guaranteed: `n + 1 >= 1 / a`.
pub fn fewest(a: f64) -> usize {
    // For 1 / 0.01 that is 99, whatever the rounding.
    (1.0 / a - 1e-9).ceil() as usize - 1
}

impl Threshold {
    /// The k-th smallest of the statistics of `n` neutral transcripts, `k = ceil((n + 1)(1 - a))`. A new transcript
    /// that is exchangeable with them is among the `n + 1 - k` largest of `n + 1` with probability at most `a`.
    ///
    /// # Errors
    /// `n` is too small: then `k > n`.
    pub fn of(statistics: &[f64], a: f64) -> Result<Threshold> {
        let n = statistics.len();
        let k = ((n as f64 + 1.0) * (1.0 - a) - 1e-9).ceil() as usize;
        ensure!(
            k <= n && n > 0,
            "{n} neutral transcripts are too few for `false_alarms` = {a}: at least {} are needed",
            fewest(a)
        );
        let mut sorted = statistics.to_vec();
        sorted.sort_by(f64::total_cmp);
        Ok(Threshold { value: sorted[k.max(1) - 1], n, k: k.max(1) })
    }

    /// The probability of an alarm for a neutral transcript, over all calibrations: `(n + 1 - k) / (n + 1)`.
    pub fn rate(&self) -> f64 {
        (self.n + 1 - self.k) as f64 / (self.n as f64 + 1.0)
    }

    /// The upper bound on the rate of this calibration with 95 % probability: the .95 quantile of the distribution
    /// of the rate, Beta(n + 1 - k, k).
    pub fn bound(&self) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..64 {
            let middle = 0.5 * (low + high);
            if beta_cdf(self.n + 1 - self.k, self.n, middle) < 0.95 { low = middle } else { high = middle }
        }
        0.5 * (low + high)
    }
}

/// The distribution function of Beta(a, n + 1 - a) for integers: the probability of `a` or more hits in `n` trials
/// with probability `x`.
fn beta_cdf(a: usize, n: usize, x: f64) -> f64 {
    let (mut log_choose, mut below) = (0.0, 0.0);
    for i in 0..a {
        below += (log_choose + i as f64 * x.ln() + (n - i) as f64 * (-x).ln_1p()).exp();
        log_choose += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    1.0 - below
}

/// The area under the ROC curve: the share of pairs of one of `yes` and one of `no` in which the former is larger;
/// ties count half. `None` if either is empty.
pub fn auroc(yes: &[f64], no: &[f64]) -> Option<f64> {
    let wins = |y: &f64| {
        no.iter()
            .map(|n| {
                if y > n {
                    1.0
                } else if y == n {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    let pairs = yes.len() * no.len();
    (pairs > 0).then(|| yes.iter().map(wins).sum::<f64>() / pairs as f64)
}

/// The length class of a transcript with this number of tokens; `edges`: the upper limit of each class but the last.
pub fn class_of(tokens: usize, edges: &[usize]) -> usize {
    edges.partition_point(|&edge| edge < tokens)
}

/// The edges of `classes` classes with about equally many lengths each.
pub fn edges(lengths: &[usize], classes: usize) -> Vec<usize> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let mut edges: Vec<usize> = (1..classes)
        .filter_map(|class| sorted.get((class * sorted.len() / classes).checked_sub(1)?).copied())
        .collect();
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::statistics::draws::Draws;

    #[test]
    fn bounds_are_those_of_scipy() {
        // scipy.stats.beta.ppf(.95, n + 1 - k, k) at a = .01: k = 99, 495, 990.
        for (n, k, bound) in [(99, 99, 0.029_806_67), (499, 495, 0.018_249_16), (999, 990, 0.015_668_19)] {
            let statistics: Vec<f64> = (0..n).map(f64::from).collect();
            let threshold = Threshold::of(&statistics, 0.01).unwrap();
            assert_eq!((threshold.k, threshold.value), (k, (k - 1) as f64));
            assert!((threshold.bound() - bound).abs() < 1e-8, "{n}: {}", threshold.bound());
            assert!((threshold.rate() - 0.01).abs() < 1e-12);
        }
    }

    #[test]
    fn too_few_transcripts_are_an_error_that_says_how_many_are_needed() {
        for (a, n) in [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (0.3, 3)] {
            assert_eq!(fewest(a), n);
            let statistics: Vec<f64> = (0..n).map(|i| i as f64).collect();
            assert!(Threshold::of(&statistics, a).is_ok(), "{a}");
            let error = Threshold::of(&statistics[1..], a).unwrap_err().to_string();
            assert!(error.contains(&format!("at least {n} are needed")), "{error}");
        }
    }

    /// Maxima of running means of correlated noise, for transcripts of various lengths: over 4,000 calibrations, the
    /// probability of an alarm on a new transcript is (n + 1 - k) / (n + 1), whatever the distribution.
    #[test]
    fn exchangeable_transcripts_alarm_at_the_stated_rate() {
        for (n, a) in [(19, 0.05), (30, 0.1), (99, 0.05)] {
            let statistic = |draws: &mut Draws| {
                let (mut value, mut most) = (0.0, f64::MIN);
                for _ in 0..5 + draws.below(40) {
                    value = 0.9 * value + draws.normal();
                    most = f64::max(most, value);
                }
                most
            };
            let rounds = 4000;
            let alarms = (0..rounds).filter(|&seed| {
                let mut draws = Draws::new("alarm", &[seed, n as u64]);
                let neutral: Vec<f64> = (0..n).map(|_| statistic(&mut draws)).collect();
                statistic(&mut draws) > Threshold::of(&neutral, a).unwrap().value
            });
            let alarms = alarms.count() as f64;
            let neutral: Vec<f64> = (0..n).map(f64::from).collect();
            let rate = Threshold::of(&neutral, a).unwrap().rate();
            assert!(rate <= a + 1e-12);
            let sd = (rounds as f64 * rate * (1.0 - rate)).sqrt();
            assert!(
                (alarms - rounds as f64 * rate).abs() < 3.3 * sd,
                "{n} {a}: {alarms} of {rounds}, rate {rate}"
            );
        }
    }

    /// One calibration in twenty has a rate above the bound: with uniform statistics the rate is 1 minus the
    /// threshold.
    #[test]
    fn the_bound_holds_in_nineteen_of_twenty_calibrations() {
        let rounds = 2000;
        let beyond = (0..rounds).filter(|&seed| {
            let mut draws = Draws::new("bound", &[seed]);
            let neutral: Vec<f64> =
                (0..99).map(|_| draws.below(1 << 40) as f64 / (1u64 << 40) as f64).collect();
            let threshold = Threshold::of(&neutral, 0.05).unwrap();
            1.0 - threshold.value > threshold.bound()
        });
        // 100 expected, with a standard deviation of 9.7.
        let beyond = beyond.count();
        assert!((68..=132).contains(&beyond), "{beyond} of {rounds}");
    }

    #[test]
    fn areas_and_classes() {
        // sklearn.metrics.roc_auc_score([1, 1, 0, 0, 0], [.9, .4, .4, .2, .1])
        assert!((auroc(&[0.9, 0.4], &[0.4, 0.2, 0.1]).unwrap() - 0.916_666_666_666_666_6).abs() < 1e-12);
        assert_eq!(auroc(&[], &[1.0]), None);
        let edges = edges(&[10, 20, 30, 40, 50, 60], 3);
        assert_eq!(edges, [20, 40]);
        assert_eq!([5, 20, 21, 40, 41, 900].map(|n| class_of(n, &edges)), [0, 0, 1, 1, 2, 2]);
        assert!(super::edges(&[5], 1).is_empty());
    }
}
