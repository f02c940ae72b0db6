//! `emoflow doctor`: describes this machine and tests whether the cache's file system behaves as required.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::cache::CacheArgs;
use crate::lm::device::{self, Choice};
use crate::lm::free_memory::FreeMemory;
use crate::lm::self_check;
use crate::lm::{Dtype, libtorch};
use crate::resolve::hub;
use crate::slurm;
use crate::store::{Probe, Store, Verdict, free};

/// One line about the machine, such as `device`.
#[derive(Serialize)]
struct Fact {
    what: &'static str,
    found: String,
}

/// Whether the device computes correct numbers in one dtype.
#[derive(Serialize)]
struct Check {
    backend: &'static str,
    dtype: Dtype,
    verdict: Verdict,
    found: String,
}

/// All results.
#[derive(Serialize)]
struct Report {
    facts: Vec<Fact>,
    checks: Vec<Check>,
    cache: PathBuf,
    probes: Vec<Probe>,
}

/// The options of the command.
pub struct Asked {
    /// The command that leads to another machine sharing the cache.
    pub through: Option<String>,
    /// The device to test.
    pub device: String,
    /// Never open a socket.
    pub offline: bool,
    /// Check the device now, even if it was checked before.
    pub check: bool,
    /// Print JSON.
    pub json: bool,
}

/// Prints the facts and the results of the tests. The exit code is 1 if the cache cannot be used or the device
/// computes wrong numbers.
///
/// # Errors
/// The cache cannot be opened, or the output cannot be written.
pub fn run(cache: &CacheArgs, asked: &Asked, out: &mut dyn Write) -> Result<u8> {
    // First, because both may start the program again.
    if asked.check {
        libtorch::load();
    }
    let device = device::choose(&asked.device);
    let store = Store::open(cache.place())?;
    let report = Report {
        checks: device.as_ref().map_or(Vec::new(), |device| checks(device, asked.check)),
        facts: facts(&store, device, asked.offline),
        cache: store.root().into(),
        probes: probe(&store, asked.through.as_deref()),
    };
    let wrong = report.checks.iter().any(|check| check.verdict == Verdict::Failed);
    let failed = report.probes.iter().any(|probe| probe.verdict == Verdict::Failed);
    let code = u8::from(failed || wrong);
    if asked.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return Ok(code);
    }
    let shown = |verdict: &Verdict| match verdict {
        Verdict::Well => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "FAILED",
    };
    for Fact { what, found } in &report.facts {
        writeln!(out, "{what:<9} {found}")?;
    }
    writeln!(out)?;
    for Check { backend, dtype, verdict, found } in &report.checks {
        writeln!(out, "{:<9} {backend} in {}: {found}", shown(verdict), dtype.name())?;
    }
    for Probe { what, verdict, found } in &report.probes {
        writeln!(out, "{:<9} {what}: {found}", shown(verdict))?;
    }
    if failed {
        writeln!(
            out,
            "\nThe cache cannot be kept here: name another folder with --cache, or in EMOFLOW_CACHE."
        )?;
    }
    Ok(code)
}

/// The known results of the device in every dtype or, with `now`, those of a new check.
fn checks(device: &Choice, now: bool) -> Vec<Check> {
    let Choice { device, backend, .. } = *device;
    let check = |dtype| {
        let found = match now {
            true => self_check::run_and_remember(device, backend, dtype).map(Some),
            false => Ok(self_check::known(device, backend, dtype)),
        };
        let (verdict, found) = match found {
            Ok(Some(found)) if found.is_right() => (Verdict::Well, found.to_string()),
            Ok(Some(found)) => (Verdict::Failed, format!("wrong numbers: {found}")),
            Ok(None) => (Verdict::Warning, UNCHECKED.to_string()),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        Check { backend: backend.name(), dtype, verdict, found }
    };
    Dtype::ALL.map(check).into()
}

/// For a device that no run has used in a dtype.
const UNCHECKED: &str = "not checked on this machine yet; `emoflow doctor --check` does that now";

fn facts(store: &Store, device: Result<Choice>, offline: bool) -> Vec<Fact> {
    let memory = device.as_ref().ok().and_then(|device| FreeMemory::of(device.device));
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let room = free(store.root()).map_or("room unknown".to_string(), |bytes| format!("{} free", gib(bytes)));
    let cache = match file_system(store.root()) {
        Some(kind) => format!("{} ({kind}, {room})", store.root().display()),
        None => format!("{} ({room})", store.root().display()),
    };
    let slurm = slurm::version().unwrap_or_else(|error| format!("none: {error:#}"));
    let slurm = slurm.lines().next().unwrap_or_default().to_string();
    let fact = |what, found| Fact { what, found };
    vec![
        fact("emoflow", env!("CARGO_PKG_VERSION").to_string()),
        fact("libtorch", libtorch::shown()),
        fact("system", format!("{} {}, {threads} threads", std::env::consts::OS, std::env::consts::ARCH)),
        fact(
            "device",
            match device {
                Ok(device) => format!("{} ({})", device.shown(), device.reason),
                Err(error) => format!("none: {error:#}"),
            },
        ),
        fact(
            "memory",
            memory.map_or("unknown".to_string(), |room| format!("{}: {}", gib(room.bytes), room.from)),
        ),
        fact("hub", hub::reach(offline)),
        fact("slurm", slurm),
        fact("cache", cache),
    ]
}

/// Probes the store from another process of this program, on the machine that the command `through` leads to.
fn probe(store: &Store, through: Option<&str>) -> Vec<Probe> {
    store.probe(&|path| {
        let program = std::env::current_exe().context("find this program")?;
        let mut words = through.unwrap_or_default().split_whitespace();
        let mut command = match words.next() {
            None => Command::new(&program),
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(&program);
                command
            }
        };
        let seen = command.args(["doctor", "--see"]).arg(path).output().context("start another process")?;
        let said = String::from_utf8_lossy(&seen.stderr);
        ensure!(seen.status.success(), "another process ends with {}: {}", seen.status, said.trim());
        Ok(seen.stdout)
    })
}

/// What the other process of [`probe`] runs.
pub fn see(path: &Path, out: &mut dyn Write) -> Result<u8> {
    out.write_all(&fs_err::read(path)?)?;
    Ok(0)
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The type of the file system of `path`, in the kernel's terms: that of the longest mount point in
/// `/proc/self/mountinfo` that contains it.
fn file_system(path: &Path) -> Option<String> {
    let mounts = fs_err::read_to_string("/proc/self/mountinfo").ok()?;
    let path = path.ancestors().find_map(|above| above.canonicalize().ok())?;
    kind_of(&mounts, &path)
}

fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        // number, parent, device, root, mount point, options ..., "-", type, ...
        let place = line.split(' ').nth(4)?.replace("\\040", " ");
        let kind = line.split(" - ").nth(1)?.split(' ').next()?;
        path.starts_with(&place).then(|| (place.len(), kind.to_string()))
    };
    // Of several mounts at one point, the last one hides the others.
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_is_that_of_the_nearest_mount() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:27 / /home rw,relatime - nfs4 server:/home rw,vers=4.2\n\
                      31 30 0:28 / /home/a\\040b rw - lustre x rw\n\
                      32 22 0:29 / /home2 rw - tmpfs tmpfs rw\n";
        let kind = |path: &str| kind_of(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/var/cache"), "ext4");
        assert_eq!(kind("/home/me/cache"), "nfs4");
        assert_eq!(kind("/home/a b/cache"), "lustre");
        assert_eq!(kind("/home2"), "tmpfs");
    }
}
