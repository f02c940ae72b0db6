//! `emoflow explain`: why a node runs or is cached. Computes nothing.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use super::Prepared;
use super::show_plan::ABSENT;
use super::survey::{Standing, Survey};
use crate::explain::{Cause, Explainer, Past, Reason, place, summary};
use crate::plan::key::Key;
use crate::plan::{Absent, UnitId};
use crate::results;
use crate::store::Condition;

#[derive(Serialize)]
struct Explained {
    name: String,
    state: &'static str,
    /// As printed by `run`.
    reason: String,
    units: Vec<ExplainedUnit>,
}

#[derive(Serialize)]
struct ExplainedUnit {
    key: Key,
    /// Its shard and layer, in readable form.
    place: String,
    state: &'static str,
    /// For missing units only.
    reason: Option<Reason>,
    said: String,
}

/// Prints why the nodes that match `pattern` run or are cached.
///
/// # Errors
/// No node matches ([`Nothing`](crate::plan::Nothing)); `out` cannot be written.
pub fn print(prepared: &Prepared, pattern: &str, json: bool, out: &mut dyn Write) -> Result<()> {
    let Prepared { resolved, plan, store, results, .. } = prepared;
    let past = Past::read(results);
    let explainer = Explainer::new(plan, store, &past);
    let survey = Survey::new(prepared, &plan.select(&[])?);
    let mut explained: Vec<Explained> = Vec::new();
    if pattern == "report" {
        let (key, current) = results::report_state((resolved, plan, store), &survey.present, results);
        explained.push(report(prepared, &survey, key, current));
    } else {
        let selected = plan.select(&[pattern.to_string()])?;
        explained.extend(selected.absent.iter().map(|&it| {
            let Absent { subject, why, .. } = plan.absent[it].clone();
            Explained { name: subject.to_string(), state: ABSENT, reason: why, units: Vec::new() }
        }));
        let nodes = selected.nodes();
        explained.extend(nodes.into_iter().map(|node| node_explained(prepared, &survey, &explainer, node)));
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?;
        return Ok(());
    }
    for node in &explained {
        show(node, out)?;
    }
    Ok(())
}

fn node_explained(prepared: &Prepared, survey: &Survey, explainer: &Explainer, index: usize) -> Explained {
    let Prepared { plan, store, .. } = prepared;
    let node = &plan.nodes[index];
    let (standing, _) = survey.node(plan, index);
    let mut reasons = Vec::new();
    let mut units = Vec::new();
    for (unit, it) in node.units.iter().enumerate() {
        let id = UnitId { node: index, unit };
        let (state, reason, said) = if survey.present.contains(&id) {
            let said = match store.condition(node.work.stage(), &it.key) {
                Condition::Whole(manifest) => format!("stored, took {:.1} s", manifest.cost.seconds),
                _ => "stored".to_string(),
            };
            ("cached", None, said)
        } else {
            let reason = explainer.reason(id);
            let said = reason.to_string();
            if survey.needed.contains(&id) {
                reasons.push(reason.clone());
            }
            (if survey.needed.contains(&id) { "to run" } else { "not needed" }, Some(reason), said)
        };
        units.push(ExplainedUnit { key: it.key, place: place(node, unit), state, reason, said });
    }
    let reason = match standing {
        Standing::Cached => "every unit is stored under its key".to_string(),
        Standing::NotNeeded => "it is not stored, and no missing result needs it".to_string(),
        Standing::Blocked => {
            let obstacle = survey.obstacle(plan, index).unwrap_or_default();
            format!("{}; cannot be computed: {obstacle}", summary(&reasons, node.units.len()))
        }
        Standing::Partial | Standing::ToRun => summary(&reasons, node.units.len()),
    };
    Explained { name: node.name(), state: standing.name(), reason, units }
}

/// The report is not an artifact: it is written again if it does not show the current contents of the store.
fn report(prepared: &Prepared, survey: &Survey, key: Key, current: bool) -> Explained {
    let Prepared { plan, results, .. } = prepared;
    let runs = (0..plan.nodes.len()).filter(|&node| survey.node(plan, node).1 > 0);
    let runs: Vec<String> = runs.map(|node| plan.nodes[node].name()).collect();
    let (standing, said) = match runs.as_slice() {
        [] if current => (Standing::Cached, "it shows what is stored".to_string()),
        [] if !results.join("report.html").exists() => (Standing::ToRun, "new".to_string()),
        [] => (
            Standing::ToRun,
            "it does not show what is stored now, or one of its files is missing".to_string(),
        ),
        [one] => (Standing::ToRun, format!("input {one} will be computed")),
        [first, rest @ ..] => {
            (Standing::ToRun, format!("input {first} and {} more will be computed", rest.len()))
        }
    };
    let state = standing.name();
    let unit = ExplainedUnit { key, place: String::new(), state, reason: None, said: said.clone() };
    Explained { name: "report".to_string(), state, reason: said, units: vec![unit] }
}

/// A node as text: units with the same state are grouped, and each chain of causes is indented.
fn show(node: &Explained, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}: {}: {}", node.name, node.state, node.reason)?;
    let mut alike: Vec<(&ExplainedUnit, Vec<&str>)> = Vec::new();
    for unit in &node.units {
        let same = |other: &ExplainedUnit| other.state == unit.state && other.said == unit.said;
        match alike.iter_mut().find(|(other, _)| other.reason.is_some() && same(other)) {
            Some((_, places)) => places.push(&unit.place),
            None => alike.push((unit, vec![&unit.place])),
        }
    }
    for (unit, places) in alike {
        let Some(Reason::Changed { against, causes }) = &unit.reason else { continue };
        let which = match places.as_slice() {
            [""] => "compared".to_string(),
            [one] => format!("{one}, compared"),
            [first, .., last] => format!("{} units, {first} to {last}, compared", places.len()),
            [] => continue,
        };
        writeln!(out, "  {which} with {}:", against.short())?;
        ladder(causes, 2, out)?;
    }
    Ok(())
}

fn ladder(causes: &[Cause], depth: usize, out: &mut dyn Write) -> Result<()> {
    /// The most causes shown at each level; `--json` has all.
    const SHOWN: usize = 8;
    let indent = "  ".repeat(depth);
    for cause in causes.iter().take(SHOWN) {
        match cause {
            Cause::Input { node, causes } if !causes.is_empty() => {
                writeln!(out, "{indent}input {node} changed:")?;
                ladder(causes, depth + 1, out)?;
            }
            cause => writeln!(out, "{indent}{cause}")?,
        }
    }
    if causes.len() > SHOWN {
        writeln!(out, "{indent}and {} more", causes.len() - SHOWN)?;
    }
    Ok(())
}
