//! Progress as plain lines, for logs; and less than that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Progress;

/// How often a node that takes long says where it is.
const EVERY: Duration = Duration::from_secs(10);

/// A line when a node begins and ends, and one now and then between.
#[derive(Default)]
pub struct Plain {
    node: Mutex<Option<Node>>,
}

struct Node {
    name: String,
    total: usize,
    piece: String,
    begun: Instant,
    said: Instant,
}

impl Plain {
    /// Nothing is said before the first node begins.
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
        eprintln!("{node}: {total} {piece}");
        let node = Node { name: node.to_string(), total, piece: piece.to_string(), begun: now, said: now };
        *self.node() = Some(node);
    }

    fn at(&self, done: usize) {
        if let Some(node) = &mut *self.node()
            && node.said.elapsed() >= EVERY
        {
            let spent = node.begun.elapsed().as_secs_f64();
            let left = spent / done.max(1) as f64 * node.total.saturating_sub(done) as f64;
            let rate = 60.0 * done as f64 / spent;
            eprintln!(
                "{}: {done} of {} {}, {rate:.1}/min, {left:.0} s left",
                node.name, node.total, node.piece
            );
            node.said = Instant::now();
        }
    }

    fn end(&self, outcome: &str) {
        if let Some(node) = self.node().take() {
            eprintln!("{}: {outcome}", node.name);
        }
    }

    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
}

/// A line when a node ends, as of a process beside which others work on the same nodes.
#[derive(Default)]
pub struct Ends(Mutex<String>);

impl Ends {
    /// Nothing is said before the first node ends.
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

    fn at(&self, _: usize) {}

    fn end(&self, outcome: &str) {
        eprintln!("{}: {outcome}", self.node());
    }

    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
}

/// Says nothing but notes, which are warnings.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: usize, _: &str) {}
    fn at(&self, _: usize) {}
    fn end(&self, _: &str) {}
    fn note(&self, line: &str) {
        eprintln!("{line}");
    }
}
