//! `emoflow rm`: removes a node's results from the cache, so that the next run computes them again.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use super::cache::shown_bytes;
use super::{Prepared, Usage};
use crate::plan::key::Key;

/// Asks at the terminal; without a terminal, the answer is no.
fn asked(question: &str) -> Result<bool> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Lists what would be removed of the matching nodes, and removes it with `yes`.
///
/// # Errors
/// Nothing matches; a run is computing some of it; the files cannot be removed.
pub fn run(prepared: &Prepared, pattern: &str, yes: bool, out: &mut dyn Write) -> Result<u8> {
    let Prepared { plan, store, .. } = prepared;
    if pattern == "report" {
        return Err(Usage("the report is not in the cache: `emoflow report` renders it again".into()).into());
    }
    let selected = plan.select(&[pattern.to_string()])?;
    let units: Vec<(&str, Key)> =
        selected.units.iter().map(|id| (plan.nodes[id.node].work.stage(), plan.unit(*id).key)).collect();
    if let Some(owner) = units.iter().find_map(|(stage, key)| store.leased(stage, key)) {
        return Err(Usage(format!("{owner} is computing part of it now: stop that run first")).into());
    }
    let sweep = store.entries_of(&units)?;
    let bytes = shown_bytes(sweep.doomed.iter().map(|doomed| doomed.bytes).sum());
    for node in selected.nodes() {
        writeln!(out, "{}", plan.nodes[node].name())?;
    }
    let there = sweep.doomed.len();
    let yes = yes || there > 0 && asked(&format!("remove {there} entries, {bytes}?"))?;
    match (there, yes) {
        (0, _) => writeln!(out, "it has no results in the cache")?,
        (_, false) => writeln!(
            out,
            "would remove {there} entries, {bytes}; --yes removes them. Other experiments with the same inputs share them"
        )?,
        (_, true) => {
            store.sweep(&sweep)?;
            writeln!(out, "removed {there} entries, {bytes}; the next run computes them again")?;
        }
    }
    Ok(0)
}
