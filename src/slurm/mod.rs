//! Slurm, as a user meets it: batch scripts, submitting them, and what a job asks from inside. Knows nothing of plans, and
//! nothing is correct because of what Slurm remembers.

pub mod profile;
pub mod queue;
pub mod script;

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};

pub use profile::Profile;
pub use queue::queue;
pub use script::{Script, quoted};

/// Whether this process is in a job.
pub fn in_a_job() -> bool {
    std::env::var_os("SLURM_JOB_ID").is_some()
}

/// Submits a batch script after the jobs `after`, with further `options` of sbatch; returns the job's number.
///
/// # Errors
/// No sbatch on the PATH, and Slurm's own words where it refuses.
pub fn submit(script: &Path, after: &[String], options: &[String]) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable");
    if !after.is_empty() {
        command.arg(format!("--dependency=afterany:{}", after.join(":")));
    }
    let said = said(command.args(options).arg(script))?;
    number(&said).with_context(|| format!("sbatch does not say which number the job has: {said}"))
}

/// The job's number in what sbatch says: on a line of its own, with a semicolon and the cluster behind it where there are
/// several. Plug-ins of a site may print lines around it.
fn number(said: &str) -> Option<String> {
    let mut numbers = said.lines().map(|line| line.split(';').next().unwrap_or_default().trim());
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.rfind(is_number).map(str::to_string)
}

/// Asks whether a batch script would be taken: Slurm's words.
///
/// # Errors
/// As [`submit`].
pub fn test(script: &Path, options: &[String]) -> Result<String> {
    said(Command::new("sbatch").arg("--test-only").args(options).arg(script))
}

/// Takes jobs back.
///
/// # Errors
/// As [`submit`].
pub fn cancel(jobs: &[String]) -> Result<()> {
    said(Command::new("scancel").args(jobs)).map(|_| ())
}

/// The version of Slurm here, in its own words.
///
/// # Errors
/// There is none, or it does not say.
pub fn version() -> Result<String> {
    said(Command::new("sbatch").arg("--version"))
}

/// The job, or task of an array, that this process is in.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// As Slurm's commands take it: `17`, or `17_3` of an array.
    pub id: String,
    /// How often it was queued again.
    pub restarts: u32,
}

impl Job {
    /// `None` outside of a job.
    pub fn this() -> Option<Job> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let alone = variable("SLURM_JOB_ID")?;
        let array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        let id = array.map_or(alone, |(job, task)| format!("{job}_{task}"));
        let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
        Some(Job { id, restarts })
    }

    /// When Slurm ends it, as a local time (`2026-01-31T18:00:00`); `None` where it does not say, or has no limit.
    /// `SLURM_JOB_END_TIME` is missing in older versions, and empty in some.
    pub fn end(&self) -> Option<String> {
        let asked = said(Command::new("squeue").args(["--noheader", "--format=%e", "--jobs", &self.id]));
        let line = asked.ok()?.lines().next()?.trim().to_string();
        (!["", "N/A", "NONE", "Unknown"].contains(&line.as_str())).then_some(line)
    }

    /// Has Slurm queue it again; this process is ended by that.
    ///
    /// # Errors
    /// As [`submit`].
    pub fn requeue(&self) -> Result<()> {
        said(Command::new("scontrol").args(["requeue", &self.id])).map(|_| ())
    }
}

/// What a command of Slurm says: its stdout, and stderr where that is empty.
fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!(
                "there is no `{program}` on the PATH: this is for a machine from which jobs are submitted to Slurm"
            )
        }
        Err(error) => return Err(error).context(program),
    };
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
    if !status.success() {
        bail!("{program} refuses: {}", if err.is_empty() { status.to_string() } else { err });
    }
    Ok(if out.is_empty() { err } else { out })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_job_s_number_is_found_among_the_lines_of_plug_ins() {
        for said in ["17", "17;alpha", "Charged to: emo, 4 GPU hours\n17;alpha\n", "17\nsbatch: verified\n"] {
            assert_eq!(number(said).as_deref(), Some("17"), "{said}");
        }
        assert_eq!(number("queued"), None);
    }
}
