//! Dose and response: how the effect of steering, and its side effect on neutral text, depend on the strength.

use anyhow::Result;

use super::Group;
use super::estimates::{band, band_is, mean, p_at_least};
use super::steering_deltas::Deltas;
use super::steering_figures::DELTA;
use crate::report::figure::{Band, Body, Cell, Figure, Lines, Series, TableFigure};
use crate::stages::statistics::correlation::of_ranks;
use crate::store::table::Table;

/// For several strengths: the curve of the mean effect together with that of the nulls, how monotonic each emotion's
/// curve is, and the change of neutral text.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (group, deltas) in Deltas::read(tables)?.iter().filter(|(_, deltas)| deltas.strengths.len() > 1) {
        figures.push(dose(format!("{name}-dose"), group, deltas));
        figures.push(monotonic(format!("{name}-monotonic"), group, deltas));
        if deltas.n_tokens > 0 {
            figures.push(coherence(format!("{name}-coherence"), group, deltas));
        }
    }
    Ok(figures)
}

/// Up to this number of emotions each has its own curve.
const CURVES: usize = 7;

/// Values at ascending strengths, with 0 at strength 0, where by definition nothing changes.
fn with_zero(strengths: &[f64], of: impl Fn(f64) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = strengths.iter().filter_map(|&s| Some((s, of(s)?))).collect();
    points.push((0.0, 0.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// The band of a set of values at each strength.
fn banded(strengths: &[f64], name: String, of: impl Fn(f64) -> Vec<f64>) -> Vec<Band> {
    let mut points: Vec<(f64, f64, f64)> =
        strengths.iter().filter_map(|&s| band(&of(s)).map(|(low, high)| (s, low, high))).collect();
    if points.is_empty() {
        return Vec::new();
    }
    points.push((0.0, 0.0, 0.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    vec![Band { name, points }]
}

fn dose(name: String, group: &Group, deltas: &Deltas) -> Figure {
    let strengths = deltas.rising();
    let mean_curve = with_zero(&strengths, |s| mean(&deltas.own(s)));
    let mut series =
        vec![Series { name: "mean over emotions".into(), points: mean_curve, ..Series::default() }];
    let n = deltas.emotions.len();
    if (2..=CURVES).contains(&n) {
        series.extend(deltas.emotions.iter().map(|emotion| Series {
            name: emotion.clone(),
            points: with_zero(&strengths, |s| deltas.delta(s, emotion, emotion)),
            ..Series::default()
        }));
    }
    let nulls = banded(
        &strengths,
        format!("{} null directions, {}", deltas.nulls.len(), band_is(deltas.nulls.len())),
        |s| deltas.null_means(s, None),
    );
    let beside = match nulls.is_empty() {
        true => "",
        false => {
            " The band shows null directions of equal norm (in the opposite direction below 0): for each, the mean \
             over emotions of its effect on the emotion's word."
        }
    };
    group.figure(
        name,
        "Self-steering over strength".into(),
        format!(
            "Effect of adding an emotion's own vector on the log-probability of its word, against the strength; at 0 \
             nothing is added. A vector that represents the emotion raises its word on the right and lowers it on the \
             left.{beside}"
        ),
        Body::Lines(Lines {
            x: format!("strength ({})", deltas.unit()),
            y: DELTA.into(),
            series,
            bands: nulls,
            log: false,
        }),
    )
}

/// Spearman's correlation of an effect with the strength, including the unsteered point.
fn rise(deltas: &Deltas, steered: &str, measured: &str) -> Option<f64> {
    let points = with_zero(&deltas.strengths, |s| deltas.delta(s, steered, measured));
    let (strengths, effects): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
    of_ranks(&strengths, &effects)
}

fn monotonic(name: String, group: &Group, deltas: &Deltas) -> Figure {
    let strengths = deltas.rising();
    let mut columns = vec!["emotion".to_string(), "Spearman".into()];
    if !deltas.nulls.is_empty() {
        columns.push("p, nulls".into());
    }
    columns.extend(strengths.iter().map(|s| format!("at {s}")));
    let number =
        |value: Option<f64>, decimals| value.map_or(Cell::Empty, |value| Cell::Number(value, decimals));
    let mut whole = 0;
    let mut row = |emotion: &String| {
        let own = rise(deltas, emotion, emotion);
        whole += usize::from(own.is_some_and(|own| own > 1.0 - 1e-12));
        let mut row = vec![Cell::Text(emotion.clone()), number(own, 2)];
        if !deltas.nulls.is_empty() {
            let null: Vec<f64> = deltas.nulls.iter().filter_map(|null| rise(deltas, null, emotion)).collect();
            // Sums of ranks in a different order differ in their last bits.
            row.push(number(own.and_then(|own| p_at_least(own - 1e-12, &null)), 3));
        }
        row.extend(strengths.iter().map(|&s| number(deltas.delta(s, emotion, emotion), 2)));
        row
    };
    let rows: Vec<Vec<Cell>> = deltas.emotions.iter().map(&mut row).collect();
    group.figure(
        name,
        "Does the effect grow with the strength?".into(),
        format!(
            "Spearman's rank correlation of the strength with the change of the own word's log-probability, over {} \
             strengths and the unsteered point; 1: strictly increasing, which holds for {whole} of {} emotions. p is \
             the share of null directions that are at least as monotonic, counting the vector itself: with few \
             strengths many are, so consider it together with the size of the effect.",
            strengths.len(),
            deltas.emotions.len()
        ),
        Body::Table(TableFigure { columns, rows }),
    )
}

fn coherence(name: String, group: &Group, deltas: &Deltas) -> Figure {
    let strengths = deltas.rising();
    let points = with_zero(&strengths, |s| mean(&deltas.quiet(s, false)));
    let n = deltas.quiet(strengths[0], true).len();
    let name_of = format!("{n} null directions, {}", band_is(n));
    group.figure(
        name,
        "Is the model still coherent?".into(),
        format!(
            "Change of the mean log-probability per token of neutral text ({} tokens) while emotion vectors are added \
             at every position: mean over emotions, compared with null directions of equal norm. Where it falls far \
             below 0, and especially below the nulls, the model is no longer coherent and effects on words cannot be \
             attributed to the emotion.",
            deltas.n_tokens
        ),
        Body::Lines(Lines {
            x: format!("strength ({})", deltas.unit()),
            y: "change of log-probability, nats per token".into(),
            series: vec![Series { name: "mean over emotions".into(), points, ..Series::default() }],
            bands: banded(&strengths, name_of, |s| deltas.quiet(s, true)),
            log: false,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::steering_figures::tests::table;
    use super::*;

    #[test]
    fn curves_go_through_zero_and_nulls_make_a_band() {
        let tables = table(&[
            ("p", 2.0, "a", "a", 4.0),
            ("p", 2.0, "b", "b", 2.0),
            ("p", -1.0, "a", "a", -1.0),
            ("p", -1.0, "b", "b", 0.0),
            ("p", 2.0, "random-1", "a", 1.0),
            ("p", 2.0, "random-1", "b", 0.0),
            ("p", 2.0, "shuffled-1", "a", -0.5),
            ("p", 2.0, "shuffled-1", "b", -0.5),
        ]);
        let figures = figures("causes", &tables).unwrap();
        let names: Vec<_> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["causes-dose", "causes-monotonic"]);
        let Body::Lines(lines) = &figures[0].body else { panic!() };
        assert_eq!(lines.series.len(), 3);
        assert_eq!(lines.series[0].points, [(-1.0, -0.5), (0.0, 0.0), (2.0, 3.0)]);
        assert_eq!(lines.series[2].points, [(-1.0, 0.0), (0.0, 0.0), (2.0, 2.0)]);
        assert_eq!(lines.bands[0].points, [(0.0, 0.0, 0.0), (2.0, -0.5, 0.5)]);
        let Body::Table(rows) = &figures[1].body else { panic!() };
        assert_eq!(rows.columns, ["emotion", "Spearman", "p, nulls", "at -1", "at 2"]);
        let spearman = |row: usize| match rows.rows[row][1] {
            Cell::Number(value, _) => value,
            _ => panic!(),
        };
        // scipy.stats.spearmanr([-1, 0, 2], [-1, 0, 4])[0], and of [0, 0, 2]
        assert!((spearman(0) - 1.0).abs() < 1e-12);
        assert!((spearman(1) - 0.8660254037844387).abs() < 1e-12);
        // Of random-1 (0, 1) and shuffled-1 (0, -.5) on `a`, only the first is as monotonic.
        assert_eq!(rows.rows[0][2], Cell::Number(2.0 / 3.0, 3));
    }
}
