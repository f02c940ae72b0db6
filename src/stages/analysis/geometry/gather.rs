//! Reads one layer of activations once and reduces it to what resampling needs. Independent of what is measured.

use anyhow::{Result, ensure};

use super::super::{Activations, LayerVectors};
use super::control::Control;
use crate::stages::principal::dot;
use crate::stages::read;
use crate::stages::statistics::Design;
use crate::stages::statistics::cells::Cells;
use crate::stages::statistics::sums::Sums;
use crate::stages::vectors::{self, Equal};

/// The reduced data of one layer.
pub struct Gathered {
    pub design: Design,
    /// Sums of the stories minus `offset`, denoised like the vectors.
    pub cells: Cells,
    /// `[group, emotion]`: total tokens of the stories.
    pub tokens: Vec<f64>,
    /// `[d]`: the mean over all stories, denoised.
    pub offset: Vec<f64>,
    /// The topics' own vectors, which are not emotions; `None` if there are too few.
    pub control: Option<Control>,
    /// `[group]`: for each direction, the moments of scores and lengths.
    pub moments: Vec<[Moments; 2]>,
}

/// Sums over stories of a score x and a length y: n, x, y, xx, yy, xy.
pub type Moments = [f64; 6];

/// Pearson's correlation from these sums.
pub fn correlation([n, x, y, xx, yy, xy]: Moments) -> f64 {
    let (vx, vy) = (xx - x * x / n, yy - y * y / n);
    if vx > 1e-12 * xx && vy > 1e-12 * yy { (xy - x * y / n) / (vx * vy).sqrt() } else { 0.0 }
}

/// Reads the layer of `vectors`. `directions`: those on which the stories are scored.
///
/// An error if there are fewer than two groups of stories, or if the tables do not match.
pub fn gather(
    activations: &Activations,
    vectors: &LayerVectors,
    directions: [&[f64]; 2],
    seed: u64,
) -> Result<Gathered> {
    let (n, d) = (vectors.emotions.len(), vectors.d_model);
    let mut sums = Sums::new(n);
    let (mut tokens, mut moments) = (Vec::new(), Vec::<[Moments; 2]>::new());
    // Scores are relative to the first story's, so that their squares do not lose digits.
    let mut first: Option<[f64; 2]> = None;
    let design = read::each(activations.shards(), &vectors.emotions, seed, &|_| true, &mut |row| {
        ensure!(row.values.len() == d, "activations of another width than the vectors");
        while moments.len() <= row.group {
            tokens.extend(std::iter::repeat_n(0.0, n));
            moments.push([[0.0; 6]; 2]);
        }
        let values: Vec<f64> = row.wide().collect();
        sums.add(row.group, row.emotion, d, values.iter().copied())?;
        tokens[row.group * n + row.emotion] += row.tokens;
        let scores = directions.map(|u| dot(u, &values));
        let origin = *first.get_or_insert(scores);
        for (at, of) in moments[row.group].iter_mut().enumerate() {
            let (x, y) = (scores[at] - origin[at], row.tokens);
            of.iter_mut().zip([1.0, x, y, x * x, y * y, x * y]).for_each(|(sum, term)| *sum += term);
        }
        Ok(())
    })?;
    ensure!(
        design.groups() >= 2,
        "resampling needs stories of at least two topics or passages at layer {}: there is one",
        vectors.layer
    );
    let design = match activations.params.weights {
        Equal::Stories => design,
        Equal::Topics => {
            sums.even(&design);
            tokens.iter_mut().zip(design.counts()).for_each(|(sum, count)| *sum /= count.max(1.0));
            design.evened()
        }
    };
    let mut offset = sums.mean(&design);
    let removed = vectors::removed(activations.params, activations.neutral, vectors.layer.number(), d)?;
    sums.shift(&design, &offset, |row| vectors::project_out(row, &removed));
    vectors::project_out(&mut offset, &removed);
    let control = Control::of(&sums, &design);
    Ok(Gathered { cells: sums.cells(), design, tokens, offset, control, moments })
}
