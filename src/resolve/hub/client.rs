//! Requests to the hub: redirects, refusals, and retries of temporary failures. Independent of the cache and of
//! checkpoints.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use ureq::http::HeaderMap;
use ureq::{Agent, Body, BodyReader, Timeout};

use super::listing::Content;
use super::settings::{Settings, Token};
use crate::network::{self, Agents, asked_wait, origin};
use crate::progress::Progress;

const CONNECT: Duration = Duration::from_secs(15);
/// Attempts in a row without receiving a byte. With [`FIRST_WAIT`] this tolerates outages of about 15 seconds.
const ATTEMPTS: u32 = 6;
/// The wait after the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The hub counts requests over five minutes, so longer waits are not due to a rate limit.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Shorter waits are not reported.
const SAID_WAIT: Duration = Duration::from_secs(5);
/// The same limit as in browsers.
const REDIRECTS: usize = 20;
/// Bound on a reply that is kept in memory, in bytes; repositories with 100 000 files stay below.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Why a request failed.
#[derive(Debug)]
pub enum Trouble {
    /// The hub replied, and would give the same reply again.
    Refused {
        status: u16,
        /// `X-Error-Code`, as in `RepoNotFound`; may be empty.
        code: String,
        /// `X-Error-Message`; may be empty.
        message: String,
    },
    /// The hub could not be reached.
    Unreachable(String),
    /// A temporary failure.
    Passing { why: String, wait: Option<Duration> },
}

impl Trouble {
    pub fn passing(why: impl Into<String>) -> Trouble {
        Trouble::Passing { why: why.into(), wait: None }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused { status, code, message } => {
                let said = [code, message].map(String::as_str);
                let said: Vec<&str> = said.into_iter().filter(|s| !s.is_empty()).collect();
                write!(f, "status {status}{}{}", if said.is_empty() { "" } else { ": " }, said.join(": "))
            }
            Trouble::Unreachable(why) | Trouble::Passing { why, .. } => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}

/// Sends requests to one hub with one token.
#[derive(Debug)]
pub struct Client {
    /// For metadata of repositories and files, and for file contents.
    metadata: Agents,
    files: Agents,
    endpoint: String,
    token: Option<Token>,
}

/// The reply to a download request, ready to be read.
pub struct Answer {
    /// The offset of the body within the file.
    pub start: u64,
    /// The file's size, if known.
    pub total: Option<u64>,
    pub body: BodyReader<'static>,
}

/// A file's metadata from the headers.
pub struct Head {
    pub content: Option<Content>,
    pub size: Option<u64>,
}

impl Client {
    /// Opens no connection yet.
    pub fn new(settings: &Settings) -> Client {
        let agents = |silence: Duration| {
            Agents::new(move || {
                Agent::config_builder()
                    .http_status_as_error(false)
                    .max_redirects(0) // followed here, so that the token is sent to the hub only
                    .timeout_connect(Some(CONNECT))
                    .timeout_recv_response(Some(silence))
                    .timeout_per_read(Some(silence))
                    .accept_encoding("identity")
                    .user_agent(concat!("emoflow/", env!("CARGO_PKG_VERSION")))
            })
        };
        Client {
            metadata: agents(settings.patience),
            files: agents(settings.silence),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
        }
    }

    /// Reads the whole body at `path` of the hub.
    pub fn read(&self, path: &str, progress: &dyn Progress) -> Result<Vec<u8>, Trouble> {
        let mut patience = Patience::new(progress);
        loop {
            let read = self.ask(&self.metadata, &self.url(path), 0).and_then(|answer| {
                let mut bytes = Vec::new();
                let mut body = answer.body.take(LARGEST_ANSWER);
                body.read_to_end(&mut bytes).map_err(|e| Trouble::passing(e.to_string()))?;
                Ok(bytes)
            });
            match read {
                Err(trouble @ Trouble::Unreachable(_)) => return Err(trouble),
                Err(trouble) => patience.wait(trouble)?,
                Ok(bytes) => return Ok(bytes),
            }
        }
    }

    /// The metadata of the file at `path`, without its content.
    pub fn head(&self, path: &str, progress: &dyn Progress) -> Result<Head, Trouble> {
        let mut patience = Patience::new(progress);
        let headers = loop {
            match self.request(&self.metadata, &self.url(path), Ask::Head) {
                Ok((_, headers, _)) => break headers,
                Err(trouble) => patience.wait(trouble)?,
            }
        };
        // For a large file the redirect has its ETag and size; the ETag of the storage server is a different one.
        let either = |linked: &str, own: &str| text(&headers, linked).or_else(|| text(&headers, own));
        let size = either("x-linked-size", "content-length").and_then(|digits| digits.parse().ok());
        // Mirrors send the SHA-256 separately from an ETag with another digest.
        let checksum = text(&headers, "x-checksum-sha256").and_then(|digits| Content::named(digits.trim()));
        let tag = || Content::tagged(&either("x-linked-etag", "etag")?);
        Ok(Head { content: checksum.or_else(tag), size })
    }

    /// Starts reading `url` from byte `from`.
    pub fn get(&self, url: &str, from: u64) -> Result<Answer, Trouble> {
        self.ask(&self.files, url, from)
    }

    fn ask(&self, agents: &Agents, url: &str, from: u64) -> Result<Answer, Trouble> {
        let (status, headers, body) = self.request(agents, url, Ask::From(from))?;
        let length = text(&headers, "content-length").and_then(|digits| digits.parse().ok());
        let (start, total) = match status {
            206 => {
                let range = text(&headers, "content-range");
                let (start, total) = range
                    .as_deref()
                    .and_then(place)
                    .ok_or_else(|| Trouble::passing("a part came without its place in the file"))?;
                (start, Some(total))
            }
            _ => (0, length),
        };
        Ok(Answer { start, total, body: body.into_reader() })
    }

    /// The URL of `path` on the hub.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Sends one request and follows its redirects.
    fn request(&self, agents: &Agents, url: &str, ask: Ask) -> Result<(u16, HeaderMap, Body), Trouble> {
        let mut url = url.to_string();
        for _ in 0..REDIRECTS {
            let at_hub = origin(&url) == origin(&self.endpoint);
            let way = agents.to(&url).map_err(Trouble::Unreachable)?;
            let mut request = match ask {
                Ask::Head => way.agent.head(&url),
                Ask::From(_) => way.agent.get(&url),
            };
            if let Ask::From(from @ 1..) = ask {
                request = request.header("Range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header("Authorization", format!("Bearer {}", token.secret));
            }
            let (parts, body) = request.call().map_err(|error| failed(&error, &way.via()))?.into_parts();
            let headers = parts.headers;
            let linked = matches!(ask, Ask::Head)
                && ["x-linked-etag", "x-linked-size"].iter().all(|name| headers.contains_key(*name));
            match parts.status.as_u16() {
                status @ (200 | 206) => return Ok((status, headers, body)),
                status @ 300..400 if linked => return Ok((status, headers, body)),
                status @ 300..400 => match text(&headers, "location") {
                    Some(location) => url = join(&url, &location),
                    None => return Err(Trouble::passing(format!("status {status} leads nowhere"))),
                },
                status @ (408 | 429 | 500..) => {
                    return Err(Trouble::Passing {
                        why: format!("status {status}"),
                        wait: asked_wait(&headers),
                    });
                }
                // URLs of the storage expire after a while; the hub issues a new one.
                status if !at_hub => {
                    return Err(Trouble::passing(format!("status {status} from {}", origin(&url))));
                }
                status => {
                    let code = text(&headers, "x-error-code").unwrap_or_default();
                    let message = text(&headers, "x-error-message").unwrap_or_default();
                    return Err(Trouble::Refused { status, code, message });
                }
            }
        }
        Err(Trouble::passing("too many redirects"))
    }
}

#[derive(Clone, Copy)]
enum Ask {
    Head,
    /// The content, starting at this byte.
    From(u64),
}

/// Retries temporary failures.
pub struct Patience<'a> {
    progress: &'a dyn Progress,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub fn new(progress: &'a dyn Progress) -> Patience<'a> {
        Patience { progress, failures: 0 }
    }

    /// Resets the count of failures after data was received.
    pub fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits as long as the hub asks for, or longer after each failure.
    ///
    /// # Errors
    /// `trouble`, if it is permanent, or after too many attempts.
    pub fn wait(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.failures += 1;
        let asked = match &trouble {
            Trouble::Refused { .. } => return Err(trouble),
            Trouble::Unreachable(_) => None,
            Trouble::Passing { wait, .. } => *wait,
        };
        let wait = asked.unwrap_or(FIRST_WAIT * (1 << (self.failures - 1).min(8)));
        if self.failures == ATTEMPTS || wait > LONGEST_WAIT {
            let more = match wait {
                _ if self.failures == ATTEMPTS => format!("{ATTEMPTS} times in a row"),
                _ => format!("asks to wait {} s", wait.as_secs()),
            };
            return Err(Trouble::passing(format!("{trouble}, {more}")));
        }
        if wait >= SAID_WAIT {
            self.progress.note(&format!("the hub: {trouble}; retrying in {} s", wait.as_secs()));
        }
        std::thread::sleep(wait);
        Ok(())
    }
}

/// Broken connections count as temporary failures. Connections that could not be established (unknown host, invalid
/// certificate) are handled by the caller.
fn failed(error: &ureq::Error, via: &str) -> Trouble {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, UnexpectedEof};
    let said = network::untrusted(error).unwrap_or_else(|| error.to_string());
    let said = format!("{said}{via}");
    let broke = match error {
        ureq::Error::Protocol(_) => true,
        ureq::Error::Timeout(timeout) => !matches!(timeout, Timeout::Resolve | Timeout::Connect),
        ureq::Error::Io(error) => {
            [BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, UnexpectedEof]
                .contains(&error.kind())
        }
        _ => false,
    };
    if broke { Trouble::passing(said) } else { Trouble::Unreachable(said) }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_string())
}

/// The first byte and the total size in `bytes 5-9/10`.
fn place(range: &str) -> Option<(u64, u64)> {
    let (part, total) = range.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// The URL that the redirect `location`, received from `url`, leads to.
fn join(url: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_string();
    }
    let origin = origin(url);
    match location {
        l if l.starts_with("//") => format!("{}:{l}", origin.split(':').next().unwrap_or_default()),
        l if l.starts_with('/') => format!("{origin}{l}"),
        l => format!("{}/{l}", url.rsplit_once('/').map_or(url, |(folder, _)| folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_origin() {
        assert_eq!(origin("https://hub.co/a/b?c"), "https://hub.co");
        assert_eq!(origin("https://hub.co"), "https://hub.co");
        for other in ["http://hub.co/", "https://hub.co:444/", "https://hub.co.evil/", "https://hub.co@evil/"]
        {
            assert_ne!(origin(other), "https://hub.co", "{other}");
        }
        assert_eq!(join("https://hub.co/a/b", "/c?d"), "https://hub.co/c?d");
        assert_eq!(join("https://hub.co/a/b", "c"), "https://hub.co/a/c");
        assert_eq!(join("https://hub.co/a/b", "//cdn.co/c"), "https://cdn.co/c");
        assert_eq!(join("https://hub.co/a/b", "http://cdn.co/c"), "http://cdn.co/c");
    }

    #[test]
    fn patience_ends() {
        let none = crate::progress::Silent;
        let at_once = || Trouble::Passing { why: "busy".into(), wait: Some(Duration::ZERO) };
        let mut patience = Patience::new(&none);
        for _ in 1..ATTEMPTS {
            patience.wait(at_once()).unwrap();
        }
        assert_eq!(patience.wait(at_once()).unwrap_err().to_string(), "busy, 6 times in a row");
        patience.renew();
        patience.wait(at_once()).unwrap();
        let long = Trouble::Passing { why: "busy".into(), wait: Some(Duration::from_secs(3600)) };
        assert_eq!(patience.wait(long).unwrap_err().to_string(), "busy, asks to wait 3600 s");
        let refused = Trouble::Refused { status: 404, code: "RepoNotFound".into(), message: String::new() };
        assert_eq!(patience.wait(refused).unwrap_err().to_string(), "status 404: RepoNotFound");
    }

    #[test]
    fn a_part_says_where_it_belongs() {
        assert_eq!(place("bytes 5-9/10"), Some((5, 10)));
        assert_eq!(place("bytes 5-9/*"), None);
        assert_eq!(place("10"), None);
    }
}
