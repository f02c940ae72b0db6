//! The two largest eigenvalues of a symmetric matrix, which resampling asks for thousands of times. Knows nothing of what
//! the matrix is.

use anyhow::{Context, Result};
use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::draws::Draws;

/// Up to this size all eigenvalues are computed.
const SMALL: usize = 40;

/// An eigenvalue's residual may be this part of the largest eigenvalue: it is then as near to a true one.
const TOLERANCE: f64 = 1e-6;

/// Steps between two looks at the residuals.
const STEPS: usize = 20;

/// The largest two eigenvalues of `matrix`, which has no negative one, and their unit vectors. A matrix of one row has 0
/// as its second.
///
/// By Lanczos's method with full reorthogonalisation, twice (Golub and Van Loan, Matrix Computations, section 10.3), from
/// a start that is always the same. An eigenvalue that occurs twice may be missed: with numbers from data none does.
///
/// An error if a number is not finite.
pub fn top_two(matrix: &DMatrix<f64>) -> Result<[(f64, DVector<f64>); 2]> {
    let n = matrix.nrows();
    if n <= SMALL {
        return largest(matrix.clone(), &DMatrix::identity(n, n));
    }
    let mut draws = Draws::new("start of the iteration", &[n as u64]);
    let mut basis: Vec<DVector<f64>> = vec![DVector::from_fn(n, |_, _| draws.normal()).normalize()];
    let (mut alpha, mut beta) = (Vec::new(), Vec::<f64>::new());
    loop {
        let k = basis.len();
        let mut next = matrix * &basis[k - 1];
        alpha.push(next.dot(&basis[k - 1]));
        for _ in 0..2 {
            for v in &basis {
                let along = next.dot(v);
                next.axpy(-along, v, 1.0);
            }
        }
        let rest = next.norm();
        let scale = alpha.iter().fold(0.0f64, |m, a| m.max(a.abs()));
        let ends = k == n || rest <= 1e-14 * scale;
        if ends || k.is_multiple_of(STEPS) {
            let mut small = DMatrix::zeros(k, k);
            (0..k).for_each(|i| small[(i, i)] = alpha[i]);
            (0..k - 1).for_each(|i| (small[(i, i + 1)], small[(i + 1, i)]) = (beta[i], beta[i]));
            let found = largest(small, &DMatrix::identity(k, k))?;
            let near = |(_, v): &(f64, DVector<f64>)| rest * v[k - 1].abs() <= TOLERANCE * found[0].0;
            if ends || found.iter().all(near) {
                let whole = |v: &DVector<f64>| {
                    basis.iter().zip(v.iter()).fold(DVector::zeros(n), |sum, (b, c)| sum + b * *c)
                };
                return Ok(found.map(|(value, v)| (value, whole(&v))));
            }
        }
        beta.push(rest);
        basis.push(next / rest);
    }
}

/// The largest two of all eigenvalues; `identity` gives a matrix of one row its second vector.
fn largest(matrix: DMatrix<f64>, identity: &DMatrix<f64>) -> Result<[(f64, DVector<f64>); 2]> {
    const MAX_STEPS: usize = 100_000;
    let n = matrix.nrows();
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, MAX_STEPS)
        .context("the eigenvalues of a Gram matrix did not converge")?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]).then(a.cmp(&b)));
    let pair = |at: usize| match order.get(at) {
        Some(&at) => (eigen.eigenvalues[at], eigen.eigenvectors.column(at).into_owned()),
        None => (0.0, identity.column(0).into_owned()),
    };
    Ok([pair(0), pair(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_iteration_finds_what_the_whole_decomposition_finds() {
        // Spectra that fall and flat ones; Gram matrices of n rows in d dimensions.
        for (n, d, power) in [(60, 200, 0.0), (171, 300, 0.0), (171, 300, 1.0), (90, 20, 0.5), (41, 2, 0.0)] {
            let mut draws = Draws::new("spectrum", &[n as u64, d as u64]);
            let rows = DMatrix::from_fn(n, d, |_, at| draws.normal() / (1.0 + at as f64).powf(power));
            let gram = &rows * rows.transpose();
            let got = top_two(&gram).unwrap();
            let mut all: Vec<f64> = gram.clone().symmetric_eigenvalues().iter().copied().collect();
            all.sort_by(|a, b| b.total_cmp(a));
            for ((value, vector), want) in got.iter().zip(&all) {
                assert!((value - want).abs() < 1e-6 * all[0], "{n} {d} {power}: {value} is not {want}");
                assert!((vector.norm() - 1.0).abs() < 1e-9);
                assert!((&gram * vector - vector * *value).norm() < 1.1e-6 * all[0]);
            }
        }
    }

    #[test]
    fn small_matrices_by_hand() {
        let got = top_two(&DMatrix::from_row_slice(2, 2, &[2.0, 1.0, 1.0, 2.0])).unwrap();
        assert!((got[0].0 - 3.0).abs() < 1e-12 && (got[1].0 - 1.0).abs() < 1e-12);
        let got = top_two(&DMatrix::from_element(1, 1, 4.0)).unwrap();
        assert_eq!((got[0].0, got[1].0), (4.0, 0.0));
        let zero = top_two(&DMatrix::zeros(50, 50)).unwrap();
        assert_eq!((zero[0].0, zero[1].0), (0.0, 0.0));
    }
}
