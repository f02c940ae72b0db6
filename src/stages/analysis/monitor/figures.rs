//! The figures of a monitor: alarms, their rates, and how well they predict outcomes.

use anyhow::Result;

use super::super::{Claim, Group, Null, groups};
use super::{Monitor, WORDS};
use crate::report::figure::{Bar, Bars, Body, Cell, Figure, TableFigure};
use crate::report::{fixed, short};
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::{clopper_pearson, p_value};
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "The rate of false alarms: the share of held-out neutral transcripts (used neither for the \
     scale nor for the threshold) with an alarm, with Clopper-Pearson interval. The share of monitored transcripts \
     with an alarm; if outcomes are labelled, separately for those with the outcome and the others. Then the area \
     under the ROC curve of the largest running mean for the outcome, with a bootstrap over transcripts and random \
     directions as the null; and the number of alarms before the event, with alarms of other transcripts as the null.";

/// The number of transcripts in the table of alarms.
const SHOWN: usize = 40;

/// One direction's row of the table `monitor`, summed over all length classes.
struct Rates {
    held_out: (usize, usize),
    watched: (usize, usize),
}

/// Sums over length classes, for the directions accepted by `wanted`.
fn rates(group: &Group, wanted: impl Fn(&str) -> bool) -> Result<Rates> {
    let table = group.table;
    let direction = table.str("direction")?;
    let column = |name: &str| -> Result<usize> {
        let values = table.i32(name)?;
        let rows = group.rows.iter().filter(|&&row| wanted(&direction[row]));
        Ok(rows.map(|&row| values[row] as usize).sum())
    };
    Ok(Rates {
        held_out: (column("held_out_alarms")?, column("held_out")?),
        watched: (column("watched_alarms")?, column("watched")?),
    })
}

fn is_random(direction: &str) -> bool {
    direction.starts_with("random-")
}

fn share((alarms, of): (usize, usize)) -> f64 {
    100.0 * alarms as f64 / of.max(1) as f64
}

fn said((alarms, of): (usize, usize)) -> String {
    format!("{alarms} of {of} ({} %)", fixed(share((alarms, of)), 1))
}

/// The findings on each set of vectors.
pub fn claims(monitor: &Monitor, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let as_percent = |i: Interval| Interval { low: 100.0 * i.low, high: 100.0 * i.high };
    for group in groups(tables, "monitor")? {
        let own = rates(&group, |direction| direction == monitor.alarm.on)?;
        for (what, rate) in [
            ("false alarms, held-out neutral transcripts", own.held_out),
            ("alarms, watched transcripts", own.watched),
        ] {
            let interval = clopper_pearson(rate.0, rate.1).map(as_percent);
            let claim = group.claim(what, "% of transcripts", share(rate), 1);
            claims.push(claim.within(interval, "Clopper and Pearson"));
        }
    }
    for group in groups(tables, "monitor_alarms")?.iter().filter(|_| monitor.outcome.is_some()) {
        let (label, alarm) = (group.table.opt_str("label")?, group.table.bool("alarm")?);
        for (what, with) in [("alarms, with the outcome", true), ("alarms, without the outcome", false)] {
            let of = |row: &&usize| label[**row].is_some() && (label[**row] == monitor.outcome) == with;
            let rows: Vec<usize> = group.rows.iter().filter(of).copied().collect();
            let rate = (rows.iter().filter(|&&row| alarm[row]).count(), rows.len());
            let interval = clopper_pearson(rate.0, rate.1).map(as_percent);
            let claim = group.claim(what, "% of transcripts", share(rate), 1);
            claims.push(claim.within(interval, "Clopper and Pearson"));
        }
    }
    for group in groups(tables, "monitor_outcomes")? {
        let table = group.table;
        let (direction, area) = (table.str("direction")?, table.opt_f64("auroc")?);
        let (low, high) = (table.opt_f64("auroc_low")?, table.opt_f64("auroc_high")?);
        let random: Vec<f64> = group
            .rows
            .iter()
            .filter(|&&row| is_random(&direction[row]))
            .filter_map(|&row| area[row])
            .collect();
        for (name, what) in [(monitor.alarm.on.as_str(), "AUROC"), (WORDS, "AUROC, words alone")] {
            let Some(&row) = group.rows.iter().find(|&&row| direction[row] == name) else { continue };
            let Some(estimate) = area[row] else { continue };
            let interval = low[row].zip(high[row]).map(|(low, high)| Interval { low, high });
            let mean = random.iter().sum::<f64>() / random.len().max(1) as f64;
            let null = (!random.is_empty()).then(|| Null {
                of: "random directions of the same covariance",
                draws: random.len(),
                mean: Some(mean),
                p: p_value(estimate, &random),
            });
            let claim = group.claim(what, "", estimate, 2).within(interval, "bootstrap over transcripts");
            claims.push(claim.against(null));
        }
        let own = group.rows.iter().find(|&&row| direction[row] == monitor.alarm.on);
        if let Some(&row) = own
            && let (Some(events), Some(before)) =
                (table.opt_i64("events")?[row], table.opt_i64("alarm_before")?[row])
        {
            let (before, events) = (before as usize, events as usize);
            let claim =
                group.claim("events with an alarm before them", "% of events", share((before, events)), 0);
            let p = table.opt_f64("p_lead")?[row].unwrap_or(1.0);
            let of = "alarms of other transcripts at the same relative position";
            let interval = clopper_pearson(before, events).map(as_percent);
            claims.push(claim.within(interval, "Clopper and Pearson").against(Some(Null {
                of,
                draws: 999,
                mean: None,
                p,
            })));
        }
    }
    Ok(claims)
}

/// The figures for one or several sets of vectors.
pub fn figures(monitor: &Monitor, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "monitor_alarms")? {
        figures.push(alarms(monitor, name, &group)?);
    }
    for group in groups(tables, "monitor")? {
        figures.push(directions(monitor, name, &group)?);
        figures.push(thresholds(monitor, name, &group)?);
    }
    for group in groups(tables, "monitor_outcomes")? {
        figures.push(outcomes(monitor, name, &group)?);
    }
    Ok(figures)
}

fn alarms(monitor: &Monitor, name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (place, label, tokens) = (table.str("place")?, table.opt_str("label")?, table.i32("n_tokens")?);
    let (peak, threshold, p) = (table.f64("peak")?, table.f64("threshold")?, table.f64("p")?);
    let (turn, text) = (table.opt_i64("turn")?, table.opt_str("text")?);
    let mut rows = group.rows.clone();
    rows.sort_by(|&a, &b| (peak[b] - threshold[b]).total_cmp(&(peak[a] - threshold[a])));
    let n = rows.iter().filter(|&&row| turn[row].is_some()).count();
    let cells = rows.iter().take(SHOWN).map(|&row| {
        vec![
            Cell::Text(place[row].clone()),
            label[row].clone().map_or(Cell::Empty, Cell::Text),
            Cell::Number(f64::from(tokens[row]), 0),
            Cell::Number(peak[row], 2),
            Cell::Number(threshold[row], 2),
            Cell::Number(p[row], 3),
            turn[row].map_or(Cell::Empty, |turn| Cell::Number(turn as f64, 0)),
            text[row].clone().map_or(Cell::Empty, |text| Cell::Text(text.replace('\n', " "))),
        ]
    });
    let columns =
        ["transcript", "label", "tokens", "peak", "threshold", "p", "alarm in turn", "text before it"];
    let caption = format!(
        "{n} of {} transcripts have an alarm on `{}`: a running mean over {} tokens, in standard deviations of neutral \
         tokens, above the threshold. p: the probability of such a peak in a neutral transcript, (1 + number as large) \
         / (1 + n). Turns count from 0. Shown are the {} largest peaks; all are in `tables/{name}.monitor_alarms.csv` \
         and `.jsonl`.",
        group.rows.len(),
        monitor.alarm.on,
        monitor.window,
        group.rows.len().min(SHOWN),
    );
    let body =
        Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: cells.collect() });
    Ok(group.figure(format!("{name}-alarms"), "Alarms".into(), caption, body))
}

fn directions(monitor: &Monitor, name: &str, group: &Group) -> Result<Figure> {
    let random = rates(group, is_random)?;
    let kinds: [(&str, Rates); 3] = [
        (&monitor.alarm.on, rates(group, |d| d == monitor.alarm.on)?),
        (WORDS, rates(group, |d| d == WORDS)?),
        ("random directions", rates(group, is_random)?),
    ];
    let bars = kinds.iter().flat_map(|(kind, rates)| {
        [("neutral, held out", rates.held_out), ("watched", rates.watched)].map(|(part, rate)| Bar {
            label: format!("{kind}: {part}"),
            value: share(rate),
            band: None,
            interval: clopper_pearson(rate.0, rate.1).map(|i| (100.0 * i.low, 100.0 * i.high)),
        })
    });
    let [(_, own), (_, words), _] = &kinds;
    let caption = format!(
        "Transcripts with an alarm, by the same rule for each direction: `{}` {} held out and {} monitored; words \
         alone (their log-odds in the stories) {} and {}; {} random directions with the same covariance, pooled, {} \
         and {}. Clopper-Pearson intervals; those of random directions treat each direction and transcript as \
         independent, which they are not.",
        monitor.alarm.on,
        said(own.held_out),
        said(own.watched),
        said(words.held_out),
        said(words.watched),
        monitor.random,
        said(random.held_out),
        said(random.watched),
    );
    let body = Body::Bars(Bars { y: "% of transcripts".into(), bars: bars.collect(), band: String::new() });
    Ok(group.figure(format!("{name}-rates"), "Alarms by direction".into(), caption, body))
}

fn thresholds(monitor: &Monitor, name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (direction, class, most) =
        (table.str("direction")?, table.i32("length_class")?, table.opt_i64("most_tokens")?);
    let (n, k, value) = (table.i32("n_threshold")?, table.i32("k")?, table.f64("threshold")?);
    let (rate, bound) = (table.f64("rate")?, table.f64("rate_bound")?);
    let (held_out, alarms) = (table.i32("held_out")?, table.i32("held_out_alarms")?);
    let own = group.rows.iter().filter(|&&row| direction[row] == monitor.alarm.on);
    let rows = own.map(|&row| {
        let observed = (alarms[row] as usize, held_out[row] as usize);
        let observed_share = share(observed);
        vec![
            Cell::Number(f64::from(class[row]), 0),
            most[row].map_or(Cell::Text("any".into()), |most| Cell::Number(most as f64, 0)),
            Cell::Number(f64::from(n[row]), 0),
            Cell::Number(f64::from(k[row]), 0),
            Cell::Number(value[row], 2),
            Cell::Number(100.0 * rate[row], 2),
            Cell::Number(100.0 * bound[row], 2),
            match clopper_pearson(observed.0, observed.1) {
                Some(i) => Cell::Ranged(observed_share, (100.0 * i.low, 100.0 * i.high), 1),
                None => Cell::Empty,
            },
        ]
    });
    let columns = [
        "length class",
        "up to tokens",
        "neutral transcripts",
        "k",
        "threshold",
        "false alarms, %",
        "95 % bound, %",
        "held out, %",
    ];
    let caption = format!(
        "The threshold is the k-th smallest peak of n neutral transcripts, k = ceil((n + 1)(1 - a)) with a = {}: a new \
         neutral transcript, exchangeable with them, raises an alarm with the given probability. Over calibrations the \
         true rate is distributed as Beta(n + 1 - k, k); the bound is its 95 % quantile. It holds only for transcripts \
         of the same kind. Held out: observed in neutral transcripts that were not used otherwise.",
        short(monitor.alarm.false_alarms)
    );
    let body = Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() });
    Ok(group.figure(format!("{name}-thresholds"), "The alarm's guarantee".into(), caption, body))
}

fn outcomes(monitor: &Monitor, name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (direction, area) = (table.str("direction")?, table.opt_f64("auroc")?);
    let (low, high) = (table.opt_f64("auroc_low")?, table.opt_f64("auroc_high")?);
    let (with, without) = (table.i32("with_outcome")?, table.i32("without")?);
    let lead = table.opt_f64("median_lead_turns")?;
    let bars = group.rows.iter().filter_map(|&row| {
        Some(Bar {
            label: direction[row].clone(),
            value: area[row]?,
            band: None,
            interval: low[row].zip(high[row]),
        })
    });
    let first = group.rows[0];
    let own = group.rows.iter().find(|&&row| direction[row] == monitor.alarm.on);
    let lead = own.and_then(|&row| lead[row]).map_or_else(String::new, |lead| {
        format!(" Where an alarm comes before the event, it is {} turns before it (median).", short(lead))
    });
    let caption = format!(
        "How well the largest running mean separates the {} transcripts labelled `{}` from the {} others: the area \
         under the ROC curve, .5 by chance, with a bootstrap over transcripts.{lead}",
        with[first],
        monitor.outcome.as_deref().unwrap_or_default(),
        without[first],
    );
    let body = Body::Bars(Bars { y: "AUROC".into(), bars: bars.collect(), band: String::new() });
    Ok(group.figure(format!("{name}-outcomes"), "Outcomes".into(), caption, body))
}
