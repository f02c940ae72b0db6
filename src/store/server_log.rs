//! Last seen digests of models on servers, so that keys can be computed while a server is unavailable. Independent of
//! how servers are queried.
//!
//! `stat/servers.txt` is append-only, with one line per change: digest, `["url","model"]`, checksum of both. The last
//! line of a model counts; damaged or torn lines are ignored.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;

use super::Store;
use super::stat_cache::checksum;
use crate::plan::key::Digest;

impl Store {
    /// The digest that the server at `url` last listed for `model`, if it is known.
    pub fn seen_at_server(&self, url: &str, model: &str) -> Option<Digest> {
        // An unreadable or absent log counts as empty.
        let log = fs::read_to_string(self.server_log()).unwrap_or_default();
        let wanted = name(url, model);
        log.lines().rev().filter_map(parse).find(|(_, name)| *name == wanted).map(|(digest, _)| digest)
    }

    /// Remembers that the server at `url` lists `digest` for `model`, unless the cache is opened read-only.
    pub fn remember_server(&self, url: &str, model: &str, digest: Digest) {
        if self.stats.is_read_only() {
            return;
        }
        let line = format!("{digest} {}", name(url, model));
        if let Err(error) = append(&self.server_log(), &line) {
            self.warnings.push(format!("the digests of servers' models are not stored: {error:#}"));
        }
    }

    fn server_log(&self) -> PathBuf {
        self.root.join("stat").join("servers.txt")
    }
}

fn append(log: &Path, line: &str) -> Result<()> {
    fs::create_dir_all(log.parent().context("a file in a folder")?)?;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(log)?;
    // A single call, so that lines of several processes do not mix; the leading line feed ends a torn line.
    file.write_all(format!("\n{line} {}\n", checksum(line)).as_bytes())?;
    Ok(())
}

/// Both names as one field of a line.
fn name(url: &str, model: &str) -> String {
    serde_json::json!([url, model]).to_string()
}

fn parse(line: &str) -> Option<(Digest, &str)> {
    let (content, check) = line.rsplit_once(' ')?;
    let (digest, name) = content.split_once(' ')?;
    (checksum(content) == check).then_some((digest.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_digest_of_each_model_is_remembered_and_damage_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let seen = |url: &str, model: &str| Store::open(dir.path()).unwrap().seen_at_server(url, model);
        let [one, two, three] = [b"1", b"2", b"3"].map(|content| Digest::of(content));
        assert_eq!(seen("http://a", "m n"), None);
        store.remember_server("http://a", "m n", one);
        store.remember_server("http://a", "m", two);
        store.remember_server("http://a", "m n", three);
        assert_eq!((seen("http://a", "m n"), seen("http://a", "m")), (Some(three), Some(two)));
        assert_eq!(seen("http://b", "m"), None);

        let log = dir.path().join("stat/servers.txt");
        let text = fs::read_to_string(&log).unwrap();
        // The last line is truncated: the one before counts, and the next line written is intact.
        fs::write(&log, &text[..text.len() - 4]).unwrap();
        assert_eq!(seen("http://a", "m n"), Some(one));
        store.remember_server("http://a", "m n", two);
        assert_eq!(seen("http://a", "m n"), Some(two));

        let length = fs::metadata(&log).unwrap().len();
        let looks = Store::open(dir.path()).unwrap().read_only();
        looks.remember_server("http://a", "m n", one);
        assert_eq!(fs::metadata(&log).unwrap().len(), length);
        assert!(store.take_warnings().is_empty());
    }
}
