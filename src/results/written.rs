//! The files of single nodes in a results folder: writing them, and checking whether they exist.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;

use super::{
    Analysed, Shown, append, json_lines, metadata, replace, stories, to_parquet, vectors_file, write_table,
};
use crate::plan::{Node, Plan, Selection, Work};
use crate::record::{Run, State};
use crate::resolve::Resolved;
use crate::store::Store;

/// Writes stories, vectors and the tables of `analyses` for the nodes that are `wanted` and complete.
pub(super) fn write(
    shown: &Shown,
    analyses: &[Analysed],
    dir: &Path,
    wanted: &dyn Fn(&Node) -> bool,
) -> Result<()> {
    let of_name = |parts: &'_ [Analysed]| -> Vec<&Node> {
        let is_of =
            |node: &&Node| matches!(&node.work, Work::Analysis { name, .. } if *name == parts[0].name);
        shown.plan.nodes.iter().filter(is_of).collect()
    };
    let named = analyses.chunk_by(|a, b| a.name == b.name).map(|parts| (parts, of_name(parts)));
    let named = named.filter(|(_, nodes)| nodes.iter().any(|node| wanted(node)));
    let named: Vec<_> = named.map(|(parts, nodes)| (parts, metadata(shown.resolved, nodes))).collect();
    named.par_iter().try_for_each(|(parts, metadata)| tables(parts, metadata, dir))?;
    for node in shown.plan.nodes.iter().filter(|node| wanted(node)) {
        let Work::Vectors { set, .. } = &node.work else { continue };
        if set.is_check {
            continue;
        }
        let Some(table) = shown.whole(node)? else { continue };
        let bytes = to_parquet(&table, &metadata(shown.resolved, [node]))?;
        replace(&vectors_file(dir, set), &bytes)?;
    }
    stories::write(shown, dir, wanted)
}

/// Writes the tables of an analysis, which has `parts` for several sets of vectors.
fn tables(parts: &[Analysed], metadata: &[(String, String)], dir: &Path) -> Result<()> {
    let name = &parts[0].name;
    let mut tables = Vec::new();
    for (table_name, table) in parts.iter().flat_map(|part| &part.tables) {
        append(&mut tables, table_name, table.clone())?;
    }
    for (index, (table_name, table)) in tables.iter().enumerate() {
        let stem = if index == 0 { name.clone() } else { format!("{name}.{table_name}") };
        let stem = dir.join("tables").join(stem);
        write_table(table, &stem, metadata)?;
        if table.schema.starts_with("monitor_alarms/") {
            let lines = PathBuf::from(format!("{}.jsonl", stem.display()));
            replace(&lines, &json_lines::lines(table)?)?;
        }
    }
    Ok(())
}

/// Writes the `selected` nodes without a report, after waiting for any other writer of the folder; the other files
/// are unchanged.
///
/// # Errors
/// An error of the store or the disk.
pub fn write_selected(
    resolved: &Resolved,
    plan: &Plan,
    store: &Store,
    dir: &Path,
    selected: &Selection,
) -> Result<()> {
    let _alone = super::alone(store, dir);
    let shown = Shown { resolved, plan, store };
    let nodes = selected.nodes();
    let wanted = |node: &Node| nodes.iter().any(|at| std::ptr::eq(&plan.nodes[*at], node));
    let asks_tables = nodes.iter().any(|at| matches!(plan.nodes[*at].work, Work::Analysis { .. }));
    let analyses = if asks_tables { shown.analyses()? } else { Vec::new() };
    write(&shown, &analyses, dir, &wanted)
}

/// Whether `tables/` contains a table of this name.
pub(super) fn in_tables(dir: &Path, name: &str) -> bool {
    ["parquet", "csv"].iter().all(|kind| dir.join("tables").join(format!("{name}.{kind}")).is_file())
}

/// Whether the folder contains the files of a node.
pub(super) fn is_there(node: &Node, store: &Store, dir: &Path) -> bool {
    match &node.work {
        Work::Vectors { set, .. } => set.is_check || vectors_file(dir, set).is_file(),
        Work::Analysis { set, .. } if set.is_check => true,
        Work::Analysis { name, .. } | Work::Across { name, .. } => in_tables(dir, name),
        _ => node.work.stage() != stories::STAGE || stories::written(node, store, dir),
    }
}

/// What a report of the plan would lack.
pub struct Parts {
    /// Nodes that are not completely cached.
    pub missing: Vec<String>,
    /// Those of them whose files are in the results folder: a new report would remove these files.
    pub lost: Vec<String>,
}

/// What the cache lacks for the results in `dir`. Nodes that the last run failed to compute are not counted as lost.
///
/// # Errors
/// An invalid `run.json`.
pub fn parts(resolved: &Resolved, plan: &Plan, store: &Store, dir: &Path) -> Result<Parts> {
    let missing: Vec<String> = Shown { resolved, plan, store }.missing();
    let last = Run::read(dir)?.map(|run| run.nodes).unwrap_or_default();
    let failed = |name: &str| {
        last.iter().any(|node| node.name == name && matches!(node.state, State::Failed | State::Blocked))
    };
    let has_files = |node: &Node| {
        let holds = matches!(node.work, Work::Vectors { .. } | Work::Analysis { .. } | Work::Across { .. })
            || node.work.stage() == stories::STAGE;
        holds && is_there(node, store, dir)
    };
    let lost = plan.nodes.iter().filter(|node| missing.contains(&node.name()) && has_files(node));
    let lost = lost.filter(|node| !failed(&node.name())).map(|node| node.name()).collect();
    Ok(Parts { missing, lost })
}
