//! `emoflow finish`: what remains once the workers have ended: units that need no model, the report, and the list of
//! what is missing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use super::worker::ensure_frozen;
use super::{Access, ExperimentArgs, MachineArgs, Prepared, Scope, prepare_for};
use crate::execute::{self, Made, Options, Part};
use crate::explain::Past;
use crate::interrupt::{self, Interrupted};
use crate::lm::device;
use crate::plan::UnitId;
use crate::progress::{self, Style};
use crate::record::{NodeOutcome, State};
use crate::results;

/// The exit code if something is missing: the command has not failed, but the run is incomplete.
pub const MISSING: u8 = 5;

#[derive(Args)]
pub struct FinishArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    scope: Scope,
    /// The frozen plan, where it is not the one of the last run
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// How progress is shown, on stderr
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    progress: Style,
}

pub fn run(args: FinishArgs, out: &mut dyn Write) -> Result<u8> {
    let begun = Instant::now();
    let progress = progress::start(args.progress);
    let (experiment, machine, limit) = (&args.experiment, &args.machine, &args.scope.limit);
    let elsewhere = &device::elsewhere;
    let prepared = prepare_for(elsewhere, experiment, machine, limit, Access::Write, progress.as_ref())?;
    ensure_frozen(&prepared, args.plan.as_deref())?;
    let selected = prepared.plan.select(&args.scope.only)?;
    let present = execute::ready(&prepared.plan, &prepared.store, &selected, progress.as_ref());
    let Prepared { resolved, plan, store, results, .. } = prepared;
    let past = Past::read(&results);
    // By node, including nodes that are not completed here because other workers compute the rest.
    let made = RefCell::new(BTreeMap::<usize, usize>::new());
    let told = |more: &Made| *made.borrow_mut().entry(more.node).or_default() += more.units.len();
    let options = Options {
        part: Part::NoModel,
        wait: false,
        stopped: &interrupt::asked,
        told: Some(&told),
        present: Some(&present),
        ..Options::default()
    };
    let mut outcome = execute::run(&resolved, &plan, &store, &past, &selected, options, progress.as_ref());
    // Also for a run that was stopped: the logs of all jobs together list what was computed.
    let made = made.into_inner();
    writeln!(out, "computed {} units", made.values().sum::<usize>())?;
    ensure!(!outcome.interrupted, Interrupted);
    let missing = execute::missing(&plan, &store, &selected);
    let mut lines = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let is_missing = |unit: &usize| missing.contains(&UnitId { node: index, unit: *unit });
        let absent: Vec<usize> = (0..node.units.len()).filter(is_missing).collect();
        let of = node.units.len();
        if !absent.is_empty() {
            lines.push(format!("{:<44} {} of {of}", node.name(), absent.len()));
        }
        let told = outcome.nodes.iter().any(|told| told.name == node.name());
        let whole = node.units.iter().all(|unit| store.contains(node.work.stage(), &unit.key));
        let (state, reason) = if whole { (State::Cached, "") } else { (State::Interrupted, "missing") };
        if !told && (whole || !absent.is_empty()) {
            let (name, key) = (node.name(), node.units.first().map(|unit| unit.key));
            let (reason, seconds) = (reason.to_string(), 0.0);
            let made = made.get(&index).copied().unwrap_or_default();
            outcome.nodes.push(NodeOutcome { name, key, state, reason, seconds, units: of, made, absent });
        }
    }
    let units = missing.len();
    outcome.interrupted = units > 0;
    if selected.report {
        results::bring_up_to_date(
            (&resolved, &plan, &store),
            &results,
            None,
            &mut outcome,
            progress.as_ref(),
        );
    }
    let past = Past::read(&results);
    results::write_run((&resolved, &plan, &store), &results, &past, &outcome, begun.elapsed())?;
    let failed = outcome.summary().failed;
    if units == 0 && failed > 0 {
        writeln!(out, "everything in the plan is computed; {failed} failed")?;
        return Ok(1);
    }
    if units == 0 {
        writeln!(out, "everything is there")?;
        return Ok(0);
    }
    writeln!(out, "missing, by node:")?;
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{units} units are missing: `emoflow submit` or `emoflow run` computes them")?;
    Ok(MISSING)
}
