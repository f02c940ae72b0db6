//! Figures and claims of the readings of emotion vectors in a scenario's texts. Depends only on their table.

use anyhow::Result;

use super::probe::{ACROSS, PLACES, WITHIN};
use crate::report::figure::{Body, Dot, Dots, Figure};
use crate::stages::analysis::{Claim, Group, Null, groups};
use crate::stages::statistics::Interval;
use crate::store::table::Table;

/// Areas at each place, within and across cases, compared with random directions.
pub fn figures(name: &str, group: &Group) -> Result<Vec<Figure>> {
    let table = group.table;
    let (emotion, place, compared) = (table.str("emotion")?, table.str("place")?, table.str("compared")?);
    let (auc, low, high) = (table.f64("auc")?, table.opt_f64("low")?, table.opt_f64("high")?);
    let (random_low, random_high) = (table.opt_f64("random_low")?, table.opt_f64("random_high")?);
    let (p, q, n, n_act) = (table.f64("p")?, table.f64("q")?, table.i32("n")?, table.i32("n_act")?);
    let mut figures = Vec::new();
    for (at, wanted) in PLACES.iter().enumerate() {
        for form in [WITHIN, ACROSS] {
            let mine = |&&row: &&usize| place[row] == *wanted && compared[row] == form;
            let mut rows: Vec<usize> = group.rows.iter().filter(mine).copied().collect();
            let Some(&first) = rows.first() else { continue };
            rows.sort_by(|&a, &b| auc[b].total_cmp(&auc[a]));
            let least = rows.iter().map(|&row| q[row]).fold(1.0, f64::min);
            let small = rows.iter().filter(|&&row| p[row] <= 0.05).count();
            let dot = |&row: &usize| Dot {
                label: emotion[row].clone(),
                value: auc[row] - 0.5,
                interval: low[row].zip(high[row]).map(|(low, high)| (low - 0.5, high - 0.5)),
                band: random_low[row].zip(random_high[row]).map(|(low, high)| (low - 0.5, high - 0.5)),
            };
            let what = match form {
                WITHIN => "Pairs are within a case, so differences between situations do not count",
                _ => {
                    "Pairs are between cases, of which only the mean reading counts: is the act more frequent in \
                     situations with larger readings?"
                }
            };
            let caption = format!(
                "Area under the ROC curve minus .5: the probability that a text with the act has a larger reading \
                 ({wanted}) than one without, over {} unsteered texts, {} of them with the act. {what}. Bars: 95 % \
                 intervals from resampling {}. Band: random directions with the covariance of the activations. With {} \
                 permuted, {small} of {} have p <= .05; the smallest q over all positions is {least:.3}. A reading of \
                 the answer partly reflects the words that constitute the act.",
                n[first],
                n_act[first],
                if form == WITHIN { "texts within cases" } else { "cases" },
                if form == WITHIN { "outcomes" } else { "readings" },
                rows.len(),
            );
            let body = Dots {
                x: "area under the ROC curve, minus .5".into(),
                dots: rows.iter().map(dot).collect(),
                decimals: 2,
                band: "random directions".into(),
            };
            let title = format!("Readings and outcomes: {wanted}, {form}");
            let form = if form == WITHIN { "within" } else { "across" };
            figures.push(group.figure(format!("{name}-probe-{at}-{form}"), title, caption, Body::Dots(body)));
        }
    }
    Ok(figures)
}

/// The area of each emotion.
pub fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in &groups(tables, "scenario_probe")? {
        let table = group.table;
        let (emotion, place, compared) = (table.str("emotion")?, table.str("place")?, table.str("compared")?);
        let (auc, low, high, p) =
            (table.f64("auc")?, table.opt_f64("low")?, table.opt_f64("high")?, table.f64("p")?);
        for &row in &group.rows {
            let ends = low[row].zip(high[row]).map(|(low, high)| Interval { low, high });
            let (of, method) = match compared[row] == WITHIN {
                true => ("outcomes permuted within cases", "percentiles of texts drawn within cases"),
                false => ("readings permuted over cases", "percentiles of cases drawn with replacement"),
            };
            let null = Null { of, draws: super::probe::DEALS, mean: Some(0.5), p: p[row] };
            let what = format!("AUC of {}, {}, {}", emotion[row], place[row], compared[row]);
            claims.push(group.claim(what, "", auc[row], 2).within(ends, method).against(Some(null)));
        }
    }
    Ok(claims)
}
