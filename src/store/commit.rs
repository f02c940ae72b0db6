//! Writes an entry atomically. `docs/design/caching.md` lists the steps and why an interruption at each is safe.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::entry::{Cost, Entry, FileRecord, MANIFEST, Manifest, check_name};
use super::table::Table;
use super::{Lookup, Store, parquet, stat_cache};
use crate::atomic;
use crate::plan::key::{Digest, Key};

/// A missing entry. Entries can only be written through this type.
pub struct Miss<'s> {
    pub(super) store: &'s Store,
    pub(super) stage: String,
    pub(super) key: Key,
    pub(super) reason: String,
}

impl Miss<'_> {
    /// Why the entry has to be computed: `new`, or what was damaged.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Stores `tables` (name, table) as the entry. `preimage_json` is the text whose SHA-256 is the key; `metadata` is
    /// added to every file. When this returns, the entry is on disk and has been read back. If another process stored
    /// the same key in the meantime, its entry is kept and returned, with a warning if the data differ. Fails on a NaN
    /// or an infinity (giving its position), on a full or read-only disk, and if the pre-image does not have the key as
    /// digest.
    pub fn commit(
        self,
        preimage_json: &str,
        tables: &[(String, Table)],
        metadata: &[(String, String)],
        cost: Cost,
    ) -> Result<Entry> {
        let subject = format!("store {}/{} in {}", self.stage, self.key.short(), self.store.root.display());
        let commit = || {
            let dir = self.temporary_folder()?;
            let manifest = self.write(dir.path(), preimage_json, tables, metadata, cost)?;
            self.place(dir, manifest)
        };
        commit().context(subject)
    }

    /// A new folder under `cache/tmp/`. It is deleted when dropped, unless it is renamed to the entry's folder.
    fn temporary_folder(&self) -> Result<TempDir> {
        let parent = self.store.root.join("tmp");
        fs::create_dir_all(&parent)?;
        let prefix = format!("{}-{}-{}-", self.stage, self.key.short(), std::process::id());
        atomic::folder_in(&parent, &prefix).with_context(|| format!("make a folder in {}", parent.display()))
    }

    /// All steps before the rename: writes the tables, reads each back, and writes the manifest last.
    fn write(
        &self,
        dir: &Path,
        preimage: &str,
        tables: &[(String, Table)],
        metadata: &[(String, String)],
        cost: Cost,
    ) -> Result<Manifest> {
        ensure!(cost.seconds.is_finite(), "a cost of {} seconds", cost.seconds);
        let mut pairs = vec![(parquet::KEY.to_string(), self.key.to_string())];
        pairs.extend_from_slice(metadata);
        let mut manifest = Manifest::new(&self.stage, self.key, preimage);
        manifest.created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        manifest.cost = cost;
        manifest.versions = self.store.versions.clone();
        for (name, table) in tables {
            check_name(name)?;
            ensure!(manifest.file(name).is_err(), "two tables are called `{name}`");
            let record = self.write_table(dir, name, table, &pairs);
            manifest.files.push(record.with_context(|| format!("table `{name}`"))?);
        }
        let text = manifest.render()?;
        let path = dir.join(MANIFEST);
        let mut file = fs::File::create_new(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        ensure!(fs::read(&path)? == text.as_bytes(), "{} reads back differently", path.display());
        atomic::flush_folder(dir)?;
        Ok(manifest)
    }

    /// Writes a table's file, flushes it to disk, reads it again and compares it with the table.
    fn write_table(
        &self,
        dir: &Path,
        name: &str,
        table: &Table,
        pairs: &[(String, String)],
    ) -> Result<FileRecord> {
        let path = dir.join(format!("{name}.parquet"));
        let batch = parquet::to_batch(table)?;
        let mut writer = Hashing::new(BufWriter::new(fs::File::create_new(&path)?));
        parquet::write_batch(&batch, &table.schema, pairs, &mut writer)?;
        let Hashing { inner, hasher, bytes } = writer;
        inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let sha256 = Digest::from_hasher(hasher);

        let (identity, found) = stat_cache::hash(&path)?;
        ensure!(found == sha256 && identity.size == bytes, "{} reads back differently", path.display());
        parquet::check(fs::File::open(&path)?.into_file(), &table.schema, &batch)
            .with_context(|| format!("{} reads back differently", path.display()))?;
        self.store.stats.trust(identity, sha256);
        Ok(FileRecord {
            name: name.to_string(),
            schema: table.schema.clone(),
            sha256,
            bytes,
            rows: table.rows() as u64,
        })
    }

    /// Moves the folder to the entry's path in one rename. This never replaces an entry: renaming a folder onto a
    /// non-empty one fails, and entries are never empty.
    fn place(&self, dir: TempDir, manifest: Manifest) -> Result<Entry> {
        let place = self.store.entry_dir(&self.stage, &self.key)?;
        let parent = make_parent(&self.store.root, &place)?;
        // A retry happens only if another process removed the entry found there.
        for _ in 0..10 {
            match fs::rename(dir.path(), &place) {
                Ok(()) => {
                    let _ = dir.keep();
                    atomic::flush_folder(&parent)?;
                    return Ok(Entry { manifest, dir: place, stats: self.store.stats.clone() });
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {}
                    _ => return Err(error.into()),
                },
            }
            if let Lookup::Hit(winner) = self.store.lookup(&self.stage, &self.key)? {
                if let Some(difference) = difference(&winner.manifest, &manifest) {
                    self.store.warnings.push(format!(
                        "{}/{} was computed twice with different results ({difference}); the first is kept: the stage \
                         is not deterministic",
                        self.stage,
                        self.key.short()
                    ));
                }
                return Ok(winner);
            }
        }
        bail!("{} comes and goes", place.display())
    }
}

/// The first table that differs between two entries of one key.
fn difference(kept: &Manifest, dropped: &Manifest) -> Option<String> {
    let digest = |manifest: &Manifest, name: &str| {
        manifest.file(name).map_or("absent".to_string(), |file| format!("sha256 {}", file.sha256.short()))
    };
    let names = kept.files.iter().chain(&dropped.files).map(|file| &file.name);
    names
        .map(|name| (name, digest(kept, name), digest(dropped, name)))
        .find(|(_, kept, dropped)| kept != dropped)
        .map(|(name, kept, dropped)| format!("table `{name}`: {kept}, then {dropped}"))
}

/// Creates the folders between the store's root and an entry, and flushes each folder that gained a new one.
fn make_parent(root: &Path, entry: &Path) -> Result<PathBuf> {
    let mut path = root.to_path_buf();
    let below = entry.parent().and_then(|parent| parent.strip_prefix(root).ok());
    for name in below.with_context(|| format!("{} is not below {}", entry.display(), root.display()))? {
        let parent = path.clone();
        path.push(name);
        match fs::create_dir(&path) {
            Ok(()) => atomic::flush_folder(&parent)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(path)
}

/// A writer that also counts the bytes and computes their digest.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Hashing<W> {
        Hashing { inner, hasher: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
