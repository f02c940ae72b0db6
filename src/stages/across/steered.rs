//! Whether vectors mapped from another model steer this one, compared with its own vectors and with random ones.

use anyhow::{Context, Result, ensure};

use super::transfer::Steer;
use crate::lm::{LanguageModel, Layer};
use crate::stages::analysis::LayerVectors;
use crate::stages::analysis::shared::{At, BATCH_TOKENS};
use crate::stages::analysis::words::{Addition, Prompt, Words};
use crate::stages::principal::norm;
use crate::stages::statistics::draws::Draws;
use crate::store::table::{Column, Table};

/// Values of the column `steered` for a mapped vector and for the model's own; random directions are `random-1` and
/// so on.
pub const MAPPED: &str = "mapped";
pub const OWN: &str = "own";
/// Prefixes of that column's values for random directions and for mapped vectors of shuffled cells.
pub const RANDOM: &str = "random-";
pub const SHUFFLED: &str = "shuffled-";

/// One row for each emotion's word under each vector that is added for it.
#[derive(Default)]
pub struct Rows {
    layers: [Vec<i32>; 2],
    prompt: Vec<String>,
    emotion: Vec<String>,
    steered: Vec<String>,
    baseline: Vec<f64>,
    after: Vec<f64>,
}

impl Rows {
    /// Measures every emotion's word after every prompt while its own vector, its mapped vector, a random direction
    /// or a mapped vector of shuffled cells is added at all token positions of the layer, each scaled to the norm of
    /// its own vector times `strength`.
    ///
    /// `mapped`: `[emotion, d_model]` each; the first is of the true cells, the others are of shuffled cells, as many
    /// as there are random directions. An error if a vector is zero, or if the vectors belong to another model.
    pub fn add(
        &mut self,
        steer: &Steer,
        (from, to): (Layer, Layer),
        own: &LayerVectors,
        mapped: &[Vec<f64>],
        model: &LanguageModel,
        seed: u64,
    ) -> Result<()> {
        ensure!(own.d_model == model.spec.d_model, "vectors of {} entries for another model", own.d_model);
        let room = model.bytes_to_keep(BATCH_TOKENS);
        let directions: Vec<Vec<f64>> = (1..=steer.random)
            .map(|number| {
                Draws::new("steering null", &[seed, to.number() as u64, number as u64]).direction(own.d_model)
            })
            .collect();
        let (mut names, mut additions) = (Vec::new(), Vec::new());
        for (word, emotion) in own.emotions.iter().enumerate() {
            let row = |of: &'_ [f64]| of[word * own.d_model..][..own.d_model].to_vec();
            let vector = row(&own.vectors);
            let length = steer.strength * norm(&vector);
            let numbered = |what: &'static str| (1..).map(move |number: usize| format!("{what}{number}"));
            let mut added = vec![(OWN.to_string(), vector), (MAPPED.to_string(), row(&mapped[0]))];
            added.extend(numbered(RANDOM).zip(directions.iter().cloned()));
            added.extend(numbered(SHUFFLED).zip(mapped[1..].iter().map(|mapped| row(mapped))));
            for (name, direction) in added {
                ensure!(norm(&direction) > 0.0, "the {name} vector of `{emotion}` at layer {to} is zero");
                let scale = length / norm(&direction);
                let vector = direction.iter().map(|x| (scale * x) as f32).collect();
                names.push((name, emotion));
                additions.push(Addition { vector, words: vec![word] });
            }
        }
        for prompt in &steer.prompts {
            let mut words = Words::new(model, Prompt::plain(prompt), &own.emotions, At::All, (&[to], room))?;
            let nothing = Addition { vector: Vec::new(), words: (0..own.emotions.len()).collect() };
            let baseline = words.log_probabilities(model, &[], &[nothing], &mut |_, _| {})?.remove(0);
            let found = words
                .log_probabilities(model, &[to], &additions, &mut |_, _| {})
                .with_context(|| format!("steering at layer {to} with mapped vectors"))?;
            for (((name, emotion), addition), value) in names.iter().zip(&additions).zip(found) {
                self.layers[0].push(from.number());
                self.layers[1].push(to.number());
                self.prompt.push(prompt.clone());
                self.emotion.push(emotion.to_string());
                self.steered.push(name.clone());
                self.baseline.push(baseline[addition.words[0]]);
                self.after.push(value[0]);
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Table {
        let delta = self.after.iter().zip(&self.baseline).map(|(after, before)| after - before).collect();
        let [from, to] = self.layers;
        Table::new(
            "transfer_steering/1",
            vec![
                ("layer_a", Column::I32(from)),
                ("layer_b", Column::I32(to)),
                ("prompt", Column::Str(self.prompt)),
                ("emotion", Column::Str(self.emotion)),
                ("steered", Column::Str(self.steered)),
                ("baseline_logprob", Column::F64(self.baseline)),
                ("steered_logprob", Column::F64(self.after)),
                ("delta", Column::F64(delta)),
            ],
        )
    }
}
