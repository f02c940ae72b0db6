//! The hub's address, the token, and the cache folder, from the environment variables of Hugging Face's own tools.
//! Opens no socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::network::plain_http;

/// Longer than the timeout of the hub's own tools (10 s): a mirror may have to fetch the file first.
const SILENCE: u64 = 60;

/// The settings of the hub in the environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`, without a trailing slash.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`
    pub offline: bool,
    /// Timeout of a download without data: `HF_HUB_DOWNLOAD_TIMEOUT`.
    pub silence: Duration,
    /// Timeout of requests for metadata, after which a local copy is used: `HF_HUB_ETAG_TIMEOUT`.
    pub patience: Duration,
}

/// A secret that gives access to gated and private repositories.
#[derive(Clone)]
pub struct Token {
    pub secret: String,
    /// The variable or file that it was read from.
    pub origin: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token from {}", self.origin)
    }
}

impl Settings {
    /// Reads the environment and the token file.
    pub fn from_env() -> Settings {
        Settings::read(&|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    /// Rejects settings with which no request can be sent.
    ///
    /// # Errors
    /// An endpoint that is not a URL; a token that cannot be part of a request.
    pub fn check(&self) -> Result<()> {
        ensure!(
            ["https://", "http://"].iter().any(|scheme| self.endpoint.starts_with(scheme)),
            "HF_ENDPOINT is `{}`: it must begin with https:// or http://",
            self.endpoint
        );
        if let Some(token) = &self.token {
            if let Some(why) = plain_http::refused(&self.endpoint) {
                bail!("{why} (the key is the token from {})", token.origin);
            }
            let plain = token.secret.bytes().all(|byte| byte.is_ascii_graphic());
            ensure!(
                plain,
                "the token from {} has a space or another character that no token has",
                token.origin
            );
        }
        Ok(())
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Settings {
        let user = variable("HOME").map(PathBuf::from).unwrap_or_default();
        let path = |name: &str| Some(expanded(&variable(name)?, &user, variable));
        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface")
        });
        let on = |name: &str| {
            variable(name).is_some_and(|value| {
                ["1", "true", "yes", "on"].contains(&value.trim().to_lowercase().as_str())
            })
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter();
        let token = named
            .filter_map(|name| token(name, variable(name)))
            .next()
            .or_else(|| token(&token_file.display().to_string(), fs_err::read_to_string(&token_file).ok()));
        let seconds = |name: &str| variable(name)?.trim().parse().ok().filter(|seconds| *seconds > 0);
        let time = |name: &str| Duration::from_secs(seconds(name).unwrap_or(SILENCE));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        // An empty variable counts as unset in huggingface_hub too.
        let offline = variable("HF_HUB_OFFLINE").map_or("TRANSFORMERS_OFFLINE", |_| "HF_HUB_OFFLINE");
        Settings {
            endpoint: endpoint.trim().trim_end_matches('/').to_string(),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token: token.filter(|_| !on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: on(offline),
            silence: time("HF_HUB_DOWNLOAD_TIMEOUT"),
            patience: time("HF_HUB_ETAG_TIMEOUT"),
        }
    }
}

fn token(origin: &str, text: Option<String>) -> Option<Token> {
    let secret = text?.trim().to_string();
    (!secret.is_empty()).then(|| Token { secret, origin: origin.to_string() })
}

/// `path` with `~` and variables (`$NAME`, `${NAME}`) expanded, as the hub's tools do for paths that no shell has
/// expanded. Unset variables are kept as written.
fn expanded(path: &str, user: &Path, variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let mut text = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        let name =
            |text: &str| text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        let (name, end) = match after[1..].strip_prefix('{') {
            Some(inner) => inner.find('}').map_or(("", 1), |end| (&inner[..end], end + 3)),
            None => (&after[1..][..name(&after[1..])], 1 + name(&after[1..])),
        };
        text.push_str(before);
        text.push_str(&variable(name).unwrap_or_else(|| after[..end].to_string()));
        rest = &after[end..];
    }
    text.push_str(rest);
    match text.strip_prefix('~') {
        Some("") => user.to_path_buf(),
        Some(rest) if rest.starts_with('/') => user.join(&rest[1..]),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let value = |name: &str| Some(variables.iter().find(|(n, _)| *n == name)?.1.to_string());
        Settings::read(&|name| value(name).filter(|value| !value.is_empty()))
    }

    /// The results of huggingface_hub 2.4 for the same variables.
    #[test]
    fn folders_are_where_the_hubs_tools_have_them() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/home/a")]), "/home/a/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), "/c/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/home/a"), ("HF_HOME", "~/hf")]), "/home/a/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/big/hub")]), "/big/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old/hub")]), "/old/hub");
        assert_eq!(cache(&[("SCRATCH", "/s"), ("HF_HOME", "$SCRATCH/hf")]), "/s/hf/hub");
        assert_eq!(cache(&[("SCRATCH", "/s"), ("HF_HOME", "${SCRATCH}/$NONE/${hf")]), "/s/$NONE/${hf/hub");
    }

    #[test]
    fn a_token_is_the_variables_or_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        assert!(settings(&[("HF_HOME", &home)]).token.is_none());
        fs_err::write(dir.path().join("token"), "from-file\n").unwrap();
        fs_err::write(dir.path().join("other"), "from-other").unwrap();
        let secret = |variables: &[(&str, &str)]| settings(variables).token.unwrap().secret;
        assert_eq!(secret(&[("HF_HOME", &home)]), "from-file");
        let other = format!("{home}/other");
        assert_eq!(secret(&[("HF_HOME", &home), ("HF_TOKEN_PATH", &other)]), "from-other");
        assert_eq!(secret(&[("HF_HOME", &home), ("HF_TOKEN", " given ")]), "given");
        let shown = format!("{:?}", settings(&[("HF_HOME", &home)]));
        assert!(!shown.contains("from-file"), "{shown}");
    }

    #[test]
    fn offline_is_said_in_several_ways() {
        for (value, offline) in
            [("1", true), ("ON", true), ("Yes", true), ("true", true), ("0", false), ("no", false)]
        {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        assert!(!settings(&[]).offline);
        assert_eq!(settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    }

    #[test]
    fn what_no_request_can_be_made_with_is_refused() {
        settings(&[("HF_TOKEN", "hf_abc")]).check().unwrap();
        let said = settings(&[("HF_ENDPOINT", "mirror:80")]).check().unwrap_err().to_string();
        assert!(said.starts_with("HF_ENDPOINT is `mirror:80`"), "{said}");
        let said = settings(&[("HF_TOKEN", "hf\nabc")]).check().unwrap_err().to_string();
        assert!(said.starts_with("the token from HF_TOKEN") && !said.contains("abc"), "{said}");
    }

    /// The variables in docs/hub.md: each supported one has an effect, and no other does.
    #[test]
    fn the_variables_of_the_documents_are_those_that_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        fs_err::write(dir.path().join("other"), "from-other").unwrap();
        let other = format!("{home}/other");
        let said = |more: &[(&str, &str)]| {
            let settings = settings(&[more, &[("HF_TOKEN", "mine"), ("HOME", home.as_str())]].concat());
            let secret = settings.token.as_ref().map(|token| token.secret.clone());
            format!("{settings:?} {secret:?}")
        };
        let text = include_str!("../../../docs/hub.md");
        let table = |heading: &str| -> Vec<&str> {
            let rows =
                text.split_once(heading).expect(heading).1.lines().skip_while(|line| !line.starts_with('|'));
            let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
            rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect()
        };
        let (heard, others) = (table("## Variables"), table("Ignored, since"));
        for name in &heard {
            let (value, before): (&str, &[(&str, &str)]) = match *name {
                "HF_TOKEN" => ("other", &[]),
                // The first of several takes precedence.
                "HUGGING_FACE_HUB_TOKEN" => ("other", &[("HF_TOKEN", "")]),
                "HF_TOKEN_PATH" => (&other, &[("HF_TOKEN", "")]),
                "HF_ENDPOINT" => ("https://mirror", &[]),
                "HF_HUB_ETAG_TIMEOUT" | "HF_HUB_DOWNLOAD_TIMEOUT" => ("7", &[]),
                name if name.contains("OFFLINE") || name.contains("DISABLE") => ("1", &[]),
                _ => ("$HOME/x", &[]),
            };
            assert_ne!(said(&[&[(*name, value)], before].concat()), said(before), "{name}");
        }
        for name in &others {
            assert_eq!(said(&[(name, "1")]), said(&[]), "{name}");
        }
        // All variables in huggingface_hub 2.4's constants.py and utils/_auth.py that could affect a download.
        for name in [
            "HF_HOME",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "XDG_CACHE_HOME",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_ENDPOINT",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "HF_HUB_ETAG_TIMEOUT",
            "HF_HUB_DOWNLOAD_TIMEOUT",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN",
        ] {
            assert!(heard.contains(&name), "{name} is not among {heard:?}");
        }
        for name in [
            "HUGGINGFACE_CO_STAGING",
            "HF_ASSETS_CACHE",
            "HUGGINGFACE_ASSETS_CACHE",
            "HF_DEBUG",
            "HF_HUB_DISABLE_TELEMETRY",
            "DISABLE_TELEMETRY",
            "DO_NOT_TRACK",
            "HF_HUB_DISABLE_PROGRESS_BARS",
            "HF_HUB_DISABLE_SYMLINKS",
            "HF_HUB_DISABLE_XET",
            "HF_XET_HIGH_PERFORMANCE",
            "HF_XET_CACHE",
            "HF_HUB_ENABLE_HF_TRANSFER",
            "HF_HUB_DISABLE_SHARED_BLOBS",
            "HF_HUB_USER_AGENT_ORIGIN",
            "HF_OIDC_RESOURCE",
        ] {
            assert!(others.contains(&name), "{name} is not among {others:?}");
        }
    }
}
