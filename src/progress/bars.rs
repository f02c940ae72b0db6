//! Progress on a terminal: one bar a node, with rate and time left.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Progress;

/// One bar a node.
#[derive(Default)]
pub struct Bars {
    /// The node that is at work.
    bar: Mutex<Option<(String, ProgressBar)>>,
}

impl Bars {
    /// Nothing is shown before the first node begins.
    pub fn new() -> Bars {
        Bars::default()
    }

    fn bar(&self) -> MutexGuard<'_, Option<(String, ProgressBar)>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Bars {
    fn begin(&self, node: &str, total: usize, piece: &str) {
        let template =
            format!("{{prefix:<34}} {{bar:24}} {{pos}}/{{len}} {piece}  {{per_sec}}  {{elapsed}} < {{eta}}");
        let bar = ProgressBar::new(total as u64).with_prefix(node.to_string());
        bar.set_style(ProgressStyle::with_template(&template).expect("a fixed template"));
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar() = Some((node.to_string(), bar));
    }

    fn at(&self, done: usize) {
        if let Some((_, bar)) = &*self.bar() {
            bar.set_position(done as u64);
        }
    }

    fn end(&self, outcome: &str) {
        if let Some((node, bar)) = self.bar().take() {
            bar.finish_and_clear();
            eprintln!("{node:<34} {outcome}");
        }
    }

    fn note(&self, line: &str) {
        match &*self.bar() {
            Some((_, bar)) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}
