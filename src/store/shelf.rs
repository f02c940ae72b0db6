//! Read-only inspection of the store: writes nothing, moves nothing, takes no lock.

use fs_err as fs;

use super::entry::{MANIFEST, Manifest};
use super::{Depth, Found, Store};
use crate::plan::key::Key;

/// The condition of an entry, as far as it is known without reading table data.
#[derive(Debug)]
pub enum Condition {
    Whole(Box<Manifest>),
    Absent,
    /// Damaged, with the reason; a run would move it to `quarantine/`.
    Damaged(String),
    /// The disk cannot be read, or another version of the program wrote the entry.
    Unreadable(String),
}

impl Store {
    /// The condition of the key's entry, judged by its manifest, the file sizes and the digests already known.
    pub fn condition(&self, stage: &str, key: &Key) -> Condition {
        let look = || self.look(stage, key, &self.entry_dir(stage, key)?, Depth::Stat);
        match look() {
            Ok(Found::Whole(manifest)) => Condition::Whole(Box::new(manifest)),
            Ok(Found::Nothing) => Condition::Absent,
            Ok(Found::Damaged(why)) => Condition::Damaged(why),
            Err(error) => Condition::Unreadable(format!("{error:#}")),
        }
    }

    /// The key's manifest, if it is valid; the tables may still be damaged.
    pub fn manifest(&self, stage: &str, key: &Key) -> Option<Manifest> {
        let bytes = fs::read(self.entry_dir(stage, key).ok()?.join(MANIFEST)).ok()?;
        Manifest::parse(&bytes, stage, key).ok()
    }

    /// All valid manifests of a stage, sorted by key.
    pub fn manifests(&self, stage: &str) -> Vec<Manifest> {
        let names = |folder| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let folder = self.root().join(stage);
        let keys = names(folder.clone()).into_iter().flat_map(|part| names(folder.join(part)));
        let mut keys: Vec<Key> = keys.filter_map(|name| name.parse().ok()).collect();
        keys.sort_unstable();
        keys.iter().filter_map(|key| self.manifest(stage, key)).collect()
    }

    /// Names of the items in `quarantine/`.
    pub fn quarantined(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root().join("quarantine")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }
}
