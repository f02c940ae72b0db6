//! How well vectors fit ratings: the plane of two components aligned with two ratings, and ratings predicted from
//! whole vectors. Independent of the words.

use anyhow::{Context, Result};
use nalgebra::{DMatrix, DVector, Matrix2, SymmetricEigen};

/// A plane aligned with another.
pub struct Turned {
    /// The share of the ratings' variance explained by the aligned plane: 1 - the disparity of SciPy's `procrustes`.
    pub r2: f64,
    /// The position of each point after rotation and scaling, relative to the centroid of the ratings.
    pub places: Vec<[f64; 2]>,
}

/// Rotates (or reflects) and scales `from` to the best fit to `onto`: orthogonal Procrustes (Gower 1975; Schönemann
/// 1966). `None` if one of them does not vary.
pub fn turn(from: &[[f64; 2]], onto: &[[f64; 2]]) -> Option<Turned> {
    let (a, b) = (centred(from), centred(onto));
    let square = |rows: &[[f64; 2]]| rows.iter().map(|[x, y]| x * x + y * y).sum::<f64>();
    let (size_a, size_b) = (square(&a), square(&b));
    if size_a <= 0.0 || size_b <= 0.0 {
        return None;
    }
    let mut cross = Matrix2::<f64>::zeros();
    for (a, b) in a.iter().zip(&b) {
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            cross[(i, j)] += a[i] * b[j];
        }
    }
    let svd = cross.svd(true, true);
    let turn = svd.u? * svd.v_t?;
    let nuclear = svd.singular_values.sum();
    let scale = nuclear / size_a;
    let place = |[x, y]: &[f64; 2]| [0, 1].map(|j| scale * (x * turn[(0, j)] + y * turn[(1, j)]));
    Some(Turned { r2: nuclear * nuclear / (size_a * size_b), places: a.iter().map(place).collect() })
}

fn centred(rows: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let n = rows.len() as f64;
    let mean = [0, 1].map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n);
    rows.iter().map(|row| [row[0] - mean[0], row[1] - mean[1]]).collect()
}

/// Leave-one-out predictions of ridge regressions with an intercept, in closed form: with `S = 1/n + K (K + a I)^-1`,
/// K the Gram matrix of the rows minus their mean and a = `penalty` times its mean diagonal, the prediction that
/// leaves row i out is `y_i - (y_i - (S y)_i) / (1 - S_ii)` (Allen 1974; Hastie, Tibshirani and Friedman 2009,
/// equation 7.64).
pub struct LeftOut {
    smoother: DMatrix<f64>,
}

impl LeftOut {
    /// For rows with this Gram matrix, which is centred here.
    pub fn new(gram: &DMatrix<f64>, penalty: f64) -> Result<LeftOut> {
        const MAX_STEPS: usize = 100_000;
        let n = gram.nrows();
        let centring = DMatrix::from_fn(n, n, |i, j| f64::from(u8::from(i == j)) - 1.0 / n as f64);
        let gram = &centring * gram * &centring;
        let penalty = penalty * gram.trace() / n as f64;
        let eigen = SymmetricEigen::try_new(gram, f64::EPSILON, MAX_STEPS)
            .context("the eigenvalues of the vectors did not converge")?;
        let shrunk = eigen.eigenvalues.map(|value| value.max(0.0) / (value.max(0.0) + penalty));
        let kept = &eigen.eigenvectors * DMatrix::from_diagonal(&shrunk) * eigen.eigenvectors.transpose();
        Ok(LeftOut { smoother: kept.add_scalar(1.0 / n as f64) })
    }

    /// The prediction of each value from all others.
    pub fn predict(&self, values: &[f64]) -> Vec<f64> {
        let smooth = &self.smoother * DVector::from_column_slice(values);
        let out = |(i, y): (usize, &f64)| y - (y - smooth[i]) / (1.0 - self.smoother[(i, i)]);
        values.iter().enumerate().map(out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 9;

    fn points(of: impl Fn(f64) -> [f64; 2]) -> Vec<[f64; 2]> {
        (0..N).map(|i| of(i as f64)).collect()
    }

    fn onto() -> Vec<[f64; 2]> {
        points(|i| [(1.1 * i).cos() + 0.5 * (1.7 * i).sin(), (0.9 * i).sin()])
    }

    #[test]
    fn planes_are_turned_as_scipy_turns_them() {
        // A = [[sin(1.7 i), cos(2.3 i) + 0.2 i]], B = [[cos(1.1 i) + 0.5 sin(1.7 i), sin(0.9 i)]], i = 0..8
        // _, turned, disparity = scipy.spatial.procrustes(B, A); 1 - disparity; turned[[0, 4]] * np.linalg.norm(B - B.mean(0))
        let got = turn(&points(|i| [(1.7 * i).sin(), (2.3 * i).cos() + 0.2 * i]), &onto()).unwrap();
        assert!((got.r2 - 0.10001962964057176).abs() < 1e-12, "{}", got.r2);
        for (at, want) in
            [(0, [-0.02706406525670981, -0.02663377444180494]), (4, [0.1858784075010825, 0.2885014437933113])]
        {
            for (g, w) in got.places[at].iter().zip(want) {
                assert!((g - w).abs() < 1e-12, "{g} is not {w}");
            }
        }
        // A plane that is rotated, reflected and scaled fits itself exactly.
        let same =
            turn(&onto().iter().map(|[x, y]| [3.0 * y + 1.0, 3.0 * x]).collect::<Vec<_>>(), &onto()).unwrap();
        assert!((same.r2 - 1.0).abs() < 1e-12);
        assert!(turn(&[[1.0, 2.0]; 4], &onto()[..4]).is_none());
    }

    #[test]
    fn what_is_left_out_is_predicted_as_by_fits_without_it() {
        // X = [[sin(0.3 i^2 + 1.3 j)]], j = 0..3, y = B[:, 0]; for each i sklearn's Ridge(alpha=0.1 * trace(Xc Xc^T) / 9)
        // fitted to the others predicts X[i].
        let want = [
            0.585026702713981,
            0.4856529696901118,
            0.25868579408673453,
            -0.18580271388915903,
            0.5123657196481705,
            -0.31355277166151874,
            -0.4026284726473636,
            -0.8423639185278182,
            0.8927569318609376,
        ];
        let rows = DMatrix::from_fn(N, 4, |i, j| (0.3 * (i * i) as f64 + 1.3 * j as f64).sin());
        let left_out = LeftOut::new(&(&rows * rows.transpose()), 0.1).unwrap();
        let got = left_out.predict(&onto().iter().map(|p| p[0]).collect::<Vec<_>>());
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-9, "{got:?}");
        }
    }
}
