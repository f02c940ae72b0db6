//! Where a repository's files are on this machine: the cache layout of Hugging Face's own tools, so that downloads are
//! shared with them. Opens no socket.
//!
//! ```text
//! hub/
//!   models--owner--name/                 datasets--owner--name/ of a dataset
//!     blobs/<SHA-256 or git's SHA-1>
//!     snapshots/<commit>/<file> -> ../../blobs/...       one `../` more for each folder that the file is in
//!     refs/<branch or tag>               holds a commit
//!     trees/<commit>.json                the list of its files
//!   .locks/models--owner--name/<blob>.lock
//! ```

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use super::repo::Repo;
use crate::atomic;

/// A repository's folder.
#[derive(Clone, Debug)]
pub struct Place {
    home: PathBuf,
    locks: PathBuf,
}

impl Place {
    /// The folder of `repo` in the cache folder `cache`; need not exist.
    pub fn new(cache: &Path, repo: &Repo) -> Place {
        let folder = repo.folder();
        Place { home: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.home.join("snapshots").join(commit)
    }

    /// The list of a commit's files.
    pub fn tree(&self, commit: &str) -> PathBuf {
        self.home.join("trees").join(format!("{commit}.json"))
    }

    pub fn blob(&self, name: &str) -> PathBuf {
        self.home.join("blobs").join(name)
    }

    pub fn lock(&self, blob: &str) -> PathBuf {
        self.locks.join(format!("{blob}.lock"))
    }

    /// The commit last recorded for `revision`; without a record, the revision itself is taken as a commit.
    pub fn commit(&self, revision: &str) -> String {
        let noted = fs::read_to_string(self.home.join("refs").join(revision)).ok();
        let noted = noted.map(|text| text.trim().to_string());
        noted.filter(|commit| !commit.contains(['/', '.'])).unwrap_or_else(|| revision.to_string())
    }

    /// Records the commit that `revision` currently refers to.
    pub fn note(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit(revision) == commit {
            return Ok(());
        }
        let path = self.home.join("refs").join(revision);
        atomic::replace(&path, commit.as_bytes())
    }

    /// Links `file` of the snapshot to `blob`.
    pub fn link(&self, commit: &str, file: &str, blob: &str) -> Result<()> {
        let (folders, name) = file.rsplit_once('/').unwrap_or(("", file));
        let folder = self.snapshot(commit).join(folders);
        fs::create_dir_all(&folder)?;
        let new = folder.join(format!(".{name}.{}", std::process::id()));
        let up = "../".repeat(file.matches('/').count());
        let target = Path::new(&up).join("../../blobs").join(blob);
        let _ = fs::remove_file(&new); // left by a crashed process with the same id
        match fs::os::unix::fs::symlink(target, &new) {
            Ok(()) => Ok(fs::rename(new, folder.join(name))?),
            // A file system without symbolic links: the blob itself is moved there, as Hugging Face's tools do.
            Err(_) => Ok(fs::rename(self.blob(blob), folder.join(name))?),
        }
    }
}
