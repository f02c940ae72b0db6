//! `emoflow serve`: a local server for the results of an experiment, the status of its run, and its models with
//! steering: a playground and an OpenAI-compatible API. HTTP is implemented over httparse with one thread per
//! connection; a single thread owns the model.

mod bands;
mod catalogue;
mod copied;
mod engine;
mod files;
mod guard;
mod http;
mod openai;
mod play;
mod refusal;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

pub use catalogue::Ready;
pub use guard::token;

use crate::lm::{Layer, Tokenizer};
use catalogue::shown;
use engine::Queue;
use http::{Refused, Request};
use refusal::Refusal;

/// Limit on simultaneous connections.
const CONNECTIONS: usize = 64;

/// What the server serves.
pub struct Site<'s> {
    pub name: &'s str,
    /// `results/<name>/`
    pub results: &'s Path,
    /// Status of the run.
    pub status: &'s (dyn Fn() -> Result<Value> + Sync),
    /// The experiment with its models; `Err`: why they are not available here.
    pub ready: Result<Ready<'s>, String>,
    pub token: &'s str,
}

/// Accepts and answers connections, without end.
///
/// # Errors
/// The listener yields no more connections.
pub fn serve(listener: &TcpListener, site: &Site) -> Result<()> {
    let open = AtomicUsize::new(0);
    let tables = files::Tables::default();
    let (queue, jobs) = engine::queue();
    std::thread::scope(|scope| {
        if let Ok(ready) = site.ready {
            scope.spawn(move || engine::work(ready, jobs));
        }
        let (queue, tables, open) = (&queue, &tables, &open);
        for stream in listener.incoming() {
            let mut stream = match stream {
                Ok(stream) => stream,
                // The client aborted before `accept`, or file descriptors are exhausted for now.
                Err(_) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    continue;
                }
            };
            if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::SeqCst);
                let refusal = Refusal::busy(format!("{CONNECTIONS} connections are open already"));
                let _ = http::json(&mut stream, refusal.status, &refusal.json());
                continue;
            }
            scope.spawn(move || {
                let _ = stream.set_nodelay(true);
                // Errors of a closed connection are ignored.
                let _ = answer(&mut stream, site, (queue, tables));
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
        Ok(())
    })
}

/// Parses a raw request as far as no model is needed and describes the result in words, for fuzzing.
pub fn heard(request: &[u8]) -> String {
    let request = match http::whole(request) {
        Ok(Some(request)) => request,
        Ok(None) => return "a part of a request".to_string(),
        Err(Refused { status, why }) => return format!("{status} {why}"),
    };
    match guard::admit(&request, "token") {
        Ok(path) => format!("{path} {}", openai::heard(&request.body)),
        Err(Refused { status, why }) => format!("{status} {why}"),
    }
}

type Behind<'a, 's> = (&'a Queue<'s>, &'a files::Tables);

fn answer<'s>(to: &mut TcpStream, site: &Site<'s>, behind: Behind<'_, 's>) -> io::Result<()> {
    let asked = http::read(to).and_then(|request| {
        let Some(request) = request else { return Ok(None) };
        let path = guard::admit(&request, site.token)?;
        Ok(Some((request, path)))
    });
    match asked {
        Ok(None) => Ok(()),
        Ok(Some((request, path))) => route(to, site, behind, (&request, &path)),
        Err(Refused { status, why }) => {
            let refusal = Refusal::with(status, why);
            http::json(to, status, &refusal.json())?;
            http::drain(to)
        }
    }
}

fn route<'s>(
    to: &mut TcpStream,
    site: &Site<'s>,
    (queue, tables): Behind<'_, 's>,
    (request, path): (&Request, &str),
) -> io::Result<()> {
    let refused = |to: &mut TcpStream, refusal: Refusal| http::json(to, refusal.status, &refusal.json());
    let page = |to: &mut TcpStream, content: &str, body: &str| {
        let policy = format!("Content-Security-Policy: {}\r\n", http::OWN);
        http::answer(to, 200, content, &policy, body.as_bytes())
    };
    const HTML: &str = "text/html; charset=utf-8";
    match (request.method.as_str(), path) {
        // Relative links of a page need the trailing slash.
        ("GET", "") if !request.path.ends_with('/') => http::redirect(to, &format!("/{}/", site.token)),
        ("GET", "") => page(to, HTML, include_str!("home.html")),
        ("GET", "playground") => page(to, HTML, include_str!("playground.html")),
        ("GET", "tables") => page(to, HTML, include_str!("tables.html")),
        ("GET", "serve.css") => page(to, "text/css; charset=utf-8", include_str!("serve.css")),
        ("GET", "home.js") => page(to, "text/javascript; charset=utf-8", include_str!("home.js")),
        ("GET", "tables.js") => page(to, "text/javascript; charset=utf-8", include_str!("tables.js")),
        ("GET", "playground.js") => page(to, "text/javascript; charset=utf-8", include_str!("playground.js")),
        ("GET", "api/status") => match (site.status)() {
            Ok(status) => http::json(to, 200, &status),
            Err(error) => refused(to, Refusal::from(error)),
        },
        ("GET", "api/files") => http::json(to, 200, &files::list(site.results)),
        ("GET", "api/rows") => tables.rows(site.results, request, to),
        ("GET", results) if results.starts_with("results/") => files::file(site.results, &results[8..], to),
        (
            method @ ("GET" | "POST"),
            "api/experiment"
            | "api/play"
            | "api/copy"
            | "v1/models"
            | "v1/chat/completions"
            | "v1/completions",
        ) => {
            let is_post = !matches!(path, "api/experiment" | "v1/models");
            if is_post != (method == "POST") {
                let right = if is_post { "POST" } else { "GET" };
                let refusal = Refusal::with(405, format!("`/{path}` needs the method {right}"));
                return refused(to, refusal);
            }
            // A form of another site cannot send this content type without a CORS preflight request.
            let content = request.header("content-type").ok().flatten().unwrap_or_default();
            if is_post && content.split(';').next().map(str::trim) != Some("application/json") {
                let why = "send JSON, with `Content-Type: application/json`";
                return refused(to, Refusal::with(415, why));
            }
            let ready = match &site.ready {
                Ok(ready) => *ready,
                Err(why) => {
                    return refused(to, Refusal::busy(format!("the models are not available here: {why}")));
                }
            };
            match path {
                "api/experiment" => match described(site, &ready) {
                    Ok(described) => http::json(to, 200, &described),
                    Err(error) => refused(to, Refusal::from(error)),
                },
                "api/play" => play::play(ready, queue, &request.body, to),
                "api/copy" => {
                    let copied = play::Trial::read(&ready, &request.body);
                    match copied.and_then(|trial| copied::copied(&ready, &trial)) {
                        Ok(copied) => http::json(to, 200, &json!(copied)),
                        Err(refusal) => refused(to, refusal),
                    }
                }
                "v1/models" => http::json(to, 200, &openai::models(&ready)),
                "v1/chat/completions" => openai::chat(ready, queue, &request.body, to),
                _ => openai::completions(ready, queue, &request.body, to),
            }
        }
        ("GET" | "POST", path) => refused(
            to,
            Refusal::none(
                "path",
                format!("there is nothing at `/{path}`: docs/serve.md lists what is supported"),
            ),
        ),
        (method, _) => {
            refused(to, Refusal::with(405, format!("{method} is not supported: GET and POST are")))
        }
    }
}

/// Models, vectors and settings that the playground offers.
fn described(site: &Site, ready: &Ready) -> Result<Value> {
    let sets = ready.sets();
    let mut models = Vec::new();
    for (at, model) in ready.resolved.models.iter().enumerate().filter(|(_, model)| model.checks.is_none()) {
        let own = sets.iter().filter(|set| set.model == at);
        let own = own.map(|set| {
            let default = ready.layer(set, None).ok();
            let layers: Vec<Value> = set.layers.iter().map(|&layer| shown(layer)).collect();
            json!({
                "stories": set.stories,
                "variant": set.variant,
                "emotions": set.emotions,
                "layers": layers,
                "default_layer": default.map(|layer: Layer| shown(layer)),
                "there": is_there(ready, set),
            })
        });
        models.push(json!({
            "name": model.name,
            "shown": model.shown(),
            "chat": Tokenizer::is_chat_tokenizer(&model.checkpoint).unwrap_or(false),
            "context": model.spec.context,
            "n_layers": model.spec.n_layers(),
            "sets": own.collect::<Vec<_>>(),
            "bands": bands::bands(ready, &model.name)?,
        }));
    }
    Ok(json!({
        "name": site.name,
        "models": models,
        "coherent": {
            "neutral": bands::LESS_LIKELY, "surprise": bands::MORE_SURPRISING, "repeated": bands::REPEATED,
        },
    }))
}

/// Whether all vectors of a set are cached.
fn is_there(ready: &Ready, set: &catalogue::Set) -> bool {
    let node = &ready.plan.nodes[set.node];
    node.units.iter().all(|unit| ready.store.contains(node.work.stage(), &unit.key))
}
