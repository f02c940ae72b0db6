//! The texts of a scenario with their outcomes. Independent of how either was produced.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use crate::report::figure::{Body, Figure, Samples as Figured, ShownSample};
use crate::stages::analysis::{Group, Rollouts};
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::cells::is_random;

/// The approximate maximum number of texts in the report; all are in the table.
const SHOWN: usize = 1500;
/// The maximum number of characters of a text in the report.
const LONGEST: usize = 4000;

/// All texts, in the order of cases and cells.
pub struct Samples {
    pub cells: Vec<(String, f64)>,
    pub cases: Vec<Asked>,
    pub all: Vec<Sample>,
}

/// A text.
pub struct Sample {
    pub id: String,
    /// Its indices in [`Samples`].
    pub case: usize,
    pub cell: usize,
    /// From 1.
    pub number: i32,
    pub seed: String,
    pub outcome: String,
    pub act: bool,
    pub evidence: String,
    pub ended: String,
    pub tokens: i32,
    pub text: String,
    /// The model's own earlier answers.
    pub earlier: Vec<String>,
}

/// Reads texts and their scores.
///
/// # Errors
/// Tables that do not match.
pub fn read(rollouts: &Rollouts, asked: &[Asked]) -> Result<Samples> {
    let mut samples = Samples { cells: Vec::new(), cases: asked.to_vec(), all: Vec::new() };
    for unit in 0..rollouts.count {
        let (texts, scores) = (rollouts.read)(unit)?;
        let (id, case, number) = (texts.str("sample_id")?, texts.str("case")?, texts.i32("sample")?);
        let (steered, strength) = (texts.str("steered")?, texts.f64("strength")?);
        let (ended, text, tokens) = (texts.str("ended")?, texts.str("text")?, texts.i32("n_tokens")?);
        let (seed, earlier) = (texts.str("seed")?, texts.str("earlier")?);
        let (outcome, act, evidence) = (scores.str("outcome")?, scores.bool("act")?, scores.str("evidence")?);
        ensure!(scores.str("sample_id")? == id, "the scores are of other texts");
        for row in 0..texts.rows() {
            let is_here = |(name, at): &(String, f64)| *name == steered[row] && *at == strength[row];
            // Samples of a cell are consecutive, and each case has the same cells.
            let cell = samples.cells.iter().rposition(is_here).unwrap_or_else(|| {
                samples.cells.push((steered[row].clone(), strength[row]));
                samples.cells.len() - 1
            });
            samples.all.push(Sample {
                id: id[row].clone(),
                case: asked.iter().position(|a| a.name == case[row]).context("a text of no case")?,
                cell,
                number: number[row],
                seed: seed[row].clone(),
                outcome: outcome[row].clone(),
                act: act[row],
                evidence: evidence[row].clone(),
                ended: ended[row].clone(),
                tokens: tokens[row],
                text: text[row].clone(),
                earlier: serde_json::from_str(&earlier[row])?,
            });
        }
    }
    ensure!(!samples.all.is_empty(), "there are no texts");
    Ok(samples)
}

/// The first texts of each cell and outcome, with filters.
pub fn figure(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (steered, strength, case) = (table.str("steered")?, table.f64("strength")?, table.str("case")?);
    let (outcome, evidence, ended) = (table.str("outcome")?, table.str("evidence")?, table.str("ended")?);
    let (id, text, earlier) = (table.str("sample_id")?, table.str("text")?, table.str("earlier")?);
    let who = |row: usize| if is_random(&steered[row]) { "random" } else { steered[row].as_str() };
    let kind = |row: usize| (who(row), strength[row].to_bits(), outcome[row].as_str());
    let mut kinds: HashMap<_, usize> = HashMap::new();
    group.rows.iter().for_each(|&row| *kinds.entry(kind(row)).or_default() += 1);
    // The same number for each outcome in each cell if there are too many in total; random directions count as one
    // cell.
    let most = kinds.values().max().copied().unwrap_or_default();
    let together = |each: usize| kinds.values().map(|n| each.min(*n)).sum::<usize>();
    let each = (1..most).rev().find(|&each| together(each) <= SHOWN).unwrap_or(1);
    let each = if group.rows.len() <= SHOWN { most } else { each };
    let mut shown: HashMap<_, usize> = HashMap::new();
    let brief = |text: &str| {
        let brief: String = text.chars().take(LONGEST).collect();
        if brief.len() < text.len() { format!("{brief}\u{2026}") } else { brief }
    };
    let mut samples = Vec::new();
    for &row in &group.rows {
        let count = shown.entry(kind(row)).or_default();
        *count += 1;
        if *count > each {
            continue;
        }
        let said = if ended[row] == "end" { String::new() } else { format!(", ended by {}", ended[row]) };
        samples.push(ShownSample {
            of: vec![who(row).into(), strength[row].to_string(), case[row].clone(), outcome[row].clone()],
            note: format!("{}{said}", id[row]),
            evidence: evidence[row].clone(),
            earlier: brief(&earlier[row]),
            text: brief(&text[row]),
            ..ShownSample::default()
        });
    }
    let by = ["steered", "strength", "case", "outcome"].map(String::from).to_vec();
    let all = (samples.len() < group.rows.len()).then_some(group.rows.len());
    let first = all.map_or(String::new(), |_| {
        format!("The first {each} texts of each outcome in each cell; of random directions of all together. ")
    });
    let caption = format!(
        "{first}The evidence for an outcome is marked in the text or shown above it; for a judge it is the probability \
         of the verdict and that of all possible verdicts. All texts are in the table `{name}.scenario_samples`."
    );
    let body = Body::Samples(Figured { by, samples, all, ..Figured::default() });
    Ok(group.figure(format!("{name}-samples"), "Samples".into(), caption, body))
}
