//! Leases: a file in `leases/` names the process that computes a unit, so that two processes on one cache do not
//! duplicate work. Correctness does not depend on leases: a process that loses one unnoticed only duplicates work.
//!
//! A lease is *renewed* by setting the modification time of its file through the handle that created the file. A
//! process that was suspended and lost its lease therefore cannot touch the file of the new owner. If the owner is a
//! dead process on this machine, its lease ends at once. Any other lease ends when no renewal was observed for twice
//! its lifetime, by the clock of the observing process; clocks of two machines are never compared.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::Store;
use super::entry::check_name;
use super::process::Process;
use crate::atomic;
use crate::plan::key::{Digest, Key};

/// Lifetime of a lease without renewal. Other machines wait twice as long, so the work of a machine that vanished is
/// continued after a minute.
pub const LIFE: Duration = Duration::from_secs(30);
/// Renewals per lifetime, so that one may be late.
const RENEWALS: u32 = 3;

/// The contents of a lease file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    #[serde(flatten)]
    pub process: Process,
    /// Lifetime without renewal, in seconds.
    pub life: f64,
    /// Distinguishes two leases of one process.
    token: String,
}

/// The leases of one process.
pub(super) struct Leases {
    dir: PathBuf,
    tmp: PathBuf,
    life: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<PathBuf, Arc<fs::File>>,
    /// Leases of other processes: their last observed state, and since when it is unchanged.
    seen: HashMap<PathBuf, (Sight, Instant)>,
    renewing: bool,
    taken: u64,
}

/// The observed state of a lease: its text and its modification time. A renewal changes it.
type Sight = (Vec<u8>, Option<SystemTime>);

/// The lease of a unit that this process computes; released when dropped.
pub struct Lease {
    leases: Arc<Leases>,
    path: PathBuf,
    text: Vec<u8>,
}

/// The result of asking for a lease.
pub enum Leased {
    Mine(Lease),
    /// Held by a process that may be running; `None` if its owner is unknown.
    Other(Option<Owner>),
}

impl Store {
    /// Sets the lifetime of the leases that are taken from now on.
    pub fn lease_life(mut self, life: Duration) -> Store {
        self.leases = Leases::new(&self.root, life);
        self
    }

    /// Takes the lease of a unit, unless another process holds it. Fails on a full or read-only disk.
    pub fn lease(&self, stage: &str, key: &Key) -> Result<Leased> {
        check_name(stage)?;
        self.leases.take(&Store::lease_name(stage, key)).with_context(|| {
            format!("make {stage}/{} known as being made in {}", key.short(), self.root.display())
        })
    }

    /// The owner of a unit's lease, unless that process is dead. Changes nothing.
    pub fn leased(&self, stage: &str, key: &Key) -> Option<Owner> {
        let bytes = fs::read(self.leases.dir.join(Store::lease_name(stage, key))).ok()?;
        Owner::parse(&bytes).filter(|owner| !owner.process.is_dead())
    }

    /// File name of a unit's lease.
    pub fn lease_name(stage: &str, key: &Key) -> String {
        format!("{stage}-{key}")
    }

    /// File names of all leases, including those of dead processes.
    pub fn being_made(&self) -> HashSet<String> {
        let leases = fs::read_dir(&self.leases.dir).into_iter().flatten().flatten();
        leases.map(|lease| lease.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}", self.process.pid, self.process.host)
    }
}

impl Owner {
    fn parse(bytes: &[u8]) -> Option<Owner> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Leases {
    pub(super) fn new(root: &Path, life: Duration) -> Arc<Leases> {
        let (dir, tmp) = (root.join("leases"), root.join("tmp"));
        Arc::new(Leases { dir, tmp, life, state: Mutex::default() })
    }

    fn take(self: &Arc<Leases>, name: &str) -> Result<Leased> {
        let path = self.dir.join(name);
        let mut text = None;
        // Retry if another process was faster to replace an expired lease.
        for _ in 0..3 {
            if let Some(other) = self.other(&path)? {
                return Ok(Leased::Other(other));
            }
            fs::create_dir_all(&self.dir)?;
            fs::create_dir_all(&self.tmp)?;
            let text = text.get_or_insert_with(|| self.owner());
            let mut file = atomic::file_in(&self.tmp, "lease-")?;
            file.write_all(text)?;
            match file.persist_noclobber(&path) {
                Ok(file) => {
                    self.hold(&path, Arc::new(fs::File::from_parts(file, &path)));
                    return Ok(Leased::Mine(Lease { leases: self.clone(), path, text: text.clone() }));
                }
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error.error).with_context(|| format!("write {}", path.display()));
                }
            }
        }
        Ok(Leased::Other(None))
    }

    /// The contents of a new lease.
    fn owner(&self) -> Vec<u8> {
        let mut state = self.state();
        state.taken += 1;
        let process = Process::this();
        let token = format!("{:?} {:?} {}", SystemTime::now(), process, state.taken);
        let token = Digest::of(token.as_bytes()).short();
        let owner = Owner { process, life: self.life.as_secs_f64(), token };
        serde_json::to_vec(&owner).expect("texts and numbers")
    }

    /// The owner of the lease at `path`; `None` if the lease is free. Ends an expired lease.
    fn other(&self, path: &Path) -> Result<Option<Option<Owner>>> {
        let Some(sight) = sight(path)? else { return Ok(None) };
        let owner = Owner::parse(&sight.0);
        let life = owner.as_ref().map_or(self.life, |o| Duration::try_from_secs_f64(o.life).unwrap_or(LIFE));
        let since = {
            let mut state = self.state();
            let seen =
                state.seen.entry(path.to_path_buf()).or_insert_with(|| (sight.clone(), Instant::now()));
            if seen.0 != sight {
                *seen = (sight.clone(), Instant::now());
            }
            seen.1
        };
        let dead = owner.as_ref().is_some_and(|owner| owner.process.is_dead());
        if !dead && since.elapsed() < 2 * life {
            return Ok(Some(owner));
        }
        self.end(path, &sight.0)?;
        Ok(None)
    }

    /// Removes the lease at `path` if its text is still `text`. The file is moved away before its text is compared, as
    /// another process may have ended the lease and taken a new one.
    fn end(&self, path: &Path, text: &[u8]) -> Result<()> {
        // Only the name is needed: it does not matter if a sweep removes the file.
        let away = atomic::file_in(&self.tmp, "lease-")?.into_temp_path();
        match fs::rename(path, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if read(&away)? != text {
            let _ = fs::hard_link(&away, path); // restore it, unless there is a newer one
        }
        Ok(())
    }

    /// Registers the lease for renewal until it is released.
    fn hold(self: &Arc<Leases>, path: &Path, file: Arc<fs::File>) {
        let mut state = self.state();
        state.held.insert(path.to_path_buf(), file);
        state.seen.remove(path);
        if !std::mem::replace(&mut state.renewing, true) {
            let leases = Arc::downgrade(self);
            let pause = self.life / RENEWALS;
            std::thread::spawn(move || renew(&leases, pause));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews all held leases for as long as the process uses the cache.
fn renew(leases: &Weak<Leases>, pause: Duration) {
    loop {
        std::thread::sleep(pause);
        let Some(leases) = leases.upgrade() else { return };
        let held: Vec<Arc<fs::File>> = leases.state().held.values().cloned().collect();
        for file in held {
            // If this fails, other processes will treat the lease as expired.
            let _ = file.set_modified(SystemTime::now());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.state().held.remove(&self.path);
        let _ = self.leases.end(&self.path, &self.text);
    }
}

/// The text of a lease; empty if this user may not read it (its owner is then unknown).
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Vec::new()),
        read => read,
    }
}

/// The text and modification time of a lease; `None` if it no longer exists.
fn sight(path: &Path) -> Result<Option<Sight>> {
    let look = || -> io::Result<Sight> { Ok((read(path)?, fs::metadata(path)?.modified().ok())) };
    match look() {
        Ok(sight) => Ok(Some(sight)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("look at a lease"),
    }
}
