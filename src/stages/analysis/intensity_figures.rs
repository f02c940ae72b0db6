//! The figures for growing numbers: curves of the named emotions, and how monotonic they are.

use anyhow::Result;

use super::estimates::mean;
use super::intensity::{Intensity, Template};
use super::turns::ReadAt;
use super::{Group, groups};
use crate::report::figure::{Body, Cell, Figure, Lines, Series, TableFigure};
use crate::store::table::Table;

/// For each set and layer, the curves of each template and a table of all trends.
pub fn figures(params: &Intensity, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let trends = groups(tables, "intensity_trend")?;
    for group in groups(tables, "intensity")? {
        for template in &params.templates {
            figures.extend(curves(name, &group, template)?);
        }
        if let Some(trends) = trends.iter().find(|trends| trends.place() == group.place()) {
            figures.push(table(params, name, trends)?);
        }
    }
    Ok(figures)
}

/// Numbers that span at least this many decades get a logarithmic axis.
const DECADES: f64 = 1.5;

/// `None`: the template was skipped.
fn curves(name: &str, group: &Group, template: &Template) -> Result<Option<Figure>> {
    let table = group.table;
    let (of, emotions) = (table.str("template")?, table.str("emotion")?);
    let (numbers, cosines) = (table.f64("number")?, table.f64("cosine")?);
    let rows: Vec<usize> = group.rows.iter().copied().filter(|&row| of[row] == template.name).collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let mut along = template.numbers.clone();
    along.sort_by(f64::total_cmp);
    let series = super::distinct(emotions, &rows).into_iter().map(|emotion| {
        let at = |&x: &f64| {
            let here = rows.iter().filter(|&&row| emotions[row] == emotion && numbers[row] == x);
            Some((x, mean(&here.map(|&row| cosines[row]).collect::<Vec<_>>())?))
        };
        let should = if template.rise.iter().any(|e| e == emotion) { "should rise" } else { "should fall" };
        Series {
            name: format!("{emotion} ({should})"),
            points: along.iter().filter_map(at).collect(),
            ..Series::default()
        }
    });
    let (least, most) = (along[0], along[along.len() - 1]);
    let body = Lines {
        x: template.name.clone(),
        y: "cosine, mean over phrasings".into(),
        series: series.collect(),
        log: least > 0.0 && (most / least).log10() >= DECADES,
        ..Lines::default()
    };
    Ok(Some(group.figure(
        format!("{name}-{}", template.name),
        format!("The number in \u{201c}{}\u{201d}", template.name),
        format!(
            "The cosine of each emotion's vector with the residual stream just before the answer, against the number \
             in the text: mean over {} phrasings, the first of which is \u{201c}{}\u{201d}.",
            template.texts.len(),
            template.texts[0]
        ),
        Body::Lines(body),
    )))
}

fn table(params: &Intensity, name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (templates, emotions, expected) =
        (table.str("template")?, table.str("emotion")?, table.i32("expected")?);
    let numbers = ["spearman", "least", "most", "control", "p_order", "p_direction", "p_label"];
    let values = numbers.map(|column| table.f64(column));
    let [spearman, least, most, control, order, direction, label] = values;
    let (spearman, least, most, order, direction) = (spearman?, least?, most?, order?, direction?);
    let (control, label) = (control?, label?);
    let row = |&row: &usize| {
        vec![
            Cell::Text(templates[row].clone()),
            Cell::Text(emotions[row].clone()),
            Cell::Text(if expected[row] > 0 { "rises" } else { "falls" }.into()),
            Cell::Number(spearman[row], 2),
            Cell::Number(least[row], 2),
            Cell::Number(most[row], 2),
            Cell::Number(control[row], 2),
            Cell::Number(label[row], 3),
            Cell::Number(direction[row], 3),
            Cell::Number(order[row], 4),
        ]
    };
    let read = |template: &Template, emotion: &String| {
        group.rows.iter().any(|&row| templates[row] == template.name && emotions[row] == *emotion)
    };
    let left_out: Vec<String> = params
        .templates
        .iter()
        .flat_map(|t| {
            t.rise.iter().chain(&t.fall).filter(|e| !read(t, e)).map(|e| format!("{e} ({})", t.name))
        })
        .collect();
    let mut caption = "Spearman's rank correlation of the number with the cosine: mean, minimum and maximum over the \
         phrasings of a template, and the correlation in texts where the number is irrelevant (a bus line, a page). \
         First p: the share of 199 vectors of the same emotion from shuffled labels whose correlation, minus that \
         where the number is irrelevant, is at least as large in the expected direction. Second p: the same share of \
         199 random directions. Third p: the same share of 1,999 permutations of the numbers; it only tests whether \
         there is any correlation, which every direction may have."
        .to_string();
    if params.wrap != ReadAt::User {
        caption += &format!(" Read {}.", params.wrap.place());
    }
    if !left_out.is_empty() {
        caption += &format!(" Skipped, because the experiment has no such emotion: {}.", left_out.join(", "));
    }
    let columns = [
        "template",
        "emotion",
        "expected",
        "Spearman",
        "least",
        "most",
        "no meaning",
        "p, labels",
        "p, direction",
        "p, order",
    ];
    Ok(group.figure(
        format!("{name}-trends"),
        "Do readings follow the number?".into(),
        caption,
        Body::Table(TableFigure {
            columns: columns.map(String::from).to_vec(),
            rows: group.rows.iter().map(row).collect(),
        }),
    ))
}
