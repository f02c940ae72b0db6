//! Tests in the cache folder whether the file system has the properties that the cache relies on. Independent of
//! artifacts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde::Serialize;

use super::Store;

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub what: &'static str,
    pub verdict: Verdict,
    /// What was observed, and its consequences if the test did not pass.
    pub found: String,
}

/// The outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Well,
    /// The cache works with the stated limitation.
    Warning,
    /// The cache cannot be used here.
    Failed,
}

/// Allowed difference between the file system's clock and this machine's: digests of files younger than this are not
/// remembered (see [`super::stat_cache`]).
const CLOCK: Duration = Duration::from_secs(2);

/// Reads a file in another process.
pub type Seen<'a> = dyn Fn(&Path) -> Result<Vec<u8>> + 'a;

impl Store {
    /// Tests the operations of commits and leases in a new folder below `tmp/`. `seen` reads a file in another process.
    pub fn probe(&self, seen: &Seen) -> Vec<Probe> {
        let tmp = self.root.join("tmp");
        let folder = fs::create_dir_all(&tmp).map_err(anyhow::Error::from).and_then(|()| {
            let folder = tempfile::Builder::new().prefix("probe-").tempdir_in(&tmp);
            folder.with_context(|| format!("make a folder in {}", tmp.display()))
        });
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) => return vec![failed("writing", &error)],
        };
        let at = |name: &str| folder.path().join(name);
        let necessary: [(&'static str, &dyn Fn() -> Result<String>); 4] = [
            ("flushing", &|| flushing(&at("flushed"))),
            ("rename", &|| rename(&at("from"), &at("to"))),
            ("exclusive creation", &|| exclusive(&at("lease"))),
            ("another process", &|| another_process(&at("shown"), seen)),
        ];
        let mut probes: Vec<Probe> = necessary
            .iter()
            .map(|(what, probe)| match probe() {
                Ok(found) => Probe { what, verdict: Verdict::Well, found },
                Err(error) => failed(what, &error),
            })
            .collect();
        probes.push(hard_link(&at("one"), &at("other")));
        probes.push(clock(&at("dated"), SystemTime::now));
        probes
    }
}

fn failed(what: &'static str, error: &anyhow::Error) -> Probe {
    Probe { what, verdict: Verdict::Failed, found: format!("{error:#}") }
}

/// Flushes a file and a folder as a commit does.
fn flushing(folder: &Path) -> Result<String> {
    fs::create_dir(folder)?;
    let mut file = fs::File::create(folder.join("file"))?;
    file.write_all(b"emoflow")?;
    file.sync_all().context("flush a file")?;
    match fs::File::open(folder)?.sync_all() {
        Ok(()) => Ok("files and folders are flushed to the disk".to_string()),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok("files are flushed to the disk; folders cannot be, here".to_string())
        }
        Err(error) => Err(error).context("flush a folder"),
    }
}

/// Renames a folder as a commit does, also onto an existing one.
fn rename(from: &Path, to: &Path) -> Result<String> {
    let make = |folder: &Path, text: &str| -> Result<()> {
        fs::create_dir(folder)?;
        Ok(fs::write(folder.join("file"), text)?)
    };
    make(from, "first")?;
    fs::rename(from, to).context("move a folder")?;
    make(from, "second")?;
    let replaced = fs::rename(from, to).is_ok();
    ensure!(
        !replaced && fs::read(to.join("file"))? == b"first",
        "a folder replaced another one: of two runs that compute the same unit the later one would win, and readers of \
         the first would lose their file"
    );
    Ok("a folder is moved by one rename, and does not replace another".to_string())
}

/// Creates a file exclusively, as for a lease.
fn exclusive(path: &Path) -> Result<String> {
    let create = || fs::OpenOptions::new().write(true).create_new(true).open(path);
    create().context("make a file")?;
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok("of two processes that create the same file one is refused".to_string())
        }
        Err(error) => Err(error).context("make a file that is there"),
        Ok(_) => {
            anyhow::bail!("two processes can create the same file: runs would duplicate each other's work")
        }
    }
}

/// Whether another process sees writes and overwrites at once.
fn another_process(path: &Path, seen: &Seen) -> Result<String> {
    // Let its machine cache that the file does not exist yet.
    let _ = seen(path);
    for text in ["one", "another, longer"] {
        fs::write(path, text)?;
        let found = seen(path)?;
        ensure!(
            found == text.as_bytes(),
            "another process sees {:?} where {text:?} was written",
            String::from_utf8_lossy(&found)
        );
    }
    Ok("sees at once what is written".to_string())
}

/// Creates a hard link, as when a lease that was ended by mistake is restored.
fn hard_link(one: &Path, other: &PathBuf) -> Probe {
    let linked = fs::write(one, "one").and_then(|()| fs::hard_link(one, other));
    let (verdict, found) = match linked {
        Ok(()) => (Verdict::Well, "there are".to_string()),
        Err(error) => (
            Verdict::Warning,
            format!(
                "there are none ({error}): two runs may occasionally duplicate work; results are not affected"
            ),
        ),
    };
    Probe { what: "hard links", verdict, found }
}

/// Compares the file system's clock with this machine's.
fn clock(path: &Path, now: impl Fn() -> SystemTime) -> Probe {
    let dated = || -> io::Result<Duration> {
        let before = now();
        fs::write(path, "now")?;
        let (date, after) = (fs::metadata(path)?.modified()?, now());
        let outside = before.duration_since(date).ok().or_else(|| date.duration_since(after).ok());
        Ok(outside.unwrap_or_default())
    };
    let (verdict, found) = match dated() {
        Ok(apart) if apart < CLOCK => (
            Verdict::Well,
            format!("files are dated within {:.2} s of this machine's clock", apart.as_secs_f64()),
        ),
        Ok(apart) => (
            Verdict::Warning,
            format!(
                "file times differ by {:.0} s from this machine's clock: local models may be hashed again at each run. \
                 Leases do not compare clocks",
                apart.as_secs_f64()
            ),
        ),
        Err(error) => (Verdict::Warning, format!("the file system has no modification times ({error})")),
    };
    Probe { what: "clock", verdict, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(probes: &[Probe]) -> Vec<(&str, Verdict)> {
        probes.iter().map(|probe| (probe.what, probe.verdict)).collect()
    }

    #[test]
    fn a_local_disk_does_all_that_is_relied_on_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let probes = store.probe(&|path| Ok(fs::read(path)?));
        assert!(probes.iter().all(|probe| probe.verdict == Verdict::Well), "{probes:?}");
        assert_eq!(probes.len(), 6);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_process_that_sees_something_else_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let probes = store.probe(&|_| Ok(b"one".to_vec()));
        let process = probes.iter().find(|probe| probe.what == "another process").unwrap();
        assert_eq!(process.verdict, Verdict::Failed);
        assert!(process.found.contains("sees \"one\" where \"another, longer\""), "{}", process.found);
    }

    #[test]
    fn where_nothing_can_be_written_nothing_else_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("cache")).unwrap();
        fs::remove_dir_all(dir.path().join("cache")).ok();
        fs::write(dir.path().join("cache"), "a file in its place").unwrap();
        assert_eq!(verdicts(&store.probe(&|path| Ok(fs::read(path)?))), [("writing", Verdict::Failed)]);
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let off = |seconds: u64| move || SystemTime::now() - Duration::from_secs(seconds);
        assert_eq!(clock(&dir.path().join("a"), off(0)).verdict, Verdict::Well);
        let probe = clock(&dir.path().join("b"), off(100));
        assert_eq!(probe.verdict, Verdict::Warning);
        assert!(probe.found.contains("by 100 s"), "{}", probe.found);
    }
}
