//! Choosing the next token from logits. Each sequence draws from its own counter-based random
//! numbers, so that what it draws depends on its seed and on how far it is, and on nothing else.

use tch::{Kind, Tensor};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Most tokens to add to a prompt.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Draw from this many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the fewest likeliest tokens that reach this probability; 1 for all.
    pub top_p: f64,
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy(max_new_tokens: usize) -> Sampling {
        Sampling { max_new_tokens, temperature: 0.0, top_k: 0, top_p: 1.0 }
    }
}

/// One token a row, `[batch]` int64, from logits `[batch, d_vocab]` in fp32. `uniforms[row]` in
/// `[0, 1)` is the row's place in its cumulative distribution. The order is transformers':
/// temperature, then top-k, then top-p among what is left.
pub fn choose(logits: &Tensor, sampling: &Sampling, uniforms: &[f32]) -> Tensor {
    if sampling.temperature == 0.0 {
        return logits.argmax(-1, false);
    }
    let scaled = logits / sampling.temperature;
    let d_vocab = logits.size()[1];
    let top_k = sampling.top_k as i64;
    let (values, tokens) = match (top_k, sampling.top_p < 1.0) {
        (0, false) => (scaled, None),
        (k, _) if 0 < k && k < d_vocab => {
            let (values, tokens) = scaled.topk(k, -1, true, true);
            (values, Some(tokens))
        }
        _ => {
            let (values, tokens) = scaled.sort_stable(true, -1, true);
            (values, Some(tokens))
        }
    };
    let mut p = values.softmax(-1, Kind::Float);
    if sampling.top_p < 1.0 {
        let before = p.cumsum(-1, Kind::Float) - &p;
        // The likeliest token stays whatever rounding does to the sum before it.
        let keep = before.lt(sampling.top_p).logical_or(&before.le(0.0));
        p *= keep;
    }
    let cumulative = p.cumsum(-1, Kind::Float);
    let total = cumulative.narrow(1, cumulative.size()[1] - 1, 1);
    let target = Tensor::from_slice(uniforms).to_device(logits.device()).unsqueeze(1) * total;
    let chosen = cumulative.le_tensor(&target).sum_dim_intlist(-1, true, Kind::Int64);
    let chosen = chosen.clamp_max(cumulative.size()[1] - 1);
    match tokens {
        Some(tokens) => tokens.gather(-1, &chosen, false).squeeze_dim(1),
        None => chosen.squeeze_dim(1),
    }
}

/// The random number of a sequence's step, in `[0, 1)`: SplitMix64 (Steele, Lea and Flood 2014) of
/// seed and step. 23 bits, so that its product with a total in fp32 stays below the total.
pub fn uniform(seed: u64, step: u64) -> f32 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let z = mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(step.wrapping_add(1).wrapping_mul(GOLDEN)));
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

    /// How often each token of `probabilities` is drawn over 4000 steps of one seed.
    fn frequencies(probabilities: &[f32], sampling: Sampling) -> Vec<f64> {
        let n = 4000;
        let logits = Tensor::from_slice(probabilities).log().unsqueeze(0).repeat([n, 1]);
        let uniforms: Vec<f32> = (0..n as u64).map(|step| uniform(7, step)).collect();
        let drawn: Vec<i64> = choose(&logits, &sampling, &uniforms).try_into().unwrap();
        (0..probabilities.len() as i64)
            .map(|token| drawn.iter().filter(|&&d| d == token).count() as f64 / n as f64)
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

    #[test]
    fn random_numbers_depend_on_seed_and_step() {
        let row = |seed| (0..100).map(|step| uniform(seed, step)).collect::<Vec<_>>();
        assert_eq!(row(1), row(1));
        assert!(row(1).iter().zip(row(2)).all(|(a, b)| *a != b));
        assert!(row(3).iter().all(|u| (0.0..1.0).contains(u)));
    }
}
