//! The assignment of stories to cells, one cell per pair of group and label, and everything drawn from it: weights,
//! halves, shuffles, folds, and parts that the type system keeps apart. Independent of what groups and labels mean
//! and of what is measured.

use std::ops::Deref;

use anyhow::{Result, bail};

use super::draws::Draws;

/// How many times an unusable draw is repeated.
pub(super) const TRIES: u64 = 1000;

/// The fewest groups for which an interval is computed. n groups have C(2n - 1, n) different resamples: 35 for four
/// groups, so that a tail of 2.5 % is less than one resample; 126 for five.
pub const FEWEST: usize = 5;

/// The number of stories in each cell. Every resample, half and shuffle of the cells is drawn here from the seed,
/// each from its own random stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    labels: usize,
    /// `[group, label]`: number of stories.
    counts: Vec<f64>,
    grouped: String,
    /// `[group]`: the name of the topic or passage, if the group is a single one.
    topics: Vec<Option<String>>,
    seed: u64,
}

/// `[group]`: the weight of each group.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights(Vec<f32>);

impl Deref for Weights {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// A permutation of whole cells among the labels of each group.
#[derive(Clone, Debug, PartialEq)]
pub struct Shuffle {
    groups: usize,
    /// `[label, group]`: the label whose cell each label gets.
    from: Vec<u32>,
}

impl Shuffle {
    /// The label whose cell `label` gets in `group`.
    pub fn from(&self, label: usize, group: usize) -> usize {
        self.from[label * self.groups + group] as usize
    }

    /// For each label, `[group]`: the labels whose cells it gets.
    pub(super) fn by_label(&self) -> impl Iterator<Item = &[u32]> {
        self.from.chunks_exact(self.groups.max(1))
    }
}

impl Design {
    /// `counts`: `[group, label]`, number of stories. `grouped`: a description of the groups.
    pub fn new(labels: usize, counts: Vec<f64>, grouped: String, seed: u64) -> Design {
        let topics = vec![None; counts.len() / labels.max(1)];
        Design { labels, counts, grouped, topics, seed }
    }

    /// The same design with names for the groups that are a single topic or passage. Groups of stories without a
    /// topic and groups of several merged topics have none.
    pub fn named(self, topics: Vec<Option<String>>) -> Design {
        Design { topics, ..self }
    }

    pub fn groups(&self) -> usize {
        self.counts.len() / self.labels.max(1)
    }

    pub fn labels(&self) -> usize {
        self.labels
    }

    /// A description of the groups: `8 topics`.
    pub fn grouped(&self) -> &str {
        &self.grouped
    }

    /// `[group, label]`: number of stories.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// The number of stories in a cell.
    pub fn count(&self, group: usize, label: usize) -> f64 {
        self.counts[group * self.labels + label]
    }

    /// The fold of a group, out of `folds`: the group's number modulo `folds`. Groups are never split.
    pub fn fold(group: usize, folds: usize) -> usize {
        group % folds
    }

    /// Up to `most` groups, in ascending order, that are a single topic or passage and have a story of every label,
    /// so that all groups contain the same labels; a random selection where there are more. Empty where there are
    /// fewer than [`FEWEST`].
    pub fn topics(&self, most: usize) -> Vec<usize> {
        let whole = |&group: &usize| (0..self.labels).all(|label| self.count(group, label) > 0.0);
        let named = (0..self.groups()).filter(|&group| self.topics.get(group).is_some_and(Option::is_some));
        let mut topics: Vec<usize> = named.filter(whole).collect();
        if topics.len() < FEWEST {
            return Vec::new();
        }
        if topics.len() > most {
            Draws::new("topics as a control", &[self.seed]).shuffle(&mut topics);
            topics.truncate(most);
            topics.sort_unstable();
        }
        topics
    }

    /// The group's name; empty if it is not a single topic or passage.
    pub fn topic(&self, group: usize) -> &str {
        self.topics.get(group).and_then(Option::as_deref).unwrap_or_default()
    }

    /// Weight 1 for every group.
    pub fn every(&self) -> Weights {
        Weights(vec![1.0; self.groups()])
    }

    /// Counts every non-empty cell as one story: the design for means of the groups' means.
    pub fn evened(&self) -> Design {
        let counts = self.counts.iter().map(|&n| if n > 0.0 { 1.0 } else { 0.0 }).collect();
        Design { counts, ..self.clone() }
    }

    /// `[label]`: number of stories of each label, with groups weighted.
    pub fn stories(&self, weights: &Weights) -> Vec<f64> {
        let mut stories = vec![0.0; self.labels];
        for (group, &weight) in self.counts.chunks_exact(self.labels).zip(weights.iter()) {
            stories.iter_mut().zip(group).for_each(|(sum, n)| *sum += f64::from(weight) * n);
        }
        stories
    }

    /// `[label]`: number of stories of each label after shuffling, over the groups listed in `of`.
    pub fn stories_shuffled(&self, shuffle: &Shuffle, of: &[usize]) -> Vec<f64> {
        let count = |from: &[u32]| of.iter().map(|&g| self.count(g, from[g] as usize)).sum();
        shuffle.by_label().map(count).collect()
    }

    /// The number of resamples drawn for an interval out of `asked`: 0 for fewer than [`FEWEST`] groups.
    pub fn resamples(&self, asked: usize) -> usize {
        if self.groups() < FEWEST { 0 } else { asked }
    }

    /// How often each group is drawn when as many groups as there are get drawn with replacement, each with all its
    /// stories (the bootstrap over groups; Efron and Tibshirani 1993, chapter 8). A draw in which a label has no
    /// story is repeated.
    ///
    /// An error if a thousand draws fail.
    pub fn drawn(&self, number: usize) -> Result<Weights> {
        let groups = self.groups();
        for attempt in 0..TRIES {
            let mut draws = Draws::new("bootstrap over groups", &[self.seed, number as u64, attempt]);
            let mut weights = vec![0f32; groups];
            (0..groups).for_each(|_| weights[draws.below(groups)] += 1.0);
            if self.whole(&weights) {
                return Ok(Weights(weights));
            }
        }
        bail!("an emotion has stories in so few topics that resamples of the topics do not have it")
    }

    /// A random half of the groups and the other half; with an odd number of groups the first half is the smaller
    /// one. `None` where a thousand draws leave either half without some label.
    pub fn halves(&self, number: usize) -> Option<[Weights; 2]> {
        let groups = self.groups();
        (0..TRIES).find_map(|attempt| {
            let mut draws = Draws::new("half of the groups", &[self.seed, number as u64, attempt]);
            let mut half: Vec<f32> = (0..groups).map(|at| if at < groups / 2 { 1.0 } else { 0.0 }).collect();
            draws.shuffle(&mut half);
            let rest: Vec<f32> = half.iter().map(|w| 1.0 - w).collect();
            (self.whole(&half) && self.whole(&rest)).then_some([Weights(half), Weights(rest)])
        })
    }

    /// Whether every label has a story.
    pub(super) fn whole(&self, weights: &[f32]) -> bool {
        let has = |label: usize| (0..self.groups()).any(|g| weights[g] > 0.0 && self.count(g, label) > 0.0);
        (0..self.labels).all(has)
    }

    /// Shuffles labels within groups, among the cells that have stories. A group keeps its set of labels, so that
    /// effects of the group are the same for all labels.
    pub fn shuffle(&self, number: usize) -> Shuffle {
        let groups = self.groups();
        let mut draws = Draws::new("labels within groups", &[self.seed, number as u64]);
        let mut shuffle = self.unshuffled();
        for (group, counts) in self.counts.chunks_exact(self.labels.max(1)).enumerate() {
            let there: Vec<usize> = (0..self.labels).filter(|&label| counts[label] > 0.0).collect();
            let mut from = there.clone();
            draws.shuffle(&mut from);
            for (label, from) in there.into_iter().zip(from) {
                shuffle.from[label * groups + group] = from as u32;
            }
        }
        shuffle
    }

    /// The identity: every label gets its own cells.
    pub fn unshuffled(&self) -> Shuffle {
        let groups = self.groups();
        Shuffle { groups, from: (0..self.labels * groups).map(|at| (at / groups) as u32).collect() }
    }

    /// The seed of the experiment, from which everything is drawn.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn design(counts: &[f64], labels: usize, seed: u64) -> Design {
        Design::new(labels, counts.to_vec(), String::new(), seed)
    }

    pub fn weights(weights: &[f32]) -> Weights {
        Weights(weights.to_vec())
    }

    pub fn shuffle(from: &[u32], groups: usize) -> Shuffle {
        Shuffle { groups, from: from.to_vec() }
    }

    #[test]
    fn resamples_have_as_many_groups_and_every_label() {
        // Label 1 occurs only in the first group.
        let of = |seed| design(&[1.0, 1.0, 1.0, 0.0, 1.0, 0.0], 2, seed);
        for number in 0..50 {
            let weights = of(7).drawn(number).unwrap();
            assert_eq!(weights.iter().sum::<f32>(), 3.0);
            assert!(weights[0] > 0.0);
            assert_eq!(weights, of(7).drawn(number).unwrap());
        }
        let all = |seed| (0..9).map(|n| of(seed).drawn(n).unwrap()).collect::<Vec<_>>();
        assert_ne!(all(7), all(8));
        assert!(of(7).halves(0).is_none(), "one half lacks label 1");
        assert!(design(&[1.0, 0.0], 2, 7).drawn(0).is_err());
        let halves: Vec<_> = (0..20).map(|n| design(&[1.0; 5], 1, 7).halves(n).unwrap()).collect();
        assert!(halves.iter().all(|[half, _]| half.iter().sum::<f32>() == 2.0));
        assert!(halves.iter().all(|[half, rest]| half.iter().zip(rest.iter()).all(|(a, b)| a + b == 1.0)));
        assert!(halves.iter().any(|half| *half != halves[0]));
    }

    #[test]
    fn topics_are_groups_of_one_topic_with_every_label() {
        let names = |of: &[usize]| (0..7).map(|g| of.contains(&g).then(|| format!("t{g}"))).collect();
        let mut counts = vec![1.0; 14];
        let whole = design(&counts, 2, 3);
        assert!(whole.topics(30).is_empty(), "stories that stand alone are no topics");
        let named = whole.clone().named(names(&[0, 1, 2, 3, 4, 6]));
        assert_eq!((named.topics(30), named.topic(6), named.topic(5)), (vec![0, 1, 2, 3, 4, 6], "t6", ""));
        let drawn = named.topics(3);
        assert!(drawn.len() == 3 && drawn.is_sorted() && drawn == named.topics(3), "{drawn:?}");
        // Topic 2 lacks a label, topic 5 has no name.
        counts[5] = 0.0;
        assert_eq!(design(&counts, 2, 3).named(names(&[0, 1, 2, 3, 4, 6])).topics(30), [0, 1, 3, 4, 6]);
        assert!(
            design(&counts, 2, 3).named(names(&[0, 1, 2, 3, 4])).topics(30).is_empty(),
            "four are too few"
        );
    }

    #[test]
    fn few_groups_give_no_interval() {
        let of = |groups: usize| design(&vec![1.0; groups], 1, 0).resamples(1000);
        assert_eq!([of(2), of(4), of(5), of(100)], [0, 0, 1000, 1000]);
    }

    #[test]
    fn shuffles_stay_within_the_group_and_its_labels() {
        // Group 0 has labels 0, 1, 2; group 1 has 0 and 2.
        let design = design(&[1.0, 1.0, 1.0, 1.0, 0.0, 1.0], 3, 1);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..200 {
            let shuffle = design.shuffle(number);
            let of = |group: usize| (0..3).map(|label| shuffle.from(label, group)).collect::<Vec<_>>();
            assert_eq!(of(1)[1], 1, "the empty cell stays");
            let mut sorted = of(0);
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert((of(0), of(1)));
        }
        assert_eq!(seen.len(), 12, "six orders times two");
    }

    #[test]
    fn stories_of_weighted_groups_and_of_other_labels_by_hand() {
        let design = design(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 0);
        assert_eq!(design.stories(&weights(&[1.0, 0.0, 2.0])), [11.0, 14.0]);
        // Group 1 keeps its labels, groups 0 and 2 swap theirs.
        let order = shuffle(&[1, 0, 1, 0, 1, 0], 3);
        assert_eq!(design.stories_shuffled(&order, &[0, 1, 2]), [2.0 + 3.0 + 6.0, 1.0 + 4.0 + 5.0]);
    }
}
