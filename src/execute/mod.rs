//! The loop: finds out which units are missing and needed, and runs them in the plan's order. Knows the plan and
//! the store, not what a stage does.

mod across;
mod dispatch;
mod kept;
mod work;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::explain::{self, Explainer, Past, Reason};
use crate::lm::libtorch;
use crate::plan::{Absent, Plan, Selection, UnitId};
use crate::progress::Progress;
use crate::resolve::Resolved;
use crate::stages::batches::Tally;
use crate::store::{Lookup, Store};
use dispatch::Lane;
pub use dispatch::{NOT_OFFLINE, provenance};
use work::{Job, Run};

/// How long a run that can only wait for another one sleeps before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the command line asks of a run.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Stop at the first node that fails.
    pub fail_fast: bool,
    /// Also say what is cached, and when a model is loaded.
    pub verbose: bool,
    /// Whether the run is to end when the batch that it is at is done.
    pub stopped: &'a dyn Fn() -> bool,
}

/// How a run went, node by node.
#[derive(Debug, Default)]
pub struct Outcome {
    pub nodes: Vec<NodeOutcome>,
    /// It was asked to stop before all was done.
    pub interrupted: bool,
}

/// How one node went.
#[derive(Clone, Debug, Serialize)]
pub struct NodeOutcome {
    pub name: String,
    /// The first unit's key; `None` of what has no units, such as a model that is missing.
    pub key: Option<crate::plan::key::Key>,
    pub state: State,
    /// Why it ran, failed or was left.
    pub reason: String,
    pub seconds: f64,
    pub units: usize,
    /// How many of them this run made.
    pub made: usize,
    /// Which of the units are not in the store now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<usize>,
}

/// What became of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ran,
    Cached,
    /// Not in the cache, and nothing that was wanted asked for it.
    NotNeeded,
    Failed,
    /// Something that it needs failed.
    Blocked,
    /// The run was asked to stop; what was finished of it is kept.
    Interrupted,
}

/// The line at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub ran: usize,
    pub cached: usize,
    /// Failed and blocked nodes.
    pub failed: usize,
}

impl Outcome {
    /// Counts nodes by state.
    pub fn summary(&self) -> Summary {
        let count = |states: &[State]| self.nodes.iter().filter(|n| states.contains(&n.state)).count();
        Summary {
            ran: count(&[State::Ran]),
            cached: count(&[State::Cached]),
            failed: count(&[State::Failed, State::Blocked]),
        }
    }
}

/// Brings the `selected` nodes of `plan` up to date, with whatever they need.
pub fn run(
    resolved: &Resolved,
    plan: &Plan,
    store: &Store,
    past: &Past,
    selected: &Selection,
    options: Options<'_>,
    progress: &dyn Progress,
) -> Outcome {
    let mut run = Run {
        resolved,
        plan,
        store,
        progress,
        lane: Lane::new(resolved, options.verbose.then_some(progress)),
        present: present(plan, store),
        broken: HashSet::new(),
        waits_for: None,
        options,
    };
    warn(store, progress);
    let needed = needed(plan, selected, &run.present);
    if !needed.is_empty() {
        libtorch::load(); // where something was lost since it was asked whether there is anything to run
    }
    // All of them before anything is stored, so that no unit is compared with one of this run.
    let explainer = Explainer::new(plan, store, past);
    let reasons: HashMap<UnitId, Reason> = needed.iter().map(|&id| (id, explainer.reason(id))).collect();
    let chosen: HashSet<usize> = selected.nodes().into_iter().collect();
    let mut jobs: Vec<Job> = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let is_needed = |unit: &usize| needed.contains(&UnitId { node: index, unit: *unit });
        let missing: Vec<usize> = (0..node.units.len()).filter(is_needed).collect();
        if !missing.is_empty() || chosen.contains(&index) {
            let why = missing.iter().map(|&unit| reasons[&UnitId { node: index, unit }].clone());
            let why = explain::summary(&why.collect::<Vec<_>>(), node.units.len());
            let tally = Tally::default();
            jobs.push(Job { index, node, missing, why, made: 0, seconds: 0.0, tally, end: None });
        }
    }
    let mut nodes: Vec<NodeOutcome> = selected.absent.iter().map(|&it| left_out(&plan.absent[it])).collect();
    let stop = options.fail_fast && !nodes.is_empty();
    let interrupted = !stop && rounds(&mut run, &mut jobs);
    nodes.extend(jobs.into_iter().filter_map(|job| job.outcome(&run.present)));
    Outcome { nodes, interrupted }
}

/// The end of what the plan was made without.
fn left_out(absent: &Absent) -> NodeOutcome {
    NodeOutcome {
        name: absent.name.clone(),
        key: None,
        state: if absent.is_blocked() { State::Blocked } else { State::Failed },
        reason: absent.why.clone(),
        seconds: 0.0,
        units: 0,
        made: 0,
        absent: Vec::new(),
    }
}

/// Gives each node its turn until all have ended; more than one where other runs are making some of the units.
/// Returns whether it was asked to stop before that.
fn rounds(run: &mut Run, jobs: &mut [Job]) -> bool {
    let mut said = None;
    loop {
        let (mut open, mut moved) = (false, false);
        for job in jobs.iter_mut().filter(|job| job.end.is_none()) {
            let before = job.missing.len();
            run.turn(job);
            warn(run.store, run.progress);
            match &job.end {
                Some((State::Interrupted, _)) => return true,
                Some((State::Failed, _)) if run.options.fail_fast => return false,
                end => {
                    open |= end.is_none();
                    moved |= end.is_some() || job.missing.len() < before;
                }
            }
        }
        if !open {
            return false;
        }
        let waits_for = run.waits_for.take();
        if moved {
            continue;
        }
        if let Some((node, owner)) = waits_for {
            let owner = owner.map_or("another process".to_string(), |owner| owner.to_string());
            let line = format!("{node}: waiting for {owner}, which is making it");
            if said.as_ref() != Some(&line) {
                run.progress.note(&line);
                said = Some(line);
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Whether a run of the `selected` nodes has any unit to make.
///
/// Says what it finds odd on the way: the program may start again after this.
pub fn anything_to_run(plan: &Plan, store: &Store, selected: &Selection, progress: &dyn Progress) -> bool {
    let needed = needed(plan, selected, &present(plan, store));
    warn(store, progress);
    !needed.is_empty()
}

/// Says what the store set aside or found odd since it was last asked.
fn warn(store: &Store, progress: &dyn Progress) {
    for warning in store.take_warnings() {
        progress.note(&format!("warning: {warning}"));
    }
}

/// The units that are in the store, whole.
fn present(plan: &Plan, store: &Store) -> HashSet<UnitId> {
    let mut present = HashSet::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        for (unit, planned) in node.units.iter().enumerate() {
            if matches!(store.lookup(node.work.stage(), &planned.key), Ok(Lookup::Hit(_))) {
                present.insert(UnitId { node: index, unit });
            }
        }
    }
    present
}

/// The missing units that the selected nodes ask for, directly or through others. Activations are asked for only
/// by what is made of them: where the vectors are there, they need not be.
pub fn needed(plan: &Plan, selected: &Selection, present: &HashSet<UnitId>) -> HashSet<UnitId> {
    let wanted = |id: &UnitId| !(selected.report && plan.nodes[id.node].work.stage() == "activations");
    let mut open: Vec<UnitId> = selected.units.iter().copied().filter(wanted).collect();
    let mut needed = HashSet::new();
    while let Some(id) = open.pop() {
        if !present.contains(&id) && needed.insert(id) {
            open.extend(&plan.unit(id).inputs);
        }
    }
    needed
}
