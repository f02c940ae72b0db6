//! One request to a server: its key, its timeouts, and which failures are temporary. Independent of stories and of
//! other requests.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};
use ureq::{Agent, Timeout};

use super::Server;
use super::protocol::{Answer, Manner, Question};
use super::refused;
use crate::network::{self, Agents, plain_http};
use crate::stages::stories::Generate;
use crate::stages::stories::writing::End;

/// A server that cannot be connected to within this time is unavailable.
const CONNECT: Duration = Duration::from_secs(10);
/// Servers close idle connections after five seconds (uvicorn) or more; using a closed one would fail.
const IDLE: Duration = Duration::from_secs(3);
/// Limit on a reply, in bytes; stories are a thousandth of it.
const LARGEST_REPLY: u64 = 16 << 20;

/// The reason why there is no usable reply.
#[derive(Debug, PartialEq)]
pub enum Trouble {
    /// Permanent: the server would refuse again.
    Refused(String),
    /// The request was refused, in words that do not tell whether others would be refused too.
    Unclear(String),
    /// A filter refuses this request; others may pass.
    Filtered(String),
    /// Temporary; `wait`: the delay that the server asks for. `busy`: the server is unavailable or overloaded, which
    /// does not depend on the request.
    Passing { why: String, wait: Option<Duration>, busy: bool },
}

impl Trouble {
    fn passing(why: impl Into<String>) -> Trouble {
        Trouble::Passing { why: why.into(), wait: None, busy: false }
    }

    fn away(why: impl Into<String>) -> Trouble {
        Trouble::Passing { why: why.into(), wait: None, busy: true }
    }

    /// Adds the proxy or route on which it happened; a filter's words come from the server alone and stay unchanged.
    fn on_its_way(mut self, via: &str) -> Trouble {
        match &mut self {
            Trouble::Refused(why) | Trouble::Unclear(why) | Trouble::Passing { why, .. } => why.push_str(via),
            Trouble::Filtered(_) => {}
        }
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused(why)
            | Trouble::Unclear(why)
            | Trouble::Filtered(why)
            | Trouble::Passing { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

/// The API key. Never shown.
struct Secret(String);

impl Secret {
    /// `text` with the key redacted.
    fn out_of(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

/// A client of one server.
pub struct Client {
    agents: Agents,
    server: Server,
    secret: Option<Secret>,
    /// The server's special requirements on requests, as far as it has stated them.
    manner: Mutex<Manner>,
}

impl Client {
    /// Does not connect yet. Reads the key from the environment.
    ///
    /// # Errors
    /// The environment variable for the key is not set, or its value is not a key; the key would be sent unencrypted.
    pub fn new(server: &Server) -> Result<Client> {
        if let (Some(name), Some(why)) = (&server.api_key_env, plain_http::refused(&server.url)) {
            bail!("{why} (the key is that of `api_key_env`, {name})");
        }
        let secret = server.api_key_env.as_deref().map(secret).transpose()?;
        let Server { timeout, parallel, .. } = *server;
        let agents = Agents::new(move || {
            Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0) // so that the key and the request go to this server alone
                .max_redirects_will_error(false)
                .timeout_connect(Some(CONNECT))
                .timeout_global(Some(Duration::from_secs(timeout)))
                .max_idle_age(IDLE)
                .max_idle_connections(parallel)
                .max_idle_connections_per_host(parallel)
                .user_agent(concat!("emoflow/", env!("CARGO_PKG_VERSION")))
        });
        Ok(Client { agents, server: server.clone(), secret, manner: Mutex::default() })
    }

    /// Whether this is a client of that server.
    pub fn is_of(&self, server: &Server) -> bool {
        self.server == *server
    }

    /// A message about a parameter that the server does not support and that changes its texts.
    pub fn unheard(&self) -> Option<&'static str> {
        let manner = *self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        manner.no_seed.then_some(
            "the server does not support `seed`: its texts are random, and another run would get different ones; \
             stored texts are kept",
        )
    }

    /// One reply to `question`.
    pub fn chat(&self, params: &Generate, question: &Question) -> Result<Answer, Trouble> {
        let Server { protocol, model, .. } = &self.server;
        loop {
            let known = || self.manner.lock().unwrap_or_else(PoisonError::into_inner);
            let manner = *known();
            let mut body = protocol.body(model, params, question, manner);
            if let Value::Object(body) = &mut body {
                body.extend(self.server.body.clone());
            }
            let reply = match self.exchange(protocol.path(), Some(&body)) {
                Err(trouble @ (Trouble::Refused(_) | Trouble::Unclear(_))) => {
                    match manner.after(&trouble.to_string(), params) {
                        Some(better) => {
                            *known() = better;
                            continue;
                        }
                        None => return Err(trouble),
                    }
                }
                // The refusal is the answer to this question.
                Err(Trouble::Filtered(why)) => {
                    return Ok(Answer { text: why, end: End::Filtered, tokens: None, first: None });
                }
                reply => reply?,
            };
            return protocol
                .answer(&reply)
                .map_err(|error| Trouble::passing(self.redacted(&format!("an invalid reply: {error:#}"))));
        }
    }

    /// A message that every request is refused, with the key of the experiment file that it concerns.
    pub fn hinted(&self, why: &str) -> String {
        format!("{why}{}", self.server.protocol.hint(why))
    }

    /// The server's reply at `path`.
    pub fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.exchange(path, None)
    }

    fn exchange(&self, path: &str, body: Option<&Value>) -> Result<Value, Trouble> {
        let url = format!("{}{path}", self.server.url);
        let way = self.agents.to(&url).map_err(Trouble::Refused)?;
        self.sent(&way.agent, &url, body).map_err(|trouble| trouble.on_its_way(&way.via()))
    }

    fn sent(&self, agent: &Agent, url: &str, body: Option<&Value>) -> Result<Value, Trouble> {
        let bearer = self.secret.as_ref().map(|secret| format!("Bearer {}", secret.0));
        let sent = match (body, &bearer) {
            (None, None) => agent.get(url).call(),
            (None, Some(bearer)) => agent.get(url).header("Authorization", bearer).call(),
            (Some(body), bearer) => {
                let mut request = agent.post(url).content_type("application/json");
                if let Some(bearer) = bearer {
                    request = request.header("Authorization", bearer);
                }
                request.send(body.to_string())
            }
        };
        let (parts, mut body) = sent.map_err(|error| self.failed(&error))?.into_parts();
        let read = body.with_config().limit(LARGEST_REPLY).read_to_vec();
        if parts.status.is_success() {
            let bytes = read.map_err(|error| self.failed(&error))?;
            // .NET servers write a byte-order mark.
            let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
            return serde_json::from_slice(text).map_err(|error| {
                let why = format!("a reply that is not JSON ({error}): {}", refused::words(&bytes));
                Trouble::passing(self.redacted(&why))
            });
        }
        Err(self.refusal(parts.status, &parts.headers, &read.unwrap_or_default()))
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Trouble {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let words = refused::words(body);
        let said = match status.as_u16() {
            status if words.is_empty() => format!("status {status}"),
            status => format!("status {status}: {words}"),
        };
        match status.as_u16() {
            code @ 300..=399 => {
                let to = header("location").map_or(String::new(), |to| format!(" to {to}"));
                let why =
                    format!("status {code}: it redirects{to}, which is not followed: name that address");
                Trouble::Refused(self.redacted(&why))
            }
            // Not a rate limit: the paid quota is used up.
            429 if refused::is_spent(body) => Trouble::Refused(self.redacted(&said)),
            408 | 429 | 500.. => {
                let wait = network::asked_wait(headers);
                // 529: Anthropic's status for overload.
                Trouble::Passing {
                    why: self.redacted(&said),
                    wait,
                    busy: matches!(status.as_u16(), 429 | 503 | 529),
                }
            }
            400 | 403 | 422 | 451 if refused::is_filter(body) => Trouble::Filtered(self.redacted(&said)),
            401 | 403 => {
                let hint = match &self.server.api_key_env {
                    Some(name) => format!("the key is that of `{name}`"),
                    None => "no key was sent".to_string(),
                };
                Trouble::Refused(format!("{} ({hint})", self.redacted(&said)))
            }
            400 | 413 | 422 => Trouble::Unclear(self.redacted(&said)),
            404 => {
                let said = self.redacted(&said);
                Trouble::Refused(format!(
                    "{said} (`url` leads nowhere there, or it has no model of the name in `model`)"
                ))
            }
            _ => Trouble::Refused(self.redacted(&said)),
        }
    }

    /// A broken or refused connection may succeed the next time.
    fn failed(&self, error: &ureq::Error) -> Trouble {
        use ureq::Error::{ConnectProxyFailed, HostNotFound, Io, Protocol, Timeout as OutOfTime};
        if let Some(why) = network::untrusted(error) {
            return Trouble::Refused(why);
        }
        match error {
            ConnectProxyFailed(why) => Trouble::Refused(why.clone()),
            OutOfTime(Timeout::Global) => {
                Trouble::passing(format!("no reply within {} s", self.server.timeout))
            }
            OutOfTime(Timeout::Connect) => Trouble::away("it cannot be connected to"),
            Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
                Trouble::away("it does not answer: connection refused")
            }
            Io(io) if is_unknown(io) => Trouble::Refused("there is no such host".to_string()),
            Io(_) | Protocol(_) => Trouble::away(self.redacted(&format!("the connection broke: {error}"))),
            OutOfTime(_) => Trouble::passing(self.redacted(&format!("the connection broke: {error}"))),
            HostNotFound => Trouble::Refused("there is no such host".to_string()),
            _ => Trouble::Refused(self.redacted(&error.to_string())),
        }
    }

    /// A server may repeat the key that it was sent.
    fn redacted(&self, text: &str) -> String {
        self.secret.as_ref().map_or_else(|| text.to_string(), |secret| secret.out_of(text))
    }
}

/// Whether a host name does not exist; a failed lookup is a different error.
fn is_unknown(error: &io::Error) -> bool {
    let said = error.to_string();
    said.contains("failed to lookup address") && !said.contains("emporary failure")
}

/// The key that the environment variable `name` holds.
fn secret(name: &str) -> Result<Secret> {
    let value = std::env::var(name).ok().map(|value| value.trim().to_string());
    let value = value.filter(|value| !value.is_empty()).with_context(|| {
        format!(
            "the environment variable `{name}`, which is to hold the server's key (`api_key_env`), is not set"
        )
    })?;
    ensure!(
        value.bytes().all(|byte| byte.is_ascii_graphic()),
        "the environment variable `{name}` contains a space or another character that cannot be part of a key"
    );
    Ok(Secret(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::stories::served::Protocol;

    fn client() -> Client {
        let server = Server {
            protocol: Protocol::OpenAi,
            url: "http://h".into(),
            model: "m".into(),
            api_key_env: None,
            parallel: 1,
            timeout: 1,
            patience: 1,
            identity: None,
            body: Default::default(),
        };
        Client { secret: Some(Secret("sk-1".into())), ..Client::new(&server).unwrap() }
    }

    fn refusal(status: u16, header: (&'static str, &str), body: &str) -> Trouble {
        let headers = HeaderMap::from_iter([(header.0.parse().unwrap(), header.1.parse().unwrap())]);
        client().refusal(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn what_passes_is_told_from_what_does_not_and_nothing_tells_the_key() {
        let none = ("x", "y");
        let body = r#"{"error": {"message": "sk-1 is wrong"}}"#;
        let passing = |why: &str, wait, busy| Trouble::Passing { why: why.into(), wait, busy };
        for status in [408, 429, 500, 502, 503, 529] {
            assert_eq!(
                refusal(status, none, body),
                passing(&format!("status {status}: [key] is wrong"), None, [429, 503, 529].contains(&status))
            );
        }
        assert_eq!(
            refusal(429, ("retry-after", "7"), ""),
            passing("status 429", Some(Duration::from_secs(7)), true)
        );
        assert_eq!(
            refusal(429, ("retry-after", "0.25"), ""),
            passing("status 429", Some(Duration::from_millis(250)), true)
        );
        for status in [401, 403, 404] {
            let said = refusal(status, none, body);
            assert!(matches!(&said, Trouble::Refused(why) if why.contains("[key] is wrong")), "{said}");
        }
        for status in [400, 413, 422] {
            let said = refusal(status, none, body);
            assert!(matches!(&said, Trouble::Unclear(why) if why.contains("[key] is wrong")), "{said}");
        }
        let said = refusal(307, ("location", "http://other/?key=sk-1"), "");
        assert_eq!(
            said.to_string(),
            "status 307: it redirects to http://other/?key=[key], which is not followed: name that address"
        );
        assert!(matches!(said, Trouble::Refused(_)));
    }

    #[test]
    fn a_key_that_is_not_there_or_none_is_an_error() {
        let said = secret("EMOFLOW_NO_SUCH_VARIABLE").map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("`EMOFLOW_NO_SUCH_VARIABLE`") && said.ends_with("is not set"), "{said}");
    }
}
