//! What is computed row by row, in one pass over memory where libtorch takes several: norms and rotations. Knows nothing of
//! where they stand. All return `None` where it is for libtorch to compute, as
//! [`product`](super::product::product) does.

use super::lanes::{Kernel, Lanes, here, run, some};
use super::plain;
use super::team::{self, Place, Source};
use tch::{Kind, Tensor};

/// `x`, `[.., width]`, divided by its root mean square over the last axis, and times `gain + more`, `[width]`, where there is one.
pub fn rms_norm(x: &Tensor, gain: Option<(&Tensor, f64)>, eps: f64) -> Option<Tensor> {
    let width = *x.size().last()?;
    if !dense(x) {
        return None;
    }
    let gain = gain.map(|(gain, more)| (gain.to_kind(Kind::Float), more));
    if gain.as_ref().is_some_and(|(gain, _)| !dense(gain) || gain.size() != [width]) {
        return None;
    }
    let (y, width) = (x.empty_like(), width as usize);
    let learned = gain.as_ref().map(|(gain, more)| (source(gain), *more as f32));
    each(x, width, &Norm { x: source(x), width, gain: learned, eps: eps as f32, y: place(&y) });
    Some(y)
}

/// `x`, `[.., width]`, less its mean over the last axis, divided by its standard deviation, times `gain` and plus `bias`,
/// `[width]` each. Mean and deviation are of two passes, so that nothing cancels.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Option<Tensor> {
    let width = *x.size().last()?;
    let learned = [gain, bias].map(|learned| learned.to_kind(Kind::Float));
    if !dense(x) || learned.iter().any(|learned| !dense(learned) || learned.size() != [width]) {
        return None;
    }
    let (y, width) = (x.empty_like(), width as usize);
    let [gain, bias] = [source(&learned[0]), source(&learned[1])];
    each(x, width, &Centred { x: source(x), width, gain, bias, eps: eps as f32, y: place(&y) });
    Some(y)
}

/// The heads of `x`, `[batch, heads, pos, d_head]`, of which the leading entries are rotated: entry `i` becomes
/// `x[i] cos[i] + x[j] sin[i]`, where `j` is a half of the entries further on, or back. `cos` and `sin` are
/// `[batch or 1, 1, pos, entries]`.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Option<Tensor> {
    let (size, strides, angles) = (x.size(), x.stride(), cos.size());
    let fits = angles[1] == 1 && angles[2] == size[2] && angles[3] <= size[3] && angles == sin.size();
    let in_order = cos.is_contiguous() && sin.is_contiguous() && [1, size[0]].contains(&angles[0]);
    if !fits || !in_order || ![x, cos, sin].into_iter().all(dense) {
        return None;
    }
    let y = x.empty_like();
    let axis = |axis: usize| (size[axis] as usize, strides[axis] as usize);
    let rotation = Rotate {
        x: source(x),
        axes: [axis(0), axis(1), axis(2)],
        d_head: size[3] as usize,
        cos: source(cos),
        sin: source(sin),
        for_all: angles[0] == 1,
        entries: angles[3] as usize,
        y: place(&y),
    };
    each(x, rotation.d_head, &rotation);
    Some(y)
}

/// Whether the numbers of `x` lie in memory without gaps, those of its last axis one after the other, and are to be
/// computed here.
pub(super) fn dense(x: &Tensor) -> bool {
    let (size, stride) = (x.size(), x.stride());
    let span: i64 = size.iter().zip(&stride).map(|(n, stride)| (n - 1) * stride).sum();
    plain(x)
        && x.numel() > 0
        && stride.last() == Some(&1)
        && span + 1 == x.numel() as i64
        && here()
        && team::whole()
}

pub(super) fn source(x: &Tensor) -> Source<f32> {
    Source(x.data_ptr().cast())
}

pub(super) fn place(x: &Tensor) -> Place {
    Place(x.data_ptr().cast())
}

/// Computes some rows.
pub(super) trait Rows: Sync {
    /// The row that lies at place `row` in memory.
    ///
    /// # Safety
    /// As [`Lanes`]; it is there.
    unsafe fn row<L: Lanes>(&self, row: usize);
}

/// Has each row of `x` computed.
pub(super) fn each(x: &Tensor, width: usize, of: &impl Rows) {
    /// Operations that a number takes, about.
    const WORK: usize = 16;
    let rows = x.numel() / width;
    let size = rows.div_ceil(4 * team::threads());
    let part = |at: usize| run(&Part { of, from: at * size, to: rows.min((at + 1) * size) });
    team::run(x.numel() * WORK, rows.div_ceil(size), &part);
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
            // SAFETY: the caller's.
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
            // Past the row's end stands its mean, which is no deviation.
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
    /// Whether there is one position for all rows of the batch.
    for_all: bool,
    entries: usize,
    y: Place,
}

impl Rows for Rotate {
    #[inline(always)]
    unsafe fn row<L: Lanes>(&self, row: usize) {
        let begin = row * self.d_head;
        // Where nothing lies between rows, what is left of a place after the larger strides is that of the smaller ones.
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
    use super::super::lanes::with_each_width;
    use super::super::tests::random;
    use super::*;

    #[track_caller]
    fn check(got: Option<Tensor>, want: Tensor) {
        let got = got.expect("computed here");
        assert_eq!(got.size(), want.size());
        let error = (got.to_kind(Kind::Double) - &want).abs().max() / want.abs().max();
        assert!(error.double_value(&[]) < 1e-6, "{error:?}");
    }

    /// Against their definitions in fp64.
    #[test]
    fn norms_are_right() {
        with_each_width(|| {
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
                    check(layer_norm(&x, &gain, &bias, 1e-5), centred);
                    check(rms_norm(&x, None, 1e-5), normal.shallow_clone());
                    check(
                        rms_norm(&x, Some((&gain, 1.0)), 1e-5),
                        normal * (gain.to_kind(Kind::Double) + 1.0),
                    );
                }
            }
        });
    }

    #[test]
    fn rotations_are_right() {
        with_each_width(|| {
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
                            rotate(&x, &cos, &sin),
                            Tensor::cat(&[turned, wide.narrow(3, entries, d_head - entries)], 3),
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn what_is_for_libtorch_is_left_to_it() {
        let x = random(&[4, 16]);
        assert!(rms_norm(&x.to_kind(Kind::BFloat16), None, 1e-5).is_none());
        assert!(rms_norm(&x.tr(), None, 1e-5).is_none());
        assert!(rms_norm(&x.narrow(1, 0, 8), None, 1e-5).is_none());
        assert!(rms_norm(&x, Some((&random(&[15]), 0.0)), 1e-5).is_none());
        let heads = random(&[2, 3, 5, 8]);
        assert!(rotate(&heads, &random(&[1, 1, 4, 8]), &random(&[1, 1, 4, 8])).is_none());
        assert!(layer_norm(&x, &random(&[15]), &random(&[16]), 1e-5).is_none());
        assert!(rms_norm(&x.set_requires_grad(true), None, 1e-5).is_none());
    }
}
