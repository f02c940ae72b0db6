//! HTTP/1.1 as far as a local server needs it: one request of bounded size per connection, and its reply. Independent
//! of the served paths.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Limit on the bytes of a request's head.
const HEAD: usize = 16 << 10;
/// Limit on the header fields of a request.
const FIELDS: usize = 64;
/// Limit on the bytes of a request's body: enough for a context of a hundred thousand tokens as numbers.
const BODY: usize = 4 << 20;
/// Time limit for receiving a request, and for each write to the client.
const PATIENCE: Duration = Duration::from_secs(30);

/// A parsed request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    pub query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the header `name` (in lower case); `Err` if it occurs several times.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Refused> {
        let mut all = self.headers.iter().filter(|(known, _)| known == name);
        let first = all.next();
        match all.next() {
            None => Ok(first.map(|(_, value)| value.as_str())),
            Some(_) => Err(Refused::new(400, format!("the header `{name}` stands twice"))),
        }
    }

    /// A value of the query string.
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request rejected with a status and a reason.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub why: String,
}

impl Refused {
    pub fn new(status: u16, why: impl Into<String>) -> Refused {
        Refused { status, why: why.into() }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::new(408, format!("the request was not received: {error}"))
    }
}

/// Reads a request. `None`: the connection was closed without sending anything.
pub fn read(stream: &mut TcpStream) -> Result<Option<Request>, Refused> {
    let deadline = Instant::now() + PATIENCE;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    let length = loop {
        let length = head_length(&bytes)?;
        if let Some(length) = length.filter(|&length| length <= HEAD) {
            break length;
        }
        if bytes.len() > HEAD {
            return Err(Refused::new(431, format!("the headers of a request may have at most {HEAD} bytes")));
        }
        if !more(stream, &mut bytes, deadline)? {
            return if bytes.is_empty() {
                Ok(None)
            } else {
                Err(Refused::new(400, "the request ends within its headers"))
            };
        }
    };
    let mut body = bytes.split_off(length);
    let mut request = parse(&bytes)?;
    if request.header("transfer-encoding")?.is_some() {
        return Err(Refused::new(
            411,
            "send the length of the body as `Content-Length`; chunked bodies are not supported",
        ));
    }
    let wanted = match request.header("content-length")? {
        None => 0,
        Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse::<usize>().unwrap_or(usize::MAX)
        }
        Some(_) => return Err(Refused::new(400, "`Content-Length` is not a number")),
    };
    if wanted > BODY {
        return Err(Refused::new(413, format!("the body of a request has at most {BODY} bytes")));
    }
    if request.header("expect")?.is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    while body.len() < wanted {
        if !more(stream, &mut body, deadline)? {
            return Err(Refused::new(400, "the request ends within its body"));
        }
    }
    body.truncate(wanted);
    request.body = body;
    Ok(Some(request))
}

/// Parses a request from its bytes; `None` if it is incomplete.
pub fn whole(bytes: &[u8]) -> Result<Option<Request>, Refused> {
    let Some(length) = head_length(bytes)? else { return Ok(None) };
    Ok(Some(Request { body: bytes[length..].to_vec(), ..parse(&bytes[..length])? }))
}

/// Reads more bytes; `false` at the end of the stream.
fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<bool, Refused> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Refused::new(408, "the request takes too long to arrive"));
    }
    stream.set_read_timeout(Some(left))?;
    let mut part = [0; 8192];
    let n = stream.read(&mut part)?;
    bytes.extend_from_slice(&part[..n]);
    Ok(n > 0)
}

/// Offset of the body; `None` if the head is incomplete.
fn head_length(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS];
    match httparse::Request::new(&mut headers).parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Refused::new(431, format!("a request may have at most {FIELDS} headers")))
        }
        Err(error) => Err(Refused::new(400, format!("this is no request of HTTP/1.1: {error}"))),
    }
}

fn parse(head: &[u8]) -> Result<Request, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; FIELDS];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed
        .parse(head)
        .map_err(|error| Refused::new(400, format!("this is no request of HTTP/1.1: {error}")))?;
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let broken = || Refused::new(400, "the address is not UTF-8");
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |text: &str| decoded(&text.replace('+', " ")).ok_or_else(broken);
        Ok((text(name)?, text(value)?))
    });
    let fields = parsed.headers.iter().map(|field| {
        let value = std::str::from_utf8(field.value);
        let value =
            value.map_err(|_| Refused::new(400, format!("the header `{}` is not UTF-8", field.name)))?;
        Ok((field.name.to_ascii_lowercase(), value.trim().to_string()))
    });
    Ok(Request {
        method: parsed.method.unwrap_or_default().to_string(),
        path: decoded(path).ok_or_else(broken)?,
        query: pairs.collect::<Result<_, Refused>>()?,
        headers: fields.collect::<Result<_, Refused>>()?,
        body: Vec::new(),
    })
}

/// Percent-decodes a text: `%41` is `A`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digits = (first == b'%').then(|| rest.get(..2)).flatten();
        let hex = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[2..];
            }
            None => bytes.push(first),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Headers of every reply: only for this origin, and not to be cached.
const ALWAYS: &str = "Connection: close\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
                      Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\nCache-Control: no-store\r\n";

/// Content security policy of pages with styles and scripts in separate files and no external requests.
pub const OWN: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                       base-uri 'none'; form-action 'none'";
/// Content security policy of pages with inline styles and scripts, such as the report.
pub const WITHIN: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; \
                          connect-src 'self' data: blob:; font-src data:; base-uri 'none'; form-action 'none'";

fn begin(stream: &mut TcpStream, status: u16, content: &str, more: &str) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    };
    write!(stream, "HTTP/1.1 {status} {reason}\r\nContent-Type: {content}\r\n{ALWAYS}{more}\r\n")
}

/// Sends a complete reply.
pub fn answer(stream: &mut TcpStream, status: u16, content: &str, more: &str, body: &[u8]) -> io::Result<()> {
    begin(stream, status, content, &format!("{more}Content-Length: {}\r\n", body.len()))?;
    stream.write_all(body)
}

/// Sends a value as JSON.
pub fn json(stream: &mut TcpStream, status: u16, value: &Value) -> io::Result<()> {
    answer(stream, status, "application/json", "", value.to_string().as_bytes())
}

/// Redirects to another address (302).
pub fn redirect(stream: &mut TcpStream, to: &str) -> io::Result<()> {
    answer(stream, 302, "text/plain", &format!("Location: {to}\r\n"), b"")
}

/// Sends the first `length` bytes of `from`.
pub fn copy(
    stream: &mut TcpStream,
    content: &str,
    more: &str,
    from: impl Read,
    length: u64,
) -> io::Result<()> {
    begin(stream, 200, content, &format!("{more}Content-Length: {length}\r\n"))?;
    io::copy(&mut from.take(length), stream).map(drop)
}

/// Begins a stream of server-sent events, which lasts until the connection is closed.
pub fn events(stream: &mut TcpStream) -> io::Result<()> {
    begin(stream, 200, "text/event-stream", "X-Accel-Buffering: no\r\n")
}

/// Sends one event.
pub fn event(stream: &mut TcpStream, data: &str) -> io::Result<()> {
    stream.write_all(format!("data: {data}\n\n").as_bytes())
}

/// Reads the rest of a request that is already answered: closing the connection with unread data would discard the
/// reply.
pub fn drain(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    io::copy(&mut stream.take(16 * BODY as u64), &mut io::sink()).map(drop)
}

/// Whether the client has closed the connection.
pub fn is_gone(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let peeked = stream.peek(&mut [0]);
    let waits = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let gone = matches!(&peeked, Ok(0)) || peeked.as_ref().is_err_and(|error| !waits(error));
    stream.set_nonblocking(false).is_err() || gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_apart() {
        let head =
            b"POST /a%20b/c%zz?q=x+y%26z&n HTTP/1.1\r\nHost: localhost:1\r\nX-A:  1 \r\nx-a: 2\r\n\r\n";
        assert_eq!(head_length(head).unwrap(), Some(head.len()));
        assert_eq!(head_length(&head[..20]).unwrap(), None);
        assert_eq!(head_length(b"nonsense\r\n\r\n").unwrap_err().status, 400);
        let request = parse(head).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a b/c%zz"));
        assert_eq!(
            (request.asked("q"), request.asked("n"), request.asked("m")),
            (Some("x y&z"), Some(""), None)
        );
        assert_eq!(request.header("host").unwrap(), Some("localhost:1"));
        assert_eq!(request.header("x-a").unwrap_err().status, 400);
        assert_eq!(parse(b"GET /%ff HTTP/1.1\r\n\r\n").unwrap_err().status, 400);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS + 1));
        assert_eq!(head_length(many.as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn a_client_that_is_gone_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(!is_gone(&server));
        (&client).write_all(b"more").unwrap();
        drop(client);
        // Data sent before can still be read, followed by the end of the stream.
        let mut rest = Vec::new();
        (&server).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"more");
        assert!(is_gone(&server));
    }
}
