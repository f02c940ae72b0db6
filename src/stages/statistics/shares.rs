//! Shares of independent trials: differences of two shares, and how large a difference must be to be detected.
//! Independent of what the trials are.

use super::Interval;

/// The 97.5th and the 80th percentile of a normal distribution.
const Z: f64 = 1.959_963_984_540_054;
const Z_POWER: f64 = 0.841_621_233_572_914;

/// Wilson's 95 % interval of a share (1927).
fn wilson(hits: usize, n: usize) -> Interval {
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let middle = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// Newcombe's 95 % interval of the difference of two shares, the first minus the second, each given as (hits, trials)
/// (1998, method 10, from both Wilson intervals). `None` where one of them has no trials.
pub fn newcombe((a, n_a): (usize, usize), (b, n_b): (usize, usize)) -> Option<Interval> {
    if n_a == 0 || n_b == 0 {
        return None;
    }
    let (p, q) = (a as f64 / n_a as f64, b as f64 / n_b as f64);
    let (of_a, of_b) = (wilson(a, n_a), wilson(b, n_b));
    Some(Interval {
        low: p - q - ((p - of_a.low).powi(2) + (of_b.high - q).powi(2)).sqrt(),
        high: p - q + ((of_a.high - p).powi(2) + (q - of_b.low).powi(2)).sqrt(),
    })
}

/// The smallest share above `from` that is detected with a power of 80 % with `n` trials on each side, by the
/// two-sided test of two shares at .05 (Fleiss, Levin and Paik 2003, equation 4.14, without correction). `None` where
/// even 1 is not detected.
pub fn seen_above(from: f64, n: usize) -> Option<f64> {
    let needed = |to: f64| {
        let mean = (from + to) / 2.0;
        let spread =
            Z * (2.0 * mean * (1.0 - mean)).sqrt() + Z_POWER * (from * (1.0 - from) + to * (1.0 - to)).sqrt();
        (spread / (to - from)).powi(2)
    };
    let (mut low, mut high) = (from, 1.0);
    if from >= 1.0 || needed(1.0) > n as f64 {
        return None;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if needed(middle) > n as f64 { low = middle } else { high = middle }
    }
    Some(high)
}

/// The share `told` measured by a classifier, corrected for its sensitivity and specificity (Rogan and Gladen 1978),
/// clamped to 0 to 1: (told + specificity - 1) / (sensitivity + specificity - 1). Each is given as (hits, trials).
/// `None` where the classifier is no better than chance, or where there are no trials.
pub fn corrected(
    told: (usize, usize),
    sensitivity: (usize, usize),
    specificity: (usize, usize),
) -> Option<f64> {
    let [told, sensitivity, specificity] =
        [told, sensitivity, specificity].map(|(hits, n)| (n > 0).then(|| hits as f64 / n as f64));
    let (told, sensitivity, specificity) = (told?, sensitivity?, specificity?);
    let youden = sensitivity + specificity - 1.0;
    (youden > 0.0).then(|| ((told + specificity - 1.0) / youden).clamp(0.0, 1.0))
}

/// The 95 % interval of [`corrected`], where sensitivity and specificity are estimates too (Lang and Reiczigel 2014).
pub fn corrected_interval(
    told: (usize, usize),
    sensitivity: (usize, usize),
    specificity: (usize, usize),
) -> Option<Interval> {
    corrected(told, sensitivity, specificity)?;
    let n = told.1 as f64 + Z * Z;
    let p = (told.0 as f64 + Z * Z / 2.0) / n;
    let shrunk = |(hits, n): (usize, usize)| ((hits as f64 + 1.0) / (n as f64 + 2.0), n as f64 + 2.0);
    let ((se, n_se), (sp, n_sp)) = (shrunk(sensitivity), shrunk(specificity));
    let youden = se + sp - 1.0;
    if youden <= 0.0 {
        return None;
    }
    let share = (p + sp - 1.0) / youden;
    let (of_se, of_sp) = (se * (1.0 - se) / n_se, sp * (1.0 - sp) / n_sp);
    let shift = 2.0 * Z * Z * (share * of_se - (1.0 - share) * of_sp);
    let spread = p * (1.0 - p) / n + share * share * of_se + (1.0 - share).powi(2) * of_sp;
    let half = Z * spread.sqrt() / youden;
    let [low, high] = [share + shift - half, share + shift + half].map(|end| end.clamp(0.0, 1.0));
    Some(Interval { low, high })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::statistics::draws::Draws;

    /// Newcombe 1998, table II, rows (a), (c) and (e) of method 10.
    #[test]
    fn differences_are_those_of_newcombe() {
        for ((a, b), low, high) in [
            (((56, 70), (48, 80)), 0.0524, 0.3339),
            (((9, 10), (3, 10)), 0.1705, 0.8090),
            (((0, 10), (0, 20)), -0.1611, 0.2775),
        ] {
            let found = newcombe(a, b).unwrap();
            assert!((found.low - low).abs() < 1e-4 && (found.high - high).abs() < 1e-4, "{found:?}");
        }
        assert_eq!(newcombe((0, 0), (1, 2)), None);
    }

    /// The interval misses the true share in 200 simulations no more often than stated, and the correction is right
    /// on average, also where a tenth of the negatives are classified as positive.
    #[test]
    fn corrected_shares_are_the_true_ones() {
        for (at, (share, sensitivity, specificity)) in
            [(0.3, 0.8, 0.9), (0.05, 0.7, 0.9), (0.6, 0.95, 0.6), (0.0, 0.9, 0.9)].into_iter().enumerate()
        {
            let (mut missed, mut sum) = (0, 0.0);
            for seed in 0..200 {
                let mut draws = Draws::new("corrected", &[at as u64, seed]);
                let mut hits =
                    |p: f64, n: usize| (0..n).filter(|_| (draws.below(1_000_000) as f64) < p * 1e6).count();
                let told = (hits(share * sensitivity + (1.0 - share) * (1.0 - specificity), 300), 300);
                let (of_se, of_sp) = ((hits(sensitivity, 40), 40), (hits(specificity, 60), 60));
                sum += corrected(told, of_se, of_sp).unwrap();
                let ends = corrected_interval(told, of_se, of_sp).unwrap();
                missed += usize::from(share < ends.low || share > ends.high);
            }
            // scipy.stats.binom.cdf(17, 200, .05) is .987.
            assert!(missed <= 17, "{missed} of 200 miss {share}");
            // Corrected shares are clamped at 0, so those near 0 are too large on average.
            assert!((sum / 200.0 - share).abs() < if share < 0.1 { 0.05 } else { 0.02 }, "{}", sum / 200.0);
        }
        // By hand: (.4 + .9 - 1) / (.8 + .9 - 1).
        assert!((corrected((4, 10), (8, 10), (9, 10)).unwrap() - 0.3 / 0.7).abs() < 1e-12);
        assert_eq!(corrected((4, 10), (5, 10), (5, 10)), None);
        assert_eq!(corrected((4, 10), (0, 0), (5, 10)), None);
    }

    #[test]
    fn what_can_be_seen_is_what_simulation_sees() {
        let to = seen_above(0.22, 50).unwrap();
        assert!((0.47..0.50).contains(&to), "{to}");
        assert!((seen_above(0.22, 100).unwrap() - 0.40).abs() < 0.01);
        assert_eq!(seen_above(0.9, 10), None);
        let mut draws = Draws::new("power", &[1]);
        let mut hits = |p: f64| (0..50).filter(|_| draws.below(1_000_000) as f64 <= p * 1e6).count() as f64;
        let seen = (0..2000).filter(|_| {
            let (a, b) = (hits(to), hits(0.22));
            let mean = (a + b) / 100.0;
            ((a - b) / 50.0).abs() > Z * (2.0 * mean * (1.0 - mean) / 50.0).sqrt()
        });
        let seen = seen.count();
        assert!((1520..1680).contains(&seen), "{seen} of 2000");
    }
}
