//! `POST /v1/completions`: continues plain texts, and (`echo`) scores them with the log-probability of every token.

use std::io;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Choice, Common, Head, LIKELIEST, Shape, TEXTS, send};
use crate::serve::catalogue::Ready;
use crate::serve::engine::{Event, Likely, Live, Models, Order, Piece, Queue, Teller};
use crate::serve::http;
use crate::serve::refusal::{Fields, Refusal, bad};
use crate::stages::live::{self, Text, spans};

/// Default number of generated tokens, as in the OpenAI API.
const TOKENS: usize = 16;

/// A prompt, as text or as token ids.
#[derive(Clone)]
pub enum Prompt {
    Text(String),
    Ids(Vec<i64>),
}

/// Parses one or several prompts, as strings or as token ids.
pub fn prompts(value: Value) -> Result<Vec<Prompt>, Refusal> {
    let wrong = || Refusal::of("prompt", "`prompt` is a string, a list of tokens, or a list of such");
    let ids = |list: &[Value]| list.iter().map(Value::as_i64).collect::<Option<Vec<i64>>>().map(Prompt::Ids);
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(list) if !list.is_empty() => ids(list),
        _ => None,
    };
    let all = match &value {
        Value::Array(list) if list.first().is_some_and(|first| !first.is_number()) => {
            list.iter().map(one).collect::<Option<Vec<Prompt>>>()
        }
        value => one(value).map(|one| vec![one]),
    };
    all.filter(|all| !all.is_empty() && all.len() <= TEXTS).ok_or_else(wrong)
}

/// Answers a request.
///
/// # Errors
/// The client has disconnected.
pub fn completions<'s>(
    ready: Ready<'s>,
    queue: &Queue<'s>,
    body: &[u8],
    to: &mut TcpStream,
) -> io::Result<()> {
    match asked(ready, queue, body) {
        Err(refusal) => http::json(to, refusal.status, &refusal.json()),
        Ok(Asked { head, sent: (n, stream, usage), live, logprobs }) => {
            let of = |tokens: &[Likely]| logprobs.then(|| shown(tokens));
            let shape = Shape {
                head: &head,
                objects: ["text_completion", "text_completion"],
                whole: &|at, choice: &Choice| {
                    json!({
                        "index": at,
                        "text": choice.text,
                        "logprobs": of(&choice.tokens),
                        "finish_reason": choice.finish,
                    })
                },
                opened: &|_| None,
                part: &|piece: &Piece| {
                    let tokens: Vec<Likely> = piece.token.iter().cloned().collect();
                    json!({
                        "index": piece.text,
                        "text": piece.more,
                        "logprobs": of(&tokens),
                        "finish_reason": piece.finish,
                    })
                },
                ends: true,
                n,
            };
            send(to, &live, &shape, (stream, usage))
        }
    }
}

/// Log-probabilities of tokens in the format of the API. The first token of a text has none.
fn shown(tokens: &[Likely]) -> Value {
    let mut offset = 0;
    let mut offsets = Vec::new();
    for token in tokens {
        offsets.push(offset);
        offset += token.name.chars().count();
    }
    let told = |token: &Likely| (!token.logprob.is_nan()).then_some(token.logprob);
    let likeliest = |token: &Likely| {
        let map: serde_json::Map<String, Value> =
            token.likeliest.iter().map(|(name, p)| (name.clone(), json!(p))).collect();
        told(token).map(|_| map)
    };
    json!({
        "tokens": tokens.iter().map(|token| &token.name).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(told).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(likeliest).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

struct Asked {
    head: Head,
    sent: (usize, bool, bool),
    live: Live,
    logprobs: bool,
}

fn asked<'s>(ready: Ready<'s>, queue: &Queue<'s>, body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let prompts = prompts(fields.need("prompt")?)?;
    let echo = fields.take::<bool>("echo")?.unwrap_or(false);
    let top = fields.count("logprobs", (0, LIKELIEST))?;
    fields.only("suffix", &[json!("")])?;
    let common = Common::take(&ready, &mut fields, (true, TOKENS))?;
    fields.only("best_of", &[json!(1), json!(common.n)])?;
    fields.end()?;
    if prompts.len() * common.n > TEXTS {
        return Err(Refusal::of("n", format!("at most {TEXTS} texts are generated at once")));
    }
    if common.sampling.max_new_tokens == 0 && !echo {
        return Err(Refusal::of(
            "max_tokens",
            "`max_tokens` = 0 leaves nothing to do: set `echo` = true to get the prompt's log-probabilities",
        ));
    }
    let head = Head::new("cmpl", &ready, &common)?;
    let sent = (common.n, common.stream, common.usage);
    let live = queue.put(move |models, teller| {
        let mut texts = Vec::with_capacity(prompts.len() * common.n);
        for prompt in &prompts {
            let model = models.model(common.model)?;
            let (ids, before) = match prompt {
                Prompt::Text(text) => live::plain(model, text).map_err(bad)?,
                Prompt::Ids(ids) => (ids.clone(), 0),
            };
            let most = model.spec.d_vocab as i64;
            let known = ids.iter().all(|id| (0..most).contains(id));
            ensure!(
                known,
                Refusal::of(
                    "prompt",
                    format!("a token of the prompt is not in the model's vocabulary of {most}")
                )
            );
            model.check_length(ids.len()).map_err(bad)?;
            let added =
                common.added(models, &|at| spans(common.steering[at].positions, before, ids.len()))?;
            for _ in 0..common.n {
                let seed = common.seed.wrapping_add(texts.len() as u64);
                texts.push(Text { ids: ids.clone(), seed, added: added.clone() });
            }
        }
        let order = Order {
            model: common.model,
            texts,
            sampling: common.sampling,
            stops: common.stops.clone(),
            top,
            along: None,
        };
        match echo {
            true => echoed(models, order, teller),
            false => models.write(order, teller),
        }
    })?;
    Ok(Asked { head, sent, live, logprobs: top.is_some() })
}

/// Sends the tokens of every prompt before the generated ones, with their log-probabilities if requested.
fn echoed(models: &mut Models, order: Order, teller: &Teller) -> Result<()> {
    let model = models.model(order.model)?;
    let mut pieces = Vec::new();
    for (at, text) in order.texts.iter().enumerate() {
        let nothing = Likely { name: String::new(), logprob: f64::NAN, likeliest: Vec::new() };
        let name = |id: i64| model.token(id as u32);
        let mut tokens: Vec<Likely> =
            text.ids.iter().map(|&id| Likely { name: name(id), ..nothing.clone() }).collect();
        if let Some(top) = order.top {
            for (token, read) in tokens[1..].iter_mut().zip(live::read(model, text, top)?) {
                token.logprob = read.logprob.unwrap_or(f64::NAN);
                token.likeliest = read.likeliest.iter().map(|&(id, p)| (name(id), p)).collect();
            }
        }
        let shown = model.decode(&text.ids)?;
        let last = tokens.len() - 1;
        for (number, token) in tokens.into_iter().enumerate() {
            let more = if number == last { shown.clone() } else { String::new() };
            pieces.push(Piece {
                text: at,
                token: Some(token),
                more,
                finish: None,
                ends: false,
                is_echo: true,
            });
        }
    }
    if order.sampling.max_new_tokens > 0 {
        return models.write_after(order, pieces, teller);
    }
    let texts = order.texts.len();
    teller.tell(Event::Begun(order.texts.iter().map(|text| text.ids.len()).collect()))?;
    pieces.into_iter().try_for_each(|piece| teller.tell(Event::Token(piece)))?;
    (0..texts).try_for_each(|text| {
        teller.tell(Event::Token(Piece {
            text,
            token: None,
            more: String::new(),
            finish: Some("length"),
            ends: false,
            is_echo: true,
        }))
    })
}
