//! Selection of the next token from logits. Each sequence has its own counter-based random numbers, so a draw depends
//! only on the sequence's seed and step.

use super::backend::Backend;
use super::device::send;
use anyhow::{Context, Result};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Sampling settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Maximum number of tokens added to a prompt.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 selects the likeliest token.
    pub temperature: f64,
    /// Draw from this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the smallest set of likeliest tokens that reaches this probability; 1 for all.
    pub top_p: f64,
}

impl Sampling {
    /// Always selects the likeliest token.
    pub fn greedy(max_new_tokens: usize) -> Sampling {
        Sampling { max_new_tokens, temperature: 0.0, top_k: 0, top_p: 1.0 }
    }
}

/// Selects one token per row of logits `[batch, d_vocab]` in fp32; `None` for rows that are not all finite.
/// `uniforms(row, try)` in `[0, 1)` are the row's random numbers for this step, of which as many are used as needed.
///
/// As in transformers: temperature, then the `top_k` likeliest tokens (including ties with the last one), then, in
/// order of probability, the tokens preceded by less than `top_p` of the probability. Nothing is sorted: a token is
/// drawn from all and accepted if the tokens likelier than it have a total probability below `top_p`; otherwise it is
/// drawn again. At least `top_p` of the draws are accepted, so this takes a few sums over the vocabulary instead of a
/// sort, and draws from the same distribution.
pub fn choose(
    logits: &Tensor,
    sampling: &Sampling,
    backend: Backend,
    uniforms: &dyn Fn(usize, u64) -> f32,
) -> Result<Vec<Option<i64>>> {
    // A finite sum has finite terms; the converse holds unless they are near the largest number.
    let finite = logits.sum_dim_intlist(-1, false, Kind::Float).isfinite();
    if sampling.temperature == 0.0 {
        return tokens(&logits.argmax(-1, false).where_scalarother(&finite, NOT_FINITE));
    }
    let scaled =
        if sampling.temperature == 1.0 { logits.shallow_clone() } else { logits / sampling.temperature };
    let top_k = sampling.top_k as i64;
    let scaled = match top_k {
        k if 0 < k && k < logits.size()[1] => {
            let least = scaled.topk(k, -1, true, true).0.narrow(1, k - 1, 1);
            scaled.masked_fill(&scaled.lt_tensor(&least), f64::NEG_INFINITY)
        }
        _ => scaled,
    };
    let every = Distribution::new(scaled.softmax(-1, Kind::Float), sampling.top_p, backend);
    let rows: Vec<usize> = (0..logits.size()[0] as usize).collect();
    let at_once = every.tries();
    let drawn = every.draw(&rows, 0..at_once, uniforms).where_scalarother(&finite, NOT_FINITE);
    let mut chosen = tokens_or_none(&drawn)?;
    for round in 1.. {
        let open: Vec<usize> = rows.iter().copied().filter(|&row| chosen[row] == NONE_KEPT).collect();
        if open.is_empty() {
            break;
        }
        let (some, tried) = (every.rows(&open), round * at_once);
        let drawn = match tried < TRIES {
            true => some.draw(&open, tried..tried + at_once, uniforms),
            false => some.draw_sorted(&open, TRIES, uniforms),
        };
        for (&row, token) in open.iter().zip(tokens_or_none(&drawn)?) {
            chosen[row] = token;
        }
    }
    Ok(chosen.into_iter().map(|token| (token != NOT_FINITE).then_some(token)).collect())
}

/// Marks a row whose logits are not finite.
const NOT_FINITE: i64 = -2;
/// Marks a row without an accepted draw.
const NONE_KEPT: i64 = -1;
/// Draws per row before the tokens are sorted instead. With a `top_p` of 0.5 this happens once in 10^7 tokens.
const TRIES: u64 = 24;

fn tokens_or_none(drawn: &Tensor) -> Result<Vec<i64>> {
    Vec::<i64>::try_from(drawn).context("copy drawn tokens")
}

fn tokens(drawn: &Tensor) -> Result<Vec<Option<i64>>> {
    let drawn = tokens_or_none(drawn)?;
    Ok(drawn.into_iter().map(|token| (token != NOT_FINITE).then_some(token)).collect())
}

/// The distribution from which some rows draw.
struct Distribution {
    /// `[batch, d_vocab]`
    p: Tensor,
    /// Cumulative sums of each row.
    cumulative: Tensor,
    top_p: f64,
    backend: Backend,
}

impl Distribution {
    fn new(p: Tensor, top_p: f64, backend: Backend) -> Distribution {
        Distribution { cumulative: backend.cumulative(&p), p, top_p, backend }
    }

    /// Selects some of the rows.
    fn rows(&self, rows: &[usize]) -> Distribution {
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let rows = send(&Tensor::from_slice(&rows), self.p.device());
        let of = |x: &Tensor| x.index_select(0, &rows);
        Distribution { p: of(&self.p), cumulative: of(&self.cumulative), ..*self }
    }

    /// Number of draws before the host checks whether one was accepted: a divisor of [`TRIES`].
    fn tries(&self) -> u64 {
        if self.top_p >= 1.0 { 1 } else { self.backend.draws() }
    }

    /// `[batch]` int64: for each row, whose index for `uniforms` is in `rows`, the first accepted draw among `tries`,
    /// or [`NONE_KEPT`].
    fn draw(&self, rows: &[usize], tries: Range<u64>, uniforms: &dyn Fn(usize, u64) -> f32) -> Tensor {
        let n = (tries.end - tries.start) as i64;
        let u = rows.iter().flat_map(|&row| tries.clone().map(move |attempt| uniforms(row, attempt)));
        let u = send(&Tensor::from_slice(&u.collect::<Vec<f32>>()), self.p.device());
        let u = u.view([rows.len() as i64, n]);
        let drawn = self.at(&self.cumulative, &u);
        if self.top_p >= 1.0 {
            return drawn.squeeze_dim(1);
        }
        let p = self.p.gather(-1, &drawn, false);
        let mut token = Tensor::full([rows.len() as i64], NONE_KEPT, (Kind::Int64, self.p.device()));
        for at in (0..n).rev() {
            // As numbers, so that the probability of likelier tokens is a product of two rows.
            let likelier = self.p.gt_tensor_out(&self.p.empty_like(), &p.narrow(1, at, 1));
            let before = self.p.unsqueeze(1).bmm(&likelier.unsqueeze(2)).view(-1);
            token = drawn.select(1, at).where_self(&before.lt(self.top_p), &token);
        }
        token
    }

    /// Like [`draw`](Self::draw) by sorting, with the random number of one more try, which always yields a token.
    fn draw_sorted(&self, rows: &[usize], attempt: u64, uniforms: &dyn Fn(usize, u64) -> f32) -> Tensor {
        let (p, tokens) = self.p.sort_stable(true, -1, true);
        let before = p.cumsum(-1, Kind::Float) - &p;
        // The likeliest token is kept regardless of rounding in the sum before it.
        let kept = before.lt(self.top_p).logical_or(&before.le(0.0));
        let cumulative = (p * kept).cumsum(-1, Kind::Float);
        let u: Vec<f32> = rows.iter().map(|&row| uniforms(row, attempt)).collect();
        let u = send(&Tensor::from_slice(&u), self.p.device()).unsqueeze(1);
        tokens.gather(-1, &self.at(&cumulative, &u), false).squeeze_dim(1)
    }

    /// The entry at the fraction `u`, `[batch, n]`, of the total of `cumulative`; its probability is above 0.
    fn at(&self, cumulative: &Tensor, u: &Tensor) -> Tensor {
        let last = cumulative.size()[1] - 1;
        let target = u * cumulative.narrow(1, last, 1);
        target.contiguous().searchsorted::<&Tensor>(cumulative, false, true, "right", None).clamp_max(last)
    }
}

/// The random number of a try at a sequence's step, in `[0, 1)`: SplitMix64 (Steele, Lea and Flood 2014) of seed, step
/// and try. 23 bits, so that its product with a total in fp32 stays below the total.
pub fn uniform(seed: u64, step: u64, attempt: u64) -> f32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = |z: u64, n: u64| mix(z.wrapping_add(n.wrapping_mul(GOLDEN)));
    let z = next(next(next(seed, 1), step.wrapping_add(1)), attempt);
    (z >> 41) as f32 / (1u32 << 23) as f32
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frequency of each token of `probabilities` over 4000 steps with one seed.
    fn frequencies(probabilities: &[f32], sampling: Sampling) -> Vec<f64> {
        let n = 4000;
        let logits = Tensor::from_slice(probabilities).log().unsqueeze(0).repeat([n, 1]);
        let uniforms = |step: usize, attempt: u64| uniform(7, step as u64, attempt);
        let drawn = choose(&logits, &sampling, Backend::Cpu, &uniforms).unwrap();
        (0..probabilities.len() as i64)
            .map(|token| drawn.iter().filter(|&&d| d == Some(token)).count() as f64 / n as f64)
            .collect()
    }

    #[track_caller]
    fn check(sampling: Sampling, expected: &[f64]) {
        let got = frequencies(&[0.1, 0.4, 0.2, 0.3], sampling);
        for (g, e) in got.iter().zip(expected) {
            // Three standard deviations of a count out of 4000.
            assert!((g - e).abs() < 0.024 && (*e > 0.0 || *g == 0.0), "{got:?}, expected {expected:?}");
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let all = Sampling { max_new_tokens: 1, temperature: 1.0, top_k: 0, top_p: 1.0 };
        check(all, &[0.1, 0.4, 0.2, 0.3]);
        check(Sampling { top_k: 2, ..all }, &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        check(Sampling { top_p: 0.75, ..all }, &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]);
        check(Sampling { top_p: 1e-9, ..all }, &[0.0, 1.0, 0.0, 0.0]);
        check(Sampling { top_k: 3, top_p: 0.5, ..all }, &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        // Probabilities squared and renormalised: 1, 16, 4, 9 of 30.
        check(Sampling { temperature: 0.5, ..all }, &[1.0 / 30.0, 16.0 / 30.0, 4.0 / 30.0, 9.0 / 30.0]);
        check(Sampling::greedy(1), &[0.0, 1.0, 0.0, 0.0]);
    }

    /// The same token results from single draws, several draws at once, and sorting if only one can be accepted.
    #[test]
    fn the_first_draw_that_is_kept_counts() {
        let logits = Tensor::from_slice(&[0.1f32, 0.4, 0.2, 0.3]).log().unsqueeze(0);
        let distribution = Distribution::new(logits.softmax(-1, Kind::Float), 0.5, Backend::Cpu);
        // Cumulative sums .1 .5 .7 1: the draws are tokens 0, 2, 3, 1; of these, 3 is the first with less than .5
        // likelier than it.
        let uniforms = |_: usize, attempt: u64| [0.05, 0.6, 0.8, 0.3][attempt as usize];
        let drawn = |tries: Range<u64>| distribution.draw(&[0], tries, &uniforms).int64_value(&[0]);
        assert_eq!(drawn(0..4), 3);
        assert_eq!([drawn(0..1), drawn(1..2), drawn(2..3)], [NONE_KEPT, NONE_KEPT, 3]);
        // Sorted: .4 and .3 are kept, so .6 of .7 is the second.
        assert_eq!(distribution.draw_sorted(&[0], 1, &uniforms).int64_value(&[0]), 3);
        assert_eq!(distribution.draw_sorted(&[0], 3, &uniforms).int64_value(&[0]), 1);
    }

    #[test]
    fn logits_that_are_not_finite_give_no_token() {
        let logits =
            Tensor::from_slice(&[0.0f32, f32::NAN, 0.0, 1.0, f32::INFINITY, 0.0, 1.0, 0.0]).view([4, 2]);
        for sampling in
            [Sampling::greedy(1), Sampling { temperature: 0.7, top_p: 0.9, ..Sampling::greedy(1) }]
        {
            let drawn = choose(&logits, &sampling, Backend::Cpu, &|_, _| 0.1).unwrap();
            assert_eq!(drawn.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
        }
    }

    #[test]
    fn random_numbers_depend_on_seed_and_step() {
        let row = |seed, attempt| (0..100).map(|step| uniform(seed, step, attempt)).collect::<Vec<_>>();
        assert_eq!(row(1, 0), row(1, 0));
        for other in [row(2, 0), row(1, 1), row(2, 1)] {
            assert!(row(1, 0).iter().zip(&other).all(|(a, b)| a != b));
        }
        assert!(row(3, 0).iter().all(|u| (0.0..1.0).contains(u)));
    }
}
