//! What runs leave about themselves: which units each was about, when, and by which process. `run.json` tells of the
//! last one, `runs/` of the plans before it. Opens no cache.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::plan::Plan;
use crate::plan::key::{Digest, Key};
use crate::store::Process;

/// Plans that are remembered of each experiment.
const KEPT: usize = 20;

/// When a run was, and who did it: the field `run` of `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Seconds since 1970.
    pub started: u64,
    /// `None`: it runs, or it was stopped before it could say how it went.
    pub ended: Option<u64>,
    pub process: Process,
}

impl Header {
    /// Of a run in this process that has taken so long, and has `ended` or not.
    pub fn of_this(took: Duration, ended: bool) -> Header {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = SystemTime::now();
        Header { started: seconds(now - took), ended: ended.then(|| seconds(now)), process: Process::this() }
    }
}

/// The frozen plan of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970.
    #[serde(default)]
    pub started: u64,
    /// Each node's name and its units' keys.
    pub plan: Vec<(String, Vec<Key>)>,
    /// The stage of each node of the plan.
    #[serde(default)]
    pub stages: Vec<String>,
}

impl Record {
    /// Of a run of `plan`.
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
        self.plan.iter().zip(stages).map(|((_, keys), stage)| (stage, keys.as_slice()))
    }

    /// Every unit's key.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.plan.iter().flat_map(|(_, keys)| keys)
    }
}

/// The last run, as `run.json` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// `None`: written by a version of emoflow that did not say.
    #[serde(default)]
    pub run: Option<Header>,
    pub plan: Vec<(String, Vec<Key>)>,
    /// The stage of each node of the plan.
    #[serde(default)]
    pub stages: Vec<String>,
    /// Whether a signal stopped it.
    #[serde(default)]
    pub interrupted: bool,
    #[serde(default)]
    pub versions: Versions,
    #[serde(default)]
    pub device: Device,
    /// How it went; empty until it has ended.
    pub nodes: Vec<Ended>,
}

/// By what a run was done.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Versions {
    pub emoflow: String,
}

/// On what a run computes.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Device {
    /// Its class.
    pub kind: String,
}

/// How one node of a run went.
#[derive(Clone, Debug, Deserialize)]
pub struct Ended {
    pub name: String,
    pub state: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub seconds: f64,
}

impl Run {
    /// The last run whose results are in `dir`; `None` if there was none.
    ///
    /// # Errors
    /// A `run.json` that is none.
    pub fn read(dir: &Path) -> Result<Option<Run>> {
        Run::read_file(&dir.join("run.json"))
    }

    /// The run of which a file tells; `None` if there is none.
    ///
    /// # Errors
    /// A file that is no record of a run.
    pub fn read_file(path: &Path) -> Result<Option<Run>> {
        read_json(path)
    }
}

/// What is known of the runs of one experiment.
#[derive(Clone, Debug)]
pub struct Past {
    /// The experiment's name.
    pub name: String,
    pub last: Record,
    /// The different plans that were run, the last one too, the newest first.
    pub plans: Vec<Record>,
}

/// The runs of every experiment whose results are in a folder of `results`, by name.
///
/// # Errors
/// A record that cannot be read: what it asks for is not known then.
pub fn past(results: &Path) -> Result<Vec<Past>> {
    let mut all = Vec::new();
    for dir in children(results)? {
        let Some(run) = Run::read(&dir)? else { continue };
        let started = run.run.map_or(0, |header| header.started);
        let mut plans = Vec::new();
        for path in records(&dir.join("runs"))? {
            plans.extend(read_json::<Record>(&path)?);
        }
        // Two runs may have started in one second: the last one is known.
        plans.sort_by_key(|record| (record.plan != run.plan, std::cmp::Reverse(record.started)));
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.push(Past { name, last: Record { started, plan: run.plan, stages: run.stages }, plans });
    }
    Ok(all)
}

/// When the first run began of which `dir` knows, in seconds since 1970; `None`: there was none.
///
/// # Errors
/// A record that cannot be read.
pub fn earliest(dir: &Path) -> Result<Option<u64>> {
    let mut earliest = Run::read(dir)?.and_then(|run| Some(run.run?.started));
    for path in records(&dir.join("runs"))? {
        let started = read_json::<Record>(&path)?.map(|record| record.started);
        earliest = earliest.into_iter().chain(started).min();
    }
    Ok(earliest)
}

/// Keeps the plan of a run that starts, beside those of the [`KEPT`] newest other ones. One file a plan: the same run
/// again only makes it newer.
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

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).with_context(|| {
        format!("{} is no record of a run: `emoflow run` the experiment again, or remove it", path.display())
    })
}

/// The records in a folder of earlier runs; what a run that was killed left there is none.
fn records(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = children(folder)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    Ok(paths)
}

/// What is in a folder, sorted; nothing where there is none.
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
