//! What a forward pass on the CPU computes without libtorch, in fp32: products, attention, norms, rotations and activations. There
//! libtorch's calls take longer than their work, or its kernels are far from what the processor can do
//! (docs/design/performance.md). Knows neither blocks nor models.
//!
//! Each number is computed in one order, whatever stands beside it in the batch and however many threads there are. All
//! functions take tensors and return `None` (or `false`) where the work is for libtorch: other dtypes and devices,
//! gradients, other processors.

#[cfg(target_arch = "x86_64")]
mod activations;
#[cfg(target_arch = "x86_64")]
mod attend;
#[cfg(target_arch = "x86_64")]
mod delta;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod rows;
#[cfg(target_arch = "x86_64")]
mod team;

#[cfg(target_arch = "x86_64")]
pub use activations::{activated, gated};
#[cfg(target_arch = "x86_64")]
pub use attend::{attend, put};
#[cfg(target_arch = "x86_64")]
pub use delta::{convolve, delta_rule};
#[cfg(all(test, target_arch = "x86_64"))]
pub use lanes::with_each_width;
#[cfg(target_arch = "x86_64")]
pub use product::product;
#[cfg(target_arch = "x86_64")]
pub use rows::{layer_norm, rms_norm, rotate};

/// Of other processors nothing is known here.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(all(test, not(target_arch = "x86_64")))]
pub use elsewhere::with_each_width;
#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{
    activated, attend, convolve, delta_rule, gated, layer_norm, product, put, rms_norm, rotate,
};

use std::cell::Cell;
use tch::{Device, Kind, Tensor};

/// What becomes of the products of queries and keys before the softmax.
#[derive(Clone, Copy, Debug)]
pub struct Products {
    /// Multiplies them.
    pub scale: f64,
    /// Then bounds them to `cap * tanh(product / cap)`.
    pub cap: Option<f64>,
}

/// What goes into the gated delta rule, all of it in fp32.
pub struct DeltaInputs<'a> {
    /// Queries, keys and values beside each other, `[batch, pos, channels]`.
    pub qkv: &'a Tensor,
    /// What the decay is made of, `[batch, pos, n_v_heads]`.
    pub a: &'a Tensor,
    /// What the rate is made of, `[batch, pos, n_v_heads]`.
    pub b: &'a Tensor,
    /// Logarithm of the decay's scale, `[n_v_heads]`.
    pub a_log: &'a Tensor,
    /// Added to `a`, `[n_v_heads]`.
    pub dt_bias: &'a Tensor,
    /// Added to the squared length of a query or key.
    pub eps: f64,
}

thread_local! { static LIBTORCH_ALONE: Cell<bool> = const { Cell::new(false) } }

/// Does `work` on this thread as other devices and processors do it, where nothing is computed here: for tests of that.
pub fn by_libtorch_alone<T>(work: impl FnOnce() -> T) -> T {
    LIBTORCH_ALONE.set(true);
    let done = work();
    LIBTORCH_ALONE.set(false);
    done
}

/// Whether this is fp32 on the CPU, of which nobody wants gradients.
pub(super) fn plain(x: &Tensor) -> bool {
    x.device() == Device::Cpu && x.kind() == Kind::Float && !x.requires_grad() && !LIBTORCH_ALONE.get()
}

/// The sums of each row of `x`, `[batch, width]`, from its first number on, added in fp64. `None` where it is for libtorch to
/// compute. One row's sums wait for one another, so several rows are added side by side.
pub fn cumulative(x: &Tensor) -> Option<Tensor> {
    const ROWS: usize = 8;
    if !plain(x) || !x.is_contiguous() || x.dim() != 2 || x.numel() == 0 {
        return None;
    }
    let (rows, width) = (x.size()[0] as usize, x.size()[1] as usize);
    let y = x.empty_like();
    // SAFETY: both have so many numbers, one after the other; nobody else has `y`.
    let (from, to) = unsafe {
        let n = rows * width;
        (
            std::slice::from_raw_parts(x.data_ptr().cast::<f32>(), n),
            std::slice::from_raw_parts_mut(y.data_ptr().cast::<f32>(), n),
        )
    };
    for (from, to) in from.chunks(ROWS * width).zip(to.chunks_mut(ROWS * width)) {
        let mut sums = [0.0; ROWS];
        for at in 0..width {
            for (row, sum) in sums.iter_mut().enumerate().take(from.len() / width) {
                *sum += f64::from(from[row * width + at]);
                to[row * width + at] = *sum as f32;
            }
        }
    }
    Some(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::sample::uniform;
    use crate::lm::spec::Activation;

    /// Numbers of mean 0 and variance 1, others on each call; the same in every run of a test.
    pub fn random(shape: &[i64]) -> Tensor {
        thread_local! { static CALLS: Cell<u64> = const { Cell::new(0) } }
        CALLS.set(CALLS.get() + 1);
        let number = |n: i64| 2.0 * (0..3).map(|at| uniform(CALLS.get(), n as u64, at) - 0.5).sum::<f32>();
        let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
        Tensor::from_slice(&numbers).view(shape)
    }

    #[test]
    fn libtorch_is_alone_where_it_is_said_and_not_after_that() {
        let x = random(&[3, 16]);
        assert!(plain(&x) && !by_libtorch_alone(|| plain(&x)) && plain(&x));
        let heads = x.view([1, 1, 3, 16]);
        by_libtorch_alone(|| {
            let products = Products { scale: 1.0, cap: None };
            assert!(product(&x, &x, None).is_none() && rms_norm(&x, None, 1e-5).is_none());
            assert!(layer_norm(&x, &x.get(0), &x.get(0), 1e-5).is_none());
            assert!(activated(Activation::Gelu, &x).is_none());
            assert!(attend(&heads, &heads, &heads, &[0], None, products).is_none());
            assert!(rotate(&heads, &heads, &heads).is_none() && gated(Activation::Silu, &x, &x).is_none());
            assert!(cumulative(&x).is_none() && !put(&heads, &heads.narrow(2, 0, 1), &[0]));
        });
    }

    #[test]
    fn sums_are_those_of_libtorch() {
        for (rows, width) in [(1, 1), (3, 7), (8, 100), (21, 1000)] {
            let x = Tensor::rand([rows, width], (Kind::Float, Device::Cpu));
            assert_eq!(cumulative(&x).unwrap(), x.cumsum(-1, Kind::Float));
        }
        assert!(cumulative(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))).is_none());
    }
}
