//! What a forward pass on the CPU computes without libtorch, in fp32: products, attention, norms, rotations and
//! activations. Here libtorch's calls take longer than their work, or its kernels are far from what the processor can
//! do (docs/design/performance.md). Independent of blocks and models.
//!
//! Every number is computed in a fixed order, whatever else is in the batch and for any number of threads.
//! [`Backend`](super::backend::Backend) decides what is computed here: all functions take [`Registers`] of this
//! processor, and tensors in fp32 on the CPU without gradients; tensors with an unsupported memory layout are copied.

#[cfg(target_arch = "x86_64")]
mod activations;
#[cfg(target_arch = "x86_64")]
mod attend;
#[cfg(target_arch = "x86_64")]
mod delta;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod pool;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod rows;

#[cfg(target_arch = "x86_64")]
pub use activations::{activated, gated};
#[cfg(target_arch = "x86_64")]
pub use attend::{attend, put};
#[cfg(target_arch = "x86_64")]
pub use delta::{convolve, delta_rule};
#[cfg(target_arch = "x86_64")]
pub use lanes::{Registers, is_intel};
#[cfg(target_arch = "x86_64")]
pub use product::product;
#[cfg(target_arch = "x86_64")]
pub use rows::{layer_norm, rms_norm, rotate};

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere;
#[cfg(not(target_arch = "x86_64"))]
pub use elsewhere::{
    Registers, activated, attend, convolve, delta_rule, gated, is_intel, layer_norm, product, put, rms_norm,
    rotate,
};

use tch::{Device, Kind, Tensor};

/// What is applied to query-key products before the softmax.
#[derive(Clone, Copy, Debug)]
pub struct Products {
    /// Multiplies them.
    pub scale: f64,
    /// Then soft-caps them to `cap * tanh(product / cap)`.
    pub cap: Option<f64>,
}

/// Inputs of the gated delta rule, all in fp32.
pub struct DeltaInputs<'a> {
    /// Concatenated queries, keys and values, `[batch, pos, channels]`.
    pub qkv: &'a Tensor,
    /// Input of the decay, `[batch, pos, n_v_heads]`.
    pub a: &'a Tensor,
    /// Input of the rate, `[batch, pos, n_v_heads]`.
    pub b: &'a Tensor,
    /// Logarithm of the decay's scale, `[n_v_heads]`.
    pub a_log: &'a Tensor,
    /// Added to `a`, `[n_v_heads]`.
    pub dt_bias: &'a Tensor,
    /// Added to the squared norm of a query or key.
    pub eps: f64,
}

/// Asserts that `x` is an fp32 tensor on the CPU that requires no gradients.
#[cfg(target_arch = "x86_64")]
fn assert_plain(x: &Tensor) {
    let plain = x.device() == Device::Cpu && x.kind() == Kind::Float && !x.requires_grad();
    assert!(plain, "kernels of our own take fp32 on the CPU, without gradients");
}

/// Cumulative sums along each row of `x`, `[batch, width]` in fp32 on the CPU, accumulated in fp64. The additions of
/// one row depend on one another, so several rows are processed at once.
pub fn cumulative(x: &Tensor) -> Tensor {
    const ROWS: usize = 8;
    assert!(x.device() == Device::Cpu && x.kind() == Kind::Float && x.dim() == 2, "rows in fp32");
    if x.numel() == 0 {
        return x.copy();
    }
    let x = x.contiguous();
    let (rows, width) = (x.size()[0] as usize, x.size()[1] as usize);
    let y = x.empty_like();
    // SAFETY: both have that many numbers, contiguous; nobody else has `y`.
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
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::sample::uniform;
    use std::cell::Cell;

    /// Numbers of mean 0 and variance 1, different on each call; the same in every run of a test.
    pub fn random(shape: &[i64]) -> Tensor {
        thread_local! { static CALLS: Cell<u64> = const { Cell::new(0) } }
        CALLS.set(CALLS.get() + 1);
        let number = |n: i64| 2.0 * (0..3).map(|at| uniform(CALLS.get(), n as u64, at) - 0.5).sum::<f32>();
        let numbers: Vec<f32> = (0..shape.iter().product()).map(number).collect();
        Tensor::from_slice(&numbers).view(shape)
    }

    #[test]
    fn sums_are_those_of_libtorch() {
        for (rows, width) in [(1, 1), (3, 7), (8, 100), (21, 1000)] {
            let x = Tensor::rand([rows, width], (Kind::Float, Device::Cpu));
            assert_eq!(cumulative(&x), x.cumsum(-1, Kind::Float));
        }
        assert_eq!(cumulative(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))).size(), [0, 4]);
    }
}
