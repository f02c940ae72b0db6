//! Texts token by token, with the readings of emotion vectors. Does not depend on a model.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::samples::Samples;
use crate::report::figure::{Body, Figure, ShownText, ShownTurn, Texts};
use crate::stages::analysis::reads::{Moments, TextRead};
use crate::stages::analysis::{Group, Places, Reads, VectorSet, distinct};
use crate::stages::rollouts::cells::is_random;
use crate::stages::statistics::interval::quantile;
use crate::store::table::{Column, Table};

/// The number of texts shown token by token.
const SHOWN: usize = 60;
/// The number of tokens in the running mean that the page shows next to a token's own value.
const WINDOW: usize = 16;

/// The table `scenario_tokens` at the first layer: for the first text of each outcome in each cell, the tokens of the
/// last user turn and of the answers, with each emotion's reading as a z-score relative to the answers of the
/// unsteered texts. `None` if nothing was read.
pub fn table(set: &VectorSet, samples: &Samples, reads: &Reads) -> Result<Option<Table>> {
    let by: HashMap<&str, usize> =
        samples.all.iter().enumerate().map(|(at, sample)| (sample.id.as_str(), at)).collect();
    let emotions = &set.layers[0].emotions;
    let is_answer = |read: &TextRead, turn: usize| read.text.role(turn) == "assistant";
    let mut moments = vec![Moments::default(); emotions.len()];
    // The first text of each outcome in each cell; random directions of one strength count as one cell.
    let mut chosen: BTreeMap<(String, u64, String), usize> = BTreeMap::new();
    reads.each(set, &mut |read| {
        let Some(&at) = by.get(read.text.id.as_str()).filter(|_| read.layer == 0) else { return Ok(()) };
        let sample = &samples.all[at];
        if sample.cell == 0 {
            for (direction, moments) in moments.iter_mut().enumerate() {
                read.of(direction, |turn| is_answer(read, turn)).iter().for_each(|(_, x)| moments.add(*x));
            }
        }
        let (steered, strength) = &samples.cells[sample.cell];
        let who = if is_random(steered) { "random" } else { steered.as_str() };
        let first = chosen.entry((who.to_string(), strength.to_bits(), sample.outcome.clone())).or_insert(at);
        *first = (*first).min(at);
        Ok(())
    })?;
    // In the order of cases and cells.
    let mut order: Vec<usize> = chosen.into_values().collect();
    order.sort_unstable();
    order.truncate(SHOWN);
    let mut places = Places::default();
    let (mut id, mut turn, mut role, mut token) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut piece, mut direction, mut z) = (Vec::new(), Vec::new(), Vec::new());
    reads.each(set, &mut |read| {
        let at =
            by.get(read.text.id.as_str()).filter(|at| read.layer == 0 && order.binary_search(at).is_ok());
        if at.is_none() {
            return Ok(());
        }
        let last = read.turns.iter().flatten().filter(|turn| read.text.role(**turn) == "user").max();
        for (number, emotion) in emotions.iter().enumerate() {
            for (at, x) in read.of(number, |turn| is_answer(read, turn) || Some(&turn) == last) {
                places.push(set, set.layers[0].layer);
                let of = read.turns[at].unwrap_or_default();
                id.push(read.text.id.clone());
                turn.push(of as i32);
                role.push(read.text.role(of).to_string());
                token.push(at as i32);
                piece.push(read.pieces[at].clone());
                direction.push(emotion.clone());
                z.push(moments[number].z(x));
            }
        }
        Ok(())
    })?;
    let columns = vec![
        ("sample_id", Column::Str(id)),
        ("turn", Column::I32(turn)),
        ("role", Column::Str(role)),
        ("token", Column::I32(token)),
        ("piece", Column::Str(piece)),
        ("emotion", Column::Str(direction)),
        ("z", Column::F64(z)),
    ];
    let table = places.table("scenario_tokens/1", columns);
    Ok((table.rows() > 0).then_some(table))
}

/// The texts of such a table, with coloured tokens; `samples` gives their outcomes.
pub fn figure(name: &str, group: &Group, samples: &Group) -> Result<Figure> {
    let table = group.table;
    let (id, turn, role) = (table.str("sample_id")?, table.i32("turn")?, table.str("role")?);
    let (piece, emotion, z) = (table.str("piece")?, table.str("emotion")?, table.f64("z")?);
    let measures = distinct(emotion, &group.rows);
    let mut titles: HashMap<&str, String> = HashMap::new();
    let of = samples.table;
    let (all, steered, strength) = (of.str("sample_id")?, of.str("steered")?, of.f64("strength")?);
    let (case, outcome) = (of.str("case")?, of.str("outcome")?);
    for &row in &samples.rows {
        let title = format!(
            "{} {} \u{b7} {} \u{b7} {} \u{b7} {}",
            steered[row], strength[row], case[row], outcome[row], all[row]
        );
        titles.insert(&all[row], title);
    }
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    group.rows.iter().for_each(|&row| rows.entry(&id[row]).or_default().push(row));
    let shown = distinct(id, &group.rows).into_iter().map(|text| {
        let own = &rows[text];
        let mut turns: Vec<i32> = own.iter().map(|&row| turn[row]).collect();
        turns.sort_unstable();
        turns.dedup();
        let turns = turns.into_iter().map(|number| {
            let of = |measure: &str| -> Vec<usize> {
                let mine = |&row: &usize| turn[row] == number && emotion[row] == measure;
                own.iter().copied().filter(mine).collect()
            };
            let first = of(measures[0]);
            let values =
                |measure: &&str| -> Vec<f32> { of(measure).iter().map(|&row| z[row] as f32).collect() };
            ShownTurn {
                role: role[first[0]].clone(),
                tokens: first.iter().map(|&row| piece[row].clone()).collect(),
                values: measures.iter().map(values).collect(),
            }
        });
        let sizes: Vec<f64> = own.iter().map(|&row| z[row].abs()).collect();
        ShownText {
            title: titles.get(text).cloned().unwrap_or_else(|| text.to_string()),
            limit: quantile(&sizes, 0.99).max(f64::MIN_POSITIVE),
            turns: turns.collect(),
        }
    });
    let caption = format!(
        "The first text of each outcome in each cell, each token coloured by its reading of the selected emotion: the \
         projection of the residual stream, without steering, onto the emotion's unit vector, as a z-score over the \
         answers of the unsteered texts. Red is above their mean. The scale of a text ends at the 99th percentile of \
         its readings. Each turn shows its mean. Texts generated under steering are read without steering, so the \
         readings reflect the text alone. The table is `{name}.scenario_tokens`."
    );
    let body = Body::Texts(Texts {
        measure: "Coloured by".into(),
        measures: measures.iter().map(|measure| measure.to_string()).collect(),
        value: "z-score".into(),
        window: WINDOW,
        texts: shown.collect(),
    });
    Ok(group.figure(format!("{name}-tokens"), "Samples, token by token".into(), caption, body))
}
