//! From conversations to pooled residual-stream activations of spans: each speaker's turns, or the tokens around the
//! beginning of an answer. One forward pass per conversation, whatever spans are requested.

mod place;

use std::ops::Range;

use anyhow::{Result, bail, ensure};
use serde::Serialize;

pub use place::{ANSWER, Span};

use super::batches::{self, Batches};
use super::readings::{self, From, Row, Said, Text};
use crate::lm::{Capture, Chat, Hook, LanguageModel, Layer, Wrap};
use crate::params::words;
use crate::store::table::{Column, Table};

/// Increased when the same conversations would give different tables.
pub const VERSION: u32 = 1;

/// Bound on the tokens of one pass. A constant: batching changes low bits, so it must depend on the input alone.
pub const BATCH_TOKENS: usize = 4096;

/// The schema of a batch's table.
const KEPT: &str = "spans.batch/1";

/// Which spans of which conversations are pooled.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub from: From,
    pub spans: Vec<Span>,
    /// Whether each conversation ends with an opened assistant turn.
    pub open: bool,
    pub wrap: Wrapped,
}

words! {
    /// How conversations are put to a model.
    pub enum Wrapped {
        /// A user's turn as text that base models read too: `Human: ...`, and a line with `Assistant:`.
        Plain = "plain",
        /// In the model's chat template.
        Chat = "chat",
    }
}

/// How conversations are put to the model, and which spans are pooled at which layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    pub layers: Vec<Layer>,
    pub spans: Vec<Span>,
    pub open: bool,
    /// The options of the chat template; `None`: conversations are put as [`Wrapped::Plain`].
    pub chat: Option<Chat>,
}

/// A conversation's tokens, and the pooled token ranges of each span.
struct Placed<'t> {
    text: &'t Text,
    ids: Vec<i64>,
    spans: Vec<Vec<Range<usize>>>,
}

/// The table `spans` (schema `spans/1`): one row per conversation, layer and span, with the fp32 mean of the residual
/// stream over the span's tokens (`activation`) and the labels of the conversation; and [`readings::UNREAD`]:
/// `text_id` and `why` of the conversations that are skipped because the template refuses them, they are longer than
/// the context, or they lack one of the spans.
///
/// # Errors
/// No conversation can be read; out of memory; an interruption.
pub fn run(
    texts: &[Text],
    params: &Params,
    model: &LanguageModel,
    batches: &mut dyn Batches,
) -> Result<[Table; 2]> {
    let chat = params.chat.unwrap_or_default();
    let how = readings::Params { random: 0, seed: 0, wrap: Wrap::Raw, chat };
    let plain: Vec<Text> =
        texts.iter().filter(|_| params.chat.is_none()).map(plain).collect::<Result<_>>()?;
    let texts = if params.chat.is_none() { &plain } else { texts };
    let (rows, mut unread) = readings::rows_ending(texts, &how, params.open, model);
    let mut placed: Vec<Placed> = Vec::new();
    let mut rows = rows.into_iter().peekable();
    for text in texts {
        let Some(row) = rows.next_if(|row| row.text_id == text.id) else { continue };
        match self::placed(text, row, params, model.spec.context) {
            Ok(row) => placed.push(row),
            Err(error) => unread.push((text.id.clone(), format!("{}: {error:#}", text.place))),
        }
    }
    let why = unread.first().map_or("", |(_, why)| why.as_str());
    ensure!(!placed.is_empty(), "none of {} conversations can be read: {why}", texts.len());
    if !unread.is_empty() {
        batches.note(&format!("{} of {} conversations are not read: {why}", unread.len(), texts.len()));
    }
    let lengths: Vec<usize> = placed.iter().map(|one| one.ids.len()).collect();
    let mut tables: Vec<Option<Table>> = vec![None; placed.len()];
    let mut done = 0;
    for (number, here) in model.batches(&lengths, BATCH_TOKENS).into_iter().enumerate() {
        let of: Vec<&Placed> = here.iter().map(|&at| &placed[at]).collect();
        let each = params.layers.len() * params.spans.len();
        let whole = |kept: &Table| {
            let ids = kept.str("text_id").unwrap_or_default();
            let wanted = of.iter().flat_map(|one| std::iter::repeat_n(&one.text.id, each));
            ids.len() == of.len() * each && wanted.eq(ids)
        };
        let table = batches::batch(batches, number, KEPT, whole, |_| pass(&of, params, model))?;
        for (i, &at) in here.iter().enumerate() {
            tables[at] = Some(table.select(&(i * each..(i + 1) * each).collect::<Vec<_>>()));
        }
        done += here.len();
        batches.at(done * texts.len() / placed.len(), texts.len());
    }
    let mut tables = tables.into_iter().flatten();
    let mut spans = tables.next().unwrap_or_else(|| Table::new(KEPT, Vec::new()));
    tables.try_for_each(|table| spans.append(table))?;
    spans.schema = "spans/1".into();
    Ok([spans, readings::unread_table(unread)])
}

/// A user's turn as plain text, up to where the answer begins.
///
/// # Errors
/// There is more than one turn.
fn plain(text: &Text) -> Result<Text> {
    match &text.said {
        Said::Turns(turns) => {
            let [turn] = turns.as_slice() else { bail!("{}: more than one turn as plain text", text.place) };
            let said = Said::Plain(format!("Human: {}\n\nAssistant:", turn.content));
            Ok(Text { said, ..text.clone() })
        }
        Said::Plain(_) => Ok(text.clone()),
    }
}

fn placed<'t>(text: &'t Text, row: Row, params: &Params, context: usize) -> Result<Placed<'t>> {
    ensure!(row.ids.len() <= context, "{} tokens, more than the context of {context}", row.ids.len());
    let spans = params.spans.iter().map(|span| span.of(text, &row)).collect::<Result<_>>()?;
    Ok(Placed { text, ids: row.ids, spans })
}

/// A tokenized text, and the pooled token ranges of each span.
pub type Pooled<'p> = (&'p [i64], &'p [Vec<Range<usize>>]);

/// The means of each text's spans in fp32, `[layer, span, d_model]`; all texts must have the same number of spans. One
/// pass, or several smaller ones if memory is short.
///
/// # Errors
/// Out of memory.
pub fn pooled(batch: &[Pooled], layers: &[Layer], model: &LanguageModel) -> Result<Vec<Vec<f32>>> {
    let n_spans = batch.first().map_or(0, |(_, spans)| spans.len());
    let (last, d) = (layers.iter().copied().max(), model.spec.d_model);
    let mut values: Vec<Vec<f32>> = Vec::with_capacity(batch.len());
    model.in_halves(batch, &mut |part| {
        let mut captures: Vec<Capture> = (0..n_spans)
            .map(|span| Capture::over(layers, part.iter().map(|(_, spans)| spans[span].clone()).collect()))
            .collect();
        let mut hooks: Vec<&mut dyn Hook> =
            captures.iter_mut().map(|capture| capture as &mut dyn Hook).collect();
        let ids: Vec<&[i64]> = part.iter().map(|(ids, _)| *ids).collect();
        drop(model.forward(&model.batch(&ids)?, &mut hooks, last)?);
        // [span][layer, text, d_model]
        let means = captures
            .into_iter()
            .map(|capture| Ok(Vec::<f32>::try_from(capture.finish()?.reshape(-1))?))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..part.len() {
            let mut own = Vec::with_capacity(layers.len() * n_spans * d);
            for layer in 0..layers.len() {
                let from = (layer * part.len() + row) * d;
                means.iter().for_each(|mean| own.extend_from_slice(&mean[from..from + d]));
            }
            values.push(own);
        }
        Ok(())
    })?;
    Ok(values)
}

/// The result of one pass: conversation by conversation, then by layer, then by span.
fn pass(batch: &[&Placed], params: &Params, model: &LanguageModel) -> Result<Table> {
    let d = model.spec.d_model;
    let rows: Vec<Pooled> = batch.iter().map(|one| (one.ids.as_slice(), one.spans.as_slice())).collect();
    let values = pooled(&rows, &params.layers, model)?;
    for (one, values) in batch.iter().zip(&values) {
        let place = if one.text.place.is_empty() { &one.text.id } else { &one.text.place };
        ensure!(values.iter().all(|x| x.is_finite()), "{place}: its residual stream is NaN or infinite");
    }
    let rows = || {
        let spans = || params.spans.iter().enumerate();
        batch.iter().flat_map(move |one| {
            params
                .layers
                .iter()
                .flat_map(move |&layer| spans().map(move |(at, &span)| (one, layer, at, span)))
        })
    };
    let labelled = |get: &dyn Fn(&Text) -> Option<String>| {
        Column::OptStr(rows().map(|(one, ..)| get(one.text)).collect())
    };
    let emotion = |text: &Text, at: usize| text.labels.as_ref().map(|labels| labels.emotions[at].clone());
    Ok(Table::new(
        KEPT,
        vec![
            ("text_id", Column::Str(rows().map(|(one, ..)| one.text.id.clone()).collect())),
            ("label", labelled(&|text| text.label.clone())),
            ("emotion", labelled(&|text| emotion(text, 0))),
            ("other", labelled(&|text| emotion(text, 1))),
            ("topic", labelled(&|text| text.labels.as_ref().and_then(|labels| labels.topic.clone()))),
            ("layer", Column::I32(rows().map(|(_, layer, ..)| layer.number()).collect())),
            ("span", Column::Str(rows().map(|(.., span)| span.name().to_string()).collect())),
            (
                "n_tokens",
                Column::I32(rows().map(|(one, _, at, _)| place::tokens(&one.spans[at]) as i32).collect()),
            ),
            ("activation", Column::List { width: d, values: values.concat(), half: false }),
        ],
    ))
}
