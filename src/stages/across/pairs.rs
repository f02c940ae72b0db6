//! Tables about pairs of sets, and the figures common to all analyses of pairs. Independent of the individual
//! analyses.

use anyhow::{Context, Result};

use crate::lm::Layer;
use crate::report::figure::{Body, Cell, Figure, Heatmap, Lines, Series, TableFigure};
use crate::stages::analysis::Claim;
use crate::stages::statistics::Interval;
use crate::store::table::{Column, Table};

/// A table that starts with the layers of both sets and the depth of the first.
pub fn table(schema: &str, layers: Vec<(Layer, Layer, f64)>, columns: Vec<(&str, Column)>) -> Table {
    let number = Layer::number;
    let places = [
        ("layer_a", Column::I32(layers.iter().map(|l| number(l.0)).collect())),
        ("layer_b", Column::I32(layers.iter().map(|l| number(l.1)).collect())),
        ("depth", Column::F64(layers.iter().map(|l| l.2).collect())),
    ];
    Table::new(schema, places.into_iter().chain(columns).collect())
}

/// One number for each pair of a layer of the first set and a layer of the second.
#[derive(Default)]
pub struct Layers {
    a: Vec<i32>,
    b: Vec<i32>,
    values: Vec<f64>,
}

impl Layers {
    pub fn push(&mut self, a: Layer, b: Layer, value: f64) {
        self.a.push(a.number());
        self.b.push(b.number());
        self.values.push(value);
    }

    pub fn finish(self, schema: &str, column: &str) -> Table {
        let places = vec![("layer_a", Column::I32(self.a)), ("layer_b", Column::I32(self.b))];
        Table::new(schema, places.into_iter().chain([(column, Column::F64(self.values))]).collect())
    }
}

/// The rows of one pair of sets in one variant.
pub struct Pair<'a> {
    pub table: &'a Table,
    pub models: [&'a str; 2],
    pub stories: [&'a str; 2],
    pub variant: &'a str,
    pub rows: Vec<usize>,
}

impl<'a> Pair<'a> {
    fn place(&self) -> ([&'a str; 2], [&'a str; 2], &'a str) {
        (self.models, self.stories, self.variant)
    }

    pub fn is_of(&self, other: &Pair) -> bool {
        self.place() == other.place()
    }

    /// The axes of the variant and their values.
    pub fn axes(&self) -> Vec<(String, String)> {
        let axes = self.variant.split(", ").filter_map(|axis| axis.split_once('='));
        axes.map(|(axis, value)| (axis.to_string(), value.to_string())).collect()
    }

    /// A claim listed under the set of `side`, at its layer in `row`.
    pub fn claim(
        &self,
        (side, row): (usize, usize),
        what: &str,
        unit: &'static str,
        estimate: f64,
        decimals: usize,
    ) -> Result<Claim> {
        let layers = self.table.i32(["layer_a", "layer_b"][side])?;
        let other = 1 - side;
        let model = self.models[other];
        Ok(Claim {
            model: self.models[side].to_string(),
            stories: self.stories[side].to_string(),
            axes: self.axes(),
            layer: Layer::of_number(layers[row]).context("no such layer in a table")?,
            other: Some(match self.stories[0] == self.stories[1] {
                true => model.to_string(),
                false => format!("{model} on {}", self.stories[other]),
            }),
            what: what.to_string(),
            unit,
            estimate,
            decimals,
            interval: None,
            null: None,
            published: Vec::new(),
        })
    }

    /// The interval in the columns `low` and `high` of a row; `None` if it is null.
    pub fn ends(&self, row: usize, (low, high): (&str, &str)) -> Result<Option<Interval>> {
        let (low, high) = (self.table.opt_f64(low)?[row], self.table.opt_f64(high)?[row]);
        Ok(low.zip(high).map(|(low, high)| Interval { low, high }))
    }

    /// The row whose depth is nearest to two thirds; of two, the deeper.
    pub fn default_row(&self) -> Result<usize> {
        let depth = self.table.f64("depth")?;
        let distance = |row: usize| (depth[row] - 2.0 / 3.0).abs();
        let nearer =
            |&a: &usize, &b: &usize| distance(a).total_cmp(&distance(b)).then(depth[b].total_cmp(&depth[a]));
        Ok(self.rows.iter().copied().min_by(nearer).unwrap_or_default())
    }
}

/// The pairs in the tables called `name`, in order of appearance.
pub fn pairs<'a>(tables: &'a [(String, Table)], name: &str) -> Result<Vec<Pair<'a>>> {
    let mut pairs: Vec<Pair> = Vec::new();
    for (_, table) in tables.iter().filter(|(n, _)| n == name) {
        let names = ["model_a", "model_b", "stories_a", "stories_b", "variant"];
        let [ma, mb, sa, sb, variant] = names.map(|name| table.str(name));
        let (ma, mb, sa, sb, variant) = (ma?, mb?, sa?, sb?, variant?);
        for row in 0..table.rows() {
            let one = Pair {
                table,
                models: [&ma[row], &mb[row]],
                stories: [&sa[row], &sb[row]],
                variant: &variant[row],
                rows: vec![row],
            };
            match pairs.iter_mut().rev().find(|pair| std::ptr::eq(pair.table, table) && pair.is_of(&one)) {
                Some(pair) => pair.rows.push(row),
                None => pairs.push(one),
            }
        }
    }
    Ok(pairs)
}

/// The columns of an interval, one row after the other.
pub fn columns(ends: &[Option<Interval>]) -> [Column; 2] {
    let of = |end: fn(Interval) -> f64| Column::OptF64(ends.iter().map(|ends| ends.map(end)).collect());
    [of(|ends| ends.low), of(|ends| ends.high)]
}

/// An interval formatted for a table.
pub fn ends(interval: Option<Interval>, decimals: usize) -> Cell {
    match interval {
        Some(Interval { low, high }) => Cell::Text(format!("{low:.decimals$} to {high:.decimals$}")),
        None => Cell::Empty,
    }
}

/// What the figures show for each pair.
pub struct Measure {
    /// The column of the measure; the table also has those of its interval, `low` and `high`, and `p`.
    pub column: &'static str,
    pub short: &'static str,
    pub title: &'static str,
    pub caption: String,
    /// Caption of the table.
    pub tested: &'static str,
    /// Further columns of the table: name, heading and decimals.
    pub others: &'static [(&'static str, &'static str, usize)],
    /// Whether any two sets form a pair; otherwise only sets of one source.
    pub all_sets: bool,
}

/// The display names of sets: with their source if there are several sources.
pub struct Names {
    several_sources: bool,
}

impl Names {
    pub fn of(pairs: &[Pair]) -> Names {
        let first = pairs.first().map(|pair| pair.stories[0]);
        let all = pairs.iter().flat_map(|pair| pair.stories);
        Names { several_sources: all.into_iter().any(|source| Some(source) != first) }
    }

    pub fn set(&self, pair: &Pair, side: usize) -> String {
        match self.several_sources {
            true => format!("{} on {}", pair.models[side], pair.stories[side]),
            false => pair.models[side].to_string(),
        }
    }

    pub fn pair(&self, pair: &Pair, between: &str) -> String {
        match pair.stories[0] == pair.stories[1] && self.several_sources {
            true => format!("{} {between} {} on {}", pair.models[0], pair.models[1], pair.stories[0]),
            false => format!("{} {between} {}", self.set(pair, 0), self.set(pair, 1)),
        }
    }
}

/// For each variant: a matrix, a table, curves over the depth, and one matrix of layers per pair. `(main, layers)`:
/// the tables with one row at equal depth, and with one row for each pair of layers.
pub fn figures(
    name: &str,
    tables: &[(String, Table)],
    (main, layers): (&str, &str),
    measure: &Measure,
) -> Result<Vec<Figure>> {
    let (all, matrices) = (pairs(tables, main)?, pairs(tables, layers)?);
    let mut figures = Vec::new();
    let names = Names::of(&all);
    let mut variants: Vec<&str> = all.iter().map(|pair| pair.variant).collect();
    variants.dedup();
    let mut seen = std::collections::HashSet::new();
    variants.retain(|variant| seen.insert(*variant));
    for variant in variants {
        let here: Vec<&Pair> = all.iter().filter(|pair| pair.variant == variant).collect();
        figures.extend(matrix(name, &here, &names, measure)?);
        figures.push(rows(name, &here, &names, measure)?);
        figures.extend(curves(name, &here, &names, measure)?);
    }
    for pair in &matrices {
        figures.extend(layer_matrix(name, pair, &names, measure)?);
    }
    Ok(figures)
}

/// A figure about several pairs of one variant.
fn figure(name: String, title: String, caption: String, pair: &Pair, body: Body) -> Figure {
    Figure { name, title, caption, model: None, stories: None, layer: None, axes: pair.axes(), body }
}

/// All sets with each other, if there are three or more; one matrix per source if only sets of one source form pairs.
fn matrix(name: &str, pairs: &[&Pair], names: &Names, measure: &Measure) -> Result<Vec<Figure>> {
    let mut sources: Vec<Option<&str>> = vec![None];
    if !measure.all_sets {
        sources = Vec::new();
        for pair in pairs.iter().filter(|_| names.several_sources) {
            if !sources.contains(&Some(pair.stories[0])) {
                sources.push(Some(pair.stories[0]));
            }
        }
        if sources.is_empty() {
            sources.push(None);
        }
    }
    let mut figures = Vec::new();
    for source in sources {
        let here: Vec<&Pair> =
            pairs.iter().copied().filter(|p| source.is_none_or(|s| p.stories[0] == s)).collect();
        let label = |pair: &Pair, side: usize| match source {
            Some(_) => pair.models[side].to_string(),
            None => names.set(pair, side),
        };
        let mut sets: Vec<String> = Vec::new();
        for (pair, side) in here.iter().flat_map(|pair| [(pair, 0), (pair, 1)]) {
            let label = label(pair, side);
            if !sets.contains(&label) {
                sets.push(label);
            }
        }
        if sets.len() < 3 {
            continue;
        }
        let n = sets.len();
        let mut values = vec![f64::NAN; n * n];
        (0..n).for_each(|i| values[i * n + i] = 1.0);
        for pair in &here {
            let value = pair.table.f64(measure.column)?[pair.default_row()?];
            let at = [0, 1].map(|side| sets.iter().position(|set| *set == label(pair, side)).unwrap_or(0));
            values[at[0] * n + at[1]] = value;
            values[at[1] * n + at[0]] = value;
        }
        let body = Body::Heatmap(Heatmap {
            row_axis: "set of vectors".into(),
            column_axis: "set of vectors".into(),
            rows: sets.clone(),
            columns: sets,
            values,
            value: measure.short.to_string(),
            limit: Some(1.0),
        });
        let caption = format!("{} At the kept layer nearest to two thirds of the depth.", measure.caption);
        let mut figure = figure(format!("{name}-sets"), measure.title.into(), caption, here[0], body);
        figure.stories = source.map(String::from);
        figures.push(figure);
    }
    Ok(figures)
}

/// A table with one row per pair.
fn rows(name: &str, pairs: &[&Pair], names: &Names, measure: &Measure) -> Result<Figure> {
    let mut rows = Vec::new();
    for pair in pairs {
        let (table, row) = (pair.table, pair.default_row()?);
        let number =
            |column: &str, decimals| -> Result<Cell> { Ok(Cell::Number(table.f64(column)?[row], decimals)) };
        let layers = format!("{} / {}", table.i32("layer_a")?[row], table.i32("layer_b")?[row]);
        let mut cells = vec![
            Cell::Text(names.set(pair, 0)),
            Cell::Text(names.set(pair, 1)),
            Cell::Text(layers),
            number(measure.column, 3)?,
            ends(pair.ends(row, ("low", "high"))?, 2),
            number("p", 4)?,
        ];
        for (column, _, decimals) in measure.others {
            cells.push(match table.opt_f64(column) {
                Ok(values) => values[row].map_or(Cell::Empty, |value| Cell::Number(value, *decimals)),
                Err(_) => number(column, *decimals)?,
            });
        }
        rows.push(cells);
    }
    let heads = ["set", "other set", "layers", measure.short, "95 % interval", "p"];
    let heads = heads.into_iter().chain(measure.others.iter().map(|(_, head, _)| *head));
    let body = Body::Table(TableFigure { columns: heads.map(String::from).collect(), rows });
    let caption = measure.tested.to_string();
    Ok(figure(format!("{name}-pairs"), format!("{}, pair by pair", measure.title), caption, pairs[0], body))
}

/// Curves over the depth, one per pair, in one figure per model; none where only one layer is kept.
fn curves(name: &str, pairs: &[&Pair], names: &Names, measure: &Measure) -> Result<Vec<Figure>> {
    let mut models: Vec<&str> = Vec::new();
    for model in pairs.iter().flat_map(|pair| pair.models) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    let several = models.len() > 2;
    let mut figures = Vec::new();
    for model in models.iter().take(if several { models.len() } else { 1 }) {
        let here = pairs.iter().filter(|pair| !several || pair.models.contains(model));
        let series = here.filter(|pair| pair.rows.len() > 1).map(|pair| {
            let (depth, value) = (pair.table.f64("depth")?, pair.table.f64(measure.column)?);
            let points = pair.rows.iter().map(|&row| (depth[row], value[row])).collect();
            Ok(Series { name: names.pair(pair, "and"), points, ..Series::default() })
        });
        let series = series.collect::<Result<Vec<_>>>()?;
        if series.is_empty() {
            continue;
        }
        let lines =
            Lines { x: "relative depth".into(), y: measure.short.to_string(), series, ..Lines::default() };
        let title = format!("{} by depth", measure.title);
        let caption = "At each kept layer of the model with fewer kept layers, with the other's layer at the nearest \
             relative depth: block l of n has the depth (l + 0.5) / n.";
        let mut figure = figure(format!("{name}-depth"), title, caption.into(), pairs[0], Body::Lines(lines));
        figure.model = several.then(|| model.to_string());
        figures.push(figure);
    }
    Ok(figures)
}

/// Each layer of one set against each layer of the other; `None` where both keep only one.
fn layer_matrix(name: &str, pair: &Pair, names: &Names, measure: &Measure) -> Result<Option<Figure>> {
    let (a, b) = (pair.table.i32("layer_a")?, pair.table.i32("layer_b")?);
    let values = pair.table.f64(measure.column)?;
    let distinct = |layers: &[i32]| {
        let of: std::collections::BTreeSet<i32> = pair.rows.iter().map(|&row| layers[row]).collect();
        of.into_iter().map(|layer| layer.to_string()).collect::<Vec<_>>()
    };
    let (rows, columns) = (distinct(a), distinct(b));
    if rows.len() * columns.len() < 2 {
        return Ok(None);
    }
    let body = Body::Heatmap(Heatmap {
        row_axis: format!("layer of {}", names.set(pair, 0)),
        column_axis: format!("layer of {}", names.set(pair, 1)),
        rows,
        columns,
        values: pair.rows.iter().map(|&row| values[row]).collect(),
        value: measure.short.to_string(),
        limit: Some(1.0),
    });
    let title = format!("{}, layer by layer", measure.title);
    let caption = "Every kept layer of one set with every kept layer of the other.".to_string();
    let mut figure = figure(format!("{name}-layers"), title, caption, pair, body);
    figure.axes.push(("pair".to_string(), names.pair(pair, "and")));
    Ok(Some(figure))
}
