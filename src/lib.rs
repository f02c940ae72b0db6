//! emoflow: emotion vectors of language models. Experiments are declared in TOML and run as a content-hashed DAG.

#[macro_use]
mod say;

mod atomic;
mod cli;
pub mod config;
pub mod exchange;
pub mod execute;
pub mod explain;
pub mod interrupt;
pub mod lm;
mod network;
pub mod params;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod resolve;
pub mod results;
mod secrets;
pub mod serve;
pub mod slurm;
pub mod stages;
pub mod store;

use std::ffi::OsString;
use std::io::Write;

pub use say::Unread;

/// Counts the memory that untrusted chat templates and tokenizers allocate.
#[global_allocator]
static MEMORY: lm::bounded::Counting = lm::bounded::Counting;

/// Whether the command of `args` finishes its current batch when it is asked to stop: see [`interrupt`].
pub fn finishes(args: &[OsString]) -> bool {
    cli::finishes(args)
}

/// Checks that `args` are a valid command line of this program, without running it; `Err`: what is wrong.
pub fn parses(args: &[String]) -> Result<(), String> {
    cli::parses(args)
}

/// Runs the command line `args` (the program's name first); data goes to `out`, everything else to stderr.
///
/// Exit codes: 0 done; 1 some nodes failed; 2 the experiment or the command line is invalid; 4 nothing is selected;
/// 75 interrupted (running the same command again continues).
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>, out: &mut dyn Write) -> u8 {
    cli::run(args, out)
}
