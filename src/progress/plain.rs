//! Progress as plain lines, for logs, and two quieter styles.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Progress;
use super::pace::Pace;

/// Interval between progress lines of a node.
const EVERY: Duration = Duration::from_secs(10);

/// A line when a node begins and ends, and one every ten seconds in between.
#[derive(Default)]
pub struct Plain {
    node: Mutex<Option<Node>>,
}

struct Node {
    name: String,
    total: usize,
    piece: String,
    pace: Pace,
    said: Instant,
}

impl Plain {
    /// Prints nothing until the first node begins.
    pub fn new() -> Plain {
        Plain::default()
    }

    fn node(&self) -> MutexGuard<'_, Option<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Plain {
    fn begin(&self, node: &str, total: usize, piece: &str) {
        let now = Instant::now();
        say!("{node}: {total} {piece}");
        let (name, piece) = (node.to_string(), piece.to_string());
        let node = Node { name, total, piece, pace: Pace::default(), said: now };
        *self.node() = Some(node);
    }

    fn at(&self, done: f64) {
        if let Some(node) = &mut *self.node() {
            let now = Instant::now();
            node.pace.at(done, now);
            if now - node.said >= EVERY {
                node.said = now;
                say!("{}: {}", node.name, node.pace.shown(done, node.total, &node.piece, now));
            }
        }
    }

    fn end(&self, outcome: &str) {
        if let Some(node) = self.node().take() {
            say!("{}: {outcome}", node.name);
        }
    }

    fn note(&self, line: &str) {
        say!("{line}");
    }
}

/// One line when a node ends, for a process that shares its nodes with other workers.
#[derive(Default)]
pub struct Ends(Mutex<String>);

impl Ends {
    /// Prints nothing until the first node ends.
    pub fn new() -> Ends {
        Ends::default()
    }

    fn node(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Ends {
    fn begin(&self, node: &str, _: usize, _: &str) {
        *self.node() = node.to_string();
    }

    fn at(&self, _: f64) {}

    fn end(&self, outcome: &str) {
        say!("{}: {outcome}", self.node());
    }

    fn note(&self, line: &str) {
        say!("{line}");
    }
}

/// Prints only notes, which are warnings.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: usize, _: &str) {}
    fn at(&self, _: f64) {}
    fn end(&self, _: &str) {}
    fn note(&self, line: &str) {
        say!("{line}");
    }
}
