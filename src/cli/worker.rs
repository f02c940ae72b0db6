//! `emoflow worker`: computes units of a run with a frozen plan, in parallel with other workers, and writes no
//! results. `run` starts one for each further device; users start them on other machines that see the same folders.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::{Access, ExperimentArgs, MachineArgs, Prepared, Scope, Usage, Voice, prepare, prepare_for};
use crate::execute::{self, Made, Options, Part};
use crate::explain::Past;
use crate::interrupt::{self, Interrupted};
use crate::lm::{self, device, libtorch};
use crate::record::{Run, State};
use crate::resolve::Resolved;
use crate::slurm::Job;
use crate::store;

#[derive(Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    scope: Scope,
    /// Only what this model of the experiment writes and reads, and what is computed from that; without it, everything
    #[arg(long, value_name = "NAME", conflicts_with = "no_model")]
    model: Option<String>,
    /// Only what needs no model
    #[arg(long)]
    no_model: bool,
    /// Stop after the batch in progress at this time: in seconds from now, or a local time as in 2026-01-31T18:00:00
    #[arg(long, value_name = "WHEN")]
    until: Option<Until>,
    /// In a Slurm job: stop this many seconds before its end, and queue the job again if work remains
    #[arg(long, value_name = "SECONDS", conflicts_with = "until")]
    slurm: Option<u64>,
    /// How often at most the job is queued again
    #[arg(long, value_name = "N", default_value_t = 20)]
    restarts: u32,
    /// The frozen plan, if it is not the one of the last run
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// End when nothing is ready, instead of waiting for units that other processes are computing
    #[arg(long)]
    no_wait: bool,
    /// Stop at the first node that fails
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    voice: Voice,
    /// Which of how many workers of one machine: it ends with the process that has its stdin, and tells it what it makes
    #[arg(long, value_name = "I/N", hide = true, value_parser = place)]
    member: Option<(usize, usize)>,
}

/// The arguments of a worker on `device` of a run, the `place.0`-th of `place.1`; from `flags`, those that are set.
pub fn args<const N: usize>(
    experiment: &ExperimentArgs,
    machine: &MachineArgs,
    scope: &Scope,
    device: &str,
    place: (usize, usize),
    flags: [(bool, &str); N],
) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["worker".into(), experiment.file.clone().into()];
    let mut add = |name: &str, value: OsString| args.extend([name.into(), value]);
    experiment.set.iter().for_each(|set| add("--set", set.into()));
    experiment.project.iter().for_each(|dir| add("--project", dir.into()));
    scope.only.iter().for_each(|pattern| add("--only", pattern.into()));
    scope.limit.stories.iter().for_each(|n| add("--limit", n.to_string().into()));
    machine.cache.iter().for_each(|dir| add("--cache", dir.into()));
    machine.results.iter().for_each(|dir| add("--results", dir.into()));
    add("--lease-seconds", machine.lease_seconds.to_string().into());
    add("--device", device.into());
    add("--progress", "ends".into());
    add("--member", format!("{}/{}", place.0, place.1).into());
    let flags = flags.into_iter().chain([(machine.offline, "--offline")]);
    args.extend(flags.filter(|(set, _)| *set).map(|(_, flag)| flag.into()));
    args
}

/// Limits this process to one of `processes` equal shares of the machine's cores.
pub fn share_machine(processes: usize) {
    if processes > 1 {
        lm::share_cores(processes);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / processes).max(1);
        // Fails if the pool already exists, which then keeps its size.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

pub fn run(args: WorkerArgs, out: &mut dyn Write) -> Result<u8> {
    let begun = Instant::now();
    let progress = args.voice.start();
    ensure!(
        !args.machine.device.contains(','),
        Usage("a worker works on one device: start one for each, or `emoflow run` on several".to_string())
    );
    // Only after the restart that loads libtorch: the restarted program has to read stdin itself.
    if args.member.is_some() && libtorch::is_loaded() {
        interrupt::hang_on_stdin();
    }
    if args.slurm.is_some() {
        interrupt::be_patient();
    }
    let (experiment, machine, limit) = (&args.experiment, &args.machine, &args.scope.limit);
    let prepared = if args.no_model {
        prepare_for(&device::elsewhere, experiment, machine, limit, Access::Write, progress.as_ref())?
    } else {
        prepare(experiment, machine, limit, Access::Write, progress.as_ref())?
    };
    let selected = prepared.plan.select(&args.scope.only)?;
    let part = part(&args, &prepared.resolved)?;
    ensure_frozen(&prepared, args.plan.as_deref())?;
    let present = execute::ready(&prepared.plan, &prepared.store, &selected, progress.as_ref());
    if args.member.is_some() {
        interrupt::hang_on_stdin();
    } else {
        prepared.say(progress.as_ref());
    }
    let Prepared { resolved, plan, store: cache, results, .. } = prepared;
    let place = args.member.unwrap_or((0, 1));
    share_machine(place.1);
    let job = args.slurm.and_then(|margin| Some((Job::this()?, margin)));
    let end = args.until.map(|until| until.instant(begun)).or_else(|| {
        let (job, margin) = job.as_ref()?;
        let until: Until = job.end()?.parse().ok()?;
        until.instant(begun).checked_sub(Duration::from_secs(*margin))
    });
    let stopped = || interrupt::asked() || end.is_some_and(|end| Instant::now() >= end);
    let (said, units) = (RefCell::new(&mut *out), RefCell::new(0));
    let told = |made: &Made| {
        *units.borrow_mut() += made.units.len();
        if args.member.is_some() {
            let line = serde_json::to_string(made).expect("numbers");
            let mut said = said.borrow_mut();
            // If nobody reads it, the end of stdin ends this process.
            let _ = writeln!(said, "{line}").and_then(|()| said.flush());
        }
    };
    let options = Options {
        fail_fast: args.fail_fast,
        verbose: args.voice.verbose,
        stopped: &stopped,
        part,
        wait: !args.no_wait,
        place,
        told: Some(&told),
        beside: &[],
        present: Some(&present),
    };
    let past = Past::read(&results);
    let outcome = execute::run(&resolved, &plan, &cache, &past, &selected, options, progress.as_ref());
    // Parts that could not be planned do not count for the worker.
    let nodes = outcome.nodes.iter().filter(|node| node.key.is_some());
    let failed = nodes.filter(|node| matches!(node.state, State::Failed | State::Blocked)).count();
    let summary = Summary { made: units.into_inner(), left: outcome.left, failed };
    if args.member.is_none() {
        summary.print(args.voice.json, out)?;
    }
    if let Some((job, _)) = job.filter(|_| outcome.interrupted && outcome.left > 0) {
        let progress_made = summary.made + store::kept_here() > 0;
        progress.note(&queue_again(&job, progress_made, args.restarts));
    }
    ensure!(!outcome.interrupted, Interrupted);
    Ok(u8::from(failed > 0))
}

/// The last line.
#[derive(Serialize)]
struct Summary {
    /// Number of units it computed.
    made: usize,
    /// Number of units it skipped: an input is missing, or it was asked to stop first.
    left: usize,
    /// Nodes that failed, or that depend on one that failed.
    failed: usize,
}

impl Summary {
    fn print(&self, json: bool, out: &mut dyn Write) -> Result<()> {
        let Summary { made, left, failed } = self;
        if json {
            writeln!(out, "{}", serde_json::to_string(self)?)?;
        } else {
            let units = if *made == 1 { "unit" } else { "units" };
            writeln!(out, "computed {made} {units}, left {left}, failed {failed}")?;
        }
        Ok(())
    }
}

/// The part of the plan whose units the worker computes.
fn part(args: &WorkerArgs, resolved: &Resolved) -> Result<Part> {
    let Some(name) = &args.model else {
        return Ok(if args.no_model { Part::NoModel } else { Part::All });
    };
    let found = resolved.models.iter().position(|model| model.name == *name);
    let names = || resolved.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
    let unknown = || Usage(format!("--model {name}: the experiment has {}", names()));
    Ok(Part::Model(found.ok_or_else(unknown)?))
}

/// Requeues a Slurm job whose time limit was reached; returns a message for its log. A job that was told to stop is
/// not requeued: after a preemption Slurm does it, and a cancelled job should not return. A job that finished no batch
/// is not requeued either, since it would not finish one the next time.
fn queue_again(job: &Job, progress_made: bool, restarts: u32) -> String {
    let Job { id, restarts: so_far } = job;
    match () {
        () if interrupt::terminated() => {
            format!("job {id} was asked to stop, and does not queue itself again")
        }
        () if !progress_made => {
            format!(
                "job {id} finished no batch within its time limit, and does not queue itself again: give it more \
                 time"
            )
        }
        () if *so_far >= restarts => {
            format!("job {id} was queued again {so_far} times, which is the limit (`restarts`)")
        }
        () => match job.requeue() {
            Ok(()) => format!("job {id} is queued again"),
            Err(error) => format!("warning: job {id} cannot be queued again: {error:#}"),
        },
    }
}

/// An error unless the last run of the experiment, or the run recorded in the file `record`, froze the same plan.
pub fn ensure_frozen(prepared: &Prepared, record: Option<&Path>) -> Result<()> {
    let Prepared { plan, resolved, results, .. } = prepared;
    let record = record.map_or_else(|| results.join("run.json"), Path::to_path_buf);
    let wrong = |why: String| Usage(format!("{why} ({})", record.display()));
    let Some(run) = Run::read_file(&record)? else {
        return Err(wrong("no run has frozen a plan yet: start it with `emoflow run`".to_string()).into());
    };
    let here = env!("CARGO_PKG_VERSION");
    let there = run.versions.emoflow.as_str();
    ensure!(there == here, wrong(format!("the run is of emoflow {there}, and this is {here}")));
    let (here, there) = (resolved.device.kind(), run.device.kind.as_str());
    ensure!(
        there == here,
        wrong(format!(
            "the run computes on {there}, and this worker on {here}: their numbers differ in the last bits"
        ))
    );
    let differs = |(node, (name, keys)): &(&crate::plan::Node, &(String, Box<[_]>))| {
        node.name() != *name || !node.units.iter().map(|unit| unit.key).eq(keys.iter().copied())
    };
    let first = plan.nodes.iter().zip(&run.plan).find(differs).map(|(node, _)| node.name());
    ensure!(
        first.is_none() && plan.nodes.len() == run.plan.len(),
        wrong(format!(
            "the experiment differs from the one that the run started with{}: a worker computes units of the plan that \
             was frozen then. Give it the run's `--set`, `--limit` and files, or start the run again",
            first.map_or(String::new(), |name| format!(", first in {name}"))
        ))
    );
    Ok(())
}

/// When a worker has to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    /// Counted from its start.
    After(Duration),
    /// Seconds since 1970.
    At(u64),
}

impl Until {
    fn instant(self, begun: Instant) -> Instant {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match self {
            Until::After(span) => begun + span,
            Until::At(seconds) => Instant::now() + Duration::from_secs(seconds).saturating_sub(now),
        }
    }
}

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Until, String> {
        if let Some(span) = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            return Ok(Until::After(span));
        }
        let c_text = std::ffi::CString::new(text).map_err(|e| e.to_string())?;
        // SAFETY: an all-zero `tm` is valid; both texts are zero-terminated, and the returned end pointer lies within
        // the first.
        let seconds = unsafe {
            let mut time: libc::tm = std::mem::zeroed();
            time.tm_isdst = -1; // let the system determine daylight saving time
            let end = libc::strptime(c_text.as_ptr(), c"%Y-%m-%dT%H:%M:%S".as_ptr(), &mut time);
            if end.is_null() || *end != 0 { -1 } else { libc::mktime(&mut time) }
        };
        let seconds = u64::try_from(seconds).map_err(|_| "neither seconds nor a time of day".to_string())?;
        Ok(Until::At(seconds))
    }
}

/// Parses `I/N`.
fn place(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(i, n)| i < n).ok_or_else(|| "expected I/N, as in 1/2".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_time_is_seconds_or_what_date_takes_it_for() {
        assert_eq!("90.5".parse(), Ok(Until::After(Duration::from_secs_f64(90.5))));
        for text in ["2026-01-31T18:00:00", "2026-07-01T00:30:05"] {
            let date = std::process::Command::new("date").args(["+%s", "--date", text]).output().unwrap();
            let seconds = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
            assert_eq!(text.parse(), Ok(Until::At(seconds)));
        }
        for wrong in ["", "soon", "-5", "NaN", "2026-01-31", "2026-01-31T18:00:00Z", "NONE"] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_is_one_of_so_many() {
        assert_eq!(place("1/2"), Ok((1, 2)));
        for wrong in ["2/2", "1", "/", "-1/2", "1/0"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
