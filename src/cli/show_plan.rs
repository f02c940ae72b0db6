//! `emoflow plan`: what would run and what is cached. Runs nothing.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::Prepared;
use crate::plan;
use crate::results;

#[derive(Serialize)]
struct PlannedNode<'a> {
    name: &'a str,
    state: &'static str,
    units: usize,
    missing: usize,
    keys: Vec<plan::key::Key>,
}

/// Prints what would run and what is cached.
pub fn print(prepared: &Prepared, json: bool, out: &mut dyn Write) -> Result<()> {
    let Prepared { resolved, plan, store, results } = prepared;
    let present =
        |node: &plan::Node| node.units.iter().filter(|u| store.contains(node.work.stage(), &u.key)).count();
    let nodes = plan.nodes.iter().map(|node| {
        let units = node.units.len();
        let missing = units - present(node);
        let state = match missing {
            0 => "cached",
            m if m == units => "to run",
            _ => "partial",
        };
        PlannedNode {
            name: &node.name,
            state,
            units,
            missing,
            keys: node.units.iter().map(|u| u.key).collect(),
        }
    });
    let mut nodes: Vec<_> = nodes.collect();
    let (key, current) = results::report_state(resolved, plan, store, results);
    let state = if current { "cached" } else { "to run" };
    nodes.push(PlannedNode {
        name: "report",
        state,
        units: 1,
        missing: usize::from(!current),
        keys: vec![key],
    });
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        return Ok(());
    }
    for node in &nodes {
        let of =
            if node.units == 1 { String::new() } else { format!("{} of {} units", node.missing, node.units) };
        writeln!(out, "{}", format!("{:<44} {:<8} {of}", node.name, node.state).trim_end())?;
    }
    let missing = nodes.iter().filter(|n| n.missing > 0).count();
    writeln!(out, "{missing} to run, {} cached", nodes.len() - missing)?;
    Ok(())
}
