//! Connections to other machines: proxies and trusted certificates. Environment variables are interpreted as curl and
//! the hub's own tools do (docs/hub.md).

mod forward;
pub mod plain_http;
mod proxy;
mod roots;
mod wait;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::TlsConfig;
use ureq::typestate::AgentScope;

pub use wait::asked_wait;

/// Configuration shared by all agents of a client: timeouts and handling of redirects.
type Usual = Box<dyn Fn() -> ConfigBuilder<AgentScope> + Send + Sync>;

/// The agents of a client, one per server.
pub struct Agents {
    usual: Usual,
    of: Mutex<HashMap<String, Way>>,
}

/// How a server is reached.
#[derive(Clone)]
pub struct Way {
    pub agent: Agent,
    proxy: Option<String>,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agents")
    }
}

impl Agents {
    /// Creates the collection without connecting or reading the environment.
    pub fn new(usual: impl Fn() -> ConfigBuilder<AgentScope> + Send + Sync + 'static) -> Agents {
        Agents { usual: Box::new(usual), of: Mutex::default() }
    }

    /// The agent for the server of `url`.
    ///
    /// # Errors
    /// An environment variable names an invalid proxy or invalid certificates.
    pub fn to(&self, url: &str) -> Result<Way, String> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = of.get(origin(url)) {
            return Ok(way.clone());
        }
        let way = self.new_way(url)?;
        of.insert(origin(url).to_string(), way.clone());
        Ok(way)
    }

    fn new_way(&self, url: &str) -> Result<Way, String> {
        let proxy = proxy::of(url, &variable)?;
        let mut config = (self.usual)().proxy(None);
        let encrypted = |url: &str| url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
        if encrypted(url) || proxy.as_ref().is_some_and(|proxy| encrypted(&proxy.proxy.uri().to_string())) {
            config = config
                .tls_config(TlsConfig::builder().root_certs(roots::roots()?.certificates.clone()).build());
        }
        let shown = proxy.as_ref().map(|proxy| proxy.to_string());
        let agent = match proxy {
            None => config.build().new_agent(),
            Some(proxy) if forward::is_for(url, &proxy.proxy) => {
                forward::agent(config.build(), &proxy.proxy, origin(url))
            }
            Some(proxy) => config.proxy(Some(proxy.proxy)).build().new_agent(),
        };
        Ok(Way { agent, proxy: shown })
    }
}

impl Way {
    /// Suffix for error messages that names the proxy, if there is one.
    pub fn via(&self) -> String {
        self.proxy.as_ref().map_or_else(String::new, |proxy| format!(" (through {proxy})"))
    }
}

/// Why a certificate is not trusted, with a remedy; `None` for other errors.
pub fn untrusted(error: &ureq::Error) -> Option<String> {
    let said = error.to_string();
    let why = said.split_once("invalid peer certificate: ")?.1;
    let named = roots::roots().map_or_else(|said| said, |roots| roots.named.clone());
    Some(match why {
        "UnknownIssuer" => format!(
            "its certificate is signed by no authority that is known: known are those of {named}; name the file with your \
             site's in SSL_CERT_FILE"
        ),
        why => format!("its certificate is not accepted: {why}"),
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Scheme, host and port of a URL, as written.
pub fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}
