//! Log-probabilities of words after a prompt, with vectors added to the residual stream. Independent of emotions.

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

use super::Progress;
use super::shared::{At, BATCH_TOKENS, Row, Shared, Sites};
use crate::lm::device::send;
use crate::lm::tokenizer::Ending;
use crate::lm::{Chat, LanguageModel, Layer, Message, Role, Spans};

/// Upper bound on the logits held at a time: 128 MiB in fp32.
const BATCH_LOGITS: usize = 1 << 25;

/// What the words follow.
#[derive(Clone, Copy)]
pub struct Prompt<'a> {
    pub text: &'a str,
    /// The user's turn in the chat template; the text then begins the model's answer. `None`: no template.
    pub ask: Option<(&'a str, Chat)>,
}

impl<'a> Prompt<'a> {
    /// Without template.
    pub fn plain(text: &'a str) -> Prompt<'a> {
        Prompt { text, ask: None }
    }

    /// The prompt's tokens, and how many of them precede the text's own; `at`: counted for the whole conversation, or
    /// for the model's turn.
    fn begin(self, model: &LanguageModel, at: At) -> Result<(Vec<i64>, usize)> {
        let Some((ask, chat)) = self.ask else {
            let tokens = model.encode(self.text)?;
            return Ok((tokens.ids, tokens.text.start));
        };
        ensure!(
            model.has_chat_template(),
            "the model has no chat template, so there is nobody who answers: take out `ask`"
        );
        let turns = model.encode_turns(&[Message::new(Role::User, ask)], Ending::Prefill(self.text), chat)?;
        let first = turns.spans[usize::from(at == At::Assistant)].start;
        Ok((turns.ids, first))
    }

    /// The tokens of the prompt, and those of a word that follows it.
    fn and(self, model: &LanguageModel, word: &str) -> Result<(Vec<i64>, Vec<i64>)> {
        let Some((ask, chat)) = self.ask else { return model.encode_continuation(self.text, word) };
        let (before, _) = self.begin(model, At::All)?;
        let longer = format!("{} {word}", self.text);
        let joined = model.encode_turns(&[Message::new(Role::User, ask)], Ending::Prefill(&longer), chat)?;
        let ids = model.tokenizer().behind(&before, &format!(" {word}"), &joined.ids)?;
        Ok((before, ids))
    }
}

/// Words after one prompt, as tokens.
pub struct Words {
    /// The prompt's tokens, and where vectors are added to a text that begins with them.
    begun: (Vec<i64>, Spans),
    /// The number of tokens of the prompt, including the tokenizer's prefix.
    prompt: usize,
    /// The distinct texts that the words need: the prompt and all tokens of a word but the last.
    inputs: Shared,
    words: Vec<Word>,
}

struct Word {
    /// The index of the input that predicts it.
    input: usize,
    ids: Vec<i64>,
}

/// A vector to be added, and the words measured under it.
pub struct Addition {
    /// `[layer, d_model]`
    pub vector: Vec<f32>,
    pub words: Vec<usize>,
}

impl Words {
    /// `layers`: where vectors will be added, in passes that may use `room` bytes of cache; `at`: to which tokens.
    ///
    /// An error if a word's tokens cannot be separated from the prompt's, or do not fit the model's context with them.
    pub fn new(
        model: &LanguageModel,
        asked: Prompt,
        words: &[String],
        at: At,
        (layers, room): (&[Layer], u64),
    ) -> Result<Words> {
        let (mut length, mut inputs, mut found) = (0, Vec::new(), Vec::with_capacity(words.len()));
        for word in words {
            let prompt = asked.text;
            let what = || format!("the word `{word}` after `{prompt}`");
            let (before, ids) = asked.and(model, word).with_context(what)?;
            model.check_length(before.len() + ids.len()).with_context(what)?;
            ensure!(
                !ids.is_empty() && !before.is_empty(),
                "`{word}` after `{prompt}` has no token of its own"
            );
            length = before.len();
            let input = [&before, &ids[..ids.len() - 1]].concat();
            let at = inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            found.push(Word { input: at, ids });
        }
        let (ids, before) = asked.begin(model, at)?;
        let spans = |texts: usize| at.spans(texts, before, length);
        let sites = Sites { layers: layers.to_vec(), spans: spans(inputs.len()), room };
        Ok(Words::of((ids, spans(1)), inputs, found, sites))
    }

    fn of(begun: (Vec<i64>, Spans), inputs: Vec<Vec<i64>>, words: Vec<Word>, sites: Sites) -> Words {
        let prompt = begun.0.len();
        let prompts = vec![prompt; inputs.len()];
        Words { begun, prompt, inputs: Shared::new(inputs, prompts, sites), words }
    }

    /// The prompt's tokens, and where vectors are added to one text that begins with them.
    pub fn begun(&self) -> (&[i64], &Spans) {
        (&self.begun.0, &self.begun.1)
    }

    /// The number of rows for a vector under which all words are measured.
    pub fn rows(&self) -> usize {
        self.inputs.texts().len()
    }

    /// For each addition, the log-probability in nats of each of its words: the sum over the word's tokens.
    ///
    /// `layers`: where the vectors (`[layer, d_model]`) are added; with no layers nothing is added and they may be
    /// empty. Softmax in fp32, sums in float64. `progress` receives the rows done and the total. An error if a value
    /// is not finite.
    pub fn log_probabilities(
        &mut self,
        model: &LanguageModel,
        layers: &[Layer],
        additions: &[Addition],
        progress: &mut Progress,
    ) -> Result<Vec<Vec<f64>>> {
        let mut sums: Vec<Vec<f64>> = additions.iter().map(|a| vec![0.0; a.words.len()]).collect();
        let rows = self.rows_under(additions);
        let vectors: Vec<&[f32]> = additions.iter().map(|addition| addition.vector.as_slice()).collect();
        let Words { prompt, inputs, words, .. } = self;
        let lengths: Vec<usize> = inputs.texts().iter().map(Vec::len).collect();
        let fits = |rows: &[Row]| batch_len(rows, &lengths, *prompt, model.spec.d_vocab);
        inputs.pass(model, (layers, &rows, &vectors), &fits, progress, &mut |rows, _, resid| {
            add_up((*prompt, &lengths, words), model, resid, (rows, additions), &mut sums)
        })?;
        let finite = sums.iter().flatten().all(|sum| sum.is_finite());
        ensure!(
            finite,
            "a log-probability is NaN or infinite: what is added may be too large for the model's dtype"
        );
        Ok(sums)
    }

    /// All inputs needed by the additions.
    fn rows_under(&self, additions: &[Addition]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (vector, Addition { words, .. }) in additions.iter().enumerate() {
            let mut inputs: Vec<usize> = words.iter().map(|&word| self.words[word].input).collect();
            inputs.sort_unstable();
            inputs.dedup();
            rows.extend(inputs.into_iter().map(|text| Row { vector, text }));
        }
        rows
    }
}

/// The number of `rows`, with texts of ascending `lengths` in tokens, that fit one pass; at least one.
fn batch_len(rows: &[Row], lengths: &[usize], prompt: usize, d_vocab: usize) -> usize {
    let mut read = 0;
    let fits = rows.iter().enumerate().take_while(|(before, row)| {
        let length = lengths[row.text];
        read += length + 1 - prompt;
        *before == 0 || ((before + 1) * length <= BATCH_TOKENS && read * d_vocab <= BATCH_LOGITS)
    });
    fits.count()
}

/// Adds the contribution of one pass to `sums`. `resid` is the residual stream after the last block.
fn add_up(
    (prompt, lengths, words): (usize, &[usize], &[Word]),
    model: &LanguageModel,
    resid: &Tensor,
    (rows, additions): (&[Row], &[Addition]),
    sums: &mut [Vec<f64>],
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    // The predicting positions, row by row, and for each the token of the word that is looked up.
    let (mut at_row, mut at_position) = (Vec::new(), Vec::new());
    let (mut asked, mut ids, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (row, Row { vector, text }) in rows.iter().enumerate() {
        let first = at_row.len();
        for position in prompt - 1..lengths[*text] {
            at_row.push(row as i64);
            at_position.push(position as i64);
        }
        for (slot, &word) in additions[*vector].words.iter().enumerate() {
            let word = &words[word];
            if word.input != *text {
                continue;
            }
            for (step, id) in word.ids.iter().enumerate() {
                asked.push((first + step) as i64);
                ids.push(*id);
                places.push((*vector, slot));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let word = |input, ids: &[i64]| Word { input, ids: ids.to_vec() };
        let inputs = vec![vec![1, 2], vec![1, 2, 7, 8], vec![1, 2, 9]];
        let words = vec![word(0, &[5]), word(1, &[7, 8, 9]), word(0, &[6]), word(2, &[9, 9])];
        Words::of(
            (vec![1, 2], crate::lm::Positions::All.into()),
            inputs,
            words,
            Sites { layers: Vec::new(), spans: crate::lm::Positions::All.into(), room: 0 },
        )
    }

    #[test]
    fn rows_are_the_different_inputs() {
        let additions = [vec![0, 1, 2, 3], vec![2], vec![3]].map(|words| Addition { vector: vec![], words });
        let rows = words().rows_under(&additions);
        let rows: Vec<_> = rows.iter().map(|row| (row.vector, row.text)).collect();
        assert_eq!(rows, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 2)]);
    }

    #[test]
    fn batches_are_bounded_by_tokens_and_logits() {
        let rows: Vec<Row> = (0..3000).map(|vector| Row { vector, text: 1 }).collect();
        let batch_len = |rows: &[Row], d_vocab| batch_len(rows, &[2, 4, 3], 2, d_vocab);
        assert_eq!(batch_len(&rows, 10), BATCH_TOKENS / 4);
        // Three positions of each row are read.
        assert_eq!(batch_len(&rows, 1 << 20), 10);
        assert_eq!(batch_len(&rows, 1 << 30), 1);
        assert_eq!(batch_len(&rows[..5], 10), 5);
    }
}
