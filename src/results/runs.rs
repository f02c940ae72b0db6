//! Records of runs: the units of each run, when it started, and in which process. `run.json` describes the last run,
//! `runs/` the plans of earlier ones. Does not open a cache.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::plan::Plan;
use crate::plan::key::{Digest, Key};
use crate::record::{Run, read_json};

/// Number of plans kept for each experiment.
const KEPT: usize = 20;

/// The frozen plan of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970.
    #[serde(default)]
    pub started: u64,
    /// Each node's name and its units' keys.
    pub plan: Vec<(String, Box<[Key]>)>,
    /// The stage of each node of the plan.
    #[serde(default)]
    pub stages: Vec<String>,
}

impl Record {
    /// The record of a run of `plan`.
    pub fn of(plan: &Plan, started: u64) -> Record {
        let nodes = plan.nodes.iter();
        Record {
            started,
            plan: nodes.clone().map(|n| (n.name(), n.units.iter().map(|u| u.key).collect())).collect(),
            stages: nodes.map(|n| n.work.stage().to_string()).collect(),
        }
    }

    /// Each node's stage and its units' keys.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &[Key])> {
        let stages = self.stages.iter().map(String::as_str).chain(std::iter::repeat(""));
        self.plan.iter().zip(stages).map(|((_, keys), stage)| (stage, &**keys))
    }

    /// Every unit's key.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.plan.iter().flat_map(|(_, keys)| keys.iter())
    }
}

/// The known runs of one experiment.
#[derive(Clone, Debug)]
pub struct Past {
    /// The experiment's name.
    pub name: String,
    pub last: Record,
    /// The different plans that were run, including the last one, newest first.
    pub plans: Vec<Record>,
}

/// The runs of every experiment with a results folder in `results`, by name.
///
/// # Errors
/// A record cannot be read, so the units that it needs are unknown.
pub fn past(results: &Path) -> Result<Vec<Past>> {
    let mut all = Vec::new();
    for dir in children(results)? {
        let Some(run) = Run::read(&dir)? else { continue };
        let started = run.run.map_or(0, |header| header.started);
        let mut plans = Vec::new();
        for path in records(&dir.join("runs"))? {
            plans.extend(read_json::<Record>(&path)?);
        }
        // Two runs may have started in the same second, so the last run's plan sorts first.
        plans.sort_by_key(|record| (record.plan != run.plan, std::cmp::Reverse(record.started)));
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.push(Past { name, last: Record { started, plan: run.plan, stages: run.stages }, plans });
    }
    Ok(all)
}

/// The start of the first run recorded in `dir`, in seconds since 1970; `None` if there was none.
///
/// # Errors
/// A record cannot be read.
pub fn earliest(dir: &Path) -> Result<Option<u64>> {
    let mut earliest = Run::read(dir)?.and_then(|run| Some(run.run?.started));
    for path in records(&dir.join("runs"))? {
        let started = read_json::<Record>(&path)?.map(|record| record.started);
        earliest = earliest.into_iter().chain(started).min();
    }
    Ok(earliest)
}

/// Saves the plan of a starting run, and keeps the [`KEPT`] newest plans. There is one file per plan: running the
/// same plan again only updates its time.
pub fn remember(dir: &Path, record: &Record) -> Result<()> {
    let folder = dir.join("runs");
    let name = Digest::of(serde_json::to_string(&record.plan)?.as_bytes()).short();
    atomic::replace_flushed(&folder.join(format!("{name}.json")), &serde_json::to_vec(record)?)?;
    let mut files = Vec::new();
    for path in records(&folder)? {
        files.push((fs::metadata(&path)?.modified()?, path));
    }
    files.sort();
    for (_, path) in files.iter().rev().skip(KEPT) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// The records in a folder of earlier runs, without the temporary files of a killed run.
fn records(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = children(folder)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    Ok(paths)
}

/// The entries of a folder, sorted; empty if the folder does not exist.
fn children(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
