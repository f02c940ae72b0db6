//! Cosines between emotion vectors, and the correlation of two lists of them. Independent of where the vectors come
//! from.

use nalgebra::DMatrix;
use rayon::prelude::*;

use crate::params::words;
use crate::stages::statistics::correlation::ranks;

words! {
    /// How two lists of cosines are compared.
    pub enum Correlation {
        Spearman = "spearman",
        Pearson = "pearson",
    }
}

impl Correlation {
    /// The values that Pearson's formula is applied to.
    pub fn values(self, cosines: &[f64]) -> Vec<f64> {
        match self {
            Correlation::Spearman => ranks(cosines),
            Correlation::Pearson => cosines.to_vec(),
        }
    }
}

/// The cosines between emotion vectors.
pub struct Cosines {
    n: usize,
    /// `[emotion, emotion]`
    values: Vec<f64>,
}

impl Cosines {
    /// From a Gram matrix; the cosines of a zero vector with others are 0.
    pub fn of(gram: &DMatrix<f64>) -> Cosines {
        let n = gram.nrows();
        let cosine = |i: usize, j: usize| {
            let norms = (gram[(i, i)] * gram[(j, j)]).sqrt();
            if norms > 0.0 { gram[(i, j)] / norms } else { 0.0 }
        };
        let values = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cosine(i, j)).collect();
        Cosines { n, values }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.n + j]
    }

    /// `[emotion, emotion]`: the Gram matrix of unit vectors with these cosines.
    #[cfg(test)]
    pub fn matrix(&self) -> DMatrix<f64> {
        DMatrix::from_fn(self.n, self.n, |i, j| if i == j { 1.0 } else { self.at(i, j) })
    }

    /// The pairs above the diagonal, row by row.
    pub fn triangle(&self) -> Vec<f64> {
        let n = self.n;
        (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(|(i, j)| self.at(i, j)).collect()
    }

    /// The correlation over the emotions of each of `draws`. NaN where the drawn emotions have fewer than two
    /// different cosines.
    ///
    /// A pair of emotions is weighted by how often both were drawn, and its rank among the drawn pairs follows from
    /// the order of the cosines, which is sorted once.
    pub fn over(&self, other: &Cosines, correlation: Correlation, draws: &[Vec<usize>]) -> Vec<f64> {
        let n = self.n;
        let sides = [self, other].map(|side| Sorted::new(side.triangle()));
        let of = |draw: &Vec<usize>| {
            let mut times = vec![0.0; n];
            draw.iter().for_each(|&emotion| times[emotion] += 1.0);
            let weights: Vec<f64> = (0..n)
                .flat_map(|i| (i + 1..n).map(move |j| (i, j)))
                .map(|(i, j)| times[i] * times[j])
                .collect();
            let [x, y] = sides.each_ref().map(|side| match correlation {
                Correlation::Spearman => side.ranks(&weights),
                Correlation::Pearson => side.values.clone(),
            });
            weighted(&x, &y, &weights)
        };
        draws.par_iter().map(of).collect()
    }
}

/// Values and their sorted order.
struct Sorted {
    values: Vec<f64>,
    order: Vec<usize>,
}

impl Sorted {
    fn new(values: Vec<f64>) -> Sorted {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
        Sorted { values, order }
    }

    /// The rank of each value when it is repeated as often as its weight says; equal values share their mean rank.
    fn ranks(&self, weights: &[f64]) -> Vec<f64> {
        let mut ranks = vec![0.0; self.values.len()];
        let mut before = 0.0;
        for equal in self.order.chunk_by(|&a, &b| self.values[a] == self.values[b]) {
            let here: f64 = equal.iter().map(|&at| weights[at]).sum();
            equal.iter().for_each(|&at| ranks[at] = before + (here + 1.0) / 2.0);
            before += here;
        }
        ranks
    }
}

/// Pearson's correlation of pairs of values, each repeated as often as its weight says.
fn weighted(x: &[f64], y: &[f64], weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let mean = |v: &[f64]| v.iter().zip(weights).map(|(v, w)| v * w).sum::<f64>() / total;
    let (mx, my) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy, mut squares) = (0.0, 0.0, 0.0, [0.0; 2]);
    for ((x, y), w) in x.iter().zip(y).zip(weights) {
        let (dx, dy) = (x - mx, y - my);
        xy += w * dx * dy;
        xx += w * dx * dx;
        yy += w * dy * dy;
        squares = [squares[0] + w * x * x, squares[1] + w * y * y];
    }
    // Differences from rounding alone count as constant, as in `correlation::of`.
    if xx > 1e-18 * squares[0] && yy > 1e-18 * squares[1] {
        (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0)
    } else {
        f64::NAN
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::chance::pearson;
    use super::*;
    use crate::stages::statistics::draws::rounds;

    /// Symmetric numbers that are not the cosines of any vectors, two of them equal.
    pub fn made_up(salt: usize) -> Cosines {
        let n = 5;
        let cell = |i: usize, j: usize| ((i * j * salt + 3 * (i + j)) % 11) as f64 / 11.0;
        let values = (0..n).flat_map(|i| (0..n).map(move |j| cell(i, j))).collect();
        Cosines { n, values }
    }

    #[test]
    fn a_draw_is_the_correlation_of_all_pairs_that_were_drawn() {
        let (a, b) = (made_up(3), made_up(7));
        let draws = rounds(1, "test", 20, |dice| dice.resampled(5));
        for correlation in [Correlation::Spearman, Correlation::Pearson] {
            for (draw, found) in draws.iter().zip(a.over(&b, correlation, &draws)) {
                let (mut x, mut y) = (Vec::new(), Vec::new());
                for (at, &i) in draw.iter().enumerate() {
                    for &j in draw[at + 1..].iter().filter(|&&j| j != i) {
                        x.push(a.at(i, j));
                        y.push(b.at(i, j));
                    }
                }
                let wanted = pearson(&correlation.values(&x), &correlation.values(&y));
                assert!(
                    (found - wanted).abs() < 1e-12 || found.is_nan() && wanted.is_nan(),
                    "{found} is not {wanted}"
                );
            }
        }
    }
}
