//! Workers beside this process: children that make units of the same plan, one for each further device of the machine.
//! Knows what they say; not what they do.
//!
//! A child hangs on its stdin: a byte asks it to stop after its batch, the end of the pipe ends it at once, so it never
//! outlives this process however that dies. On stdout it says what it has made, one [`Made`] a line; its stderr is
//! passed on. Nothing is correct because of what it says: the store alone knows what is there.

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

/// How often it is looked whether the workers are to stop.
const LOOK: Duration = Duration::from_millis(50);

/// A worker that is to be started: this program with other arguments.
#[derive(Clone, Debug)]
pub struct Recruit {
    /// What people know it by: its device.
    pub name: String,
    pub args: Vec<OsString>,
}

/// What a worker says of the units of a node that it has made together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The node's place in the plan.
    pub node: usize,
    pub units: Vec<usize>,
    pub seconds: f64,
}

/// The workers of one run.
#[derive(Default)]
pub struct Crew {
    /// What they have made; of a group, each unit with its share of the seconds.
    made: Mutex<HashMap<UnitId, f64>>,
    /// By the number of the process.
    names: Mutex<HashMap<u32, String>>,
    pipes: Mutex<Vec<ChildStdin>>,
    at_work: AtomicUsize,
}

impl Crew {
    /// Starts the `recruits`. The threads of `scope` that hear of them end when they have.
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

    /// Asks all to stop when their batches are done.
    pub fn stop(&self) {
        for pipe in &mut *locked(&self.pipes) {
            let _ = pipe.write_all(b"\n"); // it may have ended
        }
    }

    /// Whether a worker said that it made the unit.
    pub fn made(&self, unit: UnitId) -> bool {
        locked(&self.made).contains_key(&unit)
    }

    /// How many units of a node the workers made, and in how many seconds together.
    pub fn share(&self, node: usize) -> (usize, f64) {
        let made = locked(&self.made);
        let of_node = made.iter().filter(|(id, _)| id.node == node);
        of_node.fold((0, 0.0), |(units, seconds), (_, more)| (units + 1, seconds + more))
    }

    /// What people know the worker by whose process this is.
    pub fn name(&self, pid: u32) -> Option<String> {
        locked(&self.names).get(&pid).cloned()
    }

    /// Notes what a worker says until it ends.
    fn hear(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(said) = serde_json::from_str::<Made>(&line) else { continue };
            let seconds = said.seconds / said.units.len().max(1) as f64;
            let units = said.units.into_iter().map(|unit| (UnitId { node: said.node, unit }, seconds));
            locked(&self.made).extend(units);
        }
    }
}

/// Says each line of a worker's stderr with its name.
fn pass_on(name: &str, stderr: impl Read, progress: &dyn Progress) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            progress.note(&format!("[{name}] {line}"));
        }
    }
}

/// Waits for the end of a worker and says so if it is not one that was meant.
fn ended(name: &str, child: &mut Child, progress: &dyn Progress) {
    let how = match child.wait() {
        // Of what failed in it, it has spoken; it is tried here too.
        Ok(status) if matches!(status.code(), Some(0 | 1 | 75)) => return,
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    progress.note(&format!("warning: [{name}] ended: {how}; the others continue its work"));
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
