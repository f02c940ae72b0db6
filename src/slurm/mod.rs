//! Slurm through its user commands: batch scripts, submission, and queries from inside a job. Independent of plans;
//! correctness never depends on state that Slurm keeps.

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

/// Whether this process runs inside a Slurm job.
pub fn in_a_job() -> bool {
    std::env::var_os("SLURM_JOB_ID").is_some()
}

/// Submits a batch script that starts after the jobs `after` have ended, with additional sbatch `options`; returns the
/// job's number.
///
/// # Errors
/// No sbatch on the PATH; Slurm's own message if it refuses.
pub fn submit(script: &Path, after: &[String], options: &[String]) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable");
    if !after.is_empty() {
        command.arg(format!("--dependency=afterany:{}", after.join(":")));
    }
    let said = said(command.args(options).arg(script))?;
    number(&said).with_context(|| format!("sbatch does not say which number the job has: {said}"))
}

/// The job's number in the output of sbatch: on a line of its own, followed by a semicolon and the cluster's name if
/// there are several clusters. A site's plug-ins may print lines around it.
fn number(said: &str) -> Option<String> {
    let mut numbers = said.lines().map(|line| line.split(';').next().unwrap_or_default().trim());
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.rfind(is_number).map(str::to_string)
}

/// Asks Slurm whether it would accept a batch script; returns its message.
///
/// # Errors
/// As [`submit`].
pub fn test(script: &Path, options: &[String]) -> Result<String> {
    said(Command::new("sbatch").arg("--test-only").args(options).arg(script))
}

/// Cancels jobs.
///
/// # Errors
/// As [`submit`].
pub fn cancel(jobs: &[String]) -> Result<()> {
    said(Command::new("scancel").args(jobs)).map(|_| ())
}

/// The version of Slurm on this machine, as sbatch prints it.
///
/// # Errors
/// There is no sbatch on the PATH, or it fails.
pub fn version() -> Result<String> {
    said(Command::new("sbatch").arg("--version"))
}

/// The job or array task in which this process runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// As Slurm's commands expect it: `17`, or `17_3` for a task of an array.
    pub id: String,
    /// How often it was requeued.
    pub restarts: u32,
}

impl Job {
    /// The current job; `None` outside of a job.
    pub fn this() -> Option<Job> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let alone = variable("SLURM_JOB_ID")?;
        let array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        let id = array.map_or(alone, |(job, task)| format!("{job}_{task}"));
        let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
        Some(Job { id, restarts })
    }

    /// When Slurm will end the job, in local time (`2026-01-31T18:00:00`); `None` if Slurm does not say or there is no
    /// limit. squeue is asked because `SLURM_JOB_END_TIME` is missing in older versions and empty in some.
    pub fn end(&self) -> Option<String> {
        let asked = said(Command::new("squeue").args(["--noheader", "--format=%e", "--jobs", &self.id]));
        let line = asked.ok()?.lines().next()?.trim().to_string();
        (!["", "N/A", "NONE", "Unknown"].contains(&line.as_str())).then_some(line)
    }

    /// Requeues the job, which ends this process.
    ///
    /// # Errors
    /// As [`submit`].
    pub fn requeue(&self) -> Result<()> {
        said(Command::new("scontrol").args(["requeue", &self.id])).map(|_| ())
    }
}

/// Runs a Slurm command and returns its stdout, or stderr if stdout is empty.
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
