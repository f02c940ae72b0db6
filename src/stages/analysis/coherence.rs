//! Log-probability of whole texts with vectors added on the way: whether the model still makes sense. Knows nothing of
//! emotions.

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::Progress;
use crate::lm::{Batch, Hook, LanguageModel, Layer, Positions, Steer};

/// Bound on padded tokens of one pass. A constant: batches change low bits, so they may hang on nothing but the input.
const BATCH_TOKENS: usize = 4096;

/// Texts are read up to so many tokens: what is broken is broken by then.
const LONGEST: usize = 64;

/// Texts, as tokens.
pub struct Texts {
    rows: Vec<Vec<i64>>,
}

impl Texts {
    /// An error if a text has fewer than two tokens, so that nothing predicts one of them.
    pub fn new(model: &LanguageModel, texts: &[String]) -> Result<Texts> {
        let read = |text: &String| {
            let mut ids = model.encode(text)?.ids;
            ids.truncate(LONGEST.min(model.spec.context));
            ensure!(ids.len() > 1, "{text:?} has no token that another predicts");
            Ok(ids)
        };
        Ok(Texts { rows: texts.iter().map(read).collect::<Result<_>>()? })
    }

    /// How many rows each vector takes.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Tokens that are predicted: all but the first of each text.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.len() - 1).sum()
    }

    /// For each vector (`[d_model]`) the mean log-probability, in nats, of a token of the texts, with the vector added
    /// at every position after block `layer`; `None`: nowhere, the vectors may be empty.
    ///
    /// Softmax in fp32, sums in float64. `progress` is told how many rows are done of how many. An error if a value is
    /// not finite.
    pub fn log_probabilities(
        &self,
        model: &LanguageModel,
        layer: Option<Layer>,
        vectors: &[&[f32]],
        progress: &mut Progress,
    ) -> Result<Vec<f64>> {
        let mut rows: Vec<(usize, usize)> = (0..vectors.len())
            .flat_map(|vector| (0..self.rows.len()).map(move |text| (vector, text)))
            .collect();
        rows.sort_by_key(|&(_, text)| self.rows[text].len());
        let mut sums = vec![0.0; vectors.len()];
        let mut done = 0;
        while done < rows.len() {
            let fits = |(before, (_, text)): &(usize, &(usize, usize))| {
                *before == 0 || (before + 1) * self.rows[*text].len() <= BATCH_TOKENS
            };
            let n = rows[done..].iter().enumerate().take_while(fits).count();
            let batch = &rows[done..done + n];
            let values = model.in_halves(batch, &mut |rows| self.measure(model, layer, vectors, rows))?;
            batch.iter().zip(values.concat()).for_each(|(&(vector, _), value)| sums[vector] += value);
            done += n;
            progress(done, rows.len());
        }
        ensure!(
            sums.iter().all(|sum| sum.is_finite()),
            "a log-probability of neutral text is NaN or infinite: what is added may be too large for the model's dtype"
        );
        Ok(sums.into_iter().map(|sum| sum / self.tokens() as f64).collect())
    }

    /// The log-probability of each row's text.
    fn measure(
        &self,
        model: &LanguageModel,
        layer: Option<Layer>,
        vectors: &[&[f32]],
        rows: &[(usize, usize)],
    ) -> Result<Vec<f64>> {
        let tokens: Vec<&Vec<i64>> = rows.iter().map(|&(_, text)| &self.rows[text]).collect();
        let batch = Batch::with_prompts(&tokens, &vec![1; rows.len()])?;
        let mut steer = layer.map(|layer| {
            let values: Vec<f32> =
                rows.iter().flat_map(|&(vector, _)| vectors[vector].iter().copied()).collect();
            let vector = Tensor::from_slice(&values).view([rows.len() as i64, -1]);
            Steer { layer, vector, strength: 1.0, positions: Positions::All }
        });
        let mut hooks: Vec<&mut dyn Hook> = steer.iter_mut().map(|s| s as &mut dyn Hook).collect();
        let resid = model.forward(&batch, &mut hooks, None)?;
        model.continuation_logprobs(&resid, &batch).context("the log-probability of neutral text")
    }
}
