//! Products of rows with the rows of a matrix, `x Wᵀ`. Independent of what is multiplied.
//!
//! The rows of both are contiguous, so nothing is copied: a tile of a few rows of `x` and four of `W` is multiplied
//! one register at a time, and its sums are reduced at the end.

use super::assert_plain;
use super::lanes::{COLUMNS, Kernel, Lanes, Registers, WIDEST, some};
use super::pool::{self, Place, Source};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The most entries of a row that are multiplied before moving to the next row: those of a tile and of the matrix rows
/// of the next one, 3 kB each, then stay in the L1 cache. With 32 rows of 1,536 to 8,192 entries this is 10 to 18 % faster
/// than 2048 (two cores of a Zen 5).
const DEPTH: usize = 768;

/// Rows of `x` that are multiplied with the same rows of `W` while those are in the L2 cache.
const BLOCK: usize = 64;

/// The most rows of `W` that a thread processes at a time.
const TOGETHER: usize = 256;

/// `x Wᵀ + b` of `x`, `[.., in]`, `weight`, `[out, in]`, which is converted to fp32 unless it is in bf16, and `bias`,
/// `[out]`; returns `[.., out]` in fp32.
pub fn product(on: Registers, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    assert_plain(x);
    assert!(weight.device() == Device::Cpu && !weight.requires_grad(), "a matrix on the CPU");
    let fits =
        x.size().last() == Some(&weight.size()[1]) && bias.is_none_or(|b| b.size() == [weight.size()[0]]);
    assert!(fits, "a product of {:?} with {:?}, bias {:?}", x.size(), weight.size(), bias.map(Tensor::size));
    let bf16 = weight.kind() == Kind::BFloat16;
    let weight = if bf16 { weight.shallow_clone() } else { weight.to_kind(Kind::Float) };
    let weight = if weight.stride()[1] == 1 { weight } else { weight.contiguous() };
    let (depth, out) = (weight.size()[1], weight.size()[0]);
    let x = x.contiguous();
    let mut shape = x.size();
    shape.pop();
    shape.push(out);
    let y = Tensor::empty(&shape, (Kind::Float, Device::Cpu));
    let bias = bias.map(|bias| bias.to_kind(Kind::Float).contiguous());
    let product = Product {
        x: Source(x.data_ptr().cast()),
        rows: x.numel() / depth as usize,
        depth: depth as usize,
        stride: weight.stride()[0] as usize,
        out: out as usize,
        bias: bias.as_ref().map(|bias| Source(bias.data_ptr().cast())),
        y: Place(y.data_ptr().cast()),
    };
    match weight.kind() {
        Kind::BFloat16 => product.compute(on, Source::<Bf16>(weight.data_ptr().cast())),
        _ => product.compute(on, Source::<f32>(weight.data_ptr().cast())),
    }
    y
}

/// An element of a matrix.
pub trait Weight: Copy {
    /// Loads a register of them.
    unsafe fn load<L: Lanes>(from: *const Self) -> L;
    const ZERO: Self;
}

impl Weight for f32 {
    const ZERO: f32 = 0.0;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const f32) -> L {
        unsafe { L::load(from) }
    }
}

/// A bf16 number: the upper half of one in fp32.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Bf16(u16);

impl Weight for Bf16 {
    const ZERO: Bf16 = Bf16(0);
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const Bf16) -> L {
        unsafe { L::load_bf16(from.cast()) }
    }
}

struct Product {
    /// `[rows, depth]`
    x: Source<f32>,
    rows: usize,
    depth: usize,
    /// Elements from one row of the matrix to the next.
    stride: usize,
    out: usize,
    bias: Option<Source<f32>>,
    /// `[rows, out]`
    y: Place,
}

impl Product {
    fn compute<W: Weight>(&self, on: Registers, weight: Source<W>) {
        let size = part(self.out, pool::threads());
        let part = |at: usize| {
            on.run(&Part { of: self, weight, from: at * size, to: self.out.min((at + 1) * size) });
        };
        pool::run(self.rows * self.depth * self.out, self.out.div_ceil(size), &part);
    }
}

/// How many of the `out` rows of a matrix a thread takes at a time: several parts per thread, in case one of them is held
/// up, and of the sizes that this allows, the one with which the threads finish together. Parts begin at cache lines of a
/// result's row.
fn part(out: usize, threads: usize) -> usize {
    let most = out.div_ceil(4 * threads).next_multiple_of(WIDEST).min(TOGETHER);
    let sizes = (1..=most / WIDEST).rev().map(|lines| lines * WIDEST);
    sizes.min_by_key(|size| out.div_ceil(*size).div_ceil(threads) * size).unwrap_or(WIDEST)
}

/// A range of rows of the matrix, with all of `x`.
struct Part<'a, W> {
    of: &'a Product,
    weight: Source<W>,
    from: usize,
    to: usize,
}

impl<W: Weight> Kernel for Part<'_, W> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let Product { rows, depth, stride, .. } = *self.of;
        let most = depth.div_ceil(depth.div_ceil(DEPTH)).next_multiple_of(WIDEST);
        let in_lines = size_of::<W>() == size_of::<f32>()
            && self.weight.0.addr().is_multiple_of(LINE)
            && stride.is_multiple_of(WIDEST);
        let mut copy = Copied([[0.0; DEPTH]; COLUMNS]);
        for begin in (0..depth).step_by(most) {
            let depth = most.min(depth - begin);
            for first in (0..rows).step_by(BLOCK) {
                let last = rows.min(first + BLOCK);
                for column in (self.from..self.to).step_by(COLUMNS) {
                    let valid = COLUMNS.min(self.to - column);
                    // If fewer remain, the last one is computed several times.
                    let weights: [*const W; COLUMNS] = std::array::from_fn(|at| {
                        self.weight.0.wrapping_add((column + at.min(valid - 1)) * stride + begin)
                    });
                    let tile = Tile { product: self.of, weights, column, valid, begin, depth };
                    // In the first block the matrix comes from memory.
                    let next = (first == 0).then(|| weights.map(|w| w.wrapping_add(COLUMNS * stride)));
                    // SAFETY: the rows and columns exist, and the caller guarantees the instructions.
                    unsafe {
                        if in_lines || last - first < COPY_PAYS * L::ROWS {
                            tile.rows::<L, W>(first..last, next);
                        } else {
                            let weights = copy.of::<L, W>(weights, depth);
                            Tile { product: self.of, weights, column, valid, begin, depth }
                                .rows::<L, W>(first..last, next);
                        }
                    }
                }
            }
        }
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// From this many tiles of rows on, copying rows of the matrix takes less time than reading them unaligned, or widening
/// them, for each tile.
const COPY_PAYS: usize = 3;

/// Rows of a matrix in fp32 and aligned to cache lines. Weights are multiplied where the file is mapped, and files
/// align them to 8 bytes: each load then takes two lines, and a product with 32 rows 1.4 times as long.
#[repr(align(64))]
struct Copied([[f32; DEPTH]; COLUMNS]);

impl Copied {
    /// Copies `depth` elements of each row.
    #[inline(always)]
    unsafe fn of<L: Lanes, W: Weight>(
        &mut self,
        rows: [*const W; COLUMNS],
        depth: usize,
    ) -> [*const f32; COLUMNS] {
        for (to, from) in self.0.iter_mut().zip(rows) {
            for at in (0..depth).step_by(L::N) {
                let left = depth - at;
                // SAFETY: both rows have as many elements as are left.
                unsafe {
                    let from = from.add(at);
                    let numbers = match left >= L::N {
                        true => W::load::<L>(from),
                        false => W::load(some(from, left, W::ZERO).as_ptr()),
                    };
                    numbers.store_some(to.as_mut_ptr().add(at), left);
                }
            }
        }
        self.0.each_ref().map(|row| row.as_ptr())
    }
}

/// Prefetches a range of elements.
#[inline(always)]
unsafe fn ahead<W>(from: *const W, range: Range<usize>) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for at in range.step_by(LINE / size_of::<W>()) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(at).cast()) }
    }
}

/// Up to four rows of the matrix, and the parameters of their products.
struct Tile<'a, W> {
    product: &'a Product,
    weights: [*const W; COLUMNS],
    column: usize,
    valid: usize,
    /// The first entry of a row that is multiplied, and the number of entries.
    begin: usize,
    depth: usize,
}

impl<W: Weight> Tile<'_, W> {
    /// The products with each of `rows`. Meanwhile `next`, the matrix rows of the next tile, are prefetched, a share of
    /// them before each few rows: all at once, they would hold up the computation.
    #[inline(always)]
    unsafe fn rows<L: Lanes, N>(&self, rows: Range<usize>, next: Option<[*const N; COLUMNS]>) {
        let tiles = rows.len() / L::ROWS;
        // In whole cache lines.
        let share = self.depth.div_ceil(tiles.max(1)).next_multiple_of(LINE / size_of::<N>());
        let next = next.filter(|_| tiles > 1);
        let mut row = rows.start;
        for tile in 0..tiles {
            if let Some(next) = next {
                let part = (tile * share).min(self.depth)..((tile + 1) * share).min(self.depth);
                for next in next {
                    // SAFETY: a prefetch reads nothing.
                    unsafe { ahead(next, part.clone()) }
                }
            }
            // SAFETY: the caller's guarantees.
            unsafe { if L::ROWS == 4 { self.compute::<L, 4>(row) } else { self.compute::<L, 2>(row) } }
            row += L::ROWS;
        }
        // SAFETY: the same.
        unsafe {
            match rows.end - row {
                0 => {}
                1 => self.compute::<L, 1>(row),
                2 => self.compute::<L, 2>(row),
                _ => self.compute::<L, 3>(row),
            }
        }
    }

    /// The products with `R` rows from `row` on, added to the results for the entries before `begin`.
    #[inline(always)]
    unsafe fn compute<L: Lanes, const R: usize>(&self, row: usize) {
        let product = self.product;
        let x: [*const f32; R] =
            std::array::from_fn(|at| product.x.0.wrapping_add((row + at) * product.depth + self.begin));
        // SAFETY: the caller's guarantees.
        let sums = unsafe { sums::<L, W, R>(x, self.weights, self.depth) };
        for (at, mut sums) in sums.into_iter().enumerate() {
            // SAFETY: they point into y and belong to this tile alone; the bias has as many entries as y has columns.
            unsafe {
                let y = product.y.0.add((row + at) * product.out + self.column);
                if self.begin > 0 {
                    self.add(&mut sums, y);
                } else if let Some(bias) = product.bias {
                    self.add(&mut sums, bias.0.add(self.column));
                }
                if self.valid == COLUMNS {
                    y.cast::<[f32; COLUMNS]>().write_unaligned(sums);
                } else {
                    std::ptr::copy_nonoverlapping(sums.as_ptr(), y, self.valid);
                }
            }
        }
    }

    /// Adds one number per valid column.
    #[inline(always)]
    unsafe fn add(&self, sums: &mut [f32; COLUMNS], more: *const f32) {
        for (at, sum) in sums.iter_mut().enumerate().take(self.valid) {
            *sum += unsafe { *more.add(at) };
        }
    }
}

/// The products of each of `x` with each of `weights`.
///
/// # Safety
/// All point to `depth` elements; the processor has the instructions of `L`.
#[inline(always)]
pub unsafe fn sums<L: Lanes, W: Weight, const R: usize>(
    x: [*const f32; R],
    weights: [*const W; COLUMNS],
    depth: usize,
) -> [[f32; COLUMNS]; R] {
    unsafe {
        let mut sums = [[L::splat(0.0); COLUMNS]; R];
        let whole = depth / L::N * L::N;
        let mut at = 0;
        while at < whole {
            let w: [L; COLUMNS] = [
                W::load(weights[0].add(at)),
                W::load(weights[1].add(at)),
                W::load(weights[2].add(at)),
                W::load(weights[3].add(at)),
            ];
            for r in 0..R {
                let x = L::load(x[r].add(at));
                for c in 0..COLUMNS {
                    sums[r][c] = x.mul_add(w[c], sums[r][c]);
                }
            }
            at += L::N;
        }
        if whole < depth {
            let mut w = [L::splat(0.0); COLUMNS];
            for c in 0..COLUMNS {
                w[c] = W::load(some(weights[c].add(whole), depth - whole, W::ZERO).as_ptr());
            }
            for r in 0..R {
                let x = L::load_some(x[r].add(whole), depth - whole);
                for c in 0..COLUMNS {
                    sums[r][c] = x.mul_add(w[c], sums[r][c]);
                }
            }
        }
        let mut out = [[0.0; COLUMNS]; R];
        for r in 0..R {
            out[r] = L::sums(sums[r]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    /// Compared with a product in fp64.
    #[test]
    fn products_are_right() {
        for on in Registers::here() {
            for rows in [1i64, 2, 3, 4, 5, 7, 64, 65, 131] {
                for (depth, out) in [(1, 1), (15, 3), (16, 4), (40, 6), (64, 97), (2048 + 33, 5), (600, 700)]
                {
                    for (kind, bias) in [(Kind::Float, None), (Kind::BFloat16, Some(random(&[out])))] {
                        // Weights may be a slice of a larger matrix.
                        let weight = random(&[out + 3, depth]).to_kind(kind).narrow(0, 2, out);
                        let x = random(&[rows, 1, depth]);
                        let wide = |x: &Tensor| x.to_kind(Kind::Double);
                        let want = wide(&x).linear(&wide(&weight), bias.as_ref().map(wide).as_ref());
                        let got = product(on, &x, &weight, bias.as_ref());
                        assert_eq!(got.size(), [rows, 1, out]);
                        let error = (wide(&got) - &want).abs().max().double_value(&[]);
                        // Rounding error of sums of `depth` products, whose size is its square root: at worst about a
                        // hundred steps of 6e-8.
                        assert!(error < 3e-6 * (depth as f64).sqrt(), "{rows} {depth} {out}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn threads_finish_together() {
        assert_eq!([part(576, 2), part(1536, 2), part(192, 2), part(49_152, 2)], [48, 192, 32, 256]);
        assert_eq!([part(576, 1), part(7, 2), part(1000, 64)], [144, 16, 16]);
    }

    /// A row has the same bits whatever the other rows are, and for any number of threads.
    #[test]
    fn a_row_does_not_see_the_others() {
        for on in Registers::here() {
            let (x, weight) = (random(&[70, 576]), random(&[1000, 576]));
            let all = product(on, &x, &weight, None);
            for (first, rows) in [(0, 1), (3, 2), (9, 5), (60, 10)] {
                let some = product(on, &x.narrow(0, first, rows), &weight, None);
                assert_eq!(some, all.narrow(0, first, rows));
            }
            let some = product(on, &x, &weight.narrow(0, 501, 7), None);
            assert_eq!(some, all.narrow(1, 501, 7));
            let threads = tch::get_num_threads();
            tch::set_num_threads(1);
            let alone = product(on, &x, &weight, None);
            tch::set_num_threads(threads);
            assert_eq!(alone, all);
        }
    }

    #[test]
    fn matrices_may_lie_the_other_way_and_be_in_half_precision() {
        for on in Registers::here() {
            let (x, weight) = (random(&[9, 40]), random(&[40, 33]));
            let want = product(on, &x, &weight.tr().contiguous(), None);
            assert_eq!(product(on, &x, &weight.tr(), None), want);
            let half = weight.tr().to_kind(Kind::Half);
            assert_eq!(product(on, &x, &half, None), product(on, &x, &half.to_kind(Kind::Float), None));
        }
    }
}
