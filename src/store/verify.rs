//! `cache verify`: reads the whole cache and reports damage. Changes nothing and does not rely on remembered digests.
//! Independent of the meaning of the tables.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use rayon::prelude::*;
use serde::Serialize;

use super::entry::{FileRecord, MANIFEST, Manifest, Unusable};
use super::walk::Place;
use super::{Store, digest_log, parquet, stat_cache};

/// The result of verifying a cache.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    pub entries: usize,
    pub files: usize,
    pub bytes: u64,
    /// One per damaged file.
    pub damaged: Vec<Finding>,
    /// Harmless findings, such as leftovers of an interrupted run in `tmp/`.
    pub notes: Vec<Finding>,
}

/// A finding and its location.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Path relative to the cache's root.
    pub place: String,
    pub what: String,
}

impl Store {
    /// Reads every entry: the manifest's own digest, and each table's size, digest, footer, schema and number of rows.
    /// Also checks each line of the log of digests, and the digests of finished batches of unfinished units. `deep`
    /// also decodes every table, checks for NaN and infinities, and hashes again the files outside the cache that the
    /// log knows, such as weights.
    ///
    /// # Errors
    /// A folder that cannot be listed. A file that cannot be read counts as damage.
    pub fn verify(&self, deep: bool) -> Result<Verified> {
        let contents = self.contents()?;
        let one = |place: &Place| {
            let mut found = self.verify_entry(place, deep);
            if !found.damaged.is_empty() {
                // Another process may just have moved it away and computed it again.
                found = self.verify_entry(place, deep);
            }
            found.is_there.then_some(found)
        };
        let found: Vec<Looked> = contents.entries.par_iter().filter_map(one).collect();
        let mut all = Verified { entries: found.len(), ..Verified::default() };
        for mut one in found {
            all.files += one.files;
            all.bytes += one.bytes;
            all.damaged.append(&mut one.damaged);
            all.notes.append(&mut one.notes);
        }
        for unit in &contents.partial {
            self.verify_partial(unit, &mut all);
        }
        self.verify_log(deep, &mut all)?;
        for (paths, what) in [
            (&contents.tmp, "being written, or from an interrupted run: harmless"),
            (&contents.quarantine, "was damaged and set aside"),
            (&contents.strays, "not part of a cache: never read"),
        ] {
            all.notes.extend(paths.iter().map(|path| self.finding(path, what.to_string())));
        }
        Ok(all)
    }

    /// Checks one entry. If it disappears in the meantime, `is_there` is false.
    fn verify_entry(&self, place: &Place, deep: bool) -> Looked {
        let mut looked = Looked { is_there: true, files: 1, ..Looked::default() };
        let path = place.dir.join(MANIFEST);
        let parsed = fs::read(&path).map(|bytes| {
            looked.bytes += bytes.len() as u64;
            Manifest::parse(&bytes, &place.stage, &place.key)
        });
        let manifest = match parsed {
            Ok(Ok(manifest)) => manifest,
            Ok(Err(Unusable::Damaged(why))) => {
                looked.damaged.push(self.finding(&place.dir, why));
                return looked;
            }
            Ok(Err(Unusable::OtherVersion(version))) => {
                let why = format!("of another version of emoflow (layout {version}): not checked");
                looked.notes.push(self.finding(&place.dir, why));
                return looked;
            }
            Err(_) if !place.dir.exists() => return Looked::default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                looked.damaged.push(self.finding(&place.dir, format!("no {MANIFEST}")));
                return looked;
            }
            Err(error) => {
                looked.damaged.push(self.finding(&path, format!("cannot be read: {error}")));
                return looked;
            }
        };
        for file in &manifest.files {
            looked.files += 1;
            looked.bytes += file.bytes;
            let path = place.dir.join(file.file_name());
            if let Err(error) = verify_table(&path, &manifest, file, deep) {
                if !place.dir.exists() {
                    return Looked::default();
                }
                looked.damaged.push(self.finding(&path, format!("{error:#}")));
            }
        }
        looked
    }

    /// Checks the finished batches of an unfinished unit.
    fn verify_partial(&self, unit: &Path, all: &mut Verified) {
        for file in fs::read_dir(unit).into_iter().flatten().flatten() {
            let path = file.path();
            let what = match fs::read(&path) {
                Ok(bytes) => {
                    all.bytes += bytes.len() as u64;
                    (!super::partial::is_whole(&path, &bytes))
                        .then(|| "does not have the SHA-256 that it states".to_string())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            all.files += 1;
            all.damaged.extend(what.map(|what| self.finding(&path, what)));
        }
    }

    /// Checks the log of digests: every line has a valid checksum, and the last line is terminated.
    fn verify_log(&self, deep: bool, all: &mut Verified) -> Result<()> {
        let path = self.root.join("stat").join("digests.txt");
        let mut log = digest_log::read(&path, &self.root)?;
        if !log.damaged.is_empty() {
            // A line may have been partially written: read again.
            log = digest_log::read(&path, &self.root)?;
        }
        let Some(bytes) = log.bytes else { return Ok(()) };
        all.files += 1;
        all.bytes += bytes;
        for line in &log.damaged {
            let what = format!("line {line} is damaged: runs ignore it, and hash a file once more");
            all.damaged.push(self.finding(&path, what));
        }
        if deep {
            let found = log.outside.par_iter().map(|known| (known, known.reread()));
            for (known, what) in found.collect::<Vec<_>>() {
                if let Some(what) = what {
                    all.damaged.push(Finding { place: known.path.display().to_string(), what });
                }
            }
        }
        Ok(())
    }

    fn finding(&self, path: &Path, what: String) -> Finding {
        let place = path.strip_prefix(&self.root).unwrap_or(path);
        Finding { place: place.display().to_string(), what }
    }
}

/// The findings for one entry.
#[derive(Default)]
struct Looked {
    is_there: bool,
    files: usize,
    bytes: u64,
    damaged: Vec<Finding>,
    notes: Vec<Finding>,
}

/// Reads and checks a table's whole file.
fn verify_table(path: &Path, manifest: &Manifest, record: &FileRecord, deep: bool) -> Result<()> {
    let size = fs::metadata(path)?.len();
    ensure!(size == record.bytes, "{size} bytes, the manifest says {}", record.bytes);
    let (_, digest) = stat_cache::hash(path)?;
    ensure!(digest == record.sha256, "its SHA-256 is {digest}, the manifest says {}", record.sha256);
    let open = || fs::File::open(path).map(fs::File::into_file);
    let rows = parquet::rows(open()?, &record.schema)?;
    ensure!(rows == record.rows, "{rows} rows, the manifest says {}", record.rows);
    let key = parquet::metadata(open()?)?.remove(parquet::KEY).unwrap_or_default();
    ensure!(key == manifest.key.to_string(), "it says that it belongs to `{key}`");
    if deep {
        let table = parquet::read(open()?, &record.schema).context("cannot be decoded")?;
        let rows = table.rows() as u64;
        ensure!(rows == record.rows, "{rows} rows decoded, the manifest says {}", record.rows);
        table.check_finite()?;
    }
    Ok(())
}
