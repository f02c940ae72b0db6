//! emoflow: emotion vectors inside language models, declared in TOML and run by a content-hashed DAG.

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

/// What strangers' templates and tokenizers take is counted.
#[global_allocator]
static MEMORY: lm::bounded::Counting = lm::bounded::Counting;

/// Whether the command line `args` finishes what it is at when it is asked to stop: see [`interrupt`].
pub fn finishes(args: &[OsString]) -> bool {
    cli::finishes(args)
}

/// Whether `args` are a command line of this program; what is wrong with them otherwise. Runs nothing.
pub fn parses(args: &[String]) -> Result<(), String> {
    cli::parses(args)
}

/// Runs the command line `args` (the program's name first); data goes to `out`, everything else to stderr.
///
/// Exit codes: 0 done; 1 some nodes failed; 2 the experiment or the command line is wrong; 4 nothing is selected;
/// 75 interrupted, the same command continues.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>, out: &mut dyn Write) -> u8 {
    cli::run(args, out)
}
