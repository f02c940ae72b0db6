//! `emoflow run`: brings the results up to date, on one device or several.

use std::collections::HashSet;
use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use super::show_plan::{self, Show};
use super::{Access, ExperimentArgs, MachineArgs, Prepared, Scope, Voice, prepare, room, worker};
use crate::execute::{self, Options, Outcome, Recruit};
use crate::explain::Past;
use crate::interrupt::{self, Interrupted};
use crate::lm::libtorch;
use crate::plan::{Selection, UnitId};
use crate::record::State;
use crate::results;

#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    scope: Scope,
    /// Stop at the first node that fails instead of continuing with nodes that do not depend on it
    #[arg(long, overrides_with = "keep_going")]
    fail_fast: bool,
    /// Continue with nodes that do not depend on a failed one (the default)
    #[arg(long)]
    keep_going: bool,
    /// Only show what would run, as `plan` does
    #[arg(long)]
    dry_run: bool,
    /// Start even if the disk cannot hold the results
    #[arg(long)]
    ignore_disk: bool,
    #[command(flatten)]
    voice: Voice,
}

pub fn run(args: RunArgs, out: &mut dyn Write) -> Result<u8> {
    let begun = Instant::now();
    let progress = args.voice.start();
    let access = if args.dry_run { Access::Look } else { Access::Write };
    let prepared = prepare(&args.experiment, &args.machine, &args.scope.limit, access, progress.as_ref())?;
    let selected = prepared.plan.select(&args.scope.only)?;
    if args.dry_run {
        prepared.say(progress.as_ref());
        let show = if args.voice.json { Show::Json } else { Show::Lines };
        show_plan::print(&prepared, &selected, show, out)?;
        return Ok(0);
    }
    // Before any output: this may restart the program.
    let present = execute::ready(&prepared.plan, &prepared.store, &selected, progress.as_ref());
    prepared.say(progress.as_ref());
    if let Some(why) = lacking(&prepared, &selected, &present) {
        ensure!(args.ignore_disk, why);
        progress.note(&format!("warning: {why}"));
    }
    let Prepared { resolved, plan, store, results, .. } = prepared;
    let beside = recruits(&args);
    if !args.voice.quiet {
        let mut line = format!("device: {} ({})", resolved.device.shown(), resolved.device.reason);
        for worker in &beside {
            line.push_str(&format!(", and {}", worker.name));
        }
        progress.note(&line);
        if args.voice.verbose {
            progress.note(&format!("libtorch: {}", libtorch::shown()));
        }
    }
    let past = Past::read(&results);
    // Freezes the plan: later edits of the experiment file do not affect this run.
    results::write_run((&resolved, &plan, &store), &results, &past, &Outcome::default(), begun.elapsed())?;
    worker::share_machine(1 + beside.len());
    let options = Options {
        fail_fast: args.fail_fast,
        verbose: args.voice.verbose,
        stopped: &interrupt::asked,
        place: (0, 1 + beside.len()),
        beside: &beside,
        present: Some(&present),
        ..Options::default()
    };
    let mut outcome = execute::run(&resolved, &plan, &store, &past, &selected, options, progress.as_ref());
    for node in outcome.nodes.iter().filter(|node| node.state == State::Ran) {
        let said = plan.node(&node.name).map(|at| execute::texts::said(&plan, &store, at)).transpose()?;
        said.filter(|said| !said.is_empty()).iter().for_each(|said| {
            progress.note(&format!("{}: {said}", node.name));
        });
    }
    // Not if another run has computed the missing units in the meantime: they are cached now, but not in `present`.
    let unchanged = execute::needed(&plan, &selected, &present).is_empty();
    if selected.report && !outcome.interrupted {
        let known = unchanged.then_some(&present);
        results::bring_up_to_date(
            (&resolved, &plan, &store),
            &results,
            known,
            &mut outcome,
            progress.as_ref(),
        );
    } else if !outcome.interrupted {
        results::write_selected(&resolved, &plan, &store, &results, &selected)?;
    }
    let past = if unchanged { past } else { Past::read(&results) };
    results::write_run((&resolved, &plan, &store), &results, &past, &outcome, begun.elapsed())?;
    if !args.voice.quiet && !outcome.interrupted {
        let page = results.join("report.html");
        let written = if selected.report && page.is_file() { page } else { results };
        progress.note(&format!("results: {}", written.display()));
    }
    print_summary(&outcome, args.voice.json, out)?;
    ensure!(!outcome.interrupted, Interrupted);
    Ok(u8::from(outcome.summary().failed > 0))
}

/// Why the disk cannot hold the output. `present`: the cached units.
fn lacking(prepared: &Prepared, selected: &Selection, present: &HashSet<UnitId>) -> Option<String> {
    let needed = execute::needed(&prepared.plan, selected, present);
    let cache = prepared.store.root();
    room::lacking(room::needed(prepared, &needed), room::free(cache), cache)
}

/// The additional workers: one for each device after the first.
fn recruits(args: &RunArgs) -> Vec<Recruit> {
    let devices: Vec<&str> = args.machine.device.split(',').map(str::trim).collect();
    let recruit = |at: usize| {
        let device = devices[at];
        let before = devices[..at].iter().filter(|other| **other == device).count();
        let name = if before > 0 { format!("{device}#{}", before + 1) } else { device.to_string() };
        Recruit {
            name,
            args: worker::args(
                &args.experiment,
                &args.machine,
                &args.scope,
                device,
                (at, devices.len()),
                [
                    (args.fail_fast, "--fail-fast"),
                    (args.voice.quiet, "--quiet"),
                    (args.voice.verbose, "--verbose"),
                ],
            ),
        }
    };
    (1..devices.len()).map(recruit).collect()
}

fn print_summary(outcome: &Outcome, json: bool, out: &mut dyn Write) -> Result<()> {
    let summary = outcome.summary();
    if json {
        writeln!(out, "{}", serde_json::to_string(&summary)?)?;
    } else {
        writeln!(out, "ran {}, cached {}, failed {}", summary.ran, summary.cached, summary.failed)?;
    }
    Ok(())
}
