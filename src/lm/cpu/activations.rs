//! Element-wise activations of an MLP, in one pass over memory where libtorch takes several. Independent of the linear
//! maps around them.

use super::assert_plain;
use super::lanes::{Lanes, Registers, exp};
use super::pool::{Place, Source};
use super::rows::{Rows, each, in_and_out, place, source};
use crate::lm::spec::Activation;
use tch::Tensor;

/// `activation` of `x`.
pub fn activated(on: Registers, activation: Activation, x: &Tensor) -> Tensor {
    compute(on, activation, x, None)
}

/// `activation` of `x`, times `up`, which has the same shape.
pub fn gated(on: Registers, activation: Activation, x: &Tensor, up: &Tensor) -> Tensor {
    assert_eq!(x.size(), up.size());
    compute(on, activation, x, Some(&up.contiguous()))
}

fn compute(on: Registers, activation: Activation, x: &Tensor, up: Option<&Tensor>) -> Tensor {
    let (x, y, width) = in_and_out(&x.contiguous());
    up.into_iter().for_each(assert_plain);
    each(on, &x, width, &Inner { activation, x: source(&x), up: up.map(source), width, y: place(&y) });
    y
}

struct Inner {
    activation: Activation,
    x: Source<f32>,
    up: Option<Source<f32>>,
    width: usize,
    y: Place,
}

impl Rows for Inner {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        let begin = row * self.width;
        for at in (0..self.width).step_by(L::N) {
            let left = self.width - at;
            unsafe {
                let x = L::load_some(self.x.0.add(begin + at), left);
                let mut y = match self.activation {
                    Activation::Silu => by_sigmoid(x, x),
                    Activation::Gelu => gelu(x),
                    // 2 sqrt(2 / pi) (x + 0.044715 x^3), as (1 + tanh(u)) / 2 is the sigmoid of 2u.
                    Activation::GeluTanh => {
                        let cube = x.mul(x).mul(x);
                        let double = 2.0 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                        by_sigmoid(x, cube.mul_add(L::splat(0.044_715), x).mul(L::splat(double)))
                    }
                    Activation::GeluSigmoid => by_sigmoid(x, x.mul(L::splat(1.702))),
                    // NaN stays NaN.
                    Activation::Relu => L::splat(0.0).max(x),
                    Activation::Sigmoid => by_sigmoid(L::splat(1.0), x),
                };
                if let Some(up) = self.up {
                    y = y.mul(L::load_some(up.0.add(begin + at), left));
                }
                y.store_some(self.y.0.add(begin + at), left);
            }
        }
    }
}

/// `x` times the sigmoid of `of`.
#[inline(always)]
unsafe fn by_sigmoid<L: Lanes>(x: L, of: L) -> L {
    // SAFETY: the caller's guarantees.
    unsafe { x.div(L::splat(1.0).add(exp(of.mul(L::splat(-1.0))))) }
}

/// `max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2`, which equals `x (1 + erf(x / sqrt(2))) / 2` without its loss of digits
/// below 0. The complementary error function is formula 7.1.26 of Abramowitz and Stegun's Handbook of Mathematical
/// Functions, accurate to 1.5e-7.
#[inline(always)]
unsafe fn gelu<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's guarantees.
    unsafe {
        let negative = x.mul(L::splat(-1.0));
        let size = x.max(negative);
        let z = size.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = L::splat(1.0).div(z.mul_add(L::splat(0.327_591_1), L::splat(1.0)));
        let mut p = L::splat(1.061_405_4);
        for term in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
            p = p.mul_add(t, L::splat(term));
        }
        let half = p.mul(t).mul(exp(z.mul(z).mul(L::splat(-1.0)))).mul(L::splat(-0.5));
        size.mul_add(half, x.max(L::splat(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;
    use tch::Kind;

    #[track_caller]
    fn check(got: Tensor, want: Tensor) {
        assert_eq!(got.size(), want.size());
        let error = (got.to_kind(Kind::Double) - &want).abs().max() / want.abs().max();
        assert!(error.double_value(&[]) < 1e-6, "{error:?}");
    }

    /// Compared with their definitions in fp64.
    #[test]
    fn activations_are_right() {
        for on in Registers::here() {
            let ends = Tensor::from_slice(&[-300f32, -90.0, -13.0, 0.0, 90.0, 300.0]).expand([7, 6], false);
            // Large entries contribute their own relative error; the rest is compared without them.
            for x in [random(&[7, 90]), Tensor::cat(&[random(&[7, 90]) * 4.0, ends], 1)] {
                let up = random(&x.size());
                let wide = x.to_kind(Kind::Double);
                let below = (&wide * -std::f64::consts::FRAC_1_SQRT_2).erfc() * 0.5;
                for (activation, want) in [
                    (Activation::Silu, wide.silu()),
                    (Activation::Gelu, &wide * below),
                    (Activation::GeluTanh, wide.gelu("tanh")),
                    (Activation::GeluSigmoid, (&wide * 1.702).sigmoid() * &wide),
                    (Activation::Relu, wide.clamp_min(0.0)),
                    (Activation::Sigmoid, wide.sigmoid()),
                ] {
                    check(activated(on, activation, &x), want.shallow_clone());
                    check(gated(on, activation, &x, &up), want * &up);
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for on in Registers::here() {
            let x = Tensor::from_slice(&[f32::NAN; 20]).view([2, 10]);
            for activation in [
                Activation::Silu,
                Activation::Gelu,
                Activation::GeluTanh,
                Activation::Relu,
                Activation::Sigmoid,
            ] {
                assert_eq!(activated(on, activation, &x).isnan().all().int64_value(&[]), 1, "{activation:?}");
            }
        }
    }
}
