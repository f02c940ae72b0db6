//! From stories to pooled residual-stream activations.

mod tokens;

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use tch::{Device, Tensor};

use super::batches::{self, Batches};
use crate::interrupt::Interrupted;
use crate::lm::{Batch, Capture, Hook, LanguageModel, Layer};
use crate::params::{params, words};
use crate::store::table::{Column, Table};

use tokens::name;

pub use crate::lm::Wrap;
pub use tokens::{EXCEPTIONS, Exception, Read, Row, largest_batch, most_tokens, read};

/// Increased when the same stories would give different activations.
pub const VERSION: u32 = 4;

/// The schema of a batch's table: `layer`, and `activation` in fp32, each followed by the two norms of a
/// [`Capture::with_norms`].
const KEPT: &str = "activations.batch/3";

params! {
    /// How a story becomes one activation a layer: the mean of the residual stream over its tokens.
    pub struct Params {
        /// Pool over the story's own tokens from this one on, counted from 0. Padding, BOS and template tokens never count.
        pub from_token: usize = 50, 0..;
        /// As it stands (`raw`), or as a turn inside the model's chat template (`user`, `assistant`).
        pub wrap: Wrap = "raw";
        /// A story with no token at `from_token` is skipped and counted (`skip`), an `error`, or pooled over all of its tokens
        /// (`whole`).
        pub short: Short = "skip";
        /// A text of more tokens than the model's context is an `error`, skipped and counted (`skip`), or read up to the end of
        /// the context and counted (`cut`).
        pub long: Long = "error";
        /// At most so many tokens in a batch, padding included where there is any. Part of the keys of activations, because it changes low bits.
        #[unset("2048 on the CPU, else 8192")]
        pub batch_tokens: Option<usize>, 1..;
        /// The type that activations are stored in.
        pub store_dtype: StoreDtype = "f32";
    }
}

words! {
    /// What is done with a story that has no token at `from_token`.
    pub enum Short {
        /// Skipped, and counted in the report.
        Skip = "skip",
        Error = "error",
        /// Pooled over all of its tokens.
        Whole = "whole",
    }
}

words! {
    /// What is done with a text of more tokens than the model's context, BOS and chat template counted.
    pub enum Long {
        Error = "error",
        /// Skipped, and counted in the report.
        Skip = "skip",
        /// Read up to the end of the context, and counted in the report.
        Cut = "cut",
    }
}

words! {
    /// The type in which pooled activations are stored.
    pub enum StoreDtype {
        F32 = "f32",
        F16 = "f16",
    }
}

impl Params {
    /// The limit on tokens per batch on `device`: the configured one, or else 2048 on the CPU, where the
    /// temporaries of a batch then fit in its caches, and 8192 elsewhere, which keeps a GPU busy
    /// (`docs/design/performance.md`).
    pub fn batch_tokens(&self, device: Device) -> usize {
        self.batch_tokens.unwrap_or(if device == Device::Cpu { 2048 } else { 8192 })
    }
}

/// One activations table (schema `activations/2`) for each of `layers`, in their order; its rows are in the order of
/// `rows`, the stories (see [`read`]).
///
/// An activation is the mean, in fp32, of `resid_post` at a layer over the story's own tokens from `from_token` on.
/// `token_norm`: the mean norm of these tokens' residuals, which is larger than the norm of their mean;
/// `token_norm_rest`: the same without the [`LARGEST`](crate::lm::LARGEST) dimensions in which that mean is largest.
/// All layers come from one forward pass, which ends at the last of them. `batches` receives the number of finished
/// stories and keeps the fp32 activations of each batch at all layers.
///
/// An error names the story whose activation is NaN or infinite.
pub fn run(
    params: &Params,
    layers: &[Layer],
    rows: &[Row],
    model: &LanguageModel,
    batches: &mut dyn Batches,
) -> Result<Vec<Table>> {
    let (firsts, first_of) = alike(rows);
    let mut pooled: Vec<Vec<Vec<f32>>> = layers.iter().map(|_| vec![Vec::new(); rows.len()]).collect();
    let lengths: Vec<usize> = firsts.iter().map(|&row| rows[row].ids.len()).collect();
    let order: Vec<Vec<usize>> = model
        .batches(&lengths, params.batch_tokens(model.device()))
        .into_iter()
        .map(|batch| batch.into_iter().map(|place| firsts[place]).collect())
        .collect();
    // A kept batch may have more or fewer layers, since another run may have asked for others. And lost stories may
    // have been written again with different texts.
    let whole = |batch: &[usize], table: &Table| layers.iter().all(|&l| is_of(table, l, rows, batch));
    let mut tables: Vec<Option<Table>> = vec![None; order.len()];
    if model.is_streamed() {
        all_at_once(rows, &order, layers, model, batches, &whole, &mut tables)?;
    }
    let mut done = 0;
    for ((number, batch), made) in order.iter().enumerate().zip(tables) {
        let table = match made {
            Some(table) => table,
            None => {
                let work = |_: &mut dyn Batches| pass(rows, batch, layers, model);
                batches::batch(batches, number, KEPT, |table| whole(batch, table), work)?
            }
        };
        for (&layer, pooled) in layers.iter().zip(&mut pooled) {
            for (&row, mean) in batch.iter().zip(of_layer(&table, layer)) {
                pooled[row] = mean.to_vec();
            }
        }
        done += batch.len();
        batches.at(done * rows.len() / firsts.len(), rows.len());
    }
    for pooled in &mut pooled {
        for (row, &first) in first_of.iter().enumerate().filter(|(row, first)| row != *first) {
            pooled[row] = pooled[first].clone();
        }
    }
    let d_model = model.spec.d_model;
    let made = layers.par_iter().zip(pooled);
    let made = made.map(|(&layer, values)| table(params, layer, d_model, rows, &values));
    // Collect all results before looking for an error, so that the first layer's error is the one reported.
    made.collect::<Vec<_>>().into_iter().collect()
}

/// Computes the batches of `order` that are not kept in one pass over the model, block by block with all batches in
/// each block.
fn all_at_once(
    rows: &[Row],
    order: &[Vec<usize>],
    layers: &[Layer],
    model: &LanguageModel,
    batches: &mut dyn Batches,
    whole: &dyn Fn(&[usize], &Table) -> bool,
    tables: &mut [Option<Table>],
) -> Result<()> {
    let mut missing = Vec::new();
    for (number, batch) in order.iter().enumerate() {
        tables[number] = batches.kept(number, KEPT)?.filter(|table| whole(batch, table));
        if tables[number].is_none() {
            missing.push(number);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if batches.stopped() {
        bail!(Interrupted);
    }
    let read: Vec<Batch> =
        missing.iter().map(|&number| batch(rows, &order[number], model)).collect::<Result<Vec<_>>>()?;
    let mut captures: Vec<Capture> =
        missing.iter().map(|&number| capture(rows, &order[number], layers)).collect();
    let last = *layers.iter().max().context("no layer is kept")?;
    model.forward_all(&read, &mut captures, last)?;
    for (number, capture) in missing.into_iter().zip(captures) {
        let table = pooled_table(rows, &order[number], layers, capture.finish()?, model)?;
        batches.keep(number, &table)?;
        tables[number] = Some(table);
    }
    Ok(())
}

/// The result of a forward pass over the rows of `batch`: layer after layer, each in the batch's order. If the device
/// runs out of memory, the batch is split in half.
fn pass(rows: &[Row], batch: &[usize], layers: &[Layer], model: &LanguageModel) -> Result<Table> {
    let last = *layers.iter().max().context("no layer is kept")?;
    let mut means = |batch: &[usize]| -> Result<Tensor> {
        let mut capture = capture(rows, batch, layers);
        drop(model.forward(&self::batch(rows, batch, model)?, &mut [&mut capture], Some(last))?);
        capture.finish()
    };
    let longest = || format!("a batch whose longest is {}", name(&rows[batch[0]].story));
    let parts = model.in_halves(batch, &mut means).with_context(longest)?;
    pooled_table(rows, batch, layers, Tensor::cat(&parts, 1), model)
}

fn batch(rows: &[Row], batch: &[usize], model: &LanguageModel) -> Result<Batch> {
    model.batch(&batch.iter().map(|&row| &rows[row].ids).collect::<Vec<_>>())
}

fn capture(rows: &[Row], batch: &[usize], layers: &[Layer]) -> Capture {
    Capture::new(layers, batch.iter().map(|&row| rows[row].pooled.clone()).collect()).with_norms()
}

/// The captured values, `[layer, batch, d_model + 2]`, as a batch's table.
fn pooled_table(
    rows: &[Row],
    batch: &[usize],
    layers: &[Layer],
    means: Tensor,
    model: &LanguageModel,
) -> Result<Table> {
    let values = Vec::<f32>::try_from(means.reshape(-1))?;
    let width = model.spec.d_model + 2;
    let of_layer = layers.iter().flat_map(|&layer| vec![layer; batch.len()]);
    for ((row, layer), values) in batch.iter().cycle().zip(of_layer).zip(values.chunks_exact(width)) {
        check_finite(&rows[*row], layer, values, model)?;
    }
    let of_layer: Vec<i32> = layers.iter().flat_map(|&l| vec![l.number(); batch.len()]).collect();
    let activation = Column::List { width, values, half: false };
    let of = layers.iter().flat_map(|_| batch.iter().map(|&row| Some(fingerprint(&rows[row])))).collect();
    let columns =
        vec![("layer", Column::I32(of_layer)), ("of", Column::OptI64(of)), ("activation", activation)];
    Ok(Table::new(KEPT, columns))
}

/// Whether a batch's table holds the activations of exactly the rows of `batch` at a layer, in their order.
fn is_of(table: &Table, layer: Layer, rows: &[Row], batch: &[usize]) -> bool {
    let (Ok(of), Ok(layers)) = (table.opt_i64("of"), table.i32("layer")) else { return false };
    let found = of.iter().zip(layers).filter(|(_, of)| **of == layer.number()).map(|(of, _)| *of);
    found.eq(batch.iter().map(|&row| Some(fingerprint(&rows[row]))))
}

/// A number that identifies a row's input: the first 64 bits of the SHA-256 of its tokens and its pooled range.
fn fingerprint(row: &Row) -> i64 {
    let read = format!("{:?} {:?}", row.pooled, row.ids);
    i64::from_le_bytes(Sha256::digest(read)[..8].try_into().expect("a digest has eight bytes"))
}

/// The rows of one layer in a batch's table.
fn of_layer(table: &Table, layer: Layer) -> Vec<&[f32]> {
    let (Ok((width, values)), Ok(layers)) = (table.list("activation"), table.i32("layer")) else {
        return Vec::new();
    };
    let rows = values.chunks_exact(width).zip(layers);
    rows.filter(|(_, of)| **of == layer.number()).map(|(row, _)| row).collect()
}

/// An error that says where the first NaN or infinity arose, if one of a story's `values` at `layer` is not finite.
fn check_finite(row: &Row, layer: Layer, values: &[f32], model: &LanguageModel) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let place = match first_wrong(&row.ids, layer, model) {
        Some((place, token)) => {
            let text = model.decode(&[row.ids[token]]).unwrap_or_default();
            format!("; the first is at layer {place}, token {token} of {} ({text:?})", row.ids.len())
        }
        None => String::new(),
    };
    bail!("{}: its activation at layer {layer} is NaN or infinite{place}", name(&row.story));
}

/// The first token at which a residual up to layer `last` is not finite, and the first such layer. Found by reading
/// ever shorter prefixes of the text: within one pass a NaN spreads to earlier tokens, as 0 times NaN is NaN.
fn first_wrong(ids: &[i64], last: Layer, model: &LanguageModel) -> Option<(Layer, usize)> {
    let wrong_layer = |length: usize| {
        let mut first = FirstWrong::default();
        let ran = model.forward(&Batch::new(&[&ids[..length]]).ok()?, &mut [&mut first], Some(last));
        ran.ok().and(first.layer)
    };
    let mut found = None;
    let (mut sound, mut wrong) = (0, ids.len() + 1);
    while wrong - sound > 1 {
        let middle = sound + (wrong - sound) / 2;
        match wrong_layer(middle) {
            Some(layer) => {
                found = Some((layer, middle - 1));
                wrong = middle;
            }
            None => sound = middle,
        }
    }
    found
}

/// Finds the first layer at which a residual is not finite.
#[derive(Default)]
struct FirstWrong {
    layer: Option<Layer>,
}

impl Hook for FirstWrong {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, _: &Batch) -> Tensor {
        let finite = resid.isfinite().all().int64_value(&[]) == 1;
        self.layer = self.layer.or((!finite).then_some(layer));
        resid
    }
}

/// The rows to compute, in their order, and for each row the one among them with the same tokens and the same pooled
/// range: the row itself if it is the first such. Sources and emotions may share texts.
fn alike(rows: &[Row]) -> (Vec<usize>, Vec<usize>) {
    let mut seen = HashMap::new();
    let mut first =
        |(row, of): (usize, &Row)| *seen.entry((of.ids.clone(), of.pooled.clone())).or_insert(row);
    let first_of: Vec<usize> = rows.iter().enumerate().map(&mut first).collect();
    let firsts = first_of.iter().enumerate().filter(|(row, first)| row == *first).map(|(row, _)| row);
    (firsts.collect(), first_of)
}

/// The table of one layer; in `values`, the norms of each row follow its `width` entries. An error if a value is not
/// finite in float16 and float16 is the stored type.
fn table(params: &Params, layer: Layer, width: usize, rows: &[Row], values: &[Vec<f32>]) -> Result<Table> {
    let half = params.store_dtype == StoreDtype::F16;
    let mut flat = Vec::with_capacity(rows.len() * width);
    for (row, values) in rows.iter().zip(values) {
        for &value in &values[..width] {
            let stored = if half { f16::from_f32(value).to_f32() } else { value };
            ensure!(
                stored.is_finite(),
                "{}: {value} at layer {layer} does not fit float16; use `store_dtype = \"f32\"`",
                name(&row.story)
            );
            flat.push(stored);
        }
    }
    let norms = |at: usize| Column::F32(values.iter().map(|values| values[width + at]).collect());
    Ok(Table::new(
        "activations/2",
        vec![
            ("story_id", Column::Str(rows.iter().map(|r| r.story.story_id.clone()).collect())),
            ("emotion", Column::OptStr(rows.iter().map(|r| r.story.emotion.clone()).collect())),
            ("topic", Column::OptStr(rows.iter().map(|r| r.story.topic.clone()).collect())),
            ("layer", Column::I32(vec![layer.number(); rows.len()])),
            ("n_tokens", Column::I32(rows.iter().map(|r| r.pooled.len() as i32).collect())),
            ("activation", Column::List { width, values: flat, half }),
            ("token_norm", norms(0)),
            ("token_norm_rest", norms(1)),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::stories::Story;

    fn story() -> Story {
        Story {
            story_id: "0123".into(),
            emotion: Some("sad".into()),
            other: None,
            topic: None,
            index: 4,
            text: "Rain.".into(),
            writer: "file".into(),
            prompt: None,
            seed: None,
            rejected: 0,
        }
    }

    fn params(short: Short) -> Params {
        let (long, store_dtype) = (Long::Error, StoreDtype::F16);
        Params { from_token: 3, wrap: Wrap::Raw, short, long, batch_tokens: Some(100), store_dtype }
    }

    #[test]
    fn a_row_is_like_an_earlier_one_with_its_tokens_and_what_is_pooled_of_them() {
        let story = story();
        let row = |ids: &[i64], pooled| Row { story: story.clone(), ids: ids.to_vec(), pooled };
        let rows =
            [row(&[1, 2], 0..2), row(&[1], 0..1), row(&[1, 2], 1..2), row(&[1, 2], 0..2), row(&[1], 0..1)];
        assert_eq!(alike(&rows), (vec![0, 1, 2], vec![0, 1, 2, 0, 1]));
    }

    #[test]
    fn values_that_cannot_be_stored_name_the_story_and_the_layer() {
        let story = story();
        let of = |value: f32| {
            let row = Row { story: story.clone(), ids: vec![1, 2], pooled: 1..2 };
            table(&params(Short::Skip), Layer::Block(7), 2, &[row], &[vec![0.1, value, 9.0, 8.0]])
        };
        let error = of(70000.0).unwrap_err().to_string();
        for part in ["0123", "sad, 4", "Rain.", "layer 7", "float16"] {
            assert!(error.contains(part), "{error}");
        }
        // 0.1 in float16 is 1638.5 / 2^14, rounded to even.
        let table = of(2.0).unwrap();
        assert_eq!(table.list("activation").unwrap(), (2, &[1638.0 / 16384.0, 2.0][..]));
        assert_eq!(
            (table.f32("token_norm").unwrap(), table.f32("token_norm_rest").unwrap()),
            (&[9.0][..], &[8.0][..])
        );
    }
}
