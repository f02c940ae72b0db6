//! Continuing prompts, many at once, with a cache of keys and values. Knows nothing of what the
//! texts are for.

use super::batch::Batch;
use super::cache::Cache;
use super::hook::Hook;
use super::model::LanguageModel;
use super::sample::{choose, uniform};
use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

pub use super::sample::Sampling;

/// One sequence that is still being written; its row is its place in the list.
struct Row {
    sequence: usize,
    prompt: usize,
    last: i64,
}

impl LanguageModel {
    /// Continues each prompt until a token that ends a text (left out of the result), until
    /// `sampling.max_new_tokens`, or until the model's context is full. Returns the new tokens of
    /// each prompt. A sequence's text depends on its prompt and its seed, not on its neighbours (but
    /// for the last bits of the arithmetic). `progress` is told how many sequences have ended, each
    /// time that number grows.
    ///
    /// # Errors
    /// An empty or too long prompt; sampling settings out of range; logits that are not finite.
    pub fn generate(
        &self,
        prompts: &[Vec<i64>],
        sampling: &Sampling,
        seeds: &[u64],
        hooks: &mut [&mut dyn Hook],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<i64>>> {
        ensure!(seeds.len() == prompts.len(), "{} seeds for {} prompts", seeds.len(), prompts.len());
        ensure!(
            sampling.temperature >= 0.0 && sampling.temperature.is_finite(),
            "temperature {}",
            sampling.temperature
        );
        ensure!(sampling.top_p > 0.0 && sampling.top_p <= 1.0, "top_p {} is not in (0, 1]", sampling.top_p);
        let mut written: Vec<Vec<i64>> = vec![Vec::new(); prompts.len()];
        if prompts.is_empty() || sampling.max_new_tokens == 0 {
            return Ok(written);
        }
        self.check_batch(&Batch::new(prompts)?)?;
        let _no_grad = tch::no_grad_guard();
        let rows = prompts.iter().enumerate();
        let mut rows: Vec<Row> =
            rows.map(|(sequence, prompt)| Row { sequence, prompt: prompt.len(), last: 0 }).collect();
        let (mut cache, mut resid) = self.start(&rows, prompts, &written, sampling.max_new_tokens, hooks)?;
        loop {
            self.draw(&resid, sampling, seeds, &written, &mut rows)?;
            let before = rows.len();
            for row in (0..rows.len()).rev() {
                let Row { sequence, prompt, last } = rows[row];
                let ended = self.ends.contains(&last);
                if !ended {
                    written[sequence].push(last);
                }
                let n = written[sequence].len();
                if ended || n >= sampling.max_new_tokens || prompt + n >= self.spec.context {
                    rows.swap_remove(row);
                    cache.swap_remove(row);
                }
            }
            if rows.len() < before {
                progress(prompts.len() - rows.len());
            }
            if rows.is_empty() {
                return Ok(written);
            }
            let outgrown = |row: &Row| {
                let tokens = row.prompt + written[row.sequence].len();
                self.decoder.original_context().is_some_and(|context| tokens == context + 1)
            };
            if rows.iter().any(outgrown) {
                // Positions that are cached were turned by the frequencies of a shorter text.
                (cache, resid) = self.start(&rows, prompts, &written, sampling.max_new_tokens, hooks)?;
                continue;
            }
            cache.advance();
            let step = step_batch(&rows, &written);
            resid = self.run(&step, Some(&cache), hooks, self.decoder.last()).squeeze_dim(1);
        }
    }

    /// Reads all tokens of each row so far. Returns the cache, with room for the rest, and the
    /// residuals `[batch, d_model]` of each row's last token.
    fn start(
        &self,
        rows: &[Row],
        prompts: &[Vec<i64>],
        written: &[Vec<i64>],
        max_new_tokens: usize,
        hooks: &mut [&mut dyn Hook],
    ) -> Result<(Cache, Tensor)> {
        let texts: Vec<Vec<i64>> = rows
            .iter()
            .map(|row| [prompts[row.sequence].as_slice(), &written[row.sequence]].concat())
            .collect();
        let prompt_lengths: Vec<usize> = rows.iter().map(|row| row.prompt).collect();
        let mut batch = Batch::with_prompts(&texts, &prompt_lengths)?;
        batch.sequences = rows.iter().map(|row| row.sequence).collect();
        let longest = prompt_lengths.iter().max().map_or(0, |n| n.saturating_add(max_new_tokens));
        let slots = longest.min(self.spec.context);
        let device = self.decoder.device();
        let cache = Cache::new(&self.spec, &batch.lengths, slots, self.decoder.kind(), device);
        let resid = self.run(&batch, Some(&cache), hooks, self.decoder.last());
        let ends: Vec<i64> = batch.lengths.iter().map(|&n| n as i64 - 1).collect();
        let every = Tensor::arange(rows.len() as i64, (Kind::Int64, device));
        let resid = resid.index(&[Some(every), Some(Tensor::from_slice(&ends).to_device(device))]);
        Ok((cache, resid))
    }

    /// Draws each row's next token from the residuals `[batch, d_model]` of its last one.
    fn draw(
        &self,
        resid: &Tensor,
        sampling: &Sampling,
        seeds: &[u64],
        written: &[Vec<i64>],
        rows: &mut [Row],
    ) -> Result<()> {
        let logits = self.decoder.unembed(resid).to_kind(Kind::Float);
        let uniforms = |row: usize, attempt: u64| {
            let sequence = rows[row].sequence;
            uniform(seeds[sequence], written[sequence].len() as u64, attempt)
        };
        let drawn = choose(&logits, sampling, &uniforms)?;
        for (row, token) in rows.iter_mut().zip(drawn) {
            row.last = token
                .with_context(|| format!("sequence {}: the model's logits are not finite", row.sequence))?;
        }
        Ok(())
    }
}

/// The batch of one step: each row's last token.
fn step_batch(rows: &[Row], written: &[Vec<i64>]) -> Batch {
    let last: Vec<i64> = rows.iter().map(|row| row.last).collect();
    Batch {
        ids: Tensor::from_slice(&last).unsqueeze(1),
        lengths: vec![1; rows.len()],
        starts: rows.iter().map(|row| row.prompt + written[row.sequence].len() - 1).collect(),
        prompts: rows.iter().map(|row| row.prompt).collect(),
        sequences: rows.iter().map(|row| row.sequence).collect(),
    }
}
