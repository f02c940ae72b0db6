//! The environment of the batches of one group of units: progress, interruption, and the store's partial batches.
//! Independent of what a batch contains.

use std::time::Instant;

use anyhow::Result;

use super::writer::Writer;
use crate::stages::batches::{Batches, Tally};
use crate::store::Partial;
use crate::store::table::Table;

/// Callbacks for progress and messages, and for stopping.
pub struct Around<'a> {
    pub stopped: &'a dyn Fn() -> bool,
    pub at: &'a mut dyn FnMut(usize, usize),
    pub note: &'a dyn Fn(&str),
    pub tally: &'a mut Tally,
}

/// Batches that are stored until their units are.
pub struct Kept<'s, 'w, 'a> {
    /// The partial batches of the last unit of the group. It is stored last, so as long as any unit is missing, that
    /// one is.
    partial: Partial<'s>,
    pub around: Around<'a>,
    writer: &'w Writer<'s>,
    /// Whether batches are written in the background while the next ones are computed. Batches that are computed faster
    /// than written are then skipped: computing them again takes less time.
    behind: bool,
    /// Checks that the inputs of the batches still match the unit's key.
    unchanged: &'w dyn Fn() -> Result<()>,
    /// Start of the current batch; for batches that are computed concurrently, the time when the previous one was
    /// stored.
    since: Instant,
    /// Seconds that the batches found in the store took.
    before: f64,
}

impl<'s, 'w, 'a> Kept<'s, 'w, 'a> {
    /// With `behind`, batches are written in the background, and skipped if they would have to wait long; otherwise
    /// each is on disk before the next one begins. No batch is stored if `unchanged` returns an error.
    pub fn new(
        partial: Partial<'s>,
        around: Around<'a>,
        writer: &'w Writer<'s>,
        behind: bool,
        unchanged: &'w dyn Fn() -> Result<()>,
    ) -> Kept<'s, 'w, 'a> {
        Kept { partial, around, writer, behind, unchanged, since: Instant::now(), before: 0.0 }
    }

    /// Removes all batches, including those not written yet.
    pub fn clear(&self) -> Result<()> {
        let partial = self.partial.clone();
        self.writer.write(move || {
            partial.clear();
            Ok(None)
        })
    }

    /// The seconds that the batches found in the store took to compute.
    pub fn seconds_before(&self) -> f64 {
        self.before
    }
}

impl Batches for Kept<'_, '_, '_> {
    fn at(&mut self, done: usize, of: usize) {
        (self.around.at)(done, of);
    }

    fn stopped(&self) -> bool {
        (self.around.stopped)()
    }

    fn kept(&mut self, number: usize, schema: &str) -> Result<Option<Table>> {
        let found = self.partial.kept(number, schema)?;
        self.since = Instant::now();
        Ok(found.map(|(table, seconds)| {
            self.before += seconds;
            table
        }))
    }

    fn keep(&mut self, number: usize, table: &Table) -> Result<()> {
        let since = std::mem::replace(&mut self.since, Instant::now());
        let seconds = since.elapsed().as_secs_f64();
        (self.unchanged)()?;
        if !self.behind {
            return self.partial.keep(number, table, seconds);
        }
        let (partial, table) = (self.partial.clone(), table.clone());
        self.writer.offer(move || partial.keep(number, &table, seconds).map(|()| None))
    }

    fn note(&mut self, line: &str) {
        (self.around.note)(line);
    }

    fn tally(&mut self, tally: Tally) {
        self.around.tally.add(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::key::Digest;
    use crate::store::Store;
    use crate::store::table::Column;

    #[test]
    fn batches_may_be_written_behind_and_are_cleared_after_that() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let partial = store.partial("x", &Digest::of(b"x")).unwrap();
        let table = |n: i32| Table::new("x.batch/1", vec![("n", Column::I32(vec![n]))]);
        for behind in [false, true] {
            let (mut at, mut tally) = (|_: usize, _: usize| (), Tally::default());
            std::thread::scope(|scope| {
                let writer = Writer::start(scope);
                let around = Around { stopped: &|| false, at: &mut at, note: &|_| (), tally: &mut tally };
                let mut kept = Kept::new(partial.clone(), around, &writer, behind, &|| Ok(()));
                for n in 0..5 {
                    kept.keep(n, &table(n as i32)).unwrap();
                    assert!(behind || partial.count() == n + 1);
                }
                writer.end().1.unwrap();
                assert_eq!(partial.kept(0, "x.batch/1").unwrap().unwrap().0.i32("n").unwrap(), [0]);
            });
            // The writer is idle for the first batch.
            assert!((if behind { 1..=5 } else { 5..=5 }).contains(&partial.count()));
            std::thread::scope(|scope| {
                let writer = Writer::start(scope);
                let around = Around { stopped: &|| false, at: &mut at, note: &|_| (), tally: &mut tally };
                let mut kept = Kept::new(partial.clone(), around, &writer, behind, &|| Ok(()));
                kept.keep(5, &table(5)).unwrap();
                kept.clear().unwrap();
                writer.end().1.unwrap();
            });
            assert_eq!(partial.count(), 0);
        }
    }
}
