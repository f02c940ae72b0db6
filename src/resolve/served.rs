//! Which model a server provides under a name, and how it is identified in keys. Queries servers, but never requests a
//! text.

use std::fmt;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::config::{Asked, SourceKind, Span};
use crate::plan::NEUTRAL;
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::stages::scores::judge::By;
use crate::stages::stories::served::{Client, Trouble};
use crate::stages::stories::{Protocol, Server};
use crate::store::Store;

/// Timeout in seconds for a server to list its models.
const PATIENCE: u64 = 20;

/// A server's answer about a model.
enum Found {
    Model(Digest),
    /// The server could not be asked, with the reason.
    Silent(String),
}

/// The server no longer has the model that its name referred to when the run began.
#[derive(Debug)]
pub struct AnotherModel {
    url: String,
    model: String,
}

impl fmt::Display for AnotherModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AnotherModel { url, model } = self;
        write!(f, "`{model}` at {url} has changed since this run started: run it again")
    }
}

impl std::error::Error for AnotherModel {}

/// Every source and judge at a server, with the location of its model's name.
pub(super) fn servers(asked: Asked<'_>) -> Vec<(String, &Server, &Span)> {
    let told = asked.stories.iter().map(|source| (source.name.as_str(), &source.kind, &source.span));
    let neutral = asked.neutral.map(|(kind, span)| (NEUTRAL, kind, span));
    let spoken = asked.dialogues.iter();
    let spoken =
        spoken.filter_map(|dialogues| Some((dialogues.name.as_str(), dialogues.written()?, &dialogues.span)));
    let servers = told.chain(neutral).chain(spoken).filter_map(|(name, kind, span)| match kind {
        SourceKind::Served { server, .. } => Some((name.to_string(), server, span)),
        _ => None,
    });
    let judges = asked.judges.iter().filter_map(|judge| match &judge.who.by {
        By::Server(server) => Some((judged_by(&judge.name), server, &judge.span)),
        _ => None,
    });
    servers.chain(judges).collect()
}

/// The key of a judge in [`Resolved::served`](super::Resolved::served); no source has such a name.
pub fn judged_by(judge: &str) -> String {
    format!("judges/{judge}")
}

/// The digest that identifies the model in keys.
///
/// An endpoint of OpenAI's protocol reports no digest; `identity`, or else the address and the model's name, is used.
/// For Ollama it is the digest that the server lists or, if it cannot be asked, the one that it listed last, with a
/// note.
///
/// # Errors
/// The server does not have the model; it cannot be asked and has no earlier record.
pub fn identity(
    source: &str,
    server: &Server,
    store: &Store,
    offline: bool,
    progress: &dyn Progress,
) -> Result<Digest> {
    if server.protocol == Protocol::OpenAi {
        return Ok(declared(server));
    }
    let found = match offline {
        true => Found::Silent("--offline opens no socket".to_string()),
        false => ask(server)?,
    };
    let Server { url, model, .. } = server;
    match (found, store.seen_at_server(url, model)) {
        (Found::Model(digest), seen) => {
            if seen != Some(digest) {
                store.remember_server(url, model, digest);
            }
            Ok(digest)
        }
        (Found::Silent(why), Some(seen)) => {
            // A judge already has the name of its node.
            let source = if source.contains('/') { source.to_string() } else { format!("stories/{source}") };
            progress.note(&format!(
                "{source}: {url}: {why}; assuming that `{model}` is still the one last seen, {}",
                seen.short()
            ));
            Ok(seen)
        }
        (Found::Silent(_), None) if offline => {
            Err(anyhow!("the digest of `{model}` at {url} is not known, and --offline opens no socket"))
        }
        (Found::Silent(why), None) => Err(anyhow!("{url}: {why}")),
    }
}

/// An error if the server now has another model under that name than when the run began, or cannot be asked: its texts
/// would be stored under the wrong key.
pub fn ensure_same(server: &Server, known: Digest) -> Result<()> {
    if server.protocol == Protocol::OpenAi {
        return Ok(());
    }
    let Server { url, model, .. } = server;
    match ask(server)? {
        Found::Model(digest) => {
            ensure!(digest == known, AnotherModel { url: url.clone(), model: model.clone() });
            Ok(())
        }
        Found::Silent(why) => Err(anyhow!("{url}: {why} (start it: `ollama serve`)")),
    }
}

/// The identity of a model for which no digest is reported.
fn declared(server: &Server) -> Digest {
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Declared<'a> {
        Identity(&'a str),
        At { url: &'a str, model: &'a str },
    }
    let declared = match &server.identity {
        Some(identity) => Declared::Identity(identity),
        None => Declared::At { url: &server.url, model: &server.model },
    };
    Digest::of(&serde_json::to_vec(&declared).expect("a struct of strings"))
}

/// Asks an Ollama server for the digest of its model.
fn ask(server: &Server) -> Result<Found> {
    let asked = Server { timeout: PATIENCE, parallel: 1, ..server.clone() };
    let tags = match Client::new(&asked)?.get("/api/tags") {
        Ok(tags) => tags,
        Err(Trouble::Passing { why, .. }) => return Ok(Found::Silent(why)),
        Err(Trouble::Refused(why) | Trouble::Unclear(why) | Trouble::Filtered(why)) => {
            return Err(anyhow!("{}: {why}", server.url));
        }
    };
    let models = tags["models"].as_array();
    let models = models.with_context(|| format!("{}/api/tags lists no models: no Ollama", server.url))?;
    digest(models, &server.model).map(Found::Model).ok_or_else(|| {
        let names: Vec<&str> = models.iter().filter_map(|model| model["name"].as_str()).collect();
        let has = match names.is_empty() {
            true => "none".to_string(),
            false => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        };
        anyhow!("{} has no model `{}`; it has {has}", server.url, server.model)
    })
}

/// The digest of `name`, or of `name:latest`, which Ollama treats as the same.
fn digest(models: &[Value], name: &str) -> Option<Digest> {
    let latest = format!("{name}:latest");
    let called = |name: &str| {
        models.iter().find(|model| ["name", "model"].iter().any(|key| model[*key].as_str() == Some(name)))
    };
    let listed = called(name).or_else(|| called(&latest))?["digest"].as_str()?;
    let digits = listed.strip_prefix("sha256:").unwrap_or(listed);
    // A server that only imitates Ollama may list something other than a digest.
    Some(digits.parse().unwrap_or_else(|_| Digest::of(listed.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_model_is_found_by_its_name_with_and_without_a_tag() {
        let digits = |pair: &str| pair.repeat(32);
        let models = json!([
            {"name": "a:latest", "model": "a:latest", "digest": digits("01")},
            {"name": "a:8b", "model": "a:8b", "digest": format!("sha256:{}", digits("02"))},
            {"name": "odd", "digest": "sha256:latest"},
        ]);
        let found = |name: &str| digest(models.as_array().unwrap(), name).map(|d| d.to_string());
        assert_eq!(found("a"), Some(digits("01")));
        assert_eq!(found("a:latest"), Some(digits("01")));
        assert_eq!(found("a:8b"), Some(digits("02")));
        assert_eq!(found("odd"), Some(Digest::of(b"sha256:latest").to_string()));
        assert_eq!(found("a:70b"), None);
    }

    #[test]
    fn what_is_declared_stands_for_the_model() {
        let server = |url: &str, model: &str, identity: Option<&str>| {
            declared(&Server {
                protocol: Protocol::OpenAi,
                url: url.into(),
                model: model.into(),
                api_key_env: None,
                parallel: 4,
                timeout: 300,
                identity: identity.map(String::from),
                patience: 1,
                body: Default::default(),
            })
        };
        let base = server("http://a/v1", "m", None);
        assert_ne!(base, server("http://b/v1", "m", None));
        assert_ne!(base, server("http://a/v1", "n", None));
        let named = server("http://a/v1", "m", Some("m 1.0"));
        assert_eq!(named, server("http://b/v1", "n", Some("m 1.0")));
        assert_ne!(named, server("http://a/v1", "m", Some("m 1.1")));
        assert_eq!(named, Digest::of(br#"{"identity":"m 1.0"}"#));
    }
}
