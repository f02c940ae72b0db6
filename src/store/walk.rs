//! What lies in a cache folder, found by looking: for the commands that are about the cache as a whole. Reads names
//! only, and knows nothing of what is in the files.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde::Serialize;

use super::{RESERVED, Store, check_name};
use crate::plan::key::Key;

/// Where an entry stands; whether it is whole is another question.
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
    /// Entries being written, or left so by a crash.
    pub tmp: Vec<PathBuf>,
    /// Finished batches of units that are not done.
    pub partial: Vec<PathBuf>,
    /// Entries that were damaged and set aside.
    pub quarantine: Vec<PathBuf>,
    /// Who is at work.
    pub leases: Vec<PathBuf>,
    /// What stands where entries do and is none.
    pub strays: Vec<PathBuf>,
}

impl Store {
    /// Looks through the folder. What comes or goes meanwhile may be in the lists or not.
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

/// What is in a folder, sorted; nothing where there is no folder.
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
