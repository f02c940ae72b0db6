//! The conversations about one case under steering: in every cell, several samples each, turn after turn. Independent
//! of how the texts are scored.

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::cells::Cell;
use super::conversation::{messages, open};
use super::{Asked, Writing};
use crate::lm::{Chat, Hook, LanguageModel, Layer, Sampling, Spans, Steer};
use crate::stages::batches::{self, Batches};
use crate::store::table::{Column, Table};

/// Conversations written in parallel. A constant: batching changes low bits, so it must depend on the plan alone.
pub const BATCH: usize = 64;

/// The schema of a batch's table.
const KEPT: &str = "rollouts.batch/1";

/// One conversation to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub cell: usize,
    pub sample: usize,
}

/// A finished conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub place: Place,
    /// The model's answer to the last turn, and its earlier answers in order.
    pub text: String,
    pub before: Vec<String>,
    /// `end`: the model ended it; `length`: `max_new_tokens` was reached; `context`: the context was full.
    pub ended: String,
    /// The tokens of all its answers.
    pub tokens: usize,
}

/// All conversations about a case, cell after cell.
pub fn places(cells: usize, samples: usize) -> Vec<Place> {
    (0..cells).flat_map(|cell| (0..samples).map(move |sample| Place { cell, sample })).collect()
}

/// The seed of an answer: the same in all cells, so that cells differ only by the added vector.
pub fn seed(run: u64, case: &str, sample: usize, turn: usize) -> u64 {
    let digest = Sha256::digest(format!("scenario\n{run}\n{case}\n{sample}\n{turn}"));
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has eight bytes"))
}

/// All conversations about a case, in the order of [`places`]; within a batch, prompts share their common prefix. Each
/// finished batch is kept.
///
/// # Errors
/// Those of the chat template; a conversation that does not fit the context;
/// [`Interrupted`](crate::interrupt::Interrupted).
pub fn write(
    writing: &Writing,
    case: &Asked,
    (model, chat): (&LanguageModel, Chat),
    (layers, cells, run): (&[Layer], &[Cell], u64),
    batches: &mut dyn Batches,
) -> Result<Vec<Rollout>> {
    let mut all = Vec::new();
    let places = places(cells.len(), writing.texts.samples);
    for (number, here) in places.chunks(BATCH).enumerate() {
        let whole = |kept: &Table| read(kept, here).is_ok();
        let done = all.len();
        let kept = batches::batch(batches, number, KEPT, whole, |batches| {
            let mut told = |ended: usize| batches.at(done + ended, places.len());
            let written = converse(writing, case, here, (model, chat), (layers, cells, run), &mut told);
            Ok(table(&written.with_context(|| format!("case `{}`", case.name))?))
        })?;
        all.extend(read(&kept, here)?);
        batches.at(all.len(), places.len());
    }
    Ok(all)
}

/// Writes one batch, turn after turn.
fn converse(
    writing: &Writing,
    case: &Asked,
    here: &[Place],
    (model, chat): (&LanguageModel, Chat),
    (layers, cells, run): (&[Layer], &[Cell], u64),
    told: &mut dyn FnMut(usize),
) -> Result<Vec<Rollout>> {
    let Writing { texts, steering, .. } = writing;
    let sampling = Sampling {
        max_new_tokens: texts.max_new_tokens,
        temperature: texts.temperature,
        top_k: 0,
        top_p: texts.top_p,
    };
    let scripted = case.replies.len();
    let mut replies: Vec<Vec<String>> = vec![case.replies.clone(); here.len()];
    let mut tokens = vec![0; here.len()];
    let mut ended = vec![""; here.len()];
    for turn in scripted..case.turns.len() {
        let is_last = turn + 1 == case.turns.len();
        let answer = if is_last { case.answer.as_str() } else { "" };
        let opened = replies.iter().map(|replies| {
            let messages = messages(case, replies, "");
            open(model, &messages, answer, steering.positions, chat)
        });
        let opened = opened.collect::<Result<Vec<_>>>()?;
        for conversation in &opened {
            let (n, wanted, context) = (conversation.ids.len(), texts.max_new_tokens, model.spec.context);
            ensure!(
                n + wanted <= context,
                "a conversation of {n} tokens and `max_new_tokens` = {wanted} do not fit the model's context of {context}"
            );
        }
        let rows: Vec<usize> = (0..here.len()).collect();
        let mut done = 0;
        let written = model.in_halves(&rows, &mut |rows| {
            let prompts: Vec<Vec<i64>> = rows.iter().map(|&row| opened[row].ids.clone()).collect();
            let seeds: Vec<u64> =
                rows.iter().map(|&row| seed(run, &case.name, here[row].sample, turn)).collect();
            let mut hooks: Vec<Steer> = layers
                .iter()
                .enumerate()
                .map(|(at, &layer)| Steer {
                    layer,
                    vector: vectors(rows, here, cells, (at, layers.len(), model.spec.d_model)),
                    strength: 1.0,
                    spans: Spans::Each(rows.iter().map(|&row| opened[row].spans.clone()).collect()),
                })
                .collect();
            let mut hooks: Vec<&mut dyn Hook> = hooks.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
            let mut progress = |ended: usize| {
                if is_last {
                    told(done + ended);
                }
            };
            let written = model.generate(&prompts, &sampling, &seeds, &mut hooks, &mut progress)?;
            done += rows.len();
            Ok(written)
        })?;
        for (row, ids) in written.concat().into_iter().enumerate() {
            tokens[row] += ids.len();
            ended[row] = if ids.len() >= texts.max_new_tokens { "length" } else { "end" };
            replies[row].push(format!("{answer}{}", model.decode(&ids)?));
        }
    }
    let rollouts = here.iter().zip(replies).zip(tokens).zip(ended);
    let rollout = |(((place, mut replies), tokens), ended): (((&Place, Vec<String>), usize), &str)| Rollout {
        place: *place,
        text: replies.pop().unwrap_or_default(),
        before: replies.split_off(scripted.min(replies.len())),
        ended: ended.to_string(),
        tokens,
    };
    Ok(rollouts.map(rollout).collect())
}

/// `[row, d_model]`: the vector added to each row at one of the layers; zeros for unsteered rows.
fn vectors(
    rows: &[usize],
    here: &[Place],
    cells: &[Cell],
    (at, layers, d_model): (usize, usize, usize),
) -> Tensor {
    let of_row = |&row: &usize| -> Vec<f32> {
        match cells[here[row].cell].vector.as_slice() {
            [] => vec![0.0; d_model],
            all => all[at * all.len() / layers..(at + 1) * all.len() / layers].to_vec(),
        }
    };
    let flat: Vec<f32> = rows.iter().flat_map(of_row).collect();
    Tensor::from_slice(&flat).view([rows.len() as i64, d_model as i64])
}

fn table(rollouts: &[Rollout]) -> Table {
    let integers = |of: fn(&Rollout) -> usize| Column::I32(rollouts.iter().map(|r| of(r) as i32).collect());
    let texts = |of: &dyn Fn(&Rollout) -> String| Column::Str(rollouts.iter().map(of).collect());
    let before = |r: &Rollout| serde_json::to_string(&r.before).expect("a list of texts");
    Table::new(
        KEPT,
        vec![
            ("cell", integers(|r| r.place.cell)),
            ("sample", integers(|r| r.place.sample)),
            ("tokens", integers(|r| r.tokens)),
            ("text", texts(&|r| r.text.clone())),
            ("before", texts(&before)),
            ("ended", texts(&|r| r.ended.clone())),
        ],
    )
}

/// The rollouts of a kept batch. An error if they are not those of `here`.
fn read(table: &Table, here: &[Place]) -> Result<Vec<Rollout>> {
    let numbers = [table.i32("cell")?, table.i32("sample")?];
    let (tokens, text, before, ended) =
        (table.i32("tokens")?, table.str("text")?, table.str("before")?, table.str("ended")?);
    ensure!(table.rows() == here.len(), "a batch of another size");
    let rollout = |(row, place): (usize, &Place)| {
        let found = numbers.map(|column| column[row] as usize);
        ensure!(found == [place.cell, place.sample], "a batch of other conversations");
        Ok(Rollout {
            place: *place,
            text: text[row].clone(),
            before: serde_json::from_str(&before[row])?,
            ended: ended[row].clone(),
            tokens: tokens[row] as usize,
        })
    };
    here.iter().enumerate().map(rollout).collect()
}
