//! A language model: tokenizer, chat template and decoder of one checkpoint, run without gradients. Independent of the
//! task it is used for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::backend::Backend;
use super::batch::{self, Batch};
use super::cache::Cache;
use super::checkpoint::Checkpoint;
use super::decoder::{Decoder, Waiting};
use super::device::{fetch, send};
use super::free_memory::FreeMemory;
use super::heap;
use super::hook::Hook;
use super::layer::Layer;
use super::memory::{self, Work};
use super::partial::Kept;
use super::self_check;
use super::shortage::{self, Shortage};
use super::spec::{DtypePolicy, Spec};
use super::template::{Chat, Message};
use super::tokenizer::{Ending, Tokenizer, Tokens, Turns, Wrap};
use super::weights;
use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

/// How a direction is transformed before it is multiplied with the unembedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LensNorm {
    /// Nothing: `W_U v`.
    None,
    /// The final norm's gain: `W_U (gain * v)`. A LayerNorm also subtracts the mean, whatever it divides by, so for it
    /// this is `W_U (gain * (v - mean v))`; its bias is left out, since it does not depend on the direction.
    Gain,
    /// The final norm: `W_U norm(v)`.
    Full,
}

/// A loaded model, ready to run.
pub struct LanguageModel {
    /// Sizes and architecture switches.
    pub spec: Spec,
    pub(super) decoder: Decoder,
    pub(super) ends: Vec<i64>,
    tokenizer: Arc<Tokenizer>,
    /// The message about the first memory shortage.
    shortage: OnceLock<String>,
    /// Whether that message has been reported.
    told: AtomicBool,
    /// Dtypes of weights and arithmetic, and whether blocks are streamed.
    policy: DtypePolicy,
    /// Free memory before loading, on the device that holds kept passes.
    free: Option<FreeMemory>,
}

/// Models up to this size run on one CPU thread: their operations are so short that waiting for a second thread costs
/// more than it saves (measured: 2 M parameters, 128 sequences per step; 30 times slower next to another busy program).
const ONE_THREAD: u64 = 10_000_000;

/// Number of processes that share the machine's cores for model computation.
static SHARING: AtomicUsize = AtomicUsize::new(1);

/// Models loaded from now on use one of `processes` equal shares of the cores, at least one thread.
pub fn share_cores(processes: usize) {
    SHARING.store(processes.max(1), Ordering::Relaxed);
}

/// Number of libtorch threads for a model of `n_params` parameters, and how many such models may run concurrently on
/// the CPU; a single process would use `all` threads.
fn threads(n_params: u64, all: i32, processes: usize) -> (i32, i32) {
    let share = (all / i32::try_from(processes).unwrap_or(i32::MAX)).max(1);
    if n_params <= ONE_THREAD { (1, share) } else { (share, 1) }
}

/// [`threads`] with the current settings of this machine.
fn threads_here(n_params: u64) -> (i32, i32) {
    static ALL: OnceLock<i32> = OnceLock::new();
    threads(n_params, *ALL.get_or_init(tch::get_num_threads), SHARING.load(Ordering::Relaxed))
}

/// The tensors of `checkpoint`, in the form in which they are held on `device`.
fn read_weights(
    checkpoint: &Checkpoint,
    spec: &Spec,
    policy: DtypePolicy,
    device: Device,
) -> Result<HashMap<String, Tensor>> {
    let source = checkpoint.open_weights()?;
    ensure!(
        !policy.streamed || source.is_mapped(),
        "its weights are computed from what is stored, so that its blocks cannot be streamed from the file: take \
         `offload` out"
    );
    weights::load(spec, &*source, policy.weights, device).map_err(|error| checkpoint.advised(error))
}

impl LanguageModel {
    /// Loads a checkpoint on `device` with the dtypes of `policy`. Weights are memory-mapped and, where they are stored
    /// in another dtype, converted one by one; those of streamed blocks stay mapped.
    ///
    /// # Errors
    /// A model that does not fit into memory (see [`memory::check`]); a device that computes wrong numbers (see
    /// [`self_check`]); an unreadable file; tensors that do not match `config.json` (see [`weights::check`]).
    pub fn load(
        checkpoint: &Checkpoint,
        policy: impl Into<DtypePolicy>,
        device: Device,
    ) -> Result<LanguageModel> {
        let policy = policy.into();
        let load = || -> Result<LanguageModel> {
            heap::keep();
            let spec = checkpoint.spec()?;
            let free = FreeMemory::of(device);
            memory::check(&spec, policy, Work::Little, device, free.as_ref())?;
            self_check::ensure_right(device, Backend::chosen(device)?, policy.compute)?;
            ensure!(
                !policy.streamed || policy.weights == spec.dtype,
                "blocks are streamed as they are stored, in {}: remove `dtype`, and set `compute_dtype = \"{}\"`",
                spec.dtype.name(),
                policy.weights.name()
            );
            let there = if policy.streamed { Device::Cpu } else { device };
            let (tokenizer, tensors) = std::thread::scope(|scope| {
                let tokenizer = scope.spawn(|| Tokenizer::load(checkpoint)); // large ones take a second
                let tensors = read_weights(checkpoint, &spec, policy, there);
                (tokenizer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), tensors)
            });
            let (tokenizer, mut tensors) = (Arc::new(tokenizer?), tensors?);
            let kind = policy.compute.kind();
            let decoder = match policy.streamed {
                false => Decoder::computing(&spec, &mut tensors, kind)?,
                true => Decoder::streaming(&spec, &mut tensors, kind, device)?,
            };
            tch::set_num_threads(threads_here(spec.n_params()).0);
            let mut ends = checkpoint.end_tokens(&spec)?;
            // Chat models whose config still has the base model's end token declare theirs in the tokenizer.
            ends.extend(tokenizer.end_token().filter(|end| !ends.contains(end)));
            Ok(LanguageModel {
                ends,
                spec,
                decoder,
                tokenizer,
                shortage: OnceLock::new(),
                told: AtomicBool::new(false),
                policy,
                free: if policy.streamed { FreeMemory::of(Device::Cpu) } else { free },
            })
        };
        load().with_context(|| format!("load {}", checkpoint.path.display()))
    }

    /// Like [`load`](Self::load), but computed by `backend`, which must be one of [`Backend::all`] of the device.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_by(
        checkpoint: &Checkpoint,
        policy: impl Into<DtypePolicy>,
        device: Device,
        backend: Backend,
    ) -> Result<LanguageModel> {
        let mut model = LanguageModel::load(checkpoint, policy, device)?;
        model.decoder.set_backend(backend);
        Ok(model)
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// Runs `work` on all `rows` or, where the device runs out of memory, on parts of them in order: see
    /// [`in_halves`](shortage::in_halves). [`shortage`](Self::shortage) then reports it.
    ///
    /// # Errors
    /// Errors of `work`; a [`Shortage`] with a single row.
    pub fn in_halves<R, T>(&self, rows: &[R], work: &mut dyn FnMut(&[R]) -> Result<T>) -> Result<Vec<T>> {
        shortage::in_halves(rows, work, &mut |rows, Shortage { said }| {
            let line = || {
                format!("not enough memory for {rows} texts at once ({said}): splitting the batch in halves")
            };
            let _ = self.shortage.get_or_init(line);
        })
    }

    /// A message for people that memory ran out; returned only by the first call after it happened.
    pub fn shortage(&self) -> Option<&str> {
        let line = self.shortage.get()?;
        (!self.told.swap(true, Ordering::Relaxed)).then_some(line)
    }

    /// Converts text to tokens and back; unlike the model it may be used by several threads at once.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The decoder, for callers that need gradients.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// See [`Tokenizer::encode`].
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        self.tokenizer.encode(text)
    }

    /// See [`Tokenizer::encode_wrapped`].
    pub fn encode_wrapped(&self, text: &str, wrap: Wrap, chat: Chat) -> Result<Tokens> {
        self.tokenizer.encode_wrapped(text, wrap, chat)
    }

    /// See [`Tokenizer::encode_chat`].
    pub fn encode_chat(&self, messages: &[Message], chat: Chat) -> Result<Vec<i64>> {
        self.tokenizer.encode_chat(messages, chat)
    }

    /// See [`Tokenizer::encode_turns`].
    pub fn encode_turns(&self, turns: &[Message], ending: Ending, chat: Chat) -> Result<Turns> {
        self.tokenizer.encode_turns(turns, ending, chat)
    }

    /// See [`Tokenizer::encode_request`].
    pub fn encode_request(&self, instructions: &str, request: &str, chat: Chat) -> Result<Vec<i64>> {
        self.tokenizer.encode_request(instructions, request, chat)
    }

    /// Whether the checkpoint has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.tokenizer.has_chat_template()
    }

    /// See [`Tokenizer::encode_continuation`].
    pub fn encode_continuation(&self, prompt: &str, word: &str) -> Result<(Vec<i64>, Vec<i64>)> {
        self.tokenizer.encode_continuation(prompt, word)
    }

    /// See [`Tokenizer::token`].
    pub fn token(&self, id: u32) -> String {
        self.tokenizer.token(id)
    }

    /// See [`Tokenizer::decode`].
    pub fn decode(&self, ids: &[i64]) -> Result<String> {
        self.tokenizer.decode(ids)
    }

    /// See [`Tokenizer::decode_with`].
    pub fn decode_with(&self, ids: &[i64], keeps: &dyn Fn(&str) -> bool) -> Result<String> {
        self.tokenizer.decode_with(ids, keeps)
    }

    /// A batch of texts, packed where the model [packs](Decoder::packs), otherwise padded.
    ///
    /// # Errors
    /// No texts, or one without tokens.
    pub fn batch<R: AsRef<[i64]>>(&self, texts: &[R]) -> Result<Batch> {
        if self.decoder.packs() { Batch::packed(texts) } else { Batch::new(texts) }
    }

    /// Splits texts of these lengths into [`batch`](Self::batch)es of at most `batch_tokens` tokens: see [`batch::batches`].
    pub fn batches(&self, lengths: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
        batch::batches(lengths, batch_tokens, self.decoder.packs())
    }

    /// One pass of a batch through all blocks up to `last` (`None`: all blocks), without unembedding. Hooks see the
    /// residual stream at each layer in the given order. Returns the residual stream at `last`, `[batch, pos, d_model]`
    /// or, if the batch is packed, `[1, tokens, d_model]`, on the model's device.
    ///
    /// # Errors
    /// A layer or a token that the model does not have; a row longer than the model's context.
    pub fn forward(&self, batch: &Batch, hooks: &mut [&mut dyn Hook], last: Option<Layer>) -> Result<Tensor> {
        let last = last.unwrap_or(self.decoder.last());
        self.check_layer(last)?;
        self.check_batch(batch)?;
        let _no_grad = tch::no_grad_guard();
        Ok(self.run(batch, None, hooks, last))
    }

    /// The lower part of a pass without hooks, kept at each of `layers`: one pass up to the highest of them. The part
    /// below a steered layer is the same for every direction and is computed once for all.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn keep(&self, batch: &Batch, layers: &[Layer]) -> Result<Vec<Kept>> {
        layers.iter().try_for_each(|&layer| self.check_layer(layer))?;
        self.check_batch(batch)?;
        ensure!(
            !batch.is_packed() && batch.starts.iter().all(|&start| start == 0),
            "only passes of padded rows from the first token on can be kept"
        );
        let _no_grad = tch::no_grad_guard();
        let passes = self.decoder.keep(&send(&batch.ids, self.device()), &batch.lengths, layers);
        let all: Vec<usize> = (0..batch.rows()).collect();
        Ok(passes.into_iter().map(|pass| Kept { batch: batch.select(&all), pass }).collect())
    }

    /// Bytes per token of a pass kept at `layer`, padding included.
    pub fn kept_bytes_per_token(&self, layer: Layer) -> u64 {
        memory::kept_bytes_per_token(&self.spec, self.policy.compute, layer)
    }

    /// Memory limit in bytes for kept passes, for batches of at most `batch_tokens` padded tokens: see
    /// [`memory::bytes_to_keep`]; at most 1 GiB.
    pub fn bytes_to_keep(&self, batch_tokens: usize) -> u64 {
        let device = if self.policy.streamed { Device::Cpu } else { self.device() };
        memory::bytes_to_keep(&self.spec, self.policy, batch_tokens, device, self.free.as_ref()).min(1 << 30)
    }

    /// Continues a kept pass with some of its `rows`, in the given order, with repetitions. Returns their batch and the
    /// residual stream at `last` (`None`: the last layer). The numbers are those of [`forward`](Self::forward): bitwise
    /// equal where a row's numbers do not depend on its batch, otherwise up to rounding (see [`Backend`]).
    ///
    /// # Errors
    /// A hook or `last` below the layer at which the pass was kept.
    pub fn forward_from(
        &self,
        kept: &Kept,
        rows: &[usize],
        hooks: &mut [&mut dyn Hook],
        last: Option<Layer>,
    ) -> Result<(Batch, Tensor)> {
        let last = last.unwrap_or(self.decoder.last());
        self.check_layer(last)?;
        let wanted = hooks.iter().filter_map(|hook| hook.first()).chain([last]);
        if let Some(below) = wanted.min().filter(|&layer| layer < kept.layer()) {
            bail!("layer {below} is below layer {}, where the pass was kept", kept.layer());
        }
        let _no_grad = tch::no_grad_guard();
        let batch = kept.batch.select(rows);
        let resid = self.decoder.run_from(&kept.pass.select(rows), last, &mut |layer, resid| {
            hooks.iter_mut().fold(resid, |resid, hook| hook.resid_post(layer, resid, &batch))
        });
        Ok((batch, resid))
    }

    /// How many threads may run this model concurrently. Each runs whole operations, which are too short to be split.
    pub(super) fn side_by_side(&self) -> usize {
        let (_, models) = threads_here(self.spec.n_params());
        if self.decoder.backend().is_cpu() { models as usize } else { 1 }
    }

    /// Whether blocks are copied to the device one by one, so that [`forward_all`](Self::forward_all) is worth its
    /// memory.
    pub fn is_streamed(&self) -> bool {
        self.decoder.is_streamed()
    }

    /// Runs all blocks up to `last` on several batches, each block on all batches before the next block, so that a
    /// streamed block is copied once. `hooks[batch]` is the hook of that batch. Between two blocks, as many residual
    /// streams stay on the device as fit there next to the working memory; the others wait in host memory.
    ///
    /// # Errors
    /// Like [`forward`](Self::forward), before anything is computed.
    pub fn forward_all<H: Hook>(&self, batches: &[Batch], hooks: &mut [H], last: Layer) -> Result<()> {
        self.check_layer(last)?;
        ensure!(hooks.len() == batches.len(), "{} hooks for {} batches", hooks.len(), batches.len());
        batches.iter().try_for_each(|batch| self.check_batch(batch))?;
        let _no_grad = tch::no_grad_guard();
        let device = self.device();
        let largest = batches.iter().map(Batch::tokens).max().unwrap_or(0);
        let mut free =
            memory::bytes_to_keep(&self.spec, self.policy, largest, device, FreeMemory::of(device).as_ref());
        let waiting = batches.iter().map(|batch| {
            let bytes = self.kept_bytes_per_token(last).saturating_mul(batch.tokens() as u64);
            let place = if bytes <= free { device } else { Device::Cpu };
            free = free.saturating_sub(bytes);
            Waiting { ids: send(&batch.ids, device), lengths: batch.lengths.clone(), place }
        });
        let waiting: Vec<Waiting> = waiting.collect();
        self.decoder.run_all(&waiting, last, &mut |batch, layer, resid| {
            hooks[batch].resid_post(layer, resid, &batches[batch])
        });
        Ok(())
    }

    /// Logits `[.., d_vocab]` of residuals `[.., d_model]` after the last block.
    pub fn logits(&self, resid: &Tensor) -> Tensor {
        tch::no_grad(|| self.decoder.unembed(resid))
    }

    /// For each row, the summed log-probability, in nats, of its tokens after the prompt. `resid` is the result of
    /// [`forward`](Self::forward) for `batch` through all blocks. Softmax in fp32, sum in fp64; only the positions
    /// needed are unembedded.
    ///
    /// # Errors
    /// A row without a prompt: nothing predicts its first token.
    pub fn continuation_logprobs(&self, resid: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let mut tokens = Vec::with_capacity(batch.rows());
        let _no_grad = tch::no_grad_guard();
        for row in 0..batch.rows() {
            let (prompt, n) = (batch.prompts[row] as i64, (batch.lengths[row] - batch.prompts[row]) as i64);
            ensure!(prompt > 0, "row {row} has no prompt");
            let logits = self.decoder.unembed(&batch.row(resid, row).narrow(0, prompt - 1, n));
            let ids = send(&batch.row(&batch.ids, row).narrow(0, prompt, n), resid.device());
            tokens.push(logits.log_softmax(-1, Kind::Float).gather(-1, &ids.unsqueeze(1), false));
        }
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let counts: Vec<i64> = tokens.iter().map(|each| each.size()[0]).collect();
        let rows = fetch(&Tensor::cat(&tokens, 0)).split_with_sizes(&counts, 0);
        Ok(rows.iter().map(|row| row.sum(Kind::Double).double_value(&[])).collect())
    }

    /// Projects directions of the residual stream onto the vocabulary: `[n, d_model]` in fp32 to `[n, d_vocab]` in fp32
    /// on the CPU. The product is in fp32 whatever the model's dtype; the logit cap and divisor are not applied.
    pub fn unembed_direction(&self, directions: &Tensor, norm: LensNorm) -> Tensor {
        /// Rows of the unembedding held in fp32 at a time.
        const ROWS: i64 = 16_384;
        tch::no_grad(|| {
            let v = directions.to_device(self.device()).to_kind(Kind::Float);
            let final_norm = self.decoder.final_norm();
            let v = match norm {
                LensNorm::None => v,
                LensNorm::Gain => final_norm.of_direction(&v),
                LensNorm::Full => final_norm.in_fp32(&v, self.decoder.backend()),
            };
            let unembed = self.decoder.unembed_weight();
            let d_vocab = unembed.size()[0];
            let parts: Vec<Tensor> = (0..d_vocab)
                .step_by(ROWS as usize)
                .map(|start| {
                    let rows = unembed.narrow(0, start, ROWS.min(d_vocab - start));
                    let rows = rows.to_device(self.device()).to_kind(Kind::Float);
                    v.matmul(&rows.tr()).to_device(Device::Cpu)
                })
                .collect();
            Tensor::cat(&parts, -1)
        })
    }

    fn check_layer(&self, layer: Layer) -> Result<()> {
        let n_layers = self.spec.n_layers();
        ensure!(layer.blocks() <= n_layers, "layer {layer} of a model with {n_layers} layers");
        Ok(())
    }

    /// Returns an error if a text of this many tokens is longer than the model's context.
    pub fn check_length(&self, tokens: usize) -> Result<()> {
        let context = self.spec.context;
        ensure!(tokens <= context, "{tokens} tokens do not fit the model's context of {context}");
        Ok(())
    }

    /// Rejects token ids outside the embedding and rows longer than the context.
    pub(super) fn check_batch(&self, batch: &Batch) -> Result<()> {
        self.check_length(batch.longest())?;
        let (low, high) = (batch.ids.min().int64_value(&[]), batch.ids.max().int64_value(&[]));
        ensure!(
            low >= 0 && high < self.spec.d_vocab as i64,
            "token {} is not in the model's vocabulary of {}",
            if low < 0 { low } else { high },
            self.spec.d_vocab
        );
        Ok(())
    }

    pub(super) fn run(
        &self,
        batch: &Batch,
        cache: Option<&Cache>,
        hooks: &mut [&mut dyn Hook],
        last: Layer,
    ) -> Tensor {
        let ids = send(&batch.ids, self.device());
        let lengths: Vec<usize> = batch.starts.iter().zip(&batch.lengths).map(|(from, n)| from + n).collect();
        self.decoder.run(&ids, &lengths, cache, last, &mut |layer, resid| {
            hooks.iter_mut().fold(resid, |resid, hook| hook.resid_post(layer, resid, batch))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::threads;

    #[test]
    fn processes_share_the_cores() {
        let large = |all, processes| threads(135_000_000, all, processes);
        assert_eq!([large(8, 1), large(8, 2), large(8, 3), large(2, 4)], [(8, 1), (4, 1), (2, 1), (1, 1)]);
        // A small model uses one thread, and one such model per core runs concurrently.
        assert_eq!([threads(2_000_000, 8, 1), threads(2_000_000, 8, 2)], [(1, 8), (1, 4)]);
    }
}
