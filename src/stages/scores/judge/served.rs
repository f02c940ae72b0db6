//! A judge at a server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::local::{SCHEMA, read, table};
use super::{Judge, Reply, Text};
use crate::interrupt::Interrupted;
use crate::stages::analysis::scenario::LETTERS;
use crate::stages::batches::{Batches, Tally};
use crate::stages::rollouts::Asked;
use crate::stages::scores::Score;
use crate::stages::stories::served::crew::{Crew, Desk};
use crate::stages::stories::served::protocol::{Answer, Question};
use crate::stages::stories::served::{Client, one_token};
use crate::stages::stories::writing::End;
use crate::stages::stories::{Generate, Server};

/// The number of log-probabilities requested: the most that OpenAI's protocol and vLLM allow.
const TOP: usize = 20;

/// The score of each of `texts` about a case. Each answer is kept as it arrives and is not requested again. A text
/// that the server's filter refuses is unclear.
///
/// # Errors
/// A refusal by the server; a request that fails too often; answers without log-probabilities; an interruption.
pub fn served(
    judge: &Judge,
    server: &Server,
    case: &Asked,
    texts: &[Text],
    client: &mut Option<Client>,
    batches: &mut dyn Batches,
) -> Result<Vec<Score>> {
    let askings = judge.askings(case, texts);
    let n = judge.question.options.len();
    let mut replies: Vec<Option<Reply>> = Vec::new();
    for number in 0..askings.len() {
        let kept = batches.kept(number, SCHEMA)?.and_then(|table| read(&table, 1, n).ok()?.pop());
        replies.push(kept);
    }
    // The seed does not matter: only the distribution of the first token counts.
    let question = |prompt: &str| Question { prompt: prompt.to_string(), seed: 0 };
    let open: Vec<(usize, Question)> = (0..askings.len())
        .filter(|&at| replies[at].is_none())
        .map(|at| (at, question(&askings[at].prompt)))
        .collect();
    if !open.is_empty() {
        if batches.stopped() {
            bail!(Interrupted);
        }
        let mut server = server.clone();
        server.body.insert("logprobs".into(), json!(true));
        server.body.insert("top_logprobs".into(), json!(TOP));
        let client: &Client = match client.take().filter(|client| client.is_of(&server)) {
            Some(known) => client.insert(known),
            None => client.insert(Client::new(&server)?),
        };
        let params: Generate = one_token();
        let patience = Duration::from_secs(server.patience);
        let crew = Crew { client, params: &params, parallel: server.parallel, patience, known: None };
        let begun = Instant::now();
        let asked = open.len();
        let mut taking = Taking { replies: &mut replies, letters: n, texts: texts.len(), batches };
        let retries = crew.ask(&open, &mut taking).with_context(|| server.url.clone())?;
        let seconds = begun.elapsed().as_secs_f64();
        batches.tally(Tally { stories: asked, tokens: 0, retries, seconds });
    }
    let replies = replies.into_iter().collect::<Option<Vec<_>>>().context("a question without an answer")?;
    Ok(judge.scores(texts, &askings, &replies))
}

/// Receives answers as they arrive.
struct Taking<'a> {
    replies: &'a mut [Option<Reply>],
    letters: usize,
    texts: usize,
    batches: &'a mut dyn Batches,
}

impl Desk for Taking<'_> {
    fn answered(&mut self, place: usize, answer: Answer) -> Result<()> {
        let reply = reply(&answer, self.letters)?;
        self.batches.keep(place, &table(std::slice::from_ref(&reply), self.letters))?;
        self.replies[place] = Some(reply);
        let done = self.replies.iter().flatten().count();
        self.batches.at(done * self.texts / self.replies.len(), self.texts);
        Ok(())
    }

    fn said(&mut self, line: &str) {
        self.batches.note(line);
    }

    fn stopped(&self) -> bool {
        self.batches.stopped()
    }
}

/// The probabilities of the letters in an answer. Only its first token counts, and only if it is a letter alone, with
/// optional white space or an opening bracket before it. `A)` or `Answer` does not count as a letter.
pub(super) fn reply(answer: &Answer, letters: usize) -> Result<Reply> {
    if answer.end == End::Filtered {
        return Ok(Reply::None(format!("filtered: {}", answer.text)));
    }
    let first = answer.first.as_ref().filter(|first| !first.is_empty()).context(
        "its answers come without log-probabilities (`logprobs`, `top_logprobs`), which the verdict needs: use another \
         server or model, or a model of the file",
    )?;
    let of = |letter: &str| {
        let is_it = |token: &str| token.trim().strip_prefix('(').unwrap_or(token.trim()) == letter;
        first.iter().filter(|(token, _)| is_it(token)).map(|(_, log)| log.exp()).sum::<f64>()
    };
    let p: Vec<f64> = LETTERS[..letters].iter().map(|letter| of(letter)).collect();
    let mass: f64 = first.iter().map(|(_, log)| log.exp()).sum();
    ensure!(mass < 1.01, "the probabilities of its first token add up to {mass:.2}");
    Ok(Reply::Letters(p))
}
