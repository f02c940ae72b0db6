//! What stands around the batches of one group of units: progress, the wish to stop, and the store's partial batches.
//! Knows nothing of what a batch is.

use std::time::Instant;

use anyhow::Result;

use crate::stages::batches::{Batches, Tally};
use crate::store::Partial;
use crate::store::table::Table;

/// Those who hear of the work, and who may end it.
pub struct Around<'a> {
    pub stopped: &'a dyn Fn() -> bool,
    pub at: &'a mut dyn FnMut(usize, usize),
    pub note: &'a dyn Fn(&str),
    pub tally: &'a mut Tally,
}

/// Batches that are kept in the store until their units are.
pub struct Kept<'s, 'a> {
    /// With the last unit of the group: units are stored in their order, so as long as any is missing, that one is.
    pub partial: Partial<'s>,
    pub around: Around<'a>,
    /// When the batch that is worked on began; of those that are made side by side, when the one before was kept.
    since: Instant,
    /// What the batches took that were found.
    before: f64,
}

impl<'s, 'a> Kept<'s, 'a> {
    pub fn new(partial: Partial<'s>, around: Around<'a>) -> Kept<'s, 'a> {
        Kept { partial, around, since: Instant::now(), before: 0.0 }
    }

    /// The seconds that the batches found here took when they were made.
    pub fn seconds_before(&self) -> f64 {
        self.before
    }
}

impl Batches for Kept<'_, '_> {
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
        self.partial.keep(number, table, since.elapsed().as_secs_f64())
    }

    fn note(&mut self, line: &str) {
        (self.around.note)(line);
    }

    fn tally(&mut self, tally: Tally) {
        self.around.tally.add(tally);
    }
}
