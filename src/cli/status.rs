//! `emoflow status`: the progress of a run, from its frozen plan and the cache. Takes no lock, writes nothing and
//! loads no model; so it works during a run, on the same or another machine, and after a crash.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::cache::shown_seconds;
use super::submit::Submitted;
use super::{ExperimentArgs, MachineArgs, Usage};
use crate::config::project_root;
use crate::record::{Header, NodeOutcome, Run, State};
use crate::slurm;
use crate::store::{Process, Store};

#[derive(Args)]
pub struct StatusArgs {
    /// The experiment file; without one, every experiment that has results here
    #[arg(value_name = "EXP.toml", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// Replace one key of the file, as in `activations.from_token=20`; repeatable
    #[arg(long, value_name = "KEY.PATH=VALUE", requires = "file")]
    set: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Every node as JSON
    #[arg(long)]
    json: bool,
    /// Repeat every so many seconds (2) until nothing is running
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    watch: Option<f64>,
}

/// Prints the progress of one run or of all, once or until nothing runs.
///
/// # Errors
/// The experiment file has problems; a `run.json` cannot be read.
pub fn run(args: &StatusArgs, out: &mut dyn Write) -> Result<u8> {
    let Some(seconds) = args.watch else {
        args.say(out)?;
        return Ok(0);
    };
    let pause = Duration::try_from_secs_f64(seconds).ok().filter(|pause| !pause.is_zero());
    let pause = pause.ok_or_else(|| Usage("--watch needs a number of seconds above 0".into()))?;
    loop {
        let mut page = Vec::new();
        let goes_on = args.say(&mut page)?;
        if std::io::stdout().is_terminal() {
            write!(out, "\x1b[H\x1b[J")?; // clear the screen
        }
        out.write_all(&page)?;
        out.flush()?;
        if !goes_on {
            return Ok(0);
        }
        thread::sleep(pause);
    }
}

impl StatusArgs {
    /// Prints the status once. Returns whether anything is running.
    fn say(&self, out: &mut dyn Write) -> Result<bool> {
        let Some(file) = &self.file else { return self.say_all(out) };
        let experiment = ExperimentArgs { file: file.clone(), set: self.set.clone(), project: None };
        let checked = experiment.read(&|_| Vec::new())?;
        let store = Store::open(self.machine.cache(&checked))?.read_only();
        with(&checked.name, &self.machine.results(&checked), &store, |status| {
            match self.json {
                true => writeln!(out, "{}", serde_json::to_string_pretty(status)?)?,
                false => show(status, out)?,
            }
            Ok(status.state.goes_on())
        })
    }

    /// Prints one line for each experiment of the project that has results.
    fn say_all(&self, out: &mut dyn Write) -> Result<bool> {
        let root = project_root(Path::new("experiment.toml"));
        let place = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| root.join(name));
        let (cache, results) = (place(&self.machine.cache, "cache"), place(&self.machine.results, "results"));
        let store = Store::open(cache)?.read_only();
        let entries = fs_err::read_dir(&results).into_iter().flatten();
        let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        folders.retain(|folder| folder.join(crate::record::FILE).is_file());
        folders.sort();
        let (mut goes_on, mut all) = (false, Vec::new());
        for folder in &folders {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            goes_on |= with(&name, folder, &store, |status| {
                match self.json {
                    true => all.push(serde_json::to_value(status)?),
                    false => {
                        let done = format!("{} of {}", status.done, status.units);
                        writeln!(out, "{name:<32} {done:<16} {}", status.state.shown())?;
                    }
                }
                Ok(status.state.goes_on())
            })?;
        }
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        } else if folders.is_empty() {
            writeln!(out, "no experiment has results in {}", results.display())?;
        }
        Ok(goes_on)
    }
}

#[derive(Serialize)]
struct Status<'a> {
    experiment: &'a str,
    state: RunState,
    #[serde(flatten)]
    run: Option<&'a Header>,
    /// Cached units, and required units of the plan.
    done: usize,
    units: usize,
    /// Jobs submitted to Slurm that have not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<Job>,
    nodes: Vec<NodeStatus<'a>>,
}

/// A job in Slurm's queue.
#[derive(Serialize)]
struct Job {
    name: String,
    id: String,
    /// Number of its tasks by Slurm state.
    tasks: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum RunState {
    NeverRun,
    /// As far as is known: a process on another machine cannot be observed.
    Running,
    /// Its workers are or were in Slurm's queue.
    Submitted,
    /// It ended without recording an outcome, or was stopped by a signal.
    Interrupted,
    Failed,
    Finished,
}

impl RunState {
    /// Whether any process or job works on it.
    fn goes_on(self) -> bool {
        matches!(self, RunState::Running | RunState::Submitted)
    }

    fn shown(self) -> &'static str {
        match self {
            RunState::NeverRun => "no run yet",
            RunState::Running => "running",
            RunState::Submitted => "submitted to Slurm",
            RunState::Interrupted => "interrupted",
            RunState::Failed => "ended with failures",
            RunState::Finished => "ended",
        }
    }
}

#[derive(Serialize)]
struct NodeStatus<'a> {
    name: &'a str,
    stage: &'a str,
    state: NodeState,
    /// Cached units.
    done: usize,
    units: usize,
    /// Finished batches of units that are not done.
    batches: usize,
    /// The processes that are computing units of it now.
    by: Vec<Process>,
    /// The reason that the run recorded.
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    /// The time the run took for it, once it has ended.
    seconds: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum NodeState {
    Done,
    Running,
    ToDo,
    /// Everything that uses it is computed.
    NotNeeded,
    Failed,
    Blocked,
    /// It was computed, but is no longer in the cache.
    Gone,
}

/// The progress of the last run of experiment `name` with results in `results`, as JSON.
///
/// # Errors
/// The `run.json` cannot be read.
pub fn value(name: &str, results: &Path, store: &Store) -> Result<Value> {
    with(name, results, store, |status| Ok(serde_json::to_value(status)?))
}

/// Passes the progress of the last run of experiment `name` with results in `results` to `say`.
///
/// # Errors
/// The `run.json` cannot be read.
fn with<T>(name: &str, results: &Path, store: &Store, say: impl FnOnce(&Status) -> Result<T>) -> Result<T> {
    let run = Run::read(results)?;
    let nodes = run.as_ref().map_or_else(Vec::new, |run| nodes(run, store));
    let needed = |node: &&NodeStatus| node.state != NodeState::NotNeeded;
    let mut state = run.as_ref().map_or(RunState::NeverRun, state);
    let header = run.as_ref().and_then(|run| run.run.as_ref());
    let submitted = Submitted::read(results).jobs;
    let mut jobs = Vec::new();
    if submitted.iter().any(|job| header.is_some_and(|header| job.at >= header.started)) {
        match slurm::queue() {
            Ok(queue) => {
                let queued = submitted.into_iter().filter_map(|job| {
                    Some(Job { tasks: queue.get(&job.id)?.clone(), name: job.name, id: job.id })
                });
                jobs.extend(queued);
                // If no job remains in the queue, nothing works on it.
                if state == RunState::Interrupted && !jobs.is_empty() {
                    state = RunState::Submitted;
                }
            }
            Err(error) if state == RunState::Interrupted => {
                say!("the state of its jobs cannot be determined here: {error:#}");
                state = RunState::Submitted;
            }
            Err(_) => {}
        }
    }
    say(&Status {
        experiment: name,
        state,
        run: header,
        jobs,
        done: nodes.iter().filter(needed).map(|node| node.done).sum(),
        units: nodes.iter().filter(needed).map(|node| node.units).sum(),
        nodes,
    })
}

fn state(run: &Run) -> RunState {
    let failed = run.nodes.iter().any(|node| matches!(node.state, State::Failed | State::Blocked));
    match &run.run {
        _ if run.interrupted => RunState::Interrupted,
        Some(header) if header.ended.is_none() && header.process.is_dead() => RunState::Interrupted,
        Some(header) if header.ended.is_none() => RunState::Running,
        _ if failed => RunState::Failed,
        _ => RunState::Finished,
    }
}

fn nodes<'a>(run: &'a Run, store: &Store) -> Vec<NodeStatus<'a>> {
    let mut nodes = Vec::new();
    let stages = run.stages.iter().map(String::as_str).chain(std::iter::repeat(""));
    for ((name, keys), stage) in run.plan.iter().zip(stages) {
        let (present, missing): (Vec<_>, Vec<_>) = keys.iter().partition(|key| store.contains(stage, key));
        let ended = run.nodes.iter().find(|node| node.name == *name);
        let mut by: Vec<Process> =
            missing.iter().filter_map(|key| Some(store.leased(stage, key)?.process)).collect();
        by.dedup();
        nodes.push(NodeStatus {
            name,
            stage,
            state: node_state(missing.is_empty(), !by.is_empty(), ended),
            done: present.len(),
            units: keys.len(),
            batches: missing.iter().map(|key| store.kept_batches(stage, key)).sum(),
            by,
            reason: ended.map_or("", |ended| &ended.reason),
            seconds: ended.map(|ended| ended.seconds),
        });
    }
    let is_made = nodes.iter().all(|node| node.stage == "activations" || node.state == NodeState::Done);
    for node in nodes.iter_mut().filter(|node| is_made && node.state == NodeState::ToDo) {
        node.state = NodeState::NotNeeded;
    }
    // Absent from the plan: parts whose model is missing.
    let planned = |name: &str| name == "report" || run.plan.iter().any(|(planned, _)| planned == name);
    let missing = run.nodes.iter().filter(|ended| !planned(&ended.name)).map(|ended| NodeStatus {
        name: &ended.name,
        stage: "",
        state: node_state(false, false, Some(ended)),
        done: 0,
        units: 0,
        batches: 0,
        by: Vec::new(),
        reason: &ended.reason,
        seconds: None,
    });
    missing.chain(nodes).collect()
}

/// `ended`: the outcome that the run recorded for the node.
fn node_state(is_whole: bool, is_leased: bool, ended: Option<&NodeOutcome>) -> NodeState {
    match ended.map(|ended| ended.state) {
        _ if is_whole => NodeState::Done,
        _ if is_leased => NodeState::Running,
        Some(State::Failed) => NodeState::Failed,
        Some(State::Blocked) => NodeState::Blocked,
        Some(State::NotNeeded) => NodeState::NotNeeded,
        Some(State::Ran | State::Cached) => NodeState::Gone,
        _ => NodeState::ToDo,
    }
}

fn show(status: &Status, out: &mut dyn Write) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = |then: u64| shown_seconds(now.saturating_sub(then) as f64);
    let name = status.experiment;
    match (status.state, status.run) {
        (RunState::NeverRun, _) => return Ok(writeln!(out, "{name}: no run yet")?),
        (RunState::Running, Some(Header { started, process, .. })) => {
            writeln!(out, "{name}: running for {}, {}", since(*started), shown(process))?;
        }
        (RunState::Submitted, Some(Header { started, .. })) => {
            writeln!(out, "{name}: submitted to Slurm {} ago", since(*started))?;
        }
        (RunState::Interrupted, Some(Header { started, process, .. })) => {
            let who = shown(process);
            writeln!(
                out,
                "{name}: interrupted; begun {} ago, {who}; the same `run` continues",
                since(*started)
            )?;
        }
        (state, run) => {
            let how = if state == RunState::Failed { "ended with failures" } else { "ended" };
            let when =
                run.and_then(|run| run.ended).map_or(String::new(), |then| format!(" {} ago", since(then)));
            writeln!(out, "{name}: {how}{when}")?;
        }
    }
    for Job { name, id, tasks } in &status.jobs {
        let tasks: Vec<String> = tasks.iter().map(|(state, n)| format!("{n} {state}")).collect();
        writeln!(out, "job {id:<10} {name:<28} {}", tasks.join(", "))?;
    }
    for node in &status.nodes {
        let NodeStatus { name, done, units, .. } = node;
        let mut said = match node.state {
            NodeState::Done => "done".to_string(),
            NodeState::Running => {
                format!("running: {}", node.by.iter().map(shown).collect::<Vec<_>>().join(", "))
            }
            NodeState::ToDo => "to do".to_string(),
            NodeState::NotNeeded => "not needed".to_string(),
            NodeState::Failed => format!("FAILED: {}", node.reason),
            NodeState::Blocked => format!("blocked: {}", node.reason),
            NodeState::Gone => "not in the cache any more".to_string(),
        };
        if node.batches > 0 {
            said.push_str(&format!("; {} more batches are stored", node.batches));
        }
        writeln!(out, "{name:<44} {:<12} {said}", format!("{done} of {units}"))?;
    }
    writeln!(out, "{} of {} units done", status.done, status.units)?;
    Ok(())
}

fn shown(process: &Process) -> String {
    format!("process {} on {}", process.pid, process.host)
}
