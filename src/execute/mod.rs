//! The loop: finds out which units are missing and needed, and runs them in the plan's order. Knows the plan and
//! the store, not what a stage does.

mod dispatch;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::explain::{self, Explainer, Past, Reason};
use crate::plan::{Node, Plan, Selection, UnitId};
use crate::progress::Progress;
use crate::resolve::Resolved;
use crate::store::{Lookup, Store};
use dispatch::Lane;
pub use dispatch::provenance;

/// What the command line asks of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stop at the first node that fails.
    pub fail_fast: bool,
    /// Also say what is cached.
    pub verbose: bool,
}

/// How a run went, node by node.
#[derive(Debug, Default)]
pub struct Outcome {
    pub nodes: Vec<NodeOutcome>,
}

/// How one node went.
#[derive(Clone, Debug, Serialize)]
pub struct NodeOutcome {
    pub name: String,
    /// The first unit's key; `None` for the report before it is written.
    pub key: Option<crate::plan::key::Key>,
    pub state: State,
    /// Why it ran, failed or was left.
    pub reason: String,
    pub seconds: f64,
    pub units: usize,
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
    options: Options,
    progress: &dyn Progress,
) -> Outcome {
    let mut run = Run {
        resolved,
        plan,
        store,
        progress,
        lane: Lane::new(resolved),
        present: present(plan, store),
        broken: HashSet::new(),
        verbose: options.verbose,
    };
    warn(store, progress);
    let needed = needed(plan, selected, &run.present);
    // All of them before anything is stored, so that no unit is compared with one of this run.
    let explainer = Explainer::new(plan, store, past);
    let reasons: HashMap<UnitId, Reason> = needed.iter().map(|&id| (id, explainer.reason(id))).collect();
    let chosen: HashSet<usize> = selected.nodes().into_iter().collect();
    let mut outcome = Outcome::default();
    for (index, node) in plan.nodes.iter().enumerate() {
        let missing: Vec<usize> =
            (0..node.units.len()).filter(|&unit| needed.contains(&UnitId { node: index, unit })).collect();
        if missing.is_empty() && !chosen.contains(&index) {
            continue;
        }
        let why = missing.iter().map(|&unit| reasons[&UnitId { node: index, unit }].clone());
        let why = explain::summary(&why.collect::<Vec<_>>(), node.units.len());
        let mut done = run.node(index, node, &missing, why);
        let is_absent = |&unit: &usize| !run.present.contains(&UnitId { node: index, unit });
        done.absent = (0..node.units.len()).filter(is_absent).collect();
        warn(store, progress);
        let failed = done.state == State::Failed;
        outcome.nodes.push(done);
        if failed && options.fail_fast {
            break;
        }
    }
    outcome
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

struct Run<'a> {
    resolved: &'a Resolved,
    plan: &'a Plan,
    store: &'a Store,
    progress: &'a dyn Progress,
    lane: Lane<'a>,
    present: HashSet<UnitId>,
    /// Units that failed, or that something failed for.
    broken: HashSet<UnitId>,
    verbose: bool,
}

impl Run<'_> {
    /// Runs the `missing` units of a node; `why` they are.
    fn node(&mut self, index: usize, node: &Node, missing: &[usize], why: String) -> NodeOutcome {
        let mut done = NodeOutcome {
            name: node.name.clone(),
            key: node.units.first().map(|u| u.key),
            state: State::Cached,
            reason: String::new(),
            seconds: 0.0,
            units: node.units.len(),
            absent: Vec::new(),
        };
        let blocking =
            missing.iter().flat_map(|&u| &node.units[u].inputs).find(|id| self.broken.contains(id));
        if let Some(id) = blocking {
            done.state = State::Blocked;
            done.reason = format!("needs {}", self.plan.nodes[id.node].name);
            self.progress.note(&format!("{}: blocked: {}", node.name, done.reason));
            self.broken.extend(missing.iter().map(|&unit| UnitId { node: index, unit }));
            return done;
        }
        if missing.is_empty() {
            let mut said = "cached";
            if (0..node.units.len()).any(|unit| !self.present.contains(&UnitId { node: index, unit })) {
                done.state = State::NotNeeded;
                done.reason = "nothing asks for it".to_string();
                said = "not needed: nothing asks for it";
            }
            if self.verbose {
                self.progress.note(&format!("{}: {said}", node.name));
            }
            return done;
        }
        let fetched = node.model.map_or(Ok(()), |model| self.resolved.models[model].fetch(self.progress));
        let begun = Instant::now();
        let result = fetched.and_then(|()| self.units(index, node, missing));
        done.seconds = begun.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                done.state = State::Ran;
                done.reason = why;
                self.progress.end(&format!("done in {:.1} s ({})", done.seconds, done.reason));
            }
            Err(error) => {
                done.state = State::Failed;
                done.reason = format!("{error:#}");
                self.progress.end("FAILED");
                self.progress.note(&format!("error: {}: {error:#}", node.name));
                let left = (0..node.units.len()).map(|unit| UnitId { node: index, unit });
                self.broken.extend(left.filter(|id| !self.present.contains(id)));
            }
        }
        done
    }

    fn units(&mut self, index: usize, node: &Node, missing: &[usize]) -> Result<()> {
        let groups = groups(node, missing);
        let pieces: usize = groups.iter().map(|g| dispatch::pieces(node, g)).sum();
        self.progress.begin(&node.name, pieces, dispatch::piece(node));
        let mut before = 0;
        for group in groups {
            let progress = self.progress;
            let share = dispatch::pieces(node, &group);
            let mut at = |done: usize, of: usize| progress.at(before + done * share / of.max(1));
            // A panic of libtorch (out of memory, or a bug) fails this node and what depends on it, nothing else.
            let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
                self.lane.run(self.plan, self.store, node, &group, &mut at)
            }));
            ran.unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", message(&*panic))))?;
            before += share;
            progress.at(before);
            self.present.extend(group.iter().map(|&unit| UnitId { node: index, unit }));
        }
        Ok(())
    }
}

/// Units that are done together: the layers of one shard come from one pass.
fn groups(node: &Node, missing: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &unit in missing {
        let shard = &node.units[unit].stories;
        match groups.last_mut() {
            Some(group) if !shard.is_empty() && node.units[group[0]].stories == *shard => group.push(unit),
            _ => groups.push(vec![unit]),
        }
    }
    groups
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
    text.unwrap_or_else(|| "a stage panicked".to_string())
}
