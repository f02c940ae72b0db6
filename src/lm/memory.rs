//! Decides before a model is loaded whether it fits into memory, and what would fit if it does not. Depends on sizes,
//! not on how weights are read; the numbers are bounds derived from a model's `Spec`, not measurements.

use super::backend::{Backend, Heads};
use super::device;
use super::free_memory::FreeMemory;
use super::layer::Layer as At;
use super::spec::{self, DeltaHeads, Dtype, DtypePolicy, KeyValues, Layer, Mixer, Spec};
use super::weights;
use std::collections::BTreeSet;
use std::fmt;
use tch::Device;

/// Work done at once with a model, in addition to holding its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing that takes significant memory.
    Little,
    /// Passes of at most this many tokens, including padding, without logits.
    Passes {
        /// Number of tokens in the largest batch.
        batch_tokens: usize,
        /// Number of tokens in all batches. The residuals of batches that are not being computed wait: on a GPU as far
        /// as memory remains next to this work, otherwise in host memory. 0 if the batches are processed one after the
        /// other.
        waiting: usize,
    },
    /// Sequences generated in parallel.
    Generation {
        /// Number of sequences.
        rows: usize,
        /// Maximum number of tokens added to each.
        max_new_tokens: usize,
    },
}

/// Memory for a model and its work, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Size of the weights.
    pub weights: u64,
    /// Memory needed in addition to the weights while they are loaded to a GPU: the largest tensor as stored, before it
    /// is converted, or projections before they are joined. On the CPU tensors are converted from file pages, which the
    /// system can drop.
    pub tensor: u64,
    /// Activations, keys and values, logits. Not needed at the same time as `tensor`.
    pub work: u64,
}

impl Need {
    /// Memory for a model and `work` with the dtypes of `policy` on `device`.
    pub fn new(spec: &Spec, policy: impl Into<DtypePolicy>, work: Work, device: Device) -> Need {
        let DtypePolicy { weights: dtype, compute, streamed } = policy.into();
        let work = match work {
            Work::Little => 0,
            Work::Passes { batch_tokens, waiting } => {
                let waiting = if device == Device::Cpu { waiting * spec.d_model } else { 0 } as u64;
                pass_bytes_per_token(spec, compute, device)
                    .saturating_mul(batch_tokens as u64)
                    .saturating_add(waiting.saturating_mul(bytes(compute)))
            }
            Work::Generation { rows, max_new_tokens } => {
                row_bytes(spec, compute, max_new_tokens as u64, device).saturating_mul(rows as u64)
            }
        };
        let converted = device != Device::Cpu && (dtype != spec.dtype || spec.quantization.is_some());
        let mut largest = 0;
        // An untrusted config.json may specify sizes that overflow.
        let mut need = Need { weights: 0, tensor: 0, work };
        for (_, shape) in spec.tensors() {
            let numbers = shape.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64));
            need.weights = need.weights.saturating_add(numbers.saturating_mul(bytes(dtype)));
            largest = largest.max(numbers);
            if converted {
                need.tensor = need.tensor.max(numbers.saturating_mul(bytes(spec.dtype)));
            }
        }
        // While a block stored in another layout than that of the arithmetic is converted, both copies exist; when
        // streaming, this happens each time.
        let relaid = (0..spec.n_layers()).map(|layer| spec.relaid_numbers(layer)).max().unwrap_or(0);
        need.tensor = need.tensor.max(relaid.saturating_mul(bytes(dtype)));
        if device != Device::Cpu {
            let joined = spec.layers.iter().map(|layer| {
                let mixer = match &layer.mixer {
                    Mixer::Attention(of) => {
                        let q_heads = if of.gate { 2 * spec.n_heads } else { spec.n_heads };
                        (q_heads + 2 * of.n_kv_heads).saturating_mul(of.d_head)
                    }
                    Mixer::GatedDelta(of) => of.channels() + of.values() + 2 * of.n_v_heads,
                };
                let gate_up = if spec.is_gated() { 2 * layer.d_mlp.unwrap_or(0) } else { 0 };
                mixer.max(gate_up).saturating_mul(spec.d_model) as u64
            });
            let joined = joined.max().unwrap_or(0);
            largest = largest.max(joined);
            // When streaming, they are copied directly into the joined matrix.
            if !streamed {
                need.tensor = need.tensor.max(joined.saturating_mul(bytes(dtype)));
            }
        }
        if streamed {
            let widest = (0..spec.n_layers()).map(|layer| spec.block_numbers(layer)).max().unwrap_or(0);
            // While one block is computed, the next is read from its file; a GPU holds only one of them.
            let at_once = if device == Device::Cpu { 2.min(spec.n_layers() as u64) } else { 1 };
            need.weights = widest.saturating_mul(at_once * bytes(dtype));
        }
        if spec.quantization.is_some() {
            need.tensor = need.tensor.saturating_add(weights::DEQUANTIZED_AT_ONCE);
        }
        if dtype != compute {
            // A weight converted to the compute dtype, in addition to the activations.
            need.work = need.work.saturating_add(largest.saturating_mul(bytes(compute)));
        }
        need
    }

    /// Peak memory.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.tensor.max(self.work))
    }
}

/// Upper bound on the memory of one token in a pass. At any time there are five copies of the residual stream (the
/// embedding, before and after two norms), a block's keys and values, and one of: the MLP's gate, its activation, the
/// up projection and their product (for an MLP without a gate the up projection and its activation); queries and keys
/// with the memory for rotating and gating them; the memory of the gated delta rule. All of this is doubled, because an
/// allocator cannot fill every gap: between 1.5 and 1.7 times was measured for the shape of SmolLM2-135M with 8192
/// tokens on a CPU. Nothing grows with the square of the length (observed on the CPU, with and without shared heads),
/// except where attention [`holds`](Backend::holds_scores) all scores.
pub fn pass_bytes_per_token(spec: &Spec, dtype: Dtype, device: Device) -> u64 {
    /// Tokens that each token attends to when attention is not fused: stories have a few hundred.
    const SEEN: u64 = 512;
    let backend = Backend::likely(device);
    let heads = |of: &spec::Attention| {
        let [n_heads, n_kv_heads, d_head] = [spec.n_heads, of.n_kv_heads, of.d_head].map(|n| n as i64);
        Heads { n_heads, n_kv_heads, d_head }
    };
    let block = |layer: &Layer| {
        let (kept, mixer) = match &layer.mixer {
            Mixer::Attention(of) => {
                let (q, kv) = (spec.n_heads * of.d_head, of.d_kv());
                let gate = if of.gate { 2 * q } else { 0 };
                let copied = if backend.copies_shared_heads(dtype.kind(), heads(of)) { 2 * q } else { 0 };
                (2 * kv, (5 * (q + kv) + gate + copied) as u64 * bytes(dtype))
            }
            Mixer::GatedDelta(of) => (0, delta_bytes_per_token(of, dtype, backend)),
        };
        let (wide, sum) = match layer.experts {
            // Every token may go through one expert; the sum over experts and its summands are in fp32.
            Some(experts) => (experts.d_mlp, 6 * spec.d_model),
            None => (0, 0),
        };
        let inner = if spec.is_gated() { 4 } else { 2 };
        let mlp = (4 * wide).max(inner * layer.d_mlp.unwrap_or(0)) as u64 * bytes(dtype);
        ((kept + sum) as u64 * bytes(dtype)).saturating_add(mlp.max(mixer))
    };
    let block = spec.layers.iter().map(block).max().unwrap_or(0);
    let fused = (5 * spec.d_model as u64 * bytes(dtype)).saturating_add(block).saturating_mul(2);
    // Products, capped products, weights and a temporary, in fp32.
    let products = 4 * spec.n_heads as u64 * SEEN * bytes(Dtype::F32);
    let plain =
        |of: &spec::Attention| backend.holds_scores(dtype.kind(), heads(of), spec.attention_cap.is_some());
    let plain = spec.layers.iter().filter_map(Layer::attention).any(plain);
    fused.saturating_add(if plain { products } else { 0 })
}

/// Memory of one token in a gated delta net: the projections, also in fp32; queries, keys and values after the
/// convolution; the output, its norm, and both with the gate. If the rule is computed in chunks, also queries and keys
/// of each value head (plain, in chunks, with the decay; the updates, and the solution for them), the same amount for
/// the values, the products of a chunk, and, for rows of 64 tokens, the memory three times.
fn delta_bytes_per_token(of: &DeltaHeads, dtype: Dtype, backend: Backend) -> u64 {
    const CHUNK: u64 = 64;
    let [channels, values, heads, d_k] = [of.channels(), of.values(), of.n_v_heads, of.d_k].map(|n| n as u64);
    let projected = (channels + values).saturating_mul(bytes(dtype));
    let mut numbers = (2 * channels).saturating_add(5 * values);
    if backend.has_delta_in_chunks() {
        let keys = heads.saturating_mul(d_k);
        let chunk = keys.saturating_mul(9).saturating_add(5 * values).saturating_add(5 * CHUNK * heads);
        numbers = numbers.saturating_add(chunk).saturating_add(3 * (values.saturating_mul(d_k) / CHUNK));
    }
    projected.saturating_add(numbers.saturating_mul(bytes(Dtype::F32)))
}

/// Size of a sequence's recurrent states in all layers, independent of its length.
pub fn state_bytes(spec: &Spec, dtype: Dtype) -> u64 {
    let one = |layer: &Layer| match &layer.mixer {
        Mixer::Attention(_) => 0,
        Mixer::GatedDelta(of) => {
            let memory = (of.values() as u64).saturating_mul(of.d_k as u64);
            let recent = (of.channels() as u64).saturating_mul(of.kernel as u64 - 1);
            memory.saturating_mul(bytes(Dtype::F32)).saturating_add(recent.saturating_mul(bytes(dtype)))
        }
    };
    spec.layers.iter().map(one).fold(0, u64::saturating_add)
}

/// Size of the key and value cache per token, in all layers.
pub fn kv_bytes_per_token(spec: &Spec, dtype: Dtype) -> u64 {
    let own = spec.layers.iter().filter_map(Layer::attention).filter(|of| !matches!(of.kv, KeyValues::Of(_)));
    let numbers = own.map(|of| 2 * of.d_kv() as u64);
    numbers.fold(0, u64::saturating_add).saturating_mul(bytes(dtype))
}

/// Size per token, padding included, of a pass kept at `layer`: the residual stream, the input of the first block if
/// later blocks use it, and keys and values shared with later layers.
pub fn kept_bytes_per_token(spec: &Spec, dtype: Dtype, layer: At) -> u64 {
    let sources = spec.layers.iter().filter_map(|of| match of.attention()?.kv {
        KeyValues::Of(source) => Some(source),
        _ => None,
    });
    let sources: BTreeSet<usize> = sources.filter(|&source| source < layer.blocks()).collect();
    let shared = sources.iter().filter_map(|&source| spec.layers[source].attention());
    let streams = if spec.per_layer_embed.is_some() { 2 } else { 1 };
    let numbers =
        shared.map(|of| 2 * of.d_kv() as u64).fold(streams * spec.d_model as u64, u64::saturating_add);
    numbers.saturating_mul(bytes(dtype))
}

/// Memory limit for kept passes: half of what a device has left after the model and a pass of `batch_tokens`. If the
/// device does not report its memory, 256 MiB.
pub fn bytes_to_keep(
    spec: &Spec,
    policy: impl Into<DtypePolicy>,
    batch_tokens: usize,
    device: Device,
    free: Option<&FreeMemory>,
) -> u64 {
    let Some(free) = free else { return 256 << 20 };
    let need = Need::new(spec, policy, Work::Passes { batch_tokens, waiting: 0 }, device);
    free.bytes.saturating_sub(need.total()) / 2
}

/// Memory of one sequence during generation: its cache and states, and either the pass over its prompt or the selection
/// of a token.
fn row_bytes(spec: &Spec, dtype: Dtype, max_new_tokens: u64, device: Device) -> u64 {
    /// A request of a few sentences in a chat template; prompts are not known before the model is loaded.
    const PROMPT: u64 = 256;
    /// Per vocabulary entry: logits, scaled logits, their probabilities, cumulative sums, and the entries likelier than
    /// a token (a flag, and the probability).
    const CHOICE: u64 = 24;
    let context = spec.context as u64;
    let slots = PROMPT.saturating_add(max_new_tokens).min(context);
    let pass = pass_bytes_per_token(spec, dtype, device).saturating_mul(PROMPT.min(context));
    kv_bytes_per_token(spec, dtype)
        .saturating_mul(slots)
        .saturating_add(state_bytes(spec, dtype))
        .saturating_add(pass.max(CHOICE * spec.d_vocab as u64))
}

/// Size of one number in bytes.
fn bytes(dtype: Dtype) -> u64 {
    dtype.kind().elt_size_in_bytes() as u64
}

/// Why a model is not loaded, and possible remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Required memory.
    pub need: Need,
    /// Available memory.
    pub free: FreeMemory,
    /// Changes each of which would be sufficient, for people.
    pub remedies: Vec<String>,
    policy: DtypePolicy,
    work: Work,
}

/// Checks whether a model with its work fits into `free`, the memory of `device`.
///
/// # Errors
/// The model does not fit: the error contains the numbers and every option that would make it fit.
pub fn fits(
    spec: &Spec,
    policy: impl Into<DtypePolicy>,
    work: Work,
    device: Device,
    free: &FreeMemory,
) -> Result<(), Box<Refusal>> {
    let policy = policy.into();
    let need = Need::new(spec, policy, work, device);
    if need.total() <= free.bytes {
        return Ok(());
    }
    let with = |policy: DtypePolicy, work| {
        Some(Need::new(spec, policy, work, device).total()).filter(|&total| total <= free.bytes)
    };
    let mut remedies = Vec::new();
    // A half-precision checkpoint keeps its dtype; f16 cannot represent all values that an f32 checkpoint may have
    // learned.
    let half = if spec.dtype == Dtype::F16 { Dtype::F16 } else { Dtype::Bf16 };
    if policy.weights == Dtype::F32
        && let Some(total) = with(DtypePolicy { weights: half, compute: half, ..policy }, work)
    {
        remedies.push(format!("`dtype = \"{}\"` ({})", half.name(), gb(total)));
    }
    // The largest power of two that fits; a batch holds at least one text, so fewer tokens than a text has would change
    // nothing.
    let largest = |least: usize, now: usize, work: &dyn Fn(usize) -> Work| {
        let smaller = (0..usize::BITS).rev().map(|bit| 1 << bit).filter(|n| (least..now).contains(n));
        smaller.into_iter().find(|&n| with(policy, work(n)).is_some())
    };
    let less = match work {
        Work::Little => None,
        Work::Passes { batch_tokens, waiting } => {
            largest(512, batch_tokens, &|batch_tokens| Work::Passes { batch_tokens, waiting })
                .map(|n| format!("`batch_tokens = {n}`"))
        }
        Work::Generation { rows, max_new_tokens } => {
            largest(32, max_new_tokens, &|max_new_tokens| Work::Generation { rows, max_new_tokens })
                .map(|n| format!("`max_new_tokens = {n}`"))
        }
    };
    remedies.extend(less);
    let streamed = DtypePolicy { streamed: true, weights: spec.dtype, compute: policy.compute };
    // Blocks are streamed in the stored format.
    if remedies.is_empty()
        && !policy.streamed
        && spec.quantization.is_none()
        && let Some(total) = with(streamed, work)
    {
        remedies.push(format!("`offload = \"layers\"` ({}; slow)", gb(total)));
    }
    Err(Box::new(Refusal { need, free: free.clone(), remedies, policy, work }))
}

/// Rejects a model that does not fit into `free`, the memory of `device`; if `free` is unknown, nothing is rejected.
///
/// # Errors
/// A [`Refusal`].
pub fn check(
    spec: &Spec,
    policy: impl Into<DtypePolicy>,
    work: Work,
    device: Device,
    free: Option<&FreeMemory>,
) -> Result<(), Box<Refusal>> {
    let Some(free) = free else { return Ok(()) };
    let policy = policy.into();
    fits(spec, policy, work, device, free).map_err(|mut refusal| {
        let other = match device {
            Device::Cpu => device::choose("cuda").ok().map(|choice| ("cuda", choice.device)),
            _ => Some(("cpu", Device::Cpu)),
        };
        if let Some((name, other)) = other
            && let Some(free) = FreeMemory::of(other)
            && fits(spec, policy, work, other, &free).is_ok()
        {
            refusal.remedies.push(format!("`--device {name}` ({} there)", gb(free.bytes)));
        }
        refusal
    })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Refusal { need, free, policy, .. } = self;
        write!(f, "it does not fit into memory: {} are needed (", gb(need.total()))?;
        write!(f, "{} of weights as {}", gb(need.weights), policy.weights.name())?;
        match self.work {
            _ if need.tensor > need.work => write!(f, ", {} while they are loaded", gb(need.tensor))?,
            Work::Passes { batch_tokens, .. } => {
                write!(f, ", {} for {batch_tokens} tokens at once", gb(need.work))?
            }
            Work::Generation { rows, max_new_tokens } => {
                write!(f, ", {} for {rows} texts of {max_new_tokens} new tokens", gb(need.work))?;
            }
            Work::Little => {}
        }
        write!(f, "), {} are available ({}). ", gb(free.bytes), free.from)?;
        match self.remedies.as_slice() {
            [] => write!(f, "A machine with {} would be enough", gb(need.total())),
            some => write!(f, "What would fit: {}", some.join(", or ")),
        }
    }
}

impl std::error::Error for Refusal {}

/// Size for people, in units of 10^9 bytes.
fn gb(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
