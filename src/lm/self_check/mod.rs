//! Checks whether a device computes correctly: a small model is run on it, and the results are compared with those
//! computed by definition. Devices other than the CPU are checked before a model is loaded on them, once per machine,
//! driver, libtorch and dtype. Independent of what the device is used for.

mod model;
mod remembered;

use super::backend::Backend;
use super::batch::Batch;
use super::cache::Cache;
use super::decoder::Decoder;
use super::device::{fetch, send};
use super::layer::Layer;
use super::spec::Dtype;
use super::{libtorch, shortage::Shortage};
use crate::lm::panics;
use anyhow::{Result, anyhow, ensure};
use model::{LAYERS, SmallModel};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::{Device, Kind, Tensor};

pub use remembered::{known, run_and_remember};

/// Incremented when the check becomes stricter, so that earlier results are not reused.
const VERSION: u32 = 1;

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The largest relative difference of a token's residual stream or logits from their values by definition, at the
    /// place where it is largest relative to the allowed one. For NaN or infinity: the largest finite number.
    pub error: f64,
    /// The relative difference that rounding explains at that place.
    pub allowed: f64,
    /// Description of the place.
    pub place: String,
}

impl Found {
    /// Whether the device computes correctly.
    pub fn is_right(&self) -> bool {
        self.error <= self.allowed
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Found { error, allowed, place } = self;
        match *error < f64::MAX {
            true => {
                write!(f, "off by {error:.1e} of the size, where rounding explains {allowed:.1e} ({place})")
            }
            false => write!(f, "not finite ({place})"),
        }
    }
}

/// Refuses a device that does not compute correctly in `dtype`. The CPU is not checked. A previous result of this
/// machine, with this libtorch and driver, is reused.
///
/// # Errors
/// The difference found, with the numbers; a check that could not be run.
pub fn ensure_right(device: Device, backend: Backend, dtype: Dtype) -> Result<()> {
    if backend.is_cpu() {
        return Ok(());
    }
    let found = match known(device, backend, dtype) {
        Some(found) => found,
        None => run_and_remember(device, backend, dtype)?,
    };
    let name = remembered::shown(device);
    ensure!(
        found.is_right(),
        "{name} computes wrong numbers in {}: a small model is {found}. Nothing is computed with it: take another device \
         (`--device cpu`), another `dtype` or `compute_dtype`, or another driver. `emoflow doctor --check` runs this check \
         again",
        dtype.name()
    );
    Ok(())
}

/// Runs the check.
///
/// # Errors
/// Errors of libtorch, if it cannot compute this at all; too little memory.
pub fn run(device: Device, backend: Backend, dtype: Dtype) -> Result<Found> {
    let check = || -> Result<Found> {
        let _no_grad = tch::no_grad_guard();
        let mut worst = None;
        // Gemma 2 caps its scores at 50; here the scores are smaller.
        for cap in [None, Some(4.0)] {
            compare(&SmallModel::new(&LAYERS, cap)?, device, backend, dtype, &mut worst)?;
        }
        worst.ok_or_else(|| anyhow!("nothing was compared"))
    };
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panics::said(&*panic);
        match Shortage::of(&*panic) {
            Some(shortage) => Err(shortage.into()),
            None => Err(anyhow!(
                "the check of {} in {}: {}",
                remembered::shown(device),
                dtype.name(),
                libtorch::said(text.unwrap_or("a panic"))
            )),
        }
    })
}

/// The relative difference that rounding in `layers` blocks explains.
///
/// A rounding changes a number by at most `u` of its size, the dtype's unit roundoff, and n independent roundings by
/// about √n u (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"). In half precision a
/// block rounds 16 numbers on each path: norm, query, key and both rotated, value, attention weight, attention output,
/// its projection, sum; norm, gate, its activation, up, product, down and sum. In fp32 the terms of products count as
/// well; the longest product has 2048. The total is multiplied by SCORES, because the relative error of an attention
/// weight is the absolute error of its score, which is proportional to the score, and scores are up to about 4.
fn allowed(dtype: Dtype, layers: usize) -> f64 {
    const SCORES: f64 = 4.0;
    let (bits, roundings) = match dtype {
        Dtype::F32 => (24, 2048),
        Dtype::F16 => (11, 16),
        Dtype::Bf16 => (8, 16),
    };
    SCORES * ((roundings * layers) as f64).sqrt() * f64::from(-bits).exp2()
}

/// Synchronising threads would take longer than these products.
fn on_one_thread<T>(work: impl FnOnce() -> T) -> T {
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let done = work();
    tch::set_num_threads(threads);
    done
}

/// Tokens of text number `which`. The first [`SHARED`] are the same in all texts.
fn text(which: u64, length: usize) -> Vec<i64> {
    let token = |at: usize| {
        let seed = if at < SHARED { 0 } else { which + 1 };
        (super::sample::uniform(seed, at as u64, 1) * 97.0) as i64
    };
    (0..length).map(token).collect()
}

/// Number of tokens shared at the beginning of all texts.
const SHARED: usize = 30;
/// Number of tokens that are added one by one.
const STEPS: usize = 3;

/// Runs `small` in every way in which texts are processed: as a batch of unequal lengths, padded and, where the backend
/// does so, packed; after a shared prefix that is computed once; and token by token.
fn compare(
    small: &SmallModel,
    device: Device,
    backend: Backend,
    dtype: Dtype,
    worst: &mut Option<Found>,
) -> Result<()> {
    let kind = dtype.kind();
    let weights =
        small.weights.iter().map(|(name, weight)| (name.clone(), send(&weight.to_kind(kind), device)));
    let mut decoder = Decoder::from_tensors(&small.spec, &mut weights.collect::<HashMap<_, _>>())?;
    decoder.set_backend(backend);
    for (lengths, shared) in [([90, 5, 66], 0), ([38, 93, 51], SHARED)] {
        let texts = [0, 1, 2].map(|which| text(which, lengths[which as usize]));
        let want = on_one_thread(|| [0, 1, 2].map(|which| small.by_definition(&texts[which])));
        let prompts = lengths.map(|length| length - STEPS);
        let mut cache = Cache::new(&small.spec, &prompts, 96, kind, device, backend);
        let mut pass = |cache: Option<&Cache>, batch: Batch, from: &[usize], how: &str| {
            let ends: Vec<usize> = from.iter().zip(&batch.lengths).map(|(from, n)| from + n).collect();
            let mut seen = Vec::new();
            let resid =
                decoder.run(&send(&batch.ids, device), &ends, cache, decoder.last(), &mut |layer, resid| {
                    if layer != Layer::Embed {
                        seen.push(resid.shallow_clone());
                    }
                    resid
                });
            seen.push(decoder.unembed(&resid));
            for (layer, got) in seen.iter().enumerate() {
                let got = fetch(got).to_kind(Kind::Double);
                for (row, &from) in from.iter().enumerate() {
                    let want = want[row][layer].narrow(0, from as i64, batch.lengths[row] as i64);
                    let place = Place { layer, row, from, how, capped: small.spec.attention_cap.is_some() };
                    place.compare(&batch.row(&got, row), &want, dtype, worst);
                }
            }
        };
        if shared == 0 && decoder.packs() {
            pass(None, Batch::packed(&texts)?, &[0; 3], "texts one after another");
        }
        if shared > 0 {
            let beginning = Batch::new(&[&texts[0][..shared]])?;
            pass(Some(&cache), beginning, &[0], "the beginning of all texts");
            cache.go_on(shared, prompts.into_iter().max().unwrap_or(0) - shared);
        }
        let rest = [0, 1, 2].map(|which| &texts[which][shared..prompts[which]]);
        let how = if shared > 0 { "after a shared beginning" } else { "texts at once" };
        pass(Some(&cache), Batch::new(&rest)?, &[shared; 3], how);
        for step in 0..STEPS {
            cache.advance();
            let at = prompts.map(|prompt| prompt + step);
            let tokens = [0, 1, 2].map(|which| &texts[which][at[which]..=at[which]]);
            pass(Some(&cache), Batch::new(&tokens)?, &at, "token by token");
        }
    }
    Ok(())
}

/// The place of a comparison.
struct Place<'a> {
    layer: usize,
    row: usize,
    from: usize,
    how: &'a str,
    capped: bool,
}

impl Place<'_> {
    /// Replaces `worst` if the worst token of `got` is worse; both are `[pos, width]` in float64.
    fn compare(&self, got: &Tensor, want: &Tensor, dtype: Dtype, worst: &mut Option<Found>) {
        let size = |x: &Tensor| (x * x).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).sqrt();
        let errors = size(&(got - want)) / size(want);
        let errors: Vec<f64> = Vec::try_from(&errors).unwrap_or_default();
        let allowed = allowed(dtype, LAYERS.len().min(self.layer + 1));
        for (at, error) in errors.into_iter().enumerate() {
            let error = if error.is_finite() { error } else { f64::MAX };
            if worst.as_ref().is_none_or(|worst| error / allowed > worst.error / worst.allowed) {
                *worst = Some(Found { error, allowed, place: self.shown(at) });
            }
        }
    }

    fn shown(&self, at: usize) -> String {
        let token = self.from + at;
        let what = match LAYERS.get(self.layer) {
            None => "logits".to_string(),
            Some(of) => {
                let window = of.window.map_or(String::new(), |window| format!(", window of {window}"));
                format!(
                    "layer {}: heads of {}, {} of keys for 4 of queries{window}",
                    self.layer, of.d_head, of.n_kv_heads
                )
            }
        };
        let capped = if self.capped { ", bounded scores" } else { "" };
        format!("{what}{capped}; token {token} of text {}, {}", self.row, self.how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In every dtype, with every CPU backend.
    #[test]
    fn every_backend_computes_what_it_should() {
        for backend in Backend::all(Device::Cpu) {
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
                let begun = std::time::Instant::now();
                let found = run(Device::Cpu, backend, dtype).unwrap();
                println!(
                    "{} {}: {found}, {:.2} s",
                    backend.name(),
                    dtype.name(),
                    begun.elapsed().as_secs_f64()
                );
                assert!(found.is_right(), "{} {}: {found}", backend.name(), dtype.name());
            }
        }
    }
}
