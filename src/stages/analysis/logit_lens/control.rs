//! A control that is not an emotion: how far topics' vectors raise emotions' words. Does not depend on a model.

use super::super::{Places, VectorSet};
use crate::lm::Layer;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::p_value;
use crate::store::table::{Column, Table};

/// The number of random assignments of the words to the vectors of emotions and topics.
pub const DEALS: usize = 999;

/// The table of the control.
pub const TOPICS: &str = "lens_topics";

/// The rank of each emotion's word under each vector at one layer.
pub struct Ranks {
    words: usize,
    /// `[vector, word]`: the emotions' vectors, then those of topics.
    ranks: Vec<Vec<usize>>,
}

/// The ranks of emotions' words under their own vectors and under those of topics.
#[derive(Debug)]
pub struct Ahead {
    /// The share of pairs of an emotion and a topic in which the emotion's own vector ranks its word higher; ties
    /// count half.
    pub share: f64,
    /// The median rank of emotions' words under topics' vectors.
    pub median: f64,
    /// The probability of at least this share if words are assigned to the vectors of emotions and topics at random.
    pub p: f64,
}

impl Ranks {
    pub fn new(words: usize) -> Ranks {
        Ranks { words, ranks: Vec::new() }
    }

    /// Adds one vector's values over the vocabulary: the rank of each word, given by its first token, is 1 plus the
    /// number of tokens with larger values.
    pub fn push(&mut self, logits: &[f32], ids: &[usize]) {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by(|&a, &b| logits[ids[a]].total_cmp(&logits[ids[b]]));
        let sorted: Vec<f32> = order.iter().map(|&word| logits[ids[word]]).collect();
        // The number of tokens with exactly this many words below them.
        let mut above = vec![0; ids.len() + 1];
        logits.iter().for_each(|logit| above[sorted.partition_point(|value| value < logit)] += 1);
        let mut ranks = vec![0; ids.len()];
        let mut more = 1;
        for (place, word) in order.into_iter().enumerate().rev() {
            more += above[place + 1];
            ranks[word] = more;
        }
        self.ranks.push(ranks);
    }

    /// The share of pairs in which a word ranks higher under the vector that it is assigned to than under a topic's.
    /// `order`: the vector of each word; then those that count as topics'.
    fn share(&self, order: &[usize]) -> f64 {
        let (own, topics) = order.split_at(self.words);
        let mut ahead = 0.0;
        for (word, &vector) in own.iter().enumerate() {
            let rank = self.ranks[vector][word];
            for &topic in topics {
                let beside = self.ranks[topic][word];
                ahead += if rank < beside { 1.0 } else { f64::from(u8::from(rank == beside)) / 2.0 };
            }
        }
        ahead / (self.words * topics.len()) as f64
    }

    /// `None` without topics.
    pub fn ahead(&self, seed: u64) -> Option<Ahead> {
        let n = self.ranks.len();
        if n <= self.words {
            return None;
        }
        let share = self.share(&(0..n).collect::<Vec<_>>());
        let null =
            rounds(seed, "words dealt to emotions and topics", DEALS, |draws| self.share(&draws.shuffled(n)));
        let mut under: Vec<usize> = self.ranks[self.words..].concat();
        under.sort_unstable();
        let median = (under[(under.len() - 1) / 2] + under[under.len() / 2]) as f64 / 2.0;
        Some(Ahead { share, median, p: p_value(share, &null) })
    }
}

/// The columns of the table: one row per layer.
#[derive(Default)]
pub struct Rows {
    places: Places,
    topics: Vec<i32>,
    ahead: Vec<f64>,
    median: Vec<f64>,
    p: Vec<f64>,
}

impl Rows {
    pub fn push(&mut self, set: &VectorSet, layer: Layer, topics: usize, found: &Ahead) {
        self.places.push(set, layer);
        self.topics.push(topics as i32);
        self.ahead.push(found.share);
        self.median.push(found.median);
        self.p.push(found.p);
    }

    pub fn finish(self) -> Table {
        let columns = vec![
            ("topics", Column::I32(self.topics)),
            ("ahead", Column::F64(self.ahead)),
            ("topic_rank", Column::F64(self.median)),
            ("p", Column::F64(self.p)),
        ];
        self.places.table("lens_topics/1", columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::statistics::draws::Draws;

    #[test]
    fn ranks_and_shares_by_hand() {
        let mut ranks = Ranks::new(2);
        ranks.push(&[0.5, 2.0, -1.0, 2.0, 0.0], &[0, 2]);
        ranks.push(&[3.0, 2.0, 1.0, 1.0, 9.0], &[0, 2]);
        ranks.push(&[5.0, 2.0, 7.0, 2.0, 7.0], &[0, 2]);
        ranks.push(&[1.0, 2.0, -1.0, 2.0, 0.0], &[0, 2]);
        assert_eq!(ranks.ranks, [[3, 5], [2, 4], [3, 1], [3, 5]]);
        // Word 0 has rank 3 under its own vector and 3 under both topics: half each. Word 1 has 4, against 1 and 5.
        let found = ranks.ahead(1).unwrap();
        assert_eq!((found.share, found.median), ((0.5 + 0.5 + 0.0 + 1.0) / 4.0, 3.0));
        let mut none = Ranks::new(1);
        none.push(&[1.0, 2.0], &[0]);
        assert!(none.ahead(1).is_none());
    }

    /// Random vectors through a random unembedding; `planted` is the component of an emotion's vector along its own
    /// word.
    fn found(seed: u64, planted: f64) -> Ahead {
        const D: usize = 6;
        let mut draws = Draws::new("lens", &[seed]);
        let mut row = || (0..D).map(|_| draws.normal()).collect::<Vec<f64>>();
        let unembed: Vec<Vec<f64>> = (0..60).map(|_| row()).collect();
        let ids: Vec<usize> = (0..6).map(|word| 7 * word).collect();
        let mut both = [6, 8].map(|n| (0..n).map(|_| row()).collect::<Vec<_>>());
        for (vector, &id) in both[0].iter_mut().zip(&ids) {
            vector.iter_mut().zip(&unembed[id]).for_each(|(x, u)| *x += planted * u);
        }
        let mut ranks = Ranks::new(6);
        for vectors in both {
            // Minus their mean, as emotions' and topics' vectors are.
            let n = vectors.len() as f64;
            let mean = |at: usize| vectors.iter().map(|v| v[at]).sum::<f64>() / n;
            let mean: Vec<f64> = (0..D).map(mean).collect();
            for vector in &vectors {
                let logit = |u: &Vec<f64>| {
                    u.iter().zip(vector).zip(&mean).map(|((u, v), m)| u * (v - m)).sum::<f64>()
                };
                ranks.push(&unembed.iter().map(|u| logit(u) as f32).collect::<Vec<_>>(), &ids);
            }
        }
        ranks.ahead(seed).unwrap()
    }

    #[test]
    fn emotions_like_topics_are_ahead_one_time_in_twenty_and_planted_words_always() {
        let hits = (0..200).filter(|&seed| found(seed, 0.0).p <= 0.05).count();
        // scipy.stats.binom.ppf([.0005, .9995], 200, .05)
        assert!((2..=21).contains(&hits), "{hits} of 200");
        for seed in 0..10 {
            let found = found(seed, 3.0);
            assert!(found.share > 0.75 && found.p <= 0.01, "{found:?}");
        }
    }
}
