//! Processes one node in a run: determines which units can be computed now, takes their leases and records the outcome.
//! Handles the store's leases; independent of the order of nodes and of what stages do.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Options;
use super::crew::{Crew, Made};
use super::dispatch::{self, Lane};
use super::kept::Around;
use super::writer::{self, Stored, Writer};
use crate::interrupt::Interrupted;
use crate::lm::shortage::Shortage;
use crate::plan::{Node, Plan, UnitId, Work};
use crate::progress::Progress;
use crate::record::{NodeOutcome, State};
use crate::resolve::Resolved;
use crate::secrets::masked;
use crate::stages::batches::Tally;
use crate::store::{Lease, Leased, Lookup, Owner, Store};

/// A node of the run and its progress.
pub struct Job<'a> {
    pub index: usize,
    pub node: &'a Node,
    /// Whether this run computes its units, rather than waiting for them.
    pub ours: bool,
    /// Units that are needed and missing.
    pub missing: Vec<usize>,
    /// Why they are missing.
    pub why: String,
    /// Number of units that this run computed.
    pub made: usize,
    pub seconds: f64,
    /// Requests to servers.
    pub tally: Tally,
    /// `None` until it has ended.
    pub end: Option<(State, String)>,
}

impl<'a> Job<'a> {
    /// A job that has not started.
    pub fn new(index: usize, node: &'a Node, ours: bool, missing: Vec<usize>, why: String) -> Job<'a> {
        let tally = Tally::default();
        Job { index, node, ours, missing, why, made: 0, seconds: 0.0, tally, end: None }
    }

    /// The outcome, once it has ended.
    pub fn outcome(self, present: &HashSet<UnitId>) -> Option<NodeOutcome> {
        let absent = (0..self.node.units.len()).filter(|&unit| !present.contains(&self.id(unit))).collect();
        let (state, reason) = self.end?;
        Some(NodeOutcome {
            name: self.node.name(),
            key: self.node.units.first().map(|u| u.key),
            state,
            reason,
            seconds: self.seconds,
            units: self.node.units.len(),
            made: self.made,
            absent,
        })
    }

    fn id(&self, unit: usize) -> UnitId {
        UnitId { node: self.index, unit }
    }
}

/// State shared by all nodes of a run.
pub struct Run<'a> {
    pub resolved: &'a Resolved,
    pub plan: &'a Plan,
    pub store: &'a Store,
    pub progress: &'a dyn Progress,
    pub lane: Lane<'a>,
    /// Other workers on the same plan.
    pub crew: &'a Crew,
    /// Units that are in the store.
    pub present: HashSet<UnitId>,
    /// Units that failed, or whose inputs failed.
    pub broken: HashSet<UnitId>,
    /// The last node that was left to another run, with the owner of its lease.
    pub waits_for: Option<(String, Option<Owner>)>,
    pub options: Options<'a>,
}

impl<'a> Run<'a> {
    /// Computes the units of a node that can be computed now. Units that another run is computing are left for a later
    /// turn.
    pub fn turn(&mut self, job: &mut Job<'a>) {
        let node = job.node;
        if !job.ours {
            return self.look(job);
        }
        let inputs = job.missing.iter().flat_map(|&u| &node.units[u].inputs);
        if let Some(id) = inputs.clone().find(|id| self.broken.contains(id)) {
            let reason = format!("needs {}", self.plan.nodes[id.node].name());
            self.progress.note(&format!("{}: blocked: {reason}", node.name()));
            self.broken.extend(job.missing.iter().map(|&unit| job.id(unit)));
            job.end = Some((State::Blocked, reason));
            return;
        }
        if job.missing.is_empty() {
            let all = (0..node.units.len()).all(|unit| self.present.contains(&job.id(unit)));
            let (state, reason, said) = match all {
                true => (State::Cached, "", "cached"),
                false => (State::NotNeeded, "nothing asks for it", "not needed"),
            };
            if self.options.verbose {
                self.progress.note(&format!("{}: {said}", node.name()));
            }
            job.end = Some((state, reason.to_string()));
            return;
        }
        let begun = Instant::now();
        let mut shown = false;
        let result = self.units(job, &mut shown);
        if shown {
            job.seconds += begun.elapsed().as_secs_f64();
        }
        let said = match result {
            Ok(()) if !job.missing.is_empty() => {
                "the remaining units are deferred: another run is computing them".to_string()
            }
            Ok(()) => {
                let reason = if job.made > 0 { job.why.clone() } else { "made by another run".to_string() };
                let mut said = format!("done in {:.1} s ({reason})", job.seconds);
                if job.tally != Tally::default() {
                    said.push_str(&format!("; {}", job.tally));
                }
                job.end = Some((if job.made > 0 { State::Ran } else { State::Cached }, reason));
                said
            }
            Err(error) if error.is::<Interrupted>() => {
                job.end = Some((State::Interrupted, "asked to stop".to_string()));
                "interrupted".to_string()
            }
            Err(error) => {
                self.broken.extend(job.missing.iter().map(|&unit| job.id(unit)));
                self.progress.note(&format!("error: {}: {error:#}", node.name()));
                // A server's message may contain the API key that it was sent, and this is written to run.json.
                job.end = Some((State::Failed, masked(&format!("{error:#}")).into_owned()));
                "FAILED".to_string()
            }
        };
        if shown {
            self.progress.end(&said);
        }
    }

    /// Checks which units of a node that others compute are available now.
    fn look(&mut self, job: &mut Job) {
        let stage = job.node.work.stage();
        let is_there = |unit: &usize| self.store.contains(stage, &job.node.units[*unit].key);
        let there: Vec<usize> = job.missing.iter().copied().filter(is_there).collect();
        self.found(job, &there);
        let mut owners = job.missing.iter().map(|&unit| self.store.leased(stage, &job.node.units[unit].key));
        if job.missing.is_empty() {
            job.end = Some((State::Cached, "made by another run".to_string()));
        } else if let Some(owner) = owners.find(Option::is_some) {
            self.waits_for = Some((job.node.name(), owner));
        }
    }

    /// Adds to a job the units that the other workers computed; units that failed here may be available then.
    pub fn settle(&mut self, job: &mut Job) {
        let (made, seconds) = self.crew.share(job.index);
        if made == 0 {
            return;
        }
        job.made += made;
        job.seconds += seconds;
        let stage = job.node.work.stage();
        let is_there = |unit: &usize| self.store.contains(stage, &job.node.units[*unit].key);
        let there: Vec<usize> = job.missing.iter().copied().filter(is_there).collect();
        self.found(job, &there);
        if job.missing.is_empty() {
            job.end = Some((State::Ran, job.why.clone()));
        }
    }

    /// Computes the missing units whose inputs are available and that no other run is computing. `shown` becomes true
    /// if there is one. All units that were computed are stored when this returns, even on errors.
    fn units(&mut self, job: &mut Job<'a>, shown: &mut bool) -> Result<()> {
        ensure!(!(self.options.stopped)(), Interrupted);
        std::thread::scope(|scope| {
            let writer = Writer::start(scope);
            let ran = self.groups(job, shown, &writer);
            let (stored, written) = writer.end();
            self.made(job, stored);
            written.and(ran)
        })
    }

    fn groups<'w>(&mut self, job: &mut Job<'a>, shown: &mut bool, writer: &Writer<'w>) -> Result<()>
    where
        'a: 'w,
    {
        let node = job.node;
        let is_ready = |unit: &usize| node.units[*unit].inputs.iter().all(|id| self.present.contains(id));
        let ready: Vec<usize> = job.missing.iter().copied().filter(is_ready).collect();
        let groups = groups(node, &ready);
        let pieces: usize = groups.iter().map(|g| dispatch::pieces(node, g)).sum();
        let mut before = 0;
        for (place, group) in groups.iter().enumerate() {
            ensure!(!(self.options.stopped)(), Interrupted);
            let share = dispatch::pieces(node, group);
            let (mine, leases) = self.take(job, group)?;
            if !mine.is_empty() {
                if !std::mem::replace(shown, true) {
                    if let Some(model) = node.model {
                        self.resolved.models[model].fetch(self.progress)?;
                    }
                    self.progress.begin(&node.name(), pieces, dispatch::piece(node));
                    self.progress.at(before as f64);
                }
                let (progress, crew, index) = (self.progress, self.crew, job.index);
                // Progress of the other workers on the groups that are still to come.
                let beside = || -> usize {
                    let made = |group: &&Vec<usize>| crew.made(UnitId { node: index, unit: group[0] });
                    groups[place + 1..].iter().filter(made).map(|group| dispatch::pieces(node, group)).sum()
                };
                let mut at = |done: usize, of: usize| {
                    let inside = done as f64 * share as f64 / of.max(1) as f64;
                    progress.at((before + beside()) as f64 + inside);
                };
                let note = |line: &str| progress.note(&format!("{}: {line}", node.name()));
                let around =
                    Around { stopped: self.options.stopped, at: &mut at, note: &note, tally: &mut job.tally };
                let next = groups.get(place + 1).map(|group| &node.units[group[0]]);
                // A panic of libtorch (out of memory, or a bug) fails only this node and those that depend on it.
                let ran = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    self.lane.run(self.plan, self.store, node, mine, next, leases, around, writer)
                }));
                ran.unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", message(&*panic))))?;
                self.made(job, writer.stored());
            }
            before += share;
            if *shown {
                self.progress.at(before as f64);
            }
        }
        Ok(())
    }

    fn made(&mut self, job: &mut Job, stored: Vec<Stored>) {
        for Stored { units, seconds } in stored {
            job.made += units.len();
            self.found(job, &units);
            if let Some(told) = self.options.told {
                told(&Made { node: job.index, units, seconds });
            }
        }
    }

    /// Takes the leases of `units`. Returns the units that this run is to compute, without those that another process
    /// is computing or that have been stored since the run began.
    fn take(&mut self, job: &mut Job, units: &[usize]) -> Result<(Vec<usize>, Vec<Lease>)> {
        let (mut mine, mut leases, mut there) = (Vec::new(), Vec::new(), Vec::new());
        for &unit in units {
            let (stage, key) = (job.node.work.stage(), &job.node.units[unit].key);
            let lease = match self.store.lease(stage, key)? {
                Leased::Mine(lease) => lease,
                Leased::Other(owner) => {
                    self.waits_for = Some((job.node.name(), owner));
                    // The process that computes the first unit of a group also computes the others.
                    if mine.is_empty() {
                        break;
                    }
                    continue;
                }
            };
            // Looked up while holding the lease: its previous owner may have computed the unit.
            match self.store.lookup(stage, key)? {
                Lookup::Hit(_) => there.push(unit),
                Lookup::Miss(_) => {
                    mine.push(unit);
                    leases.push(lease);
                }
            }
        }
        self.found(job, &there);
        Ok((mine, leases))
    }

    fn found(&mut self, job: &mut Job, units: &[usize]) {
        self.present.extend(units.iter().map(|&unit| job.id(unit)));
        job.missing.retain(|unit| !units.contains(unit));
    }
}

/// Number of shards per reading of a file, as each reading begins at the file's first row.
const SHARDS_READ: usize = 64;

/// Groups units that are computed together: the layers of one shard come from one forward pass, and shards of a file
/// from one reading.
fn groups(node: &Node, missing: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &unit in missing {
        let shard = &node.units[unit].stories;
        match groups.last_mut() {
            Some(group)
                if node.units[unit].layer.is_some()
                    && !shard.is_empty()
                    && node.units[group[0]].stories == *shard =>
            {
                group.push(unit);
            }
            Some(group)
                if matches!(node.work, Work::File(_) | Work::Texts(_)) && group.len() < SHARDS_READ =>
            {
                group.push(unit);
            }
            _ => groups.push(vec![unit]),
        }
    }
    groups
}

/// The reason for a node's failure by a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    Shortage::of(panic).map_or_else(|| writer::said(panic), |shortage| shortage.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says() {
        let said = |text: &str| message(&*Box::new(text.to_string()));
        assert!(said("MPS backend out of memory (MPS allocated: 18.00 GB)").contains("batch_tokens"));
        assert_eq!(said("index out of bounds"), "index out of bounds");
        assert_eq!(message(&*Box::new(7)), "a stage panicked");
    }
}
