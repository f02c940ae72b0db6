//! Results of the analyses of two sets of vectors, with the names of the sets added. Independent of the individual
//! analyses.

use std::path::Path;

use anyhow::Result;

use super::{Shown, append, metadata, write_table};
use crate::config::Experiment;
use crate::plan::{Pair, Set, Work};
use crate::report::Section;
use crate::stages::analysis::Analysis;
use crate::store::table::{Column, Table};

/// An analysis with one set of parameters, and its tables over all available pairs.
pub struct Compared {
    pub name: String,
    pub across: Analysis,
    pub tables: Vec<(String, Table)>,
}

/// Every analysis of two sets, in the experiment's order. Variants with different parameters follow one another.
/// `checks`: `Some(true)` selects the pairs that check the arithmetic in f32, `Some(false)` the other checking pairs,
/// both under the names of the models that they check; `None` selects all pairs that are not checks.
pub fn compared(shown: &Shown, checks: Option<bool>) -> Result<Vec<Compared>> {
    let mut all: Vec<Compared> = Vec::new();
    for wanted in &shown.resolved.experiment.across {
        let from = all.len();
        for node in &shown.plan.nodes {
            let Work::Across { name, across, pairs, .. } = &node.work else { continue };
            if *name != wanted.name {
                continue;
            }
            let is_wanted = |pair: &Pair| match checks {
                None => !pair.is_check(),
                Some(in_f32) => pair.is_check() && pair.sets.iter().all(|set| shown.is_in_f32(set)) == in_f32,
            };
            for (unit, pair) in node.units.iter().zip(pairs).filter(|(_, pair)| is_wanted(pair)) {
                let Some(entry) = shown.entry(node, unit)? else { continue };
                let at = all[from..].iter().position(|c| c.across == **across).unwrap_or_else(|| {
                    let across = Analysis::clone(across);
                    all.push(Compared { name: name.clone(), across, tables: Vec::new() });
                    all.len() - 1 - from
                });
                let sets = pair.sets.clone().map(|set| shown.proper(set));
                for file in &entry.manifest.files {
                    let table = file.name.trim_end_matches(".parquet");
                    append(&mut all[from + at].tables, table, named(entry.read(table)?, &sets))?;
                }
            }
        }
    }
    Ok(all)
}

/// Everything from the experiment's analyses across models that the report prints.
pub fn printed(experiment: &Experiment) -> String {
    let across = experiment.across.iter().map(|a| (&a.name, &a.kind)).collect::<Vec<_>>();
    let scale = experiment.scale.iter().map(|s| (&s.name, &s.of, s.permutations, experiment.seed));
    format!("{across:?} {:?}", scale.collect::<Vec<_>>())
}

/// `table` with the names of both sets as first columns.
fn named(mut table: Table, [a, b]: &[Set; 2]) -> Table {
    let column = |text: &str| Column::Str(vec![text.to_string(); table.rows()]);
    let names = [
        ("model_a", column(&a.model)),
        ("stories_a", column(&a.stories)),
        ("model_b", column(&b.model)),
        ("stories_b", column(&b.stories)),
        ("variant", column(&a.variant())),
    ];
    table.columns.splice(0..0, names.map(|(name, column)| (name.to_string(), column)));
    table
}

/// Writes `tables/<name>.*` for each analysis, further tables as `<name>.<table>`.
pub fn write(shown: &Shown, all: &[Compared], dir: &Path) -> Result<()> {
    for parts in all.chunk_by(|a, b| a.name == b.name) {
        let name = &parts[0].name;
        let mut tables = Vec::new();
        for (table_name, table) in parts.iter().flat_map(|part| &part.tables) {
            append(&mut tables, table_name, table.clone())?;
        }
        let is_of = |work: &Work| matches!(work, Work::Across { name: n, .. } if n == name);
        let metadata = metadata(shown.resolved, shown.plan.nodes.iter().filter(|node| is_of(&node.work)));
        for (index, (table_name, table)) in tables.iter().enumerate() {
            let stem = if index == 0 { name.clone() } else { format!("{name}.{table_name}") };
            write_table(table, &dir.join("tables").join(stem), &metadata)?;
        }
    }
    Ok(())
}

/// One chapter per analysis.
pub fn sections(all: &[Compared]) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    for Compared { name, across, tables } in all {
        let figures = across.figures(name, tables)?;
        match sections.iter_mut().find(|section| section.id == *name) {
            Some(section) => section.figures.extend(figures),
            None => sections.push(Section {
                id: name.clone(),
                title: across.title().to_string(),
                intro: across.intro().to_string(),
                figures,
                ..Section::default()
            }),
        }
    }
    Ok(sections)
}
