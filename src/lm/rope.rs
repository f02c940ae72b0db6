//! Rotary position embedding: frequencies, their scaling, and the rotation. Independent of attention heads.

use super::backend::Backend;
use super::device::send;
use super::spec::{Rope, RopeScaling};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// The frequencies of the rotation, in radians per token.
pub struct Frequencies {
    /// `[dims / 2]`, fp32
    inverse: Tensor,
    /// Frequencies for sequences longer than the original context, and that context, if they differ.
    long: Option<(Tensor, i64)>,
    /// Multiplies cosines and sines.
    amplitude: f64,
}

/// Cosine and sine of the angles at each position.
pub struct Rotation {
    cos: Tensor,
    /// Negated in the first half: the rotation is `x cos + roll(x) sin`.
    sin: Tensor,
}

impl Frequencies {
    /// Computes the frequencies in fp32 on the CPU, as transformers does, then moves them to `device`.
    pub fn new(rope: &Rope, device: Device) -> Frequencies {
        let exponents =
            Tensor::arange_start_step(0, rope.dims as i64, 2, (Kind::Float, Device::Cpu)) / rope.dims as f64;
        let plain = Tensor::pow_scalar(rope.theta, &exponents);
        let wavelengths: Vec<f32> = (0..plain.size()[0]).map(|i| plain.double_value(&[i]) as f32).collect();
        // Pairs that are not rotated have frequency 0.
        let row = |divisors: Option<&[f64]>| {
            let one = |(i, &w): (usize, &f32)| match divisors {
                _ if i >= rope.pairs => 0.0,
                Some(divisors) => 1.0 / (divisors[i] as f32 * w),
                None => scale(1.0 / w, i, &rope.scaling),
            };
            let row: Vec<f32> = wavelengths.iter().enumerate().map(one).collect();
            Tensor::from_slice(&row).to_device(device)
        };
        let (inverse, long) = match &rope.scaling {
            RopeScaling::LongRope { short, long, original_context } => {
                (row(Some(short)), Some((row(Some(long)), *original_context as i64)))
            }
            _ => (row(None), None),
        };
        Frequencies { inverse, long, amplitude: rope.amplitude }
    }

    /// The number of tokens up to which a sequence uses the short frequencies, if longer sequences use others.
    pub fn original_context(&self) -> Option<usize> {
        self.long.as_ref().map(|(_, context)| *context as usize)
    }

    /// Copy on `device`.
    pub fn on(&self, device: Device) -> Frequencies {
        let long = self.long.as_ref().map(|(long, context)| (long.to_device(device), *context));
        Frequencies { inverse: self.inverse.to_device(device), long, ..*self }
    }

    /// Cosine and sine for `positions`, `[1, pos]` or `[batch, pos]`, in fp32, shaped to broadcast with
    /// `[batch, heads, pos, d_head]`. `lengths` are the numbers of tokens in each sequence so far, which determine
    /// whether a sequence is long: one for each row, or for each token if rows are `packed`.
    pub fn at(&self, positions: &Tensor, lengths: &[usize], packed: bool) -> Rotation {
        let positions = positions.unsqueeze(-1).to_kind(Kind::Float);
        let half = match &self.long {
            None => positions * &self.inverse,
            Some((long, context)) => {
                let is_long: Vec<bool> = lengths.iter().map(|&n| n as i64 > *context).collect();
                let shape = if packed { [1, -1, 1] } else { [-1, 1, 1] };
                let is_long = send(&Tensor::from_slice(&is_long), positions.device()).view(shape);
                (&positions * long).where_self(&is_long, &(positions * &self.inverse))
            }
        };
        let half = half.unsqueeze(1);
        let (cos, sin) = (half.cos() * self.amplitude, half.sin() * self.amplitude);
        let twice = |first: &Tensor, second: &Tensor| Tensor::cat(&[first, second], -1);
        Rotation { cos: twice(&cos, &cos), sin: twice(&sin.neg(), &sin) }
    }
}

impl Rotation {
    /// Rotates the leading entries of the heads in `[batch, heads, pos, d_head]`, in fp32 and rounded once.
    pub fn apply(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.rotate(x, &self.cos, &self.sin)
    }
}

/// The frequency of pair `pair` after scaling. `Yarn` follows `_compute_yarn_parameters` of transformers, `Llama3` its
/// `_compute_llama3_parameters`.
fn scale(frequency: f32, pair: usize, scaling: &RopeScaling) -> f32 {
    match *scaling {
        // For LongRope, `Frequencies::new` applies the divisors of each pair instead of calling this.
        RopeScaling::None | RopeScaling::LongRope { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Yarn { factor, first, last } => {
            let stretched = (((pair as f64 - first) / (last - first)) as f32).clamp(0.0, 1.0);
            frequency / factor as f32 * stretched + frequency * (1.0 - stretched)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let wavelength = 2.0 * PI / f64::from(frequency);
            let long = original_context / low_freq_factor;
            let short = original_context / high_freq_factor;
            let f = f64::from(frequency);
            let scaled = if wavelength > long {
                f / factor
            } else if wavelength < short {
                f
            } else {
                let smooth =
                    (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * f / factor + smooth * f
            };
            scaled as f32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_scaling_leaves_short_waves_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        let at_wavelength = |w: f64| (2.0 * PI / w) as f32;
        assert_eq!(scale(at_wavelength(100.0), 0, &scaling), at_wavelength(100.0));
        assert_eq!(scale(at_wavelength(10_000.0), 0, &scaling), at_wavelength(10_000.0) / 8.0);
        // Halfway in 8192 / wavelength between 1 and 4 is 2.5: the mean of f and f / 8.
        let f = at_wavelength(8192.0 / 2.5);
        assert!((scale(f, 0, &scaling) / (f * 0.5625) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn rotation_keeps_norms_and_depends_on_distance_alone() {
        let rope = Rope { theta: 10_000.0, dims: 16, pairs: 8, amplitude: 1.0, scaling: RopeScaling::None };
        let frequencies = Frequencies::new(&rope, Device::Cpu);
        let q = Tensor::randn([1, 1, 1, 16], (Kind::Float, Device::Cpu));
        let k = Tensor::randn([1, 1, 1, 16], (Kind::Float, Device::Cpu));
        let turn = |x: &Tensor, at: i64| {
            let at = frequencies.at(&Tensor::from_slice(&[at]).unsqueeze(0), &[at as usize + 1], false);
            at.apply(x, Backend::Cpu)
        };
        let dot = |a: i64, b: i64| (turn(&q, a) * turn(&k, b)).sum(Kind::Float).double_value(&[]);
        assert!((dot(7, 3) - dot(24, 20)).abs() < 1e-4);
        assert!((turn(&q, 91).norm().double_value(&[]) - q.norm().double_value(&[])).abs() < 1e-5);
    }
}
