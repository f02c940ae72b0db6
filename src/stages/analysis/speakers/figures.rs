//! The figures and claims of `speakers`. Depends only on its tables.

use anyhow::Result;

use super::super::tested::{cell, interval};
use super::super::{Claim, Group, Null, Published, groups, published};
use super::{AROUSAL, LABELS, NAMES, ON_SITUATIONS, OWNERS, Speakers, name};
use crate::report::figure::{Body, Cell, Figure, Heatmap, TableFigure};
use crate::store::table::Table;

use super::measure::STORIES;

/// What the claims of this analysis mean.
pub const READING: &str = "Vectors by speaker and by owner of the emotion, computed as those of stories, from \
     dialogues in which the two emotions are independent. The mean over emotions of the cosine between two sets' \
     vectors of the same emotion, over the pairs of sets that share a property: the speaker's own emotion or the \
     other's (relation), the emotion's owner, or the speaker; with a bootstrap over topics. Null: the emotions' names \
     permuted in one set; for sets of one owner, the emotions of each owner shuffled within topics, for both speakers' turns \
     at once. Differences between two of these are tested by exchanging the owners of the \
     emotions on a random half of the topics. Arousal regulation: the correlation over emotions between the other \
     speaker's arousal and the arousal of the speaker's own emotions most similar to that vector; negative if an \
     aroused user is followed by a calm answer. R\u{b2} on situations: between the cosines of the stories' vectors and \
     those of the present speaker's vectors (the mean of both speakers' own) with the residual stream before the \
     answer to situations that imply an emotion, over situations and emotions; centred: after subtracting each \
     emotion's mean, which otherwise contributes to R\u{b2}.";

/// A value of the original study.
const PAPER_SHARED: Published =
    Published { source: published::PAPER, value: 0.66, but: "another model, other dialogues and situations" };

/// The findings at each layer.
pub fn claims(params: &Speakers, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let null = |of: &'static str, mean: f64, p: f64| {
        Some(Null { of, draws: params.permutations, mean: Some(mean), p })
    };
    for group in groups(tables, "speakers_tests")? {
        let table = group.table;
        let (what, against) = (table.str("what")?, table.str("against")?);
        let (value, mean, p) = (table.f64("value")?, table.f64("null_mean")?, table.f64("p")?);
        for &row in &group.rows {
            let of =
                [LABELS, OWNERS, AROUSAL, NAMES].into_iter().find(|of| *of == against[row]).unwrap_or(LABELS);
            let claim = group.claim(what[row].clone(), "", value[row], 2);
            let drawn = if of == NAMES { "percentiles of situations drawn" } else { "bootstrap over topics" };
            let claim = claim.within(interval(table, row)?, drawn);
            let beside = (what[row] == ON_SITUATIONS[0]).then_some(PAPER_SHARED).into_iter().collect();
            claims.push(claim.against(null(of, mean[row], p[row])).beside(beside));
        }
    }
    for group in groups(tables, "speakers")? {
        let table = group.table;
        let (a, b) = (table.str("a")?, table.str("b")?);
        let (value, mean, p) = (table.f64("value")?, table.f64("null_mean")?, table.f64("p")?);
        for (set, what) in [(0, "person's own, with stories"), (3, "assistant's own, with stories")] {
            let is = |row: &&usize| a[**row] == name(set) && b[**row] == name(STORIES);
            let Some(&row) = group.rows.iter().find(is) else { continue };
            let claim =
                group.claim(what, "", value[row], 2).within(interval(table, row)?, "bootstrap over topics");
            claims.push(claim.against(null(NAMES, mean[row], p[row])));
        }
    }
    Ok(claims)
}

/// For each layer, the cosines of all sets, and the tested numbers.
pub fn figures(analysis: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "speakers")? {
        figures.push(matrix(analysis, &group)?);
    }
    for group in groups(tables, "speakers_tests")? {
        figures.push(tests(analysis, &group)?);
    }
    Ok(figures)
}

fn matrix(analysis: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (a, b, value) = (table.str("a")?, table.str("b")?, table.f64("value")?);
    let (rsa, p) = (table.f64("rsa")?, table.f64("p_rsa")?);
    let sets: Vec<String> = (0..=STORIES).map(name).collect();
    let cosine = |x: &String, y: &String| {
        let is = |row: &&usize| (&a[**row] == x && &b[**row] == y) || (&a[**row] == y && &b[**row] == x);
        group.rows.iter().find(is).map_or(1.0, |&row| value[row])
    };
    let values = sets.iter().flat_map(|x| sets.iter().map(move |y| cosine(x, y))).collect();
    let short = ["person: own", "person: other's", "assistant: other's", "assistant: own", "stories"];
    let short: Vec<String> = short.map(String::from).to_vec();
    let own = group.rows.iter().find(|&&row| a[row] == name(0) && b[row] == name(3));
    let alike = own.map_or_else(String::new, |&row| {
        format!(
            " The cosines between emotions of both speakers' own sets correlate at {:.2} (Spearman; p {:.3}, emotions under each other's \
             names).",
            rsa[row], p[row]
        )
    });
    let caption = format!(
        "The mean over emotions of the cosine between two sets' vectors of the same emotion. Each set pools one \
         speaker's turns, grouped by their own emotion or the other's; `stories`: the vectors of stories.{alike}"
    );
    let axis = "who speaks, and whose emotion";
    let body = Body::Heatmap(Heatmap {
        row_axis: axis.into(),
        column_axis: axis.into(),
        rows: short.clone(),
        columns: short,
        values,
        value: "mean cosine of the same emotion".into(),
        limit: Some(1.0),
    });
    Ok(group.figure(format!("{analysis}-sets"), "Vectors by speaker and owner".into(), caption, body))
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
    let skipped = table.i32("skipped")?[first];
    let others = match skipped {
        0 => String::new(),
        n => format!(" {n} dialogues with emotions outside the experiment are not counted."),
    };
    let caption = format!(
        "Mean cosines over the pairs of sets that share a property, and their differences. {} dialogues on {} topics; \
         intervals: bootstrap over topics, if there are five or more.{others}",
        table.i32("dialogues")?[first],
        table.i32("topics")?[first],
    );
    let columns = ["what", "value", "null", "p", "against"].map(String::from).to_vec();
    let body = Body::Table(TableFigure { columns, rows });
    Ok(group.figure(format!("{analysis}-tests"), "Shared properties".into(), caption, body))
}
