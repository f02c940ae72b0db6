//! Texts that a model writes under steering: several samples of every case in every cell, one unit of work per case.
//! Independent of how the texts are scored.

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

/// Increased when the same vectors would give different texts.
pub const VERSION: u32 = 2;

/// A case as it is put to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub name: String,
    /// Whether the case is a control, in which there is no reason for the act.
    pub control: bool,
    pub system: String,
    /// The user's turns.
    pub turns: Vec<String>,
    /// The model's prescribed answers to the first of them.
    pub replies: Vec<String>,
    /// The beginning of its last answer.
    pub answer: String,
    /// For a programming task: the tests shown in the turns, and the hidden tests.
    pub shown: String,
    pub hidden: String,
    /// The text of each choice.
    pub options: Vec<String>,
}

/// How the model is steered while it writes or chooses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    /// The emotions whose vectors are added; empty: all.
    pub emotions: Vec<String>,
    /// In units of the mean residual norms at the layers.
    pub strength: Vec<f64>,
    pub positions: Positions,
    /// The number of random directions at each strength.
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

/// The texts that an analysis requires.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    pub cases: Vec<Asked>,
    pub steering: Steering,
    pub texts: Texts,
}

impl Steering {
    /// The number of cells in an experiment with this many emotions: no steering, and each direction at each strength.
    pub fn cells(&self, emotions: usize) -> usize {
        let emotions = if self.emotions.is_empty() { emotions } else { self.emotions.len() };
        1 + (emotions + self.random) * self.strength.len()
    }
}

impl Writing {
    /// The number of texts of one case over all cells.
    pub fn of_case(&self, emotions: usize) -> usize {
        self.steering.cells(emotions) * self.texts.samples
    }

    /// The amount of text to write, as a message for people.
    pub fn amount(&self, emotions: usize) -> String {
        let (cells, cases) = (self.steering.cells(emotions), self.cases.len());
        let Texts { samples, max_new_tokens, .. } = self.texts;
        let texts = cells * cases * samples;
        // The model's own answers in a conversation, each of which may have `max_new_tokens` tokens.
        let answers: usize = self.cases.iter().map(|case| case.turns.len() - case.replies.len()).sum();
        let tokens = cells * samples * answers * max_new_tokens;
        format!("{texts} texts: {cells} cells x {cases} cases x {samples} samples, at most {tokens} tokens")
    }
}

/// The texts of a case in all cells, the table `rollouts` (schema `rollouts/1`): `sample_id`, `case`, `steered`,
/// `strength`, `sample` (from 1), `seed` (of the first answer that is the model's own), `ended`, `n_tokens`, `text`
/// (the last answer), `earlier` (the earlier answers, as a JSON list). Sorted by cell, then by sample.
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

/// A text's id for labelling by hand: a hash of its content, so that a label can never refer to another text.
fn sample_id(case: &str, cell: &cells::Cell, rollout: &Rollout) -> String {
    let place = (case, &cell.steered, cell.strength, rollout.place.sample, &rollout.before, &rollout.text);
    let digest = Sha256::digest(serde_json::to_vec(&place).expect("strings and numbers"));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
