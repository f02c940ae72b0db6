//! Slurm's view of a user's jobs, for display only. Slurm is queried at most once in half a minute, however often the
//! status is shown, to spare the controller of a busy cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use fs_err as fs;

use super::said;
use crate::atomic;

/// How long a reply is cached.
const FRESH: Duration = Duration::from_secs(30);

/// For each queued or running job, the number of its tasks in each of Slurm's states. Jobs that have ended are not
/// listed.
pub type Queue = BTreeMap<String, BTreeMap<String, usize>>;

/// The user's jobs. Cached in the user's own cache folder, since file names in a shared one can be taken by others.
///
/// # Errors
/// Slurm cannot be queried on this machine.
pub fn queue() -> Result<Queue> {
    let remembered = remembered();
    let fresh = remembered.as_ref().filter(|file| {
        let age = || SystemTime::now().duration_since(fs::metadata(file).ok()?.modified().ok()?).ok();
        age().is_some_and(|age| age < FRESH)
    });
    if let Some(text) = fresh.and_then(|file| fs::read_to_string(file).ok()) {
        return Ok(parse(&text));
    }
    let asked = ["--me", "--noheader", "--array", "--format=%F %T"];
    let text = said(Command::new("squeue").args(asked))?;
    if let Some(file) = remembered {
        let _ = atomic::replace(&file, text.as_bytes()); // else it is asked again
    }
    Ok(parse(&text))
}

/// Path of the cached reply of this cluster for this user.
fn remembered() -> Option<PathBuf> {
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    let cluster = std::env::var("SLURM_CONF").unwrap_or_default();
    let cluster = crate::plan::key::Digest::of(cluster.as_bytes()).short();
    Some(caches.join("emoflow").join(format!("squeue-{cluster}")))
}

/// Parses lines of a job number and a task state.
fn parse(text: &str) -> Queue {
    let mut queue = Queue::new();
    for (job, state) in text.lines().filter_map(|line| line.trim().split_once(' ')) {
        let of_job = queue.entry(job.to_string()).or_default();
        *of_job.entry(state.trim().to_lowercase()).or_default() += 1;
    }
    queue
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn tasks_are_counted_by_job_and_state() {
        let queue = parse("17 RUNNING\n17 PENDING\n18 PENDING\n17 RUNNING\n\n");
        assert_eq!(
            queue["17"].iter().map(|(s, n)| (s.as_str(), *n)).collect::<Vec<_>>(),
            [("pending", 1), ("running", 2)]
        );
        assert_eq!(queue["18"]["pending"], 1);
        assert_eq!(queue.len(), 2);
    }
}
