//! Stories written by a model at a server: Ollama, or any endpoint that speaks OpenAI's protocol. Knows neither the plan
//! nor what the server runs.

mod client;
pub mod crew;
pub mod protocol;
pub mod refused;
mod server;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use client::{Client, Trouble};
pub use protocol::Protocol;
pub use server::Server;

use self::crew::{Crew, Desk};
use self::protocol::{Answer, Question, SEED_BITS};
use super::writing::{Ask, Draft, End, REPLIES, Reply, Seeds, Written};
use super::{Generate, Item, Reject, words};
use crate::interrupt::Interrupted;
use crate::stages::batches::{Batches, Tally};

/// Raised when the same replies would give other stories, or the same prompt another request.
pub const VERSION: u32 = 4;

/// The stories of `items`, in their order, written by the server's model, and what was rejected on the way.
///
/// Each reply goes to `batches` at once, under the number of its request, and is not asked for again. The replies of an
/// attempt are judged in the order of their requests, so that the order in which they come changes nothing. Lengths
/// are counted in words, as the server's tokenizer is not known. `client`: who asked the last time, and may ask again.
///
/// # Errors
/// What the server refuses, or what fails too often, with its address; [`Interrupted`]. What came before is kept.
pub fn run(
    params: &Generate,
    server: &Server,
    items: &[Item],
    writer: &str,
    seeds: &Seeds,
    client: &mut Option<Client>,
    batches: &mut dyn Batches,
) -> Result<Written> {
    let mut draft = Draft::new(params, items, seeds, writer);
    let mut tally = Tally::default();
    let mut known: Option<Question> = None;
    for attempt in 0..params.reject.attempts.max(1) {
        let mut asks = draft.asks(attempt);
        asks.iter_mut().for_each(|ask| ask.seed &= SEED_BITS);
        let mut replies = Vec::with_capacity(asks.len());
        for ask in &asks {
            replies.push(kept(ask, batches)?);
        }
        let open: Vec<(usize, Question)> =
            asks.iter().enumerate().filter(|(at, _)| replies[*at].is_none()).map(question).collect();
        if !open.is_empty() {
            if batches.stopped() {
                bail!(Interrupted);
            }
            let client: &Client = match client.take().filter(|client| client.is_of(server)) {
                Some(known) => client.insert(known),
                None => client.insert(Client::new(server)?),
            };
            known = known.or_else(|| answered(&asks, &replies));
            let patience = Duration::from_secs(server.patience);
            let crew = Crew { client, params, parallel: server.parallel, patience, known: known.clone() };
            let (begun, settled) = (Instant::now(), draft.settled());
            let mut taking =
                Taking { asks: &asks, replies: &mut replies, settled, of: items.len(), tokens: 0, batches };
            let asked = crew.ask(&open, &mut taking);
            if let Some(line) = client.unheard().filter(|_| attempt == 0) {
                taking.said(line);
            }
            tally.tokens += taking.tokens;
            tally.retries += asked.with_context(|| server.url.clone())?;
            tally.seconds += begun.elapsed().as_secs_f64();
        }
        known = known.or_else(|| answered(&asks, &replies));
        for ((at, ask), reply) in asks.iter().enumerate().zip(replies) {
            let before = draft.settled();
            draft.take(attempt, ask, &reply.context("a request without a reply")?, &|text| {
                Ok(words::count(text))
            })?;
            if open.iter().any(|(place, _)| *place == at) {
                tally.stories += draft.settled() - before;
            }
        }
        batches.at(draft.settled(), items.len());
    }
    if tally.seconds > 0.0 {
        batches.tally(tally);
    }
    batches.at(items.len(), items.len());
    Ok(draft.written())
}

/// What is asked for where only the distribution of the first token counts: nothing that would bend it.
pub fn one_token() -> Generate {
    let reject = Reject {
        names_emotion: false,
        min_tokens: 0,
        attempts: 1,
        refusals: false,
        cut: false,
        near_duplicate: None,
    };
    Generate {
        topics: Vec::new(),
        per_topic: 1,
        max_new_tokens: 1,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        prompt: String::new(),
        system: String::new(),
        several: None,
        reject,
    }
}

fn question((at, ask): (usize, &Ask)) -> (usize, Question) {
    (at, Question { prompt: ask.prompt.clone(), seed: ask.seed })
}

/// The first question that the server answered.
fn answered(asks: &[Ask], replies: &[Option<Reply>]) -> Option<Question> {
    let is_answer = |reply: &&Option<Reply>| reply.as_ref().is_some_and(|reply| reply.end != End::Filtered);
    let at = replies.iter().position(|reply| is_answer(&reply))?;
    Some(question((at, &asks[at])).1)
}

/// Takes answers as they come.
struct Taking<'a> {
    asks: &'a [Ask],
    replies: &'a mut [Option<Reply>],
    /// Stories that earlier attempts brought.
    settled: usize,
    of: usize,
    tokens: usize,
    batches: &'a mut dyn Batches,
}

impl Desk for Taking<'_> {
    fn answered(&mut self, place: usize, answer: Answer) -> Result<()> {
        let Answer { text, end, tokens, first: _ } = answer;
        let reply = Reply { text, end };
        let ask = &self.asks[place];
        let table = Reply::table(std::slice::from_ref(ask), std::slice::from_ref(&reply));
        self.batches.keep(ask.number, &table)?;
        self.replies[place] = Some(reply);
        self.tokens += tokens.unwrap_or(0);
        let told = self.asks.iter().zip(self.replies.iter()).filter(|(_, reply)| reply.is_some());
        let told: usize = told.map(|(ask, _)| ask.places.len()).sum();
        self.batches.at(self.settled + told, self.of);
        Ok(())
    }

    fn said(&mut self, line: &str) {
        self.batches.note(line);
    }

    fn stopped(&self) -> bool {
        self.batches.stopped()
    }
}

/// The reply to `ask`, if it was kept.
fn kept(ask: &Ask, batches: &mut dyn Batches) -> Result<Option<Reply>> {
    let table = batches.kept(ask.number, REPLIES)?;
    Ok(table.and_then(|table| Reply::rows(&table, std::slice::from_ref(ask))?.pop()))
}
