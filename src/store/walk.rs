//! Lists the contents of a cache folder, for commands that act on the cache as a whole. Reads names only, and is
//! independent of the contents of files.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde::Serialize;

use super::{RESERVED, Store, check_name};
use crate::plan::key::Key;

/// The location of an entry, which may be damaged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    pub stage: String,
    pub key: Key,
    #[serde(skip)]
    pub dir: PathBuf,
}

/// Everything in a cache folder, each list sorted.
#[derive(Debug, Default)]
pub struct Contents {
    pub entries: Vec<Place>,
    /// Entries being written, or leftovers of a crash.
    pub tmp: Vec<PathBuf>,
    /// Finished batches of unfinished units.
    pub partial: Vec<PathBuf>,
    /// Damaged items.
    pub quarantine: Vec<PathBuf>,
    /// Leases of units that are being computed.
    pub leases: Vec<PathBuf>,
    /// Items in the folders of entries that are not entries.
    pub strays: Vec<PathBuf>,
}

impl Store {
    /// Lists the cache folder. Items that are created or removed in the meantime may or may not be included.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn contents(&self) -> Result<Contents> {
        let mut contents = Contents {
            tmp: children(&self.root.join("tmp"))?,
            partial: children(&self.root.join("partial"))?,
            quarantine: children(&self.root.join("quarantine"))?,
            leases: children(&self.root.join("leases"))?,
            ..Contents::default()
        };
        for stage in children(&self.root)?.into_iter().filter(|path| path.is_dir()) {
            let name = name(&stage);
            if RESERVED.contains(&name) || check_name(name).is_err() {
                continue;
            }
            for digits in children(&stage)? {
                if !digits.is_dir() {
                    contents.strays.push(digits);
                    continue;
                }
                for dir in children(&digits)? {
                    match self::name(&dir).parse::<Key>() {
                        Ok(key) if self.entry_dir(name, &key)? == dir => {
                            contents.entries.push(Place { stage: name.to_string(), key, dir });
                        }
                        _ => contents.strays.push(dir),
                    }
                }
            }
        }
        Ok(contents)
    }
}

/// The contents of a folder, sorted; empty if the folder does not exist.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
