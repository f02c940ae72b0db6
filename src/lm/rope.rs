//! Rotary position embedding: frequencies, their scaling, and the rotation. Knows nothing of heads.

use super::spec::{Rope, RopeScaling};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// The rotation's frequencies, in radians a token.
pub struct Frequencies {
    /// `[d_head / 2]`, fp32
    inverse: Tensor,
}

/// Cosine and sine of each position's angles.
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Frequencies {
    /// The frequencies for heads of width `d_head`, computed in fp32 on the CPU as transformers
    /// does, then moved to `device`.
    pub fn new(rope: &Rope, d_head: usize, device: Device) -> Frequencies {
        let exponents =
            Tensor::arange_start_step(0, d_head as i64, 2, (Kind::Float, Device::Cpu)) / d_head as f64;
        let plain = Tensor::pow_scalar(rope.theta, &exponents).reciprocal();
        let plain: Vec<f32> = (0..plain.size()[0]).map(|i| plain.double_value(&[i]) as f32).collect();
        let scaled: Vec<f32> = plain.into_iter().map(|f| scale(f, &rope.scaling)).collect();
        Frequencies { inverse: Tensor::from_slice(&scaled).to_device(device) }
    }

    /// Cosine and sine for `positions` (`[pos]`, or `[batch, 1, pos]` where rows differ), shaped to
    /// meet `[batch, heads, pos, d_head]`. The angles are fp32; the result is rounded to `kind`.
    pub fn at(&self, positions: &Tensor, kind: Kind) -> Rotation {
        let half = positions.unsqueeze(-1).to_kind(Kind::Float) * &self.inverse;
        let angles = Tensor::cat(&[&half, &half], -1);
        Rotation { cos: angles.cos().to_kind(kind), sin: angles.sin().to_kind(kind) }
    }
}

impl Rotation {
    /// Rotates `[batch, heads, pos, d_head]`; entry `i` of a head is paired with `i + d_head / 2`.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, -1);
        let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
        x * &self.cos + turned * &self.sin
    }
}

/// One frequency after scaling. `Llama3` is transformers' `_compute_llama3_parameters`.
fn scale(frequency: f32, scaling: &RopeScaling) -> f32 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
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
        assert_eq!(scale(at_wavelength(100.0), &scaling), at_wavelength(100.0));
        assert_eq!(scale(at_wavelength(10_000.0), &scaling), at_wavelength(10_000.0) / 8.0);
        // Halfway in 8192 / wavelength between 1 and 4 is 2.5: the mean of f and f / 8.
        let f = at_wavelength(8192.0 / 2.5);
        assert!((scale(f, &scaling) / (f * 0.5625) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn rotation_keeps_norms_and_depends_on_distance_alone() {
        let rope = Rope { theta: 10_000.0, scaling: RopeScaling::None };
        let frequencies = Frequencies::new(&rope, 16, Device::Cpu);
        let q = Tensor::randn([1, 1, 1, 16], (Kind::Float, Device::Cpu));
        let k = Tensor::randn([1, 1, 1, 16], (Kind::Float, Device::Cpu));
        let turn = |x: &Tensor, at: i64| frequencies.at(&Tensor::from_slice(&[at]), Kind::Float).apply(x);
        let dot = |a: i64, b: i64| (turn(&q, a) * turn(&k, b)).sum(Kind::Float).double_value(&[]);
        assert!((dot(7, 3) - dot(24, 20)).abs() < 1e-4);
        assert!((turn(&q, 91).norm().double_value(&[]) - q.norm().double_value(&[])).abs() < 1e-5);
    }
}
