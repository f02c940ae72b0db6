//! Which groups a resample has, and which labels a shuffle gives: drawn from the seed, each by a stream of its own.

use anyhow::{Result, bail};

use super::draws::Draws;

/// How often a draw that is of no use is drawn again.
const TRIES: u64 = 1000;

/// `[group]`: how often each of the groups is drawn when as many are drawn as there are, with replacement, all together
/// with all that is in them (the bootstrap over groups; Efron and Tibshirani 1993, chapter 8). `counts`: `[group,
/// label]`. A draw in which a label has no story is drawn again.
///
/// An error if it is so a thousand times.
pub fn drawn(counts: &[f64], labels: usize, seed: u64, number: usize) -> Result<Vec<f32>> {
    let groups = counts.len() / labels.max(1);
    for attempt in 0..TRIES {
        let mut draws = Draws::new("bootstrap over groups", &[seed, number as u64, attempt]);
        let mut weights = vec![0f32; groups];
        (0..groups).for_each(|_| weights[draws.below(groups)] += 1.0);
        if whole(counts, labels, &weights) {
            return Ok(weights);
        }
    }
    bail!("an emotion has stories in so few topics that resamples of the topics do not have it")
}

/// `[group]`, of ones and zeros: a random half of the groups, of an odd number the smaller half. `None` where either half
/// lacks a label, a thousand times.
pub fn half(counts: &[f64], labels: usize, seed: u64, number: usize) -> Option<Vec<f32>> {
    let groups = counts.len() / labels.max(1);
    (0..TRIES).find_map(|attempt| {
        let mut draws = Draws::new("half of the groups", &[seed, number as u64, attempt]);
        let mut weights: Vec<f32> = (0..groups).map(|at| if at < groups / 2 { 1.0 } else { 0.0 }).collect();
        draws.shuffle(&mut weights);
        let rest: Vec<f32> = weights.iter().map(|w| 1.0 - w).collect();
        (whole(counts, labels, &weights) && whole(counts, labels, &rest)).then_some(weights)
    })
}

/// Whether every label has a story.
fn whole(counts: &[f64], labels: usize, weights: &[f32]) -> bool {
    (0..labels).all(|label| {
        counts.iter().skip(label).step_by(labels).zip(weights).any(|(&n, &weight)| n > 0.0 && weight > 0.0)
    })
}

/// `[label, group]`: which label's cell each label gets when labels are shuffled within groups, among the cells that
/// have stories. A group keeps the labels that it has, so that what belongs to the group stays the same for all labels.
pub fn shuffled(counts: &[f64], labels: usize, seed: u64, number: usize) -> Vec<u32> {
    let groups = counts.len() / labels.max(1);
    let mut draws = Draws::new("labels within groups", &[seed, number as u64]);
    let mut order = unshuffled(labels, groups);
    for (group, counts) in counts.chunks_exact(labels.max(1)).enumerate() {
        let there: Vec<usize> = (0..labels).filter(|&label| counts[label] > 0.0).collect();
        let mut from = there.clone();
        draws.shuffle(&mut from);
        for (label, from) in there.into_iter().zip(from) {
            order[label * groups + group] = from as u32;
        }
    }
    order
}

/// Every label its own cell.
pub fn unshuffled(labels: usize, groups: usize) -> Vec<u32> {
    (0..labels * groups).map(|at| (at / groups) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resamples_have_as_many_groups_and_every_label() {
        // Label 1 is in the first group alone.
        let counts = [1.0, 1.0, 1.0, 0.0, 1.0, 0.0];
        for number in 0..50 {
            let weights = drawn(&counts, 2, 7, number).unwrap();
            assert_eq!(weights.iter().sum::<f32>(), 3.0);
            assert!(weights[0] > 0.0);
            assert_eq!(weights, drawn(&counts, 2, 7, number).unwrap());
        }
        assert_ne!(
            (0..9).map(|n| drawn(&counts, 2, 7, n).unwrap()).collect::<Vec<_>>(),
            (0..9).map(|n| drawn(&counts, 2, 8, n).unwrap()).collect::<Vec<_>>()
        );
        assert!(half(&counts, 2, 7, 0).is_none(), "one half lacks label 1");
        assert!(drawn(&[1.0, 0.0], 2, 7, 0).is_err());
        let halves: Vec<_> = (0..20).map(|n| half(&[1.0; 5], 1, 7, n).unwrap()).collect();
        assert!(halves.iter().all(|half| half.iter().sum::<f32>() == 2.0));
        assert!(halves.iter().any(|half| *half != halves[0]));
    }

    #[test]
    fn shuffles_stay_within_the_group_and_its_labels() {
        // Group 0 has labels 0, 1, 2; group 1 has 0 and 2.
        let counts = [1.0, 1.0, 1.0, 1.0, 0.0, 1.0];
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200 {
            let order = shuffled(&counts, 3, 1, number);
            let of = |group: usize| (0..3).map(|label| order[label * 2 + group]).collect::<Vec<_>>();
            assert_eq!(of(1)[1], 1, "the empty cell stays");
            let mut sorted = of(0);
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert((of(0), of(1)));
        }
        assert_eq!(seen.len(), 12, "six orders times two");
    }
}
