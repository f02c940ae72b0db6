//! The gated delta rule (Yang, Kautz and Hatamizadeh 2024, "Gated Delta Networks"): a memory of fixed size instead of
//! keys and values. Independent of the projections around it and of caches.
//!
//! Each value head has a memory `S`, `[d_k, d_v]`, zero before the first token. For a token with query `q`, key `k` and
//! value `v`, after a short convolution along the sequence and with `q` and `k` normalised to length 1, the rule is
//!
//! ```text
//! S = decay S;    S = S + k (rate (v - S k));    its output: S q / sqrt(d_k)
//! ```
//!
//! where `decay = exp(-exp(a_log) softplus(a + dt_bias))` and `rate = sigmoid(b)`, both per token. Everything is in
//! fp32. On the CPU it is computed token by token ([`Backend::delta`]); elsewhere in chunks of [`CHUNK`] tokens, as in
//! transformers (`torch_chunk_gated_delta_rule`), which turns most of it into matrix products, and a single token by
//! itself.

use super::backend::Backend;
use super::cpu::DeltaInputs;
use super::device::send;
use super::spec::DeltaHeads;
use tch::{Device, Kind, Tensor};

/// Chunk size in tokens, as in transformers.
const CHUNK: i64 = 64;

/// Added to the squared length of a query or key (`l2norm` in transformers).
const EPS: f64 = 1e-6;

/// The rule with its learned parameters.
pub struct GatedDelta {
    /// Convolution weights, `[kernel, channels]`; the last row applies to the token itself.
    pub conv: Tensor,
    /// Logarithm of the decay's scale, `[n_v_heads]`.
    pub a_log: Tensor,
    /// Added to the input of the decay, `[n_v_heads]`.
    pub dt_bias: Tensor,
    /// Head counts and sizes.
    pub heads: DeltaHeads,
}

/// State after a sequence, needed for the tokens after it.
pub struct State {
    /// Inputs of the convolution for the last tokens, `[batch, kernel - 1, channels]`; zeros before the first token.
    pub recent: Tensor,
    /// The heads' memories, `[batch, n_v_heads, d_k, d_v]`, fp32.
    pub memory: Tensor,
}

/// Inputs of the rule, projected from a block's tokens.
pub struct Inputs<'a> {
    /// Concatenated queries, keys and values, `[batch, pos, channels]`.
    pub qkv: &'a Tensor,
    /// Input of the decay, `[batch, pos, n_v_heads]`.
    pub a: &'a Tensor,
    /// Input of the rate, `[batch, pos, n_v_heads]`.
    pub b: &'a Tensor,
}

impl GatedDelta {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> GatedDelta {
        let on = |x: &Tensor| x.to_device(device);
        GatedDelta {
            conv: on(&self.conv).contiguous(), // in a checkpoint the kernel is the last axis
            a_log: on(&self.a_log),
            dt_bias: on(&self.dt_bias),
            heads: self.heads,
        }
    }

    /// Output of the value heads, `[batch, pos, n_v_heads, d_v]` in fp32; for padding it is finite but meaningless.
    /// `lengths` are the numbers of tokens in each row, which starts here.
    pub fn forward(&self, of: &Inputs, lengths: &[usize], backend: Backend) -> Tensor {
        self.read(of, lengths, (None, None), backend).0
    }

    /// Like [`forward`](Self::forward) for rows that continue from a `state`, or start without one; also returns the
    /// state after each row's last token. The given state may be overwritten.
    pub fn forward_and_keep(
        &self,
        of: &Inputs,
        lengths: &[usize],
        state: Option<&State>,
        backend: Backend,
    ) -> (Tensor, State) {
        let memory = match state {
            Some(state) => state.memory.shallow_clone(),
            None => self.nothing(lengths.len(), of.qkv.device()),
        };
        let recent = state.map(|state| &state.recent);
        let (read, memory) = self.read(of, lengths, (recent, Some(memory)), backend);
        (read, State { recent: self.recent(of.qkv, lengths, recent), memory })
    }

    /// The output and the new memory.
    fn read(
        &self,
        of: &Inputs,
        lengths: &[usize],
        (recent, memory): (Option<&Tensor>, Option<Tensor>),
        backend: Backend,
    ) -> (Tensor, Tensor) {
        let wide = |x: &Tensor| x.to_kind(Kind::Float).contiguous();
        let (conv, qkv, before) = (wide(&self.conv), wide(of.qkv), recent.map(wide));
        let mixed = backend
            .convolve(&qkv, before.as_ref(), &conv)
            .unwrap_or_else(|| convolve(&self.after(&qkv, before.as_ref()), &conv));
        let inputs = DeltaInputs {
            qkv: &mixed,
            a: &wide(of.a),
            b: &wide(of.b),
            a_log: &wide(&self.a_log),
            dt_bias: &wide(&self.dt_bias),
            eps: EPS,
        };
        if let Some(read) = backend.delta(&inputs, self.heads, lengths, memory.as_ref()) {
            return (read, memory.unwrap_or_default());
        }
        let memory = memory.unwrap_or_else(|| self.nothing(lengths.len(), mixed.device()));
        Rule::new(&inputs, self.heads, lengths).read(&memory)
    }

    /// Memories before the first token (zeros).
    fn nothing(&self, rows: usize, device: Device) -> Tensor {
        let DeltaHeads { n_v_heads, d_k, d_v, .. } = self.heads;
        Tensor::zeros([rows, n_v_heads, d_k, d_v].map(|n| n as i64), (Kind::Float, device))
    }

    /// `qkv` preceded by earlier tokens, or zeros: `[batch, kernel - 1 + pos, channels]`.
    fn after(&self, qkv: &Tensor, before: Option<&Tensor>) -> Tensor {
        let past = self.heads.kernel as i64 - 1;
        match before {
            Some(before) => Tensor::cat(&[before, qkv], 1),
            None => qkv.constant_pad_nd([0, 0, past, 0]),
        }
    }

    /// The last tokens of each row, as in [`State::recent`].
    fn recent(&self, qkv: &Tensor, lengths: &[usize], before: Option<&Tensor>) -> Tensor {
        let (past, pos, channels) = (self.heads.kernel as i64 - 1, qkv.size()[1], qkv.size()[2]);
        let all = self.after(qkv, before);
        if lengths.iter().all(|&length| length as i64 == pos) {
            return all.narrow(1, pos, past).contiguous();
        }
        let places: Vec<i64> = lengths.iter().flat_map(|&n| n as i64..n as i64 + past).collect();
        let places = send(&Tensor::from_slice(&places), all.device()).view([-1, past, 1]);
        all.gather(1, &places.expand([-1, past, channels], false), false)
    }
}

/// [`Backend::convolve`] for `[batch, kernel - 1 + pos, channels]`, by libtorch.
fn convolve(all: &Tensor, weight: &Tensor) -> Tensor {
    let kernel = weight.size()[0];
    let pos = all.size()[1] - kernel + 1;
    let tap = |at: i64| (all.narrow(1, at, pos), weight.get(at));
    let (tokens, own) = tap(0);
    let sum = (1..kernel).map(tap).fold(tokens * own, |sum, (tokens, weight)| sum.addcmul(&tokens, &weight));
    sum.silu()
}

/// The rule's inputs for each value head, `[batch, n_v_heads, pos, ..]`, for libtorch.
struct Rule {
    /// Normalised to length 1, then divided by the root of `d_k`.
    q: Tensor,
    /// Normalised to length 1.
    k: Tensor,
    v: Tensor,
    /// Logarithm of the decay, 0 in padding: `[batch, n_v_heads, pos]`.
    decay: Tensor,
    /// 0 in padding; `[batch, n_v_heads, pos, 1]`.
    rate: Tensor,
}

impl Rule {
    fn new(of: &DeltaInputs, heads: DeltaHeads, lengths: &[usize]) -> Rule {
        let DeltaHeads { n_k_heads, n_v_heads, d_k, d_v, .. } = heads;
        let (batch, pos) = (of.qkv.size()[0], of.qkv.size()[1]);
        let (of_k, of_v) = ((n_k_heads * d_k) as i64, (n_v_heads * d_v) as i64);
        let part = |from: i64, count: i64, n: usize| {
            of.qkv.narrow(2, from, count).reshape([batch, pos, n as i64, -1]).transpose(1, 2)
        };
        let unit = |x: Tensor| {
            let length = (x.square().sum_dim_intlist(-1, true, Kind::Float) + of.eps).rsqrt();
            (x * length).repeat_interleave_self_int((n_v_heads / n_k_heads) as i64, 1, None)
        };
        let step = (of.a + of.dt_bias).softplus() * of.a_log.exp().neg();
        let (mut decay, mut rate) = (step, of.b.sigmoid());
        if lengths.iter().any(|&length| (length as i64) < pos) {
            // Padding leaves the memory unchanged.
            let lengths: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
            let lengths = send(&Tensor::from_slice(&lengths), of.qkv.device()).view([-1, 1, 1]);
            let at = Tensor::arange(pos, (Kind::Int64, of.qkv.device())).view([1, -1, 1]);
            let real = at.lt_tensor(&lengths);
            (decay, rate) = (decay * &real, rate * &real);
        }
        Rule {
            q: unit(part(0, of_k, n_k_heads)) / (d_k as f64).sqrt(),
            k: unit(part(of_k, of_k, n_k_heads)),
            v: part(2 * of_k, of_v, n_v_heads),
            decay: decay.transpose(1, 2),
            rate: rate.transpose(1, 2).unsqueeze(-1),
        }
    }

    /// The output, `[batch, pos, n_v_heads, d_v]`, and the new memory.
    fn read(&self, memory: &Tensor) -> (Tensor, Tensor) {
        let (read, memory) = if self.q.size()[2] == 1 { self.one_token(memory) } else { self.chunks(memory) };
        (read.transpose(1, 2), memory)
    }

    fn one_token(&self, memory: &Tensor) -> (Tensor, Tensor) {
        let kept = memory * self.decay.exp().unsqueeze(-1);
        let new = (&self.v - self.k.matmul(&kept)) * &self.rate;
        let memory = kept + self.k.transpose(-1, -2).matmul(&new);
        (self.q.matmul(&memory), memory)
    }

    /// Within a chunk, each token's update depends on those of earlier tokens: a triangular system of equations for all
    /// of them, whose solution has one part from the tokens' values and one from the memory before the chunk.
    fn chunks(&self, memory: &Tensor) -> (Tensor, Tensor) {
        let size = self.q.size();
        let (pos, d_v) = (size[2], self.v.size()[3]);
        let chunk = CHUNK.min(pos);
        let more = (chunk - pos % chunk) % chunk;
        // [batch, n_v_heads, chunks, chunk, ..]
        let cut = |x: &Tensor| x.constant_pad_nd([0, 0, 0, more]).unflatten(2, [-1, chunk]);
        let (q, k, v, rate) = (cut(&self.q), cut(&self.k), cut(&self.v), cut(&self.rate));
        let sum = cut(&self.decay.unsqueeze(-1)).cumsum(3, Kind::Float);
        // Remaining share, at each token, of an earlier token's update; 0 for later tokens.
        let later = Tensor::ones([chunk, chunk], (Kind::Bool, q.device())).triu(1);
        let left = (&sum - sum.transpose(3, 4)).masked_fill(&later, f64::NEG_INFINITY).exp();
        let written = &k * &rate;
        let system = written.matmul(&k.transpose(3, 4)) * &left;
        let seen = q.matmul(&k.transpose(3, 4)) * left;
        let solve = |of: &Tensor| system.linalg_solve_triangular(of, false, true, true);
        let (brought, found) = (solve(&(v * rate)), solve(&(written * sum.exp())));
        let last = sum.narrow(3, chunk - 1, 1);
        let (q, k) = (q * sum.exp(), k * (&last - &sum).exp());
        let last = last.exp();
        let (mut memory, mut read) = (memory.shallow_clone(), Vec::new());
        for at in 0..q.size()[2] {
            let of = |x: &Tensor| x.select(2, at);
            let new = of(&brought) - of(&found).matmul(&memory);
            read.push(of(&q).matmul(&memory) + of(&seen).matmul(&new));
            memory = memory * of(&last) + of(&k).transpose(-1, -2).matmul(&new);
        }
        let read = Tensor::cat(&read, 2).narrow(2, 0, pos);
        debug_assert_eq!(read.size(), [size[0], size[1], pos, d_v]);
        (read, memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::path::Path;

    /// Runs `test` with each of our own kernels and with libtorch alone; the flag says whether results must be bitwise
    /// equal in any batch.
    fn each_way(test: impl Fn(Backend, bool)) {
        for backend in Backend::all(Device::Cpu) {
            test(backend, backend != Backend::Cpu);
        }
    }

    /// With libtorch the bound comes from the cumulative sums of the log decays in a chunk: their differences are the
    /// logarithms of the remaining share of a memory, and in float32 each is off by up to the last digit of a sum. In
    /// 300 draws of the sizes below, with sums up to 450, the chunked results differed from a float64 computation by
    /// 6e-7 in the median and 5e-6 at most; with sums in float64 by 5e-7 at most, and token by token by 3e-7.
    #[track_caller]
    fn same(got: &Tensor, want: &Tensor, to_the_bit: bool) {
        assert_eq!(got.size(), want.size());
        let error = ((got - want).abs().max() / want.abs().max()).double_value(&[]);
        assert!(if to_the_bit { got.equal(want) } else { error < 1e-5 }, "{to_the_bit}: {error:.1e}");
    }

    /// Normally distributed numbers, reproducible for a `seed`.
    fn random(shape: &[i64], seed: u64) -> Tensor {
        let mut state = seed << 32;
        let mut uniform = || {
            // splitmix64
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let mut normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let numbers: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| normal() as f32).collect();
        Tensor::from_slice(&numbers).view(shape)
    }

    /// Random tokens for heads that fill one, two and four registers, plus a remainder.
    struct Made {
        delta: GatedDelta,
        qkv: Tensor,
        a: Tensor,
        b: Tensor,
    }

    impl Made {
        fn new(d_k: usize, d_v: usize, batch: i64, pos: i64) -> Made {
            let heads = DeltaHeads { n_k_heads: 2, n_v_heads: 6, d_k, d_v, kernel: 4 };
            let (channels, gates) = (heads.channels() as i64, [batch, pos, 6]);
            let conv = random(&[4, channels], 1);
            let (a_log, dt_bias) = (random(&[6], 2), random(&[6], 3) - 2.0);
            Made {
                delta: GatedDelta { conv, a_log, dt_bias, heads },
                qkv: random(&[batch, pos, channels], 4),
                a: random(&gates, 5),
                b: random(&gates, 6),
            }
        }

        /// Runs the rows' tokens from `from` on, and returns the output and the state after them.
        fn pass(
            &self,
            [row, rows]: [i64; 2],
            [from, pos]: [i64; 2],
            lengths: &[usize],
            state: Option<&State>,
            backend: Backend,
        ) -> (Tensor, State) {
            let part = |x: &Tensor| x.narrow(0, row, rows).narrow(1, from, pos).contiguous();
            let of = Inputs { qkv: &part(&self.qkv), a: &part(&self.a), b: &part(&self.b) };
            self.delta.forward_and_keep(&of, lengths, state, backend)
        }
    }

    #[test]
    fn it_is_what_transformers_computes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/delta.safetensors");
        let t: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let delta = GatedDelta {
            conv: t["conv"].squeeze_dim(1).tr().contiguous(),
            a_log: t["a_log"].shallow_clone(),
            dt_bias: t["dt_bias"].shallow_clone(),
            heads: DeltaHeads { n_k_heads: 2, n_v_heads: 4, d_k: 6, d_v: 5, kernel: 4 },
        };
        each_way(|backend, _| {
            let of = Inputs { qkv: &t["qkv"], a: &t["a"], b: &t["b"] };
            let state = State { recent: t["recent"].copy(), memory: t["memory"].copy() };
            let (read, after) = delta.forward_and_keep(&of, &[70; 2], Some(&state), backend);
            for way in ["recurrent", "chunked"] {
                same(&read, &t[way], false);
                same(&after.memory, &t[&format!("{way}_memory")], false);
            }
            assert_eq!(after.recent, t["qkv"].narrow(1, 67, 3));
            let (read, after) = delta.forward_and_keep(&of, &[70; 2], None, backend);
            same(&read, &t["first"], false);
            same(&after.memory, &t["first_memory"], false);
            same(&delta.forward(&of, &[70; 2], backend), &t["first"], false);
        });
    }

    #[test]
    fn kernels_agree_at_every_width() {
        for (d_k, d_v) in [(8, 8), (20, 17), (16, 40), (24, 70), (128, 128)] {
            let made = Made::new(d_k, d_v, 2, 80);
            let all = |backend| made.pass([0, 2], [0, 80], &[80, 80], None, backend);
            let (want, after) = all(Backend::Cpu);
            for backend in Backend::all(Device::Cpu) {
                let (got, state) = all(backend);
                same(&got, &want, false);
                same(&state.memory, &after.memory, false);
            }
        }
    }

    /// In a batch with longer rows, which pads it, and for any number of threads.
    #[test]
    fn a_row_does_not_see_the_others() {
        let made = Made::new(20, 70, 3, 90);
        let lengths = [90, 33, 2];
        each_way(|backend, bits| {
            let (together, left) = made.pass([0, 3], [0, 90], &lengths, None, backend);
            assert!(together.isfinite().all().int64_value(&[]) == 1);
            let threads = tch::get_num_threads();
            tch::set_num_threads(1);
            for (row, &length) in (0..).zip(&lengths) {
                let n = length as i64;
                let (alone, state) = made.pass([row, 1], [0, n], &[length], None, backend);
                same(&together.narrow(0, row, 1).narrow(1, 0, n), &alone, bits);
                same(&left.memory.narrow(0, row, 1), &state.memory, bits);
                assert_eq!(left.recent.narrow(0, row, 1), state.recent);
            }
            tch::set_num_threads(threads);
        });
    }

    /// A pass over one row, a pass over further tokens of all rows, then token by token.
    #[test]
    fn tokens_one_after_the_other_are_those_of_a_pass() {
        let made = Made::new(16, 40, 2, 80);
        // All rows start with the same tokens.
        for x in [&made.qkv, &made.a, &made.b] {
            x.narrow(0, 1, 1).narrow(1, 0, 2).copy_(&x.narrow(0, 0, 1).narrow(1, 0, 2));
        }
        each_way(|backend, bits| {
            let (want, after) = made.pass([0, 2], [0, 80], &[80, 80], None, backend);
            let (_, begun) = made.pass([0, 1], [0, 2], &[2], None, backend);
            let for_all = |x: &Tensor| x.expand([&[2], &x.size()[1..]].concat(), false).contiguous();
            let begun = State { recent: for_all(&begun.recent), memory: for_all(&begun.memory) };
            let (some, mut state) = made.pass([0, 2], [2, 70], &[70, 70], Some(&begun), backend);
            same(&some, &want.narrow(1, 2, 70), bits);
            for at in 72..80 {
                let (one, next) = made.pass([0, 2], [at, 1], &[1, 1], Some(&state), backend);
                same(&one, &want.narrow(1, at, 1), bits);
                state = next;
            }
            same(&state.memory, &after.memory, bits);
            assert_eq!(state.recent, after.recent);
        });
    }

    /// For training: nothing is computed in place.
    #[test]
    fn gradients_pass() {
        let made = Made::new(8, 8, 1, 5);
        let qkv = made.qkv.copy().set_requires_grad(true);
        let of = Inputs { qkv: &qkv, a: &made.a, b: &made.b };
        let loss = |of: &Inputs| made.delta.forward(of, &[5], Backend::Cpu).sum(Kind::Double);
        loss(&of).backward();
        // A small step along the gradient.
        let grad = qkv.grad();
        let step = 1e-3 / grad.norm().double_value(&[]);
        let moved = |by: f64| {
            let qkv = made.qkv.shallow_clone() + &grad * by;
            loss(&Inputs { qkv: &qkv, a: &made.a, b: &made.b }).double_value(&[])
        };
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        let want = grad.square().sum(Kind::Double).double_value(&[]);
        assert!((slope / want - 1.0).abs() < 1e-2, "{slope} and {want}");
    }
}
