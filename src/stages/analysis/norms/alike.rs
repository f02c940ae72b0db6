//! Near-synonyms, whose ratings are shuffled together. Knows nothing of what is correlated.

use super::ratings::Rated;
use crate::stages::statistics::draws::Draws;

/// Of fewer words that people do not rate alike there is no p: five have 120 orders, and near-synonyms fewer.
const FEWEST_APART: usize = 6;

/// Words whose ratings are all this near, as a part of the ratings' range, are near-synonyms.
const NEAR: f64 = 0.05;

/// Which words are near-synonyms: people rate them alike, or their vectors are alike. Their ratings are shuffled together, since a
/// vector that knows one of them knows the others.
pub struct Alike {
    /// Of each rated emotion its block, counted from 0.
    pub of: Vec<usize>,
    pub blocks: usize,
}

impl Alike {
    /// Words that are near each other, or both near to others of their block. `same`: whether two have vectors that are alike.
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

    /// A random order of the blocks; `None` of too few, of which each of `controls` takes one more.
    pub fn order(&self, controls: usize, draws: &mut Draws) -> Option<Vec<usize>> {
        (self.blocks >= FEWEST_APART + controls).then(|| draws.shuffled(self.blocks))
    }

    /// The mean rating of each block, given to the words of another.
    pub fn shuffled(&self, ratings: &[f64], order: &[usize]) -> Vec<f64> {
        let (mut means, mut counts) = (vec![0.0; self.blocks], vec![0.0; self.blocks]);
        for (&block, rating) in self.of.iter().zip(ratings) {
            means[block] += rating;
            counts[block] += 1.0;
        }
        self.of.iter().map(|&block| means[order[block]] / counts[order[block]]).collect()
    }

    /// The mean rating of each block, given to its own words.
    pub fn together(&self, ratings: &[f64]) -> Vec<f64> {
        self.shuffled(ratings, &(0..self.blocks).collect::<Vec<_>>())
    }
}
