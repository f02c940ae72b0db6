//! The measures of one set of vectors, the experiment's own or a resample's, from their Gram matrix. Independent of
//! resampling.

use anyhow::{Result, ensure};
use nalgebra::{DMatrix, DVector};

use crate::stages::statistics::correlation::pearson;
use crate::stages::statistics::spectrum::top_two;

/// The measures of one set of vectors.
#[derive(Clone, Debug)]
pub struct Measures {
    /// The variance among the vectors: the mean squared distance from their mean.
    pub variance: f64,
    /// The shares of the variance among the vectors that the first two components explain.
    pub shares: [f64; 2],
    /// `|r(PC1, norm)|` over emotions.
    pub norm: f64,
    /// `r(score, mean length of the stories)` over emotions, for the first two components.
    pub lengths: [f64; 2],
    /// The mean cosine of two emotions of one family, and of two families; `None` if there is no such pair.
    pub within: Option<f64>,
    pub between: Option<f64>,
    /// Above the diagonal, row-major.
    pub cosines: Vec<f32>,
}

/// Data that are the same for all resamples.
pub struct Frame {
    /// For each emotion, its family.
    pub families: Vec<Option<usize>>,
    pub normalize: bool,
    /// The signs of components are chosen so that scores correlate positively with these.
    pub signs: Option<[DVector<f64>; 2]>,
}

impl Frame {
    /// The measures of vectors with this Gram matrix. `centred`: that of the same vectors minus their mean. `lengths`:
    /// for each emotion, the mean length of its stories.
    ///
    /// An error if all vectors are equal, or if one is zero.
    pub fn measure(&self, gram: DMatrix<f64>, centred: DMatrix<f64>, lengths: &[f64]) -> Result<Measures> {
        let n = gram.nrows();
        let norms: Vec<f64> = (0..n).map(|i| gram[(i, i)].max(0.0).sqrt()).collect();
        ensure!(norms.iter().all(|&norm| norm > 0.0), "a vector is zero: it has no cosine");
        let cosine = DMatrix::from_fn(n, n, |i, j| gram[(i, j)] / (norms[i] * norms[j]));
        let (centred, norms) = match self.normalize {
            true => (double_centred(&cosine), vec![1.0; n]),
            false => (centred, norms),
        };
        let total = centred.trace();
        ensure!(total > 0.0, "all vectors are equal");
        let found = top_two(&centred)?;
        let shares = [found[0].0 / total, (found[1].0 / total).max(0.0)];
        let mut scores = found.map(|(_, vector)| vector);
        if let Some(signs) = &self.signs {
            for (score, sign) in scores.iter_mut().zip(signs).filter(|(score, sign)| score.dot(sign) < 0.0) {
                *score = -&*score;
                debug_assert!(score.dot(sign) > 0.0);
            }
        }
        let (mut within, mut between) = (Mean::default(), Mean::default());
        let mut cosines = Vec::with_capacity(n * (n - 1) / 2);
        for (i, j) in pairs(n) {
            cosines.push(cosine[(i, j)] as f32);
            if let (Some(a), Some(b)) = (self.families[i], self.families[j]) {
                if a == b { &mut within } else { &mut between }.add(cosine[(i, j)]);
            }
        }
        Ok(Measures {
            variance: total / n as f64,
            shares,
            norm: pearson(scores[0].as_slice(), &norms).abs(),
            lengths: [0, 1].map(|at| pearson(scores[at].as_slice(), lengths)),
            within: within.value(),
            between: between.value(),
            cosines,
        })
    }
}

impl Measures {
    /// The mean cosine within families minus that between them.
    pub fn gap(&self) -> Option<f64> {
        Some(self.within? - self.between?)
    }
}

/// All pairs of `n`, the smaller index first.
pub fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i + 1..n).map(move |j| (i, j)))
}

/// `H G H` with `H = I - 1/n`: the Gram matrix of the same vectors minus their mean.
pub fn double_centred(gram: &DMatrix<f64>) -> DMatrix<f64> {
    let n = gram.nrows();
    let rows: Vec<f64> = gram.row_iter().map(|row| row.sum() / n as f64).collect();
    let all = rows.iter().sum::<f64>() / n as f64;
    DMatrix::from_fn(n, n, |i, j| gram[(i, j)] - rows[i] - rows[j] + all)
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, x: f64) {
        self.sum += x;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
