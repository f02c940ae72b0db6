//! `emoflow cache gc`: lists what no run needs any more and the cost of computing it again; with `--yes`, removes it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::{shown_bytes, shown_seconds};
use crate::cli::Usage;
use crate::plan::key::Key;
use crate::results::runs::{Past, Record};
use crate::store::{Doomed, Marks, Store, Sweep, Why};

/// The options of the command.
pub struct Options {
    pub yes: bool,
    /// Number of plans of each experiment that are kept, including the last one.
    pub keep_runs: usize,
    /// In bytes.
    pub max_size: Option<u64>,
    pub json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    removed: bool,
    /// Bytes of everything removable, and the seconds to compute its entries again.
    bytes: u64,
    seconds: f64,
    #[serde(flatten)]
    sweep: &'a Sweep,
}

/// Lists what can be removed; removes it with `yes`.
///
/// # Errors
/// No run is recorded, so that everything would be removed; the disk fails.
pub fn run(store: &Store, past: &[Past], options: &Options, out: &mut dyn Write) -> Result<u8> {
    let present: HashSet<Key> = store.contents()?.entries.into_iter().map(|place| place.key).collect();
    if past.is_empty() && !present.is_empty() {
        let why = "no run is recorded in the results folder, so it is not known what is needed: name the folder with \
             --results; to remove everything, remove the cache folder itself";
        return Err(Usage(why.to_string()).into());
    }
    let sweep = store.sweepable(&marks(past, options.keep_runs, &present), options.max_size)?;
    if options.yes {
        store.sweep(&sweep)?;
    }
    let bytes = sweep.doomed.iter().map(|doomed| doomed.bytes).sum();
    let seconds = sweep.doomed.iter().filter_map(|doomed| doomed.cost).map(|cost| cost.seconds).sum();
    let shown = Shown { removed: options.yes, bytes, seconds, sweep: &sweep };
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&shown)?)?;
    } else {
        print(&shown, options, out)?;
    }
    Ok(0)
}

/// What the runs still use. A plan whose units are all cached except for activations no longer needs its activations,
/// so they are not marked as needed.
fn marks(past: &[Past], keep_runs: usize, present: &HashSet<Key>) -> Marks {
    let mut marks = Marks::default();
    for experiment in past {
        let made = |(stage, keys): (&str, &[Key])| {
            stage == "activations" || keys.iter().all(|key| present.contains(key))
        };
        let is_made = experiment.last.nodes().all(made);
        for (stage, keys) in experiment.last.nodes() {
            let group = if is_made && stage == "activations" { &mut marks.wanted } else { &mut marks.needed };
            group.extend(keys);
        }
        let before = experiment.plans.iter().take(keep_runs);
        marks.wanted.extend(before.flat_map(Record::keys));
        for record in experiment.plans.iter().chain([&experiment.last]) {
            use_at(&mut marks.used, record);
        }
    }
    marks
}

fn use_at(used: &mut HashMap<Key, u64>, record: &Record) {
    for key in record.keys() {
        let at = used.entry(*key).or_default();
        *at = record.started.max(*at);
    }
}

fn print(shown: &Shown, options: &Options, out: &mut dyn Write) -> Result<()> {
    let mut groups: BTreeMap<(Why, &str), (usize, u64, f64)> = BTreeMap::new();
    for Doomed { why, bytes, cost, entry, .. } in &shown.sweep.doomed {
        let stage = entry.as_ref().map_or("", |place| place.stage.as_str());
        let (n, all_bytes, seconds) = groups.entry((*why, stage)).or_default();
        *n += 1;
        *all_bytes += bytes;
        *seconds += cost.map_or(0.0, |cost| cost.seconds);
    }
    for ((why, stage), (n, bytes, seconds)) in groups {
        let bytes = shown_bytes(bytes);
        let entries = || format!("{stage}: {n} entries, {bytes}, {} to recompute", shown_seconds(seconds));
        match why {
            Why::Unused => writeln!(out, "{}: needed by no recorded run", entries())?,
            Why::ForRoom => writeln!(out, "{}: to free space", entries())?,
            Why::Quarantine => writeln!(out, "quarantine: {n}, {bytes}: damaged, set aside")?,
            Why::LeftOver => writeln!(out, "unfinished: {n}, {bytes}: from interrupted runs")?,
            Why::Partial => {
                writeln!(out, "partial: {n}, {bytes}: batches of units that are complete or not needed")?
            }
        }
    }
    let Sweep { kept, kept_bytes, doomed } = shown.sweep;
    let stays = format!("{kept} entries of {} are kept", shown_bytes(*kept_bytes));
    let goes = format!("{}, {} to recompute", shown_bytes(shown.bytes), shown_seconds(shown.seconds));
    match (doomed.is_empty(), shown.removed) {
        (true, _) => writeln!(
            out,
            "nothing can be removed; {stays}: they are needed by an experiment's last run or one of the {} before it, \
             or are less than an hour old",
            options.keep_runs
        )?,
        (false, true) => writeln!(out, "removed {goes}; {stays}")?,
        (false, false) => writeln!(out, "would remove {goes}; {stays}; --yes removes")?,
    }
    if options.max_size.is_some_and(|size| *kept_bytes > size) {
        writeln!(out, "more is kept than requested: the last runs need it, or it is less than an hour old")?;
    }
    Ok(())
}
