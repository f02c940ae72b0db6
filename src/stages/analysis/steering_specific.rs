//! Whether a vector changes its own word more than other words, with effects common to all vectors or to all words
//! removed. Does not depend on a model.

use super::Null;
use super::claim::adjusted;
use super::steering_deltas::Deltas;
use crate::stages::statistics::Interval;
use crate::stages::statistics::design::FEWEST;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{mean, p_value, t_95};

/// The number of random assignments of words to vectors behind a p-value.
const DEALS: usize = 9_999;

/// The method of the intervals of [`over_prompts`].
pub const METHOD: &str = "Student\u{2019}s t over prompts";

/// The effects of vectors on their own words beyond their effects on other words.
pub struct Specific {
    /// The mean over emotions, in nats.
    pub mean: f64,
    pub interval: Option<Interval>,
    pub null: Null,
    /// The share of emotions whose q is at most .05. `None` if there are too few for any q to be.
    pub share: Option<f64>,
}

/// At strengths below 0 the own word should fall, and more than others. `None` for fewer than three emotions, or if a
/// vector is not measured on every word.
///
/// The matrix of effects (mean over prompts), double-centred: minus the means of its rows and columns, plus its
/// overall mean. p: the rank of the mean of its diagonal among those with words assigned to vectors at random. For a
/// single emotion, p is the share of words that its vector changes at least as much, its own counted in; q are these p
/// adjusted (Benjamini and Hochberg 1995).
pub fn specific(deltas: &Deltas, strength: f64) -> Option<Specific> {
    let n = deltas.emotions.len();
    let each: Vec<Vec<f64>> = deltas.matrices(strength).iter().map(|matrix| centred(matrix, n)).collect();
    if n < 3 || each.is_empty() || each.len() < deltas.n_prompts {
        return None;
    }
    let over = |at: usize| mean(&each.iter().map(|matrix| matrix[at]).collect::<Vec<_>>());
    let matrix: Vec<f64> = (0..n * n).map(over).collect();
    let towards = strength.signum();
    let dealt = |order: &[usize]| {
        towards * mean(&order.iter().enumerate().map(|(i, &j)| matrix[i * n + j]).collect::<Vec<_>>())
    };
    let own: Vec<usize> = (0..n).collect();
    let null = rounds(0, "words dealt to vectors", DEALS, |dice| dealt(&dice.shuffled(n)));
    let p = |i: usize| {
        let row: Vec<f64> = matrix[i * n..][..n].iter().map(|x| towards * x).collect();
        let others: Vec<f64> = (0..n).filter(|&j| j != i).map(|j| row[j]).collect();
        p_value(row[i], &others)
    };
    let q = adjusted(&(0..n).map(p).collect::<Vec<_>>());
    let small = q.iter().filter(|&&q| q <= LEVEL).count() as f64 / n as f64;
    let diagonal = |matrix: &Vec<f64>| mean(&(0..n).map(|i| matrix[i * n + i]).collect::<Vec<_>>());
    Some(Specific {
        mean: towards * dealt(&own),
        interval: over_prompts(&each.iter().map(diagonal).collect::<Vec<_>>()),
        null: Null {
            of: "words randomly assigned to vectors",
            draws: DEALS,
            mean: Some(0.0),
            p: p_value(dealt(&own), &null),
        },
        share: (1.0 / n as f64 <= LEVEL).then_some(small),
    })
}

/// The level at which a q counts as small.
const LEVEL: f64 = 0.05;

/// `[n, n]` minus the means of rows and columns, plus the overall mean.
fn centred(matrix: &[f64], n: usize) -> Vec<f64> {
    let row = |i: usize| mean(&matrix[i * n..][..n]);
    let column = |j: usize| mean(&(0..n).map(|i| matrix[i * n + j]).collect::<Vec<_>>());
    let (rows, columns): (Vec<f64>, Vec<f64>) = (0..n).map(|at| (row(at), column(at))).unzip();
    let all = mean(matrix);
    (0..n * n).map(|at| matrix[at] - rows[at / n] - columns[at % n] + all).collect()
}

/// The mean over prompts, with its interval: the standard error times Student's t. `None` for fewer than five prompts.
pub fn over_prompts(values: &[f64]) -> Option<Interval> {
    let n = values.len();
    if n < FEWEST {
        return None;
    }
    let centre = mean(values);
    let variance = values.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / (n - 1) as f64;
    let reach = t_95(n - 1) * (variance / n as f64).sqrt();
    Some(Interval { low: centre - reach, high: centre + reach })
}

#[cfg(test)]
mod tests {
    use super::super::steering_figures::tests::table;
    use super::*;
    use crate::stages::statistics::draws::Draws;

    /// Effects of six vectors on six words after two prompts: noise, plus an effect of each vector on all words, an
    /// effect of all vectors on each word, and `planted` on the own word.
    fn found(seed: u64, planted: f64) -> Specific {
        found_of(&["a", "b", "c", "d", "e", "f"], seed, planted)
    }

    fn found_of(names: &[&str], seed: u64, planted: f64) -> Specific {
        let mut noise = Draws::new("specific", &[seed]);
        let (rows, columns): (Vec<f64>, Vec<f64>) =
            names.iter().map(|_| (3.0 * noise.normal(), 3.0 * noise.normal())).unzip();
        let mut all = Vec::new();
        for prompt in ["p", "q"] {
            for (i, steered) in names.iter().enumerate() {
                for (j, measured) in names.iter().enumerate() {
                    let own = if i == j { planted } else { 0.0 };
                    all.push((prompt, 1.0, *steered, *measured, own + rows[i] + columns[j] + noise.normal()));
                }
            }
        }
        let tables = table(&all);
        let (_, deltas) = Deltas::read(&tables).unwrap().remove(0);
        specific(&deltas, 1.0).unwrap()
    }

    #[test]
    fn noise_is_specific_one_time_in_twenty_and_a_planted_effect_always() {
        let significant = (0..200).filter(|&seed| found(seed, 0.0).null.p <= 0.05).count();
        // scipy.stats.binom.cdf(18, 200, .05) is .994, and cdf(2, 200, .05) .002.
        assert!((3..=18).contains(&significant), "{significant} of 200");
        for seed in 0..20 {
            let found = found(seed, 3.0);
            // Of a planted 3, five sixths remain after double-centring.
            assert!(
                found.null.p <= 0.01 && (found.mean - 2.5).abs() < 1.0,
                "{}: {}",
                found.null.p,
                found.mean
            );
        }
    }

    /// With twenty emotions the p of a single one can be .05: with noise hardly any has a small q, with planted
    /// effects all have.
    #[test]
    fn the_share_of_specific_emotions_is_of_false_discoveries_at_most_one_in_twenty() {
        let names: Vec<String> = (0..20).map(|at| format!("e{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let any = (0..200).filter(|&seed| found_of(&names, seed, 0.0).share.unwrap() > 0.0).count();
        // scipy.stats.binom.ppf(.9995, 200, .05)
        assert!(any <= 21, "{any} of 200");
        assert_eq!(found_of(&names, 1, 12.0).share, Some(1.0));
        assert_eq!(found(1, 12.0).share, None, "of six none could be");
    }

    #[test]
    fn the_matrix_is_centred_both_ways() {
        // By hand: rows 3 and 7, columns 3.5 and 6.5, all 5.
        assert_eq!(centred(&[1.0, 5.0, 6.0, 8.0], 2), [-0.5, 0.5, 0.5, -0.5]);
    }

    #[test]
    fn the_interval_over_prompts_is_student_s() {
        // scipy.stats.t.interval(.95, 4, loc=np.mean(x), scale=scipy.stats.sem(x)) of x = [1, 2, 4, 8, 10]
        let Interval { low, high } = over_prompts(&[1.0, 2.0, 4.0, 8.0, 10.0]).unwrap();
        assert!((low - LOW).abs() < 1e-9 && (high - HIGH).abs() < 1e-9, "{low} {high}");
        assert_eq!(over_prompts(&[1.0, 2.0, 4.0, 8.0]), None);
    }

    const LOW: f64 = 0.19105601337150535;
    const HIGH: f64 = 9.808943986628496;
}
