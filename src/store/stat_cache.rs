//! Digests of files hashed earlier, looked up by their `stat` data. Independent of entries and keys.
//!
//! Hashing 16 GB of weights on each run is not acceptable, so a digest is stored under the file's identity: device,
//! inode, size, and the times of the last change of its content and of its inode, in nanoseconds.
//!
//! - Digests of files younger than two seconds are not stored: two writes within one tick of the file system's clock
//!   leave the same times (git calls such files racy). Two seconds is the coarsest tick in use (FAT).
//! - The log is append-only, with one digest per line and a checksum per line. A line that is damaged, torn by a crash
//!   or mixed with that of another process is ignored; at worst the file is hashed once more.
//! - Not detected: a disk that changes bytes on its own, without a write.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

use super::Warnings;
use crate::plan::key::Digest;

/// Files younger than this are hashed each time.
const DISTRUST: Duration = Duration::from_secs(2);
/// Bytes read at once while hashing.
const CHUNK: usize = 1 << 20;
/// Hexadecimal digits of a line's checksum: 64 bits.
const CHECK: usize = 16;

/// The identity of a file's content according to `stat`, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Device and inode: identifies the file regardless of its content.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether both times were at least two seconds before `now`; false for times in the future.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
        self.mtime_ns.max(self.ctime_ns) + DISTRUST.as_nanos() as i128 <= now
    }

    /// A line of the log. The path is only for maintenance; digests are never looked up by path.
    fn line(&self, digest: &Digest, path: &str) -> String {
        let Identity { device, inode, size, mtime_ns, ctime_ns } = self;
        let line = format!("{digest} {device} {inode} {size} {mtime_ns} {ctime_ns} {path}");
        format!("{line} {}", checksum(&line))
    }

    pub(super) fn parse(line: &[u8]) -> Option<(Identity, Digest)> {
        Identity::parse_all(line).map(|(identity, digest, _)| (identity, digest))
    }

    /// Like [`Identity::parse`], with the path in the line.
    pub(super) fn parse_all(line: &[u8]) -> Option<(Identity, Digest, &str)> {
        let line = std::str::from_utf8(line).ok()?;
        let (content, check) = line.rsplit_once(' ')?;
        if checksum(content) != check {
            return None;
        }
        let mut words = content.splitn(7, ' ');
        let digest = words.next()?.parse().ok()?;
        let mut number = || words.next()?.parse::<i128>().ok();
        let identity = Identity {
            device: number()?.try_into().ok()?,
            inode: number()?.try_into().ok()?,
            size: number()?.try_into().ok()?,
            mtime_ns: number()?,
            ctime_ns: number()?,
        };
        Some((identity, digest, words.next().unwrap_or_default()))
    }
}

/// The absolute path, for a line of the log; empty if it could not be read back from the log.
fn shown(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_default();
    path.to_str().filter(|text| !text.contains(['\n', '\r'])).unwrap_or_default().to_string()
}

pub(super) fn checksum(line: &str) -> String {
    Digest::of(line.as_bytes()).to_string()[..CHECK].to_string()
}

/// The digests known to this process and, through the log, to earlier ones.
pub(super) struct StatCache {
    log: PathBuf,
    warnings: Arc<Warnings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` if the log has not been read yet.
    digests: Option<HashMap<Identity, Digest>>,
    appender: Option<fs::File>,
    append_failed: bool,
    read_only: bool,
}

impl StatCache {
    /// The log is not read before the first lookup.
    pub(super) fn new(log: PathBuf, warnings: Arc<Warnings>) -> StatCache {
        StatCache { log, warnings, state: Mutex::default() }
    }

    /// From now on, does not write to the log.
    pub(super) fn read_only(&self) {
        self.lock().read_only = true;
    }

    /// Whether the log must not be written to.
    pub(super) fn is_read_only(&self) -> bool {
        self.lock().read_only
    }

    /// The known digest of a file with this identity.
    pub(super) fn known(&self, identity: &Identity) -> Option<Digest> {
        self.digests(&mut self.lock()).get(identity).copied()
    }

    /// Stores, for this process only, the digest of a file that this process wrote.
    pub(super) fn trust(&self, identity: Identity, digest: Digest) {
        self.digests(&mut self.lock()).insert(identity, digest);
    }

    /// The file's digest: a known one, or by reading the whole file.
    pub(super) fn digest(&self, path: &Path) -> io::Result<Digest> {
        let now = SystemTime::now();
        let identity = Identity::of(&fs::metadata(path)?);
        if let Some(digest) = self.known(&identity) {
            return Ok(digest);
        }
        let (identity, digest) = hash(path)?;
        if identity.is_settled(now) {
            self.remember(identity, digest, path);
        }
        Ok(digest)
    }

    fn remember(&self, identity: Identity, digest: Digest, path: &Path) {
        let mut state = self.lock();
        self.digests(&mut state).insert(identity, digest);
        if state.append_failed || state.read_only {
            return;
        }
        if let Err(error) = self.append(&mut state, &identity.line(&digest, &shown(path))) {
            state.append_failed = true;
            self.warnings.push(format!("digests are not stored, so files are hashed on each run: {error}"));
        }
    }

    /// Uses one `write` call on a file opened for appending, so lines of several processes do not mix on a local disk.
    /// The leading line feed ends a line that was torn by a crash.
    fn append(&self, state: &mut State, line: &str) -> io::Result<()> {
        if state.appender.is_none() {
            fs::create_dir_all(self.log.parent().unwrap_or(Path::new(".")))?;
            state.appender = Some(fs::OpenOptions::new().create(true).append(true).open(&self.log)?);
        }
        match &mut state.appender {
            Some(file) => file.write_all(format!("\n{line}\n").as_bytes()),
            None => Ok(()),
        }
    }

    fn digests<'a>(&self, state: &'a mut State) -> &'a mut HashMap<Identity, Digest> {
        state.digests.get_or_insert_with(|| {
            // An unreadable or absent log counts as empty.
            let log = fs::read(&self.log).unwrap_or_default();
            log.split(|&byte| byte == b'\n').filter_map(Identity::parse).collect()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The identity and the digest of a file, read from start to end; an error if the file changes while it is read.
pub(super) fn hash(path: &Path) -> io::Result<(Identity, Digest)> {
    let mut file = fs::File::open(path)?;
    let before = Identity::of(&file.metadata()?);
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK.min(usize::try_from(before.size).unwrap_or(CHUNK).max(1) + 1)];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hasher.update(&chunk[..n]),
        }
    }
    if Identity::of(&file.metadata()?) != before {
        return Err(io::Error::other(format!("`{}` changed while it was read", path.display())));
    }
    Ok((before, Digest::from_hasher(hasher)))
}

/// The digest of a file of the Hugging Face cache that is named by its digest: `<hub>/models--x--y/blobs/<64 digits>`,
/// given directly or through the link in `snapshots/`. Large files are checked against it on download.
pub(super) fn hub_blob(path: &Path) -> Option<Digest> {
    let blob = fs::canonicalize(path).ok()?;
    let repository = blob.parent().filter(|p| p.ends_with("blobs"))?.parent()?.file_name()?.to_str()?;
    let is_hub = ["models--", "datasets--", "spaces--"].iter().any(|kind| repository.starts_with(kind));
    let name = blob.file_name()?.to_str().filter(|_| is_hub)?;
    name.parse::<Digest>().ok().filter(|digest| digest.to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> StatCache {
        StatCache::new(dir.join("stat").join("digests.txt"), Arc::default())
    }

    fn identity(i: u64) -> Identity {
        Identity { device: 1, inode: i, size: 10 * i, mtime_ns: -5, ctime_ns: i128::from(i) << 60 }
    }

    /// Writes a file and waits until it is older than two seconds.
    fn settled(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        std::thread::sleep(DISTRUST + Duration::from_millis(100));
    }

    #[test]
    fn digests_survive_the_process_and_see_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        settled(&file, b"abc");
        // The digest of "abc" that FIPS 180-4 gives.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(cache(dir.path()).digest(&file).unwrap().to_string(), abc);
        let identity = Identity::of(&fs::metadata(&file).unwrap());
        let later = cache(dir.path());
        assert_eq!(later.known(&identity).unwrap().to_string(), abc);
        fs::write(&file, b"abd").unwrap();
        assert_eq!(later.digest(&file).unwrap(), Digest::of(b"abd"));
    }

    #[test]
    fn young_and_future_files_are_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, b"abc").unwrap();
        let cache = cache(dir.path());
        cache.digest(&file).unwrap();
        assert_eq!(cache.known(&Identity::of(&fs::metadata(&file).unwrap())), None);
        assert!(!dir.path().join("stat").exists());

        let now = UNIX_EPOCH + Duration::from_secs(100);
        let at = |mtime: i128, ctime: i128| Identity {
            mtime_ns: mtime * 1_000_000_000,
            ctime_ns: ctime * 1_000_000_000,
            ..identity(1)
        };
        assert!(at(98, 98).is_settled(now));
        assert!(!at(98, 99).is_settled(now));
        assert!(!at(99, 98).is_settled(now));
        assert!(!at(200, 98).is_settled(now));
    }

    #[test]
    fn damaged_lines_are_ignored_and_never_read_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let original: HashMap<Identity, Digest> =
            (0..5u64).map(|i| (identity(i), Digest::of(&i.to_le_bytes()))).collect();
        let writer = cache(dir.path());
        for (identity, digest) in &original {
            writer.remember(*identity, *digest, dir.path());
        }
        let log = dir.path().join("stat/digests.txt");
        let whole = fs::read(&log).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&log, &damaged).unwrap();
            let reader = cache(dir.path());
            let mut state = reader.lock();
            let found = reader.digests(&mut state);
            assert!(found.len() >= 4, "byte {at}: {} left", found.len());
            assert!(found.iter().all(|(id, digest)| original.get(id) == Some(digest)), "byte {at}");
        }
        // A crash tore the last line; the next line written is intact.
        fs::write(&log, &whole[..whole.len() - 20]).unwrap();
        cache(dir.path()).remember(identity(77), Digest::of(b"77"), dir.path());
        assert_eq!(cache(dir.path()).known(&identity(77)), Some(Digest::of(b"77")));
    }

    #[test]
    fn threads_append_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for t in 0..8u64 {
                let cache = cache(dir.path());
                scope.spawn(move || {
                    for i in 0..100 {
                        cache.remember(identity(t * 100 + i), Digest::of(&i.to_le_bytes()), Path::new("."));
                    }
                });
            }
        });
        let reader = cache(dir.path());
        assert_eq!(reader.digests(&mut reader.lock()).len(), 800);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("stat"), b"a file where the folder should be").unwrap();
        let cache = cache(dir.path());
        cache.remember(identity(1), Digest::of(b"1"), dir.path());
        cache.remember(identity(2), Digest::of(b"2"), dir.path());
        assert_eq!(cache.known(&identity(2)), Some(Digest::of(b"2")));
        let warnings = cache.warnings.take();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("digests are not stored"), "{}", warnings[0]);
    }

    #[test]
    fn only_blobs_of_the_hub_are_trusted_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let name = "ab".repeat(32);
        let place = |repository: &str, folder: &str, name: &str| {
            let folder = dir.path().join(repository).join(folder);
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join(name);
            fs::write(&file, b"x").unwrap();
            file
        };
        let blob = place("models--a--b", "blobs", &name);
        assert_eq!(hub_blob(&blob).unwrap().to_string(), name);
        let link = dir.path().join("model.safetensors");
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        assert_eq!(hub_blob(&link).unwrap().to_string(), name);
        assert_eq!(hub_blob(&place("models--a--b", "blobs", &"ab".repeat(20))), None, "a git blob's name");
        assert_eq!(hub_blob(&place("models--a--b", "blobs", &"AB".repeat(32))), None);
        assert_eq!(hub_blob(&place("models--a--b", "other", &name)), None);
        assert_eq!(hub_blob(&place("mine", "blobs", &name)), None);
        assert_eq!(hub_blob(&dir.path().join("absent")), None);
    }
}
