//! Changes between two models along given directions. Independent of tables and models.

use crate::stages::analysis::claim::adjusted;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::Interval;
use crate::stages::statistics::correlation::pearson;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{mean, percentile, two_sided};

/// Number of splits of the prompts into halves for the reliability.
const SPLITS: usize = 100;

/// Numbers of resamples and permutations, and the seed.
pub struct Draw {
    pub resamples: usize,
    pub permutations: usize,
    pub seed: u64,
}

/// A number with its 95 % interval, and its p-value if it is tested.
#[derive(Clone, Copy, Debug)]
pub struct Tested {
    pub value: f64,
    pub interval: Option<Interval>,
    pub p: Option<f64>,
}

/// One class of prompts.
pub struct OfClass {
    /// For the base and the tuned model, `[emotion]`: the mean cosine.
    pub means: [Vec<f64>; 2],
    /// `[emotion]`: the mean change of the cosine.
    pub changes: Vec<Tested>,
    /// `[emotion]`: p adjusted over all emotions and classes.
    pub q: Vec<f64>,
    /// The correlation over emotions between the two models' means.
    pub between: Tested,
}

pub struct Measured {
    pub classes: Vec<OfClass>,
    /// For each two classes, the correlation over emotions of their changes, and its ceiling given the noise of the
    /// prompts.
    pub alike: Vec<(usize, usize, Tested, Option<f64>)>,
}

/// `[prompt][emotion]`: cosines, or their changes.
type Rows = Vec<Vec<f64>>;

/// `[emotion]`: the weighted mean over prompts.
fn weighted(rows: &Rows, weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    let mut n = 0.0;
    for (at, row) in rows.iter().enumerate() {
        let w = weight(at);
        n += w.abs();
        sum.iter_mut().zip(row).for_each(|(s, x)| *s += w * x);
    }
    sum.iter_mut().for_each(|x| *x /= n.max(1.0));
    sum
}

fn counts(draws: &mut Draws, n: usize) -> Vec<f64> {
    let mut counts = vec![0.0; n];
    draws.resampled(n).into_iter().for_each(|at| counts[at] += 1.0);
    counts
}

/// `states`: for the base and the tuned model and for each class, `[prompt][d]`. `vectors`: `[emotion, d]`.
pub fn measure(states: &[Vec<Vec<Vec<f64>>>; 2], vectors: &[f64], d: usize, draw: &Draw) -> Measured {
    let cosines = |state: &Vec<f64>| -> Vec<f64> {
        let length = norm(state);
        let one = |v: &[f64]| if length * norm(v) > 0.0 { dot(state, v) / (length * norm(v)) } else { 0.0 };
        vectors.chunks_exact(d).map(one).collect()
    };
    let of = |model: usize| -> Vec<Rows> {
        states[model].iter().map(|class| class.iter().map(cosines).collect()).collect()
    };
    let both = [of(0), of(1)];
    let n_classes = both[0].len();
    let changes: Vec<Rows> = (0..n_classes)
        .map(|class| {
            let pairs = both[0][class].iter().zip(&both[1][class]);
            pairs.map(|(before, after)| before.iter().zip(after).map(|(b, a)| a - b).collect()).collect()
        })
        .collect();
    let whole: Vec<Vec<f64>> = changes.iter().map(|rows| weighted(rows, |_| 1.0)).collect();
    // Under the null of no change, each prompt's change is equally likely with the opposite sign, in all emotions at
    // once.
    let flipped: Vec<Vec<Vec<f64>>> = rounds(draw.seed, "shift signs", draw.permutations, |draws| {
        changes
            .iter()
            .map(|rows| {
                let signs: Vec<f64> =
                    rows.iter().map(|_| if draws.below(2) == 1 { 1.0 } else { -1.0 }).collect();
                weighted(rows, |at| signs[at])
            })
            .collect()
    });
    // For each class the means of both models and of the change, over prompts drawn with replacement.
    let resampled: Vec<Vec<[Vec<f64>; 3]>> = rounds(draw.seed, "shift prompts", draw.resamples, |draws| {
        (0..n_classes)
            .map(|class| {
                let counts = counts(draws, changes[class].len());
                [&both[0][class], &both[1][class], &changes[class]]
                    .map(|rows| weighted(rows, |at| counts[at]))
            })
            .collect()
    });
    type Drawn = [[Vec<f64>; 3]];
    let percentiles = |get: &dyn Fn(&Drawn) -> f64| {
        percentile(&resampled.iter().map(|classes| get(classes)).collect::<Vec<_>>())
    };
    let mut classes: Vec<OfClass> = Vec::new();
    for class in 0..n_classes {
        let change = |(e, &value): (usize, &f64)| {
            let null: Vec<f64> = flipped.iter().map(|classes| classes[class][e]).collect();
            let interval = percentiles(&|classes| classes[class][2][e]);
            Tested { value, interval, p: Some(two_sided(value, &null)) }
        };
        let means = [0, 1].map(|model| weighted(&both[model][class], |_| 1.0));
        let between = Tested {
            value: pearson(&means[0], &means[1]),
            interval: percentiles(&|classes| pearson(&classes[class][0], &classes[class][1])),
            p: None,
        };
        classes.push(OfClass {
            means,
            changes: whole[class].iter().enumerate().map(change).collect(),
            q: Vec::new(),
            between,
        });
    }
    let p: Vec<f64> =
        classes.iter().flat_map(|class| class.changes.iter().filter_map(|change| change.p)).collect();
    let q = adjusted(&p);
    let emotions = vectors.len() / d.max(1);
    for (class, q) in classes.iter_mut().zip(q.chunks(emotions.max(1))) {
        class.q = q.to_vec();
    }
    let reliable: Vec<Option<f64>> =
        changes.iter().enumerate().map(|(at, rows)| reliability(rows, draw.seed, at)).collect();
    let mut alike = Vec::new();
    for a in 0..n_classes {
        for b in a + 1..n_classes {
            let value = pearson(&whole[a], &whole[b]);
            let null: Vec<f64> = flipped.iter().map(|classes| pearson(&classes[a], &classes[b])).collect();
            let interval = percentiles(&|classes| pearson(&classes[a][2], &classes[b][2]));
            let ceiling = reliable[a].zip(reliable[b]).map(|(a, b)| (a * b).sqrt());
            alike.push((a, b, Tested { value, interval, p: Some(two_sided(value, &null)) }, ceiling));
        }
    }
    Measured { classes, alike }
}

/// The reliability of a class's mean changes: the mean correlation over emotions between halves of the prompts,
/// extrapolated to all prompts with the Spearman-Brown formula (Spearman 1910; Brown 1910). `None` where the mean
/// correlation is not positive.
fn reliability(rows: &Rows, seed: u64, class: usize) -> Option<f64> {
    let n = rows.len();
    let halves = rounds(seed, &format!("shift halves {class}"), SPLITS, |draws| {
        let order = draws.shuffled(n);
        let mut first = vec![0.0; n];
        order[..n / 2].iter().for_each(|&at| first[at] = 1.0);
        pearson(&weighted(rows, |at| first[at]), &weighted(rows, |at| 1.0 - first[at]))
    });
    let r = mean(&halves);
    (r > 0.0).then(|| 2.0 * r / (1.0 + r))
}
