//! Principal components in float64, deterministic: sorted, with fixed signs. Independent of what the rows
//! represent.

use anyhow::{Result, bail};
use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};

/// The principal components of a matrix of rows.
pub struct Components {
    /// `[d]`: the mean row.
    pub mean: Vec<f64>,
    /// `[k]`: the fraction of the total variance that each component explains, descending.
    pub ratios: Vec<f64>,
    /// `[k, d]`: unit directions; the entry of largest magnitude in each is positive.
    pub directions: Vec<f64>,
}

/// Variances below this fraction of the largest are rounding noise; their directions are meaningless.
const NOISE: f64 = 1e-12;

/// Iteration limit of the eigenvalue solver; it needs about two iterations per row.
const MAX_STEPS: usize = 100_000;

/// All principal components of `rows` (`[n, d]`, row-major) above rounding noise: at most `min(n - 1, d)`. Rows
/// are centred on their mean; the components are computed from the smaller of the two Gram matrices.
///
/// An error if there are fewer than two rows, if an entry is not finite, or if all rows are equal.
pub fn components(rows: &[f64], d: usize) -> Result<Components> {
    let n = rows.len() / d.max(1);
    if n < 2 {
        bail!("principal components need at least two rows, there is {n}");
    }
    if rows.iter().any(|x| !x.is_finite()) {
        bail!("principal components of rows with NaN or Inf");
    }
    // A column of this (column-major) matrix is one of our rows.
    let mut centred: DMatrix<f64> = DMatrixView::from_slice(rows, d, n).into_owned();
    let mean = centred.column_mean();
    centred.column_iter_mut().for_each(|mut column| column -= &mean);
    let total = centred.norm_squared();
    let gram = if n <= d { centred.tr_mul(&centred) } else { &centred * centred.transpose() };
    let Some(eigen) = SymmetricEigen::try_new(gram, f64::EPSILON, MAX_STEPS) else {
        bail!("the eigenvalues of {n} rows of {d} did not converge");
    };
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    let largest = eigen.eigenvalues[order[0]];
    let (mut ratios, mut directions) = (Vec::new(), Vec::new());
    for index in order.into_iter().take((n - 1).min(d)) {
        let value = eigen.eigenvalues[index];
        if value <= NOISE * largest {
            break;
        }
        let vector = eigen.eigenvectors.column(index);
        let direction = if n <= d { &centred * vector } else { vector.into_owned() };
        let direction = direction.normalize();
        let sign = direction.iter().fold(0.0f64, |m, &x| if x.abs() > m.abs() { x } else { m }).signum();
        ratios.push(value / total);
        directions.extend(direction.iter().map(|x| sign * x));
    }
    if ratios.is_empty() {
        bail!("principal components of rows that are all equal");
    }
    Ok(Components { mean: mean.as_slice().to_vec(), ratios, directions })
}

/// The dot product in float64.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean norm.
pub fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

/// The cosine of two vectors; 0 if either is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let lengths = norm(a) * norm(b);
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-12, "{got:?} is not {want:?}");
        }
    }

    #[test]
    fn an_ellipse_by_hand() {
        // Around (1, 2): +-(3, 4) and +-(-0.8, 0.6): variances 50 and 2, axes (.6, .8) and (-.8, .6) with the
        // entry of largest magnitude made positive.
        let rows = [4.0, 6.0, -2.0, -2.0, 0.2, 2.6, 1.8, 1.4];
        let c = components(&rows, 2).unwrap();
        close(&c.mean, &[1.0, 2.0]);
        close(&c.ratios, &[50.0 / 52.0, 2.0 / 52.0]);
        close(&c.directions, &[0.6, 0.8, 0.8, -0.6]);
    }

    #[test]
    fn both_gram_matrices_agree() {
        // The same two points in three dimensions (n < d), and three times over (n > d).
        let (a, b) = ([1.0, 0.0, 2.0], [3.0, 0.0, -2.0]);
        let few = components(&[a, b].concat(), 3).unwrap();
        let many = components(&[a, b, a, b, a, b].concat(), 3).unwrap();
        let axis = [-1.0 / 5f64.sqrt(), 0.0, 2.0 / 5f64.sqrt()];
        close(&few.ratios, &[1.0]);
        close(&few.directions, &axis);
        close(&many.ratios, &[1.0]);
        close(&many.directions, &axis);
    }

    #[test]
    fn what_has_no_components_is_refused() {
        assert!(components(&[1.0, 2.0], 2).is_err());
        assert!(components(&[1.0, 2.0, 1.0, 2.0], 2).is_err());
        assert!(components(&[1.0, f64::NAN, 1.0, 2.0], 2).is_err());
    }
}
