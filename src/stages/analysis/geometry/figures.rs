//! The figures and claims of `geometry`. Depends only on its tables.

use anyhow::Result;

use super::super::made_of::NO_TOPICS;
use super::super::{Claim, Group, Null, Published, groups};
use super::{
    BETWEEN, COMPARED, EMOTION_LENGTH, GAP, Geometry, NORM, SHARE_BESIDE, SHARES, SHARES_BESIDE,
    STORY_LENGTH, VARIANCE, VARIANCE_BESIDE, WITHIN,
};
use crate::report::figure::{Body, Cell, Dot, Dots, Figure, Lines, Series, TableFigure};
use crate::stages::analysis::published::{self, PAIRS, PAPER_SHARES};
use crate::stages::statistics::Interval;
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Shares of the variance, and the mean cosine within families minus that between families, \
     with 95 % intervals over topics. Beside topics: the ratio of the variance among the emotions' vectors to that \
     among as many topics' vectors, computed from the same cells, and the difference of the first component's share, \
     in percentage points. Reliability: the mean over emotions of the cosine between the vectors from two random \
     halves of the topics, corrected to all topics by the Spearman-Brown formula.";

/// The method of the intervals.
const BASIC: &str = "basic bootstrap over topics";

/// Why there are no intervals.
const TOO_FEW: &str = " With fewer than five groups no interval is given.";

/// One statistic of a layer, as a row of the table.
struct Statistic<'a> {
    name: &'a str,
    value: f64,
    interval: Option<Interval>,
    p: Option<f64>,
    null: Option<(f64, Interval)>,
    groups: &'a str,
}

fn read<'a>(group: &Group<'a>) -> Result<Vec<Statistic<'a>>> {
    let table = group.table;
    let (names, values, p) = (table.str("statistic")?, table.f64("value")?, table.opt_f64("p")?);
    let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
    let mean = table.opt_f64("null_mean")?;
    let (null_low, null_high) = (table.opt_f64("null_low")?, table.opt_f64("null_high")?);
    let groups = table.str("groups")?;
    let interval = |low: Option<f64>, high: Option<f64>| Some(Interval { low: low?, high: high? });
    let statistic = |&row: &usize| Statistic {
        name: &names[row],
        value: values[row],
        interval: interval(low[row], high[row]),
        p: p[row],
        null: mean[row].zip(interval(null_low[row], null_high[row])),
        groups: &groups[row],
    };
    Ok(group.rows.iter().map(statistic).collect())
}

/// For each set and layer: the statistics, the named pairs and the reliability of each emotion; curves over the layers
/// if there are several.
pub fn figures(params: &Geometry, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut curves: Vec<Figure> = Vec::new();
    for group in groups(tables, "geometry")? {
        let statistics = read(&group)?;
        figures.push(shares(name, &group, &statistics));
        figures.extend(families(params, name, &group, &statistics));
        figures.push(table(name, &group, &statistics));
        add_to_curves(&mut curves, name, &group, &statistics);
    }
    for group in groups(tables, "geometry_cosines")? {
        figures.extend(pairs(params, name, &group)?);
    }
    for group in groups(tables, "geometry_reliability")? {
        figures.push(reliability(name, &group)?);
    }
    curves.retain(|f| matches!(&f.body, Body::Lines(l) if l.series[0].points.len() > 1));
    Ok(figures.into_iter().chain(curves).collect())
}

/// The shares of the first two components, and the mean cosine within families minus that between them, with their
/// intervals; the mean reliability.
pub fn claims(params: &Geometry, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let reliabilities = groups(tables, "geometry_reliability")?;
    let mut claims = Vec::new();
    for group in groups(tables, "geometry")? {
        let emotions = reliabilities.iter().find(|other| other.place() == group.place());
        let emotions = emotions.map_or(0, |group| group.rows.len());
        for of in read(&group)? {
            let null = |scale: f64| {
                let mean = of.null.map(|(mean, _)| scale * mean);
                of.p.map(|p| Null {
                    of: "labels shuffled within topics",
                    draws: params.permutations,
                    mean,
                    p,
                })
            };
            let place = SHARES.iter().position(|share| *share == of.name);
            if let Some(at) = place {
                let percent = |i: Interval| Interval { low: 100.0 * i.low, high: 100.0 * i.high };
                let claim = group.claim(format!("PC{}", at + 1), "% of variance", 100.0 * of.value, 1);
                let claim = claim.within(of.interval.map(percent), BASIC).against(null(100.0));
                let (source, value) = PAPER_SHARES[at];
                let but = published::unlike(source, emotions);
                claims.push(claim.beside(vec![Published { source, value, but }]));
            } else if let (VARIANCE, Some((mean, _))) = (of.name, of.null) {
                let claim = group.claim(VARIANCE, "times that of shuffled labels", of.value / mean, 1);
                claims.push(claim.against(null(1.0 / mean)));
            } else if of.name == GAP {
                let claim = group.claim(GAP, "", of.value, 2);
                claims.push(claim.within(of.interval, BASIC).against(null(1.0)));
            } else if let (VARIANCE_BESIDE | SHARE_BESIDE, null) = (of.name, null(1.0)) {
                let percent = of.name == SHARE_BESIDE;
                let scale = if percent { 100.0 } else { 1.0 };
                let dealt = null.map(|null| Null {
                    of: "vectors of emotions and of topics, randomly exchanged",
                    mean: null.mean.map(|mean| scale * mean),
                    ..null
                });
                let (what, unit) = if percent {
                    ("PC1 beside topics", "points of %")
                } else {
                    ("variance beside topics", "times")
                };
                claims.push(
                    group.claim(what, unit, scale * of.value, if percent { 1 } else { 2 }).against(dealt),
                );
            }
        }
    }
    for group in reliabilities {
        let all = group.table.f64("reliability")?;
        let mean = group.rows.iter().map(|&row| all[row]).sum::<f64>() / group.rows.len() as f64;
        claims.push(group.claim("reliability", "", mean, 2));
    }
    Ok(claims)
}

fn ends(interval: Option<Interval>) -> Option<(f64, f64)> {
    interval.map(|i| (i.low, i.high))
}

/// A p-value in words: `p = 0.014`, or `p = 0.001` at its minimum.
fn chance(p: Option<f64>) -> String {
    p.map_or(String::new(), |p| format!("p = {p:.3}"))
}

fn shares(name: &str, group: &Group, statistics: &[Statistic]) -> Figure {
    let percent = |(low, high): (f64, f64)| (100.0 * low, 100.0 * high);
    let shown = statistics.iter().filter(|s| SHARES.contains(&s.name));
    let dots = shown.clone().map(|s| Dot {
        label: s.name.to_string(),
        value: 100.0 * s.value,
        interval: ends(s.interval).map(percent),
        band: s.null.map(|(_, band)| percent((band.low, band.high))),
    });
    let tests: Vec<String> =
        shown.filter(|s| s.p.is_some()).map(|s| format!("{}: {}", s.name, chance(s.p))).collect();
    // The ratio of the variance to that with shuffled labels.
    let variance = statistics.iter().find(|s| s.name == VARIANCE);
    let times = variance.and_then(|s| {
        let times = s.value / s.null?.0;
        Some(format!(" The variance itself is {times:.1} times what shuffled labels give ({}).", chance(s.p)))
    });
    let groups = statistics.first().map_or("", |s| s.groups);
    group.figure(
        format!("{name}-shares"),
        "Components and shuffled labels".into(),
        format!(
            "The share of the variance among the emotion vectors that a component explains, with the 95 % interval of \
             the basic bootstrap ({groups} drawn with replacement). Band: the central 95 % for vectors from stories \
             whose labels were shuffled within each topic. A share within the band means that the variance is no more \
             concentrated in one direction than for such vectors, whose total variance may be much smaller. {}.{}{}",
            tests.join("; "),
            times.unwrap_or_default(),
            if statistics.iter().all(|s| s.interval.is_none()) { TOO_FEW } else { "" }
        ),
        Body::Dots(Dots {
            x: "share of the variance, %".into(),
            dots: dots.collect(),
            decimals: 1,
            band: "labels shuffled within topics".into(),
        }),
    )
}

/// `None` if the experiment names no families.
fn families(params: &Geometry, name: &str, group: &Group, statistics: &[Statistic]) -> Option<Figure> {
    let shown: Vec<_> = statistics.iter().filter(|s| [WITHIN, BETWEEN, GAP].contains(&s.name)).collect();
    let gap = statistics.iter().find(|s| s.name == GAP)?;
    let dots = shown.iter().map(|s| Dot {
        label: s.name.to_string(),
        value: s.value,
        interval: ends(s.interval),
        band: s.null.map(|(_, band)| (band.low, band.high)),
    });
    let listed = params.families.iter().map(|f| format!("{} ({})", f.name, f.words.join(", ")));
    Some(group.figure(
        format!("{name}-families"),
        "Families".into(),
        format!(
            "The mean cosine of two emotions of the same family, of two families, and the difference, which is tested \
             against labels shuffled within each topic: {}. Families: {}.",
            chance(gap.p),
            listed.collect::<Vec<_>>().join("; ")
        ),
        Body::Dots(Dots {
            x: "mean cosine".into(),
            dots: dots.collect(),
            decimals: 3,
            band: "labels shuffled within topics".into(),
        }),
    ))
}

fn table(name: &str, group: &Group, statistics: &[Statistic]) -> Figure {
    let rows = statistics.iter().map(|s| {
        let number = |x: f64| Cell::Number(x, 3);
        vec![
            Cell::Text(s.name.to_string()),
            ends(s.interval).map_or(number(s.value), |ends| Cell::Ranged(s.value, ends, 3)),
            s.p.map_or(Cell::Empty, number),
            s.null.map_or(Cell::Empty, |(mean, band)| Cell::Ranged(mean, (band.low, band.high), 3)),
        ]
    });
    let columns = ["statistic", "value [95 % interval]", "p", "null: mean [central 95 %]"];
    let value = |name: &str| statistics.iter().find(|s| s.name == name).map(|s| s.value);
    let control = match (value(COMPARED), value(SHARES_BESIDE[0]), value(SHARES_BESIDE[1])) {
        (Some(n), Some(own), Some(topics)) => format!(
            "Control with topics: {n} emotions compared with {n} topics or passages over the same cells; PC1 explains \
             {:.0} % of the variance among the emotions and {:.0} % of that among the topics. The null exchanges the \
             two at random.",
            100.0 * own,
            100.0 * topics
        ),
        _ => NO_TOPICS.to_string(),
    };
    group.figure(
        format!("{name}-statistics"),
        "Intervals and nulls".into(),
        format!(
            "{NORM}: near 1, the first component would only reflect the vectors' norm. {}: correlation over emotions \
             of the component's score with the mean number of pooled tokens of the emotion's stories; {}: the same \
             over single stories. Far from 0, the component may encode length. The null shuffles labels within topics. \
             {control}",
            EMOTION_LENGTH[0], STORY_LENGTH[0]
        ),
        Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() }),
    )
}

/// The pairs named in the experiment, then those with published values; if there are neither, the most and the least
/// similar pairs.
fn pairs(params: &Geometry, name: &str, group: &Group) -> Result<Option<Figure>> {
    /// The number of pairs shown at each end if none is named.
    const EXTREME: usize = 5;
    let table = group.table;
    let (a, b, cosine) = (table.str("emotion_a")?, table.str("emotion_b")?, table.f64("cosine")?);
    let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
    let find = |x: &str, y: &str| {
        let here = |&&row: &&usize| (a[row] == x && b[row] == y) || (a[row] == y && b[row] == x);
        group.rows.iter().find(here).copied()
    };
    let named = params.pairs.iter().map(|(x, y)| (x.as_str(), y.as_str()));
    let mut rows: Vec<(usize, String)> = Vec::new();
    for (x, y) in named.chain(PAIRS.iter().copied()) {
        if let Some(row) = find(x, y).filter(|row| rows.iter().all(|(other, _)| other != row)) {
            rows.push((row, format!("{x} / {y}")));
        }
    }
    if rows.is_empty() {
        let mut all = group.rows.clone();
        all.sort_by(|&x, &y| cosine[y].total_cmp(&cosine[x]));
        let last = all.len().saturating_sub(EXTREME).max(EXTREME.min(all.len()));
        let shown = all[..EXTREME.min(all.len())].iter().chain(&all[last..]);
        rows.extend(shown.map(|&row| (row, format!("{} / {}", a[row], b[row]))));
    }
    let dots = rows.into_iter().map(|(row, label)| Dot {
        label,
        value: cosine[row],
        interval: low[row].zip(high[row]),
        band: None,
    });
    let dots: Vec<Dot> = dots.collect();
    Ok((!dots.is_empty()).then(|| {
        group.figure(
            format!("{name}-pairs"),
            "Cosines with intervals".into(),
            "The cosine of two emotion vectors, with the 95 % interval of the basic bootstrap over topics on Fisher's \
             scale. All pairs are in the table of cosines. The intervals correct for the bias due to noise in the \
             vectors, so a cosine need not lie in the middle of its interval."
                .into(),
            Body::Dots(Dots { x: "cosine".into(), dots, decimals: 3, band: String::new() }),
        )
    }))
}

fn reliability(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (emotion, half, whole) = (table.str("emotion")?, table.f64("half")?, table.f64("reliability")?);
    let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
    let mut rows = group.rows.clone();
    rows.sort_by(|&x, &y| whole[y].total_cmp(&whole[x]));
    let doubled = |r: f64| super::spearman_brown(r);
    let dots = rows.iter().map(|&row| Dot {
        label: emotion[row].clone(),
        value: whole[row],
        interval: low[row].zip(high[row]).map(|(low, high)| (doubled(low), doubled(high))),
        band: None,
    });
    let mean = rows.iter().map(|&row| half[row]).sum::<f64>() / rows.len() as f64;
    Ok(group.figure(
        format!("{name}-reliability"),
        "Reliability of each vector".into(),
        format!(
            "Topics are split into random halves, and vectors are computed from each half. Shown is the mean cosine \
             between the two vectors of an emotion, corrected to all topics by the Spearman-Brown formula 2r/(1 + r), \
             and the central 95 % of the splits. 1: other topics would give the same vector; 0: it is noise. The \
             uncorrected mean cosine of halves is {mean:.2}."
        ),
        Body::Dots(Dots { x: "reliability".into(), dots: dots.collect(), decimals: 2, band: String::new() }),
    ))
}

/// Adds one layer to the curves of its model, stories and variant.
fn add_to_curves(curves: &mut Vec<Figure>, name: &str, group: &Group, statistics: &[Statistic]) {
    let axes = group.axes();
    let here = |f: &Figure| {
        (f.model.as_deref(), f.stories.as_deref(), &f.axes) == (Some(group.model), Some(group.stories), &axes)
    };
    let at = curves.iter().position(here).unwrap_or_else(|| {
        let series = |name: &str| Series { name: name.to_string(), ..Series::default() };
        let names = ["PC1", "PC2", "PC1, labels shuffled", "PC2, labels shuffled"];
        let mut figure = group.figure(
            format!("{name}-layers"),
            "Components over the layers".into(),
            "The shares of the first two components with their 95 % intervals, and the mean and central 95 % with \
             labels shuffled within topics."
                .into(),
            Body::Lines(Lines {
                x: "layer".into(),
                y: "share of the variance, %".into(),
                series: names.map(series).to_vec(),
                ..Lines::default()
            }),
        );
        figure.layer = None;
        curves.push(figure);
        curves.len() - 1
    });
    let Body::Lines(lines) = &mut curves[at].body else { return };
    lines.mark(group.layer);
    for (place, share) in SHARES.iter().enumerate() {
        let Some(of) = statistics.iter().find(|s| s.name == *share) else { continue };
        let mut add = |series: usize, value: f64, interval: Option<Interval>| {
            let (low, high) = ends(interval).unwrap_or((value, value));
            lines.series[series].points.push((group.layer.number().into(), 100.0 * value));
            lines.series[series].intervals.push((100.0 * low, 100.0 * high));
        };
        add(place, of.value, of.interval);
        if let Some((mean, band)) = of.null {
            add(place + 2, mean, Some(band));
        }
    }
}
