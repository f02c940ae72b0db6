//! Texts read token by token: the product of the residual stream with each direction, at each token of each text and each layer.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tch::Tensor;

pub use rows::{Row, Said, Text, rows, rows_ending};

use super::analysis::VectorSet;
use super::batches::Batches;
use super::principal::norm;
use super::statistics::draws::Draws;
use crate::interrupt::Interrupted;
use crate::lm::{Batch, Chat, Hook, LanguageModel, Layer, Project, Wrap};
use crate::store::table::{Column, Table};

/// Raised when the same texts and directions would give other tables.
pub const VERSION: u32 = 1;

/// Bound on padded tokens of one pass. A constant: batches change low bits, so they may hang on nothing but the input.
pub const BATCH_TOKENS: usize = 4096;

/// What stands in the column `turn` of a token of the template.
pub const TEMPLATE: i32 = -1;

/// The table of texts that are not read.
pub const UNREAD: &str = "unread";

/// Where the texts of readings are from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// The stories that the vectors are made of.
    Stories,
    /// One of `[transcripts]` or of `[dialogues]`.
    Transcripts(String),
    /// The user's turns of the experiment file, each after its class.
    Prompts(Vec<(String, String)>),
    /// The experiment file.
    Written(Vec<String>),
}

/// What is read, and with which directions beside the emotions'.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub from: Vec<From>,
    /// Random directions of the same covariance.
    pub random: usize,
    /// Whether the stories themselves are wanted too, for what words alone say.
    pub words: bool,
}

/// How texts are put to the model.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    pub random: usize,
    pub seed: u64,
    /// Of texts that are no conversations.
    pub wrap: Wrap,
    pub chat: Chat,
}

/// The names of the directions, in their order: emotions, then `random-1`, `random-2`, ...
pub fn names(emotions: &[String], random: usize) -> Vec<String> {
    emotions.iter().cloned().chain((1..=random).map(|number| format!("random-{number}"))).collect()
}

/// The directions at each layer of `set`, `[directions, d_model]` of unit norm, row after row.
///
/// Random ones are Gaussian with the covariance of the activations: each is the sum of the stories' deviations from their mean, each
/// times a standard normal number. `activations`: the tables of a layer, by its place in the set.
///
/// # Errors
/// A vector that is zero; an activations table that cannot be read.
pub fn directions(
    set: &VectorSet,
    params: &Params,
    activations: &dyn Fn(usize) -> Result<Vec<Table>>,
) -> Result<Vec<Vec<f32>>> {
    let layer = |(at, here): (usize, &super::analysis::LayerVectors)| {
        let mut rows = here.vectors.clone();
        if params.random > 0 {
            rows.extend(random(&activations(at)?, here.d_model, params, here.layer)?);
        }
        for (number, row) in rows.chunks_exact_mut(here.d_model).enumerate() {
            let length = norm(row);
            let name = || here.emotions.get(number).cloned().unwrap_or("random".into());
            ensure!(
                length > 0.0,
                "the vector of `{}` at layer {} is zero: it has no direction",
                name(),
                here.layer
            );
            row.iter_mut().for_each(|x| *x /= length);
        }
        Ok(rows.into_iter().map(|x| x as f32).collect())
    };
    set.layers.iter().enumerate().map(layer).collect()
}

/// `[random, d_model]`, of any norm.
fn random(tables: &[Table], d: usize, params: &Params, layer: Layer) -> Result<Vec<f64>> {
    let mut draws: Vec<Draws> = (1..=params.random)
        .map(|n| Draws::new("readings random", &[params.seed, layer.number() as u64, n as u64]))
        .collect();
    let (mut sums, mut total) = (vec![0.0; params.random * d], vec![0.0; d]);
    let (mut weights, mut n) = (vec![0.0; params.random], 0.0);
    for table in tables {
        let (width, values) = table.list("activation")?;
        ensure!(width == d || table.rows() == 0, "activations of width {width}, and vectors of {d}");
        for row in values.chunks_exact(d) {
            n += 1.0;
            total.iter_mut().zip(row).for_each(|(t, x)| *t += f64::from(*x));
            for ((draw, weight), sum) in draws.iter_mut().zip(&mut weights).zip(sums.chunks_exact_mut(d)) {
                let g = draw.normal();
                *weight += g;
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += g * f64::from(*x));
            }
        }
    }
    ensure!(n >= 2.0, "fewer than two activations at layer {layer}: no covariance");
    for (weight, sum) in weights.iter().zip(sums.chunks_exact_mut(d)) {
        sum.iter_mut().zip(&total).for_each(|(s, t)| *s -= weight * t / n);
    }
    Ok(sums)
}

/// The table `readings` (schema `readings/1`): for each text, token and layer `text_id`, `turn` (-1: a token of the template),
/// `token`, `piece` (the token as text), `layer` and `reading`, `[directions]`; and [`UNREAD`]: `text_id` and `why` of those that
/// the model's template or context does not take.
///
/// Texts longer than the context are read in windows that overlap by half: each token in the one in which most stands before it.
///
/// # Errors
/// What is neither a text nor the template's to blame: memory, an interruption ([`Interrupted`]).
pub fn run(
    texts: &[Text],
    set: &VectorSet,
    directions: &[Vec<f32>],
    params: &Params,
    model: &LanguageModel,
    batches: &mut dyn Batches,
) -> Result<[Table; 2]> {
    let (rows, unread) = rows(texts, params, model);
    if !unread.is_empty() {
        batches.note(&format!("{} of {} texts cannot be read: {}", unread.len(), texts.len(), unread[0].1));
    }
    ensure!(
        !rows.is_empty(),
        "none of {} texts can be read: {}",
        texts.len(),
        unread.first().map_or("", |u| &u.1)
    );
    if rows.iter().any(|row| row.windows.len() > 1) {
        let n = rows.iter().filter(|row| row.windows.len() > 1).count();
        let context = model.spec.context;
        batches.note(&format!(
            "{n} longer than the context of {context} tokens: read in windows that overlap by half"
        ));
    }
    let layers: Vec<Layer> = set.layers.iter().map(|layer| layer.layer).collect();
    let d_model = set.layers.first().context("there are no vectors")?.d_model;
    let width = directions[0].len() / d_model;
    let last = layers.iter().copied().max();
    let mut project = Project::new(&layers, directions, d_model, model.device())?;
    // [row][layer, token, direction]
    let mut read: Vec<Vec<f32>> =
        rows.iter().map(|row| vec![0.0; layers.len() * row.ids.len() * width]).collect();
    let windows: Vec<(usize, usize)> =
        rows.iter().enumerate().flat_map(|(row, r)| (0..r.windows.len()).map(move |w| (row, w))).collect();
    let length = |&(row, window): &(usize, usize)| rows[row].windows[window].span.len();
    let mut order = windows.clone();
    order.sort_by_key(|at| std::cmp::Reverse(length(at)));
    let mut done = 0;
    while done < order.len() {
        if batches.stopped() {
            bail!(Interrupted);
        }
        let most = (BATCH_TOKENS / length(&order[done])).max(1);
        let here = &order[done..(done + most).min(order.len())];
        model.in_halves(here, &mut |here| {
            let ids: Vec<&[i64]> =
                here.iter().map(|&(row, w)| &rows[row].ids[rows[row].windows[w].span.clone()]).collect();
            let batch = Batch::new(&ids)?;
            let _resid = model.forward(&batch, &mut [&mut project as &mut dyn Hook], last)?;
            let products = project.take()?;
            for (i, &(row, window)) in here.iter().enumerate() {
                let (window, n) = (&rows[row].windows[window], rows[row].ids.len());
                for layer in 0..layers.len() {
                    let own: Tensor = products.get(layer as i64).get(i as i64);
                    let from = window.kept.start - window.span.start;
                    let own = own.narrow(0, from as i64, window.kept.len() as i64).contiguous().view([-1]);
                    let values = Vec::<f32>::try_from(own)?;
                    let at = (layer * n + window.kept.start) * width;
                    read[row][at..at + values.len()].copy_from_slice(&values);
                }
            }
            Ok(())
        })?;
        done += here.len();
        batches.at(done * texts.len() / order.len(), texts.len());
    }
    table(&rows, &layers, width, read, model).map(|table| [table, unread_table(unread)])
}

/// The table of [`UNREAD`] texts, each with why.
pub fn unread_table(unread: Vec<(String, String)>) -> Table {
    let (ids, whys) = unread.into_iter().unzip();
    Table::new("unread/1", vec![("text_id", Column::Str(ids)), ("why", Column::Str(whys))])
}

fn table(
    rows: &[Row],
    layers: &[Layer],
    width: usize,
    read: Vec<Vec<f32>>,
    model: &LanguageModel,
) -> Result<Table> {
    let (mut id, mut turn, mut token, mut piece, mut layer) = (vec![], vec![], vec![], vec![], vec![]);
    // Each token is decoded once.
    let mut known: HashMap<i64, String> = HashMap::new();
    for row in rows {
        let shown = |id: &i64| known.entry(*id).or_insert_with(|| model.token(*id as u32)).clone();
        let pieces: Vec<String> = row.ids.iter().map(shown).collect();
        for here in layers {
            for (at, text) in pieces.iter().enumerate() {
                id.push(row.text_id.clone());
                turn.push(row.turn_of(at).map_or(TEMPLATE, |turn| turn as i32));
                token.push(at as i32);
                piece.push(text.clone());
                layer.push(here.number());
            }
        }
    }
    let values = read.concat();
    ensure!(values.iter().all(|x| x.is_finite()), "the residual stream of a text is NaN or infinite");
    Ok(Table::new(
        "readings/1",
        vec![
            ("text_id", Column::Str(id)),
            ("turn", Column::I32(turn)),
            ("token", Column::I32(token)),
            ("piece", Column::Str(piece)),
            ("layer", Column::I32(layer)),
            ("reading", Column::List { width, values, half: false }),
        ],
    ))
}
