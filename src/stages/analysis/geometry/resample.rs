//! The measures of a layer's vectors under resampling: bootstraps over groups, labels shuffled within groups, halves.
//! Independent of the tables.

use anyhow::Result;
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use super::gather::{Gathered, correlation};
use super::measures::{Frame, Measures, double_centred};
use crate::stages::analysis::{LayerVectors, Progress};
use crate::stages::principal::dot;
use crate::stages::statistics::cells::gram;
use crate::stages::statistics::design::Weights;
use crate::stages::vectors::Center;

/// Resamples computed together: they need 180 MB for 171 emotions of 2,048 dimensions, whatever the number of threads.
const BATCH: usize = 128;

/// The number of rounds of each kind.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub resamples: usize,
    pub permutations: usize,
    pub halves: usize,
}

/// A layer, ready to be resampled.
pub struct Resampler<'a> {
    pub gathered: &'a Gathered,
    pub frame: Frame,
    pub center: Center,
}

/// The measures of one bootstrap resample, and `r(score, length)` over its stories.
pub struct Resample {
    pub measures: Measures,
    pub stories: [f64; 2],
}

/// All results of resampling.
pub struct Resampled {
    pub bootstrap: Vec<Resample>,
    /// Under shuffled labels.
    pub shuffled: Vec<Measures>,
    /// For each pair of halves, the cosine between the two vectors of each emotion.
    pub halves: Vec<Vec<f64>>,
}

/// The measures of the vectors themselves, in float64.
pub fn estimate(frame: &Frame, vectors: &LayerVectors, lengths: &[f64]) -> Result<Measures> {
    let (n, d) = (vectors.emotions.len(), vectors.d_model);
    let row = |i: usize| &vectors.vectors[i * d..(i + 1) * d];
    let mut gram = DMatrix::zeros(n, n);
    for (i, j) in (0..n).flat_map(|i| (i..n).map(move |j| (i, j))) {
        let product = dot(row(i), row(j));
        (gram[(i, j)], gram[(j, i)]) = (product, product);
    }
    let centred = double_centred(&gram);
    frame.measure(gram, centred, lengths)
}

impl Resampler<'_> {
    /// Runs all rounds. `progress` is called for each.
    pub fn run(&self, rounds: Rounds, progress: &mut Progress) -> Result<Resampled> {
        let all = rounds.resamples + rounds.permutations + rounds.halves;
        let mut done = 0;
        let mut at = |more: usize| {
            done += more;
            progress(done, all);
        };
        let mut found = Resampled { bootstrap: Vec::new(), shuffled: Vec::new(), halves: Vec::new() };
        for batch in batches(rounds.resamples, BATCH) {
            at(batch.len());
            found.bootstrap.extend(self.bootstrap(batch)?);
        }
        for batch in batches(rounds.permutations, BATCH) {
            at(batch.len());
            found.shuffled.extend(self.shuffled(batch)?);
        }
        for batch in batches(rounds.halves, BATCH / 2) {
            at(batch.len());
            found.halves.extend(self.halves(batch));
        }
        Ok(found)
    }

    fn bootstrap(&self, numbers: Vec<usize>) -> Result<Vec<Resample>> {
        let Gathered { design, cells, tokens, moments, .. } = self.gathered;
        let weights = numbers.into_iter().map(|number| design.drawn(number));
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let sums = cells.weighted(&weights);
        let measured = weights.par_iter().enumerate().map_init(Vec::new, |rows, (at, weights)| {
            let stories = design.stories(weights);
            let mut lengths = vec![0.0; design.labels()];
            for (group, &weight) in tokens.chunks_exact(design.labels()).zip(weights.iter()) {
                lengths.iter_mut().zip(group).for_each(|(sum, x)| *sum += f64::from(weight) * x);
            }
            lengths.iter_mut().zip(&stories).for_each(|(sum, n)| *sum /= n);
            let mean = sums.centred(at, &stories, rows);
            let measures = self.measure(rows, &mean, &lengths)?;
            let of = |direction: usize| {
                let mut sum = [0.0; 6];
                for (group, &weight) in moments.iter().zip(weights.iter()) {
                    let terms = group[direction].iter();
                    sum.iter_mut().zip(terms).for_each(|(sum, x)| *sum += f64::from(weight) * x);
                }
                correlation(sum)
            };
            Ok(Resample { measures, stories: [of(0), of(1)] })
        });
        measured.collect()
    }

    fn shuffled(&self, numbers: Vec<usize>) -> Result<Vec<Measures>> {
        let Gathered { design, cells, .. } = self.gathered;
        let all: Vec<usize> = (0..design.groups()).collect();
        let shuffles: Vec<_> = numbers.into_par_iter().map(|number| design.shuffle(number)).collect();
        let sums = cells.shuffled(&shuffles, &all);
        let measured = shuffles.par_iter().enumerate().map_init(Vec::new, |rows, (at, shuffle)| {
            let stories = design.stories_shuffled(shuffle, &all);
            let mean = sums.centred(at, &stories, rows);
            let measures = self.measure(rows, &mean, &vec![0.0; design.labels()])?;
            Ok(Measures { cosines: Vec::new(), ..measures })
        });
        measured.collect()
    }

    fn halves(&self, numbers: Vec<usize>) -> Vec<Vec<f64>> {
        let Gathered { design, cells, .. } = self.gathered;
        let halves = numbers.into_iter().filter_map(|number| design.halves(number));
        let weights: Vec<Weights> = halves.flat_map(|[half, rest]| [rest, half]).collect();
        let sums = cells.weighted(&weights);
        let (n, d) = (design.labels(), cells.d());
        let both = weights.par_chunks_exact(2).enumerate().map(|(at, pair)| {
            let of = |side: usize| {
                let mut rows = Vec::new();
                let mean = sums.centred(2 * at + side, &design.stories(&pair[side]), &mut rows);
                if self.center == Center::None {
                    let back: Vec<f64> = mean.iter().zip(&self.gathered.offset).map(|(m, o)| m + o).collect();
                    for row in rows.chunks_exact_mut(d) {
                        row.iter_mut().zip(&back).for_each(|(x, y)| *x += *y as f32);
                    }
                }
                rows
            };
            let (a, b) = (of(0), of(1));
            let cosine = |label: usize| {
                let row =
                    |rows: &[f32]| rows[label * d..][..d].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
                let (a, b) = (row(&a), row(&b));
                let norms = (dot(&a, &a) * dot(&b, &b)).sqrt();
                if norms > 0.0 { dot(&a, &b) / norms } else { 0.0 }
            };
            (0..n).map(cosine).collect()
        });
        both.collect()
    }

    /// The measures of vectors: `rows` (`[label, d]`) are the vectors minus their `mean`.
    fn measure(&self, rows: &[f32], mean: &[f64], lengths: &[f64]) -> Result<Measures> {
        let (n, d) = (lengths.len(), self.gathered.cells.d());
        let centred = gram(rows, n);
        let whole = match self.center {
            Center::Emotions => centred.clone(),
            Center::None => {
                // Each vector is its row plus `back`, which is the same for all.
                let back: Vec<f64> = mean.iter().zip(&self.gathered.offset).map(|(m, o)| m + o).collect();
                let along = rows
                    .chunks_exact(d)
                    .map(|row| row.iter().zip(&back).map(|(x, y)| f64::from(*x) * y).sum::<f64>());
                let along = DVector::from_iterator(n, along);
                let square = dot(&back, &back);
                DMatrix::from_fn(n, n, |i, j| centred[(i, j)] + along[i] + along[j] + square)
            }
        };
        self.frame.measure(whole, centred, lengths)
    }
}

/// The numbers below `all`, `size` at a time.
fn batches(all: usize, size: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..all).step_by(size).map(move |first| (first..all.min(first + size)).collect())
}
