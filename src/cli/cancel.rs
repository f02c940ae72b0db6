//! `emoflow cancel`: cancels an experiment's jobs in Slurm's queue.

use std::io::Write;
use std::path::Path;

use anyhow::Result;

use super::submit::Submitted;
use crate::slurm;

/// Cancels the submitted jobs that have not ended.
///
/// # Errors
/// Slurm is not available, or rejects the request.
pub fn run(results: &Path, out: &mut dyn Write) -> Result<u8> {
    let jobs = Submitted::read(results).jobs;
    if jobs.is_empty() {
        writeln!(
            out,
            "nothing was submitted to Slurm; a run on this machine stops on Ctrl-C, after its current batch"
        )?;
        return Ok(0);
    }
    let queue = slurm::queue()?;
    let live: Vec<String> =
        jobs.iter().filter(|job| queue.contains_key(&job.id)).map(|job| job.id.clone()).collect();
    if live.is_empty() {
        writeln!(out, "none of its jobs is in Slurm's queue any more")?;
        return Ok(0);
    }
    slurm::cancel(&live)?;
    writeln!(out, "cancelled {}; finished batches are kept, and `submit` continues", live.join(", "))?;
    Ok(0)
}
