//! Trends compared with SciPy, on noise and on planted trends.

use super::*;

fn trend(numbers: &[f64], cosines: &[Vec<f64>], sign: f64, seed: u64) -> Trend {
    let direction = |k| together(&noise(cosines.len(), numbers.len(), 1_000_000 + 1000 * seed + k));
    let null: Vec<Vec<f64>> = (0..19).map(direction).collect();
    Trend::of(numbers, cosines, sign, Draws::new("test", &[seed]), &null)
}

/// Numbers without a trend.
fn noise(phrasings: usize, n: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut draws = Draws::new("test noise", &[seed]);
    (0..phrasings).map(|_| draws.direction(n)).collect()
}

#[test]
fn correlations_and_p_are_scipy_s() {
    // import numpy as np, itertools; from scipy.stats import spearmanr
    // x = [1, 2, 4, 8, 16]; a = [.1, .3, .2, .5, .9]; b = [.2, .1, .4, .3, .3]
    // r = [spearmanr(x, y)[0] for y in (a, b)]; t = np.mean(r); print(r, t)
    // n = [np.mean([spearmanr(q, y)[0] for y in (a, b)]) for q in itertools.permutations(x)]
    // print(np.mean(np.array(n) >= t - 1e-12))
    let cosines = [vec![0.1, 0.3, 0.2, 0.5, 0.9], vec![0.2, 0.1, 0.4, 0.3, 0.3]];
    let found = trend(&[1.0, 2.0, 4.0, 8.0, 16.0], &cosines, 1.0, 1);
    assert!(
        (found.most - 0.8999999999999998).abs() < 1e-12 && (found.least - 0.5642880936468347).abs() < 1e-12,
        "{found:?}"
    );
    assert!((found.spearman - (0.8999999999999998 + 0.5642880936468347) / 2.0).abs() < 1e-12);
    // Three standard errors of 1,999 draws.
    let p: f64 = 0.008333333333333333;
    assert!((found.p_order - p).abs() < 3.0 * (p * (1.0 - p) / 1_999.0).sqrt(), "{found:?}");
    let falling = trend(&[1.0, 2.0, 4.0, 8.0, 16.0], &cosines, -1.0, 1);
    assert!(falling.p_order > 0.9 && falling.spearman == found.spearman);
}

#[test]
fn a_planted_trend_is_found_and_noise_is_significant_one_time_in_twenty() {
    let numbers = [2.0, 5.0, 10.0, 20.0, 40.0, 80.0];
    let planted = |seed| {
        let mut cosines = noise(4, 6, seed);
        let rising = |values: &mut Vec<f64>| (0..6).for_each(|at| values[at] -= 0.5 * at as f64);
        cosines.iter_mut().for_each(rising);
        trend(&numbers, &cosines, -1.0, seed)
    };
    for seed in 0..10 {
        let found = planted(seed);
        assert!(found.p_order <= 0.01 && found.p_direction == 0.05 && found.most < 0.0, "{found:?}");
    }
    // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
    let found: Vec<Trend> =
        (0..200).map(|seed| trend(&numbers, &noise(4, 6, 7 + 5000 * seed), 1.0, seed)).collect();
    for p in [(|t| t.p_order) as fn(&Trend) -> f64, |t| t.p_direction] {
        let significant = found.iter().filter(|trend| p(trend) <= 0.05).count();
        assert!((3..=18).contains(&significant), "{significant} of 200");
    }
}

/// An emotion that follows any number, whatever it counts, is not significant; one that follows the dose is.
#[test]
fn what_any_number_does_is_no_trend() {
    let numbers = [2.0, 5.0, 10.0, 20.0, 40.0, 80.0];
    let mean_of = |seed: u64, slope: f64| {
        let mut values = noise(4, 6, seed);
        values.iter_mut().for_each(|of| (0..6).for_each(|at| of[at] += slope * at as f64));
        values
    };
    let p = |seed: u64, own: f64| {
        let labels: Vec<[Vec<f64>; 2]> = (0..19)
            .map(|k| [0, 1].map(|at| together(&mean_of(9_000_000 + 100 * seed + 2 * k + at, 0.3))))
            .collect();
        let mut found = trend(&numbers, &mean_of(70_000 + 2 * seed, own), 1.0, seed);
        found.beside(&numbers, &together(&mean_of(70_001 + 2 * seed, 0.3)), 1.0, &labels);
        (found.p_order, found.p_label)
    };
    // By the order of the numbers alone, all of them are significant.
    let all: Vec<(f64, f64)> = (0..200).map(|seed| p(seed, 0.3)).collect();
    assert!(all.iter().filter(|(order, _)| *order <= 0.05).count() > 190);
    // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
    let significant = all.iter().filter(|(_, label)| *label <= 0.05).count();
    assert!((3..=18).contains(&significant), "{significant} of 200");
    let found = |seed| {
        let labels: Vec<[Vec<f64>; 2]> = (0..19)
            .map(|k| [0, 1].map(|at| together(&noise(4, 6, 800_000 + 100 * seed + 2 * k + at))))
            .collect();
        let mut found = trend(&numbers, &mean_of(seed, 1.0), 1.0, seed);
        found.beside(&numbers, &together(&noise(4, 6, 600_000 + seed)), 1.0, &labels);
        found.p_label
    };
    // A control of four phrasings may rise by chance.
    assert!((0..20).filter(|&seed| found(seed) == 0.05).count() >= 15);
}

#[test]
fn numbers_are_written_as_people_write_them() {
    assert_eq!(Template::fill("{number} mg, {number}", 1000.0), "1000 mg, 1000");
    assert_eq!(Template::fill("{number} h", 2.5), "2.5 h");
}
