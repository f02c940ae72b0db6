//! Which of two activities a model would choose: the logits of two letters where its answer begins, with vectors added
//! to the residual stream. Independent of the statistics.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use super::elo::Pair;
use super::{Ask, Preferences};
use crate::lm::device::send;
use crate::lm::{Batch, Chat, LanguageModel, Layer, Spans};
use crate::stages::analysis::Progress;
use crate::stages::analysis::shared::{BATCH_TOKENS, Row, Shared, Sites};

/// Upper bound on the logits held at a time: 128 MiB in fp32.
const BATCH_LOGITS: usize = 1 << 25;

/// A question about two activities, as tokens.
pub struct Question {
    /// The first activity, and the second.
    pub of: [usize; 2],
    pub ids: Vec<i64>,
    /// The tokens of each.
    pub spans: [Range<usize>; 2],
}

/// The model's answer to a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The logit of the first letter minus that of the second.
    pub logit: f64,
    /// The probability of both letters together, among all tokens.
    pub mass: f64,
}

impl Answer {
    /// The probability of the first, given one of these two.
    pub fn first(self) -> f64 {
        1.0 / (1.0 + (-self.logit).exp())
    }
}

/// All ordered pairs, and the token of each letter.
pub struct Questions {
    pub all: Vec<Question>,
    letters: [i64; 2],
}

impl Questions {
    /// All pairs of activities in both orders.
    ///
    /// # Errors
    /// A letter that is not a single token; no chat template if one is required; a question longer than the context.
    pub fn new(params: &Preferences, model: &LanguageModel, chat: Chat) -> Result<Questions> {
        let chat = template(params, model, chat)?;
        let activities: Vec<&str> = params.list.iter().map(|of| of.activity.as_str()).collect();
        let (mut all, mut letters) = (Vec::new(), None);
        for a in 0..activities.len() {
            for b in (0..activities.len()).filter(|&b| b != a) {
                let (text, parts) =
                    filled(&params.question, [("{a}", activities[a]), ("{b}", activities[b])]);
                let after: &[&str] = if letters.is_none() { &["A", "B"] } else { &[] };
                let opened = model.tokenizer().encode_opened(&text, &params.answer, &parts, after, chat)?;
                if letters.is_none() {
                    letters = Some(single(&opened.continuations, &params.answer)?);
                }
                model.check_length(opened.ids.len())?;
                let spans = [opened.spans[0].clone(), opened.spans[1].clone()];
                all.push(Question { of: [a, b], ids: opened.ids, spans });
            }
        }
        Ok(Questions { all, letters: letters.context("there are no two activities")? })
    }

    /// The answers to the questions `asked`, under each of `vectors` (`[d_model]`), added at `layer` to the `spans` of
    /// each; without a layer, nothing is added. `[vector][question]`. Batches depend on the questions only, and give
    /// the same results as single questions if the backend guarantees it.
    ///
    /// # Errors
    /// A logit that is not finite.
    pub fn answers(
        &self,
        model: &LanguageModel,
        asked: &[usize],
        (layer, vectors, spans): (Option<Layer>, &[Vec<f32>], Spans),
        progress: &mut Progress,
    ) -> Result<Vec<Vec<Answer>>> {
        let texts: Vec<Vec<i64>> = asked.iter().map(|&at| self.all[at].ids.clone()).collect();
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let sites = Sites { layers: layer.into_iter().collect(), spans, room: 0 };
        let mut shared = Shared::new(texts, lengths.clone(), sites);
        let vectors: Vec<&[f32]> = match layer {
            Some(_) => vectors.iter().map(Vec::as_slice).collect(),
            None => vec![&[]],
        };
        let rows =
            (0..vectors.len()).flat_map(|vector| (0..asked.len()).map(move |text| Row { vector, text }));
        let rows: Vec<Row> = rows.collect();
        let fits = |rows: &[Row]| {
            let fits = |(before, row): &(usize, &Row)| {
                *before == 0
                    || ((before + 1) * lengths[row.text] <= BATCH_TOKENS
                        && (before + 1) * model.spec.d_vocab <= BATCH_LOGITS)
            };
            rows.iter().enumerate().take_while(fits).count()
        };
        let mut found = vec![vec![None; asked.len()]; vectors.len()];
        let asked = (layer.as_slice(), rows.as_slice(), vectors.as_slice());
        shared.pass(model, asked, &fits, progress, &mut |rows, batch, resid| {
            for (row, answer) in rows.iter().zip(self.read(model, batch, resid)?) {
                found[row.vector][row.text] = Some(answer);
            }
            Ok(())
        })?;
        let whole = found.into_iter().map(|of| of.into_iter().collect::<Option<Vec<Answer>>>());
        whole.collect::<Option<Vec<_>>>().context("a question without an answer")
    }

    /// The answer at the last position of each row.
    fn read(&self, model: &LanguageModel, batch: &Batch, resid: &Tensor) -> Result<Vec<Answer>> {
        let _no_grad = tch::no_grad_guard();
        let ends: Vec<i64> = batch.lengths.iter().map(|&length| length as i64 - 1).collect();
        let every = Tensor::arange(ends.len() as i64, (Kind::Int64, resid.device()));
        let resid = resid.index(&[Some(every), Some(send(&Tensor::from_slice(&ends), resid.device()))]);
        let logits = model.logits(&resid).to_kind(Kind::Float);
        let both = logits.index_select(1, &send(&Tensor::from_slice(&self.letters), logits.device()));
        let mass = logits.log_softmax(-1, Kind::Float);
        let mass = mass.index_select(1, &send(&Tensor::from_slice(&self.letters), logits.device()));
        let both = Vec::<f32>::try_from(both.reshape(-1))?;
        let mass = Vec::<f32>::try_from(mass.exp().sum_dim_intlist(-1, false, Kind::Float))?;
        let answer = |(both, mass): (&[f32], f32)| {
            ensure!(
                both.iter().all(|x| x.is_finite()) && mass.is_finite(),
                "a logit is NaN or infinite: what is added may be too large for the model's dtype"
            );
            Ok(Answer { logit: f64::from(both[0]) - f64::from(both[1]), mass: f64::from(mass) })
        };
        both.chunks(2).zip(mass).map(answer).collect()
    }

    /// The two orders of each pair among `asked`, from the answers to them in this order.
    pub fn pairs(&self, asked: &[usize], answers: &[Answer]) -> Vec<Pair> {
        let n = self.all.iter().flat_map(|question| question.of).max().map_or(0, |last| last + 1);
        let mut first = vec![None; n * n];
        for (&at, answer) in asked.iter().zip(answers) {
            let [a, b] = self.all[at].of;
            first[a * n + b] = Some(answer.first());
        }
        let both = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b)));
        let pair =
            |(a, b): (usize, usize)| Some(Pair { a, b, first: first[a * n + b]?, second: first[b * n + a]? });
        both.filter_map(pair).collect()
    }
}

/// The options of the chat template; `None` if none is used.
pub fn template(params: &Preferences, model: &LanguageModel, chat: Chat) -> Result<Option<Chat>> {
    ensure!(
        params.wrap == Ask::Raw || model.has_chat_template(),
        "the model has no chat template, so there is nobody who could be asked; `wrap = \"raw\"` reads each question as it \
         stands"
    );
    Ok((params.wrap == Ask::User).then_some(chat))
}

/// The text with its placeholders replaced, and the byte ranges of the replacements.
pub fn filled<const N: usize>(template: &str, marks: [(&str, &str); N]) -> (String, [Range<usize>; N]) {
    let mut places: Vec<(usize, usize)> = marks
        .iter()
        .enumerate()
        .filter_map(|(which, (mark, _))| Some((template.find(mark)?, which)))
        .collect();
    places.sort_unstable();
    let (mut text, mut from, mut ranges) = (String::new(), 0, [const { 0..0 }; N]);
    for (at, which) in places {
        let (mark, value) = marks[which];
        text.push_str(&template[from..at]);
        ranges[which] = text.len()..text.len() + value.len();
        text.push_str(value);
        from = at + mark.len();
    }
    text.push_str(&template[from..]);
    (text, ranges)
}

fn single(letters: &[Vec<i64>], answer: &str) -> Result<[i64; 2]> {
    match letters {
        [a, b] if a.len() == 1 && b.len() == 1 => Ok([a[0], b[0]]),
        _ => anyhow::bail!(
            "the letters A and B after {answer:?} are not one token each, so their logits cannot be compared: choose \
             another `answer`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_filled_and_their_places_told() {
        let (text, [a, b]) = filled("Or {b}, or {a}?", [("{a}", "sing {b}"), ("{b}", "run")]);
        assert_eq!((text.as_str(), &text[a], &text[b]), ("Or run, or sing {b}?", "sing {b}", "run"));
    }
}
