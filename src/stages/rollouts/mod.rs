//! Texts that a model writes under steering: every case in every cell, several samples each. One unit a case. Knows nothing of
//! what the texts are found to be.

pub mod cells;
pub mod conversation;
pub mod write;

use anyhow::Result;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::analysis::{LayerVectors, VectorSet};
use super::batches::Batches;
use crate::lm::{Chat, LanguageModel, Positions};
use crate::params::params;
use crate::store::table::{Column, Table};
use write::Rollout;

/// Raised when the same vectors would give other texts.
pub const VERSION: u32 = 2;

/// A case as it is put to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub name: String,
    /// Whether there is no ground for the act.
    pub control: bool,
    pub system: String,
    /// What the user says, turn after turn.
    pub turns: Vec<String>,
    /// What the model is made to have answered to the first of them.
    pub replies: Vec<String>,
    /// How its last answer begins.
    pub answer: String,
    /// Of a programming task: tests that the turns show, and tests that they do not show.
    pub shown: String,
    pub hidden: String,
    /// The text of each choice.
    pub options: Vec<String>,
}

/// With what the model is steered while it writes or chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    /// Whose vectors are added; empty: all.
    pub emotions: Vec<String>,
    /// In mean residual norms at the layers.
    pub strength: Vec<f64>,
    pub positions: Positions,
    /// Random directions at each strength.
    pub random: usize,
}

params! {
    /// How texts are written.
    pub struct Texts {
        /// But for `choices`: texts of each case in each cell.
        pub samples: usize = 50, 1..=100_000;
        /// But for `choices`: the most tokens of an answer.
        pub max_new_tokens: usize = 256, 1..=1_000_000;
        /// But for `choices`: divides the logits; 0 takes the likeliest token.
        pub temperature: f64 = 1.0, 0.0..=10.0;
        /// But for `choices`: tokens are drawn from the fewest likeliest that reach this probability.
        pub top_p: f64 = 1.0, above 0.0..=1.0;
    }
}

/// What an analysis has written.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    pub cases: Vec<Asked>,
    pub steering: Steering,
    pub texts: Texts,
}

impl Steering {
    /// Cells of an experiment with so many emotions: no steering, and each direction at each strength.
    pub fn cells(&self, emotions: usize) -> usize {
        let emotions = if self.emotions.is_empty() { emotions } else { self.emotions.len() };
        1 + (emotions + self.random) * self.strength.len()
    }
}

impl Writing {
    /// Texts of one case in all cells.
    pub fn of_case(&self, emotions: usize) -> usize {
        self.steering.cells(emotions) * self.texts.samples
    }

    /// How much there is to write, in words.
    pub fn amount(&self, emotions: usize) -> String {
        let (cells, cases) = (self.steering.cells(emotions), self.cases.len());
        let Texts { samples, max_new_tokens, .. } = self.texts;
        let texts = cells * cases * samples;
        // The model's own answers of a conversation, each of which may have as many tokens.
        let answers: usize = self.cases.iter().map(|case| case.turns.len() - case.replies.len()).sum();
        let tokens = cells * samples * answers * max_new_tokens;
        format!("{texts} texts: {cells} cells x {cases} cases x {samples} samples, at most {tokens} tokens")
    }
}

/// The texts of a case in all cells, the table `rollouts` (schema `rollouts/1`): `sample_id`, `case`, `steered`, `strength`,
/// `sample` (from 1), `seed` (of the first answer that is the model's own), `ended`, `n_tokens`, `text` (the last answer), `earlier`
/// (those before that, as a list in JSON). In the order of cells, and samples within.
///
/// # Errors
/// Those of [`write::write`] and [`cells::cells`].
pub fn run(
    writing: &Writing,
    case: &Asked,
    set: &VectorSet,
    (model, chat): (&LanguageModel, Chat),
    seed: u64,
    batches: &mut dyn Batches,
) -> Result<Table> {
    let layers: Vec<&LayerVectors> = set.layers.iter().collect();
    let cells = cells::cells(&writing.steering, &layers, seed)?;
    let steered = cells::steered(&layers);
    let rollouts = write::write(writing, case, (model, chat), (&steered, &cells, seed), batches)?;
    let texts = |of: &dyn Fn(&Rollout) -> String| Column::Str(rollouts.iter().map(of).collect());
    let first = case.replies.len();
    let columns = vec![
        ("sample_id", texts(&|r| sample_id(&case.name, &cells[r.place.cell], r))),
        ("case", texts(&|_| case.name.clone())),
        ("steered", texts(&|r| cells[r.place.cell].steered.clone())),
        ("strength", Column::F64(rollouts.iter().map(|r| cells[r.place.cell].strength).collect())),
        ("sample", Column::I32(rollouts.iter().map(|r| r.place.sample as i32 + 1).collect())),
        ("seed", texts(&|r| write::seed(seed, &case.name, r.place.sample, first).to_string())),
        ("ended", texts(&|r| r.ended.clone())),
        ("n_tokens", Column::I32(rollouts.iter().map(|r| r.tokens as i32).collect())),
        ("text", texts(&|r| r.text.clone())),
        ("earlier", texts(&|r| serde_json::to_string(&r.before).expect("a list of texts"))),
    ];
    Ok(Table::new("rollouts/1", columns))
}

/// What a text is called wherever it is labelled by hand: of its content, so that a label never stands for another text.
fn sample_id(case: &str, cell: &cells::Cell, rollout: &Rollout) -> String {
    let place = (case, &cell.steered, cell.strength, rollout.place.sample, &rollout.before, &rollout.text);
    let digest = Sha256::digest(serde_json::to_vec(&place).expect("strings and numbers"));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
