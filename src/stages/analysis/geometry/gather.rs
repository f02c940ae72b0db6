//! One layer of activations, read once, as what resampling needs of it. Knows nothing of what is measured.

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;

use super::super::groups::{self, MOST};
use super::super::{Activations, LayerVectors};
use crate::stages::principal::dot;
use crate::stages::statistics::cells::Cells;
use crate::stages::vectors;

/// What is kept of one layer.
pub struct Gathered {
    /// Sums of the stories less `offset`, denoised as the vectors are.
    pub cells: Cells,
    /// `[group, emotion]`: sums of the stories' tokens.
    pub tokens: Vec<f64>,
    /// `[d]`: the mean over all stories, denoised.
    pub offset: Vec<f64>,
    /// `[group]`: of each direction the moments of scores and lengths.
    pub moments: Vec<[Moments; 2]>,
    /// What the groups are, in words.
    pub grouped: String,
}

/// Sums over stories of a score x and a length y: n, x, y, xx, yy, xy.
pub type Moments = [f64; 6];

/// Pearson's correlation of sums.
pub fn correlation([n, x, y, xx, yy, xy]: Moments) -> f64 {
    let (vx, vy) = (xx - x * x / n, yy - y * y / n);
    if vx > 1e-12 * xx && vy > 1e-12 * yy { (xy - x * y / n) / (vx * vy).sqrt() } else { 0.0 }
}

/// Reads the layer of `vectors`. `directions`: those along which the scores of stories are taken.
///
/// An error if there are fewer than two groups of stories, or if the tables do not belong together.
pub fn gather(
    activations: &Activations,
    vectors: &LayerVectors,
    directions: [&[f64]; 2],
) -> Result<Gathered> {
    let (n, d) = (vectors.emotions.len(), vectors.d_model);
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let (mut counts, mut tokens, mut moments) = (Vec::new(), Vec::new(), Vec::<[Moments; 2]>::new());
    // Scores are counted from the first story's, so that their squares lose no digits.
    let mut first: Option<[f64; 2]> = None;
    let grouped = groups::each(activations, &vectors.emotions, &mut |row| {
        ensure!(row.values.len() == d, "activations of another width than the vectors");
        while sums.len() <= row.group {
            sums.push(vec![0.0; n * d]);
            counts.extend(std::iter::repeat_n(0.0, n));
            tokens.extend(std::iter::repeat_n(0.0, n));
            moments.push([[0.0; 6]; 2]);
        }
        let values: Vec<f64> = row.values.iter().map(|&x| f64::from(x)).collect();
        let sum = &mut sums[row.group][row.emotion * d..][..d];
        sum.iter_mut().zip(&values).for_each(|(sum, x)| *sum += x);
        counts[row.group * n + row.emotion] += 1.0;
        tokens[row.group * n + row.emotion] += row.tokens;
        let scores = directions.map(|u| dot(u, &values));
        let origin = *first.get_or_insert(scores);
        for (at, of) in moments[row.group].iter_mut().enumerate() {
            let (x, y) = (scores[at] - origin[at], row.tokens);
            of.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]).for_each(|(sum, term)| *sum += term);
        }
        Ok(())
    })?;
    if sums.len() < 2 {
        bail!(
            "resampling needs stories of at least two topics or passages at layer {}: there is one",
            vectors.layer
        );
    }
    debug_assert!(sums.len() <= MOST);
    let stories: f64 = counts.iter().sum();
    let mut offset = vec![0.0; d];
    for row in sums.iter().flat_map(|group| group.chunks_exact(d)) {
        offset.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / stories);
    }
    let removed = vectors::removed(activations.params, activations.neutral, vectors.layer.number(), d)?;
    sums.par_iter_mut().zip(counts.par_chunks_exact(n)).for_each(|(group, counts)| {
        for (row, count) in group.chunks_exact_mut(d).zip(counts) {
            row.iter_mut().zip(&offset).for_each(|(x, mean)| *x -= count * mean);
            vectors::project_out(row, &removed);
        }
    });
    vectors::project_out(&mut offset, &removed);
    Ok(Gathered { cells: Cells::new(n, d, counts, &sums), tokens, offset, moments, grouped })
}
