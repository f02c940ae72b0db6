//! The two largest eigenvalues of a symmetric matrix, which resampling needs thousands of times. Independent of what
//! the matrix contains.

use anyhow::{Context, Result, ensure};
use nalgebra::{DMatrix, DMatrixView, DVector, SymmetricEigen};

use super::draws::Draws;
use super::wide::wide;
use crate::stages::principal::{dot, norm};

const NOT_CONVERGED: &str = "the eigenvalues of a Gram matrix did not converge";

/// Up to this size all eigenvalues are computed.
const SMALL: usize = 40;

/// The largest accepted residual of an eigenvalue, relative to the largest eigenvalue: a true eigenvalue is at most
/// this far away.
const TOLERANCE: f64 = 1e-6;

/// Steps between two checks of the residuals.
const STEPS: usize = 20;

/// The two largest eigenvalues of `matrix`, which must be positive semidefinite, and their unit vectors. The second
/// eigenvalue of a 1 x 1 matrix is 0.
///
/// By Lanczos's method with full reorthogonalisation, twice (Golub and Van Loan, Matrix Computations, section 10.3),
/// from a fixed start. A repeated eigenvalue may be missed; none occurs in real data.
///
/// An error if a number is not finite.
pub fn top_two(matrix: &DMatrix<f64>) -> Result<[(f64, DVector<f64>); 2]> {
    let n = matrix.nrows();
    if n <= SMALL {
        return largest(matrix.clone(), &DMatrix::identity(n, n));
    }
    let mut draws = Draws::new("start of the iteration", &[n as u64]);
    let mut basis: Vec<f64> = DVector::from_fn(n, |_, _| draws.normal()).normalize().as_slice().to_vec();
    let (mut alpha, mut beta) = (Vec::new(), Vec::<f64>::new());
    loop {
        let k = basis.len() / n;
        let (had, next) = step(matrix.as_slice(), &basis, n);
        alpha.push(had);
        let rest = next.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = alpha.iter().fold(0.0f64, |m, a| m.max(a.abs()));
        let ends = k == n || rest <= 1e-14 * scale;
        if ends || k.is_multiple_of(STEPS) {
            let found = of_three_diagonals(&alpha, &beta);
            ensure!(found[0].0.is_finite(), NOT_CONVERGED);
            let near = |(_, v): &(f64, Vec<f64>)| rest * v[k - 1].abs() <= TOLERANCE * found[0].0;
            if ends || found.iter().all(near) {
                let basis = DMatrixView::from_slice(&basis, n, k);
                return Ok(found.map(|(value, v)| (value, basis * DVector::from_vec(v))));
            }
        }
        beta.push(rest);
        basis.extend(next.iter().map(|x| x / rest));
    }
}

wide! {
    /// The product of `matrix` (`[n, n]`, symmetric) with the last vector of `basis` (`[k, n]`), orthogonalised twice
    /// against the whole basis; and its component along that last vector.
    fn step(matrix: &[f64], basis: &[f64], n: usize) -> (f64, Vec<f64>) {
        let last = &basis[basis.len() - n..];
        let mut next = vec![0.0; n];
        add(&mut next, matrix, last);
        let had = products(&next, last)[0];
        for _ in 0..2 {
            for some in basis.chunks(n * TOGETHER) {
                let along = products(&next, some).map(|x| -x);
                add(&mut next, some, &along[..some.len() / n]);
            }
        }
        (had, next)
    }
}

/// Rows that are multiplied or added in one pass.
const TOGETHER: usize = 4;

/// The dot products of `x` with each of up to [`TOGETHER`] `rows`.
#[inline(always)]
fn products(x: &[f64], rows: &[f64]) -> [f64; TOGETHER] {
    const LANES: usize = 8;
    let n = x.len();
    let mut all = [0.0; TOGETHER];
    if rows.len() < n * TOGETHER {
        rows.chunks_exact(n).zip(&mut all).for_each(|(row, sum)| *sum = products_of::<1, LANES>(x, [row])[0]);
        return all;
    }
    products_of::<TOGETHER, LANES>(x, std::array::from_fn(|at| &rows[at * n..][..n]))
}

#[inline(always)]
fn products_of<const N: usize, const LANES: usize>(x: &[f64], rows: [&[f64]; N]) -> [f64; N] {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut sums = [[0.0; LANES]; N];
    for (at, x) in whole.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let row = &row[at * LANES..][..LANES];
            sums.iter_mut().zip(x.iter().zip(row)).for_each(|(sum, (x, y))| *sum += x * y);
        }
    }
    std::array::from_fn(|of| {
        let last = rest.iter().zip(&rows[of][whole.len() * LANES..]);
        sums[of].iter().sum::<f64>() + last.map(|(x, y)| x * y).sum::<f64>()
    })
}

/// Adds each of `rows`, multiplied by its entry of `times`, to `x`.
#[inline(always)]
fn add(x: &mut [f64], rows: &[f64], times: &[f64]) {
    let n = x.len();
    for (rows, times) in rows.chunks(n * TOGETHER).zip(times.chunks(TOGETHER)) {
        if let Ok(times) = <[f64; TOGETHER]>::try_from(times) {
            let rows: [&[f64]; TOGETHER] = std::array::from_fn(|at| &rows[at * n..][..n]);
            for (i, x) in x.iter_mut().enumerate() {
                *x += (rows[0][i] * times[0] + rows[1][i] * times[1])
                    + (rows[2][i] * times[2] + rows[3][i] * times[3]);
            }
        } else {
            for (row, times) in rows.chunks_exact(n).zip(times) {
                x.iter_mut().zip(row).for_each(|(x, y)| *x += times * y);
            }
        }
    }
}

/// The two largest eigenvalues of the symmetric tridiagonal matrix with diagonal `a` and off-diagonal `b`, and their
/// unit vectors: values by bisection on the count of larger eigenvalues, vectors from the meeting point of the
/// eliminations from both ends (Dhillon and Parlett 2004).
fn of_three_diagonals(a: &[f64], b: &[f64]) -> [(f64, Vec<f64>); 2] {
    let k = a.len();
    let beside = |i: usize| if i < k - 1 { b[i].abs() } else { 0.0 };
    let reach = |i: usize| a[i].abs() + beside(i) + if i > 0 { beside(i - 1) } else { 0.0 };
    let bound = (0..k).map(reach).fold(0.0, f64::max);
    let tiny = f64::EPSILON * f64::EPSILON * bound + f64::MIN_POSITIVE;
    let pivot = |x: f64| if x.abs() < tiny { -tiny } else { x };
    let value = |nth: usize| {
        let larger = |x: f64| {
            let mut at = pivot(a[0] - x);
            let mut count = usize::from(at > 0.0);
            for i in 1..k {
                at = pivot(a[i] - x - b[i - 1] * b[i - 1] / at);
                count += usize::from(at > 0.0);
            }
            count
        };
        let (mut low, mut high) = (-bound, bound);
        while high - low > 2.0 * f64::EPSILON * bound {
            let middle = low + (high - low) / 2.0;
            if larger(middle) > nth { low = middle } else { high = middle }
        }
        low + (high - low) / 2.0
    };
    let vector = |x: f64| {
        let (mut down, mut up) = (vec![pivot(a[0] - x); k], vec![pivot(a[k - 1] - x); k]);
        for i in 1..k {
            down[i] = pivot(a[i] - x - b[i - 1] * b[i - 1] / down[i - 1]);
            up[k - 1 - i] = pivot(a[k - 1 - i] - x - b[k - 1 - i] * b[k - 1 - i] / up[k - i]);
        }
        let gap = |i: &usize| (down[*i] + up[*i] - (a[*i] - x)).abs();
        let meet = (0..k).min_by(|i, j| gap(i).total_cmp(&gap(j))).unwrap_or_default();
        let mut v = vec![1.0; k];
        (0..meet).rev().for_each(|i| v[i] = -b[i] * v[i + 1] / down[i]);
        (meet + 1..k).for_each(|i| v[i] = -b[i - 1] * v[i - 1] / up[i]);
        v
    };
    let unit = |v: Vec<f64>| {
        let length = norm(&v);
        v.iter().map(|x| x / length).collect::<Vec<f64>>()
    };
    let largest = value(0);
    let first = unit(vector(largest));
    if k == 1 {
        return [(largest, first.clone()), (0.0, first)];
    }
    let next = value(1);
    let second = unit(vector(next));
    let along = dot(&first, &second); // only rounding, except for two nearly equal eigenvalues
    let second = unit(second.iter().zip(&first).map(|(x, y)| x - along * y).collect());
    [(largest, first), (next, second)]
}

/// The two largest eigenvalues by full decomposition; `identity` supplies the second vector of a 1 x 1 matrix.
fn largest(matrix: DMatrix<f64>, identity: &DMatrix<f64>) -> Result<[(f64, DVector<f64>); 2]> {
    const MAX_STEPS: usize = 100_000;
    let n = matrix.nrows();
    let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, MAX_STEPS).context(NOT_CONVERGED)?;
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
        // Decaying and flat spectra; Gram matrices of n rows in d dimensions.
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
