//! The meaning and units of the columns of the tables in `results/`. docs/results.md is generated from this, and
//! debug builds do not write a table with an undescribed column.

mod behaviour;
mod others;
mod readings;
mod sets;

use std::fmt::Write;

use crate::store::table::Table;

/// A kind of table.
pub struct Described {
    /// The schema's name, without its version.
    pub name: &'static str,
    /// The files that hold it, each as `.parquet` and `.csv`.
    pub file: &'static str,
    pub about: &'static str,
    pub columns: &'static [(&'static str, &'static str)],
}

/// Columns with the same meaning in every table.
const EVERYWHERE: [(&str, &str); 10] = [
    ("model", "the model's name in the experiment file"),
    ("stories", "the source of the stories that it read"),
    ("variant", "the settings of a sweep (`from_token=50`); empty without a sweep"),
    ("layer", "the block whose `resid_post` it is, from 0; -1 is `embed`, what goes into block 0"),
    ("depth", "(layer + 1) / number of layers; 0 is `embed`"),
    ("model_a", "the model of the first set of vectors"),
    ("stories_a", "the source of the first set"),
    ("model_b", "the model of the second set"),
    ("stories_b", "the source of the second set"),
    ("emotion", "the emotion's name in the experiment file"),
];

/// Columns of two compared layers.
const LAYERS: [(&str, &str); 2] =
    [("layer_a", "the layer of the first set"), ("layer_b", "the layer of the second set")];

/// Every kind of table in `results/`.
pub fn tables() -> impl Iterator<Item = &'static Described> {
    sets::TABLES.iter().chain(others::TABLES).chain(behaviour::TABLES).chain(readings::TABLES)
}

/// The meaning of a column in a table of this kind.
fn meaning(described: &Described, column: &str) -> Option<&'static str> {
    let of_two = described.columns.iter().chain(&LAYERS).chain(&EVERYWHERE);
    of_two.into_iter().find(|(name, _)| *name == column).map(|(_, meaning)| *meaning)
}

/// The columns of `table` without a description, or the table itself.
pub fn undescribed(table: &Table) -> Vec<String> {
    let name = table.schema.split('/').next().unwrap_or_default();
    match tables().find(|described| described.name == name) {
        None => vec![format!("the table `{name}`")],
        Some(described) => {
            let unknown = table.columns.iter().filter(|(column, _)| meaning(described, column).is_none());
            unknown.map(|(column, _)| format!("`{column}` of the table `{name}`")).collect()
        }
    }
}

/// The tables as a chapter of docs/results.md.
pub fn document() -> String {
    let mut out = String::from("Columns of every table:\n\n| column | meaning |\n|---|---|\n");
    let line = |out: &mut String, (column, meaning): &(&str, &str)| {
        let _ = writeln!(out, "| `{column}` | {meaning} |");
    };
    EVERYWHERE.iter().chain(&LAYERS).for_each(|column| line(&mut out, column));
    for Described { name, file, about, columns } in tables() {
        // In a paragraph `<analysis>` would be parsed as an HTML tag.
        let file = file.replace('<', "\\<");
        let _ = write!(out, "\n### {name}\n\n{about} In {file}.\n\n| column | meaning |\n|---|---|\n");
        columns.iter().for_each(|column| line(&mut out, column));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn what_is_described_is_known_and_the_rest_is_named() {
        let column = || Column::F64(vec![0.5]);
        let table =
            |schema: &str, name: &str| Table::new(schema, vec![("layer", column()), (name, column())]);
        assert!(undescribed(&table("pca/1", "score")).is_empty());
        assert_eq!(undescribed(&table("pca/1", "scare")), ["`scare` of the table `pca`"]);
        assert_eq!(undescribed(&table("pcb/1", "score")), ["the table `pcb`"]);
    }

    #[test]
    fn every_table_and_column_is_described_once() {
        let mut names: Vec<_> = tables().map(|described| described.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tables().count());
        for described in tables() {
            let mut columns: Vec<_> = described.columns.iter().map(|(name, _)| name).collect();
            columns.sort_unstable();
            columns.dedup();
            assert_eq!(columns.len(), described.columns.len(), "{}", described.name);
        }
    }
}
