//! The log-odds of the act among declared choices at the position where the model would answer: no sampling, and
//! therefore no sampling noise. Independent of the statistics.

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use super::Scenario;
use super::set::{Choices, LETTERS};
use crate::lm::device::send;
use crate::lm::{Chat, LanguageModel, Layer, Spans};
use crate::stages::analysis::Progress;
use crate::stages::analysis::shared::{BATCH_TOKENS, Row, Shared, Sites};
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::cells::Cell;
use crate::stages::rollouts::conversation::{self, messages, open};

/// Upper bound on the logits held at a time: 128 MiB in fp32.
const BATCH_LOGITS: usize = 1 << 25;

/// The result for a case in a cell, averaged over the orders of the options.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Odds {
    /// ln of the probability of the letters of the act divided by that of the other letters.
    pub logodds: f64,
    /// The total probability of all letters.
    pub mass: f64,
}

/// A case with its options in one order.
struct Asking {
    case: usize,
    /// The token of each letter, and whether it means the act.
    letters: Vec<(i64, bool)>,
}

/// `[cell][case]`.
///
/// Options are presented in as many orders as there are options, each of them first once: the effect of a letter or a
/// position is then the same for all.
///
/// # Errors
/// A letter that is not a single token; a log-probability that is not finite; errors of the chat template.
pub fn odds(
    params: &Scenario,
    choices: &Choices,
    asked: &[Asked],
    (model, chat): (&LanguageModel, Chat),
    (layers, cells): (&[Layer], &[Cell]),
    progress: &mut Progress,
) -> Result<Vec<Vec<Odds>>> {
    let n = choices.options.len();
    let (mut askings, mut texts, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    let mut letters = Vec::new();
    for (case, of) in asked.iter().enumerate() {
        for order in 0..n {
            let at = |place: usize| (place + order) % n;
            let lines = (0..n).map(|place| format!("({}) {}", LETTERS[place], of.options[at(place)]));
            let question = choices.question.replace("{options}", &lines.collect::<Vec<_>>().join("\n"));
            let messages = messages(of, &of.replies, &format!("\n\n{}", question.trim()));
            let place = || format!("case `{}`", of.name);
            if letters.is_empty() {
                letters = conversation::letters(model, &messages, &choices.answer, &LETTERS[..n], chat)
                    .with_context(place)?;
            }
            let conversation =
                open(model, &messages, &choices.answer, params.positions, chat).with_context(place)?;
            let own = letters.iter().enumerate().map(|(place, id)| (*id, choices.options[at(place)].act));
            askings.push(Asking { case, letters: own.collect() });
            texts.push(conversation.ids);
            spans.push(conversation.spans);
        }
    }
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    let sites =
        Sites { layers: layers.to_vec(), spans: Spans::Each(spans), room: model.bytes_to_keep(BATCH_TOKENS) };
    let mut shared = Shared::new(texts, lengths.clone(), sites);
    let fits = |rows: &[Row]| {
        let fits = |(before, row): &(usize, &Row)| {
            *before == 0
                || ((before + 1) * lengths[row.text] <= BATCH_TOKENS
                    && (before + 1) * model.spec.d_vocab <= BATCH_LOGITS)
        };
        rows.iter().enumerate().take_while(fits).count()
    };
    let mut found = vec![vec![Odds::default(); asked.len()]; cells.len()];
    let total = cells.len() * askings.len();
    let mut before = 0;
    // Unsteered rows form a pass of their own.
    for steered in [false, true] {
        let here: Vec<usize> =
            (0..cells.len()).filter(|&cell| cells[cell].vector.is_empty() != steered).collect();
        let rows = here.iter().flat_map(|&vector| (0..askings.len()).map(move |text| Row { vector, text }));
        let rows: Vec<Row> = rows.collect();
        let vectors: Vec<&[f32]> = cells.iter().map(|cell| cell.vector.as_slice()).collect();
        let at: &[Layer] = if steered { layers } else { &[] };
        let mut told = |done: usize, _: usize| progress(before + done, total);
        shared.pass(model, (at, &rows, &vectors), &fits, &mut told, &mut |rows, batch, resid| {
            let _no_grad = tch::no_grad_guard();
            let ends: Vec<i64> = batch.lengths.iter().map(|&length| length as i64 - 1).collect();
            let every = Tensor::arange(ends.len() as i64, (Kind::Int64, resid.device()));
            let last = resid.index(&[Some(every), Some(send(&Tensor::from_slice(&ends), resid.device()))]);
            let logs = model.logits(&last).log_softmax(-1, Kind::Float);
            for (place, row) in rows.iter().enumerate() {
                let asking = &askings[row.text];
                let ids: Vec<i64> = asking.letters.iter().map(|(id, _)| *id).collect();
                let own = logs.get(place as i64).index_select(0, &send(&Tensor::from_slice(&ids), logs.device()));
                let own = Vec::<f32>::try_from(own)?;
                let sum = |act: bool| {
                    let of = own.iter().zip(&asking.letters).filter(move |(_, letter)| letter.1 == act);
                    of.map(|(log, _)| f64::from(*log).exp()).sum::<f64>()
                };
                let (act, other) = (sum(true), sum(false));
                let logodds = act.ln() - other.ln();
                ensure!(
                    logodds.is_finite(),
                    "a log-probability is NaN or infinite: what is added may be too large for the model's dtype"
                );
                let odds = &mut found[row.vector][asking.case];
                odds.logodds += logodds / n as f64;
                odds.mass += (act + other) / n as f64;
            }
            Ok(())
        })?;
        before += rows.len();
    }
    Ok(found)
}
