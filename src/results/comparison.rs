//! A comparison of all sets of vectors: the claims of every analysis, and the figures about several sets at once,
//! each set at its model's default layer. Independent of the individual analyses.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context, Result};

use super::claims::Found;
use super::{Analysed, Shown, across};
use crate::lm::Layer;
use crate::plan::{Node, Work};
use crate::report::Section;
use crate::report::figure::{Body, Cell, Figure, TableFigure};
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::analysis::{Analysis, Claim, Published};
use crate::stages::statistics::Interval;
use crate::store::table::{Column, Table};

/// The name of the chapter and of its table.
pub const COMPARISON: &str = "comparison";

/// A model whose vectors are compared.
struct Model {
    name: String,
    n_layers: usize,
    n_params: u64,
}

/// An analysis with one set of parameters, and its tables over the sets of vectors that it was run on. Those with the
/// same name follow one another.
#[derive(Clone, Copy)]
struct Compared<'a> {
    name: &'a str,
    analysis: &'a Analysis,
    tables: &'a [(String, Table)],
}

/// An analysis of two sets, with its claims at the reported layers.
struct OfTwo<'a> {
    name: &'a str,
    analysis: &'a Analysis,
    claims: Vec<Claim>,
}

/// The chapter of the comparison, and the table for plotting elsewhere.
pub struct Comparison {
    pub section: Section,
    pub table: Table,
}

/// The one or two sets of vectors of a row.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Row {
    model: String,
    stories: String,
    axes: Vec<(String, String)>,
    layer: Layer,
    other: Option<String>,
}

impl Row {
    fn of(claim: &Claim) -> Row {
        let Claim { model, stories, axes, layer, other, .. } = claim.clone();
        Row { model, stories, axes, layer, other }
    }

    fn axis(&self, wanted: &str) -> Option<&str> {
        self.axes.iter().find(|(axis, _)| axis == wanted).map(|(_, value)| value.as_str())
    }
}

/// Whether the store has an analysis of more than one set of vectors, so that there is something to compare.
pub fn several_sets(present: &[(&Node, Vec<bool>)]) -> bool {
    let mut analysed = HashSet::new();
    present.iter().filter(|(_, there)| !there.contains(&false)).any(|(node, _)| match &node.work {
        Work::Analysis { name, .. } => !analysed.insert(name),
        Work::Across { name, pairs, .. } => {
            let shown = pairs.iter().filter(|pair| !pair.is_check()).count();
            shown > 1 || !analysed.insert(name)
        }
        _ => false,
    })
}

/// The comparison of all sets with `analyses` in `shown`, and of all `pairs`: tables and figures of each analysis
/// that supports several sets, and the numbers of every analysis. `found`: all claims.
///
/// # Errors
/// A table lacks a required column.
pub fn of(
    shown: &Shown,
    analyses: &[Analysed],
    pairs: &[across::Compared],
    found: &[Found],
) -> Result<Comparison> {
    let model = |m: &crate::resolve::Model| Model {
        name: m.name.clone(),
        n_layers: m.spec.n_layers(),
        n_params: m.spec.n_params(),
    };
    let models: Vec<_> = shown.resolved.readers().map(model).collect();
    let compared =
        analyses.iter().map(|Analysed { name, analysis, tables }| Compared { name, analysis, tables });
    let of_two = pairs.chunk_by(|a, b| a.name == b.name).map(|parts| {
        let (name, analysis) = (parts[0].name.as_str(), &parts[0].across);
        let reported = found.iter().filter(|found| found.is_reported && found.analysis == name);
        OfTwo { name, analysis, claims: reported.map(|found| found.claim.clone()).collect() }
    });
    compare(&models, &compared.collect::<Vec<_>>(), &of_two.collect::<Vec<_>>())
}

fn compare(models: &[Model], analyses: &[Compared], of_two: &[OfTwo]) -> Result<Comparison> {
    let mut long = Long::default();
    let (mut tables, mut figures) = (Vec::new(), Vec::new());
    for parts in analyses.chunk_by(|a, b| a.name == b.name) {
        let (name, analysis) = (parts[0].name, parts[0].analysis);
        let (mut claims, mut together) = (Vec::new(), Vec::new());
        for Compared { analysis, tables, .. } in parts {
            let here = tables.iter().map(|(n, table)| Ok((n.clone(), at_default_layers(table, models)?)));
            let here = here.collect::<Result<Vec<_>>>()?;
            claims.extend(analysis.claims(&here)?);
            together.extend(here);
        }
        let alike = |other: &&Compared| other.analysis.title() == analysis.title() && other.name != name;
        let title = match analyses.iter().find(alike) {
            None => analysis.title().to_string(),
            Some(_) => format!("{} ({name})", analysis.title()),
        };
        tables.extend(wide(name, &title, analysis.reading(), &claims, models)?);
        figures.extend(analysis.side_by_side(name, &together)?);
        long.add(name, &claims, models)?;
    }
    for OfTwo { name, analysis, claims } in of_two {
        tables.extend(wide(name, analysis.title(), analysis.reading(), claims, models)?);
        long.add(name, claims, models)?;
    }
    let section = Section {
        id: COMPARISON.to_string(),
        title: "Comparison".to_string(),
        intro: format!(
            "One row per set of vectors, at the model's kept layer nearest to two thirds of its depth. The same values \
             in long form: tables/{COMPARISON}.csv."
        ),
        figures: tables.into_iter().chain(figures).collect(),
        tables: vec![format!("tables/{COMPARISON}")],
        ..Section::default()
    };
    Ok(Comparison { section, table: long.finish() })
}

fn find<'a>(models: &'a [Model], name: &str) -> Result<&'a Model> {
    models.iter().find(|m| m.name == name).with_context(|| format!("a table of the unknown model `{name}`"))
}

/// The rows of each model, source and variant at the layer nearest to two thirds of the depth.
fn at_default_layers(table: &Table, models: &[Model]) -> Result<Table> {
    let (model, stories, layer) = (table.str("model")?, table.str("stories")?, table.i32("layer")?);
    let variant = table.str("variant")?;
    let set = |row: usize| (&model[row], &stories[row], &variant[row]);
    let mut layers: BTreeMap<_, Vec<Layer>> = BTreeMap::new();
    for (row, &layer) in layer.iter().enumerate() {
        layers.entry(set(row)).or_default().push(Layer::of_number(layer).context("no such layer")?);
    }
    let chosen = layers.into_iter().map(|(set, mut layers)| {
        layers.dedup();
        Ok((set, nearest_two_thirds(&layers, find(models, set.0)?.n_layers)))
    });
    let chosen = chosen.collect::<Result<BTreeMap<_, _>>>()?;
    let rows: Vec<usize> =
        (0..table.rows()).filter(|&row| chosen[&set(row)].number() == layer[row]).collect();
    Ok(table.select(&rows))
}

/// Explains the published rows.
const PUBLISHED: &str = "Rows that begin with \u{201c}published\u{201d} are values from the literature, for other \
     emotions and texts.";

/// Maximum number of columns of a table in the page.
const COLUMNS: usize = 9;

/// The claims as one table or several: one row per set, one column per claim, with comparable published values in
/// rows below. Empty for a single set.
fn wide(name: &str, title: &str, reading: &str, claims: &[Claim], models: &[Model]) -> Result<Vec<Figure>> {
    let (mut rows, mut places): (Vec<Row>, HashMap<Row, usize>) = Default::default();
    let mut cells: HashMap<(usize, String), Cell> = HashMap::new();
    for claim in claims {
        let row = Row::of(claim);
        let at = *places.entry(row.clone()).or_insert_with(|| {
            rows.push(row);
            rows.len() - 1
        });
        cells.insert((at, claim.name()), cell(claim));
    }
    let names = distinct(claims.iter().map(Claim::name));
    if rows.len() < 2 {
        return Ok(Vec::new());
    }
    let (heads, sets) = sets(&rows, models)?;
    let most = COLUMNS.saturating_sub(heads.len()).max(3);
    let parts = names.len().div_ceil(most);
    let mut figures = Vec::new();
    for (part, names) in names.chunks(names.len().div_ceil(parts)).enumerate() {
        let shown_at =
            |row: usize, name: &String| cells.get(&(row, name.clone())).cloned().unwrap_or(Cell::Empty);
        let mut shown: Vec<Vec<Cell>> = Vec::new();
        for (row, set) in sets.iter().enumerate() {
            shown.push(set.iter().cloned().chain(names.iter().map(|name| shown_at(row, name))).collect());
        }
        let published = published(claims, names, heads.len());
        // The meaning of the numbers is stated only once.
        let caption = [(part == 0, reading), (!published.is_empty(), PUBLISHED)];
        let caption: Vec<&str> = caption.iter().filter(|(said, _)| *said).map(|(_, text)| *text).collect();
        shown.extend(published);
        figures.push(Figure {
            name: match part {
                0 => format!("{COMPARISON}-{name}"),
                _ => format!("{COMPARISON}-{name}-{}", part + 1),
            },
            title: match parts {
                1 => title.to_string(),
                _ => format!("{title}, {} of {parts}", part + 1),
            },
            caption: caption.join(" "),
            model: None,
            stories: None,
            layer: None,
            axes: Vec::new(),
            body: Body::Table(TableFigure {
                columns: heads.iter().cloned().chain(names.iter().cloned()).collect(),
                rows: shown,
            }),
        });
    }
    Ok(figures)
}

/// The number, with its interval if there is one.
pub(super) fn cell(claim: &Claim) -> Cell {
    let Claim { estimate, decimals, .. } = claim;
    match claim.ends() {
        Some(ends) => Cell::Ranged(*estimate, (ends.low, ends.high), *decimals),
        None => Cell::Number(*estimate, *decimals),
    }
}

/// The columns that identify the set of a row, and their cells: model and layer, and otherwise only columns in which
/// the sets differ.
fn sets(rows: &[Row], models: &[Model]) -> Result<(Vec<String>, Vec<Vec<Cell>>)> {
    let sizes = rows.iter().map(|row| find(models, &row.model)).collect::<Result<Vec<_>>>()?;
    let several_sizes = distinct(sizes.iter().map(|m| m.n_params)).len() > 1;
    let several_sources = distinct(rows.iter().map(|row| &row.stories)).len() > 1;
    let axes = distinct(rows.iter().flat_map(|row| row.axes.iter().map(|(axis, _)| axis.as_str())));
    let differ = |axis: &&str| distinct(rows.iter().map(|row| row.axis(axis))).len() > 1;
    let axes: Vec<&str> = axes.into_iter().filter(differ).collect();

    let mut heads = vec!["model".to_string()];
    heads.extend(several_sizes.then(|| "parameters, M".to_string()));
    heads.extend(several_sources.then(|| "stories".to_string()));
    let of_two = rows.iter().any(|row| row.other.is_some());
    heads.extend(of_two.then(|| "other set".to_string()));
    heads.extend(axes.iter().map(|axis| axis.to_string()));
    heads.push("layer".to_string());
    let cells = rows.iter().zip(sizes).map(|(row, size)| {
        let mut cells = vec![Cell::Text(row.model.clone())];
        let millions = size.n_params as f64 / 1e6;
        let decimals = if millions < 10.0 { 1 } else { 0 };
        cells.extend(several_sizes.then_some(Cell::Number(millions, decimals)));
        cells.extend(several_sources.then(|| Cell::Text(row.stories.clone())));
        cells.extend(of_two.then(|| Cell::Text(row.other.clone().unwrap_or_default())));
        cells.extend(axes.iter().map(|axis| row.axis(axis).map_or(Cell::Empty, value)));
        cells.push(Cell::Text(format!("{} of {}", row.layer, size.n_layers)));
        cells
    });
    Ok((heads, cells.collect()))
}

/// The value of an axis: as a number if it is written as one, so that it is sorted numerically.
fn value(text: &str) -> Cell {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    text.parse().ok().filter(|_| plain).map_or(Cell::Text(text.to_string()), |x| Cell::Number(x, decimals))
}

/// One row per publication that has some of these numbers, after `before` columns that name it.
fn published(claims: &[Claim], names: &[String], before: usize) -> Vec<Vec<Cell>> {
    let known = |name: &String| claims.iter().find(|claim| claim.name() == *name);
    let like = |claim: &Claim| -> Vec<Published> {
        claim.published.iter().copied().filter(|published| published.but.is_empty()).collect()
    };
    let all = names.iter().filter_map(known).flat_map(&like);
    let row = |label: &str| {
        let mut row = vec![Cell::Text(format!("published: {label}"))];
        row.resize(before, Cell::Text(String::new()));
        row.extend(names.iter().map(|name| {
            let claim = known(name);
            let found =
                claim.and_then(|claim| Some((claim, like(claim).into_iter().find(|p| p.source == label)?)));
            found.map_or(Cell::Empty, |(claim, published)| Cell::Number(published.value, claim.decimals))
        }));
        row
    };
    distinct(all.map(|published| published.source)).into_iter().map(row).collect()
}

/// The distinct values, in order of first appearance.
pub fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// The columns of the table `comparison`: one row per number, for each analysis first the measured ones, then the
/// published ones.
#[derive(Default)]
struct Long {
    model: Vec<String>,
    stories: Vec<String>,
    variant: Vec<String>,
    /// Empty for a claim on one set.
    other: Vec<String>,
    /// Null for published values: their label, in the column `model`, says what was measured.
    layer: Vec<Option<i64>>,
    n_layers: Vec<Option<i64>>,
    n_params: Vec<Option<i64>>,
    analysis: Vec<String>,
    name: Vec<String>,
    value: Vec<f64>,
    /// Null if unknown.
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
    p: Vec<Option<f64>>,
    published: Vec<bool>,
}

impl Long {
    fn add(&mut self, analysis: &str, claims: &[Claim], models: &[Model]) -> Result<()> {
        for claim in claims {
            let model = find(models, &claim.model)?;
            let axes = claim.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
            self.model.push(claim.model.clone());
            self.stories.push(claim.stories.clone());
            self.variant.push(axes.collect::<Vec<_>>().join(", "));
            self.other.push(claim.other.clone().unwrap_or_default());
            self.layer.push(Some(claim.layer.number().into()));
            self.n_layers.push(Some(model.n_layers as i64));
            self.n_params.push(Some(model.n_params as i64));
            self.number(analysis, &claim.name(), claim.estimate, false);
            self.known(claim.ends(), claim.p());
        }
        let published = claims.iter().flat_map(|claim| claim.published.iter().map(|p| (claim.name(), *p)));
        for (name, Published { source, value, but }) in distinct(published) {
            if !but.is_empty() {
                continue;
            }
            self.model.push(source.to_string());
            self.stories.push(String::new());
            self.variant.push(String::new());
            self.other.push(String::new());
            self.layer.push(None);
            self.n_layers.push(None);
            self.n_params.push(None);
            self.number(analysis, &name, value, true);
            self.known(None, None);
        }
        Ok(())
    }

    fn number(&mut self, analysis: &str, name: &str, value: f64, published: bool) {
        self.analysis.push(analysis.to_string());
        self.name.push(name.to_string());
        self.value.push(value);
        self.published.push(published);
    }

    fn known(&mut self, interval: Option<Interval>, p: Option<f64>) {
        self.low.push(interval.map(|i| i.low));
        self.high.push(interval.map(|i| i.high));
        self.p.push(p);
    }

    fn finish(self) -> Table {
        Table::new(
            "comparison/3",
            vec![
                ("model", Column::Str(self.model)),
                ("stories", Column::Str(self.stories)),
                ("variant", Column::Str(self.variant)),
                ("other", Column::Str(self.other)),
                ("layer", Column::OptI64(self.layer)),
                ("n_layers", Column::OptI64(self.n_layers)),
                ("n_params", Column::OptI64(self.n_params)),
                ("analysis", Column::Str(self.analysis)),
                ("name", Column::Str(self.name)),
                ("value", Column::F64(self.value)),
                ("low", Column::OptF64(self.low)),
                ("high", Column::OptF64(self.high)),
                ("p", Column::OptF64(self.p)),
                ("published", Column::Bool(self.published)),
            ],
        )
    }
}

#[cfg(test)]
mod tests;
