//! A judge that is one of the experiment's models.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::{Asking, Judge, Reply, Text};
use crate::lm::device::send;
use crate::lm::tokenizer::Ending;
use crate::lm::{Batch, Chat, LanguageModel, Message, Role};
use crate::stages::analysis::scenario::LETTERS;
use crate::stages::batches::{self, Batches};
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::conversation::letters;
use crate::stages::scores::Score;
use crate::store::table::{Column, Table};

/// Bound on padded tokens of one pass. A constant: batching changes low bits, so it must depend on the texts alone.
pub const BATCH_TOKENS: usize = 4096;
/// Bound on logits held at a time: 128 MiB in fp32.
const BATCH_LOGITS: usize = 1 << 25;
/// The number of questions whose answers are kept as one batch.
const KEPT_TOGETHER: usize = 128;
/// The schema of a batch's table.
const KEPT: &str = "scores.judged/1";

/// The score of each of `texts` about a case. A text that the model's template or context does not accept is unclear.
///
/// # Errors
/// There is no chat template; a letter is not one token; a log-probability is not finite; an interruption.
pub fn local(
    judge: &Judge,
    case: &Asked,
    texts: &[Text],
    (model, chat): (&LanguageModel, Chat),
    batches: &mut dyn Batches,
) -> Result<Vec<Score>> {
    ensure!(model.has_chat_template(), "the judge has no chat template, so it cannot be asked");
    let askings = judge.askings(case, texts);
    let n = judge.question.options.len();
    let mut replies = Vec::new();
    for (number, here) in askings.chunks(KEPT_TOGETHER).enumerate() {
        let done = replies.len();
        let whole = |table: &Table| read(table, here.len(), n).is_ok();
        let kept = batches::batch(batches, number, KEPT, whole, |batches| {
            let mut told = |more: usize| batches.at((done + more) * texts.len() / askings.len(), texts.len());
            Ok(table(&answers(judge, here, (model, chat), &mut told)?, n))
        })?;
        replies.extend(read(&kept, here.len(), n)?);
        batches.at(replies.len() * texts.len() / askings.len(), texts.len());
    }
    Ok(judge.scores(texts, &askings, &replies))
}

/// The model's reply to each question.
fn answers(
    judge: &Judge,
    askings: &[Asking],
    (model, chat): (&LanguageModel, Chat),
    told: &mut dyn FnMut(usize),
) -> Result<Vec<Reply>> {
    let begun = judge.question.answer.as_str();
    let messages = |asking: &Asking| vec![Message::new(Role::User, asking.prompt.as_str())];
    let encoded = askings.iter().map(|asking| {
        let turns = model.tokenizer().encode_turns(&messages(asking), Ending::Prefill(begun), chat);
        turns.and_then(|turns| model.check_length(turns.ids.len()).map(|()| turns.ids))
    });
    let encoded: Vec<Result<Vec<i64>>> = encoded.collect();
    let mut replies: Vec<Reply> = encoded
        .iter()
        .map(|ids| Reply::None(ids.as_ref().err().map_or_else(String::new, |error| format!("{error:#}"))))
        .collect();
    let mut order: Vec<usize> = (0..askings.len()).filter(|&at| encoded[at].is_ok()).collect();
    let length = |at: usize| encoded[at].as_ref().map_or(0, Vec::len);
    let Some(&first) = order.first() else { return Ok(replies) };
    let n = judge.question.options.len();
    let letters = letters(model, &messages(&askings[first]), begun, &LETTERS[..n], chat)?;
    order.sort_by_key(|&at| std::cmp::Reverse(length(at)));
    let mut done = 0;
    while done < order.len() {
        let most = (BATCH_TOKENS / length(order[done])).min(BATCH_LOGITS / model.spec.d_vocab).max(1);
        let here = &order[done..(done + most).min(order.len())];
        let found = model.in_halves(here, &mut |here| {
            let _no_grad = tch::no_grad_guard();
            let ids: Vec<&[i64]> =
                here.iter().filter_map(|&at| encoded[at].as_ref().ok().map(Vec::as_slice)).collect();
            let batch = Batch::new(&ids)?;
            let resid = model.forward(&batch, &mut [], None)?;
            let ends: Vec<i64> = batch.lengths.iter().map(|&length| length as i64 - 1).collect();
            let every = Tensor::arange(ends.len() as i64, (Kind::Int64, resid.device()));
            let last = resid.index(&[Some(every), Some(send(&Tensor::from_slice(&ends), resid.device()))]);
            let logs = model.logits(&last).log_softmax(-1, Kind::Float);
            let own = logs.index_select(1, &send(&Tensor::from_slice(&letters), logs.device()));
            Ok(Vec::<f32>::try_from(own.contiguous().view([-1]))?)
        })?;
        for (&at, logs) in here.iter().zip(found.concat().chunks_exact(n)) {
            ensure!(
                logs.iter().all(|x| x.is_finite()),
                "a log-probability of the judge's is NaN or infinite"
            );
            replies[at] = Reply::Letters(logs.iter().map(|&log| f64::from(log).exp()).collect());
        }
        done += here.len();
        told(done);
    }
    Ok(replies)
}

/// One row per question: `p`, one number per letter, and `why` if there is no reply.
pub(super) fn table(replies: &[Reply], letters: usize) -> Table {
    let of = |reply: &Reply| match reply {
        Reply::Letters(p) => (p.clone(), None),
        Reply::None(why) => (vec![0.0; letters], Some(why.clone())),
    };
    let (p, why): (Vec<Vec<f64>>, Vec<Option<String>>) = replies.iter().map(of).unzip();
    // One column per letter, in double precision.
    let column = |letter: usize| (LETTERS[letter], Column::F64(p.iter().map(|row| row[letter]).collect()));
    let columns = std::iter::once(("why", Column::OptStr(why))).chain((0..letters).map(column));
    Table::new(KEPT, columns.collect())
}

/// Reads the table that [`table`] writes. An error if it is of other questions.
pub(super) fn read(table: &Table, rows: usize, letters: usize) -> Result<Vec<Reply>> {
    let why = table.opt_str("why")?;
    ensure!(why.len() == rows && table.columns.len() == letters + 1, "answers to other questions");
    let columns = LETTERS[..letters].iter().map(|letter| table.f64(letter)).collect::<Result<Vec<_>>>()?;
    let reply = |(row, why): (usize, &Option<String>)| match why {
        Some(why) => Reply::None(why.clone()),
        None => Reply::Letters(columns.iter().map(|column| column[row]).collect()),
    };
    Ok(why.iter().enumerate().map(reply).collect())
}

/// The schema of kept answers.
pub(super) const SCHEMA: &str = KEPT;
