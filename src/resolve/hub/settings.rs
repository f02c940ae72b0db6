//! Where the hub is, who asks, and where its files are kept: the environment variables of Hugging Face's own tools.
//! Opens no socket.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::plain_http;

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
        let path = |name: &str| variable(name).map(|value| at_home(&value, &user));
        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface")
        });
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let on = |value: String| ["1", "true", "yes", "on"].contains(&value.trim().to_lowercase().as_str());
        Settings {
            endpoint: endpoint.trim().trim_end_matches('/').to_string(),
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: token("HF_TOKEN", variable("HF_TOKEN")).or_else(|| {
                token(&token_file.display().to_string(), fs_err::read_to_string(&token_file).ok())
            }),
            offline: variable("HF_HUB_OFFLINE").is_some_and(on),
        }
    }
}

fn token(origin: &str, text: Option<String>) -> Option<Token> {
    let secret = text?.trim().to_string();
    (!secret.is_empty()).then(|| Token { secret, origin: origin.to_string() })
}

/// `path` with `~` at its beginning replaced, as the hub's tools do for what a shell has not replaced.
fn at_home(path: &str, user: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => user.to_path_buf(),
        Some(rest) if rest.starts_with('/') => user.join(&rest[1..]),
        _ => PathBuf::from(path),
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
