//! A file's state when the run began, and whether it has changed since. Independent of its content.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use crate::plan::key::Digest;
use crate::store::Store;

/// A file whose content is part of a key.
#[derive(Clone, Debug)]
pub struct Digested {
    pub path: PathBuf,
    pub digest: Digest,
    state: State,
}

/// What changes with the content. The inode's change time (ctime) is not included: links and permissions do not
/// matter.
#[derive(Clone, Debug, PartialEq)]
struct State {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl State {
    fn of(path: &Path) -> Result<State> {
        let found = fs::metadata(path)?;
        Ok(State { inode: found.ino(), bytes: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

/// A file was changed while a run used it: nothing computed from it can be kept.
#[derive(Debug)]
pub struct Changed(PathBuf);

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was changed during this run: run it again", self.0.display())
    }
}

impl std::error::Error for Changed {}

impl Digested {
    /// The file's current state; the digest comes from the store's record or from reading the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path, store: &Store) -> Result<Digested> {
        let state = State::of(path)?;
        Ok(Digested { path: path.to_path_buf(), digest: store.digest_file(path)?, state })
    }

    /// Checks that the file is unchanged. Costs one or two `stat` calls if so.
    ///
    /// # Errors
    /// [`Changed`], also for a file that was changed and restored, since the other content may have been read in
    /// between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        let changed = || Changed(self.path.clone());
        ensure!(State::of(&self.path).with_context(changed)? == self.state, changed());
        ensure!(store.digest_file(&self.path).with_context(changed)? == self.digest, changed());
        Ok(())
    }
}
