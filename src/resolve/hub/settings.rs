//! Where the hub is, who asks, and where its files are kept: the environment variables of Hugging Face's own tools.
//! Opens no socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::network::plain_http;

/// Longer than the hub's own tools wait (10 s): a mirror may fetch what it is asked for first.
const SILENCE: u64 = 60;

/// What the environment says of the hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE`
    pub offline: bool,
    /// A hub that says nothing for so long has gone: `HF_HUB_DOWNLOAD_TIMEOUT`.
    pub silence: Duration,
}

/// A secret that opens gated and private repositories.
#[derive(Clone)]
pub struct Token {
    pub secret: String,
    /// The variable or the file that it came from.
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

    /// Refuses what no request can be made with.
    ///
    /// # Errors
    /// An endpoint that is no URL; a token that does not fit into a request.
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
        let endpoint = match on("HUGGINGFACE_CO_STAGING") {
            true => Some("https://hub-ci.huggingface.co".to_string()),
            false => variable("HF_ENDPOINT"),
        };
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_string());
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter();
        let token = named
            .filter_map(|name| token(name, variable(name)))
            .next()
            .or_else(|| token(&token_file.display().to_string(), fs_err::read_to_string(&token_file).ok()));
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.trim().parse().ok());
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        // An empty one counts as none, as there.
        let offline = variable("HF_HUB_OFFLINE").map_or("TRANSFORMERS_OFFLINE", |_| "HF_HUB_OFFLINE");
        Settings {
            endpoint: endpoint.trim().trim_end_matches('/').to_string(),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token: token.filter(|_| !on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: on(offline),
            silence: Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(SILENCE)),
        }
    }
}

fn token(origin: &str, text: Option<String>) -> Option<Token> {
    let secret = text?.trim().to_string();
    (!secret.is_empty()).then(|| Token { secret, origin: origin.to_string() })
}

/// `path` with `~` and variables (`$NAME`, `${NAME}`) replaced, as the hub's tools do for what a shell has not replaced. A
/// variable that is not set stays as it is written.
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
        Settings::read(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()))
    }

    /// What huggingface_hub 2.4 says of the same variables.
    #[test]
    fn folders_are_where_the_hubs_tools_have_them() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache.display().to_string();
        assert_eq!(cache(&[("HOME", "/home/a")]), "/home/a/.cache/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")]), "/c/huggingface/hub");
        assert_eq!(cache(&[("HOME", "/home/a"), ("HF_HOME", "~/hf")]), "/home/a/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/big/hub")]), "/big/hub");
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
}
