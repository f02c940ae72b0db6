//! `emoflow show`: prints a node's tables or an experiment's claims. Computes nothing.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Prepared, Usage};
use crate::plan::Nothing;
use crate::store::table::Table;
use crate::store::{Entry, Lookup};

/// Longer cells are cut, in characters.
const WIDEST: usize = 40;

/// The argument that selects the claims instead of a node.
pub const CLAIMS: &str = "claims";

/// Prints the first `rows` rows of every table of the matching nodes, or (`path`) the paths of the files.
///
/// # Errors
/// Nothing matches, or nothing of it is cached.
pub fn node(
    prepared: &Prepared,
    pattern: &str,
    (rows, path): (usize, bool),
    file: &Path,
    out: &mut dyn Write,
) -> Result<u8> {
    let Prepared { plan, store, .. } = prepared;
    let selected = plan.select(&[pattern.to_string()])?;
    let mut found = false;
    for at in selected.nodes() {
        let node = &plan.nodes[at];
        let mut entries: Vec<Entry> = Vec::new();
        for id in selected.units.iter().filter(|id| id.node == at) {
            if let Lookup::Hit(entry) = store.lookup(node.work.stage(), &plan.unit(*id).key)? {
                entries.push(entry);
            }
        }
        let asked = selected.units.iter().filter(|id| id.node == at).count();
        found |= !entries.is_empty();
        if path {
            for entry in &entries {
                for record in &entry.manifest.files {
                    writeln!(out, "{}", entry.path(record.name.trim_end_matches(".parquet"))?.display())?;
                }
            }
            continue;
        }
        writeln!(out, "{}: {} of {asked} units in the cache", node.name(), entries.len())?;
        let Some(first) = entries.first() else { continue };
        for record in &first.manifest.files {
            let name = record.name.trim_end_matches(".parquet");
            let mut total = 0;
            let mut shown: Option<Table> = None;
            for entry in &entries {
                total += entry.manifest.file(name)?.rows;
                let have = shown.as_ref().map_or(0, Table::rows);
                if have < rows {
                    let table = entry.read(name)?;
                    let some = table.select(&(0..table.rows().min(rows - have)).collect::<Vec<_>>());
                    match &mut shown {
                        Some(all) => all.append(some)?,
                        None => shown = Some(some),
                    }
                }
            }
            let Some(table) = shown else { continue };
            writeln!(out, "\n{name}: {} of {total} rows", table.rows())?;
            let heads: Vec<String> = table.columns.iter().map(|(name, _)| name.clone()).collect();
            let cells = |row: usize| (0..heads.len()).map(|at| table.cell(at, row)).collect::<Vec<String>>();
            let rows = (0..table.rows()).map(cells).collect();
            aligned(heads.clone(), rows, WIDEST, out)?;
        }
        writeln!(out)?;
    }
    if !found {
        let file = crate::slurm::quoted(&file.to_string_lossy());
        let only = crate::slurm::quoted(pattern);
        let message = format!(
            "no results of {pattern} are in the cache; to compute them: emoflow run {file} --only {only}"
        );
        return Err(Nothing { message }.into());
    }
    Ok(0)
}

/// Prints the claims of an experiment at the report's layers, each under the name used in criteria.
///
/// # Errors
/// There is no table of claims.
pub fn claims(results: &Path, path: bool, out: &mut dyn Write) -> Result<u8> {
    let file = results.join("tables").join("claims.csv");
    if !file.is_file() {
        let message = format!("`{}` is not there: `emoflow run` the experiment", file.display());
        return Err(Usage(message).into());
    }
    if path {
        writeln!(out, "{}", file.display())?;
        return Ok(0);
    }
    let rows = read_claims(&file)?;
    let heads = ["claim", "model", "stories", "variant", "layer", "estimate", "95 % interval", "unit", "p"];
    let cells = rows.into_iter().filter(|row| row["reported"] == "true").map(|row| {
        let interval = match (row["low"].as_str(), row["high"].as_str()) {
            ("", _) | (_, "") => String::new(),
            (low, high) => format!("[{}, {}]", number(low), number(high)),
        };
        vec![
            format!("{}/{}", row["analysis"], row["claim"]),
            row["model"].clone(),
            [row["stories"].as_str(), row["other"].as_str()].join(" ").trim().to_string(),
            row["variant"].clone(),
            row["layer"].clone(),
            number(&row["estimate"]),
            interval,
            row["unit"].clone(),
            number(&row["p"]),
        ]
    });
    // Criteria need the full names.
    aligned(heads.map(String::from).to_vec(), cells.collect(), usize::MAX, out)?;
    Ok(0)
}

/// A row of the table of claims, by column.
pub type Claim = std::collections::BTreeMap<String, String>;

/// Reads every row of a table of claims.
pub fn read_claims(file: &Path) -> Result<Vec<Claim>> {
    let reader = csv::Reader::from_path(file).with_context(|| format!("read {}", file.display()))?;
    let rows = reader.into_deserialize().collect::<Result<Vec<Claim>, _>>();
    rows.with_context(|| format!("{} is not a table of claims", file.display()))
}

/// Formats with three decimals.
pub fn number(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_string(), |x| format!("{x:.3}"))
}

/// Prints a table in aligned columns with a header. Cells of more than `widest` characters are cut.
fn aligned(heads: Vec<String>, rows: Vec<Vec<String>>, widest: usize, out: &mut dyn Write) -> Result<()> {
    let cut = |cell: &String| {
        let line = cell.replace(['\n', '\r', '\t'], " ");
        match line.chars().count() > widest {
            true => format!("{}...", line.chars().take(widest - 3).collect::<String>()),
            false => line,
        }
    };
    let lines: Vec<Vec<String>> =
        std::iter::once(&heads).chain(&rows).map(|cells| cells.iter().map(cut).collect()).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_long_cells_cut() {
        let mut out = Vec::new();
        let row = |cells: [&str; 2]| cells.map(String::from).to_vec();
        let long = "x".repeat(50);
        aligned(row(["a", "word"]), vec![row(["12", "α\nβ"]), row(["3", &long])], 40, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("a   word\n12  α β\n3   {}...\n", "x".repeat(37)));
    }
}
