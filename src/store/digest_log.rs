//! Maintenance of the log of known digests: finds damaged lines and lists the files that the log describes.
//! `stat_cache.rs` contains what runs use.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::stat_cache::{Identity, hash};
use crate::atomic;
use crate::plan::key::Digest;

/// The contents of the log file.
#[derive(Default)]
pub struct Log {
    /// Length of the log; `None` if there is no log.
    pub bytes: Option<u64>,
    /// Numbers of the lines whose checksums do not match.
    pub damaged: Vec<usize>,
    /// Files outside the cache that still exist and are unchanged according to `stat`.
    pub outside: Vec<Known>,
}

/// A file with a digest in the log.
pub struct Known {
    pub path: PathBuf,
    identity: Identity,
    digest: Digest,
}

impl Known {
    /// Reads the file. Returns a description of the problem if its content changed although nothing wrote to it.
    pub fn reread(&self) -> Option<String> {
        match hash(&self.path) {
            Ok((identity, digest)) if identity == self.identity && digest != self.digest => Some(format!(
                "its SHA-256 is {digest}, and was {}, although nothing wrote to it",
                self.digest
            )),
            Ok(_) => None,
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }
}

/// Reads the log line by line. Files below `cache` are left out: their digests are in the manifests of their entries.
pub fn read(path: &Path, cache: &Path) -> io::Result<Log> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Log::default()),
        Err(error) => return Err(error),
    };
    let mut log = Log { bytes: Some(bytes.len() as u64), ..Log::default() };
    let mut latest = HashMap::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
    {
        match Identity::parse_all(line) {
            Some((identity, digest, path)) => {
                latest.insert(path.to_string(), (identity, digest));
            }
            None => log.damaged.push(number + 1),
        }
    }
    // Every line is written with a line feed, and a log has at least one line.
    let ends = bytes.split(|&byte| byte == b'\n').count();
    if !bytes.ends_with(b"\n") && log.damaged.last() != Some(&ends) {
        log.damaged.push(ends);
    }
    let unchanged = |path: &Path, identity: &Identity| {
        fs::metadata(path).is_ok_and(|found| Identity::of(&found) == *identity)
    };
    let known =
        latest.into_iter().map(|(path, (identity, digest))| Known { path: path.into(), identity, digest });
    let cache = fs::canonicalize(cache)?;
    let outside = |known: &Known| !known.path.starts_with(&cache) && unchanged(&known.path, &known.identity);
    log.outside = known.filter(outside).collect();
    log.outside.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(log)
}

/// Rewrites the log without damaged lines and without outdated digests of files that changed since. A line that another
/// process appends in the meantime may be lost; that file is then hashed once more.
pub fn tidy(path: &Path) -> io::Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut seen = HashSet::new();
    let newest = |line: &&&[u8]| Identity::parse(line).is_some_and(|(file, _)| seen.insert(file.inode()));
    let mut kept: Vec<&[u8]> = lines.iter().rev().filter(newest).copied().collect();
    if kept.len() == lines.len() {
        return Ok(());
    }
    if kept.is_empty() {
        return fs::remove_file(path);
    }
    kept.reverse();
    let text: Vec<u8> = kept.iter().flat_map(|line| [*line, b"\n".as_slice()].concat()).collect();
    atomic::replace(path, &text).map_err(io::Error::other)
}
