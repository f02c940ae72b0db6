//! A small local server that plays Ollama and an endpoint of OpenAI's protocol, and misbehaves when told to. Its texts
//! are a function of prompt and seed. Knows what the protocols say, not how emoflow asks.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use emoflow::plan::key::Digest;
use serde_json::{Value, json};

/// The name of its only model.
pub const MODEL: &str = "teller:8b";

/// A server with one model, at its address until the test ends.
pub struct Server {
    /// Of Ollama; OpenAI's protocol is below `/v1`.
    pub url: String,
    state: Arc<Mutex<State>>,
}

/// How one request for a text goes wrong.
#[derive(Clone, Debug)]
pub enum Mishap {
    /// The reply comes so late.
    Slow(Duration),
    /// A status, a `Retry-After`, a body.
    Status(u16, Option<u64>, String),
    /// Half of the reply, though its whole length was promised.
    Half,
    NoJson,
    /// A text of spaces.
    Empty,
    /// The connection ends before anything is said.
    Close,
    Redirect(String),
}

#[derive(Default)]
pub struct State {
    /// What `/api/tags` lists.
    pub digest: String,
    /// How long it takes to write a text.
    pub delay: Duration,
    /// Only who shows it may ask.
    pub key: Option<String>,
    /// What the next requests meet; none of them more than three times, so that no one is given up.
    pub mishaps: VecDeque<Mishap>,
    /// What all further ones meet.
    pub always: Option<Mishap>,
    /// A request with this in its prompt is refused, in words that say nothing of a filter.
    pub dislikes: Option<String>,
    /// `max_tokens` is refused, as by OpenAI's newer models.
    pub renamed: bool,
    /// Texts end with `done_reason` or `finish_reason` `length`.
    pub cut: bool,
    /// Where log-probabilities are asked for: the likeliest first tokens with their probabilities; none are told without.
    pub first: Vec<(String, f64)>,
    asked: Vec<Asked>,
    connections: usize,
    /// Requests for texts that are being answered, and the most there were at once.
    now: usize,
    most: usize,
}

/// A request for a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub prompt: String,
    pub seed: u64,
    pub body: Value,
    pub authorization: Option<String>,
    /// Its text was sent to the end.
    pub answered: bool,
}

impl State {
    /// Requests for texts since [`Server::asked`] was called.
    pub fn asked_so_far(&self) -> usize {
        self.asked.len()
    }
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = State { digest: "ab".repeat(32), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || answer(stream, &state));
            }
        });
        Server { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The requests for texts since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// The most requests for texts at once since the last call.
    pub fn most(&self) -> usize {
        std::mem::take(&mut self.state().most)
    }

    /// Connections since the last call.
    pub fn connections(&self) -> usize {
        std::mem::take(&mut self.state().connections)
    }
}

/// What the model writes; a dialogue where it is asked for turns. Of a fifth of the seeds it is a text that names every emotion of the tests.
pub fn text(prompt: &str, seed: u64) -> String {
    let digest = Digest::of(format!("{prompt}/{seed}").as_bytes()).to_string();
    let named = match u64::from_str_radix(&digest[..8], 16).unwrap() % 5 {
        0 => "happy, sad or not, ",
        _ => "",
    };
    let text =
        format!("On that day, {named}the door stood open. Someone had left a note on the table: {digest}.");
    let scenario = if prompt.contains("\"Scenario:\"") { "Scenario: Someone was late.\n" } else { "" };
    match prompt.contains("\"Person:\"") {
        true => format!("{scenario}Person: {text}\nAssistant: It says: {}.", &digest[..8]),
        false => text,
    }
}

/// Reads one request and answers it; the connection ends.
fn answer(stream: TcpStream, shared: &Mutex<State>) {
    shared.lock().unwrap().connections += 1;
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => break,
            Ok(_) => head.push(line.trim().to_string()),
        }
    }
    let header = |name: &str| {
        let line = head.iter().find(|h| h.to_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut words = head[0].split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    match (method, path) {
        ("GET", "/api/tags") => {
            let digest = shared.lock().unwrap().digest.clone();
            let model = json!({"name": MODEL, "model": MODEL, "size": 1, "digest": digest});
            send(&stream, 200, "", json!({"models": [model]}).to_string().as_bytes(), None);
        }
        ("POST", "/api/chat" | "/v1/chat/completions") => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            chat(&stream, path == "/api/chat", body, header("authorization"), shared);
        }
        _ => {
            send(&stream, 404, "", br#"{"detail": "Not Found"}"#, None);
        }
    }
}

fn chat(stream: &TcpStream, ollama: bool, body: Value, authorization: Option<String>, shared: &Mutex<State>) {
    let prompt =
        body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_string();
    let seed = if ollama { &body["options"]["seed"] } else { &body["seed"] };
    let seed = seed.as_u64().unwrap();
    let (number, mishap, delay, refused, cut, first) = {
        let mut state = shared.lock().unwrap();
        state.now += 1;
        state.most = state.most.max(state.now);
        let asked = Asked {
            prompt: prompt.clone(),
            seed,
            body: body.clone(),
            authorization: authorization.clone(),
            answered: false,
        };
        let failed = state.asked.iter().filter(|a| (&a.prompt, a.seed) == (&prompt, seed)).count();
        state.asked.push(asked);
        let mishap = if failed < 3 { state.mishaps.pop_front() } else { None };
        let mishap = mishap.or_else(|| state.always.clone());
        let error = |message: String| json!({"error": {"message": message, "type": "x"}}).to_string();
        let shown = authorization.as_deref().and_then(|a| a.strip_prefix("Bearer ")).unwrap_or_default();
        let refused = match &state.key {
            Some(key) if key != shown => Some((401, error(format!("Incorrect API key provided: {shown}.")))),
            _ if body["model"] != MODEL => Some((404, error(format!("model {} not found", body["model"])))),
            _ if state.dislikes.as_ref().is_some_and(|word| prompt.contains(word)) => {
                Some((400, error("Request could not be processed.".into())))
            }
            _ if state.renamed && body.get("max_tokens").is_some() => Some((
                400,
                error("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.".into()),
            )),
            _ => None,
        };
        let first = if body["logprobs"] == true { state.first.clone() } else { Vec::new() };
        (state.asked.len() - 1, mishap, state.delay, refused, state.cut, first)
    };
    std::thread::sleep(delay);
    let reply = |text: &str| {
        let reason = if cut { "length" } else { "stop" };
        let top = |(token, p): &(String, f64)| json!({"token": token, "logprob": p.ln()});
        let logprobs = first.first().map(|most| {
            let mut token = top(most);
            token["top_logprobs"] = first.iter().map(top).collect::<Vec<_>>().into();
            vec![token]
        });
        let mut reply = match ollama {
            true => json!({"model": MODEL, "message": {"role": "assistant", "content": text}, "done": true,
                           "done_reason": reason, "eval_count": 20}),
            false => json!({"object": "chat.completion", "usage": {"completion_tokens": 20}, "choices":
                    [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}]}),
        };
        if let Some(logprobs) = logprobs {
            match ollama {
                true => reply["logprobs"] = logprobs.into(),
                false => reply["choices"][0]["logprobs"] = json!({"content": logprobs}),
            }
        }
        reply.to_string().into_bytes()
    };
    let whole = reply(&text(&prompt, seed));
    let sent = match (refused, mishap) {
        (Some((status, body)), _) => {
            send(stream, status, "", body.as_bytes(), None);
            false
        }
        (None, None) => send(stream, 200, "", &whole, None),
        (None, Some(mishap)) => {
            match mishap {
                Mishap::Slow(time) => {
                    std::thread::sleep(time);
                    send(stream, 200, "", &whole, None);
                }
                Mishap::Status(status, wait, body) => {
                    let wait = wait.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
                    send(stream, status, &wait, body.as_bytes(), None);
                }
                Mishap::Half => {
                    send(stream, 200, "", &whole, Some(whole.len() / 2));
                }
                Mishap::NoJson => {
                    send(stream, 200, "", b"<html>Hello</html>", None);
                }
                Mishap::Empty => {
                    send(stream, 200, "", &reply(" \n"), None);
                }
                Mishap::Close => {}
                Mishap::Redirect(to) => {
                    send(stream, 307, &format!("location: {to}\r\n"), b"", None);
                }
            }
            false
        }
    };
    let mut state = shared.lock().unwrap();
    state.now -= 1;
    if let Some(asked) =
        state.asked.get_mut(number).filter(|asked| (&asked.prompt, asked.seed) == (&prompt, seed))
    {
        asked.answered = sent;
    }
}

/// Whether all of it was sent.
fn send(mut stream: &TcpStream, status: u16, headers: &str, body: &[u8], cut: Option<usize>) -> bool {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    let body = &body[..cut.unwrap_or(body.len())];
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
}
