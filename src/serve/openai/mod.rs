//! The OpenAI-compatible API with an additional field `steering`: requests and replies, complete or streamed. Every
//! field is honoured or rejected; none is ignored silently.

mod chat;
mod completions;

use std::io;
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};

pub use chat::{chat, messages};
pub use completions::completions;

use super::catalogue::{Ready, Steer, shown};
use super::engine::{Event, Likely, Live, Models, Piece};
use super::http;
use super::refusal::{Fields, Refusal};
use crate::lm::Sampling;
use crate::stages::live::{self, Added};

/// Limit on the texts of a request.
const TEXTS: usize = 64;
/// Default number of tokens of an answer.
const TOKENS: usize = 512;
/// Limits on the number of stop strings and on the bytes of each.
const STOPS: (usize, usize) = (8, 200);
/// Limit on the most likely tokens reported per position.
const LIKELIEST: usize = 20;

/// Fields common to both kinds of request.
pub struct Common {
    pub model: usize,
    pub steering: Vec<Steer>,
    pub sampling: Sampling,
    /// Seed of the first text; each further text has the next one.
    pub seed: u64,
    pub n: usize,
    pub stops: Vec<String>,
    pub stream: bool,
    pub usage: bool,
}

impl Common {
    /// Takes the common fields. `plain`: for plain texts; `tokens`: default limit on the tokens of an answer.
    fn take(ready: &Ready, fields: &mut Fields, (plain, tokens): (bool, usize)) -> Result<Common, Refusal> {
        let named = fields.take::<String>("model")?;
        let (named, within) = named.as_deref().map_or((None, Ok(Vec::new())), |named| {
            let (model, rest) = named.split_once('+').unwrap_or((named, ""));
            (Some(model), within(rest))
        });
        let model = ready.model(named)?;
        let context = ready.resolved.models[model].spec.context;
        let most = fields.count("max_tokens", (0, context))?;
        let other = fields.count("max_completion_tokens", (1, context))?;
        let mut list = within?;
        list.extend(fields.take::<Vec<Value>>("steering")?.unwrap_or_default());
        let steering = ready.steering(model, list, plain)?;
        let sampling = Sampling {
            max_new_tokens: most.or(other).unwrap_or(tokens),
            temperature: fields.number("temperature", (0.0, 10.0))?.unwrap_or(1.0),
            top_k: fields.count("top_k", (0, 1_000_000))?.unwrap_or(0),
            top_p: fields.number("top_p", (f64::MIN_POSITIVE, 1.0))?.unwrap_or(1.0),
        };
        let seed = fields.count("seed", (0, 1 << 53))?.map_or_else(drawn, |seed| Ok(seed as u64))?;
        let n = fields.count("n", (1, TEXTS))?.unwrap_or(1);
        let stops = stops(fields)?;
        let stream = fields.take::<bool>("stream")?.unwrap_or(false);
        let options = fields.take::<Value>("stream_options")?;
        let usage = match options {
            None => false,
            Some(options) => {
                let mut options = Fields::within("stream_options.".into(), options)?;
                let usage = options.take::<bool>("include_usage")?.unwrap_or(false);
                options.end()?;
                usage
            }
        };
        let zero = [json!(0), json!(0.0)];
        fields.only("frequency_penalty", &zero)?;
        fields.only("presence_penalty", &zero)?;
        fields.only("logit_bias", &[json!({})])?;
        fields.only("echo", &[json!(false)])?; // for plain texts it has already been taken
        // Identifies an end user; has no effect on the text.
        fields.take::<Value>("user")?;
        Ok(Common { model, steering, sampling, seed, n, stops, stream, usage })
    }

    /// The additions to a text; `spans` gives the token ranges that each entry of `steering` affects.
    fn added(
        &self,
        models: &mut Models,
        spans: &dyn Fn(usize) -> Vec<std::ops::Range<usize>>,
    ) -> Result<Vec<Added>> {
        let mut all = Vec::new();
        for (at, steer) in self.steering.iter().enumerate() {
            all.extend(live::added(&steer.layers, &models.addition(steer)?, &spans(at)));
        }
        Ok(all)
    }

    /// The settings needed to reproduce the reply: the seed, and each entry of `steering` with all defaults filled in.
    fn told(&self) -> Value {
        let steering = self.steering.iter().map(|steer| {
            use super::catalogue::Direction;
            let emotion = match &steer.direction {
                Direction::Emotion(emotion) => emotion.clone(),
                Direction::Random(number) => format!("random-{number}"),
            };
            json!({
                "emotion": emotion,
                "strength": steer.strength,
                "layers": steer.layers.iter().map(|&layer| shown(layer)).collect::<Vec<_>>(),
                "positions": steer.positions,
                "stories": steer.set.stories,
                "variant": steer.set.variant,
            })
        });
        json!({ "seed": self.seed, "steering": steering.collect::<Vec<_>>() })
    }
}

/// Parses steering given in the model's name, for clients that cannot send additional fields:
/// `smollm2+calm:0.1@19/20+angry:-0.05`.
fn within(list: &str) -> Result<Vec<Value>, Refusal> {
    let wrong = |part: &str| {
        let message = format!(
            "`{part}` after the model's name is not understood: write it as in `+calm:0.1`, or `+calm:0.1@20`"
        );
        Refusal::of("model", message)
    };
    let one = |part: &str| {
        let (emotion, rest) = part.rsplit_once(':').ok_or_else(|| wrong(part))?;
        let (strength, layers) =
            rest.split_once('@').map_or((rest, None), |(strength, layers)| (strength, Some(layers)));
        let strength: f64 = strength.parse().map_err(|_| wrong(part))?;
        let mut item = json!({ "emotion": emotion, "strength": strength });
        if let Some(layers) = layers {
            let layer = |layer: &str| layer.parse::<u64>().map_or_else(|_| Value::from(layer), Value::from);
            item["layers"] = layers.split('/').map(layer).collect();
        }
        Ok(item)
    };
    list.split('+').filter(|part| !part.is_empty()).map(one).collect()
}

/// Draws a seed for a request without one.
fn drawn() -> Result<u64, Refusal> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::busy(format!("draw a seed: {error}")))?;
    // 53 bits, which every JSON client reads exactly.
    Ok(u64::from_le_bytes(bytes) >> 11)
}

/// Parses `stop`: one string or several.
fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let stops = match fields.take::<Value>("stop")? {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(list) => serde_json::from_value::<Vec<String>>(list)
            .map_err(|error| Refusal::of("stop", format!("`stop`: {error}")))?,
    };
    let (most, longest) = STOPS;
    if stops.len() > most || stops.iter().any(|stop| stop.is_empty() || stop.len() > longest) {
        let message = format!("`stop` has at most {most} strings of 1 to {longest} bytes each");
        return Err(Refusal::of("stop", message));
    }
    Ok(stops)
}

/// Fields common to all replies to a request.
#[derive(Clone)]
struct Head {
    id: String,
    created: u64,
    model: String,
    told: Value,
}

impl Head {
    fn new(kind: &str, ready: &Ready, common: &Common) -> Result<Head, Refusal> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Head {
            id: format!("{kind}-{:x}", drawn()?),
            created: since.as_secs(),
            model: ready.resolved.models[common.model].name.clone(),
            told: common.told(),
        })
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices,
            "emoflow": self.told,
        })
    }
}

/// A generated text, accumulated for a complete reply.
#[derive(Clone, Default)]
struct Choice {
    text: String,
    tokens: Vec<Likely>,
    written: usize,
    finish: Option<&'static str>,
}

/// Waits for the next event; `None` at the end; `Err` if the client has disconnected.
pub fn next(live: &Live, stream: &TcpStream) -> io::Result<Option<Event>> {
    use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
    loop {
        match live.events.recv_timeout(Duration::from_millis(100)) {
            Ok(event) => return Ok(Some(event)),
            Err(Disconnected) => return Ok(None),
            Err(Timeout) if http::is_gone(stream) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(Timeout) => {}
        }
    }
}

/// The reply format of a kind of request.
struct Shape<'a> {
    head: &'a Head,
    /// The field `object` of a complete reply, and of a streamed event.
    objects: [&'static str; 2],
    /// Formats a complete choice.
    whole: &'a dyn Fn(usize, &Choice) -> Value,
    /// The event before a choice's first token, if any.
    opened: &'a dyn Fn(usize) -> Option<Value>,
    /// Formats a choice of a streamed event.
    part: &'a dyn Fn(&Piece) -> Value,
    /// Whether the end token is reported with its log-probability, as completions servers do.
    ends: bool,
    /// Texts per prompt: the usage counts each prompt only once.
    n: usize,
}

/// Sends the reply to a request: complete, or (`stream`, with `usage` at the end) event by event.
fn send(to: &mut TcpStream, live: &Live, shape: &Shape, (stream, usage): (bool, bool)) -> io::Result<()> {
    let mut choices: Vec<Choice> = Vec::new();
    let mut prompts = 0;
    let mut begun = false;
    let [object, chunk] = shape.objects;
    let counted = |prompts: usize, choices: &[Choice]| {
        let written: usize = choices.iter().map(|choice| choice.written).sum();
        json!({ "prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written })
    };
    while let Some(event) = next(live, to)? {
        match event {
            Event::Begun(lengths) => {
                prompts = lengths.iter().step_by(shape.n.max(1)).sum();
                choices = vec![Choice::default(); lengths.len()];
                if stream {
                    http::events(to)?;
                    begun = true;
                    for choice in (0..choices.len()).filter_map(|at| (shape.opened)(at)) {
                        http::event(to, &shape.head.object(chunk, json!([choice])).to_string())?;
                    }
                }
            }
            Event::Token(piece) => {
                let choice = &mut choices[piece.text];
                choice.finish = choice.finish.or(piece.finish);
                choice.written += usize::from(!piece.is_echo && !piece.ends);
                match stream {
                    true if piece.more.is_empty() && piece.finish.is_none() && piece.token.is_none() => {}
                    true => {
                        http::event(to, &shape.head.object(chunk, json!([(shape.part)(&piece)])).to_string())?
                    }
                    false => {
                        choice.text.push_str(&piece.more);
                        choice.tokens.extend(piece.token.filter(|_| !piece.ends || shape.ends));
                    }
                }
            }
            Event::Traced(_) | Event::Said(_) => {}
            Event::Failed(refusal) if begun => {
                return http::event(to, &refusal.json().to_string());
            }
            Event::Failed(refusal) => return http::json(to, refusal.status, &refusal.json()),
            Event::Ended if stream => {
                if usage {
                    let mut last = shape.head.object(chunk, json!([]));
                    last["usage"] = counted(prompts, &choices);
                    http::event(to, &last.to_string())?;
                }
                return http::event(to, "[DONE]");
            }
            Event::Ended => {
                let all: Vec<Value> =
                    choices.iter().enumerate().map(|(at, choice)| (shape.whole)(at, choice)).collect();
                let mut answer = shape.head.object(object, Value::Array(all));
                answer["usage"] = counted(prompts, &choices);
                return http::json(to, 200, &answer);
            }
        }
    }
    let refusal = Refusal::busy("the model's thread has ended");
    http::json(to, refusal.status, &refusal.json())
}

/// Parses a body as far as possible without a model, for fuzzing.
pub fn heard(body: &[u8]) -> String {
    let read = || {
        let mut fields = Fields::body(body)?;
        let turns = fields.take("messages")?.map(messages).transpose()?;
        let prompts = fields.take("prompt")?.map(completions::prompts).transpose()?;
        let stops = stops(&mut fields)?;
        let model = fields.take::<String>("model")?.unwrap_or_default();
        let added = within(model.split_once('+').map_or("", |(_, rest)| rest))?;
        fields.end()?;
        Ok::<_, Refusal>((
            turns.map_or(0, |t| t.len()),
            prompts.map_or(0, |p| p.len()),
            stops.len(),
            added.len(),
        ))
    };
    match read() {
        Ok(counts) => format!("{counts:?}"),
        Err(refusal) => refusal.to_string(),
    }
}

/// The models of the experiment.
pub fn models(ready: &Ready) -> Value {
    let all = ready.resolved.models.iter().filter(|model| model.checks.is_none());
    let one = |model: &crate::resolve::Model| json!({ "id": model.name, "object": "model", "created": 0, "owned_by": model.origin });
    json!({ "object": "list", "data": all.map(one).collect::<Vec<_>>() })
}
