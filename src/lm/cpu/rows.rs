//! Row-wise operations, in one pass over memory where libtorch takes several: norms and rotations. Independent of
//! where they are used.

use super::assert_plain;
use super::lanes::{Kernel, Lanes, Registers, some};
use super::pool::{self, Place, Source};
use tch::{Kind, Tensor};

/// `x`, `[.., width]`, divided by its root mean square over the last axis, and times `gain + more`, `[width]`, if
/// there is a gain.
pub fn rms_norm(on: Registers, x: &Tensor, gain: Option<(&Tensor, f64)>, eps: f64) -> Tensor {
    let (x, y, width) = in_and_out(x);
    let gain = gain.map(|(gain, more)| (learned(gain, width), more));
    let learned = gain.as_ref().map(|(gain, more)| (source(gain), *more as f32));
    each(on, &x, width, &Norm { x: source(&x), width, gain: learned, eps: eps as f32, y: place(&y) });
    y
}

/// LayerNorm: `x`, `[.., width]`, minus its mean over the last axis, divided by its standard deviation, times `gain`
/// and plus `bias`, `[width]` each. Mean and deviation are computed in two passes, to avoid cancellation.
pub fn layer_norm(on: Registers, x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Tensor {
    let (x, y, width) = in_and_out(x);
    let learned = [gain, bias].map(|numbers| learned(numbers, width));
    let [gain, bias] = [source(&learned[0]), source(&learned[1])];
    each(on, &x, width, &Centred { x: source(&x), width, gain, bias, eps: eps as f32, y: place(&y) });
    y
}

/// Rotates the leading entries of the heads of `x`, `[batch, heads, pos, d_head]`: entry `i` becomes
/// `x[i] cos[i] + x[j] sin[i]`, where `j` is half of the rotated entries further on, or back. `cos` and `sin` are
/// `[batch or 1, 1, pos, entries]`.
pub fn rotate(on: Registers, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let (x, y, d_head) = in_and_out(x);
    let (size, strides, angles) = (x.size(), x.stride(), cos.size());
    let fits = angles[1] == 1 && angles[2] == size[2] && angles[3] <= size[3] && angles == sin.size();
    assert!(fits && [1, size[0]].contains(&angles[0]), "angles {angles:?} for heads {size:?}");
    let [cos, sin] = [cos, sin].map(Tensor::contiguous);
    [&cos, &sin].into_iter().for_each(assert_plain);
    let axis = |axis: usize| (size[axis] as usize, strides[axis] as usize);
    let rotation = Rotate {
        x: source(&x),
        axes: [axis(0), axis(1), axis(2)],
        d_head,
        cos: source(&cos),
        sin: source(&sin),
        for_all: angles[0] == 1,
        entries: angles[3] as usize,
        y: place(&y),
    };
    each(on, &x, d_head, &rotation);
    y
}

/// Whether the elements of `x` fill their memory without gaps or overlaps, with a contiguous last axis.
pub(super) fn is_dense(x: &Tensor) -> bool {
    let mut axes: Vec<(i64, i64)> = x.stride().into_iter().zip(x.size()).filter(|(_, n)| *n != 1).collect();
    let last = x.size().last() == Some(&1) || axes.last().is_some_and(|(stride, _)| *stride == 1);
    axes.sort_unstable();
    let mut next = 1;
    let in_order = axes.into_iter().all(|(stride, n)| {
        let fits = stride == next;
        next *= n;
        fits
    });
    last && in_order
}

/// `x`, `[.., width]`, made dense, an output tensor in the same layout, and the width.
pub(super) fn in_and_out(x: &Tensor) -> (Tensor, Tensor, usize) {
    assert_plain(x);
    let x = if is_dense(x) { x.shallow_clone() } else { x.contiguous() };
    let (y, width) = (x.empty_like(), x.size().last().copied().unwrap_or(1));
    debug_assert_eq!(x.stride(), y.stride());
    (x, y, width as usize)
}

/// Learned parameters, `[width]`, in fp32.
fn learned(numbers: &Tensor, width: usize) -> Tensor {
    let numbers = numbers.to_kind(Kind::Float).contiguous();
    assert_plain(&numbers);
    assert_eq!(numbers.size(), [width as i64], "learned numbers for rows of {width}");
    numbers
}

pub(super) fn source(x: &Tensor) -> Source<f32> {
    Source(x.data_ptr().cast())
}

pub(super) fn place(x: &Tensor) -> Place {
    Place(x.data_ptr().cast())
}

/// A computation on each row.
pub(super) trait Rows: Sync {
    /// Computes the row at index `row` in memory.
    ///
    /// # Safety
    /// As [`Lanes`]; the row exists.
    unsafe fn row<L: Lanes>(&self, row: usize);
}

/// Computes each row of `x` with `of`.
pub(super) fn each(on: Registers, x: &Tensor, width: usize, of: &impl Rows) {
    /// Approximate number of operations per element.
    const WORK: usize = 16;
    let rows = x.numel() / width.max(1);
    if rows == 0 {
        return;
    }
    let size = rows.div_ceil(4 * pool::threads());
    let part = |at: usize| on.run(&Part { of, from: at * size, to: rows.min((at + 1) * size) });
    pool::run(x.numel() * WORK, rows.div_ceil(size), &part);
}

struct Part<'a, R> {
    of: &'a R,
    from: usize,
    to: usize,
}

impl<R: Rows> Kernel for Part<'_, R> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        for row in self.from..self.to {
            // SAFETY: the caller's guarantees.
            unsafe { self.of.row::<L>(row) }
        }
    }
}

struct Norm {
    x: Source<f32>,
    width: usize,
    gain: Option<(Source<f32>, f32)>,
    eps: f32,
    y: Place,
}

impl Rows for Norm {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        unsafe {
            let (x, y) = (self.x.0.add(row * self.width), self.y.0.add(row * self.width));
            let mut squares = L::splat(0.0);
            for at in (0..self.width).step_by(L::N) {
                let x = L::load_some(x.add(at), self.width - at);
                squares = x.mul_add(x, squares);
            }
            let mean = squares.sum() / self.width as f32;
            let scale = L::splat(1.0 / (mean + self.eps).sqrt());
            for at in (0..self.width).step_by(L::N) {
                let left = self.width - at;
                let mut out = L::load_some(x.add(at), left).mul(scale);
                if let Some((gain, more)) = self.gain {
                    out = out.mul(L::load_some(gain.0.add(at), left).add(L::splat(more)));
                }
                out.store_some(y.add(at), left);
            }
        }
    }
}

struct Centred {
    x: Source<f32>,
    width: usize,
    gain: Source<f32>,
    bias: Source<f32>,
    eps: f32,
    y: Place,
}

impl Rows for Centred {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        unsafe {
            let (x, y) = (self.x.0.add(row * self.width), self.y.0.add(row * self.width));
            let mut sum = L::splat(0.0);
            for at in (0..self.width).step_by(L::N) {
                sum = sum.add(L::load_some(x.add(at), self.width - at));
            }
            let mean = sum.sum() / self.width as f32;
            let less = L::splat(-mean);
            // Lanes past the row's end hold the mean, so that their deviation is 0.
            let centred = |at: usize, left: usize| {
                let x = match left >= L::N {
                    true => L::load(x.add(at)),
                    false => L::load(some(x.add(at), left, mean).as_ptr()),
                };
                x.add(less)
            };
            let mut squares = L::splat(0.0);
            for at in (0..self.width).step_by(L::N) {
                let x = centred(at, self.width - at);
                squares = x.mul_add(x, squares);
            }
            let variance = squares.sum() / self.width as f32;
            let scale = L::splat(1.0 / (variance + self.eps).sqrt());
            for at in (0..self.width).step_by(L::N) {
                let left = self.width - at;
                let gain = L::load_some(self.gain.0.add(at), left);
                let bias = L::load_some(self.bias.0.add(at), left);
                centred(at, left).mul(scale).mul_add(gain, bias).store_some(y.add(at), left);
            }
        }
    }
}

struct Rotate {
    x: Source<f32>,
    /// Length and stride of batch, heads and pos.
    axes: [(usize, usize); 3],
    d_head: usize,
    cos: Source<f32>,
    sin: Source<f32>,
    /// Whether all rows of the batch have the same positions.
    for_all: bool,
    entries: usize,
    y: Place,
}

impl Rows for Rotate {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        let begin = row * self.d_head;
        // Without gaps between rows, the remainder of an offset after the larger strides is the offset along the
        // smaller ones.
        let [batch, _, pos] = self.axes.map(|(n, stride)| if n == 1 { 0 } else { begin / stride % n });
        let angle = if self.for_all { pos } else { batch * self.axes[2].0 + pos } * self.entries;
        let half = self.entries / 2;
        unsafe {
            let (x, y) = (self.x.0.add(begin), self.y.0.add(begin));
            let (cos, sin) = (self.cos.0.add(angle), self.sin.0.add(angle));
            for at in (0..half).step_by(L::N) {
                let left = half - at;
                let part = |from: *const f32| L::load_some(from.add(at), left);
                let (first, second) = (part(x), part(x.add(half)));
                let turn = |x: L, other: L, from: usize| {
                    x.mul(part(cos.add(from))).add(other.mul(part(sin.add(from))))
                };
                turn(first, second, 0).store_some(y.add(at), left);
                turn(second, first, half).store_some(y.add(half + at), left);
            }
            for at in self.entries..self.d_head {
                *y.add(at) = *x.add(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    #[track_caller]
    fn check(got: Tensor, want: Tensor) {
        assert_eq!(got.size(), want.size());
        let error = (got.to_kind(Kind::Double) - &want).abs().max() / want.abs().max();
        assert!(error.double_value(&[]) < 1e-6, "{error:?}");
    }

    /// Compared with their definitions in fp64.
    #[test]
    fn norms_are_right() {
        for on in Registers::here() {
            for width in [1, 7, 16, 40, 576] {
                let gain = random(&[width]);
                let rows = random(&[3, 5, width]);
                let heads = random(&[3, 5, 2, width]).transpose(1, 2);
                for x in [rows, heads] {
                    let wide = x.to_kind(Kind::Double);
                    let normal = &wide / (wide.square().mean_dim(-1, true, Kind::Double) + 1e-5).sqrt();
                    let bias = random(&[width]);
                    let mean = wide.mean_dim(-1, true, Kind::Double);
                    let less = &wide - &mean;
                    let variance = less.square().mean_dim(-1, true, Kind::Double);
                    let centred = less / (variance + 1e-5).sqrt() * gain.to_kind(Kind::Double) + &bias;
                    check(layer_norm(on, &x, &gain, &bias, 1e-5), centred);
                    check(rms_norm(on, &x, None, 1e-5), normal.shallow_clone());
                    check(
                        rms_norm(on, &x, Some((&gain, 1.0)), 1e-5),
                        normal * (gain.to_kind(Kind::Double) + 1.0),
                    );
                }
            }
        }
    }

    #[test]
    fn rotations_are_right() {
        for on in Registers::here() {
            for (batch, heads, pos, d_head, entries) in [
                (3, 2, 5, 32, 32),
                (1, 3, 4, 64, 64),
                (2, 4, 1, 24, 20),
                (1, 1, 1, 8, 2),
                (600, 2, 9, 16, 16),
            ] {
                for rows in [1, batch] {
                    let [cos, sin] = [0, 1].map(|_| random(&[rows, 1, pos, entries]));
                    let apart = random(&[batch, pos, heads, d_head]).transpose(1, 2);
                    let together = random(&[batch, heads, pos, d_head]);
                    for x in [apart, together] {
                        let wide = x.to_kind(Kind::Double);
                        let turning = wide.narrow(3, 0, entries);
                        let turned = &turning * &cos + turning.roll(entries / 2, 3) * &sin;
                        check(
                            rotate(on, &x, &cos, &sin),
                            Tensor::cat(&[turned, wide.narrow(3, entries, d_head - entries)], 3),
                        );
                    }
                }
            }
        }
    }

    /// Dense includes heads next to each other, but no overlapping elements and no gaps.
    #[test]
    fn only_what_fills_its_memory_is_dense() {
        let x = random(&[24]);
        let strided = |size: &[i64], stride: &[i64]| x.as_strided(size, stride, None);
        for (size, stride) in [
            (vec![2, 3, 4], vec![12, 4, 1]),
            (vec![3, 2, 4], vec![4, 12, 1]),
            (vec![2, 1, 4], vec![4, 100, 1]),
            (vec![3, 1], vec![1, 7]),
        ] {
            assert!(is_dense(&strided(&size, &stride)), "{size:?} {stride:?}");
        }
        for (size, stride) in [
            (vec![4, 3], vec![1, 4]),
            (vec![2, 4], vec![5, 1]),
            // Spans 12 elements with 12, but skips some and repeats others.
            (vec![3, 2, 2], vec![5, 0, 1]),
            (vec![2, 4], vec![0, 1]),
        ] {
            let x = strided(&size, &stride);
            assert!(!is_dense(&x), "{size:?} {stride:?}");
            for on in Registers::here() {
                assert_eq!(rms_norm(on, &x, None, 1e-5), rms_norm(on, &x.contiguous(), None, 1e-5));
            }
        }
    }
}
