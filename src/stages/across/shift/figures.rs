//! The figures and claims of `shift`. Depends only on its tables.

use anyhow::Result;

use super::super::pairs::{Pair, pairs};
use super::Shift;
use crate::report::figure::{Body, Cell, Dot, Dots, Figure, TableFigure};
use crate::stages::analysis::{Claim, Null, Published};
use crate::store::table::Table;

/// Explains the claims of this analysis.
pub const READING: &str = "Cosines of the residual stream just before the answer with each emotion's vector, for the \
     same prompts in the model before and after further training. r between the models: over emotions, of their mean \
     cosines for a class of prompts, with a bootstrap over prompts. r of the changes: over emotions, of the mean \
     change for two classes; p: each prompt's change with a random sign, for all emotions at once. The ceiling is the \
     largest value that the noise of the prompts permits: the geometric mean of both classes' split-half \
     reliabilities.";

/// The original study's result for a base model and the model trained from it.
const SOURCE: &str = "Anthropic 2026, Claude Sonnet 4.5";
const UNLIKE: &str = "another model, other prompts, other emotions";

fn published(what: &str) -> Vec<Published> {
    let value = match what {
        "r between the models, neutral" => 0.83,
        "r between the models, challenging" => 0.67,
        "r of the changes, challenging and neutral" | "r of the changes, neutral and challenging" => 0.90,
        _ => return Vec::new(),
    };
    vec![Published { source: SOURCE, value, but: UNLIKE }]
}

/// The claims, listed under the tuned model.
pub fn claims(params: &Shift, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for pair in pairs(tables, "shift_tests")? {
        let (what, value, p) = (pair.table.str("what")?, pair.table.f64("value")?, pair.table.opt_f64("p")?);
        for &row in &pair.rows {
            let null = p[row].map(|p| Null {
                of: "prompts' changes with random signs",
                draws: params.permutations,
                mean: None,
                p,
            });
            let claim = pair.claim((1, row), &what[row], "", value[row], 2)?;
            let claim = claim
                .within(pair.ends(row, ("low", "high"))?, "percentiles of prompts drawn with replacement");
            claims.push(Claim { published: published(&what[row]), ..claim.against(null) });
        }
    }
    for pair in pairs(tables, "shift")? {
        let (class, q) = (pair.table.str("class")?, pair.table.f64("q")?);
        let layer = pair.table.i32("layer_b")?;
        let mut seen: Vec<(i32, &str)> = Vec::new();
        for &row in &pair.rows {
            let here = (layer[row], class[row].as_str());
            if seen.contains(&here) {
                continue;
            }
            seen.push(here);
            let own: Vec<usize> =
                pair.rows.iter().copied().filter(|&r| (layer[r], class[r].as_str()) == here).collect();
            let changed = own.iter().filter(|&&row| q[row] <= 0.05).count();
            let share = 100.0 * changed as f64 / own.len() as f64;
            let what = format!("emotions that change, q at most .05, {}", here.1);
            claims.push(pair.claim((1, row), &what, "% of emotions", share, 0)?);
        }
    }
    Ok(claims)
}

/// The change of each emotion for each class, and the claimed numbers, at the layer nearest to two thirds of the
/// depth.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for pair in pairs(tables, "shift")? {
        let class = pair.table.str("class")?;
        let at = pair.default_row()?;
        let layer = pair.table.i32("layer_b")?;
        let mut classes: Vec<&str> = pair.rows.iter().map(|&row| class[row].as_str()).collect();
        let mut seen = std::collections::HashSet::new();
        classes.retain(|class| seen.insert(*class));
        for wanted in classes {
            let rows: Vec<usize> = pair
                .rows
                .iter()
                .copied()
                .filter(|&row| class[row] == wanted && layer[row] == layer[at])
                .collect();
            figures.push(changes(name, &pair, wanted, rows)?);
        }
    }
    for pair in pairs(tables, "shift_tests")? {
        figures.push(tests(name, &pair)?);
    }
    Ok(figures)
}

fn figure(name: String, title: String, caption: String, pair: &Pair, body: Body) -> Figure {
    let (model, stories) = (Some(pair.models[1].to_string()), Some(pair.stories[1].to_string()));
    Figure { name, title, caption, model, stories, layer: None, axes: pair.axes(), body }
}

fn changes(name: &str, pair: &Pair, class: &str, mut rows: Vec<usize>) -> Result<Figure> {
    let table = pair.table;
    let (emotion, value, q) = (table.str("emotion")?, table.f64("value")?, table.f64("q")?);
    rows.sort_by(|&a, &b| value[b].total_cmp(&value[a]));
    let mut dots = Vec::new();
    for &row in &rows {
        let interval = pair.ends(row, ("low", "high"))?.map(|ends| (ends.low, ends.high));
        let mark = if q[row] <= 0.05 { " *" } else { "" };
        dots.push(Dot { label: format!("{}{mark}", emotion[row]), value: value[row], interval, band: None });
    }
    let caption = format!(
        "Change from {} to {} in the cosine of the residual stream with each emotion's vector, just before the answer \
         to {} `{class}` prompts, at layer {}. Intervals: bootstrap over prompts. *: q <= .05, over all emotions and \
         classes; p from random signs of the prompts' changes.",
        pair.models[0],
        pair.models[1],
        table.i32("prompts")?[rows[0]],
        table.i32("layer_b")?[rows[0]],
    );
    let body = Body::Dots(Dots { x: "change of the cosine".into(), dots, decimals: 3, band: String::new() });
    Ok(figure(format!("{name}-{class}"), format!("Changes before the answer: {class}"), caption, pair, body))
}

fn tests(name: &str, pair: &Pair) -> Result<Figure> {
    let table = pair.table;
    let (what, value, layer) = (table.str("what")?, table.f64("value")?, table.i32("layer_b")?);
    let (p, ceiling) = (table.opt_f64("p")?, table.opt_f64("ceiling")?);
    let number = |x: Option<f64>, decimals| x.map_or(Cell::Empty, |x| Cell::Number(x, decimals));
    let mut rows = Vec::new();
    for &row in &pair.rows {
        let shown = match pair.ends(row, ("low", "high"))? {
            Some(ends) => Cell::Ranged(value[row], (ends.low, ends.high), 2),
            None => Cell::Number(value[row], 2),
        };
        rows.push(vec![
            Cell::Number(f64::from(layer[row]), 0),
            Cell::Text(what[row].clone()),
            shown,
            number(p[row], 3),
            number(ceiling[row], 2),
        ]);
    }
    let caption = format!(
        "Correlations over emotions: of the mean cosines of {} and of {}, and of the changes of two classes of \
         prompts. The ceiling is the largest value that the noise of the prompts permits for the latter.",
        pair.models[0], pair.models[1]
    );
    let columns = ["layer", "what", "r", "p", "ceiling"].map(String::from).to_vec();
    let body = Body::Table(TableFigure { columns, rows });
    Ok(figure(format!("{name}-tests"), "Before and after, over emotions".into(), caption, pair, body))
}
