//! Representational similarity: whether two sets of vectors have like cosines between like emotions.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::chance::{at_least, interval, p_value, pearson, ranks, rounds};
use super::pairs::{self, Measure};
use super::{Input, Kind, Side, depth, equal_depth};
use crate::report::figure::Figure;
use crate::stages::analysis::Tables;
use crate::stages::principal::{dot, norm};
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
    let matched = equal_depth(&sides)?;
    let orders = rounds(seed, "rsa permutations", params.permutations, |dice| dice.shuffled(n));
    let draws = rounds(seed, "rsa bootstrap", params.bootstrap, |dice| dice.resampled(n));
    let find = |of: &'_ [Cosines], layer: usize| of.iter().position(|c| c.layer == layer);
    let mut rows = Rows::default();
    for (done, &(la, lb)) in matched.iter().enumerate() {
        let (Some(at), Some(bt)) = (find(&a, la), find(&b, lb)) else { continue };
        let (x, y) = (&a[at], &b[bt]);
        let r = correlation(params, &x.triangle(), &y.triangle());
        ensure!(
            r.is_finite(),
            "all cosines are equal at layer {la} of one set, or at layer {lb} of the other"
        );
        let null = x.under(&y.valued(params.correlation), params.correlation, &orders);
        let drawn = x.over(y, params, &draws);
        let (low, high) = interval(&drawn, (-1.0, 1.0));
        rows.layers.push((la, lb, depth(la, sides[0].n_layers)));
        rows.r.push(r);
        rows.interval.push((low, high));
        rows.p.push(p_value(at_least(&null, r), null.len()));
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
    layers: Vec<(usize, usize, f64)>,
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
    layer: usize,
    emotions: Vec<String>,
    /// `[emotion, emotion]`
    values: Vec<f64>,
}

/// Of every layer of a side, of whose vectors one layer's are held at a time.
fn cosines(side: &Side) -> Result<Vec<Cosines>> {
    let of = |&layer: &usize| {
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
        use rayon::prelude::*;
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
    fn over(&self, other: &Cosines, params: &Rsa, draws: &[Vec<usize>]) -> Vec<f64> {
        use rayon::prelude::*;
        let of = |draw: &Vec<usize>| {
            let pairs =
                draw.iter().enumerate().flat_map(|(at, &i)| draw[at + 1..].iter().map(move |&j| (i, j)));
            let (mut x, mut y) = (Vec::new(), Vec::new());
            for (i, j) in pairs.filter(|(i, j)| i != j) {
                x.push(self.at(i, j));
                y.push(other.at(i, j));
            }
            correlation(params, &x, &y)
        };
        draws.par_iter().map(of).collect()
    }
}
