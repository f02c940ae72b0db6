//! A judge: a model that is shown a conversation and asked which of the declared answers holds for it; the verdict is
//! read from the log-probabilities of one token. It never learns what was added to the model that wrote.

mod local;
mod served;

use serde::Serialize;

pub use local::{BATCH_TOKENS, local};
pub use served::served;

use super::{CUT, Score, UNCLEAR};
use crate::stages::analysis::scenario::{LETTERS, Question};
use crate::stages::rollouts::Asked;
use crate::stages::statistics::draws::Draws;
use crate::stages::stories::Server;

/// If the letters together have less probability than this, the judge would have answered something else, and the text
/// is unclear.
const LEAST_MASS: f64 = 0.5;

/// The judge, and the number of orders in which options are shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Who {
    pub by: By,
    pub orders: usize,
}

/// The judging model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The model that wrote the texts.
    Own,
    /// One of `[models]`.
    Model(String),
    Server(Server),
}

/// A judge with its question. The judge's identity is part of cache keys, as a model's is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judge {
    pub question: Question,
    pub orders: usize,
    #[serde(skip)]
    pub by: By,
}

/// A text to judge: the model's last answer, and its earlier ones.
pub struct Text<'a> {
    pub id: &'a str,
    pub last: &'a str,
    pub earlier: Vec<String>,
    pub ended: &'a str,
}

/// One question about a text.
#[derive(Clone, Debug, PartialEq)]
struct Asking {
    text: usize,
    prompt: String,
    /// The option that each letter stands for.
    options: Vec<usize>,
}

/// The judge's reply to one question.
#[derive(Clone, Debug, PartialEq)]
enum Reply {
    /// The probability of each letter, in order.
    Letters(Vec<f64>),
    /// There is none, for this reason.
    None(String),
}

/// Every outcome's name and whether it is the act, in order; those that are not an option of the judge come last.
pub fn outcomes(question: &Question) -> Vec<(&str, bool)> {
    let own = question.options.iter().map(|option| (option.outcome.as_str(), option.act));
    own.chain([(CUT, false), (UNCLEAR, false)]).collect()
}

impl Judge {
    /// The number of orders in which the options of a text are shown.
    fn shown(&self) -> usize {
        self.orders.min(self.question.options.len())
    }

    /// The questions about the texts of a case, text after text. The option shown first is drawn from the text's id,
    /// so that over many texts each option is first equally often.
    fn askings(&self, case: &Asked, texts: &[Text]) -> Vec<Asking> {
        let n = self.question.options.len();
        let of_text = |(at, text): (usize, &Text)| {
            let first = Draws::new(text.id, &[]).below(n);
            let (said, last) = (conversation(case, &text.earlier), text.last.trim().to_string());
            (0..self.shown()).map(move |turn| {
                // Evenly spread, so that a small number of orders are not neighbours.
                let start = (first + turn * n / self.shown()) % n;
                let options: Vec<usize> = (0..n).map(|place| (start + place) % n).collect();
                let lines = options.iter().zip(LETTERS);
                let lines: Vec<String> = lines
                    .map(|(&option, letter)| format!("({letter}) {}", self.question.options[option].text))
                    .collect();
                let values = [
                    ("{conversation}", said.as_str()),
                    ("{answer}", &last),
                    ("{options}", &lines.join("\n")),
                ];
                Asking { text: at, prompt: filled(self.question.question.trim(), &values), options }
            })
        };
        texts.iter().enumerate().flat_map(of_text).collect()
    }

    /// The verdict on each text, by the mean probabilities over its orders.
    fn scores(&self, texts: &[Text], askings: &[Asking], replies: &[Reply]) -> Vec<Score> {
        let n = self.question.options.len();
        let of_text = |(at, text): (usize, &Text)| {
            let own: Vec<_> = askings.iter().zip(replies).filter(|(asking, _)| asking.text == at).collect();
            let mut p = vec![0.0; n];
            for (asking, reply) in &own {
                match reply {
                    Reply::Letters(letters) => {
                        for (&option, x) in asking.options.iter().zip(letters) {
                            p[option] += x / own.len() as f64;
                        }
                    }
                    Reply::None(why) => return unclear(why.clone(), None),
                }
            }
            self.verdict(&p, text.ended == "length")
        };
        texts.iter().enumerate().map(of_text).collect()
    }

    /// The most likely option, if the options are likely at all. A text that was cut off is the act or [`CUT`].
    fn verdict(&self, p: &[f64], cut: bool) -> Score {
        let mass: f64 = p.iter().sum();
        let likeliest = (0..p.len()).max_by(|&a, &b| p[a].total_cmp(&p[b]).then(b.cmp(&a))).unwrap_or(0);
        let told = format!("{:.2} of {mass:.2}", p[likeliest]);
        let option = &self.question.options[likeliest];
        if mass < LEAST_MASS {
            return unclear(told, Some((p[likeliest], mass)));
        }
        let (outcome, act) =
            if cut && !option.act { (CUT, false) } else { (option.outcome.as_str(), option.act) };
        Score { outcome: outcome.into(), act, evidence: told, judged: Some((p[likeliest], mass)) }
    }
}

fn unclear(evidence: String, judged: Option<(f64, f64)>) -> Score {
    Score { outcome: UNCLEAR.into(), act: false, evidence, judged }
}

/// The conversation before the last answer.
fn conversation(case: &Asked, earlier: &[String]) -> String {
    let mut said = Vec::new();
    if !case.system.is_empty() {
        said.push(format!("Instructions: {}", case.system.trim()));
    }
    let mut replies = case.replies.iter().chain(earlier);
    for turn in &case.turns {
        said.push(format!("User: {}", turn.trim()));
        said.extend(replies.next().map(|reply| format!("Assistant: {}", reply.trim())));
    }
    said.join("\n\n")
}

/// A text with values in place of marks; marks inside a value are not replaced.
fn filled(text: &str, values: &[(&str, &str)]) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((at, (mark, value))) =
        values.iter().filter_map(|pair| Some((rest.find(pair.0)?, pair))).min_by_key(|found| found.0)
    {
        out += &rest[..at];
        out += value;
        rest = &rest[at + mark.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests;
