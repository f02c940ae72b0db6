//! Log-probability of whole texts with vectors added to the residual stream: whether the model still makes sense.
//! Independent of emotions.

use anyhow::{Context, Result, ensure};

use super::Progress;
use super::shared::{At, BATCH_TOKENS, Row, Shared, Sites};
use crate::lm::{LanguageModel, Layer};

/// Maximum tokens read per text: a broken model shows by then.
const LONGEST: usize = 64;

/// Tokenized texts.
pub struct Texts(Shared);

impl Texts {
    /// Vectors are added to all tokens or, depending on `at`, to the texts' own tokens only.
    ///
    /// An error if a text has fewer than two tokens, so that nothing predicts one of them.
    pub fn new(
        model: &LanguageModel,
        texts: &[String],
        at: At,
        (layers, room): (&[Layer], u64),
    ) -> Result<Texts> {
        // The tokenizer's prefix is the same for all texts.
        let mut before = 0;
        let mut read = |text: &String| {
            let tokens = model.encode(text)?;
            before = tokens.text.start;
            let mut ids = tokens.ids;
            ids.truncate(LONGEST.min(model.spec.context));
            ensure!(ids.len() > 1, "{text:?} has no token that another predicts");
            Ok(ids)
        };
        let texts = texts.iter().map(&mut read).collect::<Result<Vec<Vec<i64>>>>()?;
        // There is no prompt here.
        let at = if at == At::Content { at } else { At::All };
        let sites = Sites { layers: layers.to_vec(), spans: at.spans(texts.len(), before, 1), room };
        let prompts = vec![1; texts.len()];
        Ok(Texts(Shared::new(texts, prompts, sites)))
    }

    /// The number of rows that each vector takes.
    pub fn rows(&self) -> usize {
        self.0.texts().len()
    }

    /// The number of predicted tokens: all but the first of each text.
    pub fn tokens(&self) -> usize {
        self.0.texts().iter().map(|text| text.len() - 1).sum()
    }

    /// For each vector (`[layer, d_model]`), the mean log-probability in nats per token of the texts, with the vector
    /// added at the sites' positions after each of `layers`. With no layers nothing is added, and the vectors may be
    /// empty.
    ///
    /// Softmax in fp32, sums in float64. `progress` receives the rows done and the total. An error if a value is not
    /// finite.
    pub fn log_probabilities(
        &mut self,
        model: &LanguageModel,
        layers: &[Layer],
        vectors: &[&[f32]],
        progress: &mut Progress,
    ) -> Result<Vec<f64>> {
        let of_vector = |vector| (0..self.rows()).map(move |text| Row { vector, text });
        let rows: Vec<Row> = (0..vectors.len()).flat_map(of_vector).collect();
        let lengths: Vec<usize> = self.0.texts().iter().map(Vec::len).collect();
        let fits = |rows: &[Row]| {
            let fits = |(before, row): &(usize, &Row)| (before + 1) * lengths[row.text] <= BATCH_TOKENS;
            rows.iter().enumerate().take_while(fits).count()
        };
        let mut sums = vec![0.0; vectors.len()];
        self.0.pass(model, (layers, &rows, vectors), &fits, progress, &mut |rows, batch, resid| {
            let values = model.continuation_logprobs(resid, batch);
            let values = values.context("the log-probability of neutral text")?;
            rows.iter().zip(values).for_each(|(row, value)| sums[row.vector] += value);
            Ok(())
        })?;
        ensure!(
            sums.iter().all(|sum| sum.is_finite()),
            "a log-probability of neutral text is NaN or infinite: what is added may be too large for the model's dtype"
        );
        Ok(sums.into_iter().map(|sum| sum / self.tokens() as f64).collect())
    }
}
