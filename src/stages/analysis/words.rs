//! Log-probabilities of words after a prompt, with vectors added on the way. Knows nothing of emotions.

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use super::Progress;
use crate::lm::device::send;
use crate::lm::{Batch, Hook, LanguageModel, Layer, Positions, Steer};

/// Bound on padded tokens of one pass. A constant: batches change low bits, so they may hang on nothing but the input.
const BATCH_TOKENS: usize = 4096;

/// Bound on logits held at a time: 128 MiB in fp32.
const BATCH_LOGITS: usize = 1 << 25;

/// Words after one prompt, as tokens.
pub struct Words {
    /// Tokens of the prompt, with what the tokenizer puts before it.
    prompt: usize,
    /// The different token rows that the words need: the prompt and all of a word's tokens but the last.
    inputs: Vec<Vec<i64>>,
    words: Vec<Word>,
}

struct Word {
    /// Which of the inputs predicts it.
    input: usize,
    ids: Vec<i64>,
}

/// Where vectors are added.
#[derive(Clone, Copy)]
pub struct Site {
    pub layer: Layer,
    pub positions: Positions,
}

/// A vector that is added, and the words that are measured under it.
pub struct Addition {
    /// `[d_model]`
    pub vector: Vec<f32>,
    pub words: Vec<usize>,
}

/// One row of a batch.
struct Row {
    addition: usize,
    input: usize,
}

impl Words {
    /// An error if a word cannot be told from the prompt's own tokens, or does not fit the model's context with them.
    pub fn new(model: &LanguageModel, prompt: &str, words: &[String]) -> Result<Words> {
        let mut found = Words { prompt: 0, inputs: Vec::new(), words: Vec::with_capacity(words.len()) };
        for word in words {
            let what = || format!("the word `{word}` after `{prompt}`");
            let (before, ids) = model.encode_continuation(prompt, word).with_context(what)?;
            model.check_length(before.len() + ids.len()).with_context(what)?;
            ensure!(
                !ids.is_empty() && !before.is_empty(),
                "`{word}` after `{prompt}` has no token of its own"
            );
            found.prompt = before.len();
            let input = [&before, &ids[..ids.len() - 1]].concat();
            let at = found.inputs.iter().position(|i| *i == input).unwrap_or_else(|| {
                found.inputs.push(input);
                found.inputs.len() - 1
            });
            found.words.push(Word { input: at, ids });
        }
        Ok(found)
    }

    /// How many rows a vector takes under which all words are measured.
    pub fn rows(&self) -> usize {
        self.inputs.len()
    }

    /// For each addition the log-probability, in nats, of each of its words: the sum over the word's tokens.
    ///
    /// `site`: where the vectors are added; `None`: nowhere, they may be empty. Softmax in fp32, sums in float64.
    /// `progress` is told how many rows are done of how many. An error if a value is not finite.
    pub fn log_probabilities(
        &self,
        model: &LanguageModel,
        site: Option<Site>,
        additions: &[Addition],
        progress: &mut Progress,
    ) -> Result<Vec<Vec<f64>>> {
        let mut sums: Vec<Vec<f64>> = additions.iter().map(|a| vec![0.0; a.words.len()]).collect();
        let rows = self.order(additions);
        let mut done = 0;
        while done < rows.len() {
            let batch = &rows[done..done + self.batch_len(&rows[done..], model.spec.d_vocab)];
            model.in_halves(batch, &mut |rows| self.measure(model, site, additions, rows, &mut sums))?;
            done += batch.len();
            progress(done, rows.len());
        }
        let finite = sums.iter().flatten().all(|sum| sum.is_finite());
        ensure!(
            finite,
            "a log-probability is NaN or infinite: what is added may be too large for the model's dtype"
        );
        Ok(sums)
    }

    /// Every input that every addition needs, short ones first.
    fn order(&self, additions: &[Addition]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (addition, Addition { words, .. }) in additions.iter().enumerate() {
            let mut inputs: Vec<usize> = words.iter().map(|&word| self.words[word].input).collect();
            inputs.sort_unstable();
            inputs.dedup();
            rows.extend(inputs.into_iter().map(|input| Row { addition, input }));
        }
        rows.sort_by_key(|row| self.inputs[row.input].len());
        rows
    }

    /// How many of `rows`, which grow in length, fit one pass; at least one.
    fn batch_len(&self, rows: &[Row], d_vocab: usize) -> usize {
        let mut read = 0;
        let fits = rows.iter().enumerate().take_while(|(before, row)| {
            let length = self.inputs[row.input].len();
            read += length + 1 - self.prompt;
            *before == 0 || ((before + 1) * length <= BATCH_TOKENS && read * d_vocab <= BATCH_LOGITS)
        });
        fits.count()
    }

    /// Adds what one pass tells to `sums`.
    fn measure(
        &self,
        model: &LanguageModel,
        site: Option<Site>,
        additions: &[Addition],
        rows: &[Row],
        sums: &mut [Vec<f64>],
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let tokens: Vec<&Vec<i64>> = rows.iter().map(|row| &self.inputs[row.input]).collect();
        // Steering calls "generated" what comes after the prompt; the first generated token comes forth from the
        // prompt's last position, so that one is counted as generated where those are steered.
        let prompt = match site {
            Some(Site { positions: Positions::Generated, .. }) => self.prompt - 1,
            _ => self.prompt,
        };
        let batch = Batch::with_prompts(&tokens, &vec![prompt; rows.len()])?;
        let mut steer = site.map(|site| {
            let vectors: Vec<f32> =
                rows.iter().flat_map(|row| additions[row.addition].vector.iter().copied()).collect();
            let vector = Tensor::from_slice(&vectors).view([rows.len() as i64, -1]);
            Steer { layer: site.layer, vector, strength: 1.0, positions: site.positions }
        });
        let mut hooks: Vec<&mut dyn Hook> = steer.iter_mut().map(|s| s as &mut dyn Hook).collect();
        let resid = model.forward(&batch, &mut hooks, None)?;

        // The positions that predict, row after row, and which token of which word each is asked for.
        let (mut at_row, mut at_position) = (Vec::new(), Vec::new());
        let (mut asked, mut ids, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (row, Row { addition, input }) in rows.iter().enumerate() {
            let first = at_row.len();
            for position in self.prompt - 1..self.inputs[*input].len() {
                at_row.push(row as i64);
                at_position.push(position as i64);
            }
            for (slot, &word) in additions[*addition].words.iter().enumerate() {
                let word = &self.words[word];
                if word.input != *input {
                    continue;
                }
                for (step, id) in word.ids.iter().enumerate() {
                    asked.push((first + step) as i64);
                    ids.push(*id);
                    places.push((*addition, slot));
                }
            }
        }
        let device = resid.device();
        let index = |list: &[i64]| Some(send(&Tensor::from_slice(list), device));
        let resid = resid.index(&[index(&at_row), index(&at_position)]);
        let logs = model.logits(&resid).log_softmax(-1, Kind::Float);
        let values = Vec::<f32>::try_from(logs.index(&[index(&asked), index(&ids)]))?;
        for ((addition, slot), value) in places.into_iter().zip(values) {
            sums[addition][slot] += f64::from(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let word = |input, ids: &[i64]| Word { input, ids: ids.to_vec() };
        Words {
            prompt: 2,
            inputs: vec![vec![1, 2], vec![1, 2, 7, 8], vec![1, 2, 9]],
            words: vec![word(0, &[5]), word(1, &[7, 8, 9]), word(0, &[6]), word(2, &[9, 9])],
        }
    }

    #[test]
    fn rows_are_the_different_inputs_short_ones_first() {
        let additions = [vec![0, 1, 2, 3], vec![2], vec![3]].map(|words| Addition { vector: vec![], words });
        let rows = words().order(&additions);
        let rows: Vec<_> = rows.iter().map(|row| (row.addition, row.input)).collect();
        assert_eq!(rows, [(0, 0), (1, 0), (0, 2), (2, 2), (0, 1)]);
    }

    #[test]
    fn batches_are_bounded_by_tokens_and_logits() {
        let words = words();
        let rows: Vec<Row> = (0..3000).map(|addition| Row { addition, input: 1 }).collect();
        assert_eq!(words.batch_len(&rows, 10), BATCH_TOKENS / 4);
        // Three positions of each row are read.
        assert_eq!(words.batch_len(&rows, 1 << 20), 10);
        assert_eq!(words.batch_len(&rows, 1 << 30), 1);
        assert_eq!(words.batch_len(&rows[..5], 10), 5);
    }
}
