//! Artifacts on disk: an entry is complete or absent, and is found by its key. Independent of what stages compute.
//!
//! ```text
//! cache/
//!   <stage>/<first 2 digits>/<key>/     one entry
//!     manifest.json                     marks the entry as complete: pre-image, digests, rows, cost, versions
//!     <table>.parquet
//!   partial/<stage>-<key>/<n>.batch     finished batches of an unfinished unit
//!   leases/<stage>-<key>                the process that computes a unit; correctness never depends on it
//!   tmp/<stage>-<key>-<pid>-<random>/   entries being written; leftovers of a crash are harmless
//!   stat/digests.txt                    digests of files hashed earlier, by device, inode, size and times
//!   stat/servers.txt                    last seen digests of models on servers
//!   roots/<digest>.json                 result folders that use this cache
//!   quarantine/<stage>-<key>-<n>/       damaged entries
//! ```
//!
//! The store holds no locks, and a lease only avoids duplicate work; several threads and processes may safely share
//! one cache. Files are never changed in place. `docs/design/caching.md` gives the reasons.

mod commit;
mod digest_log;
mod disk;
mod entry;
mod lease;
pub mod parquet;
mod partial;
mod probe;
mod process;
mod roots;
mod server_log;
mod shelf;
mod stat_cache;
mod sweep;
pub mod table;
mod verify;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;

pub use commit::Miss;
pub use disk::free;
pub use entry::{Cost, Entry, FileRecord, Manifest};
pub use lease::{LIFE as LEASE_LIFE, Lease, Leased, Owner};
pub use partial::{Partial, kept_here};
pub use probe::{Probe, Verdict};
pub use process::Process;
pub use roots::Root;
pub use shelf::Condition;
pub use sweep::{Doomed, LIVE, Marks, Sweep, Why};
pub use verify::{Finding, Verified};
pub use walk::{Contents, Place};

use crate::plan::key::{Digest, Key};
use entry::{MANIFEST, Unusable, check_name};
use lease::Leases;
use stat_cache::{Identity, StatCache};

/// Folder names of the cache, which no stage may have.
const RESERVED: [&str; 6] = ["tmp", "stat", "quarantine", "leases", "partial", "roots"];

/// A cache folder.
pub struct Store {
    root: PathBuf,
    stats: Arc<StatCache>,
    warnings: Arc<Warnings>,
    versions: BTreeMap<String, String>,
    leases: Arc<Leases>,
}

/// The result of looking up a key.
pub enum Lookup<'s> {
    Hit(Entry),
    Miss(Miss<'s>),
}

/// Warnings for the user that do not stop the run.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    fn push(&self, warning: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What was found at an entry's path.
enum Found {
    Nothing,
    Whole(Manifest),
    Damaged(String),
}

/// How thoroughly an entry's files are checked.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// Sizes, and the digests that are already known.
    Stat,
    /// All digests; reads the files whose digest is not known yet.
    Digest,
}

impl Store {
    /// Opens the cache in folder `root`, which need not exist: folders are created on the first write.
    pub fn open(root: impl AsRef<Path>) -> Result<Store> {
        let root = root.as_ref().to_path_buf();
        match fs::metadata(&root) {
            Ok(metadata) => ensure!(metadata.is_dir(), "the cache `{}` is not a folder", root.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("open the cache"),
        }
        let warnings = Arc::new(Warnings::default());
        let stats = Arc::new(StatCache::new(root.join("stat").join("digests.txt"), warnings.clone()));
        let versions = BTreeMap::from([("emoflow".to_string(), env!("CARGO_PKG_VERSION").to_string())]);
        let leases = Leases::new(&root, LEASE_LIFE);
        Ok(Store { root, stats, warnings, versions, leases })
    }

    /// Records the version of a dependency (such as `libtorch`) in every manifest that is written.
    pub fn record_version(mut self, name: &str, version: &str) -> Store {
        self.versions.insert(name.to_string(), version.to_string());
        self
    }

    /// Stops [`Store::digest_file`] and [`Store::remember_server`] from writing to the cache, for read-only commands.
    pub fn read_only(self) -> Store {
        self.stats.read_only();
        self
    }

    /// The cache folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the entry of a key, or a [`Miss`] with which to write it. A damaged entry is moved to `quarantine/` with
    /// a warning and counts as a miss. Fails if the disk cannot be read or if another version of the program wrote the
    /// entry.
    pub fn lookup(&self, stage: &str, key: &Key) -> Result<Lookup<'_>> {
        let dir = self.entry_dir(stage, key)?;
        let miss =
            |reason| Ok(Lookup::Miss(Miss { store: self, stage: stage.to_string(), key: *key, reason }));
        let found = disk::look_again(&dir, || match self.look(stage, key, &dir, Depth::Digest)? {
            Found::Nothing => Ok(None),
            found => Ok(Some(found)),
        });
        let mut found = found?.unwrap_or(Found::Nothing);
        if let Found::Damaged(_) = found {
            // Check again: another process may have replaced it with a valid entry in the meantime.
            found = self.look(stage, key, &dir, Depth::Digest)?;
        }
        match found {
            Found::Whole(manifest) => Ok(Lookup::Hit(Entry { manifest, dir, stats: self.stats.clone() })),
            Found::Nothing => miss("new".to_string()),
            Found::Damaged(why) => {
                if let Some(place) = self.set_aside(stage, key, &dir)? {
                    self.warnings.push(format!(
                        "{stage}/{} was damaged and will be computed again: {why}; it was moved to {}",
                        key.short(),
                        place.display()
                    ));
                }
                miss(format!("damaged: {why}"))
            }
        }
    }

    /// Whether the key's entry exists, judged by its manifest, the file sizes and the digests already known. Reads no
    /// table data, writes nothing and takes no lock; used by `plan`.
    pub fn contains(&self, stage: &str, key: &Key) -> bool {
        let look = || self.look(stage, key, &self.entry_dir(stage, key)?, Depth::Stat);
        matches!(look(), Ok(Found::Whole(_)))
    }

    /// The SHA-256 of any file, such as a model's weights. The file is read at most once as long as it does not change.
    /// A file of the Hugging Face cache whose name is its digest is not read at all.
    pub fn digest_file(&self, path: &Path) -> Result<Digest> {
        if let Some(digest) = stat_cache::hub_blob(path) {
            return Ok(digest);
        }
        self.stats.digest(path).with_context(|| format!("take the digest of {}", path.display()))
    }

    /// The warnings since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    fn entry_dir(&self, stage: &str, key: &Key) -> Result<PathBuf> {
        check_name(stage)?;
        ensure!(!RESERVED.contains(&stage), "no stage can be called `{stage}`");
        let key = key.to_string();
        Ok(self.root.join(stage).join(&key[..2]).join(key))
    }

    fn look(&self, stage: &str, key: &Key, dir: &Path, depth: Depth) -> Result<Found> {
        let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let bytes = match fs::read(dir.join(MANIFEST)) {
            Ok(bytes) => bytes,
            Err(error) if is_absent(&error) => {
                let exists = fs::exists(dir)?;
                return Ok(if exists { Found::Damaged(format!("no {MANIFEST}")) } else { Found::Nothing });
            }
            Err(error) => return Err(error).context("look into the cache"),
        };
        let manifest = match Manifest::parse(&bytes, stage, key) {
            Ok(manifest) => manifest,
            Err(Unusable::Damaged(why)) => return Ok(Found::Damaged(why)),
            Err(Unusable::OtherVersion(version)) => bail!(
                "{} was written by another version of emoflow (layout {version}): use that version, or another cache",
                dir.display()
            ),
        };
        for file in &manifest.files {
            let name = file.file_name();
            let path = dir.join(&name);
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if is_absent(&error) => return Ok(Found::Damaged(format!("no {name}"))),
                Err(error) => return Err(error).context("look into the cache"),
            };
            let identity = Identity::of(&metadata);
            if identity.size != file.bytes {
                let why = format!("{name} has {} bytes, the manifest says {}", identity.size, file.bytes);
                return Ok(Found::Damaged(why));
            }
            let digest = match self.stats.known(&identity) {
                Some(digest) => digest,
                None if depth == Depth::Stat => continue,
                None => match self.stats.digest(&path) {
                    Ok(digest) => digest,
                    Err(error) if is_absent(&error) => return Ok(Found::Damaged(format!("no {name}"))),
                    Err(error) => return Err(error).context("look into the cache"),
                },
            };
            if digest != file.sha256 {
                let why = format!("{name} has the SHA-256 {digest}, the manifest says {}", file.sha256);
                return Ok(Found::Damaged(why));
            }
        }
        Ok(Found::Whole(manifest))
    }

    /// Moves an entry to `quarantine/` and returns its new path; `None` if another process already moved it.
    fn set_aside(&self, stage: &str, key: &Key, dir: &Path) -> Result<Option<PathBuf>> {
        self.quarantine(&format!("{stage}-{key}"), dir)
    }

    /// Moves any file or folder to `quarantine/`, under `name` followed by a number.
    fn quarantine(&self, name: &str, from: &Path) -> Result<Option<PathBuf>> {
        let quarantine = self.root.join("quarantine");
        fs::create_dir_all(&quarantine)?;
        let mut n = 0;
        loop {
            n += 1;
            let place = quarantine.join(format!("{name}-{n}"));
            if fs::exists(&place)? {
                continue;
            }
            match fs::rename(from, &place) {
                Ok(()) => return Ok(Some(place)),
                Err(error) => match error.kind() {
                    io::ErrorKind::NotFound => return Ok(None),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {}
                    _ => return Err(error).context("set a damaged entry aside"),
                },
            }
        }
    }
}
