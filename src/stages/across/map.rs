//! Linear maps between the spaces of two models, fitted on the cells of one part and applied to vectors of another.
//! Independent of emotions.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use rayon::prelude::*;
use tch::{Kind, Tensor};

use super::cells::{Order, Rows, Vectors};
use crate::stages::statistics::moved::product;
use crate::stages::statistics::parts::{Fit, Source, Target};

/// A map and the vectors that go through it, for any order of the target rows: a map is fitted thousands of times to
/// shuffled rows, and everything that does not depend on their order is computed once.
pub struct Map<'r> {
    kind: Fitted,
    mark: PhantomData<fn(&'r ()) -> &'r ()>,
}

enum Fitted {
    /// `[vector, n]`: the coefficients of each mapped vector on the `n` rows of the target space.
    Ridge(Tensor),
    Procrustes {
        /// `[vector, k]` and `[n, k]`: the vectors and the rows, projected onto the leading principal components of
        /// the rows.
        vectors: Tensor,
        rows: Tensor,
        /// `[k, d]`: the leading principal components of the target space's rows.
        axes: Tensor,
    },
}

/// Maximum number of components that a rotation acts on. Later components have little variance, and a rotation is
/// fitted again for every shuffle, at a cost that grows with the cube: about 5 ms for 128 components.
const TURNED: i64 = 128;

/// Eigenvalues below this fraction of the largest are rounding noise.
const NOISE: f64 = 1e-12;

/// The rows with their mean subtracted, in place.
fn centred(mut rows: Rows<'_, Fit>) -> Tensor {
    let mean = rows.values.mean_dim(0, true, None::<Kind>);
    let _ = rows.values.g_sub_(&mean);
    rows.values
}

/// `[n, 1]`: the norm of each row, at least the smallest positive number so that it can be a divisor.
fn lengths(rows: &Tensor) -> Tensor {
    (rows * rows).sum_dim_intlist(1, true, None::<Kind>).sqrt().clamp_min(f64::MIN_POSITIVE)
}

/// The sum of squares.
fn square(of: &Tensor) -> f64 {
    (of * of).sum(Kind::Double).double_value(&[])
}

impl<'r> Map<'r> {
    /// The ridge map with an unpenalised intercept: scikit-learn's `Ridge(alpha)`, where `alpha` is `ridge` times the
    /// mean eigenvalue of `X'X` among the `min(n, d)` that can be nonzero, for centred `X`. It maps vectors `V`,
    /// which are differences, so that means play no part, to `V (X'X + a)^-1 X' Y`, a linear combination of the rows
    /// `Y`. Computed from the smaller of the two Gram matrices by Cholesky decomposition, with about `n d min(n, d)`
    /// multiplications and `min(n, d)^2` numbers.
    pub fn ridge(x: Rows<'r, Fit>, vectors: &Vectors<'r, Source>, ridge: f64) -> Result<Map<'r>> {
        let (x, v) = (centred(x), &vectors.values);
        let (n, d) = x.size2()?;
        let small = n.min(d);
        let alpha = ridge * x.norm().double_value(&[]).powi(2) / small as f64;
        let solve = |gram: Tensor, right: Tensor| -> Result<Tensor> {
            let _ = gram.diagonal(0, 0, 1).g_add_scalar_(alpha); // in place
            let factor = gram.f_linalg_cholesky(false).context("a map of rows that are all equal")?;
            Ok(right.f_cholesky_solve(&factor, false)?)
        };
        let mixture = match n <= d {
            true => solve(x.matmul(&x.tr()), x.matmul(&v.tr()))?.tr(),
            false => solve(x.tr().matmul(&x), v.tr())?.tr().matmul(&x.tr()),
        };
        Ok(Map { kind: Fitted::Ridge(mixture), mark: PhantomData })
    }

    /// The rotation (with reflections) and scale that bring `x` nearest to `y`: the singular vectors of `X'Y` of
    /// centred rows (`scipy.linalg.orthogonal_procrustes`) and the sum of its singular values over `|X|^2`; the two
    /// spaces may have different widths. The rotation acts on the leading [`TURNED`] principal components of the rows
    /// of each space, without components that have no variance.
    pub fn procrustes(x: Rows<'r, Fit>, y: Rows<'r, Fit>, vectors: &Vectors<'r, Source>) -> Result<Map<'r>> {
        let x = centred(x);
        let of_x = components(&x)?;
        let kind = Fitted::Procrustes {
            vectors: vectors.values.matmul(&of_x.tr()),
            rows: x.matmul(&of_x.tr()),
            axes: components(&centred(y))?,
        };
        Ok(Map { kind, mark: PhantomData })
    }

    /// Fits the map to `y`, paired row by row, and returns the mapped vectors in the precision of `y`.
    pub fn carried(&self, y: &Rows<'r, Fit>) -> Result<Mapped<'r>> {
        let precision = y.values.kind();
        let values = match &self.kind {
            Fitted::Ridge(mixture) => mixture.to_kind(precision).matmul(&y.values),
            Fitted::Procrustes { vectors, rows, axes } => {
                let axes = axes.to_kind(precision);
                turned(vectors, rows, &y.values.matmul(&axes.tr()).to_kind(Kind::Double))?
                    .to_kind(precision)
                    .matmul(&axes)
            }
        };
        Ok(Mapped { values, mark: PhantomData })
    }

    /// Fits the map to `y` in each of `orders`: returns the mean rank of the vectors among `own`, and the share of
    /// `own` that they predict. Only the products with `own` and the sum of squares depend on the order, so the
    /// mapped vectors are never computed: `y` is multiplied once with `own` and, for a ridge map, with itself.
    pub fn in_orders(
        &self,
        y: &Rows<'r, Fit>,
        own: &Vectors<'r, Target>,
        orders: &[Order<'r, Fit>],
    ) -> Result<Vec<(f64, f64)>> {
        let precision = y.values.kind();
        let lengths = lengths(&own.values);
        let all = square(&own.values);
        let judged = |products: Tensor, squares: f64| {
            let ranks = ranks(&(&products / lengths.tr()))?;
            let foretold = 2.0 * products.diagonal(0, 0, 1).sum(Kind::Double).double_value(&[]) - squares;
            Ok((ranks.iter().sum::<f64>() / ranks.len() as f64, foretold / all))
        };
        match &self.kind {
            Fitted::Ridge(mixture) => {
                let mixture = mixture.to_kind(precision);
                let along = y.values.matmul(&own.values.tr());
                let squares = squares(&mixture, y, orders)?;
                let each = orders.iter().zip(squares);
                each.map(|(order, squares)| {
                    judged(mixture.matmul(&along.index_select(0, &order.index(&y.groups))), squares)
                })
                .collect()
            }
            Fitted::Procrustes { vectors, rows, axes } => {
                let axes = axes.to_kind(precision);
                let (along, on_axes) = (axes.matmul(&own.values.tr()), y.values.matmul(&axes.tr()));
                let on_axes = on_axes.to_kind(Kind::Double);
                let each = orders.iter().map(|order| {
                    let turned = turned(vectors, rows, &on_axes.index_select(0, &order.index(&y.groups)))?;
                    judged(turned.to_kind(precision).matmul(&along), square(&turned))
                });
                each.collect()
            }
        }
    }
}

/// Rotates and scales `vectors` as brings `rows` nearest to `y`. `vectors` and `rows` are in the components of one
/// space, `y` in those of the other.
fn turned(vectors: &Tensor, rows: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (u, values, v) = rows.tr().matmul(y).f_svd(true, true)?;
    let bound = values.max().double_value(&[]) * NOISE.sqrt();
    let kept = Vec::<f64>::try_from(&values)?.iter().filter(|&&value| value > bound).count() as i64;
    let turn = u.narrow(1, 0, kept).matmul(&v.narrow(1, 0, kept).tr());
    let scale = values.sum(Kind::Double) / (rows * rows).sum(Kind::Double);
    Ok(vectors.matmul(&turn) * scale)
}

/// The sum of squares of `mixture` (`[vector, n]`) times the rows of `y` in each of `orders`: for each two groups,
/// the products of the rows and of the mixture's columns are computed once, and each order sums the products of both.
fn squares(mixture: &Tensor, y: &Rows<'_, Fit>, orders: &[Order<'_, Fit>]) -> Result<Vec<f64>> {
    let part = |of: &Tensor, from: usize, to: usize| of.narrow(0, from as i64, (to - from) as i64);
    let (columns, n) = (mixture.tr().contiguous(), mixture.size()[1] as usize);
    let mut sums = vec![0.0; orders.len()];
    for (at, group) in y.groups.iter().enumerate() {
        let of = |whole: &Tensor| {
            let products = part(whole, group.start, n).matmul(&part(whole, group.start, group.end).tr());
            Vec::<f32>::try_from(products.to_kind(Kind::Float).reshape(-1))
        };
        let (of_rows, of_columns) = (of(&y.values)?, of(&columns)?);
        let width = group.len();
        let others = y.groups[at..].par_iter().enumerate().map(|(after, other)| -> Vec<f64> {
            let place = (other.start - group.start) * width..(other.end - group.start) * width;
            let (fixed, moved) = (&of_columns[place.clone()], &of_rows[place]);
            let twice = if after > 0 { 2.0 } else { 1.0 };
            let of = |order: &Order<'_, Fit>| {
                product(fixed, moved, &order.rows[other.clone()], &order.rows[group.clone()])
            };
            orders.iter().map(|order| twice * of(order)).collect()
        });
        for other in others.collect::<Vec<_>>() {
            sums.iter_mut().zip(other).for_each(|(sum, x)| *sum += x);
        }
    }
    Ok(sums)
}

/// `[k, d]`: the leading principal components of centred rows, at most [`TURNED`], from the smaller of the two Gram
/// matrices.
fn components(x: &Tensor) -> Result<Tensor> {
    let (n, d) = x.size2()?;
    let gram = if n <= d { x.matmul(&x.tr()) } else { x.tr().matmul(x) };
    let (values, vectors) = gram.f_linalg_eigh("L").context("components of rows")?;
    // In ascending order.
    let all = Vec::<f64>::try_from(&values)?;
    let bound = all.last().copied().unwrap_or_default() * NOISE;
    let kept = (all.iter().filter(|&&value| value > bound).count() as i64).min(TURNED);
    let (vectors, values) =
        (vectors.narrow(1, n.min(d) - kept, kept), values.narrow(0, n.min(d) - kept, kept));
    Ok(match n <= d {
        true => vectors.tr().matmul(x) / values.sqrt().unsqueeze(1),
        false => vectors.tr(),
    })
}

/// Vectors mapped into the target space.
pub struct Mapped<'r> {
    /// `[vector, d]`
    pub(super) values: Tensor,
    mark: PhantomData<fn(&'r ()) -> &'r ()>,
}

/// Mapped vectors compared with those of the target space.
pub struct Compared {
    /// `[vector, vector]`: the cosine of each mapped vector with each vector of the target space.
    cosines: Tensor,
    /// The share of the sum of squares of the target vectors that the mapped vectors predict; below 0 where they are
    /// further off than zero vectors would be.
    pub r2: f64,
}

impl<'r> Mapped<'r> {
    /// Compares with vectors from cells that were not used to fit the map and that are of other topics than the
    /// mapped vectors.
    pub fn beside(&self, own: &Vectors<'r, Target>) -> Compared {
        let unit = |rows: &Tensor| rows / lengths(rows);
        let r2 = 1.0 - square(&(&self.values - &own.values)) / square(&own.values);
        Compared { cosines: unit(&self.values).matmul(&unit(&own.values).tr()), r2 }
    }
}

impl Compared {
    /// The cosine of each mapped vector with the target vector of the same emotion.
    pub fn own(&self) -> Result<Vec<f64>> {
        Ok(Vec::<f64>::try_from(self.cosines.diagonal(0, 0, 1).to_kind(Kind::Double))?)
    }

    /// For each mapped vector, 1 plus the number of target vectors nearer to it than its own; equally near ones count
    /// half.
    pub fn ranks(&self) -> Result<Vec<f64>> {
        ranks(&self.cosines)
    }
}

/// The ranks from cosines; each row may be scaled by any positive factor.
fn ranks(cosines: &Tensor) -> Result<Vec<f64>> {
    let own = cosines.diagonal(0, 0, 1).unsqueeze(1);
    let count = |of: Tensor| of.to_kind(Kind::Double).sum_dim_intlist(1, false, Kind::Double);
    let nearer = count(cosines.gt_tensor(&own));
    let as_near = count(cosines.eq_tensor(&own)) - 1.0;
    Ok(Vec::<f64>::try_from(nearer + as_near * 0.5 + 1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[n, d]` of integers without a linear structure.
    fn rows(n: usize, d: usize, salt: usize) -> Vec<f64> {
        let value = |at: usize| ((at * at * 7 + at * 13 * salt + salt) % 17) as f64 - 8.0;
        (0..n * d).map(value).collect()
    }

    fn close(found: &[f64], wanted: &[f64]) {
        assert_eq!(found.len(), wanted.len());
        for (f, w) in found.iter().zip(wanted) {
            assert!((f - w).abs() < 1e-9, "{found:?} is not {wanted:?}");
        }
    }

    fn vectors<'r>(values: &[f64]) -> Vectors<'r, Source> {
        Vectors::new(Tensor::from_slice(values).unsqueeze(0))
    }

    fn carried<'r>(map: &Map<'r>, y: &Rows<'r, Fit>) -> Vec<f64> {
        Vec::try_from(map.carried(y).unwrap().values.reshape(-1)).unwrap()
    }

    /// With the rows above as `X` (n, 4) and `Y` (n, 3), in Python:
    /// `a = .5 * ((X - X.mean(0))**2).sum() / min(n, 4); Ridge(alpha=a).fit(X, Y).coef_.T[0]`.
    #[test]
    fn ridge_is_that_of_scikit_learn_from_either_gram_matrix() {
        for (n, first) in RIDGE {
            let (x, y) = (Rows::new(&rows(n, 4, 3), 4), Rows::new(&rows(n, 3, 5), 3));
            let map = Map::ridge(x, &vectors(&[1.0, 0.0, 0.0, 0.0]), 0.5).unwrap();
            close(&carried(&map, &y), &first);
        }
    }

    const RIDGE: [(usize, [f64; 3]); 2] = [
        (3, [0.056_214_191_060_541_076, -0.239_472_131_496_390_5, 0.004_900_807_021_050_866]),
        (9, [-0.004_891_971_004_149_481, -0.263_715_372_331_999_5, 0.057_380_779_848_589_12]),
    ];

    /// `R, s = scipy.linalg.orthogonal_procrustes(X - X.mean(0), Y - Y.mean(0)); R[0]` for `X` and `Y` of (9, 3), times
    /// the scale `s / ((X - X.mean(0))**2).sum()`.
    #[test]
    fn procrustes_is_that_of_scipy() {
        let (x, y) = (Rows::new(&rows(9, 3, 3), 3), || Rows::new(&rows(9, 3, 5), 3));
        let map = Map::procrustes(x, y(), &vectors(&[1.0, 0.0, 0.0])).unwrap();
        let y = y();
        close(&carried(&map, &y), &PROCRUSTES.map(|entry| entry * SCALE));
    }

    const PROCRUSTES: [f64; 3] =
        [-0.083_031_636_612_653_35, -0.606_777_553_619_080_3, -0.790_523_084_890_896_4];
    const SCALE: f64 = 0.247_955_253_550_215_03;

    #[test]
    fn a_rotation_into_more_dimensions_is_found_from_few_rows() {
        // Three rows of two entries, placed on the second and fourth axis of a space of five.
        let values = [1.0, 2.0, -3.0, 0.5, 4.0, 1.0];
        let wide = values.chunks_exact(2).flat_map(|row| [7.0, -row[1], 0.0, row[0] + 1.0, 0.0]);
        let wide: Vec<f64> = wide.collect();
        let (x, y) = (|| Rows::new(&values, 2), || Rows::new(&wide, 5));
        let map = Map::procrustes(x(), y(), &vectors(&[1.0, 2.0])).unwrap();
        close(&carried(&map, &y()), &[0.0, -2.0, 0.0, 1.0, 0.0]);
        let back = Map::procrustes(y(), x(), &vectors(&[9.0, -2.0, 9.0, 1.0, 9.0])).unwrap();
        close(&carried(&back, &x()), &[1.0, 2.0]);
    }

    /// The ranks and shares computed from orders equal those of the vectors mapped by the fitted map.
    #[test]
    fn in_other_orders_ranks_and_shares_are_those_of_the_mapped_vectors() {
        let of = |n: usize, d: usize, salt: usize| Rows::in_groups(&rows(n, d, salt), d, &[4, 3, 4]);
        let flat =
            |n: usize, d: usize, salt: usize| Tensor::from_slice(&rows(n, d, salt)).view([n as i64, -1]);
        let orders = [[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3], [3, 0, 2, 1, 1, 2, 0, 0, 3, 1, 2]];
        let orders = orders.map(|rows| Order::new(rows.to_vec()));
        for d in [5, 16] {
            let (own, vectors) = (Vectors::new(flat(4, 6, 2)), Vectors::new(flat(4, d, 7)));
            let ridge = Map::ridge(of(11, d, 3), &vectors, 0.2).unwrap();
            let turned = Map::procrustes(of(11, d, 3), of(11, 6, 5), &vectors).unwrap();
            for map in [ridge, turned] {
                let y = of(11, 6, 5);
                let found = map.in_orders(&of(11, 6, 5).single(), &own.single(), &orders).unwrap();
                for ((rank, r2), order) in found.into_iter().zip(&orders) {
                    let wanted = map.carried(&y.ordered(order)).unwrap().beside(&own);
                    assert_eq!(rank, wanted.ranks().unwrap().iter().sum::<f64>() / 4.0);
                    assert!((r2 - wanted.r2).abs() < 1e-5, "{r2} is not {}", wanted.r2);
                }
            }
        }
    }

    #[test]
    fn mapped_vectors_beside_others_by_hand() {
        let mapped =
            Mapped { values: Tensor::from_slice(&[3.0, 0.0, 0.0, 4.0]).view([2, 2]), mark: PhantomData };
        let own = Vectors::new(Tensor::from_slice(&[0.0, 1.0, 0.0, 2.0]).view([2, 2]));
        let found = mapped.beside(&own);
        assert_eq!(found.own().unwrap(), [0.0, 1.0]);
        // The first is equally far from both, the second equally near to both.
        assert_eq!(found.ranks().unwrap(), [1.5, 1.5]);
        // |(3, -1), (0, 2)|^2 of |(0, 1), (0, 2)|^2
        assert!((found.r2 - (1.0 - 14.0 / 5.0)).abs() < 1e-12, "{}", found.r2);
    }
}
