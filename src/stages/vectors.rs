//! From activations to neutral components and emotion vectors.

pub mod imported;
mod params;

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

pub use params::{Center, Denoise, Equal, Params};

use super::principal::{self, dot, norm};
use crate::store::table::{Column, Table};

/// Increased when the same activations would give different vectors.
pub const VERSION: u32 = 2;

/// Increased when the same activations of neutral text would give different components.
pub const NEUTRAL_VERSION: u32 = 1;

/// The number of components that are stored even if they are not removed: enough for a scree plot.
const SHOWN: usize = 64;

/// The principal components of the mean-centred activations of neutral text (schema `neutral/1`), one row per
/// component, and which of them are removed.
///
/// `activations`: the tables of one layer, with one row per text, or per token of a text (`denoise`). The leading
/// components are stored, including all that are removed. An error if there are fewer than two texts, or if more
/// components are requested than the texts have.
pub fn neutral(params: &Params, activations: &[Table]) -> Result<Table> {
    let pooled = Pooled::gather(activations)?.context(NO_ROW)?;
    let rows: Vec<f64> =
        pooled.rows.iter().flat_map(|row| row.values.iter().map(|&x| f64::from(x))).collect();
    let d_model = pooled.d_model;
    let components = principal::components(&rows, d_model)
        .with_context(|| format!("neutral text at layer {} ({} texts)", pooled.layer, pooled.rows.len()))?;
    let found = components.ratios.len();
    let removed = match params.denoise {
        Denoise::None => 0,
        Denoise::Components(wanted) => {
            ensure!(
                wanted <= found,
                "`denoise` removes {wanted} components, but {} neutral texts have only {found} at layer {}",
                pooled.rows.len(),
                pooled.layer
            );
            wanted
        }
        Denoise::Variance(wanted) => fewest(&components.ratios, wanted),
    };
    let kept = found.min(SHOWN.max(removed));
    Ok(Table::new(
        "neutral/1",
        vec![
            ("layer", Column::I32(vec![pooled.layer; kept])),
            ("component", Column::I32((1..=kept as i32).collect())),
            ("explained_variance_ratio", Column::F32(to_f32(&components.ratios[..kept]))),
            ("removed", Column::Bool((0..kept).map(|i| i < removed).collect())),
            ("direction", list(d_model, to_f32(&components.directions[..kept * d_model]))),
        ],
    ))
}

/// The number of leading `ratios` whose sum reaches the fraction `wanted`; all of them if rounding prevents it.
pub(super) fn fewest(ratios: &[f64], wanted: f64) -> usize {
    let mut sum = 0.0;
    let reach = |ratio: &f64| {
        sum += ratio;
        sum >= wanted - 1e-12
    };
    if wanted <= 0.0 { 0 } else { ratios.iter().position(reach).map_or(ratios.len(), |at| at + 1) }
}

/// One vector per emotion at one layer (schema `vectors/2`), in the order of `emotions`.
///
/// `activations`: the tables of one layer, shard after shard, only one of which is held in memory at a time; rows of
/// other emotions are not checked. `neutral`: the table of [`neutral()`] for that layer. In float64: `raw` is the mean
/// over an emotion's stories (or over its topics' means, where a story without a topic counts as a topic of its own:
/// `weights`), minus the mean over emotions of those means (`center`); `vector` is `v - U U^T v` with the removed
/// components `U`, scaled to unit length if `normalize` is set. `resid_norm` is the mean norm of the residuals of the
/// pooled tokens, averaged within each story and then over the stories of these emotions; `rest_norm` is the same
/// without each story's largest dimensions; `pooled_norm` is the mean norm of the pooled residuals, which is smaller.
///
/// An error if an emotion has no story left, if `denoise` requires components and `neutral` is absent, or if a table
/// cannot be read.
pub fn run(
    params: &Params,
    activations: impl IntoIterator<Item = Result<Table>>,
    emotions: &[String],
    neutral: Option<&Table>,
) -> Result<Table> {
    let mut sums = Sums::new(emotions, params.weights);
    for table in activations {
        sums.add(&table?)?;
    }
    let Sums { at: (layer, d_model), counts, mut raw, norms, means, .. } = sums.whole()?;
    let removed = removed(params, neutral, layer, d_model)?;
    for ((emotion, &count), mean) in emotions.iter().zip(&counts).zip(raw.chunks_exact_mut(d_model)) {
        ensure!(
            count > 0,
            "`{emotion}` has no story at layer {layer}: all were too short for `from_token`, or none was accepted"
        );
        mean.iter_mut().for_each(|x| *x /= count as f64);
    }
    if params.weights == Equal::Topics {
        raw = means.into_iter().flat_map(|topics| topics.mean(d_model)).collect();
    }
    let vectors = of_means(params, &removed, emotions, &mut raw, d_model)?;
    let stories = counts.iter().sum::<usize>() as f64;
    let norm = |at: usize| Column::F32(vec![(norms[at] / stories) as f32; emotions.len()]);
    Ok(Table::new(
        "vectors/2",
        vec![
            ("emotion", Column::Str(emotions.to_vec())),
            ("layer", Column::I32(vec![layer; emotions.len()])),
            ("n_stories", Column::I32(counts.iter().map(|&n| n as i32).collect())),
            ("vector", list(d_model, to_f32(&vectors))),
            ("raw", list(d_model, to_f32(&raw))),
            ("resid_norm", norm(0)),
            ("rest_norm", norm(1)),
            ("pooled_norm", norm(2)),
        ],
    ))
}

/// The vectors (`[emotion, d_model]`) from the emotions' means, which are centred in place: the directions `removed`
/// are projected out, and the vectors are scaled to unit length if `params` requires it.
///
/// An error if a vector that is to be normalised is zero.
pub fn of_means(
    params: &Params,
    removed: &[Vec<f64>],
    emotions: &[String],
    means: &mut [f64],
    d_model: usize,
) -> Result<Vec<f64>> {
    if params.center == Center::Emotions {
        centre(means, d_model);
    }
    let mut vectors = means.to_vec();
    for (emotion, vector) in emotions.iter().zip(vectors.chunks_exact_mut(d_model)) {
        project_out(vector, removed);
        if params.normalize {
            let norm = norm(vector);
            ensure!(norm > 0.0, "the vector of `{emotion}` is zero and cannot be normalised");
            vector.iter_mut().for_each(|x| *x /= norm);
        }
    }
    Ok(vectors)
}

/// Centres the means on their mean and projects `removed` out of each, in place: `[label, d]`.
pub fn without(means: &mut [f64], removed: &[Vec<f64>], d: usize) {
    centre(means, d);
    means.chunks_exact_mut(d).for_each(|vector| project_out(vector, removed));
}

/// The directions that `params` removes from vectors at a layer. `neutral`: the table of [`neutral()`] for that layer.
///
/// An error if components are to be removed and the table is absent or belongs to another model or layer.
pub fn removed(
    params: &Params,
    neutral: Option<&Table>,
    layer: i32,
    d_model: usize,
) -> Result<Vec<Vec<f64>>> {
    let table = match (params.denoise, neutral) {
        (Denoise::None, _) => return Ok(Vec::new()),
        (_, Some(table)) => table,
        (_, None) => bail!("`denoise` needs the components of neutral text"),
    };
    let (width, values) = table.list("direction")?;
    ensure!(
        width == d_model && table.i32("layer")?.iter().all(|&of| of == layer),
        "the neutral components are of another model or layer"
    );
    let rows = values.chunks_exact(width).zip(table.bool("removed")?).filter(|(_, removed)| **removed);
    Ok(rows.map(|(row, _)| row.iter().map(|&x| f64::from(x)).collect()).collect())
}

/// Running sums over the activations of one layer, in row order.
struct Sums<'a> {
    emotions: &'a [String],
    /// Layer and `d_model`, set by the first row.
    at: (i32, usize),
    /// The number of rows of each emotion.
    counts: Vec<usize>,
    /// `[emotion, d_model]`
    raw: Vec<f64>,
    /// Sums of norms: of tokens, of tokens without their largest dimensions, and of pooled residuals.
    norms: [f64; 3],
    weights: Equal,
    /// For each emotion, its topics; used only if every topic has equal weight.
    means: Vec<Topics>,
}

/// The stories of one emotion by topic.
#[derive(Clone, Default)]
struct Topics {
    /// For each topic, the number of stories and their sum.
    sums: BTreeMap<String, (f64, Vec<f64>)>,
    /// Stories without a topic, each of which counts as a topic of its own.
    alone: (f64, Vec<f64>),
}

impl Topics {
    fn add(&mut self, topic: Option<&String>, row: &[f64]) {
        let (count, sum) = match topic {
            Some(topic) => self.sums.entry(topic.clone()).or_default(),
            None => &mut self.alone,
        };
        *count += 1.0;
        sum.resize(row.len(), 0.0);
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }

    /// The mean of the topics' means.
    fn mean(&self, d: usize) -> Vec<f64> {
        let topics = self.sums.len() as f64 + self.alone.0;
        let mut mean = vec![0.0; d];
        let each = self.sums.values().map(|(count, sum)| (1.0 / (count * topics), sum));
        for (weight, sum) in each.chain([(1.0 / topics, &self.alone.1)]) {
            mean.iter_mut().zip(sum).for_each(|(mean, x)| *mean += weight * x);
        }
        mean
    }
}

impl Sums<'_> {
    fn new(emotions: &[String], weights: Equal) -> Sums<'_> {
        let n = emotions.len();
        let (counts, means) = (vec![0; n], vec![Topics::default(); n]);
        Sums { emotions, at: (0, 0), counts, raw: Vec::new(), norms: [0.0; 3], weights, means }
    }

    fn add(&mut self, table: &Table) -> Result<()> {
        let pooled = Pooled::gather([table])?;
        let Some(Pooled { layer, d_model, rows }) = pooled else { return Ok(()) };
        if self.raw.is_empty() {
            self.at = (layer, d_model);
            self.raw = vec![0.0; self.emotions.len() * d_model];
        }
        ensure!(self.at == (layer, d_model), "activations of different layers or widths");
        let places: HashMap<&str, usize> =
            self.emotions.iter().enumerate().map(|(at, emotion)| (emotion.as_str(), at)).collect();
        for row in rows {
            let Some(&at) = row.emotion.and_then(|emotion| places.get(emotion.as_str())) else { continue };
            let values: Vec<f64> = row.values.iter().map(|&x| f64::from(x)).collect();
            let norms = [row.norms[0], row.norms[1], norm(&values)];
            self.norms.iter_mut().zip(norms).for_each(|(sum, norm)| *sum += norm);
            self.counts[at] += 1;
            if self.weights == Equal::Topics {
                self.means[at].add(row.topic, &values);
            }
            self.raw[at * d_model..][..d_model].iter_mut().zip(values).for_each(|(sum, x)| *sum += x);
        }
        Ok(())
    }

    /// Returns `self`; an error if there was no row.
    fn whole(self) -> Result<Self> {
        ensure!(!self.raw.is_empty(), NO_ROW);
        Ok(self)
    }
}

/// Subtracts the mean row from `rows` (`[n, d]`).
fn centre(rows: &mut [f64], d: usize) {
    let n = (rows.len() / d) as f64;
    let mut mean = vec![0.0; d];
    rows.chunks_exact(d).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n));
    rows.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
}

/// `v - U U^T v`; all coefficients are computed before anything is subtracted.
pub(super) fn project_out(vector: &mut [f64], directions: &[Vec<f64>]) {
    let coefficients: Vec<f64> = directions.iter().map(|u| dot(u, vector)).collect();
    for (u, c) in directions.iter().zip(coefficients) {
        vector.iter_mut().zip(u).for_each(|(x, u)| *x -= c * u);
    }
}

/// The rows of one layer's activation tables.
struct Pooled<'a> {
    layer: i32,
    d_model: usize,
    rows: Vec<PooledRow<'a>>,
}

const NO_ROW: &str = "no story has a token at `from_token`: every one is too short";

struct PooledRow<'a> {
    emotion: Option<&'a String>,
    topic: Option<&'a String>,
    values: &'a [f32],
    /// Mean token norms, with the largest dimensions and without.
    norms: [f64; 2],
}

impl Pooled<'_> {
    /// `None` if there are no rows.
    fn gather<'a>(tables: impl IntoIterator<Item = &'a Table>) -> Result<Option<Pooled<'a>>> {
        let mut found: Option<Pooled> = None;
        for table in tables.into_iter().filter(|table| table.rows() > 0) {
            let (d_model, values) = table.list("activation")?;
            let layer = table.i32("layer")?[0];
            let pooled = found.get_or_insert(Pooled { layer, d_model, rows: Vec::new() });
            let same = pooled.d_model == d_model && table.i32("layer")?.iter().all(|&l| l == pooled.layer);
            ensure!(same, "activations of different layers or widths");
            let (emotions, topics) = (table.opt_str("emotion")?, table.opt_str("topic")?);
            let norms = table.f32("token_norm")?.iter().zip(table.f32("token_norm_rest")?);
            let rows = emotions.iter().zip(topics).zip(values.chunks_exact(d_model)).zip(norms);
            pooled.rows.extend(rows.map(|(((emotion, topic), values), (&whole, &rest))| PooledRow {
                emotion: emotion.as_ref(),
                topic: topic.as_ref(),
                values,
                norms: [f64::from(whole), f64::from(rest)],
            }));
        }
        Ok(found)
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

fn list(width: usize, values: Vec<f32>) -> Column {
    Column::List { width, values, half: false }
}

#[cfg(test)]
mod tests;
