//! What stands around the batches of one group of units: progress, the wish to stop, and the store's partial batches.
//! Knows nothing of what a batch is.

use std::time::Instant;

use anyhow::Result;

use crate::stages::batches::Batches;
use crate::store::Partial;
use crate::store::table::Table;

/// Batches that are kept in the store until their units are.
pub struct Kept<'a> {
    /// With the last unit of the group: units are stored in their order, so as long as any is missing, that one is.
    pub partial: Partial<'a>,
    pub stopped: &'a dyn Fn() -> bool,
    pub at: &'a mut dyn FnMut(usize, usize),
    /// When the batch that is worked on began.
    since: Instant,
    /// What the batches took that were found.
    before: f64,
}

impl<'a> Kept<'a> {
    pub fn new(
        partial: Partial<'a>,
        stopped: &'a dyn Fn() -> bool,
        at: &'a mut dyn FnMut(usize, usize),
    ) -> Kept<'a> {
        Kept { partial, stopped, at, since: Instant::now(), before: 0.0 }
    }

    /// The seconds that the batches found here took when they were made.
    pub fn seconds_before(&self) -> f64 {
        self.before
    }
}

impl Batches for Kept<'_> {
    fn at(&mut self, done: usize, of: usize) {
        (self.at)(done, of);
    }

    fn stopped(&self) -> bool {
        (self.stopped)()
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
        self.partial.keep(number, table, self.since.elapsed().as_secs_f64())
    }
}
