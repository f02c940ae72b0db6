//! Finished batches of an unfinished unit. Independent of what a batch contains: batches are only numbered.
//!
//! `partial/<stage>-<key>/<number>.batch` is a Parquet file followed by the SHA-256 of its path and bytes. It is
//! written under `tmp/`, flushed and renamed to its path. It may replace an existing file: another process that
//! computed the same batch of the same unit obtained the same data.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::disk;
use super::entry::check_name;
use super::table::Table;
use super::{Store, parquet};
use crate::atomic;
use crate::plan::key::Key;

/// Bytes of the digest at the end of a file.
const SEAL: usize = 32;
/// Metadata key for the seconds that a batch took.
const SECONDS: &str = "emoflow.seconds";

/// The finished batches of one unit.
#[derive(Clone)]
pub struct Partial<'s> {
    store: &'s Store,
    name: String,
    dir: PathBuf,
}

impl Store {
    /// The finished batches of a unit; the folder is created when the first batch is stored.
    pub fn partial(&self, stage: &str, key: &Key) -> Result<Partial<'_>> {
        check_name(stage)?;
        let name = format!("{stage}-{key}");
        let dir = self.root.join("partial").join(&name);
        Ok(Partial { store: self, name, dir })
    }

    /// Number of stored batches of an unfinished unit, including damaged ones.
    pub fn kept_batches(&self, stage: &str, key: &Key) -> usize {
        self.partial(stage, key).map_or(0, |partial| partial.count())
    }
}

/// Number of batches that this process has stored.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Number of batches that this process has stored, over all units.
pub fn kept_here() -> usize {
    KEPT.load(Ordering::Relaxed)
}

impl Partial<'_> {
    /// Stores the result of batch `number` and the seconds that it took. Fails on a NaN or an infinity and on a full or
    /// read-only disk.
    pub fn keep(&self, number: usize, table: &Table, seconds: f64) -> Result<()> {
        let keep = || {
            let mut bytes = Vec::new();
            parquet::write(table, &[(SECONDS.to_string(), seconds.to_string())], &mut bytes)?;
            let seal = self.seal(number, &bytes);
            bytes.extend(seal);
            let tmp = self.store.root.join("tmp");
            fs::create_dir_all(&tmp)?;
            let mut file = atomic::file_in(&tmp, &format!("{}-", self.name))?;
            file.write_all(&bytes)?;
            file.as_file().sync_data()?;
            self.place(number, file)
        };
        let keep: Result<()> = keep();
        KEPT.fetch_add(1, Ordering::Relaxed);
        keep.with_context(|| format!("keep batch {number} of {} in {}", self.name, self.store.root.display()))
    }

    /// Moves a batch to its path. Another process that completed the unit may remove the folder at any time.
    fn place(&self, number: usize, mut file: tempfile::NamedTempFile) -> Result<()> {
        /// More removals than this, each directly after the folder was created, cannot come from another run.
        const TRIES: usize = 10;
        use io::ErrorKind::{AlreadyExists, NotFound};
        for _ in 1..TRIES {
            let is_new = !self.dir.exists();
            match fs::create_dir_all(&self.dir) {
                // The folder, or a parent, was removed between two steps.
                Err(gone) if [NotFound, AlreadyExists].contains(&gone.kind()) => continue,
                made => made?,
            }
            match file.persist(self.file(number)) {
                Err(gone) if gone.error.kind() == NotFound => file = gone.file,
                placed => {
                    placed?;
                    return self.flush(is_new);
                }
            }
        }
        fs::create_dir_all(&self.dir)?;
        file.persist(self.file(number))?;
        self.flush(true)
    }

    /// Makes a stored batch durable against power loss, and its folder too if that is new.
    fn flush(&self, is_new: bool) -> Result<()> {
        let above = self.dir.parent().filter(|_| is_new);
        for folder in [Some(self.dir.as_path()), above].into_iter().flatten() {
            match atomic::flush_folder(folder) {
                // The folder is gone: another run has stored the unit.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                flushed => flushed?,
            }
        }
        Ok(())
    }

    /// The result of batch `number`, a table of `schema`, and the seconds that it took; `None` if it is not stored or
    /// not readable by this user. A damaged batch is moved to `quarantine/` with a warning.
    pub fn kept(&self, number: usize, schema: &str) -> Result<Option<(Table, f64)>> {
        let path = self.file(number);
        let absent = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
        let read = disk::look_again(&path, || match fs::read(&path) {
            Err(error) if absent.contains(&error.kind()) => Ok(None),
            read => read.map(Some).context("look into the cache"),
        });
        let Some(bytes) = read? else { return Ok(None) };
        match self.parse(number, bytes, schema) {
            Ok(found) => Ok(Some(found)),
            Err(why) => {
                if let Some(place) = self.store.quarantine(&format!("{}-{number}", self.name), &path)? {
                    self.store.warnings.push(format!(
                        "batch {number} of {} was damaged and will be computed again: {why:#}; it was moved to {}",
                        self.name,
                        place.display()
                    ));
                }
                Ok(None)
            }
        }
    }

    /// Number of stored batches, including damaged ones.
    pub fn count(&self) -> usize {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_some_and(|e| e == "batch")).count()
    }

    /// Removes all batches, once the unit is stored. Any that cannot be removed are left to the next sweep.
    pub fn clear(&self) {
        let _ = fs::remove_dir_all(&self.dir);
    }

    fn file(&self, number: usize) -> PathBuf {
        self.dir.join(format!("{number:05}.batch"))
    }

    fn seal(&self, number: usize, bytes: &[u8]) -> [u8; SEAL] {
        seal(&format!("{}/{number:05}\n", self.name), bytes)
    }

    fn parse(&self, number: usize, mut bytes: Vec<u8>, schema: &str) -> Result<(Table, f64)> {
        let sealed = bytes.len().checked_sub(SEAL).context("it is too short")?;
        let found = bytes.split_off(sealed);
        anyhow::ensure!(found == self.seal(number, &bytes), "its SHA-256 is another");
        let bytes = Bytes::from(bytes);
        let seconds = parquet::metadata(bytes.clone())?.get(SECONDS).and_then(|text| text.parse().ok());
        Ok((parquet::read(bytes, schema)?, seconds.unwrap_or(0.0)))
    }
}

fn seal(place: &str, bytes: &[u8]) -> [u8; SEAL] {
    let mut hasher = Sha256::new();
    hasher.update(place);
    hasher.update(bytes);
    hasher.finalize().into()
}

/// Whether the file at `path`, below a `partial/` folder, is an undamaged batch.
pub fn is_whole(path: &Path, bytes: &[u8]) -> bool {
    let name = |path: Option<&Path>| Some(path?.file_name()?.to_str()?.to_string());
    let (Some(unit), Some(number)) = (name(path.parent()), path.file_stem().and_then(|n| n.to_str())) else {
        return false;
    };
    let Some(sealed) = bytes.len().checked_sub(SEAL) else { return false };
    seal(&format!("{unit}/{number}\n"), &bytes[..sealed]) == bytes[sealed..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::key::Digest;
    use crate::store::table::Column;

    fn table() -> Table {
        let values = vec![0.1, -0.0, f32::MIN_POSITIVE / 3.0, 4.0];
        Table::new("x.batch/1", vec![("v", Column::List { width: 2, values, half: false })])
    }

    #[test]
    fn batches_come_back_bit_by_bit_and_go() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let partial = store.partial("x", &Digest::of(b"x")).unwrap();
        assert!(partial.kept(0, "x.batch/1").unwrap().is_none());
        partial.keep(3, &table(), 0.25).unwrap();
        let (found, seconds) = partial.kept(3, "x.batch/1").unwrap().unwrap();
        let bits = |t: &Table| t.list("v").unwrap().1.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(&found), seconds), (bits(&table()), 0.25));
        assert_eq!(partial.count(), 1);
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
        // Batches and leases have the same permissions as any other new file of this user.
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(mode(&partial.file(3)), mode(&root.path().join("file")));
        let Ok(crate::store::Leased::Mine(_lease)) = store.lease("x", &Digest::of(b"x")) else { panic!() };
        let lease = root.path().join("leases").join(&partial.name);
        assert_eq!(mode(&lease), mode(&root.path().join("file")));
        partial.clear();
        assert_eq!(partial.count(), 0);
        assert!(partial.kept(3, "x.batch/1").unwrap().is_none());
    }

    #[test]
    fn a_folder_that_another_run_removes_meanwhile_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let partial = store.partial("x", &Digest::of(b"x")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    store.partial("x", &Digest::of(b"x")).unwrap().clear();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            let kept: Vec<Result<()>> = (0..200).map(|n| partial.keep(n, &table(), 0.25)).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(kept.iter().all(Result::is_ok), "{:?}", kept.iter().find(|kept| kept.is_err()));
        });
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let partial = store.partial("x", &Digest::of(b"x")).unwrap();
        partial.keep(0, &table(), 0.25).unwrap();
        let path = partial.file(0);
        let whole = fs::read(&path).unwrap();
        assert!(is_whole(&path, &whole));
        for bit in (0..whole.len() * 8).step_by(7) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(&path, &damaged));
            assert!(partial.parse(0, damaged, "x.batch/1").is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(partial.parse(0, whole[..length].to_vec(), "x.batch/1").is_err(), "{length} bytes");
        }
        // A batch under the number of another one.
        fs::copy(&path, partial.file(1)).unwrap();
        assert!(partial.kept(1, "x.batch/1").unwrap().is_none());
        let said = store.take_warnings();
        assert!(
            said.len() == 1 && said[0].starts_with("batch 1 of x-") && !said[0].contains('\n'),
            "{said:?}"
        );
        assert!(!partial.file(1).exists());
        assert_eq!(fs::read_dir(root.path().join("quarantine")).unwrap().count(), 1);
        assert!(partial.kept(0, "x.batch/1").unwrap().is_some());
    }
}
