//! Batched generation with a cache of keys and values. Independent of the purpose of the texts.

use super::batch::Batch;
use super::cache::Cache;
use super::device::send;
use super::hook::Hook;
use super::model::LanguageModel;
use super::sample::{choose, uniform};
use anyhow::{Context, Result, ensure};
use std::sync::mpsc;
use tch::{Kind, Tensor};

pub use super::sample::Sampling;

/// Minimum number of sequences per thread when several threads generate concurrently: with fewer, a step takes nearly
/// as long.
const PART: usize = 16;

/// Minimum number of tokens that sharing a common prefix must save, since it costs an additional pass
/// (`docs/design/performance.md`).
const SAVED: usize = 64;

/// Result of one step of [`generate_stepwise`](LanguageModel::generate_stepwise).
pub struct Step<'a> {
    /// One entry for each unfinished sequence.
    pub drawn: &'a [Drawn],
    /// `[drawn, d_vocab]` in fp32: the logits before division by the temperature.
    pub logits: &'a Tensor,
}

/// The token drawn by a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Index of the sequence among the prompts.
    pub sequence: usize,
    /// The token.
    pub token: i64,
    /// Whether the token ends the text; it is then not part of it.
    pub ends: bool,
    /// Whether this is the last token: the text has ended, or has reached the allowed number of tokens or the context
    /// length.
    pub is_last: bool,
}

/// An unfinished sequence; its row is its index in the list.
struct Row {
    sequence: usize,
    prompt: usize,
    last: i64,
}

/// Leading tokens that are computed once for several rows.
struct Sharing {
    tokens: usize,
    /// The rows for which they are computed.
    firsts: Vec<usize>,
    /// For each row, the index in `firsts` of the row that represents it.
    of: Vec<usize>,
}

impl Sharing {
    /// Number of tokens that need not be computed.
    fn saves(&self) -> usize {
        self.tokens * (self.of.len() - self.firsts.len())
    }
}

impl LanguageModel {
    /// Continues each prompt until an end token (not included in the result), until `sampling.max_new_tokens`, or until
    /// the model's context is full. Returns the new tokens of each prompt. A sequence's text depends on its prompt and
    /// its seed, not on the rest of the batch (except for the last bits of the arithmetic). `progress` receives the
    /// number of finished sequences each time it grows.
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
        if self.refuses(prompts, sampling, seeds)? {
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        // Hooks are used by a single thread.
        let parts = if hooks.is_empty() { self.side_by_side().min(prompts.len() / PART) } else { 1 };
        match parts {
            ..2 => self.write(prompts, sampling, seeds, hooks, &mut counted(progress)),
            _ => self.write_in_parts(parts, prompts, sampling, seeds, progress),
        }
    }

    /// Generates the same texts on this thread and passes each drawn token to `step`, which returns the sequences to
    /// stop early.
    ///
    /// # Errors
    /// See [`generate`](Self::generate).
    pub fn generate_stepwise(
        &self,
        prompts: &[Vec<i64>],
        sampling: &Sampling,
        seeds: &[u64],
        hooks: &mut [&mut dyn Hook],
        step: &mut dyn FnMut(&Step) -> Result<Vec<usize>>,
    ) -> Result<Vec<Vec<i64>>> {
        match self.refuses(prompts, sampling, seeds)? {
            true => Ok(vec![Vec::new(); prompts.len()]),
            false => self.write(prompts, sampling, seeds, hooks, step),
        }
    }

    /// Whether there is nothing to generate. Invalid arguments are errors.
    fn refuses(&self, prompts: &[Vec<i64>], sampling: &Sampling, seeds: &[u64]) -> Result<bool> {
        ensure!(seeds.len() == prompts.len(), "{} seeds for {} prompts", seeds.len(), prompts.len());
        ensure!(
            sampling.temperature >= 0.0 && sampling.temperature.is_finite(),
            "temperature {}",
            sampling.temperature
        );
        ensure!(sampling.top_p > 0.0 && sampling.top_p <= 1.0, "top_p {} is not in (0, 1]", sampling.top_p);
        if prompts.is_empty() || sampling.max_new_tokens == 0 {
            return Ok(true);
        }
        self.check_batch(&Batch::new(prompts)?)?;
        Ok(false)
    }

    /// Like [`generate`](Self::generate), with the prompts split into `parts` of equal size, each on its own thread.
    fn write_in_parts(
        &self,
        parts: usize,
        prompts: &[Vec<i64>],
        sampling: &Sampling,
        seeds: &[u64],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<i64>>> {
        let size = prompts.len().div_ceil(parts);
        let (tell, told) = mpsc::channel();
        std::thread::scope(|scope| {
            let write = |(part, (prompts, seeds)): (usize, (&'_ [Vec<i64>], &'_ [u64]))| {
                let (tell, model) = (tell.clone(), Reader(self));
                let (prompts, seeds) = (prompts.to_vec(), seeds.to_vec());
                scope.spawn(move || {
                    tch::set_num_threads(1); // this setting is per thread
                    let mut progress = |ended: usize| {
                        let _ = tell.send((part, ended)); // the receiver is gone only after an error
                    };
                    model.get().write(&prompts, sampling, &seeds, &mut [], &mut counted(&mut progress))
                })
            };
            let threads: Vec<_> =
                prompts.chunks(size).zip(seeds.chunks(size)).enumerate().map(write).collect();
            drop(tell);
            let mut ended = vec![0; threads.len()];
            for (part, n) in told {
                ended[part] = n;
                progress(ended.iter().sum());
            }
            let mut written = Vec::with_capacity(prompts.len());
            for thread in threads {
                written.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(written)
        })
    }

    /// Implements [`generate_stepwise`](Self::generate_stepwise).
    fn write(
        &self,
        prompts: &[Vec<i64>],
        sampling: &Sampling,
        seeds: &[u64],
        hooks: &mut [&mut dyn Hook],
        step: &mut dyn FnMut(&Step) -> Result<Vec<usize>>,
    ) -> Result<Vec<Vec<i64>>> {
        let _no_grad = tch::no_grad_guard();
        let mut written: Vec<Vec<i64>> = vec![Vec::new(); prompts.len()];
        let rows = prompts.iter().enumerate();
        let mut rows: Vec<Row> =
            rows.map(|(sequence, prompt)| Row { sequence, prompt: prompt.len(), last: 0 }).collect();
        let (mut cache, mut resid) = self.start(&rows, prompts, &written, sampling.max_new_tokens, hooks)?;
        loop {
            let logits = self.draw(&resid, sampling, seeds, &written, &mut rows)?;
            let mut drawn = Vec::with_capacity(rows.len());
            for &Row { sequence, prompt, last } in &rows {
                let ends = self.ends.contains(&last);
                if !ends {
                    written[sequence].push(last);
                }
                let n = written[sequence].len();
                let is_last = ends || n >= sampling.max_new_tokens || prompt + n >= self.spec.context;
                drawn.push(Drawn { sequence, token: last, ends, is_last });
            }
            let stopped = step(&Step { drawn: &drawn, logits: &logits })?;
            for row in (0..rows.len()).rev() {
                if drawn[row].is_last || stopped.contains(&drawn[row].sequence) {
                    rows.swap_remove(row);
                    cache.swap_remove(row);
                }
            }
            if rows.is_empty() {
                return Ok(written);
            }
            let outgrown = |row: &Row| {
                let tokens = row.prompt + written[row.sequence].len();
                self.decoder.original_context().is_some_and(|context| tokens == context + 1)
            };
            if rows.iter().any(outgrown) {
                // The cached positions were rotated with the frequencies for shorter texts.
                (cache, resid) = self.start(&rows, prompts, &written, sampling.max_new_tokens, hooks)?;
                continue;
            }
            cache.advance();
            let next = step_batch(&rows, &written);
            resid = self.run(&next, Some(&cache), hooks, self.decoder.last()).squeeze_dim(1);
        }
    }

    /// Processes all tokens of each row so far. Returns the cache, with room for the remaining tokens, and the
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
        let longest = prompt_lengths.iter().max().map_or(0, |n| n.saturating_add(max_new_tokens));
        let slots = longest.min(self.spec.context);
        let device = self.decoder.device();
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let mut cache =
            Cache::new(&self.spec, &lengths, slots, self.decoder.kind(), device, self.decoder.backend());
        let last_layer = self.decoder.last();
        let sequences: Vec<usize> = rows.iter().map(|row| row.sequence).collect();
        let Sharing { tokens: shared, firsts, of } = self.worth_sharing(&texts, &sequences, hooks);
        if shared > 0 {
            let begun: Vec<&[i64]> = firsts.iter().map(|&row| &texts[row][..shared]).collect();
            let mut batch = Batch::new(&begun)?;
            batch.prompts = firsts.iter().map(|&row| prompt_lengths[row]).collect();
            batch.sequences = firsts.iter().map(|&row| sequences[row]).collect();
            cache.begin(firsts.len());
            let _ = self.run(&batch, Some(&cache), hooks, last_layer);
            cache.spread(&of, shared);
        }
        let rest: Vec<&[i64]> = texts.iter().map(|text| &text[shared..]).collect();
        let mut batch = Batch::new(&rest)?;
        batch.starts = vec![shared; rows.len()];
        batch.prompts = prompt_lengths;
        batch.sequences = sequences;
        if shared > 0 {
            cache.go_on(shared, batch.longest());
        }
        let resid = self.run(&batch, Some(&cache), hooks, last_layer);
        let ends: Vec<i64> = batch.lengths.iter().map(|&n| n as i64 - 1).collect();
        let every = Tensor::arange(rows.len() as i64, (Kind::Int64, device));
        let resid = resid.index(&[Some(every), Some(send(&Tensor::from_slice(&ends), device))]);
        Ok((cache, resid))
    }

    /// How many leading tokens of `texts`, which belong to `sequences`, to compute once for several texts. Candidates
    /// are the tokens that all texts share, except the last token of the shortest text, whose residual is needed. They
    /// are computed once for all texts, as far as the hooks do the same to all, or once for each group of texts for
    /// which the hooks do the same on all of these tokens, whichever saves more; no tokens if that is not worth a pass.
    fn worth_sharing(&self, texts: &[Vec<i64>], sequences: &[usize], hooks: &[&mut dyn Hook]) -> Sharing {
        let rows = texts.len();
        let shortest = texts.iter().map(Vec::len).min().unwrap_or(0);
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let same = |at: &usize| texts.iter().all(|text| text[*at] == texts[0][*at]);
        let shared = (0..shortest.saturating_sub(1)).take_while(same).count();
        let alike = |a: usize, b: usize| {
            hooks.iter().map(|hook| hook.alike(sequences[a], sequences[b])).min().unwrap_or(usize::MAX)
        };
        let all = (1..rows).map(|row| alike(0, row)).fold(shared, usize::min);
        let mut groups = Sharing { tokens: shared, firsts: Vec::new(), of: Vec::new() };
        for row in 0..rows {
            let group = groups.firsts.iter().position(|&first| alike(first, row) >= shared);
            groups.of.push(group.unwrap_or(groups.firsts.len()));
            if group.is_none() {
                groups.firsts.push(row);
            }
        }
        let once = Sharing { tokens: all, firsts: vec![0], of: vec![0; rows] };
        let best = if groups.saves() > once.saves() { groups } else { once };
        // A text longer than the original context has other frequencies than a shorter one, for all its tokens.
        let fits = self.decoder.original_context().is_none_or(|context| longest <= context);
        if fits && best.saves() >= SAVED { best } else { Sharing { tokens: 0, ..best } }
    }

    /// Draws each row's next token from the residuals `[batch, d_model]` of its last token. Returns the logits.
    fn draw(
        &self,
        resid: &Tensor,
        sampling: &Sampling,
        seeds: &[u64],
        written: &[Vec<i64>],
        rows: &mut [Row],
    ) -> Result<Tensor> {
        let logits = self.decoder.unembed(resid).to_kind(Kind::Float);
        let uniforms = |row: usize, attempt: u64| {
            let sequence = rows[row].sequence;
            uniform(seeds[sequence], written[sequence].len() as u64, attempt)
        };
        let drawn = choose(&logits, sampling, self.decoder.backend(), &uniforms)?;
        for (row, token) in rows.iter_mut().zip(drawn) {
            row.last = token
                .with_context(|| format!("sequence {}: the model's logits are not finite", row.sequence))?;
        }
        Ok(logits)
    }
}

/// A step that reports the number of finished sequences to `progress` and stops none.
fn counted(progress: &mut dyn FnMut(usize)) -> impl FnMut(&Step) -> Result<Vec<usize>> + '_ {
    let mut ended = 0;
    move |step| {
        let more = step.drawn.iter().filter(|drawn| drawn.is_last).count();
        if more > 0 {
            ended += more;
            progress(ended);
        }
        Ok(Vec::new())
    }
}

/// A model that is read by several threads.
struct Reader<'a>(&'a LanguageModel);

// SAFETY: `Tensor` is not `Sync` because its methods may write through a shared reference. Passes without gradients do
// not write to a model's tensors, and libtorch allows concurrent reads of a tensor.
unsafe impl Send for Reader<'_> {}

impl Reader<'_> {
    fn get(&self) -> &LanguageModel {
        self.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Checkpoint, Dtype};
    use std::path::Path;
    use tch::Device;

    fn load() -> LanguageModel {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        LanguageModel::load(&Checkpoint::open(&dir).unwrap(), Dtype::F32, Device::Cpu).unwrap()
    }

    #[test]
    fn parts_side_by_side_write_what_one_writes() {
        let model = load();
        let prompts: Vec<Vec<i64>> = (0..11).map(|i| (0..3 + i).map(|at| 20 + 9 * at).collect()).collect();
        let seeds: Vec<u64> = (0..11).collect();
        let sampling = Sampling { max_new_tokens: 30, temperature: 1.0, top_k: 0, top_p: 0.9 };
        let none = |_: &Step| Ok(Vec::new());
        let want = model.write(&prompts, &sampling, &seeds, &mut [], &mut { none }).unwrap();
        for parts in [2, 3, 11] {
            let mut ended = Vec::new();
            let mut progress = |n| ended.push(n);
            let got = model.write_in_parts(parts, &prompts, &sampling, &seeds, &mut progress).unwrap();
            assert_eq!(got, want, "{parts} parts");
            assert!(ended.is_sorted() && ended.last() == Some(&11), "{ended:?}");
        }
        let mut wrong = prompts.clone();
        wrong[7] = vec![];
        let error = model.write_in_parts(3, &wrong, &sampling, &seeds, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("no tokens"), "{error}");
    }

    /// Sequences stopped by a step keep their tokens, and the others continue as if the stopped ones were still there.
    #[test]
    fn steps_tell_every_token_and_may_end_a_sequence() {
        let model = load();
        let prompts: Vec<Vec<i64>> = (0..4).map(|i| vec![20 + i, 40, 60]).collect();
        let seeds = [1, 2, 3, 4];
        let sampling = Sampling { max_new_tokens: 12, temperature: 1.0, top_k: 0, top_p: 0.9 };
        let want = model.generate(&prompts, &sampling, &seeds, &mut [], &mut |_| {}).unwrap();
        let (mut told, mut steps) = (vec![Vec::new(); 4], 0);
        let mut step = |step: &Step| {
            steps += 1;
            let rows = Vec::<Vec<f32>>::try_from(step.logits).unwrap();
            assert_eq!((rows.len(), rows[0].len()), (step.drawn.len(), model.spec.d_vocab));
            step.drawn
                .iter()
                .filter(|drawn| !drawn.ends)
                .for_each(|drawn| told[drawn.sequence].push(drawn.token));
            Ok(if steps == 5 { vec![2, 0] } else { Vec::new() })
        };
        let got = model.generate_stepwise(&prompts, &sampling, &seeds, &mut [], &mut step).unwrap();
        assert_eq!(told, got);
        for (row, want) in want.iter().enumerate() {
            let kept = if row % 2 == 0 { want.len().min(5) } else { want.len() };
            assert_eq!(got[row], want[..kept], "row {row}");
        }
        let mut refused = |_: &Step| anyhow::bail!("no more");
        assert!(model.generate_stepwise(&prompts, &sampling, &seeds, &mut [], &mut refused).is_err());
    }

    #[test]
    fn what_prompts_share_is_shared_where_it_saves_enough() {
        let model = load();
        let text = |start: i64, end: &[i64]| [&(start..start + 40).collect::<Vec<i64>>(), end].concat();
        let three = [text(20, &[1, 2]), text(20, &[1]), text(20, &[1, 2, 3])];
        // For three texts, 40 tokens are saved twice; for two, once.
        let shared = |texts: &[Vec<i64>]| {
            let sequences: Vec<usize> = (0..texts.len()).collect();
            model.worth_sharing(texts, &sequences, &[]).tokens
        };
        assert_eq!(shared(&three), 40);
        assert_eq!(shared(&three[..2]), 0);
        assert_eq!(shared(&[text(20, &[]), text(21, &[]), text(20, &[])]), 0);
        // The last token of a text is not shared.
        let same = vec![text(20, &[]); 4];
        assert_eq!(shared(&same), 39);
        assert_eq!(shared(&[vec![5], vec![5]]), 0);
    }
}
