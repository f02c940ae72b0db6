//! Additional workers: child processes that compute units of the same plan, one for each further device of the machine.
//! Handles only their messages; independent of what they compute.
//!
//! A child reads its stdin: a byte asks it to stop after its batch, and the end of the pipe ends it at once, so it
//! never outlives this process, however that dies. On stdout it reports the units that it has computed, one [`Made`]
//! per line; its stderr is passed on. Correctness does not depend on these reports: only the store tells which units
//! exist.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::interrupt;
use crate::plan::UnitId;
use crate::progress::Progress;

/// Interval for checking whether the workers should stop.
const LOOK: Duration = Duration::from_millis(50);

/// A worker to start: this program with other arguments.
#[derive(Clone, Debug)]
pub struct Recruit {
    /// Name for display: its device.
    pub name: String,
    pub args: Vec<OsString>,
}

/// A worker's report of units of a node that it computed together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The node's index in the plan.
    pub node: usize,
    pub units: Vec<usize>,
    pub seconds: f64,
}

/// The workers of one run.
#[derive(Default)]
pub struct Crew {
    /// The units that they computed, each with its share of the seconds of its group.
    made: Mutex<HashMap<UnitId, f64>>,
    /// Names of workers by process id.
    names: Mutex<HashMap<u32, String>>,
    pipes: Mutex<Vec<ChildStdin>>,
    at_work: AtomicUsize,
}

impl Crew {
    /// Starts the `recruits`. The threads of `scope` that read their output end when the workers have ended.
    pub fn start<'s, 'e: 's>(
        &'e self,
        recruits: &'e [Recruit],
        scope: &'s Scope<'s, 'e>,
        progress: &'e dyn Progress,
    ) {
        for Recruit { name, args } in recruits {
            let program = std::env::current_exe();
            let child = program.and_then(|program| {
                let mut command = Command::new(program);
                command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn()
            });
            let mut child = match child {
                Ok(child) => child,
                Err(error) => {
                    progress.note(&format!("warning: [{name}] cannot be started: {error}"));
                    continue;
                }
            };
            let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
            locked(&self.names).insert(child.id(), name.clone());
            locked(&self.pipes).extend(child.stdin.take());
            self.at_work.fetch_add(1, Ordering::SeqCst);
            scope.spawn(move || pass_on(name, stderr, progress));
            scope.spawn(move || {
                self.hear(stdout);
                ended(name, &mut child, progress);
                self.at_work.fetch_sub(1, Ordering::SeqCst);
            });
        }
        if !recruits.is_empty() {
            scope.spawn(|| {
                while self.at_work.load(Ordering::SeqCst) > 0 && !interrupt::asked() {
                    std::thread::sleep(LOOK);
                }
                if interrupt::asked() {
                    self.stop();
                }
            });
        }
    }

    /// Asks all workers to stop after their current batches.
    pub fn stop(&self) {
        for pipe in &mut *locked(&self.pipes) {
            let _ = pipe.write_all(b"\n"); // the worker may have ended
        }
    }

    /// Whether a worker reported that it computed the unit.
    pub fn made(&self, unit: UnitId) -> bool {
        locked(&self.made).contains_key(&unit)
    }

    /// The number of units of a node that the workers computed, and their total seconds.
    pub fn share(&self, node: usize) -> (usize, f64) {
        let made = locked(&self.made);
        let of_node = made.iter().filter(|(id, _)| id.node == node);
        of_node.fold((0, 0.0), |(units, seconds), (_, more)| (units + 1, seconds + more))
    }

    /// The display name of the worker with this process id.
    pub fn name(&self, pid: u32) -> Option<String> {
        locked(&self.names).get(&pid).cloned()
    }

    /// Records a worker's reports until it ends.
    fn hear(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(said) = serde_json::from_str::<Made>(&line) else { continue };
            let seconds = said.seconds / said.units.len().max(1) as f64;
            let units = said.units.into_iter().map(|unit| (UnitId { node: said.node, unit }, seconds));
            locked(&self.made).extend(units);
        }
    }
}

/// Prints each line of a worker's stderr with the worker's name.
fn pass_on(name: &str, stderr: impl Read, progress: &dyn Progress) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            progress.note(&format!("[{name}] {line}"));
        }
    }
}

/// Waits for a worker to end and warns if the exit status is unexpected.
fn ended(name: &str, child: &mut Child, progress: &dyn Progress) {
    let how = match child.wait() {
        // It has reported its own failures; what failed is tried in this process too.
        Ok(status) if matches!(status.code(), Some(0 | 1 | 75)) => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    progress.note(&format!("warning: [{name}] ended: {how}; the others continue its work"));
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
