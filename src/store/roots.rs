//! Folders of results that need entries of a cache: `roots/<digest of the path>.json`, written by runs so that a sweep
//! considers all of them. Independent of the contents of such a folder.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Process, Store};
use crate::atomic;
use crate::plan::key::Digest;

/// A folder whose runs use the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    pub path: PathBuf,
    /// The machine that registered it.
    pub host: String,
}

impl Store {
    /// Registers that the runs whose results are below `folder` need entries of this cache. Does nothing if the cache
    /// is not writable, as no run adds to it then.
    ///
    /// # Errors
    /// An I/O error.
    pub fn register_root(&self, folder: &Path) -> Result<()> {
        let path = fs::canonicalize(folder)?;
        let file = self.root_file(&path);
        if file.exists() {
            return Ok(());
        }
        let root = Root { path, host: Process::this().host };
        let refused = |error: &anyhow::Error| {
            let kinds = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
            error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<io::Error>())
                .any(|e| kinds.contains(&e.kind()))
        };
        match atomic::replace_flushed(&file, &serde_json::to_vec(&root)?) {
            Err(error) if refused(&error) => Ok(()),
            written => written,
        }
    }

    /// All registered folders, sorted by path.
    ///
    /// # Errors
    /// A registration that cannot be read, as it is then unknown what it needs.
    pub fn roots(&self) -> Result<Vec<Root>> {
        let entries = match fs::read_dir(self.root.join("roots")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut roots = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                let root = serde_json::from_slice::<Root>(&fs::read(&path)?);
                roots.push(root.with_context(|| format!("{} names no folder of results", path.display()))?);
            }
        }
        roots.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(roots)
    }

    /// Removes the registration of a folder.
    ///
    /// # Errors
    /// An I/O error.
    pub fn forget_root(&self, root: &Root) -> Result<()> {
        Ok(fs::remove_file(self.root_file(&root.path))?)
    }

    fn root_file(&self, path: &Path) -> PathBuf {
        let name = Digest::of(path.as_os_str().as_encoded_bytes()).short();
        self.root.join("roots").join(format!("{name}.json"))
    }
}
