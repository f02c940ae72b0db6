//! `emoflow plan`: what would run, what is cached, and the estimated cost. Computes nothing.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::cache::shown_bytes;
use super::estimate::{Estimator, shown};
use super::graph::{Graph, Language};
use super::survey::{Standing, Survey};
use super::{Prepared, room};
use crate::execute;
use crate::explain::{Explainer, Past, summary};
use crate::plan::key::Key;
use crate::plan::{Absent, Node, Selection, UnitId, Work};
use crate::results;

#[derive(Serialize)]
struct PlannedNode {
    name: String,
    state: &'static str,
    units: usize,
    /// Number of units that would run.
    missing: usize,
    /// Why they would run or cannot; for cached texts, how many are skipped or missing.
    reason: String,
    /// Estimated time; `None`: no unit of the kind has been computed yet.
    seconds: Option<f64>,
    /// Estimated size on disk, for activations.
    bytes: u64,
    /// Finished batches of units that are not done.
    batches: usize,
    /// The processes that are computing units of it now.
    leased_by: Vec<String>,
    keys: Vec<Key>,
}

/// The state of parts that could not be planned.
pub const ABSENT: &str = "absent";

/// The output format of `plan`.
pub enum Show {
    Lines,
    Json,
    Graph(Language),
}

/// Prints what a run of `selected` would compute and what is cached. Returns whether there is anything to compute.
pub fn print(prepared: &Prepared, selected: &Selection, show: Show, out: &mut dyn Write) -> Result<bool> {
    let Prepared { resolved, plan, store, results, .. } = prepared;
    let survey = Survey::new(prepared, selected);
    let (key, current) = results::report_state((resolved, plan, store), &survey.present, results);
    let current = current && survey.needed.is_empty();
    let runs = !survey.needed.is_empty() || selected.report && !current || !selected.absent.is_empty();
    if let Show::Graph(language) = show {
        let ids = |node: usize| (0..plan.nodes[node].units.len()).map(move |unit| UnitId { node, unit });
        let there = |node| ids(node).filter(|id| survey.present.contains(id)).count();
        let graph = Graph::new(plan, |node| (there(node), survey.node(plan, node).1), current);
        write!(out, "{}", graph.render(language))?;
        return Ok(runs);
    }
    // Reasons are only needed for units that would run.
    let past = if survey.needed.is_empty() { Past::default() } else { Past::read(results) };
    let (explainer, estimator) = (Explainer::new(plan, store, &past), Estimator::new(store));
    let nodes = plan.nodes.iter().enumerate();
    let nodes: Vec<_> =
        nodes.map(|(index, node)| planned(index, node, &survey, prepared, &explainer, &estimator)).collect();
    let chosen: HashSet<usize> = selected.nodes().into_iter().collect();
    let in_run = |(index, node): &(usize, PlannedNode)| chosen.contains(index) || node.missing > 0;
    let mut nodes: Vec<_> = nodes.into_iter().enumerate().filter(in_run).map(|(_, node)| node).collect();
    let report = PlannedNode {
        name: "report".to_string(),
        state: if current { Standing::Cached } else { Standing::ToRun }.name(),
        units: 1,
        missing: usize::from(!current),
        reason: String::new(),
        seconds: Some(0.0),
        bytes: 0,
        batches: 0,
        leased_by: Vec::new(),
        keys: vec![key],
    };
    nodes.extend(selected.report.then_some(report));
    nodes.splice(0..0, selected.absent.iter().map(|&it| missing(&plan.absent[it])));
    if let Show::Json = show {
        writeln!(out, "{}", serde_json::to_string_pretty(&nodes)?)?;
        return Ok(runs);
    }
    for node in &nodes {
        writeln!(out, "{}", line(node).trim_end())?;
    }
    totals(&nodes, store.root(), out)?;
    Ok(runs)
}

/// The entry for a part that could not be planned.
fn missing(absent: &Absent) -> PlannedNode {
    PlannedNode {
        name: absent.subject.to_string(),
        state: ABSENT,
        units: 0,
        missing: 0,
        reason: absent.why.clone(),
        seconds: None,
        bytes: 0,
        batches: 0,
        leased_by: Vec::new(),
        keys: Vec::new(),
    }
}

fn planned(
    index: usize,
    node: &Node,
    survey: &Survey,
    prepared: &Prepared,
    explainer: &Explainer,
    estimator: &Estimator,
) -> PlannedNode {
    let plan = &prepared.plan;
    let (standing, missing) = survey.node(plan, index);
    let needed = (0..node.units.len()).filter(|&unit| survey.needed.contains(&UnitId { node: index, unit }));
    let needed: Vec<usize> = needed.collect();
    let reasons: Vec<_> = needed.iter().map(|&unit| explainer.reason(UnitId { node: index, unit })).collect();
    let reason = match standing {
        // Unreadable entries are ignored here; the nodes that need them report the error.
        Standing::Cached => execute::texts::said(plan, &prepared.store, index).unwrap_or_default(),
        Standing::Blocked => survey.obstacle(plan, index).unwrap_or_default().to_string(),
        _ => summary(&reasons, node.units.len()),
    };
    let emotions = prepared.resolved.experiment.emotions.len();
    let amount = match &node.work {
        Work::Analysis { analysis, .. } if missing > 0 => analysis.amount(emotions),
        Work::Rollouts { writing, .. } if missing > 0 => Some(writing.amount(emotions)),
        _ => None,
    };
    let reason =
        [reason].into_iter().filter(|said| !said.is_empty()).chain(amount).collect::<Vec<_>>().join("; ");
    let (store, stage) = (&prepared.store, node.work.stage());
    let keys = || needed.iter().map(|&unit| &node.units[unit].key);
    let mut leased_by: Vec<String> =
        keys().filter_map(|key| Some(store.leased(stage, key)?.to_string())).collect();
    leased_by.sort();
    leased_by.dedup();
    PlannedNode {
        name: node.name(),
        state: standing.name(),
        units: node.units.len(),
        missing,
        reason,
        seconds: needed.iter().map(|&unit| estimator.seconds(node, &node.units[unit])).sum(),
        bytes: room::needed(
            prepared,
            needed.iter().map(|&unit| UnitId { node: index, unit }).collect::<Vec<_>>().iter(),
        ),
        batches: keys().map(|key| store.kept_batches(stage, key)).sum(),
        leased_by,
        keys: node.units.iter().map(|unit| unit.key).collect(),
    }
}

/// One line per node: name, state, number of units, time, reason.
fn line(node: &PlannedNode) -> String {
    let of = match (node.units, node.missing) {
        (_, 0) => String::new(),
        (1, 1) => "1 unit".to_string(),
        (units, missing) => format!("{missing} of {units} units"),
    };
    let cost = match node.seconds {
        _ if node.missing == 0 || node.name == "report" => String::new(),
        Some(seconds) => format!("~{}", shown(seconds)),
        None => "unknown".to_string(),
    };
    let mut said = vec![node.reason.clone()];
    said.extend(
        (!node.leased_by.is_empty()).then(|| format!("{} is computing it", node.leased_by.join(", "))),
    );
    said.extend((node.batches > 0).then(|| format!("{} finished batches are stored", node.batches)));
    said.retain(|part| !part.is_empty());
    format!("{:<44} {:<10} {of:<16} {cost:<12} {}", node.name, node.state, said.join("; "))
}

fn totals(nodes: &[PlannedNode], cache: &Path, out: &mut dyn Write) -> Result<()> {
    let is = |standing: Standing| nodes.iter().filter(|n| n.state == standing.name()).count();
    let runs: Vec<_> = nodes.iter().filter(|n| n.missing > 0).collect();
    if !runs.is_empty() {
        let seconds: f64 = runs.iter().filter_map(|n| n.seconds).sum();
        let unknown = runs.iter().filter(|n| n.seconds.is_none()).count();
        let known = runs.len() - unknown;
        let units: usize = runs.iter().map(|n| n.missing).sum();
        let mut said = format!("{units} units");
        if known > unknown || seconds > 0.0 {
            said += &format!(", about {} judging by earlier ones", shown(seconds));
        }
        if unknown > 0 {
            said += &format!(", {unknown} nodes of unknown cost");
        }
        let bytes: u64 = runs.iter().map(|n| n.bytes).sum();
        let free = room::free(cache);
        if bytes > 0 {
            let left = free.map_or(String::new(), |free| format!(", of {} free", shown_bytes(free)));
            said += &format!(", {} of activations{left}", shown_bytes(bytes));
        }
        writeln!(out, "{said}")?;
        if let Some(why) = room::lacking(bytes, free, cache) {
            writeln!(out, "a run would not start: {why}")?;
        }
    }
    let absent = nodes.iter().filter(|n| n.state == ABSENT).count();
    let blocked = is(Standing::Blocked);
    let counted = |n: usize, what: &str| if n > 0 { format!("{n} {what}, ") } else { String::new() };
    let also = counted(absent, ABSENT) + &counted(blocked, "blocked");
    let left = nodes.len() - runs.len() - absent;
    writeln!(out, "{also}{} to run, {left} cached", runs.len() - blocked)?;
    Ok(())
}
