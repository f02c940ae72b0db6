//! The figures and claims of `probe`. Depends only on its tables.

use anyhow::{Context, Result};

use super::super::{Claim, Group, Null, distinct, groups};
use super::Probe;
use crate::report::figure::{Body, Cell, Dot, Dots, Figure, Heatmap, Lines, Series, TableFigure};
use crate::stages::statistics::Interval;
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Accuracy of a linear classifier of stories' emotions that is trained on other topics only, \
     with its 95 % interval over topics. Chance: the share of the most frequent emotion.";

/// The row of one layer.
struct Probed<'a> {
    stories: i32,
    folds: i32,
    groups: &'a str,
    accuracy: f64,
    interval: Option<Interval>,
    chance: f64,
    p: Option<f64>,
    null: Option<(f64, Interval)>,
}

fn read<'a>(group: &Group<'a>) -> Result<Probed<'a>> {
    let (table, row) = (group.table, *group.rows.first().context("a row")?);
    let one = |name: &str| anyhow::Ok(table.opt_f64(name)?[row]);
    let interval = |low: Option<f64>, high: Option<f64>| Some(Interval { low: low?, high: high? });
    Ok(Probed {
        stories: table.i32("stories_read")?[row],
        folds: table.i32("folds")?[row],
        groups: &table.str("groups")?[row],
        accuracy: table.f64("accuracy")?[row],
        interval: interval(one("low")?, one("high")?),
        chance: table.f64("chance")?[row],
        p: one("p")?,
        null: one("null_mean")?.zip(interval(one("null_low")?, one("null_high")?)),
    })
}

/// Accuracy over the layers with intervals and null, and as a table; for each layer the recall of each emotion and its
/// confusions.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    for group in groups(tables, "probe")? {
        add(&mut figures, name, &group, &read(&group)?);
    }
    let several = |f: &Figure| !matches!(&f.body, Body::Lines(l) if l.series[0].points.len() < 2);
    figures.retain(several);
    for group in groups(tables, "probe_recall")? {
        figures.push(recall(name, &group)?);
    }
    for group in groups(tables, "probe_confusion")? {
        figures.push(confusion(name, &group)?);
    }
    Ok(figures)
}

/// The accuracy with its interval and p.
pub fn claims(params: &Probe, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, "probe")? {
        let found = read(&group)?;
        let percent = |i: Interval| Interval { low: 100.0 * i.low, high: 100.0 * i.high };
        let null = found.p.map(|p| {
            let mean = found.null.map(|(mean, _)| 100.0 * mean);
            Null { of: "labels shuffled within topics", draws: params.permutations, mean, p }
        });
        let claim = group.claim("accuracy on other topics", "%", 100.0 * found.accuracy, 1);
        claims.push(
            claim.within(found.interval.map(percent), "percentile bootstrap over topics").against(null),
        );
    }
    Ok(claims)
}

/// Adds a layer to the curves and to the table of its model, stories and variant.
fn add(figures: &mut Vec<Figure>, name: &str, group: &Group, found: &Probed) {
    let axes = group.axes();
    let here = |f: &Figure| {
        (f.model.as_deref(), f.stories.as_deref(), &f.axes) == (Some(group.model), Some(group.stories), &axes)
    };
    if !figures.iter().any(here) {
        let series = |name: &str| Series { name: name.to_string(), ..Series::default() };
        let lines = Lines {
            x: "layer".into(),
            y: "accuracy, %".into(),
            series: ["other topics", "labels shuffled", "chance"].map(series).to_vec(),
            ..Lines::default()
        };
        let caption = format!(
            "A ridge classifier predicts the emotion of {} stories ({}) in cross-validation with {} folds by topic: \
             each fold is predicted by a classifier trained on the others. Intervals: percentile bootstrap over \
             topics. Labels shuffled: within each topic, with refitted classifiers; mean and central 95 %, on up to \
             1,000 of the stories. Chance: always predicting the most frequent emotion.",
            found.stories, found.groups, found.folds
        );
        let columns = ["layer", "accuracy, %", "chance, %", "labels shuffled, %", "p"];
        let table = TableFigure { columns: columns.map(String::from).to_vec(), rows: Vec::new() };
        let curves = (format!("{name}-layers"), "Accuracy over the layers", Body::Lines(lines));
        let table = (name.to_string(), "Accuracy on other topics", Body::Table(table));
        for (name, title, body) in [curves, table] {
            let mut figure = group.figure(name, title.to_string(), caption.clone(), body);
            figure.layer = None;
            figures.push(figure);
        }
    }
    let percent = |i: Interval| (100.0 * i.low, 100.0 * i.high);
    let (value, interval) = (100.0 * found.accuracy, found.interval.map(percent));
    let null = found.null.map(|(mean, band)| (100.0 * mean, percent(band)));
    let layer = f64::from(group.layer.number());
    for figure in figures.iter_mut().filter(|figure| here(figure)) {
        match &mut figure.body {
            Body::Lines(lines) => {
                lines.mark(group.layer);
                let chance = Some((100.0 * found.chance, (100.0 * found.chance, 100.0 * found.chance)));
                let of = [Some((value, interval.unwrap_or((value, value)))), null, chance];
                for (series, of) in lines.series.iter_mut().zip(of) {
                    series.points.extend(of.map(|(value, _)| (layer, value)));
                    series.intervals.extend(of.map(|(_, ends)| ends));
                }
            }
            Body::Table(TableFigure { rows, .. }) => rows.push(vec![
                Cell::layer(group.layer),
                interval.map_or(Cell::Number(value, 1), |ends| Cell::Ranged(value, ends, 1)),
                Cell::Number(100.0 * found.chance, 1),
                null.map_or(Cell::Empty, |(mean, ends)| Cell::Ranged(mean, ends, 1)),
                found.p.map_or(Cell::Empty, |p| Cell::Number(p, 3)),
            ]),
            _ => {}
        }
    }
}

fn recall(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (emotion, recall) = (table.str("emotion")?, table.f64("recall")?);
    let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
    let mut rows = group.rows.clone();
    rows.sort_by(|&x, &y| recall[y].total_cmp(&recall[x]));
    let dots = rows.iter().map(|&row| Dot {
        label: emotion[row].clone(),
        value: 100.0 * recall[row],
        interval: low[row].zip(high[row]).map(|(low, high)| (100.0 * low, 100.0 * high)),
        band: None,
    });
    Ok(group.figure(
        format!("{name}-recall"),
        "Emotions told".into(),
        "The share of each emotion's stories that the probe classifies correctly, on held-out topics; 95 % intervals \
         over topics."
            .into(),
        Body::Dots(Dots { x: "recall, %".into(), dots: dots.collect(), decimals: 0, band: String::new() }),
    ))
}

fn confusion(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let emotions = distinct(table.str("emotion")?, &group.rows);
    let labels: Vec<String> = emotions.iter().map(|e| e.to_string()).collect();
    let share = table.f64("share")?;
    Ok(group.figure(
        format!("{name}-confusion"),
        "Confusion matrix".into(),
        "Rows: the stories of an emotion. Columns: the share of them that the probe classifies as this emotion."
            .into(),
        Body::Heatmap(Heatmap {
            row_axis: "emotion".into(),
            column_axis: "told as".into(),
            rows: labels.clone(),
            columns: labels,
            values: group.rows.iter().map(|&row| 100.0 * share[row]).collect(),
            value: "% of the row's stories".into(),
            limit: Some(100.0),
        }),
    ))
}
