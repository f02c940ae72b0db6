//! The gated delta rule, token by token, and the short convolution before it. Independent of layers and caches.
//!
//! The state of a head fits in the inner caches, so two passes over it per token cost less than the chunks that turn
//! the rule into products of large matrices; and step-by-step generation has the same bits as a full pass.

use super::lanes::{Kernel, Lanes, Registers, exp};
use super::pool::{self, Place, Source};
use super::rows::{Rows, each, place, source};
use super::{DeltaInputs, assert_plain};
use crate::lm::spec::DeltaHeads;
use tch::{Device, Kind, Tensor};

/// Causal convolution: each entry of `x`, `[batch, pos, channels]`, becomes the sum of itself and the preceding
/// entries of the same channel, weighted by `weight`, `[kernel, channels]`, whose last row is for the token itself;
/// then `x sigmoid(x)` of the sum. The tokens before the first are those of `before`, `[batch, kernel - 1, channels]`,
/// or zeros.
pub fn convolve(on: Registers, x: &Tensor, before: Option<&Tensor>, weight: &Tensor) -> Tensor {
    let [batch, pos, channels] = sizes(x);
    let kernel = weight.size()[0] as usize;
    [Some(x), before, Some(weight)].into_iter().flatten().for_each(assert_plain);
    let (x, before, weight) = (&x.contiguous(), before.map(Tensor::contiguous), &weight.contiguous());
    let before = before.as_ref();
    assert_eq!(weight.size(), [kernel, channels].map(|n| n as i64));
    assert!(before.is_none_or(|before| sizes(before) == [batch, kernel - 1, channels]), "tokens before");
    let y = x.empty_like();
    let of = Convolve {
        x: source(x),
        before: before.map(source),
        weight: source(weight),
        kernel,
        pos,
        channels,
        y: place(&y),
    };
    each(on, x, channels, &of);
    y
}

struct Convolve {
    x: Source<f32>,
    before: Option<Source<f32>>,
    weight: Source<f32>,
    kernel: usize,
    pos: usize,
    channels: usize,
    y: Place,
}

impl Rows for Convolve {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        let (batch, pos, past) = (row / self.pos, row % self.pos, self.kernel - 1);
        for at in (0..self.channels).step_by(L::N) {
            let left = self.channels - at;
            // SAFETY: the caller's guarantees.
            unsafe {
                let mut sum = L::splat(0.0);
                for tap in 0..self.kernel {
                    let token = match ((pos + tap).checked_sub(past), self.before) {
                        (Some(there), _) => self.x.0.add((batch * self.pos + there) * self.channels),
                        (None, Some(before)) => before.0.add((batch * past + pos + tap) * self.channels),
                        (None, None) => continue,
                    };
                    let weight = L::load_some(self.weight.0.add(tap * self.channels + at), left);
                    sum = L::load_some(token.add(at), left).mul_add(weight, sum);
                }
                let open = sum.div(L::splat(1.0).add(exp(sum.mul(L::splat(-1.0)))));
                open.store_some(self.y.0.add(row * self.channels + at), left);
            }
        }
    }
}

/// What each value head reads, `[batch, pos, n_v_heads, d_v]`, from its state `memory`,
/// `[batch, n_v_heads, d_k, d_v]`, which is updated in place to the state after each row's last token: a row ends
/// after its `lengths`, and its outputs are zero from there on. Without a `memory` the state begins with zeros and is
/// discarded. See [`GatedDelta`](crate::lm::gated_delta::GatedDelta) for the rule.
pub fn delta_rule(
    on: Registers,
    of: &DeltaInputs,
    heads: DeltaHeads,
    lengths: &[usize],
    memory: Option<&Tensor>,
) -> Tensor {
    let DeltaHeads { n_k_heads, n_v_heads, d_k, d_v, .. } = heads;
    let all = [of.qkv, of.a, of.b, of.a_log, of.dt_bias].into_iter().chain(memory);
    all.for_each(|x| {
        assert_plain(x);
        // The state is updated in place.
        assert!(x.is_contiguous(), "numbers one after the other");
    });
    let [batch, pos, channels] = sizes(of.qkv);
    let gates = [batch, pos, n_v_heads];
    assert!(channels == heads.channels() && n_v_heads.is_multiple_of(n_k_heads), "heads that fit");
    assert!(sizes(of.a) == gates && sizes(of.b) == gates, "numbers for each head");
    assert!(of.a_log.numel() == n_v_heads && of.dt_bias.numel() == n_v_heads, "numbers for each head");
    let shape = [batch, n_v_heads, d_k, d_v].map(|n| n as i64);
    assert!(memory.is_none_or(|memory| memory.size() == shape), "a memory for each head");
    assert!(lengths.len() == batch && lengths.iter().all(|&length| length <= pos), "a length for each row");
    let z = Tensor::zeros([batch, pos, n_v_heads, d_v].map(|n| n as i64), (Kind::Float, Device::Cpu));
    let rule = Rule {
        qkv: source(of.qkv),
        a: source(of.a),
        b: source(of.b),
        a_log: source(of.a_log),
        dt_bias: source(of.dt_bias),
        eps: of.eps as f32,
        heads,
        pos,
        lengths,
        memory: memory.map(place),
        z: place(&z),
    };
    let part = |at: usize| on.run(&Head { of: &rule, row: at / n_v_heads, head: at % n_v_heads });
    let tokens: usize = lengths.iter().sum();
    pool::run(7 * tokens * n_v_heads * d_k * d_v, batch * n_v_heads, &part);
    z
}

fn sizes(x: &Tensor) -> [usize; 3] {
    x.size().try_into().map(|sizes: [i64; 3]| sizes.map(|n| n as usize)).expect("three axes")
}

struct Rule<'a> {
    qkv: Source<f32>,
    a: Source<f32>,
    b: Source<f32>,
    a_log: Source<f32>,
    dt_bias: Source<f32>,
    eps: f32,
    heads: DeltaHeads,
    pos: usize,
    lengths: &'a [usize],
    memory: Option<Place>,
    z: Place,
}

/// One value head of one row.
struct Head<'a> {
    of: &'a Rule<'a>,
    row: usize,
    head: usize,
}

/// Tokens that are processed with one part of the state before the next part.
const TOGETHER: usize = 32;

/// Values of a block of tokens that all parts of the state need.
struct Tokens {
    /// Normalised and scaled queries, `[tokens, d_k]`.
    q: Vec<f32>,
    /// Normalised keys, `[tokens, d_k]`.
    k: Vec<f32>,
    /// One per token.
    each: Vec<Token>,
}

/// A range of columns of a head's state, and the tokens to process with them.
struct Part {
    /// Pointer to the first of the columns.
    memory: *mut f32,
    column: usize,
    from: usize,
    to: usize,
}

#[derive(Clone, Copy, Default)]
struct Token {
    /// Factor by which the state decays.
    decay: f32,
    /// Fraction of the update that is written.
    rate: f32,
    /// Product of the token's query and key.
    qk: f32,
}

impl Kernel for Head<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let DeltaHeads { d_k, d_v, .. } = self.of.heads;
        let room = || vec![0.0; TOGETHER * d_k];
        let mut tokens = Tokens { q: room(), k: room(), each: vec![Token::default(); TOGETHER] };
        let mut room = Vec::new();
        let mut forgotten = Vec::new();
        let memory = match self.of.memory {
            // SAFETY: there is a state for each head.
            Some(Place(all)) => unsafe {
                all.add((self.row * self.of.heads.n_v_heads + self.head) * d_k * d_v)
            },
            None => {
                forgotten.resize(d_k * d_v, 0.0);
                forgotten.as_mut_ptr()
            }
        };
        let length = self.of.lengths[self.row];
        for from in (0..length).step_by(TOGETHER) {
            let to = length.min(from + TOGETHER);
            // SAFETY: there are that many tokens and columns, and the caller guarantees the instructions.
            unsafe {
                self.prepare::<L>(from, to, &mut tokens);
                let mut column = 0;
                while column < d_v {
                    let to = Part { memory: memory.add(column), column, from, to };
                    column += match (d_v - column) / L::N {
                        0 | 1 => self.columns::<L, 1>(&to, &tokens, &mut room),
                        2 | 3 => self.columns::<L, 2>(&to, &tokens, &mut room),
                        _ => self.columns::<L, 4>(&to, &tokens, &mut room),
                    };
                }
            }
        }
    }
}

impl Head<'_> {
    /// Pointer to the channels of a token.
    unsafe fn token(&self, at: usize) -> *const f32 {
        unsafe { self.of.qkv.0.add((self.row * self.of.pos + at) * self.of.heads.channels()) }
    }

    #[inline(always)]
    unsafe fn prepare<L: Lanes>(&self, from: usize, to: usize, tokens: &mut Tokens) {
        let Rule { heads, eps, .. } = *self.of;
        let (d_k, of_k) = (heads.d_k, heads.n_k_heads * heads.d_k);
        let key_head = self.head / (heads.n_v_heads / heads.n_k_heads) * d_k;
        // SAFETY: the caller's guarantees.
        unsafe {
            let bias = f64::from(*self.of.dt_bias.0.add(self.head));
            let scale = f64::from(*self.of.a_log.0.add(self.head)).exp();
            for (at, token) in (from..to).zip(&mut tokens.each) {
                let channels = self.token(at).add(key_head);
                let row = (at - from) * d_k..(at - from + 1) * d_k;
                let (q, k) = (&mut tokens.q[row.clone()], &mut tokens.k[row]);
                normalize::<L>(channels, q, eps, 1.0 / (d_k as f32).sqrt());
                normalize::<L>(channels.add(of_k), k, eps, 1.0);
                let gate = (self.row * self.of.pos + at) * heads.n_v_heads + self.head;
                let step = f64::from(*self.of.a.0.add(gate)) + bias;
                let softplus = step.max(0.0) + (-step.abs()).exp().ln_1p();
                *token = Token {
                    decay: (-scale * softplus).exp() as f32,
                    rate: (1.0 / (1.0 + (-f64::from(*self.of.b.0.add(gate))).exp())) as f32,
                    qk: dot::<L>(q, k),
                };
            }
        }
    }

    /// Processes tokens with `C` registers of the state's columns; returns the number of columns.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const C: usize>(
        &self,
        of: &Part,
        tokens: &Tokens,
        room: &mut Vec<f32>,
    ) -> usize {
        let Part { memory, column, from, to } = *of;
        let DeltaHeads { n_k_heads, n_v_heads, d_k, d_v, .. } = self.of.heads;
        let left = d_v - column;
        room.resize(room.len().max(d_k * C * L::N), 0.0);
        let part = room.as_mut_ptr();
        // SAFETY: the caller's guarantees.
        unsafe {
            // Contiguous, so that they fit the L1 cache whatever the stride between the rows.
            for row in 0..d_k {
                for c in 0..C {
                    let kept = L::load_some(memory.add(row * d_v + c * L::N), left - c * L::N);
                    kept.store(part.add((row * C + c) * L::N));
                }
            }
            for at in from..to {
                let Token { decay, rate, qk } = tokens.each[at - from];
                let (q, k) =
                    (tokens.q.as_ptr().add((at - from) * d_k), tokens.k.as_ptr().add((at - from) * d_k));
                let (mut read, mut known) = ([L::splat(0.0); C], [L::splat(0.0); C]);
                for row in 0..d_k {
                    let (q, k) = (L::splat(*q.add(row)), L::splat(*k.add(row)));
                    for c in 0..C {
                        let kept = L::load(part.add((row * C + c) * L::N));
                        read[c] = q.mul_add(kept, read[c]);
                        known[c] = k.mul_add(kept, known[c]);
                    }
                }
                let value = self.token(at).add(2 * n_k_heads * d_k + self.head * d_v + column);
                let z = ((self.row * self.of.pos + at) * n_v_heads + self.head) * d_v + column;
                let new: [L; C] = std::array::from_fn(|c| {
                    let value = L::load_some(value.add(c * L::N), left - c * L::N);
                    known[c].mul_add(L::splat(-decay), value).mul(L::splat(rate))
                });
                for c in 0..C {
                    let z = self.of.z.0.add(z + c * L::N);
                    let read = new[c].mul_add(L::splat(qk), read[c].mul(L::splat(decay)));
                    read.store_some(z, left - c * L::N);
                }
                for row in 0..d_k {
                    let k = L::splat(*k.add(row));
                    for (c, new) in new.iter().enumerate() {
                        let kept = part.add((row * C + c) * L::N);
                        k.mul_add(*new, L::load(kept).mul(L::splat(decay))).store(kept);
                    }
                }
            }
            for row in 0..d_k {
                for c in 0..C {
                    let kept = L::load(part.add((row * C + c) * L::N));
                    kept.store_some(memory.add(row * d_v + c * L::N), left - c * L::N);
                }
            }
        }
        C * L::N
    }
}

/// `from`, with the length of `to`, normalised and multiplied by `scale`.
#[inline(always)]
unsafe fn normalize<L: Lanes>(from: *const f32, to: &mut [f32], eps: f32, scale: f32) {
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut squares = L::splat(0.0);
        for at in (0..to.len()).step_by(L::N) {
            let x = L::load_some(from.add(at), to.len() - at);
            squares = x.mul_add(x, squares);
        }
        let scale = L::splat(scale / (squares.sum() + eps).sqrt());
        for at in (0..to.len()).step_by(L::N) {
            let left = to.len() - at;
            L::load_some(from.add(at), left).mul(scale).store_some(to.as_mut_ptr().add(at), left);
        }
    }
}

#[inline(always)]
unsafe fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut sum = L::splat(0.0);
        for at in (0..a.len()).step_by(L::N) {
            let left = a.len() - at;
            let part = |of: &[f32]| L::load_some(of.as_ptr().add(at), left);
            sum = part(a).mul_add(part(b), sum);
        }
        sum.sum()
    }
}
