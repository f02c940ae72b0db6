//! What texts that were written under steering are found to be: of each its outcome, and what told it. Never sees which cell a text is
//! of. Nothing that a text says is carried out, but for programs in a sandbox (`run`).

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

/// Raised when the same texts would be found to be something else.
pub const VERSION: u32 = 1;

/// Outcomes of their own: what is never taken for a no.
pub const CUT: &str = "cut off";
pub const UNCLEAR: &str = "unclear";

/// How it is told what a text is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// By patterns: the first of these that holds.
    Pattern(Vec<Outcome>),
    /// By a model that is asked about it.
    Judge(Judge),
    /// By what the program in it does.
    Run(Run),
}

/// What a text was found to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub outcome: String,
    pub act: bool,
    /// What it was told by: a piece of the text; empty of what is told by nothing.
    pub evidence: String,
    /// Of a judge: the probability of the verdict, and of all that could be one.
    pub judged: Option<(f64, f64)>,
}

/// What each of `rollouts` is by patterns.
///
/// # Errors
/// A table of something else; a pattern that is none.
pub fn by_pattern(outcomes: &[Outcome], rollouts: &Table) -> Result<Table> {
    let outcomes = Outcomes::new(outcomes)?;
    let (text, ended) = (rollouts.str("text")?, rollouts.str("ended")?);
    let scores = text.iter().zip(ended).map(|(text, ended)| outcomes.of(text, ended == "length"));
    table(rollouts, scores.collect())
}

/// What `judged` says of each of `rollouts`, texts about `case`.
///
/// # Errors
/// A table of something else; those of `judged`.
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

/// What each of `rollouts`, texts about `case`, is by what its program does.
///
/// # Errors
/// A table of something else; those of [`run::scores`].
pub fn by_run(run: &Run, case: &Asked, rollouts: &Table, batches: &mut dyn Batches) -> Result<Table> {
    let (text, ended) = (rollouts.str("text")?, rollouts.str("ended")?);
    let texts: Vec<(&str, &str)> =
        text.iter().zip(ended).map(|(text, ended)| (text.as_str(), ended.as_str())).collect();
    table(rollouts, run::scores(run, case, &texts, batches)?)
}

/// The table `scores` (schema `scores/1`): of each text `sample_id`, `outcome`, `act`, `evidence`; of a judge `probability` (of the
/// verdict) and `mass` (of all that could be one).
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
