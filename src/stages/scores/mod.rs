//! Scores of texts that were written under steering: the outcome of each, and the evidence for it. The cell of a text
//! is never visible here. Nothing in a text is executed, except programs in a sandbox (`run`).

pub mod judge;
pub mod pattern;
pub mod run;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::analysis::scenario::Outcome;
use super::batches::Batches;
use super::rollouts::Asked;
use crate::store::table::{Column, Table};
use judge::{Judge, Text};
use pattern::Outcomes;
use run::Run;

/// Increased when the same texts would be scored differently.
pub const VERSION: u32 = 1;

/// Outcomes that are never counted as "not the act".
pub const CUT: &str = "cut off";
pub const UNCLEAR: &str = "unclear";

/// How texts are scored.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// By patterns: the first outcome that holds.
    Pattern(Vec<Outcome>),
    /// By a model that is asked about the text.
    Judge(Judge),
    /// By the behaviour of the program in the text.
    Run(Run),
}

/// The score of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub outcome: String,
    pub act: bool,
    /// The evidence, a piece of the text; empty if there is none.
    pub evidence: String,
    /// For a judge: the probability of the verdict, and the total probability of all options.
    pub judged: Option<(f64, f64)>,
}

/// Scores each of `rollouts` by patterns.
///
/// # Errors
/// The table has another schema; a pattern is invalid.
pub fn by_pattern(outcomes: &[Outcome], rollouts: &Table) -> Result<Table> {
    let outcomes = Outcomes::new(outcomes)?;
    let (text, ended) = (rollouts.str("text")?, rollouts.str("ended")?);
    let scores = text.iter().zip(ended).map(|(text, ended)| outcomes.of(text, ended == "length"));
    table(rollouts, scores.collect())
}

/// Scores each of `rollouts`, texts about `case`, by `judged`.
///
/// # Errors
/// The table has another schema; those of `judged`.
pub fn by_judge(
    case: &Asked,
    rollouts: &Table,
    judged: impl FnOnce(&Asked, &[Text]) -> Result<Vec<Score>>,
) -> Result<Table> {
    let (id, text, ended) = (rollouts.str("sample_id")?, rollouts.str("text")?, rollouts.str("ended")?);
    let earlier = rollouts.str("earlier")?;
    let of = |row: usize| {
        let earlier = serde_json::from_str(&earlier[row])?;
        Ok(Text { id: &id[row], last: &text[row], earlier, ended: &ended[row] })
    };
    let texts = (0..rollouts.rows()).map(of).collect::<Result<Vec<_>>>()?;
    table(rollouts, judged(case, &texts)?)
}

/// Scores each of `rollouts`, texts about `case`, by the behaviour of its program.
///
/// # Errors
/// The table has another schema; those of [`run::scores`].
pub fn by_run(run: &Run, case: &Asked, rollouts: &Table, batches: &mut dyn Batches) -> Result<Table> {
    let (text, ended) = (rollouts.str("text")?, rollouts.str("ended")?);
    let texts: Vec<(&str, &str)> =
        text.iter().zip(ended).map(|(text, ended)| (text.as_str(), ended.as_str())).collect();
    table(rollouts, run::scores(run, case, &texts, batches)?)
}

/// The table `scores` (schema `scores/1`): for each text `sample_id`, `outcome`, `act`, `evidence`; for a judge also
/// `probability` (of the verdict) and `mass` (the total probability of all options).
fn table(rollouts: &Table, scores: Vec<Score>) -> Result<Table> {
    ensure!(scores.len() == rollouts.rows(), "{} scores of {} texts", scores.len(), rollouts.rows());
    let columns = vec![
        ("sample_id", Column::Str(rollouts.str("sample_id")?.to_vec())),
        ("outcome", Column::Str(scores.iter().map(|score| score.outcome.clone()).collect())),
        ("act", Column::Bool(scores.iter().map(|score| score.act).collect())),
        ("probability", Column::OptF64(scores.iter().map(|score| Some(score.judged?.0)).collect())),
        ("mass", Column::OptF64(scores.iter().map(|score| Some(score.judged?.1)).collect())),
        ("evidence", Column::Str(scores.into_iter().map(|score| score.evidence).collect())),
    ];
    Ok(Table::new("scores/1", columns))
}
