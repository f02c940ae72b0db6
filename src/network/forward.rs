//! Plain http requests through an http proxy: the request line holds the full URL (RFC 9112, 3.2.2). `ureq` itself only
//! supports CONNECT, which most proxies allow for port 443 alone.

use std::fmt;
use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy, ProxyProtocol};

/// Whether `url` is requested this way.
pub fn is_for(url: &str, proxy: &Proxy) -> bool {
    let plain = url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"));
    plain && proxy.protocol() == ProxyProtocol::Http
}

/// An agent that sends its requests for `origin` (scheme, host and port) to `proxy`.
pub fn agent(config: Config, proxy: &Proxy, origin: &str) -> Agent {
    let authorization = proxy.username().map(|name| {
        let word = format!("{name}:{}", proxy.password().unwrap_or_default());
        format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(word))
    });
    let forward = Forward { origin: origin.to_string(), authorization: authorization.unwrap_or_default() };
    let connector = ().chain(TcpConnector::default()).chain(forward);
    Agent::with_parts(config, connector, AtProxy(proxy.uri().clone()))
}

/// Resolves every URL to the proxy's address.
#[derive(Debug)]
struct AtProxy(Uri);

impl Resolver for AtProxy {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

#[derive(Clone)]
struct Forward {
    origin: String,
    /// A complete header line; may be empty.
    authorization: String,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Forward {}", self.origin)
    }
}

impl<In: Transport> Connector<In> for Forward {
    type Out = Whole<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Whole { inner, forward: self.clone(), at_head: true }))
    }
}

/// A connection to the proxy that rewrites requests to name full URLs.
#[derive(Debug)]
struct Whole<In> {
    inner: In,
    forward: Forward,
    /// The next bytes sent are the beginning of a request.
    at_head: bool,
}

impl<In: Transport> Transport for Whole<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let mut amount = amount;
        if std::mem::replace(&mut self.at_head, false) {
            let output = self.inner.buffers().output();
            let head = whole(&output[..amount], &self.forward)
                .filter(|head| head.len() <= output.len())
                .ok_or_else(|| Error::Io(io::Error::other("a request that does not fit")))?;
            output[..head.len()].copy_from_slice(&head);
            amount = head.len();
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.at_head = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// The head of a request with the full URL in the request line, followed by the proxy authorization header.
fn whole(head: &[u8], forward: &Forward) -> Option<Vec<u8>> {
    let path = head.iter().position(|byte| *byte == b' ')? + 1;
    let headers = head.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let parts = [
        &head[..path],
        forward.origin.as_bytes(),
        &head[path..headers],
        forward.authorization.as_bytes(),
        &head[headers..],
    ];
    Some(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_whole_url() {
        let mut forward = Forward { origin: "http://gpu7:8000".into(), authorization: String::new() };
        let head = b"POST /v1/chat?x=1 HTTP/1.1\r\nhost: gpu7:8000\r\n\r\n";
        let text = |forward: &Forward| String::from_utf8(whole(head, forward).unwrap()).unwrap();
        assert_eq!(text(&forward), "POST http://gpu7:8000/v1/chat?x=1 HTTP/1.1\r\nhost: gpu7:8000\r\n\r\n");
        forward.authorization = "Proxy-Authorization: Basic bWU6\r\n".into();
        assert!(text(&forward).contains(" HTTP/1.1\r\nProxy-Authorization: Basic bWU6\r\nhost: "));
        assert!(!format!("{forward:?}").contains("bWU6"));
        assert_eq!(whole(b"GET", &forward), None);
    }
}
