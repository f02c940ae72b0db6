//! Mark and sweep: determines what can be removed from a cache, given the keys that recent runs need. Independent of
//! runs and plans: the caller passes the marks.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use fs_err as fs;
use serde::Serialize;

use super::entry::MANIFEST;
use super::{Cost, Place, Process, Store, digest_log};
use crate::plan::key::Key;

/// Items younger than this may belong to a running process, whatever the records say. An entry is in `tmp/` only while
/// it is written and read back, and a run records its plan before it looks anything up: an hour is far more than either
/// takes.
pub const LIVE: Duration = Duration::from_secs(3600);

/// Keys that runs use.
#[derive(Debug, Default)]
pub struct Marks {
    /// Never removed.
    pub needed: HashSet<Key>,
    /// Removed only to reduce the size.
    pub wanted: HashSet<Key>,
    /// When a key was last in a run's plan, in seconds since 1970.
    pub used: HashMap<Key, u64>,
}

/// An item that can be removed.
#[derive(Clone, Debug, Serialize)]
pub struct Doomed {
    /// Path relative to the cache's root.
    pub place: String,
    pub why: Why,
    pub bytes: u64,
    /// The cost of computing it again; `None` if it is not an entry.
    pub cost: Option<Cost>,
    /// The entry, if it is one.
    pub entry: Option<Place>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    used: u64,
}

/// Why an item can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No recorded run needs it.
    Unused,
    /// Needed only by runs before the last, or an activation from which everything has been computed; removed to reduce
    /// the cache's size.
    ForRoom,
    /// A damaged item in `quarantine/`.
    Quarantine,
    /// In `tmp/` or `leases/`, left by a process that was stopped.
    LeftOver,
    /// Batches of a unit that is complete or that no recorded run needs.
    Partial,
}

/// Items to remove, and a summary of those that stay.
#[derive(Debug, Default, Serialize)]
pub struct Sweep {
    pub doomed: Vec<Doomed>,
    /// Number of entries that stay; `kept_bytes` is their total size.
    pub kept: usize,
    pub kept_bytes: u64,
}

impl Store {
    /// Determines what can be removed. With `max_size`, in bytes of entries, also selects entries that are only wanted
    /// until the rest is no larger: activations first, vectors and stories last, and within each the least recently
    /// used first.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn sweepable(&self, marks: &Marks, max_size: Option<u64>) -> Result<Sweep> {
        let contents = self.contents()?;
        let now = SystemTime::now();
        let (ended, leases): (Vec<_>, Vec<_>) = contents.leases.iter().partition(|path| is_of_dead(path));
        let leased: HashSet<Key> = leases.into_iter().filter_map(|path| key_in(path)).collect();
        let mut sweep = Sweep::default();
        let mut spare = Vec::new();
        let mut done = HashSet::new();
        for place in &contents.entries {
            let Some(found) = self.doom_entry(place, marks)? else { continue };
            done.insert(place.key);
            let live = leased.contains(&place.key) || is_young(&place.dir.join(MANIFEST), now);
            if live || marks.needed.contains(&place.key) {
                sweep.kept += 1;
                sweep.kept_bytes += found.bytes;
            } else if marks.wanted.contains(&place.key) {
                spare.push(found);
            } else {
                sweep.doomed.push(found);
            }
        }
        spare.sort_by_key(|found| (found.entry.as_ref().map(rank), found.used));
        let mut left: u64 = sweep.kept_bytes + spare.iter().map(|found| found.bytes).sum::<u64>();
        for found in spare {
            if max_size.is_some_and(|size| left > size) {
                left -= found.bytes;
                sweep.doomed.push(Doomed { why: Why::ForRoom, ..found });
            } else {
                sweep.kept += 1;
                sweep.kept_bytes += found.bytes;
            }
        }
        let asked = |key: &Key| marks.needed.contains(key) || marks.wanted.contains(key);
        let orphan = |path: &PathBuf| key_in(path).is_none_or(|key| done.contains(&key) || !asked(&key));
        let partial = contents
            .partial
            .iter()
            .filter(|path| orphan(path) && key_in(path).is_none_or(|k| !leased.contains(&k)));
        let others = [
            (Why::LeftOver, contents.tmp.iter().chain(ended).collect::<Vec<_>>()),
            (Why::Partial, partial.collect()),
            (Why::Quarantine, contents.quarantine.iter().collect()),
        ];
        for (why, paths) in others {
            for path in paths.into_iter().filter(|path| why == Why::Quarantine || !is_young(path, now)) {
                sweep.doomed.push(self.doom(path, why)?);
            }
        }
        Ok(sweep)
    }

    /// The entries and finished batches of these stages and keys, as items to remove.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn entries_of(&self, units: &[(&str, Key)]) -> Result<Sweep> {
        let mut sweep = Sweep::default();
        for (stage, key) in units {
            let partial = self.root.join("partial").join(format!("{stage}-{key}"));
            for path in [self.entry_dir(stage, key)?, partial].into_iter().filter(|path| path.exists()) {
                sweep.doomed.push(self.doom(&path, Why::Unused)?);
            }
        }
        Ok(sweep)
    }

    /// Removes the items of `sweep`, each atomically: an entry is moved into `tmp/` by one rename before its files are
    /// deleted, so that other processes find it complete or not at all. Items that no longer exist are skipped. Also
    /// removes outdated lines from the log of digests.
    ///
    /// # Errors
    /// The first item that cannot be removed; later items are kept.
    pub fn sweep(&self, sweep: &Sweep) -> Result<()> {
        digest_log::tidy(&self.root.join("stat").join("digests.txt"))?;
        if sweep.doomed.is_empty() {
            return Ok(());
        }
        let tmp = self.root.join("tmp");
        fs::create_dir_all(&tmp)?;
        let bin = tempfile::Builder::new().prefix("gc-").tempdir_in(&tmp)?;
        for (number, doomed) in sweep.doomed.iter().enumerate() {
            let away = bin.path().join(number.to_string());
            match fs::rename(&doomed.path, &away) {
                Ok(()) if away.is_dir() => fs::remove_dir_all(&away)?,
                Ok(()) => fs::remove_file(&away)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bin.close()?)
    }

    /// An entry as an item to remove; `None` if it no longer exists.
    fn doom_entry(&self, place: &Place, marks: &Marks) -> Result<Option<Doomed>> {
        let manifest = self.manifest(&place.stage, &place.key);
        if manifest.is_none() && !place.dir.exists() {
            return Ok(None);
        }
        let mut found = self.doom(&place.dir, Why::Unused)?;
        found.used =
            marks.used.get(&place.key).copied().unwrap_or(0).max(manifest.as_ref().map_or(0, |m| m.created));
        found.cost = manifest.map(|manifest| manifest.cost);
        found.entry = Some(place.clone());
        Ok(Some(found))
    }

    fn doom(&self, path: &Path, why: Why) -> Result<Doomed> {
        let place = path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let path = path.to_path_buf();
        Ok(Doomed { place, why, bytes: bytes_below(&path)?, cost: None, entry: None, path, used: 0 })
    }
}

/// Order of removal when the size is limited.
fn rank(place: &Place) -> u8 {
    match place.stage.as_str() {
        "activations" => 0,
        "vectors" => 2,
        "stories" => 3,
        _ => 1,
    }
}

/// The key at the end of a file name, before any extension.
fn key_in(path: &Path) -> Option<Key> {
    let name = path.file_name()?.to_str()?;
    let name = name.split('.').next()?;
    name.get(name.len().checked_sub(64)?..)?.parse().ok()
}

/// Whether the owner of a lease is known to have ended.
fn is_of_dead(lease: &Path) -> bool {
    let process = fs::read(lease).ok().and_then(|text| serde_json::from_slice::<Process>(&text).ok());
    process.is_some_and(|process| process.is_dead())
}

/// Whether anything at or below `path` changed less than [`LIVE`] ago, or in the future.
fn is_young(path: &Path, now: SystemTime) -> bool {
    let young = |path: &Path| {
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(UNIX_EPOCH);
        now.duration_since(changed).map_or(true, |age| age < LIVE)
    };
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    young(path) || below.into_iter().any(|entry| is_young(&entry.path(), now))
}

/// Total size of all files at or below `path`; files that disappear in the meantime are not counted.
fn bytes_below(path: &Path) -> Result<u64> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = 0;
    for entry in entries {
        bytes += bytes_below(&entry?.path())?;
    }
    Ok(bytes)
}
