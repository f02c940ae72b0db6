//! Representational similarity: whether two sets of vectors have similar cosines between the same emotions.

use anyhow::{Result, ensure};
use nalgebra::DMatrix;

use super::chance::{interval, pearson};
use super::cosines::Cosines;
use super::halves::{Chance, Halves, Likeness, Splits, ceiling, crossed, partial};
use super::pairs::{self, Measure};
use super::{Input, Shared, Side, equal_depth};
use crate::lm::Layer;
use crate::params::params;
use crate::report::figure::Figure;
use crate::stages::analysis::{Claim, Inputs, Kind, Null, Sets, Tables};
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::Interval;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::mean;
use crate::store::table::{Column, Table};

pub use super::cosines::Correlation;

/// Increment when the same activations would give different tables.
const VERSION: u32 = 3;

params! {
    /// Between any two sets of vectors: the correlation of their cosines between emotions.
    pub struct Rsa {
        /// Of ranks (`spearman`) or of the cosines themselves (`pearson`).
        pub correlation: Correlation = "spearman";
        // 1000 orders make 0.001 the smallest p-value (Phipson and Smyth 2010).
        /// Random orders behind a p-value, which cannot be below 1 / (1 + this).
        pub permutations: usize = 1000, 1..=1_000_000;
        // What a percentile interval needs (Efron and Tibshirani 1993, section 13.3).
        /// Draws with replacement behind an interval.
        pub bootstrap: usize = 1000, 1..=1_000_000;
    }
}

/// The fewest emotions: three emotions have three cosines; two have only one, which has no correlation.
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
        "Whether emotions that are similar in one set of vectors are similar in another, independently of the basis of \
         each space: the correlation between the two cosine matrices (representational similarity analysis)."
    }

    fn inputs(&self) -> Inputs {
        Inputs::of_two(Sets::Two)
    }

    fn run_two(&self, input: Input) -> Result<Tables> {
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
            title: "Similarity of cosine matrices",
            caption: format!(
                "{correlation} between the cosines of all pairs of emotions in one set and in the other, at equal \
                 relative depth. The two sets' vectors come from different halves of the topics, since models that \
                 read the same stories share the stories' noise."
            ),
            tested: "The same values. The interval is a bootstrap over emotions (none with fewer than five); p: how \
                 often a value as large occurs when the emotions of one set are permuted, or when stories' emotions \
                 are shuffled within each topic in both sets; the larger of the two. Same stories: from all topics in \
                 both sets. Ceiling: the value expected for two sets that differ only by the noise of halves. Beyond \
                 the surface: with the cosines of the embeddings partialled out, if these are kept.",
            others: &[
                ("r_same", "same stories", 3),
                ("ceiling", "ceiling", 3),
                ("partial", "beyond the surface", 3),
            ],
            all_sets: true,
        };
        pairs::figures(name, tables, ("rsa", "rsa_layers"), &measure)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for pair in pairs::pairs(tables, "rsa")? {
            for &row in &pair.rows {
                let at = |column: &str| Ok::<_, anyhow::Error>(pair.table.f64(column)?[row]);
                let claim = |what: &str, estimate| pair.claim((0, row), what, "", estimate, 2);
                let null = Null {
                    of: "emotions under each other's names, or shuffled within topics: the larger p",
                    draws: self.permutations,
                    mean: None,
                    p: at("p")?,
                };
                let interval = pair.ends(row, ("low", "high"))?;
                let method = "percentiles of emotions drawn with replacement";
                claims.push(
                    claim("correlation of cosines", at("r")?)?.within(interval, method).against(Some(null)),
                );
                claims.push(claim("ceiling of it", at("ceiling")?)?);
                let partial = pair.table.opt_f64("partial")?[row];
                claims.extend(partial.map(|r| claim("beyond the surface", r)).transpose()?);
            }
        }
        Ok(claims)
    }

    fn reading(&self) -> &'static str {
        "Correlation of the cosines between emotions in two sets of vectors from different halves of the topics; its \
         ceiling, the value expected for two sets that differ only by the noise of halves; and the same with the \
         embeddings' cosines partialled out."
    }
}

/// The tables `rsa` (layers at equal depth) and `rsa_layers` (each layer with each).
///
/// `r` is the correlation of the upper triangles of two cosine matrices (Kriegeskorte, Mur and Bandettini 2008): of
/// one set's vectors from one half of the topics and of the other set's vectors from the other half, averaged over
/// both directions and several pairs of halves. `r_same`: of the sets' vectors from all topics. `ceiling`: the
/// geometric mean of the correlations between the two halves of each set. `partial`: `r` with the correlations to the
/// cosines of the embeddings partialled out, for sets that keep their embeddings.
///
/// `p` is one-sided and the larger of two: `p_names`, with rows and columns of one matrix in a shuffled order of its
/// emotions (Mantel 1967); and `p_cells`, with emotions shuffled within each topic, in the same way in both sets
/// where these have the same stories. `low` and `high`: the 2.5 and 97.5 percentiles of `r` over emotions drawn with
/// replacement; an emotion drawn twice is not paired with itself, because its cosine of 1 is uninformative (Nili et
/// al. 2014). They are -1 and 1 where no draw has two different cosines, and not computed for fewer than five
/// emotions.
///
/// An error if the two sets have different emotions or fewer than three, if all cosines are equal, or if there are so
/// few topics that halves lack an emotion.
fn run(params: &Rsa, input: Input) -> Result<Tables> {
    let Input { sides, seed, progress, .. } = input;
    let shared = Shared::each(&sides, seed)?;
    let n = shared[0].emotions.len();
    ensure!(n >= FEWEST, "the cosines of {n} emotions cannot be correlated");
    let splits = shared.each_ref().map(Splits::of);
    let [Some(of_a), Some(of_b)] = &splits else {
        anyhow::bail!("the topics cannot be halved: each emotion needs stories on two of them or more");
    };
    let likeness = Alike(params.correlation);
    let matched = equal_depth(&sides)?;
    let read = |at: usize, splits| -> Result<Vec<Read>> {
        let side = &sides[at];
        let read = |&layer: &Layer| {
            let own = cosines(side, layer)?;
            Ok(Read { layer, own, forms: Halves::read(&likeness, (&shared[at], splits), side, layer)?.forms })
        };
        side.layers.iter().map(read).collect()
    };
    let (a, b) = (read(0, of_a)?, read(1, of_b)?);
    let embedded = [&a, &b].map(|of| of.iter().find(|read| read.layer == Layer::Embed));
    let embedded: Vec<&Read> = embedded.into_iter().flatten().collect();
    let draws = rounds(seed, "rsa bootstrap", params.bootstrap, |dice| dice.resampled(n));
    let mut rows: Vec<Row> = Vec::new();
    for (done, &layers) in matched.iter().enumerate() {
        let find = |of: &'_ [Read], layer: Layer| of.iter().position(|l| l.layer == layer);
        let (Some(at), Some(bt)) = (find(&a, layers.0), find(&b, layers.1)) else { continue };
        let (x, y) = (&a[at], &b[bt]);
        let r = crossed(&likeness, &x.forms, &y.forms, None);
        let surface = embedded.iter().copied().filter(|_| layers.0 != Layer::Embed);
        let all: Vec<_> = [x, y].into_iter().chain(surface).map(|read| &read.forms).collect();
        // Read again, so that not all layers are in memory at once.
        let again =
            |at: usize, splits, layer| Halves::read(&likeness, (&shared[at], splits), &sides[at], layer);
        let halves = (again(0, of_a, layers.0)?, again(1, of_b, layers.1)?);
        rows.push(Row {
            layers,
            r,
            same: correlation(params, &x.own, &y.own),
            interval: interval(&over(params, x, y, &draws), (-1.0, 1.0), n),
            chance: Chance::of(&likeness, (&halves.0, &halves.1), r, params.permutations)?,
            ceiling: ceiling(&likeness, &x.forms, &y.forms),
            partial: match all.len() {
                2 => None,
                _ => partial(&all, |a, b| crossed(&likeness, a, b, None)),
            },
        });
        progress(done + 1, matched.len());
    }
    let mut all = pairs::Layers::default();
    for x in &a {
        for y in &b {
            all.push(x.layer, y.layer, crossed(&likeness, &x.forms, &y.forms, None));
        }
    }
    let table = finish(rows, n, sides[0].n_layers);
    Ok(vec![("rsa".into(), table), ("rsa_layers".into(), all.finish("rsa_layers/2", "r"))])
}

/// One layer of one set.
struct Read {
    layer: Layer,
    /// The cosines of the set's own vectors.
    own: Cosines,
    /// One for each pair of halves.
    forms: Vec<[Form; 2]>,
}

/// The cosines of the set's own vectors at a layer.
fn cosines(side: &Side, layer: Layer) -> Result<Cosines> {
    let vectors = (side.vectors)(layer)?;
    let rows: Vec<&[f64]> = vectors.vectors.chunks_exact(vectors.d_model).collect();
    let zero = rows.iter().position(|row| norm(row) == 0.0);
    ensure!(
        zero.is_none(),
        "the vector of `{}` at layer {layer} is zero",
        vectors.emotions[zero.unwrap_or(0)]
    );
    let cosines = Cosines::of(&DMatrix::from_fn(rows.len(), rows.len(), |i, j| dot(rows[i], rows[j])));
    let triangle = cosines.triangle();
    ensure!(pearson(&triangle, &triangle).is_finite(), "all cosines are equal at layer {layer}");
    Ok(cosines)
}

fn correlation(params: &Rsa, x: &Cosines, y: &Cosines) -> f64 {
    pearson(&params.correlation.values(&x.triangle()), &params.correlation.values(&y.triangle()))
}

/// The correlation over the emotions of each of `draws`, averaged over both directions and the pairs of halves.
fn over(params: &Rsa, x: &Read, y: &Read, draws: &[Vec<usize>]) -> Vec<f64> {
    let pairs = x.forms.iter().zip(&y.forms);
    let each = pairs.flat_map(|([a0, a1], [b0, b1])| [(a0, b1), (a1, b0)]);
    let each = each.map(|(a, b)| a.cosines.over(&b.cosines, params.correlation, draws));
    let each: Vec<Vec<f64>> = each.collect();
    (0..draws.len()).map(|draw| mean(&each.iter().map(|of| of[draw]).collect::<Vec<_>>())).collect()
}

/// The correlation of cosines as a similarity measure.
struct Alike(Correlation);

/// The representation that it compares.
struct Form {
    cosines: Cosines,
    /// `[emotion, emotion]`: the values that Pearson's formula is applied to, centred and scaled to unit length over
    /// the pairs above the diagonal; zeros on the diagonal.
    values: Vec<f64>,
}

impl Likeness for Alike {
    type Form = Form;

    fn form(&self, gram: DMatrix<f64>) -> Form {
        let cosines = Cosines::of(&gram);
        let mut triangle = self.0.values(&cosines.triangle());
        let centre = mean(&triangle);
        triangle.iter_mut().for_each(|x| *x -= centre);
        let length = norm(&triangle);
        let n = gram.nrows();
        let mut values = vec![0.0; n * n];
        let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        for ((i, j), x) in pairs.zip(triangle) {
            (values[i * n + j], values[j * n + i]) = (x / length, x / length);
        }
        Form { cosines, values }
    }

    fn like(&self, a: &Form, b: &Form, order: Option<&[usize]>) -> f64 {
        let Some(order) = order else { return dot(&a.values, &b.values) / 2.0 };
        let n = order.len();
        let row = |i: usize| {
            let (mine, theirs) = (&a.values[i * n..][..n], &b.values[order[i] * n..][..n]);
            mine.iter().zip(order).map(|(x, &j)| x * theirs[j]).sum::<f64>()
        };
        (0..n).map(row).sum::<f64>() / 2.0
    }
}

struct Row {
    layers: (Layer, Layer),
    r: f64,
    same: f64,
    interval: Option<Interval>,
    chance: Chance,
    ceiling: f64,
    partial: Option<f64>,
}

fn finish(rows: Vec<Row>, emotions: usize, n_layers: usize) -> Table {
    let layers = rows.iter().map(|row| (row.layers.0, row.layers.1, row.layers.0.depth(n_layers)));
    let column = |of: &dyn Fn(&Row) -> f64| Column::F64(rows.iter().map(of).collect());
    let [low, high] = pairs::columns(&rows.iter().map(|row| row.interval).collect::<Vec<_>>());
    let columns = vec![
        ("r", column(&|row| row.r)),
        ("low", low),
        ("high", high),
        ("p", column(&|row| row.chance.p())),
        ("p_names", column(&|row| row.chance.names)),
        ("p_cells", column(&|row| row.chance.cells)),
        ("r_same", column(&|row| row.same)),
        ("ceiling", column(&|row| row.ceiling)),
        ("partial", Column::OptF64(rows.iter().map(|row| row.partial).collect())),
        ("emotions", Column::I32(vec![emotions as i32; rows.len()])),
    ];
    pairs::table("rsa/3", layers.collect(), columns)
}

#[cfg(test)]
mod tests {
    use super::super::cosines::tests::made_up;
    use super::*;
    use crate::stages::statistics::correlation::ranks;
    use crate::stages::statistics::interval::p_value;

    /// Computed with SciPy over `itertools.permutations(range(5))`: the share of orders `o` with
    /// `spearmanr(A[iu], B[np.ix_(o, o)][iu])[0] >= spearmanr(A[iu], B[iu])[0] - 1e-12` for the matrices of
    /// `made_up`.
    #[test]
    fn the_p_value_tends_to_that_of_all_orders() {
        let (a, b) = (made_up(3), made_up(7));
        let r = pearson(&ranks(&a.triangle()), &ranks(&b.triangle()));
        assert!((r - R).abs() < 1e-12, "{r}");
        let likeness = Alike(Correlation::Spearman);
        let [a, b] = [a, b].map(|of| likeness.form(of.matrix()));
        assert!((likeness.like(&a, &b, None) - R).abs() < 1e-12);
        let null = rounds(1, "test", 4000, |dice| likeness.like(&a, &b, Some(&dice.shuffled(5))));
        // The standard deviation of the estimate is at most 0.008.
        let p = p_value(r, &null);
        assert!((p - EXACT).abs() < 0.03, "{p}");
    }

    const R: f64 = 0.22630075237438613;
    const EXACT: f64 = 43.0 / 120.0;
}
