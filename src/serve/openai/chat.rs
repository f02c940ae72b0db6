//! `POST /v1/chat/completions`.

use std::io;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Choice, Common, Head, LIKELIEST, Shape, TOKENS, send};
use crate::lm::{Message, Positions, Role};
use crate::serve::catalogue::Ready;
use crate::serve::engine::{Likely, Order, Piece, Queue};
use crate::serve::refusal::{Fields, Refusal, bad};
use crate::stages::analysis::steering::At;
use crate::stages::live::Text;
use crate::stages::rollouts::conversation::open;

/// Limit on the turns of a conversation.
const TURNS: usize = 1000;

/// Parses the turns of a conversation, whose content is a string or a list of text parts.
///
/// # Errors
/// An invalid turn.
pub fn messages(list: Vec<Value>) -> Result<Vec<Message>, Refusal> {
    if list.is_empty() || list.len() > TURNS {
        return Err(Refusal::of("messages", format!("`messages` has 1 to {TURNS} turns")));
    }
    let one = |(at, value): (usize, Value)| {
        let mut fields = Fields::within(format!("messages[{at}]."), value)?;
        let role: String = fields.need("role")?;
        let role = match role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let name = fields.named("role");
                let message = format!("there is no role `{other}` here: system, user and assistant");
                return Err(Refusal::of(name, message));
            }
        };
        let content: Value = fields.need("content")?;
        let content = said(content, &fields.named("content"))?;
        fields.take::<String>("name")?;
        for unknown in ["refusal", "tool_calls", "function_call", "audio", "annotations"] {
            fields.only(unknown, &[json!([])])?;
        }
        fields.end()?;
        Ok(Message::new(role, content))
    };
    list.into_iter().enumerate().map(one).collect()
}

fn said(content: Value, name: &str) -> Result<String, Refusal> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        _ => return Err(Refusal::of(name, format!("`{name}` must be a text"))),
    };
    let part = |(at, part): (usize, Value)| {
        let mut fields = Fields::within(format!("{name}[{at}]."), part)?;
        let kind: String = fields.need("type")?;
        if kind != "text" {
            let message = format!("the model reads text only, and `{name}[{at}]` is of the type `{kind}`");
            return Err(Refusal::of(name, message));
        }
        let text: String = fields.need("text")?;
        fields.end()?;
        Ok(text)
    };
    parts.into_iter().enumerate().map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.concat())
}

/// Answers a request.
///
/// # Errors
/// The client has disconnected.
pub fn chat<'s>(ready: Ready<'s>, queue: &Queue<'s>, body: &[u8], to: &mut TcpStream) -> io::Result<()> {
    match asked(ready, queue, body) {
        Err(refusal) => crate::serve::http::json(to, refusal.status, &refusal.json()),
        Ok((head, common, live, logprobs)) => {
            let shape = Shape {
                head: &head,
                objects: ["chat.completion", "chat.completion.chunk"],
                whole: &|at, choice: &Choice| {
                    json!({
                        "index": at,
                        "message": { "role": "assistant", "content": choice.text },
                        "logprobs": logprobs.then(|| shown(&choice.tokens)),
                        "finish_reason": choice.finish,
                    })
                },
                opened: &|at| {
                    Some(
                        json!({ "index": at, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }),
                    )
                },
                part: &|piece: &Piece| {
                    let tokens: Vec<Likely> = piece.token.iter().filter(|_| !piece.ends).cloned().collect();
                    let delta =
                        if piece.more.is_empty() { json!({}) } else { json!({ "content": piece.more }) };
                    json!({
                        "index": piece.text,
                        "delta": delta,
                        "logprobs": logprobs.then(|| shown(&tokens)),
                        "finish_reason": piece.finish,
                    })
                },
                ends: false,
                n: common.0,
            };
            send(to, &live, &shape, (common.1, common.2))
        }
    }
}

/// Log-probabilities of tokens in the format of the API.
fn shown(tokens: &[Likely]) -> Value {
    let one =
        |name: &str, logprob: f64| json!({ "token": name, "logprob": logprob, "bytes": name.as_bytes() });
    let token = |token: &Likely| {
        let mut shown = one(&token.name, token.logprob);
        shown["top_logprobs"] = token.likeliest.iter().map(|(name, p)| one(name, *p)).collect();
        shown
    };
    json!({ "content": tokens.iter().map(token).collect::<Vec<_>>() })
}

type Asked = (Head, (usize, bool, bool), crate::serve::engine::Live, bool);

fn asked<'s>(ready: Ready<'s>, queue: &Queue<'s>, body: &[u8]) -> Result<Asked, Refusal> {
    let mut fields = Fields::body(body)?;
    let turns = messages(fields.need("messages")?)?;
    let prefilled = fields.take::<bool>("continue_final_message")?.unwrap_or(false);
    let logprobs = fields.take::<bool>("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs", (0, LIKELIEST))?;
    if top.is_some_and(|top| top > 0) && !logprobs {
        return Err(Refusal::of("top_logprobs", "`top_logprobs` needs `logprobs` = true"));
    }
    fields.only("response_format", &[json!({ "type": "text" })])?;
    fields.only("store", &[json!(false)])?;
    fields.only("tools", &[json!([])])?;
    let common = Common::take(&ready, &mut fields, (false, TOKENS))?;
    fields.end()?;
    let (turns, answer) = split(turns, prefilled)?;
    let head = Head::new("chatcmpl", &ready, &common)?;
    let sent = (common.n, common.stream, common.usage);
    let top = logprobs.then_some(top.unwrap_or(0));
    let live = queue.put(move |models, teller| {
        let chat = ready.chat(common.model);
        let opened = |models: &mut crate::serve::engine::Models, at: At| {
            let positions = match at {
                At::Prompt => Positions::Prompt,
                At::Generated => Positions::Generated,
                _ => Positions::All,
            };
            open(models.model(common.model)?, &turns, &answer, positions, chat).map_err(bad)
        };
        let ids = opened(models, At::All)?.ids;
        let mut places = Vec::new();
        for steer in &common.steering {
            places.push(opened(models, steer.positions)?.spans);
        }
        let added = common.added(models, &|at| places[at].clone())?;
        let text = |number: usize| Text {
            ids: ids.clone(),
            seed: common.seed.wrapping_add(number as u64),
            added: added.clone(),
        };
        ensure!(
            common.sampling.max_new_tokens > 0,
            Refusal::of("max_tokens", "`max_tokens` must be at least 1")
        );
        let order = Order {
            model: common.model,
            texts: (0..common.n).map(text).collect(),
            sampling: common.sampling,
            stops: common.stops.clone(),
            top,
            along: None,
        };
        models.write(order, teller)
    })?;
    Ok((head, sent, live, logprobs))
}

/// The turns before the answer, and the prefilled beginning of the answer.
fn split(mut turns: Vec<Message>, prefilled: bool) -> Result<(Vec<Message>, String), Refusal> {
    let is_answer = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    match (prefilled, is_answer) {
        (false, false) => Ok((turns, String::new())),
        (true, true) if turns.len() > 1 => {
            let answer = turns.pop().map_or_else(String::new, |turn| turn.content);
            Ok((turns, answer))
        }
        (true, _) => {
            Err(Refusal::of("messages", "with `continue_final_message` the last turn is the assistant's"))
        }
        (false, true) => {
            let message =
                "the last turn is the assistant's: to continue it, send `continue_final_message` = true";
            Err(Refusal::of("messages", message))
        }
    }
}
