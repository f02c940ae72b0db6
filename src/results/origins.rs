//! The origin of each chapter of the report: its tables, its nodes and their keys, and the command that computes them
//! again.

use super::across::Compared;
use super::{Analysed, Shown};
use crate::plan::{Node, Work};
use crate::report::{Origin, Section};
use crate::slurm::quoted;

/// Adds the origin to each chapter of an analysis.
pub fn fill(shown: &Shown, analyses: &[Analysed], pairs: &[Compared], sections: &mut [Section]) {
    let single = analyses.iter().map(|of| (&of.name, &of.tables));
    let of_two = pairs.iter().map(|of| (&of.name, &of.tables));
    for (name, tables) in single.chain(of_two) {
        let Some(section) = sections.iter_mut().find(|section| section.id == *name) else { continue };
        for (at, (table, _)) in tables.iter().enumerate() {
            let path = if at == 0 { format!("tables/{name}") } else { format!("tables/{name}.{table}") };
            if !section.tables.contains(&path) {
                section.tables.push(path);
            }
        }
        if section.origins.is_empty() {
            section.origins =
                shown.nodes().filter(|node| is_of(node, name)).map(|node| of(shown, node)).collect();
        }
    }
}

fn is_of(node: &Node, analysis: &str) -> bool {
    match &node.work {
        Work::Analysis { name, .. } | Work::Across { name, .. } => name == analysis,
        _ => false,
    }
}

fn of(shown: &Shown, node: &Node) -> Origin {
    let subject = &node.id.subject;
    let of_set = matches!(node.work, Work::Analysis { .. });
    let about = |name: Option<&str>| name.filter(|_| of_set).map(str::to_string);
    Origin {
        model: about(subject.model()),
        stories: about(subject.source()),
        axes: node.id.axes.clone(),
        node: node.name(),
        keys: node.units.iter().map(|unit| (unit.layer, unit.key.to_string())).collect(),
        command: command(shown, &node.name()),
    }
}

/// The command that computes a node if it is not cached.
fn command(shown: &Shown, node: &str) -> String {
    let experiment = &shown.resolved.experiment;
    let file = experiment.file.strip_prefix(&experiment.root).unwrap_or(&experiment.file);
    let sets = experiment.sets.iter().map(|set| format!(" --set {}", quoted(set)));
    format!(
        "emoflow run {}{} --only {}",
        quoted(&file.display().to_string()),
        sets.collect::<String>(),
        quoted(node)
    )
}
