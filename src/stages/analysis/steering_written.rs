//! Text generated while vectors are added: whether it is still sensible. Independent of emotions.

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::words::Words;
use crate::lm::{Batch, Hook, LanguageModel, Layer, Sampling, Spans, Steer};

/// The number of texts generated per batch. A constant: batching changes low-order bits, so batches may depend on
/// nothing but the input.
const BATCH: usize = 64;

/// A text generated greedily.
#[derive(Debug)]
pub struct Text {
    pub tokens: usize,
    /// The mean negative log-probability per token, in nats, under the model without steering: the logarithm of the
    /// perplexity. `None` if there are no tokens.
    pub surprise: Option<f64>,
    /// [`repeated`]
    pub repeated: Option<f64>,
    pub text: String,
}

/// Continues the prompt of `words` under each of `vectors` (`[layer, d_model]`, added at each of `layers`; with no
/// layers nothing is added) by greedy decoding, up to `most` tokens or until the model ends the text.
///
/// # Errors
/// A text that does not fit the model's context; values that are not finite.
pub fn write(
    model: &LanguageModel,
    words: &Words,
    most: usize,
    (layers, vectors): (&[Layer], &[&[f32]]),
) -> Result<Vec<Text>> {
    let (ids, spans) = words.begun();
    model.check_length(ids.len() + most).context("the prompt and what is written after it")?;
    let mut texts = Vec::with_capacity(vectors.len());
    for vectors in vectors.chunks(BATCH) {
        let rows: Vec<usize> = (0..vectors.len()).collect();
        let written = model.in_halves(&rows, &mut |rows| {
            let prompts = vec![ids.to_vec(); rows.len()];
            let of_layer = |(at, &layer): (usize, &Layer)| {
                let width = |row: &usize| vectors[*row].len() / layers.len();
                let flat = rows.iter().flat_map(|row| &vectors[*row][at * width(row)..(at + 1) * width(row)]);
                let vector =
                    Tensor::from_slice(&flat.copied().collect::<Vec<f32>>()).view([rows.len() as i64, -1]);
                let spans = match spans {
                    Spans::At(positions) => Spans::At(*positions),
                    Spans::Each(_) => spans.select(&vec![0; rows.len()]),
                };
                Steer { layer, vector, strength: 1.0, spans }
            };
            let mut steer: Vec<Steer> = layers.iter().enumerate().map(of_layer).collect();
            let mut hooks: Vec<&mut dyn Hook> =
                steer.iter_mut().map(|steer| steer as &mut dyn Hook).collect();
            let seeds = vec![0; rows.len()];
            model.generate(&prompts, &Sampling::greedy(most), &seeds, &mut hooks, &mut |_| {})
        })?;
        let written = written.concat();
        let surprises = surprises(model, ids, &written)?;
        for (new, surprise) in written.iter().zip(surprises) {
            let (tokens, repeated, text) = (new.len(), repeated(new), model.decode(new)?);
            texts.push(Text { tokens, surprise, repeated, text });
        }
    }
    Ok(texts)
}

/// For each text after `prompt`, the mean negative log-probability per token without steering.
fn surprises(model: &LanguageModel, prompt: &[i64], written: &[Vec<i64>]) -> Result<Vec<Option<f64>>> {
    let there: Vec<usize> = (0..written.len()).filter(|&row| !written[row].is_empty()).collect();
    let mut found = vec![None; written.len()];
    let sums = model.in_halves(&there, &mut |rows| {
        let texts: Vec<Vec<i64>> = rows.iter().map(|&row| [prompt, &written[row]].concat()).collect();
        let batch = Batch::with_prompts(&texts, &vec![prompt.len(); rows.len()])?;
        model.continuation_logprobs(&model.forward(&batch, &mut [], None)?, &batch)
    })?;
    for (row, sum) in there.into_iter().zip(sums.concat()) {
        ensure!(sum.is_finite(), "the log-probability of what was written is NaN or infinite");
        found[row] = Some(-sum / written[row].len() as f64);
    }
    Ok(found)
}

/// The n of the n-grams that are checked for repetition.
const IN_A_ROW: usize = 3;

/// The share of a text's 3-grams that occurred earlier in it (Holtzman et al. 2020 identify degenerate text by such
/// loops); `None` for fewer than three tokens.
pub fn repeated(ids: &[i64]) -> Option<f64> {
    let mut seen = std::collections::HashSet::new();
    let again = ids.windows(IN_A_ROW).filter(|three| !seen.insert(three.to_vec())).count();
    (ids.len() >= IN_A_ROW).then(|| again as f64 / (ids.len() - IN_A_ROW + 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_told() {
        assert_eq!(repeated(&[1, 2, 3, 4, 5]), Some(0.0));
        // 1 1 1 occurs four times, three of them after the first.
        assert_eq!(repeated(&[1; 6]), Some(0.75));
        assert_eq!(repeated(&[1, 2, 3, 1, 2, 3]), Some(0.25));
        assert_eq!(repeated(&[1, 2]), None);
    }
}
