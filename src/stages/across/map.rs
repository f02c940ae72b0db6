//! Linear maps between the spaces of two models, in float64. Knows nothing of emotions.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::cells::Rows;

/// A map from rows of one width to rows of another: `y = (x - mean_x) W + mean_y`.
pub struct Map {
    /// `[d_x, d_y]`
    weights: Tensor,
    mean_x: Tensor,
    mean_y: Tensor,
}

/// Singular values below this fraction of the largest are rounding noise.
const NOISE: f64 = 1e-10;

/// Some rows as a matrix `[n, d]`.
fn matrix(rows: &Rows, which: &[usize]) -> Tensor {
    let values: Vec<f64> = which.iter().flat_map(|&at| rows.row(at).iter().copied()).collect();
    Tensor::from_slice(&values).view([which.len() as i64, rows.d as i64])
}

/// Rows that are centred, and what their mean was.
fn centred(rows: &Rows, which: &[usize]) -> (Tensor, Tensor) {
    let x = matrix(rows, which);
    let mean = x.mean_dim(0, true, Kind::Double);
    (x - &mean, mean)
}

impl Map {
    /// The ridge map of `which` rows of `x` on those of `y`, with an intercept that is not shrunk: scikit-learn's
    /// `Ridge(alpha)`, where `alpha` is `ridge` times the mean eigenvalue of `X'X` among its `min(n, d)` that need not be
    /// zero, for centred `X`. In closed form from the smaller of the two Gram matrices: `X'(X X' + a)^-1 Y` or `(X'X +
    /// a)^-1 X'Y`, with Cholesky's decomposition; about `n d min(n, d)` multiplications and `min(n, d)^2` numbers.
    pub fn ridge(x: &Rows, y: &Rows, which: &[usize], ridge: f64) -> Result<Map> {
        let ((a, mean_x), (b, mean_y)) = (centred(x, which), centred(y, which));
        let small = which.len().min(x.d);
        let alpha = ridge * (&a * &a).sum(Kind::Double).double_value(&[]) / small as f64;
        let identity = Tensor::eye(small as i64, (Kind::Double, tch::Device::Cpu)) * alpha;
        let solve = |gram: Tensor, right: Tensor| -> Result<Tensor> {
            let factor =
                (gram + identity).f_linalg_cholesky(false).context("a map of rows that are all equal")?;
            Ok(right.f_cholesky_solve(&factor, false)?)
        };
        let weights = if which.len() <= x.d {
            a.tr().matmul(&solve(a.matmul(&a.tr()), b)?)
        } else {
            solve(a.tr().matmul(&a), a.tr().matmul(&b))?
        };
        Ok(Map { weights, mean_x, mean_y })
    }

    /// The rotation (with reflections) that brings `x` nearest to `y`, as `scipy.linalg.orthogonal_procrustes`, between
    /// spaces of any two widths: from the singular vectors of `X'Y` of centred rows, but for those of no singular value,
    /// of which the rows say nothing. No scale: cosines do not see it.
    pub fn procrustes(x: &Rows, y: &Rows, which: &[usize]) -> Result<Map> {
        let ((a, mean_x), (b, mean_y)) = (centred(x, which), centred(y, which));
        let ((a, of_a), (b, of_b)) = (reduced(a)?, reduced(b)?);
        let (u, values, v) = a.tr().matmul(&b).f_svd(true, true)?;
        let bound = values.max().double_value(&[]) * NOISE;
        let kept = Vec::<f64>::try_from(&values)?.iter().filter(|&&value| value > bound).count() as i64;
        let turn = u.narrow(1, 0, kept).matmul(&v.narrow(1, 0, kept).tr());
        let weights = match of_a {
            Some(basis) => basis.tr().matmul(&turn),
            None => turn,
        };
        let weights = match of_b {
            Some(basis) => weights.matmul(&basis),
            None => weights,
        };
        Ok(Map { weights, mean_x, mean_y })
    }

    /// Where the map brings differences of rows, `[n, d_x]` to `[n, d_y]`: the means play no part.
    pub fn differences(&self, values: &[f64]) -> Result<Vec<f64>> {
        let width = self.weights.size()[0];
        Ok(Vec::<f64>::try_from(
            Tensor::from_slice(values).view([-1, width]).matmul(&self.weights).reshape(-1),
        )?)
    }

    /// The share of the variance of `which` rows of `y` that the map foretells from those of `x`: scikit-learn's
    /// `r2_score(..., multioutput="variance_weighted")`. It may be below 0.
    pub fn foretold(&self, x: &Rows, y: &Rows, which: &[usize]) -> f64 {
        let found = (matrix(x, which) - &self.mean_x).matmul(&self.weights) + &self.mean_y;
        let (truth, mean) = centred(y, which);
        let square = |t: &Tensor| (t * t).sum(Kind::Double).double_value(&[]);
        1.0 - square(&(found - mean - &truth)) / square(&truth)
    }
}

/// Fewer rows than dimensions in the space that they span: coordinates `[n, r]`, and the axes `[r, d]` that they are on.
fn reduced(x: Tensor) -> Result<(Tensor, Option<Tensor>)> {
    if x.size()[0] > x.size()[1] {
        return Ok((x, None));
    }
    let (u, values, v) = x.f_svd(true, true)?;
    Ok((u * values, Some(v.tr())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[n, d]` of whole numbers that follow no line.
    fn rows(n: usize, d: usize, salt: usize) -> Rows {
        let value = |at: usize| ((at * at * 7 + at * 13 * salt + salt) % 17) as f64 - 8.0;
        Rows { d, values: (0..n * d).map(value).collect() }
    }

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-9, "{found:?} is not {wanted:?}");
        }
    }

    /// With the rows above as `X` (n, 4) and `Y` (n, 3), in Python:
    /// `a = .5 * ((X - X.mean(0))**2).sum() / min(n, 4); m = Ridge(alpha=a).fit(X, Y)` gives `m.coef_.T[0]`, and
    /// `r2_score(Y, m.predict(X), multioutput="variance_weighted")`.
    #[test]
    fn ridge_is_that_of_scikit_learn_from_either_gram_matrix() {
        for (n, first, r2) in RIDGE {
            let (x, y) = (rows(n, 4, 3), rows(n, 3, 5));
            let all: Vec<usize> = (0..n).collect();
            let map = Map::ridge(&x, &y, &all, 0.5).unwrap();
            close(&map.differences(&[1.0, 0.0, 0.0, 0.0]).unwrap(), &first);
            close(&[map.foretold(&x, &y, &all)], &[r2]);
        }
    }

    const RIDGE: [(usize, [f64; 3], f64); 2] = [
        (
            3,
            [0.056_214_191_060_541_076, -0.239_472_131_496_390_5, 0.004_900_807_021_050_866],
            0.925_735_846_719_352_6,
        ),
        (
            9,
            [-0.004_891_971_004_149_481, -0.263_715_372_331_999_5, 0.057_380_779_848_589_12],
            0.390_779_984_870_457_84,
        ),
    ];

    /// `scipy.linalg.orthogonal_procrustes(X - X.mean(0), Y - Y.mean(0))[0][0]` for `X` and `Y` of (9, 3).
    #[test]
    fn procrustes_is_that_of_scipy() {
        let (x, y) = (rows(9, 3, 3), rows(9, 3, 5));
        let all: Vec<usize> = (0..9).collect();
        let map = Map::procrustes(&x, &y, &all).unwrap();
        close(&map.differences(&[1.0, 0.0, 0.0]).unwrap(), &PROCRUSTES);
    }

    const PROCRUSTES: [f64; 3] =
        [-0.083_031_636_612_653_35, -0.606_777_553_619_080_3, -0.790_523_084_890_896_4];

    #[test]
    fn a_rotation_into_more_dimensions_is_found_from_few_rows() {
        // Three rows of two entries, laid on the second and fourth axis of a space of five.
        let x = Rows { d: 2, values: vec![1.0, 2.0, -3.0, 0.5, 4.0, 1.0] };
        let wide = x.values.chunks_exact(2).flat_map(|row| [7.0, -row[1], 0.0, row[0] + 1.0, 0.0]);
        let y = Rows { d: 5, values: wide.collect() };
        let map = Map::procrustes(&x, &y, &[0, 1, 2]).unwrap();
        close(&map.differences(&[1.0, 2.0]).unwrap(), &[0.0, -2.0, 0.0, 1.0, 0.0]);
        let back = Map::procrustes(&y, &x, &[0, 1, 2]).unwrap();
        close(&back.differences(&[9.0, -2.0, 9.0, 1.0, 9.0]).unwrap(), &[1.0, 2.0]);
    }
}
