//! The main loop: determines which units are missing and needed, and computes them in the plan's order. Depends on the
//! plan and the store; independent of what stages do.

mod across;
mod crew;
mod dispatch;
mod kept;
mod order;
pub mod texts;
mod work;
mod writer;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::explain::{self, Explainer, Past, Reason};
use crate::lm::{heap, libtorch};
use crate::plan::{Absent, Node, Plan, Selection, UnitId};
use crate::progress::Progress;
use crate::record::{NodeOutcome, State, Summary};
use crate::resolve::Resolved;
use crate::store::{Lookup, Store};
use crew::Crew;
pub use crew::{Made, Recruit};
use dispatch::Lane;
pub use dispatch::{NOT_CHECKED, NOT_JUDGED_OFFLINE, NOT_OFFLINE, provenance};
pub use order::models;
use work::{Job, Run};

/// How long a run that can only wait for another one sleeps before it checks again: a tenth of the time waited so far,
/// within these bounds.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(2)];

/// Number of consecutive checks without any process computing the awaited units after which a worker stops waiting;
/// long enough to cover the gap between two units of a process.
const LOOKS: usize = 15;

/// Options of a run.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Stop at the first node that fails.
    pub fail_fast: bool,
    /// Also report cached nodes and the loading of models.
    pub verbose: bool,
    /// Whether the run should stop after the current batch.
    pub stopped: &'a dyn Fn() -> bool,
    /// The part of the plan whose units are computed here.
    pub part: Part,
    /// Wait for units that other processes are computing, if something that depends on them remains to be computed.
    pub wait: bool,
    /// Index of this worker and number of workers of the run, so that workers start with different models.
    pub place: (usize, usize),
    /// Called for each group of units that was computed.
    pub told: Option<&'a dyn Fn(&Made)>,
    /// Workers to start in addition to this process.
    pub beside: &'a [Recruit],
    /// The units that are in the store, if already determined by [`ready`].
    pub present: Option<&'a HashSet<UnitId>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            fail_fast: false,
            verbose: false,
            stopped: &|| false,
            part: Part::All,
            wait: true,
            place: (0, 1),
            told: None,
            beside: &[],
            present: None,
        }
    }
}

/// The part of the plan that one worker computes; the rest is left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    /// Nodes that run on this model or depend on it, and their inputs that belong to no model. The model's index in
    /// `Resolved::models`.
    Model(usize),
    /// Nodes that run without a model.
    NoModel,
}

impl Part {
    /// Whether a node is in this part. `belongs`: the model that the node belongs to.
    fn has(self, node: &Node, belongs: Option<usize>) -> bool {
        match self {
            Part::All => true,
            Part::Model(model) => belongs.is_none_or(|of| of == model),
            Part::NoModel => node.model.is_none(),
        }
    }
}

/// The result of a run, node by node.
#[derive(Debug, Default)]
pub struct Outcome {
    pub nodes: Vec<NodeOutcome>,
    /// Whether it was asked to stop before it was complete.
    pub interrupted: bool,
    /// Number of units that were not computed because the run was asked to stop, or because their inputs are missing
    /// and no process is computing them.
    pub left: usize,
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

/// Brings the `selected` nodes of `plan` up to date, including everything they need.
pub fn run(
    resolved: &Resolved,
    plan: &Plan,
    store: &Store,
    past: &Past,
    selected: &Selection,
    options: Options<'_>,
    progress: &dyn Progress,
) -> Outcome {
    let crew = Crew::default();
    let mut run = Run {
        resolved,
        plan,
        store,
        progress,
        lane: Lane::new(resolved, options.verbose.then_some(progress)),
        crew: &crew,
        present: options.present.cloned().unwrap_or_else(|| present(plan, store)),
        broken: HashSet::new(),
        waits_for: None,
        options,
    };
    warn(store, progress);
    if run.options.verbose {
        for model in resolved.models.iter().filter(|model| !model.unread.is_empty()) {
            let fields = model.unread.join(", ");
            progress.note(&format!("{}: ignored fields of config.json: {fields}", model.name));
        }
    }
    if run.options.verbose {
        for model in &resolved.models {
            if let Some(note) = &model.tokenizer_note {
                progress.note(&format!("{}: {note}", model.name));
            }
        }
    }
    let models = order::models(plan);
    let is_ours = |node: usize| options.part.has(&plan.nodes[node], models[node]);
    let mut wanted = selected.clone();
    if let Part::Model(model) = options.part {
        wanted.units.retain(|id| models[id.node] == Some(model));
    }
    let needed = needed(plan, &wanted, &run.present);
    if !needed.is_empty() {
        heap::keep();
        libtorch::load(); // units may have been lost since `ready` checked
    }
    // Determined before anything is stored, so that no unit is compared with one of this run.
    let explainer = Explainer::new(plan, store, past);
    let reasons: HashMap<UnitId, Reason> = needed.iter().map(|&id| (id, explainer.reason(id))).collect();
    let chosen: HashSet<usize> = wanted.nodes().into_iter().collect();
    let mut jobs: Vec<Job> = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let is_needed = |unit: &usize| needed.contains(&UnitId { node: index, unit: *unit });
        let missing: Vec<usize> = (0..node.units.len()).filter(is_needed).collect();
        if !missing.is_empty() || chosen.contains(&index) {
            let why = missing.iter().map(|&unit| reasons[&UnitId { node: index, unit }].clone());
            let why = explain::summary(&why.collect::<Vec<_>>(), node.units.len());
            jobs.push(Job::new(index, node, is_ours(index), missing, why));
        }
    }
    let mut nodes: Vec<NodeOutcome> = selected.absent.iter().map(|&it| left_out(&plan.absent[it])).collect();
    let stop = options.fail_fast && !nodes.is_empty();
    let sections = order::sections(&jobs, &models, options.place);
    let interrupted = !stop
        && std::thread::scope(|scope| {
            if !needed.is_empty() {
                crew.start(options.beside, scope, progress);
            }
            let end = rounds(&mut run, &mut jobs, &sections);
            if end != End::Done {
                crew.stop();
            }
            end == End::Interrupted
        });
    if !options.beside.is_empty() {
        jobs.iter_mut().for_each(|job| run.settle(job));
    }
    let left = jobs.iter().filter(|job| job.ours && job.end.is_none()).map(|job| job.missing.len()).sum();
    nodes.extend(jobs.into_iter().filter(|job| job.ours).filter_map(|job| job.outcome(&run.present)));
    Outcome { nodes, interrupted, left }
}

/// The outcome of a part that is missing from the plan.
fn left_out(absent: &Absent) -> NodeOutcome {
    NodeOutcome {
        name: absent.subject.to_string(),
        key: None,
        state: if absent.is_blocked() { State::Blocked } else { State::Failed },
        reason: absent.why.clone(),
        seconds: 0.0,
        units: 0,
        made: 0,
        absent: Vec::new(),
    }
}

/// How the rounds ended.
#[derive(PartialEq)]
enum End {
    /// Everything that could be computed has been.
    Done,
    /// A node failed and no further work may start.
    Failed,
    /// The run was asked to stop.
    Interrupted,
}

/// Processes all nodes, section by section, until all have ended; in several rounds if other processes are computing
/// some of the units.
fn rounds<'a>(run: &mut Run<'a>, jobs: &mut [Job<'a>], sections: &[Range<usize>]) -> End {
    let mut said = None;
    let mut since = Instant::now();
    let mut looks = 0;
    loop {
        let (mut open, mut moved) = (false, false);
        let mut left = sections.to_vec();
        while let Some(section) = order::next(&mut left, jobs, run.store) {
            for job in jobs[section].iter_mut().filter(|job| job.end.is_none()) {
                let before = job.missing.len();
                run.turn(job);
                warn(run.store, run.progress);
                match &job.end {
                    Some((State::Interrupted, _)) => return End::Interrupted,
                    Some((State::Failed, _)) if run.options.fail_fast => return End::Failed,
                    end => {
                        open |= end.is_none() && job.ours;
                        moved |= end.is_some() || job.missing.len() < before;
                    }
                }
            }
        }
        if !open {
            return End::Done;
        }
        let waits_for = run.waits_for.take();
        if moved {
            (since, looks) = (Instant::now(), 0);
            continue;
        }
        looks = if waits_for.is_some() { 0 } else { looks + 1 };
        if !run.options.wait || looks > LOOKS {
            return End::Done;
        }
        if let Some((node, owner)) = waits_for {
            let name = owner.as_ref().and_then(|owner| run.crew.name(owner.process.pid));
            let owner =
                name.or(owner.map(|owner| owner.to_string())).unwrap_or("another process".to_string());
            let line = format!("{node}: waiting for {owner}, which is computing it");
            if said.as_ref() != Some(&line) {
                run.progress.note(&line);
                said = Some(line);
            }
        }
        let [least, most] = LOOK_AGAIN;
        std::thread::sleep(if looks > 0 { least } else { (since.elapsed() / 10).clamp(least, most) });
    }
}

/// The units that a run of the `selected` nodes would compute.
pub fn missing(plan: &Plan, store: &Store, selected: &Selection) -> HashSet<UnitId> {
    needed(plan, selected, &present(plan, store))
}

/// Loads libtorch if a run of the `selected` nodes has anything to compute, and returns the units that are in the
/// store.
///
/// Warnings are printed before libtorch is loaded, as that may restart the program.
pub fn ready(plan: &Plan, store: &Store, selected: &Selection, progress: &dyn Progress) -> HashSet<UnitId> {
    let present = present(plan, store);
    warn(store, progress);
    libtorch::load_if(|| !needed(plan, selected, &present).is_empty());
    present
}

/// Prints the store's new warnings.
fn warn(store: &Store, progress: &dyn Progress) {
    for warning in store.take_warnings() {
        progress.note(&format!("warning: {warning}"));
    }
}

/// The units that are complete in the store.
pub fn present(plan: &Plan, store: &Store) -> HashSet<UnitId> {
    plan.units_where(|node, unit| matches!(store.lookup(node.work.stage(), &unit.key), Ok(Lookup::Hit(_))))
}

/// The missing units that the selected nodes need, directly or indirectly. Activations are needed only by what is
/// computed from them: if the vectors exist, the activations need not.
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
