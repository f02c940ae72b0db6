//! Near-synonyms, whose ratings are shuffled together. Independent of what is correlated.

use super::ratings::Rated;
use crate::stages::statistics::draws::Draws;

/// The minimum number of blocks for a p-value: five have only 120 orders.
const FEWEST_APART: usize = 6;

/// Words whose ratings all differ by at most this fraction of the ratings' range are near-synonyms.
const NEAR: f64 = 0.05;

/// Blocks of near-synonyms: people rate them alike, or their vectors are similar. Their ratings are shuffled together,
/// because a vector that predicts the rating of one of them also predicts the others.
pub struct Alike {
    /// For each rated emotion, the index of its block.
    pub of: Vec<usize>,
    pub blocks: usize,
}

impl Alike {
    /// Two words are in one block if they are near each other, directly or through a chain of other words. `same`:
    /// whether the vectors of two words are similar.
    pub fn of(rated: &[Rated], same: impl Fn(usize, usize) -> bool) -> Alike {
        let range = |at: usize| {
            let values: Vec<f64> = rated.iter().filter_map(|r| r.ratings[at]).collect();
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            most - values.iter().copied().fold(f64::INFINITY, f64::min)
        };
        let ranges = [range(0), range(1)];
        let near = |a: &Rated, b: &Rated| {
            (0..2).all(|at| match (a.ratings[at], b.ratings[at]) {
                (Some(x), Some(y)) => (x - y).abs() <= NEAR * ranges[at],
                _ => false,
            })
        };
        let mut of: Vec<usize> = (0..rated.len()).collect();
        for (i, j) in (0..rated.len()).flat_map(|i| (i + 1..rated.len()).map(move |j| (i, j))) {
            if near(&rated[i], &rated[j]) || same(i, j) {
                let (keep, lose) = (of[i].min(of[j]), of[i].max(of[j]));
                of.iter_mut().filter(|block| **block == lose).for_each(|block| *block = keep);
            }
        }
        let mut names = of.clone();
        names.sort_unstable();
        names.dedup();
        for block in &mut of {
            *block = names.binary_search(block).unwrap_or_default();
        }
        Alike { blocks: names.len(), of }
    }

    /// A random order of the blocks; `None` if there are too few; each of `controls` requires one more block.
    pub fn order(&self, controls: usize, draws: &mut Draws) -> Option<Vec<usize>> {
        (self.blocks >= FEWEST_APART + controls).then(|| draws.shuffled(self.blocks))
    }

    /// The mean rating of each block, assigned to the words of another block.
    pub fn shuffled(&self, ratings: &[f64], order: &[usize]) -> Vec<f64> {
        let (mut means, mut counts) = (vec![0.0; self.blocks], vec![0.0; self.blocks]);
        for (&block, rating) in self.of.iter().zip(ratings) {
            means[block] += rating;
            counts[block] += 1.0;
        }
        self.of.iter().map(|&block| means[order[block]] / counts[order[block]]).collect()
    }

    /// The mean rating of each block, assigned to its own words.
    pub fn together(&self, ratings: &[f64]) -> Vec<f64> {
        self.shuffled(ratings, &(0..self.blocks).collect::<Vec<_>>())
    }
}
