//! Token-by-token readings of texts: the dot product of the residual stream with each direction, at each token and
//! layer.

mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub use rows::{Row, Said, Text, Window, rows, rows_ending};

use super::analysis::VectorSet;
use super::batches::{self, Batches};
use super::principal::norm;
use super::statistics::draws::Draws;
use crate::lm::{Chat, Hook, LanguageModel, Layer, Project, Wrap};
use crate::store::table::{Column, Table};

/// Increased when the same texts and directions would give different tables.
pub const VERSION: u32 = 1;

/// Bound on the tokens of one pass. A constant: batching changes low bits, so it must depend on the input alone.
pub const BATCH_TOKENS: usize = 4096;

/// The schema of a batch's table.
const KEPT: &str = "readings.batch/1";

/// The value in the column `turn` for a template token.
pub const TEMPLATE: i32 = -1;

/// The name of the table of texts that are skipped.
pub const UNREAD: &str = "unread";

/// The source of the texts of readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// The stories that the vectors are computed from.
    Stories,
    /// One of `[transcripts]` or of `[dialogues]`.
    Transcripts(String),
    /// User turns from the experiment file, each preceded by its class.
    Prompts(Vec<(String, String)>),
    /// Texts from the experiment file.
    Written(Vec<String>),
    /// The texts that the model wrote for the analysis: the first so many of each case in each cell.
    Rollouts(usize),
}

/// Which texts are read, and with how many directions besides the emotions'.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub from: Vec<From>,
    /// The number of random directions with the covariance of the activations.
    pub random: usize,
    /// Whether the stories themselves are needed too, for the baseline that uses words alone.
    pub words: bool,
}

/// How texts are put to the model, and how random directions are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    pub random: usize,
    pub seed: u64,
    /// For texts that are not conversations.
    pub wrap: Wrap,
    pub chat: Chat,
}

/// The names of the directions, in their order: emotions, then `random-1`, `random-2`, ...
pub fn names(emotions: &[String], random: usize) -> Vec<String> {
    emotions.iter().cloned().chain((1..=random).map(|number| format!("random-{number}"))).collect()
}

/// The directions at each layer of `set`, `[directions, d_model]` of unit norm, row-major.
///
/// Random directions are Gaussian with the covariance of the activations: each is the sum of the stories' deviations
/// from their mean, each multiplied by a standard normal number. `activations`: the tables of a layer, by the layer's
/// index in the set.
///
/// # Errors
/// A vector is zero; an activations table cannot be read.
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

/// `[random, d_model]`, not normalised.
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

/// The table `readings` (schema `readings/1`): for each text, token and layer `text_id`, `turn` (-1: a template
/// token), `token`, `piece` (the token as text), `layer` and `reading`, `[directions]`; and [`UNREAD`]: `text_id` and
/// `why` of the texts that the model's template or context does not accept.
///
/// Texts longer than the context are read in windows that overlap by half; each token's reading is from the window in
/// which the most tokens precede it.
///
/// # Errors
/// Failures that no text or template causes: out of memory, an interruption
/// ([`Interrupted`](crate::interrupt::Interrupted)).
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
    let mut project = Project::new(&layers, directions, d_model, model.device())?;
    // [row][layer, token, direction]
    let mut read: Vec<Vec<f32>> =
        rows.iter().map(|row| vec![0.0; layers.len() * row.ids.len() * width]).collect();
    let all: Vec<Place> = rows
        .iter()
        .enumerate()
        .flat_map(|(text, row)| row.windows.iter().map(move |window| Place { text, row, window }))
        .collect();
    let lengths: Vec<usize> = all.iter().map(|place| place.window.span.len()).collect();
    let mut done = 0;
    for (number, here) in model.batches(&lengths, BATCH_TOKENS).into_iter().enumerate() {
        let here: Vec<Place> = here.into_iter().map(|at| all[at]).collect();
        let values_of = |place: &Place| layers.len() * place.window.kept.len();
        let whole = |kept: &Table| kept.rows() == here.iter().map(values_of).sum::<usize>();
        let table = batches::batch(batches, number, KEPT, whole, |_| {
            pass(&here, (&layers, width), &mut project, model)
        })?;
        let (_, mut values) = table.list("reading")?;
        for place in &here {
            let (kept, n) = (&place.window.kept, place.row.ids.len());
            for layer in 0..layers.len() {
                let (own, others) = values.split_at(kept.len() * width);
                let at = (layer * n + kept.start) * width;
                read[place.text][at..at + own.len()].copy_from_slice(own);
                values = others;
            }
        }
        done += here.len();
        batches.at(done * texts.len() / all.len(), texts.len());
    }
    table(&rows, &layers, width, read, model).map(|table| [table, unread_table(unread)])
}

/// A window of a text.
#[derive(Clone, Copy)]
struct Place<'r> {
    /// The index of the row.
    text: usize,
    row: &'r Row,
    window: &'r Window,
}

/// The readings of one pass: window after window, then by layer, then by the tokens that the window keeps.
fn pass(
    batch: &[Place],
    (layers, width): (&[Layer], usize),
    project: &mut Project,
    model: &LanguageModel,
) -> Result<Table> {
    let mut values: Vec<f32> = Vec::new();
    model.in_halves(batch, &mut |part| {
        let ids: Vec<&[i64]> = part.iter().map(|place| &place.row.ids[place.window.span.clone()]).collect();
        let last = layers.iter().copied().max();
        let batch = model.batch(&ids)?;
        let _resid = model.forward(&batch, &mut [&mut *project as &mut dyn Hook], last)?;
        let products = project.take()?;
        for (row, place) in part.iter().enumerate() {
            let (span, kept) = (&place.window.span, &place.window.kept);
            for layer in 0..layers.len() as i64 {
                let own = batch.row(&products.get(layer), row);
                let own = own.narrow(0, (kept.start - span.start) as i64, kept.len() as i64);
                values.extend(Vec::<f32>::try_from(own.reshape(-1))?);
            }
        }
        Ok(())
    })?;
    Ok(Table::new(KEPT, vec![("reading", Column::List { width, values, half: false })]))
}

/// The table of [`UNREAD`] texts, each with the reason.
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
    // Each distinct token is decoded once.
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
