//! Whether readings follow preferences: correlations over activities, overall and within categories, with their null
//! distributions. Does not depend on a model.

use anyhow::Result;

use crate::stages::analysis::LayerVectors;
use crate::stages::principal::{components, dot, norm};
use crate::stages::statistics::Interval;
use crate::stages::statistics::correlation::{partial, pearson, residuals};
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::{p_value, percentile, quantile, two_sided};

/// The minimum number of categories for a bootstrap.
const CATEGORIES: usize = 5;

/// The numbers of random draws and their seed.
#[derive(Clone, Copy)]
pub struct Chance {
    pub bootstrap: usize,
    pub permutations: usize,
    pub seed: u64,
    pub layer: i32,
}

/// The correlation of one emotion's readings with preferences.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlated {
    /// Over all activities.
    pub r: f64,
    /// By a bootstrap over categories.
    pub interval: Option<Interval>,
    /// Preferences shuffled over activities, two-sided; and for the largest |r| of any emotion.
    pub p: f64,
    pub p_max: f64,
    /// Of differences from the categories' means.
    pub within: f64,
    /// Preferences shuffled within categories, two-sided; and for the largest |r| of any emotion.
    pub p_within: f64,
    pub p_within_max: f64,
    /// The size that `r` still reaches when preferences are shuffled within categories: the 97.5th percentile of |r|.
    /// Differences between categories alone produce this much.
    pub between: f64,
    /// The partial correlation, with the reading of the emotions' main axis removed from both sides; and its p against
    /// the largest of any emotion, with residual preferences shuffled over activities.
    pub beyond: Option<f64>,
    pub p_beyond: Option<f64>,
}

/// The reading of the first principal component of a layer's vectors, which in most sets is valence, up to a factor:
/// `None` for fewer than three emotions. It is a weighted sum of the emotions' `readings`, because the component is a
/// linear combination of their vectors.
pub fn main_axis(layer: &LayerVectors, readings: &[Vec<f64>]) -> Option<Vec<f64>> {
    if readings.len() < 3 {
        return None;
    }
    let found = components(&layer.vectors, layer.d_model).ok()?;
    let first = &found.directions[..layer.d_model];
    let weight = |emotion: usize| {
        let vector = layer.vector(emotion);
        (dot(vector, first) - dot(&found.mean, first)) * norm(vector)
    };
    let weights: Vec<f64> = (0..readings.len()).map(weight).collect();
    let of = |at: usize| weights.iter().zip(readings).map(|(weight, of)| weight * of[at]).sum();
    Some((0..readings[0].len()).map(of).collect())
}

/// Correlates `readings[emotion][activity]` with `preferences`, given the category of each activity and the reading of
/// the emotions' main axis.
pub fn correlate(
    preferences: &[f64],
    readings: &[Vec<f64>],
    categories: &[usize],
    axis: Option<Vec<f64>>,
    chance: Chance,
) -> Result<Vec<Correlated>> {
    let Chance { bootstrap, permutations, seed, layer } = chance;
    let draws = |what: &str, number: usize| Draws::new(what, &[seed, layer as u64, number as u64]);
    let centred: Vec<Vec<f64>> = readings.iter().map(|of| within(of, categories)).collect();
    let own = within(preferences, categories);
    let axis: Vec<Vec<f64>> = axis.into_iter().collect();
    let left: Vec<Vec<f64>> = readings.iter().map(|of| residuals(of, &axis)).collect();
    let unexplained = residuals(preferences, &axis);
    // `[emotion][shuffle]`
    let n = readings.len();
    let (mut free, mut kept, mut inside) = (vec![Vec::new(); n], vec![Vec::new(); n], vec![Vec::new(); n]);
    let mut beyond = vec![Vec::new(); n];
    for number in 0..permutations {
        let order = draws("preferences shuffled", number).shuffled(preferences.len());
        let all: Vec<f64> = order.iter().map(|&at| preferences[at]).collect();
        let rest: Vec<f64> = order.iter().map(|&at| unexplained[at]).collect();
        let order = shuffled_within(categories, &mut draws("preferences shuffled within", number));
        let same: Vec<f64> = order.iter().map(|&at| preferences[at]).collect();
        let same_centred: Vec<f64> = order.iter().map(|&at| own[at]).collect();
        for emotion in 0..n {
            free[emotion].push(pearson(&readings[emotion], &all));
            beyond[emotion].push(pearson(&left[emotion], &rest));
            kept[emotion].push(pearson(&readings[emotion], &same));
            inside[emotion].push(pearson(&centred[emotion], &same_centred));
        }
    }
    let largest = |null: &[Vec<f64>]| -> Vec<f64> {
        let of =
            |number| null.iter().map(|of: &Vec<f64>| of[number]).fold(0.0f64, |a, r: f64| a.max(r.abs()));
        (0..permutations).map(of).collect()
    };
    let (free_max, inside_max, beyond_max) = (largest(&free), largest(&inside), largest(&beyond));
    let resampled = |emotion: usize| -> Option<Interval> {
        let groups = categories.iter().max().map_or(0, |last| last + 1);
        let drawn = |number| {
            let mut x = Vec::new();
            let mut y = Vec::new();
            for group in draws("categories drawn", number).resampled(groups) {
                for at in (0..categories.len()).filter(|&at| categories[at] == group) {
                    x.push(readings[emotion][at]);
                    y.push(preferences[at]);
                }
            }
            pearson(&x, &y)
        };
        if groups < CATEGORIES { None } else { percentile(&(0..bootstrap).map(drawn).collect::<Vec<_>>()) }
    };
    let of = |emotion: usize| {
        let (r, inner) = (pearson(&readings[emotion], preferences), pearson(&centred[emotion], &own));
        let sizes: Vec<f64> = kept[emotion].iter().map(|r| r.abs()).collect();
        let beyond = if axis.is_empty() { None } else { partial(&readings[emotion], preferences, &axis) };
        Correlated {
            r,
            interval: resampled(emotion),
            p: two_sided(r, &free[emotion]),
            p_max: p_value(r.abs(), &free_max),
            within: inner,
            p_within: two_sided(inner, &inside[emotion]),
            p_within_max: p_value(inner.abs(), &inside_max),
            between: quantile(&sizes, 0.975),
            beyond,
            p_beyond: beyond.map(|r| p_value(r.abs(), &beyond_max)),
        }
    };
    Ok((0..n).map(of).collect())
}

/// Differences from the mean of the respective category.
pub fn within(values: &[f64], categories: &[usize]) -> Vec<f64> {
    let mean = |category: usize| {
        let own = || values.iter().zip(categories).filter(move |(_, of)| **of == category);
        own().map(|(value, _)| value).sum::<f64>() / own().count() as f64
    };
    values.iter().zip(categories).map(|(value, &of)| value - mean(of)).collect()
}

/// A permutation within categories.
fn shuffled_within(categories: &[usize], draws: &mut Draws) -> Vec<usize> {
    let mut order: Vec<usize> = (0..categories.len()).collect();
    for category in 0..=categories.iter().copied().max().unwrap_or(0) {
        let places: Vec<usize> = (0..categories.len()).filter(|&at| categories[at] == category).collect();
        let mut dealt = places.clone();
        draws.shuffle(&mut dealt);
        places.into_iter().zip(dealt).for_each(|(place, from)| order[place] = from);
    }
    order
}

/// Splits the activities into two halves with equally many of each category (up to one if a category is odd): true for
/// those in the first.
pub fn halves(categories: &[usize], draws: &mut Draws) -> Vec<bool> {
    let order = draws.shuffled(categories.len());
    let mut first = vec![false; categories.len()];
    let mut odd = false;
    for category in 0..=categories.iter().copied().max().unwrap_or(0) {
        for &at in order.iter().filter(|&&at| categories[at] == category) {
            odd = !odd;
            first[at] = odd;
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANCE: Chance = Chance { bootstrap: 200, permutations: 400, seed: 3, layer: 5 };

    /// Eight categories with eight activities each.
    fn eight() -> Vec<usize> {
        (0..64).map(|at| at / 8).collect()
    }

    /// Preferences g + w, readings a g + b w, where g varies between categories only, w within them only, and both
    /// have equal variance: r is (a + b) / sqrt(2 (a^2 + b^2)), and within categories it is the sign of b.
    #[test]
    fn correlations_are_those_of_the_closed_form() {
        let (categories, root) = (eight(), std::f64::consts::TAU / 8.0);
        let g: Vec<f64> = categories.iter().map(|&c| (root * c as f64).sin()).collect();
        let w: Vec<f64> = (0..64).map(|at| (root * (at % 8) as f64).sin()).collect();
        let preferences: Vec<f64> = g.iter().zip(&w).map(|(g, w)| g + w).collect();
        let weights: [(f64, f64); 3] = [(3.0, 1.0), (1.0, -2.0), (0.0, 1.0)];
        let readings: Vec<Vec<f64>> =
            weights.iter().map(|(a, b)| g.iter().zip(&w).map(|(g, w)| a * g + b * w).collect()).collect();
        let found = correlate(&preferences, &readings, &categories, None, CHANCE).unwrap();
        assert_eq!((found[0].beyond, found[0].p_beyond), (None, None), "there is no axis");
        for ((a, b), of) in weights.iter().zip(&found) {
            let r = (a + b) / (2.0 * (a * a + b * b)).sqrt();
            assert!((of.r - r).abs() < 1e-12, "{} is not {r}", of.r);
            assert!((of.within - f64::signum(*b)).abs() < 1e-12);
            assert!(of.p_within < 0.01 && of.p_within_max < 0.01, "{of:?}");
            assert!(of.p_max >= of.p);
        }
        // The contribution of differences between categories: 3 / sqrt(20) = .67 remains on average when they are
        // kept.
        assert!(found[0].between > 0.67 && found[0].between < 0.8, "{}", found[0].between);
        assert!(found[2].between < 0.35, "{}", found[2].between);
        let interval = found[0].interval.unwrap();
        assert!(interval.low < found[0].r && found[0].r < interval.high, "{interval:?}");
        // For four categories there is no interval.
        let few: Vec<usize> = categories.iter().map(|c| c / 2).collect();
        assert_eq!(correlate(&preferences, &readings, &few, None, CHANCE).unwrap()[0].interval, None);
    }

    /// Preferences g + w + h, readings a g + b w + c h, all three orthogonal and of equal variance: with g removed the
    /// correlation is (b + c) / sqrt(2 (b^2 + c^2)), whatever a is; nothing remains of a reading that equals g.
    #[test]
    fn what_is_beyond_the_main_axis_has_its_closed_form() {
        let (categories, root) = (eight(), std::f64::consts::TAU / 8.0);
        let wave = |of: &dyn Fn(usize) -> f64| (0..64).map(of).collect::<Vec<f64>>();
        let g = wave(&|at| (root * (at / 8) as f64).sin());
        let w = wave(&|at| (root * (at % 8) as f64).sin());
        let h = wave(&|at| (root * (at % 8) as f64).cos());
        let sum = |[a, b, c]: [f64; 3]| wave(&|at| a * g[at] + b * w[at] + c * h[at]);
        let weights = [[5.0, 1.0, -0.5], [-3.0, 0.3, 2.0], [2.0, 0.0, 0.0], [2.0, 1.0, -1.0]];
        let readings: Vec<Vec<f64>> = weights.iter().map(|&of| sum(of)).collect();
        let found = correlate(&sum([1.0; 3]), &readings, &categories, Some(g.clone()), CHANCE).unwrap();
        for ([_, b, c], of) in weights.iter().zip(&found) {
            let wanted = (b + c) / (2.0 * (b * b + c * c)).sqrt();
            match of.beyond {
                Some(r) => assert!((r - wanted).abs() < 1e-12, "{r} is not {wanted}"),
                None => assert!(wanted.is_nan(), "{wanted}"),
            }
        }
        assert!(found[1].p_beyond.unwrap() < 0.01 && found[3].p_beyond.unwrap() > 0.9);
    }

    /// Vectors p u + q w of two directions u and w, with a larger spread along u: the axis reads u.
    #[test]
    fn the_main_axis_reads_the_first_component() {
        let along = [-3.0, -1.0, 1.5, 3.5];
        let across = [0.2, -0.3, 0.1, 0.3];
        let vectors: Vec<f64> = along.iter().zip(across).flat_map(|(&p, q)| [p, q, 1.0]).collect();
        let layer = LayerVectors {
            layer: crate::lm::Layer::Block(0),
            emotions: ["a", "b", "c", "d"].map(String::from).to_vec(),
            d_model: 3,
            raw: vectors.clone(),
            n_stories: vec![1; 4],
            resid_norm: 1.0,
            vectors,
        };
        // Activities with these residuals; readings are dot products with vectors of unit norm.
        let residuals = [[1.0, 0.5, 0.0], [-2.0, 0.1, 3.0], [0.5, -1.0, 1.0], [4.0, 0.0, -2.0]];
        let reading = |emotion: usize| -> Vec<f64> {
            let unit = |at: &[f64; 3]| dot(layer.vector(emotion), at) / norm(layer.vector(emotion));
            residuals.iter().map(unit).collect()
        };
        let readings: Vec<Vec<f64>> = (0..4).map(reading).collect();
        let first = components(&layer.vectors, 3).unwrap().directions[..3].to_vec();
        assert!(first[0].abs() > 0.99);
        let wanted: Vec<f64> = residuals.iter().map(|at| dot(&first, at)).collect();
        let found = main_axis(&layer, &readings).unwrap();
        assert!((pearson(&found, &wanted) - 1.0).abs() < 1e-12);
        assert_eq!(main_axis(&layer, &readings[..2]), None);
    }

    /// With noise, p within categories is at most .05 one time in twenty; so is the p of the largest of six emotions.
    #[test]
    fn noise_is_found_at_its_rate() {
        let categories: Vec<usize> = (0..16).map(|at| at / 2).collect();
        let (mut single, mut any, mut of_all) = (0, 0, 0);
        for seed in 0..400 {
            let mut draws = Draws::new("noise", &[seed]);
            let mut normal = |n: usize| -> Vec<f64> { (0..n).map(|_| draws.normal()).collect() };
            let preferences = normal(16);
            let readings: Vec<Vec<f64>> = (0..6).map(|_| normal(16)).collect();
            let chance = Chance { bootstrap: 0, permutations: 99, seed, layer: 0 };
            let found = correlate(&preferences, &readings, &categories, None, chance).unwrap();
            single += usize::from(found[0].p_within <= 0.05);
            any += usize::from(found.iter().any(|of| of.p_within_max <= 0.05));
            of_all += usize::from(found.iter().any(|of| of.p_max <= 0.05));
        }
        // scipy.stats.binom.cdf(31, 400, .05) is .993, and cdf(9, 400, .05) .004.
        for found in [single, any, of_all] {
            assert!((10..=31).contains(&found), "{found} of 400");
        }
    }

    #[test]
    fn halves_hold_as_many_of_each_category() {
        let categories = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2];
        let first = halves(&categories, &mut Draws::new("halves", &[1]));
        let of = |c: usize| (0..12).filter(|&at| categories[at] == c && first[at]).count();
        assert_eq!((of(0), first.iter().filter(|half| **half).count()), (2, 6));
        assert!((1..=2).contains(&of(1)) && (2..=3).contains(&of(2)));
        assert_ne!(first, halves(&categories, &mut Draws::new("halves", &[2])));
    }
}
