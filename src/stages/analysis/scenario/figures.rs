//! The figures and claims of a scenario. Depends only on its tables.

use anyhow::Result;

use super::accuracy::ALL;
use super::outcomes::{NEWCOMBE, WIDER};
use super::tables::is_unsteered;
use super::{Evidence, Scenario};
use super::{coloured, read_figures as read, samples};
use crate::report::figure::{Band, Body, Cell, Figure, Lines, Multiples, Plot, Series, TableFigure};
use crate::stages::analysis::{Claim, Group, Null, distinct, groups};
use crate::stages::rollouts::cells::is_random;
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::clopper_pearson;
use crate::stages::statistics::shares::{newcombe, seen_above};
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Effect of adding an emotion's vector on the scenario's act: on its log-odds among declared \
     choices, averaged over cases and orders of the options, or on its share among texts. p is the rank among random \
     directions of the same norm and sample size, q is adjusted over the cells. If the control changes as much, the \
     effect is not specific to the act.";

/// A warning is shown above this share of truncated texts.
const CUT_OFTEN: f64 = 0.05;
/// One emotion at one strength.
struct Row<'a> {
    steered: &'a str,
    strength: f64,
    unsteered: f64,
    effect: f64,
    interval: Option<(f64, f64)>,
    method: &'a str,
    control: Option<f64>,
    random: Option<(f64, f64)>,
    n_random: usize,
    p: Option<f64>,
    q: Option<f64>,
    n: usize,
    aside: f64,
}

fn rows<'a>(group: &'a Group<'a>) -> Result<Vec<Row<'a>>> {
    let table = group.table;
    let (steered, method) = (table.str("steered")?, table.str("method")?);
    let [strength, unsteered, effect, aside] =
        [table.f64("strength")?, table.f64("unsteered")?, table.f64("effect")?, table.f64("aside")?];
    let option = |name: &str| table.opt_f64(name);
    let (low, high, control) = (option("low")?, option("high")?, option("control_effect")?);
    let (random_low, random_high) = (option("random_low")?, option("random_high")?);
    let (p, q, n, n_random) = (option("p")?, option("q")?, table.i32("n")?, table.i32("n_random")?);
    let row = |&row: &usize| Row {
        steered: &steered[row],
        strength: strength[row],
        unsteered: unsteered[row],
        effect: effect[row],
        interval: low[row].zip(high[row]),
        method: &method[row],
        control: control[row],
        random: random_low[row].zip(random_high[row]),
        n_random: n_random[row] as usize,
        p: p[row],
        q: q[row],
        n: n[row] as usize,
        aside: aside[row],
    };
    Ok(group.rows.iter().map(row).collect())
}

/// Per set: effects over strengths compared with random directions, and their numbers; with texts also the shares of
/// outcomes, and samples to read.
pub fn figures(params: &Scenario, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in &groups(tables, "scenario")? {
        let rows = rows(group)?;
        figures.push(doses(params, name, group, &rows));
        figures.push(numbers(params, name, group, &rows));
    }
    for group in &groups(tables, "scenario_outcomes")? {
        figures.push(shares(name, group)?);
    }
    for group in &groups(tables, "scenario_accuracy")? {
        figures.push(accuracy(name, group)?);
    }
    for group in &groups(tables, "scenario_probe")? {
        figures.extend(read::figures(name, group)?);
    }
    let samples = groups(tables, "scenario_samples")?;
    for group in &samples {
        figures.push(samples::figure(name, group)?);
    }
    for group in &groups(tables, "scenario_tokens")? {
        if let Some(samples) = samples.iter().find(|samples| samples.place() == group.place()) {
            figures.push(coloured::figure(name, group, samples)?);
        }
    }
    Ok(figures)
}

fn unit(params: &Scenario) -> &'static str {
    match params.evidence {
        Evidence::Choices => "log-odds of the act",
        _ => "share of the act",
    }
}

fn doses(params: &Scenario, name: &str, group: &Group, rows: &[Row]) -> Figure {
    let mut emotions: Vec<&str> = Vec::new();
    for row in rows {
        if !emotions.contains(&row.steered) {
            emotions.push(row.steered);
        }
    }
    // At strength 0 nothing changes by definition; the sampling error of a share of this many texts is shown there
    // too.
    let chance = rows.first().map_or((0.0, 0.0), |row| unsteered(params, row));
    let series = emotions.iter().map(|emotion| {
        let own = rows.iter().filter(|row| row.steered == *emotion);
        let ends = |row: &Row| row.interval.unwrap_or((row.effect, row.effect));
        let mut points: Vec<(f64, f64, (f64, f64))> =
            own.map(|row| (row.strength, row.effect, ends(row))).collect();
        points.push((0.0, 0.0, chance));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: emotion.to_string(),
            points: points.iter().map(|point| (point.0, point.1)).collect(),
            intervals: if rows.iter().all(|row| row.interval.is_some()) {
                points.iter().map(|point| point.2).collect()
            } else {
                Vec::new()
            },
        }
    });
    let mut band: Vec<(f64, f64, f64)> =
        rows.iter().filter_map(|row| row.random.map(|(low, high)| (row.strength, low, high))).collect();
    band.sort_by(|a, b| a.0.total_cmp(&b.0));
    band.dedup();
    if !band.is_empty() {
        band.push((0.0, 0.0, 0.0));
        band.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let bands = if band.is_empty() {
        Vec::new()
    } else {
        vec![Band { name: "random directions".into(), points: band }]
    };
    let body = Lines {
        x: "strength, mean residual norms".into(),
        y: format!("change of the {}", unit(params)),
        series: series.collect(),
        bands,
        log: false,
    };
    let caption = format!("{}{}", described(params, rows), warnings(params, rows));
    group.figure(name.to_string(), "The act under steering".into(), caption, Body::Lines(body))
}

/// The interval of no change: for texts, Newcombe's interval for the difference between the unsteered share and the
/// same share in an equal number of texts; for choices, which have no sampling noise, none.
fn unsteered(params: &Scenario, row: &Row) -> (f64, f64) {
    let count = ((row.unsteered * row.n as f64).round() as usize, row.n);
    let drawn = newcombe(count, count).filter(|_| params.evidence != Evidence::Choices);
    drawn.map_or((0.0, 0.0), |interval| (interval.low, interval.high))
}

fn described(params: &Scenario, rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let what = match params.evidence {
        Evidence::Choices => format!(
            "Log-odds of the act among declared choices, over {} cases and all orders of the options; without steering {:.2}.",
            first.n, first.unsteered
        ),
        _ => {
            format!(
                "Share of the act among {} texts a cell; without steering {:.0} %.",
                first.n,
                100.0 * first.unsteered
            )
        }
    };
    let interval = if first.interval.is_some() {
        format!(" Intervals of 95 %: {}.", first.method)
    } else {
        String::new()
    };
    format!(
        "{what}{interval} At 0 nothing is added. Band: the range of {} random directions of the same norm and sample \
         size.",
        first.n_random
    )
}

/// Reasons for caution about the numbers.
fn warnings(params: &Scenario, rows: &[Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let mut said = String::new();
    if params.evidence == Evidence::Choices {
        let least = rows.iter().map(|row| row.aside).fold(1.0, f64::min);
        if least < 0.5 {
            said += &format!(
                " In some cells the letters have a total probability of only {least:.2}: there the model would answer \
                 something else, and the odds say little."
            );
        }
        return said;
    }
    let hits = (first.unsteered * first.n as f64).round() as usize;
    if let Some(ends) = clopper_pearson(hits, first.n).filter(|_| hits == 0 || hits == first.n) {
        let (what, bound) = if hits == 0 { ("floor", ends.high) } else { ("ceiling", ends.low) };
        said += &format!(
            " A {what}: without steering {hits} of {} texts are the act, so that its share is {} {:.1} %; a further \
             change in this direction cannot be detected here; use `evidence = \"choices\"`.",
            first.n,
            if hits == 0 { "at most" } else { "at least" },
            100.0 * bound
        );
    }
    if let Some(to) = seen_above(first.unsteered, first.n) {
        said += &format!(
            " With {} texts per cell, an increase from {:.0} % is detected with a power of 80 % if it reaches {:.0} %.",
            first.n,
            100.0 * first.unsteered,
            100.0 * to
        );
    }
    let cut = rows.iter().map(|row| row.aside).fold(0.0, f64::max);
    if cut > CUT_OFTEN {
        said += &format!(
            " In some cells {:.0} % of the texts were truncated: raise `max_new_tokens`.",
            100.0 * cut
        );
    }
    said
}

fn numbers(params: &Scenario, name: &str, group: &Group, rows: &[Row]) -> Figure {
    let (scale, decimals) = match params.evidence {
        Evidence::Choices => (1.0, 2),
        _ => (100.0, 0),
    };
    let option =
        |value: Option<f64>, decimals| value.map_or(Cell::Empty, |value| Cell::Number(value, decimals));
    let cells = rows.iter().map(|row| {
        let effect = match row.interval {
            Some((low, high)) => Cell::Ranged(scale * row.effect, (scale * low, scale * high), decimals),
            None => Cell::Number(scale * row.effect, decimals),
        };
        vec![
            Cell::Text(row.steered.to_string()),
            Cell::Number(row.strength, 2),
            effect,
            option(row.control.map(|value| scale * value), decimals),
            option(row.p, 3),
            option(row.q, 3),
        ]
    });
    let columns = ["steered", "strength", "change of the act", "change in the control", "p", "q"];
    let caption = "p: rank of the change's size among random directions of the same norm; q: adjusted over all cells \
         (Benjamini and Hochberg). If the control changes as much, the effect is not specific to the act.";
    let body = TableFigure { columns: columns.map(String::from).to_vec(), rows: cells.collect() };
    group.figure(format!("{name}-cells"), "Cells".into(), caption.into(), Body::Table(body))
}

/// Whether a row is of an emotion's vector.
fn is_emotion(steered: &str) -> bool {
    !is_random(steered) && !is_unsteered(steered)
}

/// Shares of each outcome over strengths, one plot per emotion.
fn shares(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (steered, outcome, control) = (table.str("steered")?, table.str("outcome")?, table.bool("control")?);
    let (strength, count, n) = (table.f64("strength")?, table.i32("count")?, table.i32("n")?);
    let rows: Vec<usize> = group.rows.iter().copied().filter(|&row| !control[row]).collect();
    let emotions = distinct(steered, &rows);
    let outcomes = distinct(outcome, &rows);
    // From the smallest to the largest share of a random direction, at each strength.
    let band = |name: &&str| {
        let mut points: Vec<(f64, f64, f64)> = Vec::new();
        for &row in rows.iter().filter(|&&row| outcome[row] == **name && !is_emotion(&steered[row])) {
            let share = 100.0 * f64::from(count[row]) / f64::from(n[row]);
            match points.iter_mut().find(|point| point.0 == strength[row]) {
                Some(point) => (point.1, point.2) = (point.1.min(share), point.2.max(share)),
                None => points.push((strength[row], share, share)),
            }
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (points.len() > 1).then(|| Band { name: name.to_string(), points })
    };
    let bands: Vec<Band> = outcomes.iter().filter_map(band).collect();
    let plot = |emotion: &&str| {
        let series = outcomes.iter().map(|name| {
            let mine = |&&row: &&usize| {
                outcome[row] == *name && (steered[row] == **emotion || is_unsteered(&steered[row]))
            };
            let mut own: Vec<usize> = rows.iter().filter(mine).copied().collect();
            own.sort_by(|&a, &b| strength[a].total_cmp(&strength[b]));
            let share = |row: usize| 100.0 * f64::from(count[row]) / f64::from(n[row]);
            let ends = |row: usize| {
                let ends = clopper_pearson(count[row] as usize, n[row] as usize);
                ends.map_or((0.0, 100.0), |i: Interval| (100.0 * i.low, 100.0 * i.high))
            };
            Series {
                name: name.to_string(),
                points: own.iter().map(|&row| (strength[row], share(row))).collect(),
                intervals: own.iter().map(|&row| ends(row)).collect(),
            }
        });
        Plot { title: format!("{emotion}: % of texts"), series: series.collect(), bands: bands.clone() }
    };
    let own: Vec<&&str> = emotions.iter().filter(|emotion| is_emotion(emotion)).collect();
    if own.is_empty() {
        return numbers_of(name, group, &rows);
    }
    let own = own.into_iter();
    let body = Multiples { x: "strength".into(), plots: own.map(plot).collect() };
    let caption = "Share of texts with each outcome, with Clopper-Pearson intervals; 0 is without steering. Bands, in \
         the colour of their outcome: the range over random directions of the same norm and sample size.";
    Ok(group.figure(format!("{name}-outcomes"), "Outcomes".into(), caption.into(), Body::Multiples(body)))
}

/// Shares of each outcome without steering.
fn numbers_of(name: &str, group: &Group, rows: &[usize]) -> Result<Figure> {
    let table = group.table;
    let (outcome, count, n) = (table.str("outcome")?, table.i32("count")?, table.i32("n")?);
    let cells = rows.iter().map(|&row| {
        let (hits, n) = (count[row] as usize, n[row] as usize);
        let share = 100.0 * hits as f64 / n as f64;
        let ends =
            clopper_pearson(hits, n).map_or((0.0, 100.0), |ends| (100.0 * ends.low, 100.0 * ends.high));
        vec![Cell::Text(outcome[row].clone()), Cell::Number(hits as f64, 0), Cell::Ranged(share, ends, 0)]
    });
    let body =
        TableFigure { columns: ["outcome", "texts", "%"].map(String::from).to_vec(), rows: cells.collect() };
    let caption = "Texts of each outcome without steering, with Clopper-Pearson intervals.";
    Ok(group.figure(format!("{name}-outcomes"), "Outcomes".into(), caption.into(), Body::Table(body)))
}

/// The accuracy of the assigned outcomes, according to human labels.
fn accuracy(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (arm, strength) = (table.str("arm")?, table.f64("strength")?);
    let (n_act, n_other) = (table.i32("n_act")?, table.i32("n_other")?);
    let percent = |of: [&str; 3], row: usize| -> Result<Cell> {
        let [value, low, high] =
            [table.opt_f64(of[0])?[row], table.opt_f64(of[1])?[row], table.opt_f64(of[2])?[row]];
        Ok(match (value, low.zip(high)) {
            (Some(value), Some((low, high))) => Cell::Ranged(100.0 * value, (100.0 * low, 100.0 * high), 0),
            (Some(value), None) => Cell::Number(100.0 * value, 0),
            _ => Cell::Empty,
        })
    };
    let told = table.opt_f64("told")?;
    let row = |&row: &usize| -> Result<Vec<Cell>> {
        Ok(vec![
            Cell::Text(if arm[row] == ALL {
                "all arms".into()
            } else {
                format!("{} {}", arm[row], strength[row])
            }),
            Cell::Text(format!("{} + {}", n_act[row], n_other[row])),
            percent(["sensitivity", "sensitivity_low", "sensitivity_high"], row)?,
            percent(["specificity", "specificity_low", "specificity_high"], row)?,
            told[row].map_or(Cell::Empty, |told| Cell::Number(100.0 * told, 0)),
            percent(["corrected", "low", "high"], row)?,
            percent(["pooled", "pooled_low", "pooled_high"], row)?,
        ])
    };
    let rows = group.rows.iter().map(row).collect::<Result<Vec<_>>>()?;
    let p = group.rows.first().and_then(|&row| table.opt_f64("p_differs").ok()?[row]);
    let differs = match p {
        Some(p) if p <= 0.05 => format!(
            " Warning: the classification's accuracy differs between arms (p {p:.3}): a change of the observed share \
             may be a change of the classification's accuracy; compare only shares corrected by their own arm's \
             accuracy."
        ),
        Some(p) => {
            format!(" No evidence that the classification's accuracy differs between arms (p {p:.2}).")
        }
        None => " Too few labels to compare arms.".to_string(),
    };
    let caption = format!(
        "Compared with manual labels (act + others), in %: sensitivity and specificity of the classification, with \
         Clopper-Pearson intervals; the observed share of the act, and the share corrected by the Rogan-Gladen \
         formula, with Lang-Reiczigel intervals, using the accuracy of the arm and of all arms together.{differs}"
    );
    let columns = ["arm", "labels", "sensitivity", "specificity", "told", "corrected", "corrected by all"];
    let body = TableFigure { columns: columns.map(String::from).to_vec(), rows };
    Ok(group.figure(format!("{name}-accuracy"), "Labels by hand".into(), caption, Body::Table(body)))
}

/// The change of the act in each cell.
pub fn claims(params: &Scenario, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = read::claims(tables)?;
    for group in &groups(tables, "scenario")? {
        for row in rows(group)? {
            let (scale, unit, decimals) = match params.evidence {
                Evidence::Choices => (1.0, "log-odds", 2),
                _ => (100.0, "percentage points", 0),
            };
            let null = row.p.map(|p| Null {
                of: "random directions of the same norm",
                draws: row.n_random,
                mean: None,
                p,
            });
            let interval = row.interval.map(|(low, high)| Interval { low: scale * low, high: scale * high });
            let method = match row.method {
                NEWCOMBE => NEWCOMBE,
                WIDER => WIDER,
                _ => "percentile bootstrap over cases",
            };
            let what = format!("act under {} at {}", row.steered, row.strength);
            let claim = group.claim(what, unit, scale * row.effect, decimals);
            claims.push(claim.within(interval, method).against(null));
        }
    }
    Ok(claims)
}
