//! Progress on a terminal: one bar per node, with its rate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Progress;
use super::pace::Pace;

/// Steps of the bar per piece of work.
const PARTS: u64 = 1000;

/// One progress bar per node.
#[derive(Default)]
pub struct Bars {
    /// The running node.
    node: Mutex<Option<Node>>,
}

struct Node {
    name: String,
    total: usize,
    piece: String,
    pace: Pace,
    bar: ProgressBar,
}

impl Bars {
    /// Shows nothing until the first node begins.
    pub fn new() -> Bars {
        Bars::default()
    }

    fn node(&self) -> MutexGuard<'_, Option<Node>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn begin(&self, node: &str, total: usize, piece: &str) {
        let bar = ProgressBar::new(PARTS * total as u64).with_prefix(node.to_string());
        let style = ProgressStyle::with_template("{prefix:<34} {bar:24} {msg}").expect("a fixed template");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        let (name, piece) = (node.to_string(), piece.to_string());
        *self.node() = Some(Node { name, total, piece, pace: Pace::default(), bar });
        self.at(0.0);
    }

    fn at(&self, done: f64) {
        if let Some(node) = &mut *self.node() {
            let now = Instant::now();
            node.pace.at(done, now);
            node.bar.set_position((done * PARTS as f64) as u64);
            node.bar.set_message(node.pace.shown(done, node.total, &node.piece, now));
        }
    }

    fn end(&self, outcome: &str) {
        if let Some(node) = self.node().take() {
            node.bar.finish_and_clear();
            say!("{:<34} {outcome}", node.name);
        }
    }

    fn note(&self, line: &str) {
        match &*self.node() {
            Some(node) => node.bar.suspend(|| say!("{line}")),
            None => say!("{line}"),
        }
    }
}
