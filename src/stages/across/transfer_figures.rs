//! The figures of transfer between models. Computes nothing but means of the measured values.

use anyhow::Result;

use super::chance::interval;
use super::pairs::{self, Names, Pair, pairs};
use super::steered::{MAPPED, OWN, RANDOM, SHUFFLED};
use crate::report::figure::{Bar, Bars, Body, Cell, Figure, Heatmap, Lines, Series, TableFigure};
use crate::stages::analysis::{Claim, Null};
use crate::stages::statistics::Interval;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::p_value;
use crate::store::table::Table;

/// Resamples of emotions for the intervals of steering: the number that a percentile interval needs (Efron and
/// Tibshirani 1993, section 13.3).
const RESAMPLES: usize = 1000;

/// A table of all pairs, a matrix for three or more models, curves over the depth, emotions and steering by target.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let all = pairs(tables, "transfer")?;
    let names = Names::of(&all);
    let mut figures = Vec::new();
    let mut done: Vec<(&str, &str)> = Vec::new();
    for pair in &all {
        let place = (pair.variant, pair.stories[1]);
        if done.contains(&place) {
            continue;
        }
        done.push(place);
        let here: Vec<&Pair> = all.iter().filter(|p| (p.variant, p.stories[1]) == place).collect();
        figures.push(summary(name, &here)?);
        figures.extend(matrix(name, &here)?);
    }
    figures.extend(curves(name, &all)?);
    figures.extend(emotions(name, &pairs(tables, "transfer_emotions")?, &all)?);
    figures.extend(steering(name, &pairs(tables, "transfer_steering")?, &names)?);
    Ok(figures)
}

/// Explains the claims.
pub const READING: &str = "The rank of an emotion's own vector among all, after a map from the other model that was \
     fitted on other topics (1: always the nearest); how often it is the nearest; and the share of the vectors' \
     variance that the mapped vectors predict. Transfer is more than chance if both rank and R\u{b2} exceed their \
     nulls.";

/// For each layer of each target: the mean rank, how often it is 1, and R\u{b2}, against `permutations` shuffles.
pub fn claims(tables: &[(String, Table)], permutations: usize) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for pair in pairs(tables, "transfer")? {
        for &row in &pair.rows {
            let at = |column: &str| Ok::<_, anyhow::Error>(pair.table.f64(column)?[row]);
            let null = |mean, p| Null {
                of: "cells shuffled within topics before the fit",
                draws: permutations,
                mean,
                p,
            };
            let method = "percentiles of emotions and parts of the topics drawn with replacement";
            let ends = pair.ends(row, ("low", "high"))?;
            let rank = pair.claim((1, row), "mean rank", "", at("mean_rank")?, 2)?;
            claims.push(rank.within(ends, method).against(Some(null(Some(at("rank_null")?), at("p")?))));
            let ends = pair.ends(row, ("top1_low", "top1_high"))?.map(percent);
            let top1 = pair.claim((1, row), "own emotion first", "%", 100.0 * at("top1")?, 0)?;
            claims.push(top1.within(ends, method));
            let r2 = pair.claim((1, row), "R\u{b2}", "", at("r2")?, 2)?;
            claims.push(r2.against(Some(null(None, at("r2_p")?))));
        }
    }
    Ok(claims)
}

/// Converts a share to per cent.
fn percent(Interval { low, high }: Interval) -> Interval {
    Interval { low: 100.0 * low, high: 100.0 * high }
}

/// A figure about one source and variant.
fn figure(name: String, title: &str, caption: String, pair: &Pair, body: Body) -> Figure {
    let stories = Some(pair.stories[1].to_string());
    Figure { name, title: title.into(), caption, model: None, stories, layer: None, axes: pair.axes(), body }
}

fn summary(name: &str, pairs: &[&Pair]) -> Result<Figure> {
    let mut rows = Vec::new();
    for pair in pairs {
        let (table, row) = (pair.table, pair.default_row()?);
        let at = |column: &str| Ok::<_, anyhow::Error>(table.f64(column)?[row]);
        let emotions = f64::from(table.i32("emotions")?[row]);
        let layers = format!("{} / {}", table.i32("layer_a")?[row], table.i32("layer_b")?[row]);
        rows.push(vec![
            Cell::Text(pair.models[0].to_string()),
            Cell::Text(pair.models[1].to_string()),
            Cell::Text(layers),
            Cell::Number(at("mean_rank")?, 2),
            pairs::ends(pair.ends(row, ("low", "high"))?, 2),
            Cell::Number((emotions + 1.0) / 2.0, 1),
            Cell::Number(at("p")?, 4),
            Cell::Number(100.0 * at("top1")?, 0),
            pairs::ends(pair.ends(row, ("top1_low", "top1_high"))?.map(percent), 0),
            Cell::Number(at("r2")?, 2),
            Cell::Number(at("r2_null")?, 2),
            Cell::Number(at("r2_p")?, 4),
            Cell::Text(if carries(table, row)? { "yes" } else { "not shown" }.to_string()),
        ]);
    }
    let columns = [
        "from",
        "to",
        "layers",
        "mean rank",
        "95 % interval",
        "by chance",
        "p",
        "first, %",
        "95 % interval",
        "R\u{b2}",
        "R\u{b2} of 95 % of shuffles",
        "p of R\u{b2}",
        "transfer",
    ];
    let body = Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows });
    let caption = "Each emotion's vector of one model, mapped into the other, ranked by cosine among all of the \
         other's emotion vectors: the mean rank of its own (1: always the nearest), and how often it is first. The \
         map, the mapped vectors and the target vectors come from three disjoint sets of topics. Intervals: over \
         emotions and parts of the topics (none with fewer than five of either). R\u{b2}: the share of the target \
         vectors' variance that the mapped ones predict; below 0 they predict worse than zero vectors. p: how often a \
         mean rank as low, or an R\u{b2} as high, occurs when the emotions of one model's cells are shuffled within \
         each topic and every map is refitted. Transfer is shown if both are at most .05.";
    Ok(figure(
        format!("{name}-pairs"),
        "Rank of the mapped vector's own emotion",
        caption.into(),
        pairs[0],
        body,
    ))
}

/// Whether the transfer is significant: both ranks and `r2`.
fn carries(table: &Table, row: usize) -> Result<bool> {
    Ok(table.f64("p")?[row] <= 0.05 && table.f64("r2_p")?[row] <= 0.05)
}

/// From each model to each other, if there are three or more.
fn matrix(name: &str, pairs: &[&Pair]) -> Result<Option<Figure>> {
    let mut models: Vec<&str> = Vec::new();
    for model in pairs.iter().flat_map(|pair| [pair.models[1], pair.models[0]]) {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    if models.len() < 3 {
        return Ok(None);
    }
    let n = models.len();
    let mut values = vec![f64::NAN; n * n];
    for pair in pairs {
        let at = pair.models.map(|model| models.iter().position(|m| *m == model).unwrap_or_default());
        values[at[0] * n + at[1]] = 100.0 * pair.table.f64("top1")?[pair.default_row()?];
    }
    let labels: Vec<String> = models.iter().map(ToString::to_string).collect();
    let body = Body::Heatmap(Heatmap {
        row_axis: "from".into(),
        column_axis: "to".into(),
        rows: labels.clone(),
        columns: labels,
        values,
        value: "own emotion first, %".into(),
        limit: Some(100.0),
    });
    let caption = "How often the mapped vector of an emotion is nearest to the other model's vector of the same emotion.";
    Ok(Some(figure(format!("{name}-models"), "Own emotion first", caption.into(), pairs[0], body)))
}

/// The mean rank over the depth for each target, one curve per source model.
fn curves(name: &str, pairs: &[Pair]) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.rows.len() > 1) {
        let (depth, rank) = (pair.table.f64("depth")?, pair.table.f64("mean_rank")?);
        let points = pair.rows.iter().map(|&row| (depth[row], rank[row])).collect();
        let series = Series { name: format!("from {}", pair.models[0]), points, ..Series::default() };
        let axes = pair.axes();
        let here = |f: &&mut Figure| {
            (f.model.as_deref(), f.stories.as_deref(), &f.axes)
                == (Some(pair.models[1]), Some(pair.stories[1]), &axes)
        };
        if let Some(Body::Lines(lines)) = figures.iter_mut().find(here).map(|figure| &mut figure.body) {
            lines.series.push(series);
            continue;
        }
        let lines = Lines {
            x: "relative depth".into(),
            y: "mean rank".into(),
            series: vec![series],
            ..Lines::default()
        };
        let caption = "At each layer of the target, from the other's layer at the nearest depth; 1 is best.";
        let title = "Rank by depth";
        let mut figure = figure(format!("{name}-depth"), title, caption.into(), pair, Body::Lines(lines));
        figure.model = Some(pair.models[1].to_string());
        figures.push(figure);
    }
    Ok(figures)
}

/// The mean rank of each emotion in each target.
fn emotions(name: &str, pairs: &[Pair], all: &[Pair]) -> Result<Vec<Figure>> {
    let mut figures: Vec<(Figure, Vec<String>, Vec<Vec<f64>>)> = Vec::new();
    for pair in pairs {
        let Some(whole) = all.iter().find(|p| p.is_of(pair)) else { continue };
        let layer = whole.table.i32("layer_b")?[whole.default_row()?];
        let (layers, emotion, rank) =
            (pair.table.i32("layer_b")?, pair.table.str("emotion")?, pair.table.f64("rank")?);
        let rows: Vec<usize> = pair.rows.iter().copied().filter(|&row| layers[row] == layer).collect();
        let axes = pair.axes();
        let at = figures.iter().position(|(f, ..)| {
            (f.model.as_deref(), f.stories.as_deref(), &f.axes)
                == (Some(pair.models[1]), Some(pair.stories[1]), &axes)
        });
        let at = at.unwrap_or_else(|| {
            let caption = "The rank of each emotion's own vector, mean over the parts of topics; 1 is best.";
            let body = Body::Table(TableFigure { columns: Vec::new(), rows: Vec::new() });
            let mut figure =
                figure(format!("{name}-emotions"), "Rank of each emotion", caption.into(), pair, body);
            figure.model = Some(pair.models[1].to_string());
            figures.push((figure, rows.iter().map(|&row| emotion[row].clone()).collect(), Vec::new()));
            figures.len() - 1
        });
        figures[at].2.push(rows.iter().map(|&row| rank[row]).collect());
        if let Body::Table(table) = &mut figures[at].0.body {
            table.columns.push(format!("from {}", pair.models[0]));
        }
    }
    let finish = |(mut figure, emotions, ranks): (Figure, Vec<String>, Vec<Vec<f64>>)| {
        if let Body::Table(table) = &mut figure.body {
            table.columns.insert(0, "emotion".to_string());
            for (at, emotion) in emotions.into_iter().enumerate() {
                let cells =
                    ranks.iter().map(|column| column.get(at).map_or(Cell::Empty, |r| Cell::Number(*r, 1)));
                table.rows.push(std::iter::once(Cell::Text(emotion)).chain(cells).collect());
            }
        }
        figure
    };
    Ok(figures.into_iter().map(finish).collect())
}

/// The mean change of the log-probability of the emotion's own word: one bar for the model's own vectors and one for
/// those of each other model, each with the range of random directions.
fn steering(name: &str, pairs: &[Pair], names: &Names) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    for pair in pairs {
        let (steered, delta) = (pair.table.str("steered")?, pair.table.f64("delta")?);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let of = |what: &str| -> Vec<f64> {
            pair.rows.iter().filter(|&&row| steered[row] == what).map(|&row| delta[row]).collect()
        };
        let null = |what: &str| -> Vec<f64> {
            let all = (1..).map(|number| of(&format!("{what}{number}")));
            all.take_while(|values| !values.is_empty()).map(|values| mean(&values)).collect()
        };
        let (random, shuffled) = (null(RANDOM), null(SHUFFLED));
        let least = random.iter().copied().fold(f64::INFINITY, f64::min);
        let most = random.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let band = (!random.is_empty()).then_some((least, most));
        let bar = |what: &str, label: String| Bar { label, value: mean(&of(what)), band, interval: None };
        let row = |what: &str, label: &str| {
            let values = of(what);
            let resampled = rounds(0, "transfer steering", RESAMPLES, |dice| {
                mean(&dice.resampled(values.len()).into_iter().map(|at| values[at]).collect::<Vec<_>>())
            });
            let ends = interval(&resampled, (mean(&values), mean(&values)), values.len());
            let p = |null: &[f64]| match null.is_empty() {
                true => Cell::Empty,
                false => Cell::Number(p_value(mean(&values), null), 3),
            };
            let raised = values.iter().filter(|&&value| value > 0.0).count();
            vec![
                Cell::Text(label.to_string()),
                Cell::Number(mean(&values), 2),
                pairs::ends(ends, 2),
                p(&random),
                p(&shuffled),
                Cell::Text(format!("{raised} of {}", values.len())),
            ]
        };
        let label = format!("from {}", pair.models[0]);
        let axes = pair.axes();
        let place = (Some(pair.models[1]), Some(pair.stories[1]));
        let here = |f: &Figure| (f.model.as_deref(), f.stories.as_deref()) == place && f.axes == axes;
        let mut known = false;
        for figure in figures.iter_mut().filter(|f| here(f)) {
            known = true;
            match &mut figure.body {
                Body::Bars(bars) => bars.bars.push(bar(MAPPED, label.clone())),
                Body::Table(table) => table.rows.push(row(MAPPED, &label)),
                _ => {}
            }
        }
        if known {
            continue;
        }
        let bars = vec![bar(OWN, "own vectors".into()), bar(MAPPED, label.clone())];
        let band =
            if random.is_empty() { String::new() } else { format!("{} random directions", random.len()) };
        let body = Body::Bars(Bars { y: "change of log-probability, nats".into(), bars, band });
        let caption = "Effect of an emotion's vector on the log-probability of its word, mean over emotions and \
             prompts: the model's own vectors, and those of other models after maps fitted on other topics than the \
             vectors', averaged over these maps. All are scaled to the norm of the model's own.";
        let title = format!("Steering {} with mapped vectors", names.set(pair, 1));
        let mut drawn = figure(format!("{name}-steering"), &title, caption.into(), pair, body);
        drawn.model = Some(pair.models[1].to_string());
        let columns =
            ["vectors", "change, nats", "95 % interval over emotions", "p, random", "p, shuffled", "raised"];
        let rows = vec![row(OWN, "own vectors"), row(MAPPED, &label)];
        let body = Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows });
        let caption = "p: the share of random directions, and of mapped vectors from shuffled cells, each measured on \
             all emotions, with as large an effect; with n of them it cannot be below 1 / (1 + n).";
        let mut listed = Figure { body, caption: caption.into(), ..drawn.clone() };
        listed.name = format!("{name}-steering-table");
        figures.extend([drawn, listed]);
    }
    Ok(figures)
}
