//! How a stage that works for long does so in pieces: what is told, asked and kept between two batches. Knows nothing
//! of where batches are kept or of who wants it to stop.

use anyhow::{Result, bail};

use crate::interrupt::Interrupted;
use crate::store::table::Table;

/// What stands around a stage's batches. A stage numbers them from 0, in an order that is a function of its input
/// alone, so that a number means the same batch when the work is done again.
pub trait Batches {
    /// So many stories are done, of so many.
    fn at(&mut self, done: usize, of: usize);

    /// Whether the work is to end before the next batch. What was kept is not lost.
    fn stopped(&self) -> bool;

    /// What batch `number` gave, a table of `schema`, if it was kept.
    fn kept(&mut self, number: usize, schema: &str) -> Result<Option<Table>>;

    /// Keeps what batch `number` gave, until the whole is stored.
    fn keep(&mut self, number: usize, table: &Table) -> Result<()>;
}

/// Nothing is kept, and nothing stops the work; only progress is told.
impl<F: FnMut(usize, usize)> Batches for F {
    fn at(&mut self, done: usize, of: usize) {
        self(done, of);
    }

    fn stopped(&self) -> bool {
        false
    }

    fn kept(&mut self, _: usize, _: &str) -> Result<Option<Table>> {
        Ok(None)
    }

    fn keep(&mut self, _: usize, _: &Table) -> Result<()> {
        Ok(())
    }
}

/// What batch `number` gave, a table of `schema`: as it was kept if that is `whole`, or as `work` makes it now.
/// [`Interrupted`] if there is no time for that.
pub(super) fn batch(
    batches: &mut dyn Batches,
    number: usize,
    schema: &str,
    whole: impl FnOnce(&Table) -> bool,
    work: impl FnOnce(&mut dyn Batches) -> Result<Table>,
) -> Result<Table> {
    if let Some(table) = batches.kept(number, schema)?.filter(whole) {
        return Ok(table);
    }
    if batches.stopped() {
        bail!(Interrupted);
    }
    let table = work(batches)?;
    batches.keep(number, &table)?;
    Ok(table)
}
