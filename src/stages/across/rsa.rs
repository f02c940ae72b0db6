//! Representational similarity: whether two sets of vectors have like cosines between like emotions.

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde::Serialize;

use super::chance::{interval, pearson};
use super::pairs::{self, Measure};
use super::{Input, Kind, Side, equal_depth};
use crate::lm::Layer;
use crate::report::figure::Figure;
use crate::stages::analysis::Tables;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::correlation::ranks;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::p_value;
use crate::store::table::{Column, Table};

/// Raised when the same vectors would give other tables.
const VERSION: u32 = 1;

/// `[analysis.<name>.rsa]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rsa {
    pub correlation: Correlation,
    pub permutations: usize,
    pub bootstrap: usize,
}

/// How two lists of cosines are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Correlation {
    Spearman,
    Pearson,
}

impl Correlation {
    /// What Pearson's formula is put to.
    fn values(self, cosines: &[f64]) -> Vec<f64> {
        match self {
            Correlation::Spearman => ranks(cosines),
            Correlation::Pearson => cosines.to_vec(),
        }
    }
}

/// The fewest emotions: three have three cosines; two have one, which correlates with nothing.
pub const FEWEST: usize = 3;

impl Kind for Rsa {
    fn kind(&self) -> &'static str {
        "rsa"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Representational similarity"
    }

    fn intro(&self) -> &'static str {
        "Whether emotions that are alike to one set of vectors are alike to another, whatever the directions of their \
         spaces: the correlation of the two tables of cosines between emotions."
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        let correlation = match self.correlation {
            Correlation::Spearman => "Spearman's rank correlation",
            Correlation::Pearson => "Pearson's correlation",
        };
        let measure = Measure {
            column: "r",
            short: "correlation",
            title: "Likeness of cosine matrices",
            caption: format!(
                "{correlation} between the cosines of all pairs of emotions in one set and in the other, at equal \
                 depth."
            ),
            tested: "The same numbers. The interval is over emotions drawn with replacement; p: how often the emotions \
                     of one set under each other's names do as well.",
            others: &[],
            all_sets: true,
        };
        pairs::figures(name, tables, ("rsa", "rsa_layers"), &measure)
    }
}

/// The tables `rsa` (layers at equal depth) and `rsa_layers` (each layer with each).
///
/// `r` correlates the upper triangles of the two cosine matrices (Kriegeskorte, Mur and Bandettini 2008). `p`, one-sided:
/// rows and columns of the second matrix under a shuffled order of its emotions (Mantel 1967). `low` and `high`: the
/// 2.5 and 97.5 percentiles of `r` over emotions drawn with replacement; an emotion drawn twice is not paired with
/// itself, whose cosine of 1 says nothing (Nili et al. 2014). -1 and 1 where no draw has two different cosines.
///
/// An error if the two sets are of different emotions, of fewer than three, or if all cosines are equal.
fn run(params: &Rsa, input: Input) -> Result<Tables> {
    let Input { sides, seed, progress, .. } = input;
    let [a, b] = [cosines(&sides[0])?, cosines(&sides[1])?];
    ensure!(a[0].emotions == b[0].emotions, "the two sets are of different emotions");
    let n = a[0].emotions.len();
    ensure!(n >= FEWEST, "the cosines of {n} emotions cannot be correlated");
    for side in a.iter().chain(&b) {
        let cosines = side.triangle();
        ensure!(pearson(&cosines, &cosines).is_finite(), "all cosines are equal at layer {}", side.layer);
    }
    let matched = equal_depth(&sides)?;
    let orders = rounds(seed, "rsa permutations", params.permutations, |dice| dice.shuffled(n));
    let draws = rounds(seed, "rsa bootstrap", params.bootstrap, |dice| dice.resampled(n));
    let find = |of: &'_ [Cosines], layer: Layer| of.iter().position(|c| c.layer == layer);
    let mut rows = Rows::default();
    for (done, &(la, lb)) in matched.iter().enumerate() {
        let (Some(at), Some(bt)) = (find(&a, la), find(&b, lb)) else { continue };
        let (x, y) = (&a[at], &b[bt]);
        let r = correlation(params, &x.triangle(), &y.triangle());
        let null = x.under(&y.valued(params.correlation), params.correlation, &orders);
        let drawn = x.over(y, params.correlation, &draws);
        let (low, high) = interval(&drawn, (-1.0, 1.0));
        rows.layers.push((la, lb, la.depth(sides[0].n_layers)));
        rows.r.push(r);
        rows.interval.push((low, high));
        rows.p.push(p_value(r, &null));
        progress(done + 1, matched.len());
    }
    let mut all = pairs::Layers::default();
    let triangles = |of: &[Cosines]| -> Vec<Vec<f64>> {
        of.iter().map(|c| params.correlation.values(&c.triangle())).collect()
    };
    let (ta, tb) = (triangles(&a), triangles(&b));
    for (x, tx) in a.iter().zip(&ta) {
        for (y, ty) in b.iter().zip(&tb) {
            all.push(x.layer, y.layer, pearson(tx, ty));
        }
    }
    Ok(vec![("rsa".into(), rows.finish(n)), ("rsa_layers".into(), all.finish("rsa_layers/1", "r"))])
}

fn correlation(params: &Rsa, x: &[f64], y: &[f64]) -> f64 {
    pearson(&params.correlation.values(x), &params.correlation.values(y))
}

#[derive(Default)]
struct Rows {
    layers: Vec<(Layer, Layer, f64)>,
    r: Vec<f64>,
    interval: Vec<(f64, f64)>,
    p: Vec<f64>,
}

impl Rows {
    fn finish(self, n: usize) -> Table {
        let emotions = vec![n as i32; self.r.len()];
        let (low, high) = self.interval.into_iter().unzip();
        let columns = vec![
            ("r", Column::F64(self.r)),
            ("low", Column::F64(low)),
            ("high", Column::F64(high)),
            ("p", Column::F64(self.p)),
            ("emotions", Column::I32(emotions)),
        ];
        pairs::table("rsa/1", self.layers, columns)
    }
}

/// The cosines between the emotions of one layer.
struct Cosines {
    layer: Layer,
    emotions: Vec<String>,
    /// `[emotion, emotion]`
    values: Vec<f64>,
}

/// Of every layer of a side, of whose vectors one layer's are held at a time.
fn cosines(side: &Side) -> Result<Vec<Cosines>> {
    let of = |&layer: &Layer| {
        let vectors = (side.vectors)(layer)?;
        let rows: Vec<&[f64]> = vectors.vectors.chunks_exact(vectors.d_model).collect();
        let norms: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
        let zero = norms.iter().position(|&norm| norm == 0.0);
        ensure!(
            zero.is_none(),
            "the vector of `{}` at layer {layer} is zero",
            vectors.emotions[zero.unwrap_or(0)]
        );
        let row = |i: usize| (0..rows.len()).map(move |j| (i, j));
        let cells = (0..rows.len()).flat_map(row);
        let values = cells.map(|(i, j)| dot(rows[i], rows[j]) / (norms[i] * norms[j])).collect();
        Ok(Cosines { layer, emotions: vectors.emotions, values })
    };
    side.layers.iter().map(of).collect()
}

impl Cosines {
    fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.emotions.len() + j]
    }

    /// The pairs above the diagonal, row after row.
    fn triangle(&self) -> Vec<f64> {
        let n = self.emotions.len();
        (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(|(i, j)| self.at(i, j)).collect()
    }

    /// A matrix of what Pearson's formula is put to, with zeros on the diagonal.
    fn valued(&self, correlation: Correlation) -> Vec<f64> {
        let n = self.emotions.len();
        let mut matrix = vec![0.0; n * n];
        let mut values = correlation.values(&self.triangle()).into_iter();
        for i in 0..n {
            for j in i + 1..n {
                let value = values.next().unwrap_or_default();
                matrix[i * n + j] = value;
                matrix[j * n + i] = value;
            }
        }
        matrix
    }

    /// The correlation with the matrix `other` under each of `orders` of its emotions.
    fn under(&self, other: &[f64], correlation: Correlation, orders: &[Vec<usize>]) -> Vec<f64> {
        let n = self.emotions.len();
        let mine = correlation.values(&self.triangle());
        let of = |order: &Vec<usize>| {
            let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
            let theirs: Vec<f64> = pairs.map(|(i, j)| other[order[i] * n + order[j]]).collect();
            pearson(&mine, &theirs)
        };
        orders.par_iter().map(of).collect()
    }

    /// The correlation over the emotions of each of `draws`. NaN where those that were drawn have no two cosines.
    ///
    /// A pair of emotions counts as often as both were drawn, and its rank among all that were drawn follows from the
    /// order of the cosines, which is found once.
    fn over(&self, other: &Cosines, correlation: Correlation, draws: &[Vec<usize>]) -> Vec<f64> {
        let n = self.emotions.len();
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

/// Values and their order.
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

    /// The rank of each value where it is there as often as its weight says; equal ones share the mean of theirs.
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

/// Pearson's correlation of pairs of values that are each there as often as their weight says.
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
    // What differs by rounding alone does not vary, as in `correlation::of`.
    if xx > 1e-18 * squares[0] && yy > 1e-18 * squares[1] {
        (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0)
    } else {
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cosines that are no cosines of anything, two of them equal.
    fn made_up(salt: usize) -> Cosines {
        let n = 5;
        let cell = |i: usize, j: usize| ((i * j * salt + 3 * (i + j)) % 11) as f64 / 11.0;
        let values = (0..n).flat_map(|i| (0..n).map(move |j| cell(i, j))).collect();
        Cosines { layer: Layer::Block(0), emotions: (0..n).map(|i| i.to_string()).collect(), values }
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

    /// With SciPy over `itertools.permutations(range(5))`: the share of orders `o` with
    /// `spearmanr(A[iu], B[np.ix_(o, o)][iu])[0] >= spearmanr(A[iu], B[iu])[0] - 1e-12` for the matrices above.
    #[test]
    fn the_p_value_tends_to_that_of_all_orders() {
        let (a, b) = (made_up(3), made_up(7));
        let orders = rounds(1, "test", 4000, |dice| dice.shuffled(5));
        let null = a.under(&b.valued(Correlation::Spearman), Correlation::Spearman, &orders);
        let r = pearson(&ranks(&a.triangle()), &ranks(&b.triangle()));
        assert!((r - R).abs() < 1e-12, "{r}");
        // One standard deviation of the estimate is at most 0.008.
        let p = p_value(r, &null);
        assert!((p - EXACT).abs() < 0.03, "{p}");
    }

    const R: f64 = 0.22630075237438613;
    const EXACT: f64 = 43.0 / 120.0;
}
