//! The figures of readings: texts with coloured tokens, and the strongest emotions of each turn.

use std::collections::BTreeMap;

use anyhow::Result;

use super::super::estimates::{deals, p_hits};
use super::super::{Claim, Group, Null, Published, distinct, groups};
use super::Readings;
use super::positions::POSITIONS;
use crate::report::figure::{Body, Cell, Figure, ShownText, ShownTurn, TableFigure, Texts};
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::{clopper_pearson, quantile};
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "For texts labelled with one of the emotions: the share in which that emotion has the \
     largest mean z-score over the text, and the probability of as large a share when labels are shuffled over texts. \
     Not computed for the stories from which the vectors come, where it would be circular. For conversations with \
     answers: the correlation over texts and emotions between the readings at the user's last token, at the token \
     before the answer and over the answer's first 20 tokens; and the same with each emotion centred, tested by \
     shuffling answers over texts.";

/// The number of turns in the ranking.
const RANKED: usize = 60;
/// The number of emotions named at each end.
const NAMED: usize = 3;

/// A text with its label.
type Labelled<'a> = (&'a str, &'a str);

fn is_random(direction: &str) -> bool {
    direction.starts_with("random-")
}

/// The findings on each set of vectors.
pub fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, "readings")? {
        let table = group.table;
        let (source, id, label) = (table.str("source")?, table.str("text_id")?, table.opt_str("label")?);
        let (direction, z, n) = (table.str("direction")?, table.f64("z")?, table.i32("n_tokens")?);
        let role = table.str("role")?;
        let emotions: Vec<&str> =
            distinct(direction, &group.rows).into_iter().filter(|d| !is_random(d)).collect();
        for here in distinct(source, &group.rows).into_iter().filter(|s| !s.starts_with("stories/")) {
            // The mean over a text is the mean over its turns, weighted by their tokens.
            let mut sums: BTreeMap<Labelled, Vec<f64>> = BTreeMap::new();
            for &row in group.rows.iter().filter(|&&row| source[row] == here && role[row] != "system") {
                let Some(label) = label[row].as_deref().filter(|label| emotions.contains(label)) else {
                    continue;
                };
                let Some(at) = emotions.iter().position(|e| *e == direction[row]) else { continue };
                let sum = sums.entry((&id[row], label)).or_insert_with(|| vec![0.0; emotions.len()]);
                sum[at] += z[row] * f64::from(n[row]);
            }
            if sums.len() < 2 {
                continue;
            }
            let largest =
                |sum: &Vec<f64>| (0..sum.len()).max_by(|&a, &b| sum[a].total_cmp(&sum[b])).unwrap_or(0);
            let nearest: Vec<usize> = sums.values().map(largest).collect();
            let place = |label: &str| emotions.iter().position(|e| *e == label).unwrap_or(0);
            let labels: Vec<usize> = sums.keys().map(|(_, label)| place(label)).collect();
            let hits = nearest.iter().zip(&labels).filter(|(a, b)| a == b).count();
            let share = 100.0 * hits as f64 / labels.len() as f64;
            let what = format!("labelled emotion largest, {here}");
            let percent = |i: Interval| Interval { low: 100.0 * i.low, high: 100.0 * i.high };
            let interval = clopper_pearson(hits, labels.len()).map(percent);
            let null = Null {
                of: "labels shuffled over texts",
                draws: deals(labels.len()),
                mean: None,
                p: p_hits(&nearest, &labels),
            };
            let claim = group.claim(what, "% of texts", share, 0).within(interval, "Clopper and Pearson");
            claims.push(claim.against(Some(null)));
        }
    }
    claims.extend(around_answers(tables)?);
    Ok(claims)
}

/// Correlations of the positions around answers. The published values are for other models, prompts and emotions.
fn around_answers(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    const UNLIKE: &str = "another model, other prompts, other emotions";
    const PAPER: &str = "Anthropic 2026, Claude Sonnet 4.5";
    let mut claims = Vec::new();
    for group in groups(tables, "readings_positions")? {
        let table = group.table;
        let (source, a, b) = (table.str("source")?, table.str("a")?, table.str("b")?);
        let (r, centred, p) = (table.f64("r")?, table.f64("r_centred")?, table.f64("p")?);
        let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
        for &row in &group.rows {
            let value = match (a[row] == POSITIONS[0], b[row] == POSITIONS[2]) {
                (true, false) => 0.11,
                (false, _) => 0.87,
                (true, true) => 0.59,
            };
            let published = vec![Published { source: PAPER, value, but: UNLIKE }];
            let ends = low[row].zip(high[row]).map(|(low, high)| Interval { low, high });
            let what = format!("r, {} and {}, {}", a[row], b[row], source[row]);
            let claim =
                group.claim(what, "", r[row], 2).within(ends, "percentiles of texts drawn with replacement");
            claims.push(claim.beside(published));
            let what = format!("the same within emotions, {} and {}, {}", a[row], b[row], source[row]);
            let null = Null { of: "answers shuffled over texts", draws: 999, mean: None, p: p[row] };
            claims.push(group.claim(what, "", centred[row], 2).against(Some(null)));
        }
    }
    Ok(claims)
}

/// The figures for one or several sets of vectors.
pub fn figures(readings: &Readings, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let spans = groups(tables, "readings")?;
    let mut figures = Vec::new();
    for group in groups(tables, "readings_tokens")? {
        let span = spans.iter().find(|span| span.place() == group.place());
        let sources = distinct(group.table.str("source")?, &group.rows);
        for source in sources {
            figures.extend(span.map(|span| texts(readings, name, &group, span, source)).transpose()?);
        }
    }
    for group in &spans {
        figures.push(ranking(readings, name, group)?);
    }
    Ok(figures)
}

/// The texts of a source, token by token.
fn texts(readings: &Readings, name: &str, group: &Group, span: &Group, source: &str) -> Result<Figure> {
    let table = group.table;
    let (of, id, turn) = (table.str("source")?, table.str("text_id")?, table.i32("turn")?);
    let (piece, direction, z) = (table.str("piece")?, table.str("direction")?, table.f64("z")?);
    let measures = distinct(direction, &group.rows);
    let about = |text: &str| -> Result<(String, BTreeMap<i32, String>)> {
        let (all, turns) = (span.table.str("text_id")?, span.table.i32("turn")?);
        let (role, place) = (span.table.str("role")?, span.table.str("place")?);
        let label = span.table.opt_str("label")?;
        let own: Vec<usize> = span.rows.iter().copied().filter(|&row| all[row] == text).collect();
        let roles = own.iter().map(|&row| (turns[row], role[row].clone())).collect();
        let first = own[0];
        let parts = [label[first].as_deref().unwrap_or_default(), place[first].as_str(), text];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Ok((parts.join(" \u{b7} "), roles))
    };
    let rows: Vec<usize> = group.rows.iter().copied().filter(|&row| of[row] == source).collect();
    let mut shown = Vec::new();
    for text in distinct(id, &rows) {
        let own: Vec<usize> = rows.iter().copied().filter(|&row| id[row] == text).collect();
        let (title, roles) = about(text)?;
        let turns = roles.iter().map(|(number, role)| {
            let of = |measure: &&str| -> Vec<f32> {
                let rows = own.iter().filter(|&&row| turn[row] == *number && direction[row] == **measure);
                rows.map(|&row| z[row] as f32).collect()
            };
            let first = own.iter().filter(|&&row| turn[row] == *number && direction[row] == measures[0]);
            ShownTurn {
                role: role.clone(),
                tokens: first.map(|&row| piece[row].clone()).collect(),
                values: measures.iter().map(of).collect(),
            }
        });
        let sizes: Vec<f64> = own.iter().map(|&row| z[row].abs()).collect();
        shown.push(ShownText {
            title,
            limit: quantile(&sizes, 0.99).max(f64::MIN_POSITIVE),
            turns: turns.collect(),
        });
    }
    let caption = format!(
        "Each token of {source} is coloured by its reading of the selected emotion: the projection of the residual \
         stream onto the emotion's unit vector, as a z-score over the tokens of these texts, excluding system turns. \
         Red is above the mean. The scale of a text ends at the 99th percentile of its readings. Each turn shows its \
         mean. Single tokens are noisy: alarms use the mean over {} tokens. Random directions have the covariance of \
         the activations.",
        readings.window
    );
    let body = Body::Texts(Texts {
        measure: "Coloured by".into(),
        measures: measures.into_iter().map(str::to_string).collect(),
        value: "z-score".into(),
        window: readings.window,
        texts: shown,
    });
    Ok(group.figure(
        format!("{name}-texts-{}", source.replace('/', "-")),
        format!("Token by token: {source}"),
        caption,
        body,
    ))
}

/// The strongest and the weakest emotions of each turn.
fn ranking(readings: &Readings, name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (source, id, place) = (table.str("source")?, table.str("text_id")?, table.str("place")?);
    let (turn, role, label) = (table.i32("turn")?, table.str("role")?, table.opt_str("label")?);
    let (direction, z) = (table.str("direction")?, table.f64("z")?);
    let mut spans: Vec<Vec<usize>> = Vec::new();
    for &row in &group.rows {
        let same = |last: &Vec<usize>| {
            id[last[0]] == id[row] && turn[last[0]] == turn[row] && source[last[0]] == source[row]
        };
        match spans.last_mut().filter(|last| same(last)) {
            Some(last) => last.push(row),
            None => spans.push(vec![row]),
        }
    }
    let n = spans.len();
    let rows = spans.iter().take(RANKED).map(|span| {
        let (random, mut own): (Vec<usize>, Vec<usize>) =
            span.iter().partition(|&&row| is_random(&direction[row]));
        own.sort_by(|&a, &b| z[b].total_cmp(&z[a]));
        let said = |rows: &[usize]| {
            let each = rows.iter().map(|&row| format!("{} {:.2}", direction[row], z[row]));
            Cell::Text(each.collect::<Vec<_>>().join(", "))
        };
        let ends = NAMED.min(own.len());
        let reach = random.iter().map(|&row| z[row].abs()).fold(0.0, f64::max);
        let (weakest, first) = (own[own.len() - ends..].iter().rev().copied().collect::<Vec<_>>(), span[0]);
        vec![
            Cell::Text(if place[first].is_empty() { id[first].clone() } else { place[first].clone() }),
            label[first].clone().map_or(Cell::Empty, Cell::Text),
            Cell::Number(f64::from(turn[first]), 0),
            Cell::Text(role[first].clone()),
            said(&own[..ends]),
            said(&weakest),
            if random.is_empty() { Cell::Empty } else { Cell::Number(reach, 2) },
        ]
    });
    let columns = ["text", "label", "turn", "role", "strongest", "weakest", "random, at most"];
    let caption = format!(
        "Emotions by their mean z-score over each turn, and the largest absolute value of the {} random directions. \
         The first {} of {n} turns; all of them are in `tables/{name}.csv`.",
        readings.random,
        n.min(RANKED)
    );
    let body = Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() });
    Ok(group.figure(format!("{name}-ranking"), "Strongest emotions, turn by turn".into(), caption, body))
}
