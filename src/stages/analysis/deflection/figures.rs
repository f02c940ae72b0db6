//! The figures and claims of `deflection`. Depends only on its tables.

use anyhow::Result;

use super::super::logit_lens::{PROMOTED, SUPPRESSED, bare, joined};
use super::super::tested::{cell, interval};
use super::super::{Claim, Group, Null, Published, distinct, groups, published};
use super::measure::What;
use super::{Deflection, HIDDEN, Part, STORIES};
use crate::report::figure::{Body, Cell, Figure, Heatmap, TableFigure};
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Vectors of hidden emotions: the mean residual stream over the turns of a speaker who hides \
     an emotion that only the scenario states (the scenario itself is not pooled), minus the mean over emotions, \
     denoised. Variance among them, relative to that with hidden emotions shuffled within topics: 1 if the hidden \
     emotion makes no difference. The share of the norm outside the span of the stories' vectors, compared with \
     shuffled and with random vectors. With stories: the mean cosine with the stories' vectors of the same emotion, \
     for vectors by the hidden and by the shown emotion; the hidden emotion is never the shown one, so it is below zero for \
    the hidden one if the words say only what is shown. Prompts: the number of emotions in which a class of prompts \
     differs from the others before the answer, along the part of the hidden emotions' vectors outside that span.";

/// The paper's share of the norm.
const PAPER_KEPT: Published =
    Published { source: published::PAPER, value: 0.8, but: "another model, other dialogues and emotions" };

/// The findings at each layer.
pub fn claims(params: &Deflection, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, "deflection_tests")? {
        let table = group.table;
        let (what, value) = (table.str("what")?, table.f64("value")?);
        let (mean, p) = (table.f64("null_mean")?, table.f64("p")?);
        for &row in &group.rows {
            let Some(of) = What::ALL.into_iter().find(|of| of.name() == what[row]) else { continue };
            let null = Null { of: of.null(), draws: params.permutations, mean: Some(mean[row]), p: p[row] };
            let claim = group.claim(of.name(), "", value[row], 2);
            let claim = claim.within(interval(table, row)?, "bootstrap over topics").against(Some(null));
            let beside = (of == What::Kept).then_some(PAPER_KEPT).into_iter().collect();
            claims.push(claim.beside(beside));
        }
    }
    for group in groups(tables, "deflection")? {
        let random = group.table.f64("random")?[group.rows[0]];
        claims.push(group.claim("norm that random vectors keep", "", random, 2));
    }
    for group in groups(tables, "deflection_prompts")? {
        let table = group.table;
        let (vectors, class, q) = (table.str("vectors")?, table.str("class")?, table.f64("q")?);
        let hidden: Vec<usize> = group.rows.iter().copied().filter(|&row| vectors[row] == HIDDEN).collect();
        for wanted in distinct(class, &hidden) {
            let own: Vec<usize> = hidden.iter().copied().filter(|&row| class[row] == wanted).collect();
            let differ = own.iter().filter(|&&row| q[row] <= 0.05).count();
            let share = 100.0 * differ as f64 / own.len() as f64;
            let what = format!("hidden emotions that {wanted} differs in, q at most .05");
            claims.push(group.claim(what, "% of emotions", share, 0));
        }
    }
    Ok(claims)
}

/// For each layer: the claims, the emotions, the lens, and the prompts.
pub fn figures(analysis: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "deflection_tests")? {
        figures.push(tests(analysis, &group)?);
    }
    for group in groups(tables, "deflection")? {
        figures.push(emotions(analysis, &group)?);
    }
    for group in groups(tables, "deflection_lens")? {
        figures.push(lens(analysis, &group)?);
    }
    for group in groups(tables, "deflection_prompts")? {
        figures.push(prompts(analysis, &group, HIDDEN)?);
        figures.push(prompts(analysis, &group, STORIES)?);
    }
    Ok(figures)
}

fn tests(analysis: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (what, against) = (table.str("what")?, table.str("against")?);
    let (mean, p) = (table.f64("null_mean")?, table.f64("p")?);
    let mut rows = Vec::new();
    for &row in &group.rows {
        rows.push(vec![
            Cell::Text(what[row].clone()),
            cell(table, row, 2)?,
            Cell::Number(mean[row], 2),
            Cell::Number(p[row], 3),
            Cell::Text(against[row].clone()),
        ]);
    }
    let first = group.rows[0];
    let others = match table.i32("skipped")?[first] {
        0 => String::new(),
        n => format!(" {n} dialogues with emotions outside the experiment are not counted."),
    };
    let caption = format!(
        "{} dialogues on {} topics, of which only the user's turns are read, never the scenario. Intervals: bootstrap \
         over topics, if there are five or more. The test of the norm is two-sided.{others}",
        table.i32("dialogues")?[first],
        table.i32("topics")?[first],
    );
    let columns = ["what", "value", "null", "p", "against"].map(String::from).to_vec();
    let body = Body::Table(TableFigure { columns, rows });
    Ok(group.figure(format!("{analysis}-tests"), "Hidden emotions: size and subspace".into(), caption, body))
}

fn emotions(analysis: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (emotion, dialogues) = (table.str("emotion")?, table.i32("dialogues")?);
    let (norm, kept, cosine) = (table.f64("norm")?, table.f64("kept")?, table.f64("cosine")?);
    let ranks = [table.i32("own_rank")?, table.i32("own_rank_outside")?];
    let row = |&row: &usize| {
        vec![
            Cell::Text(emotion[row].clone()),
            Cell::Number(f64::from(dialogues[row]), 0),
            Cell::Number(norm[row], 2),
            Cell::Number(kept[row], 3),
            Cell::Number(cosine[row], 2),
            Cell::Number(f64::from(ranks[0][row]), 0),
            Cell::Number(f64::from(ranks[1][row]), 0),
        ]
    };
    let first = group.rows[0];
    let caption = format!(
        "The vector of each hidden emotion: its norm, the share that remains after projecting out the {} components of \
         the stories' vectors, the cosine with the stories' vector of the same emotion, and the logit-lens rank of the \
         emotion's own word before and after the projection (1: promoted most). A random vector keeps {:.3} of its \
         norm. Published: about .8.",
        table.i32("components")?[first],
        table.f64("random")?[first],
    );
    let columns = ["hidden", "dialogues", "norm", "kept", "cosine", "own word", "own word, outside"];
    let columns = columns.map(String::from).to_vec();
    let body = Body::Table(TableFigure { columns, rows: group.rows.iter().map(row).collect() });
    Ok(group.figure(format!("{analysis}-emotions"), "Hidden emotions".into(), caption, body))
}

fn lens(analysis: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (emotion, part, side) = (table.str("emotion")?, table.str("part")?, table.str("side")?);
    let token = table.str("token")?;
    let tokens = |of: &str, wanted: Part, sign: &str| {
        let is = |row: &&usize| emotion[**row] == of && part[**row] == wanted.name() && side[**row] == sign;
        let list: Vec<&str> = group.rows.iter().filter(is).map(|&row| bare(&token[row])).collect();
        Cell::Text(joined(&list))
    };
    let row = |of: &str| {
        vec![
            Cell::Text(of.to_string()),
            tokens(of, Part::Before, PROMOTED),
            tokens(of, Part::Before, SUPPRESSED),
            tokens(of, Part::After, PROMOTED),
            tokens(of, Part::After, SUPPRESSED),
        ]
    };
    let caption = "The tokens that the vector of each hidden emotion promotes and suppresses most through the \
         unembedding, before and after the components of the stories' vectors are projected out: the remaining part \
         should not name the emotion."
        .to_string();
    let columns = ["hidden", "raises", "lowers", "raises, outside", "lowers, outside"];
    let columns = columns.map(String::from).to_vec();
    let rows = distinct(emotion, &group.rows).into_iter().map(row).collect();
    let body = Body::Table(TableFigure { columns, rows });
    Ok(group.figure(
        format!("{analysis}-lens"),
        "Logit lens before and after projection".into(),
        caption,
        body,
    ))
}

fn prompts(analysis: &str, group: &Group, wanted: &str) -> Result<Figure> {
    let table = group.table;
    let (vectors, class, emotion) = (table.str("vectors")?, table.str("class")?, table.str("emotion")?);
    let (value, q, n) = (table.f64("value")?, table.f64("q")?, table.i32("prompts")?);
    let own: Vec<usize> = group.rows.iter().copied().filter(|&row| vectors[row] == wanted).collect();
    let (classes, emotions) = (distinct(class, &own), distinct(emotion, &own));
    let at = |of: &str, e: &str| own.iter().copied().find(|&row| class[row] == of && emotion[row] == e);
    let values = classes
        .iter()
        .flat_map(|of| emotions.iter().map(move |e| at(of, e).map_or(f64::NAN, |row| value[row])))
        .collect();
    let clear = own.iter().filter(|&&row| q[row] <= 0.05).count();
    let (whose, title) = match wanted {
        HIDDEN => ("the projected vector of each hidden emotion", "Prompts by class, hidden emotions"),
        _ => ("each vector of stories", "Prompts by class, vectors of stories"),
    };
    let rows = classes
        .iter()
        .map(|of| {
            let prompts = own.iter().find(|&&row| class[row] == *of).map_or(0, |&row| n[row]);
            format!("{of} ({prompts})")
        })
        .collect();
    let caption = format!(
        "How much larger the cosine of the residual stream just before the answer with {whose} is for a class of \
         prompts than for all others. {clear} of {} differences have q <= .05 (prompts randomly assigned to classes; \
         adjusted over all classes and emotions).",
        own.len()
    );
    let body = Body::Heatmap(Heatmap {
        row_axis: "class of prompts".into(),
        column_axis: "emotion".into(),
        rows,
        columns: emotions.iter().map(|e| e.to_string()).collect(),
        values,
        value: "difference of the cosine".into(),
        limit: None,
    });
    Ok(group.figure(format!("{analysis}-prompts-{wanted}"), title.into(), caption, body))
}
