//! Batches of a long-running stage: progress, interruption, and what is kept between two batches. Independent of
//! where batches are stored and of what asks the stage to stop.

use std::fmt;

use anyhow::{Result, bail};

use crate::interrupt::Interrupted;
use crate::store::table::Table;

/// The surroundings of a stage's batches. A stage numbers its batches from 0, in an order that is a function of
/// its input alone, so that a number refers to the same batch when the work is repeated.
pub trait Batches {
    /// Reports progress: `done` of `of` stories.
    fn at(&mut self, done: usize, of: usize);

    /// Whether the work should stop before the next batch. Kept batches are not lost.
    fn stopped(&self) -> bool;

    /// The result of batch `number`, a table of `schema`, if it was kept.
    fn kept(&mut self, number: usize, schema: &str) -> Result<Option<Table>>;

    /// Keeps the result of batch `number` until the whole result is stored.
    fn keep(&mut self, number: usize, table: &Table) -> Result<()>;

    /// A message for people.
    fn note(&mut self, _: &str) {}

    /// Reports what the requests to a server amounted to.
    fn tally(&mut self, _: Tally) {}
}

/// Totals of the requests to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Accepted stories.
    pub stories: usize,
    /// Generated tokens, as far as the server reports them.
    pub tokens: usize,
    /// Repeated requests.
    pub retries: usize,
    pub seconds: f64,
}

impl Tally {
    /// The sum of two tallies, one after the other in time.
    pub fn add(&mut self, other: Tally) {
        self.stories += other.stories;
        self.tokens += other.tokens;
        self.retries += other.retries;
        self.seconds += other.seconds;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds.max(1e-3);
        write!(f, "{} stories, {:.1}/min", self.stories, 60.0 * self.stories as f64 / seconds)?;
        if self.tokens > 0 {
            write!(f, ", {:.0} tokens/s", self.tokens as f64 / seconds)?;
        }
        write!(f, ", {} {}", self.retries, if self.retries == 1 { "retry" } else { "retries" })
    }
}

/// Nothing is kept and nothing stops the work; only progress is reported.
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

/// The result of batch `number`, a table of `schema`: the kept one if it is `whole`, or else computed now by
/// `work`. [`Interrupted`] if the work should stop first.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_and_says_rates() {
        let mut tally = Tally { stories: 20, tokens: 600, retries: 0, seconds: 10.0 };
        assert_eq!(tally.to_string(), "20 stories, 120.0/min, 60 tokens/s, 0 retries");
        tally.add(Tally { stories: 5, tokens: 0, retries: 1, seconds: 20.0 });
        assert_eq!(tally.to_string(), "25 stories, 50.0/min, 20 tokens/s, 1 retry");
        let silent = Tally { stories: 1, retries: 2, seconds: 60.0, ..Tally::default() };
        assert_eq!(silent.to_string(), "1 stories, 1.0/min, 2 retries");
    }
}
