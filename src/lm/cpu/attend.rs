//! Causal attention, query by query. Independent of blocks and caches.
//!
//! The full matrix of query-key products is never stored: a few queries that share a key head go through all keys that
//! they see, and their weights through all values.

use super::lanes::{COLUMNS, Kernel, Lanes, Registers, WIDEST, exp, tanh};
use super::pool::{self, Place, Source};
use super::product::sums;
use super::{Products, assert_plain};
use crate::lm::attention_mask::Row;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Positions that a thread processes at a time.
const TOGETHER: usize = 64;

/// Attention of the queries `q`, `[batch, n_heads, pos, d_head]`, over `keys` and `values`, both of shape
/// `[batch, n_kv_heads, slots, d_head]`; returns `[batch, pos, n_heads * d_head]`. Query heads that share a key head
/// are adjacent. `rows` say where the queries and the slots of each row are; together they hold every query. A query sees
/// the slot of its own position and those before it in its row, at most `window` in total.
pub fn attend(
    on: Registers,
    q: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    rows: &[Row],
    window: Option<usize>,
    products: Products,
) -> Tensor {
    let all = [q, keys, values].map(row_by_row);
    let [q, keys, values] = all.each_ref();
    let [batch, n_heads, pos, d_head] = sizes(q);
    let [_, n_kv_heads, slots, _] = sizes(keys);
    let shape = [batch, n_kv_heads, slots, d_head];
    assert!(sizes(keys) == shape && sizes(values) == shape && n_heads % n_kv_heads == 0, "heads that fit");
    let fits = |row: &Row| {
        row.batch < batch && row.first + row.pos <= pos && row.first + row.start + row.pos <= slots
    };
    let queries: usize = rows.iter().map(|row| row.pos).sum();
    assert!(
        rows.iter().all(fits) && queries == batch * pos,
        "rows that hold all queries, and slots for them"
    );
    let z = Tensor::empty([batch, pos, n_heads * d_head].map(|n| n as i64), (Kind::Float, Device::Cpu));
    let attention = Attention {
        q: Rows::of(q),
        keys: Rows::of(keys),
        values: Rows::of(values),
        window: window.unwrap_or(usize::MAX),
        z: Place(z.data_ptr().cast()),
        n_heads,
        group: n_heads / n_kv_heads,
        pos,
        d_head,
        products,
    };
    let ranges = |row: &Row| {
        let (row, pos) = (*row, row.pos);
        (0..pos).step_by(TOGETHER).map(move |from| (row, from..pos.min(from + TOGETHER)))
    };
    let parts: Vec<(Row, Range<usize>)> = rows.iter().flat_map(ranges).collect();
    let part = |at: usize| {
        let (row, positions) = parts[at / n_kv_heads].clone();
        on.run(&Group { of: &attention, row, kv_head: at % n_kv_heads, positions });
    };
    let seen: usize = rows.iter().map(|row| row.pos * (row.start + row.pos)).sum();
    pool::run(2 * n_heads * seen * d_head, parts.len() * n_kv_heads, &part);
    z
}

/// `x` with a contiguous last axis.
fn row_by_row(x: &Tensor) -> Tensor {
    assert_plain(x);
    if x.stride()[3] == 1 { x.shallow_clone() } else { x.contiguous() }
}

/// Copies the heads of one token per row, `[batch, n_kv_heads, 1, d_head]`, into the slots `places` of the cache,
/// `[batch, n_kv_heads, slots, d_head]`, whose last axis is contiguous.
pub fn put(kept: &Tensor, token: &Tensor, places: &[usize]) {
    assert_plain(kept);
    assert_eq!(kept.stride()[3], 1);
    let token = &row_by_row(token);
    let ([batch, heads, slots, d_head], to, from) = (sizes(kept), Rows::of(kept), Rows::of(token));
    assert_eq!(sizes(token), [batch, heads, 1, d_head]);
    assert!(places.len() == batch && places.iter().all(|&place| place < slots), "a slot for each row");
    for (row, &place) in places.iter().enumerate() {
        for head in 0..heads {
            // SAFETY: both places exist, and nobody else reads or writes the cache.
            unsafe {
                let (from, to) = (from.at(row, head, 0), to.at(row, head, place).cast_mut());
                std::ptr::copy_nonoverlapping(from, to, d_head);
            }
        }
    }
}

fn sizes(x: &Tensor) -> [usize; 4] {
    x.size().try_into().map(|sizes: [i64; 4]| sizes.map(|n| n as usize)).expect("four axes")
}

/// The rows of a tensor `[batch, heads, pos, d_head]`.
struct Rows {
    first: Source<f32>,
    /// Strides of all axes but the last.
    strides: [usize; 3],
}

impl Rows {
    fn of(x: &Tensor) -> Rows {
        let stride = x.stride();
        Rows { first: Source(x.data_ptr().cast()), strides: [0, 1, 2].map(|axis| stride[axis] as usize) }
    }

    #[inline(always)]
    fn at(&self, row: usize, head: usize, pos: usize) -> *const f32 {
        let [rows, heads, poss] = self.strides;
        self.first.0.wrapping_add(row * rows + head * heads + pos * poss)
    }
}

struct Attention {
    q: Rows,
    keys: Rows,
    values: Rows,
    window: usize,
    /// `[batch, pos, n_heads, d_head]`
    z: Place,
    n_heads: usize,
    /// Query heads per key head.
    group: usize,
    pos: usize,
    d_head: usize,
    products: Products,
}

/// The queries of one key head of one row at a range of positions.
struct Group<'a> {
    of: &'a Attention,
    row: Row,
    kv_head: usize,
    positions: Range<usize>,
}

impl Kernel for Group<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(&self) {
        let heads = self.of.group;
        let mut room = Vec::new();
        // Ordered by position, then by head.
        let (mut query, end) = (self.positions.start * heads, self.positions.end * heads);
        while query < end {
            let n = L::ROWS.min(end - query);
            // SAFETY: there are that many queries, and the caller guarantees the instructions.
            unsafe {
                match n {
                    1 => self.queries::<L, 1>(query, &mut room),
                    2 => self.queries::<L, 2>(query, &mut room),
                    3 => self.queries::<L, 3>(query, &mut room),
                    _ => self.queries::<L, 4>(query, &mut room),
                }
            }
            query += n;
        }
    }
}

impl Group<'_> {
    /// `R` queries, starting with number `query`.
    #[inline(always)]
    unsafe fn queries<L: Lanes, const R: usize>(&self, query: usize, room: &mut Vec<f32>) {
        let all = self.of;
        let place: [(usize, usize); R] = std::array::from_fn(|at| {
            ((query + at) / all.group, self.kv_head * all.group + (query + at) % all.group)
        });
        let seen = place.map(|(pos, _)| {
            let last = self.row.start + pos + 1;
            last.saturating_sub(all.window)..last
        });
        // Starts at a register boundary, so that a slot's lane does not depend on what other queries see.
        let (first, last) = (seen[0].start / L::N * L::N, seen[R - 1].end);
        let width = (last - first).next_multiple_of(L::N.max(COLUMNS));
        room.resize(room.len().max(R * width), 0.0);
        let Row { batch, first: begin, .. } = self.row;
        let q: [*const f32; R] = place.map(|(pos, head)| all.q.at(batch, head, begin + pos));
        for slot in (first..last).step_by(COLUMNS) {
            let key = |at: usize| all.keys.at(batch, self.kv_head, begin + (slot + at).min(last - 1));
            // SAFETY: the pointers lead to heads.
            let products = unsafe { sums::<L, f32, R>(q, std::array::from_fn(key), all.d_head) };
            for (weights, products) in room.chunks_exact_mut(width).zip(products) {
                weights[slot - first..slot - first + COLUMNS].copy_from_slice(&products);
            }
        }
        for (weights, seen) in room.chunks_exact_mut(width).zip(seen) {
            // SAFETY: the caller's guarantees.
            unsafe { softmax::<L>(weights, seen.start - first..seen.end - first, all.products) }
        }
        let weights: [&[f32]; R] = std::array::from_fn(|at| &room[at * width..(at + 1) * width]);
        let mut from = 0;
        while from < all.d_head {
            let part = Values { of: self, place, weights, slots: first..last, from };
            // SAFETY: values have that many entries, and so has the output, which belongs to this group alone.
            from += unsafe {
                match (all.d_head - from) / L::N {
                    0 | 1 => part.sum::<L, 1>(),
                    2 | 3 => part.sum::<L, 2>(),
                    _ => part.sum::<L, 4>(),
                }
            };
        }
    }
}

/// Weighted sum of values for `R` queries, from entry `from` of a head on.
struct Values<'a, const R: usize> {
    of: &'a Group<'a>,
    /// Position and head of each query.
    place: [(usize, usize); R],
    /// Weight of each slot.
    weights: [&'a [f32]; R],
    slots: Range<usize>,
    from: usize,
}

impl<const R: usize> Values<'_, R> {
    /// The sums of `C` registers; returns the number of entries they cover.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const C: usize>(&self) -> usize {
        let Group { of: all, row: Row { batch, first, .. }, kv_head, .. } = *self.of;
        let left = all.d_head - self.from;
        // SAFETY: the caller's guarantees.
        unsafe {
            let mut sums = [[L::splat(0.0); C]; R];
            for (at, slot) in self.slots.clone().enumerate() {
                let value = all.values.at(batch, kv_head, first + slot).add(self.from);
                let value: [L; C] =
                    std::array::from_fn(|c| L::load_some(value.add(c * L::N), left - c * L::N));
                for (sums, weights) in sums.iter_mut().zip(self.weights) {
                    let weight = L::splat(*weights.get_unchecked(at));
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum = weight.mul_add(value, *sum);
                    }
                }
            }
            for (sums, (pos, head)) in sums.into_iter().zip(self.place) {
                let head = (batch * all.pos + first + pos) * all.n_heads + head;
                let to = all.z.0.add(head * all.d_head + self.from);
                for (c, sum) in sums.into_iter().enumerate() {
                    sum.store_some(to.add(c * L::N), left - c * L::N);
                }
            }
        }
        C * L::N
    }
}

/// Softmax of the products in the range `seen`; all others become 0.
///
/// # Safety
/// As [`Lanes`]; the length of `numbers` is a multiple of a register's.
#[inline(always)]
unsafe fn softmax<L: Lanes>(numbers: &mut [f32], seen: Range<usize>, products: Products) {
    let mut scale = products.scale as f32;
    if let Some(cap) = products.cap {
        // SAFETY: the caller's guarantees.
        unsafe {
            let (to, from) = (L::splat(cap as f32), L::splat(scale / cap as f32));
            for chunk in numbers.chunks_exact_mut(L::N) {
                to.mul(tanh(L::load(chunk.as_ptr()).mul(from))).store(chunk.as_mut_ptr());
            }
        }
        scale = 1.0;
    }
    let hide = |numbers: &mut [f32], with: f32| {
        numbers[..seen.start].fill(with);
        numbers[seen.end..].fill(with);
    };
    hide(numbers, f32::NEG_INFINITY);
    // SAFETY: the caller's guarantees.
    unsafe {
        let mut largest = L::splat(f32::NEG_INFINITY);
        for chunk in numbers.chunks_exact(L::N) {
            largest = largest.max(L::load(chunk.as_ptr()));
        }
        let mut each = [f32::NEG_INFINITY; WIDEST];
        largest.store(each.as_mut_ptr());
        let largest = each.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let (scale, shift) = (L::splat(scale), L::splat(-largest * scale));
        for chunk in numbers.chunks_exact_mut(L::N) {
            exp(L::load(chunk.as_ptr()).mul_add(scale, shift)).store(chunk.as_mut_ptr());
        }
        hide(numbers, 0.0);
        let mut total = L::splat(0.0);
        for chunk in numbers.chunks_exact(L::N) {
            total = total.add(L::load(chunk.as_ptr()));
        }
        let share = L::splat(1.0 / total.sum());
        for chunk in numbers.chunks_exact_mut(L::N) {
            L::load(chunk.as_ptr()).mul(share).store(chunk.as_mut_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    /// Rows of a padded batch that begin at these positions.
    fn padded(starts: &[usize], pos: usize) -> Vec<Row> {
        let row = |(batch, &start)| Row { batch, first: 0, pos, start };
        starts.iter().enumerate().map(row).collect()
    }

    const UNBOUNDED: Products = Products { scale: 0.2, cap: None };

    /// Compared with its definition in fp64: with heads strided as a projection returns them, and slots of a cache
    /// with spare room; rows that begin at different positions; a window.
    #[test]
    fn attention_is_right() {
        for on in Registers::here() {
            let shapes = [
                (6, 3, 32, 1),
                (4, 4, 24, 17),
                (9, 3, 64, 100),
                (5, 1, 80, 3),
                (8, 1, 256, 1),
                (2, 2, 6, 70),
            ];
            for (n_heads, n_kv_heads, d_head, pos) in shapes {
                let products = Products { scale: 0.3, cap: (n_heads == 9).then_some(2.0) };
                for (starts, window) in
                    [([0, 0, 0], None), ([0, 0, 0], Some(5)), ([40, 0, 7], None), ([40, 0, 7], Some(9))]
                {
                    let (batch, slots) = (3, pos + 40);
                    let q = random(&[batch, pos, n_heads, d_head]).transpose(1, 2);
                    let cache = |_| random(&[batch + 1, n_kv_heads, slots + 5, d_head]);
                    let [keys, values] =
                        [0, 1].map(cache).map(|all| all.narrow(0, 0, batch).narrow(2, 0, slots));
                    let slot = Tensor::arange(slots, (Kind::Int64, Device::Cpu));
                    let at = Tensor::from_slice(&starts).view([batch, 1, 1])
                        + Tensor::arange(pos, (Kind::Int64, Device::Cpu)).view([pos, 1]);
                    let first = &at - window.unwrap_or(slots) + 1;
                    let hidden = slot.gt_tensor(&at).logical_or(&slot.lt_tensor(&first)).unsqueeze(1);
                    let wide = |x: &Tensor| {
                        x.to_kind(Kind::Double).repeat_interleave_self_int(n_heads / n_kv_heads, 1, None)
                    };
                    let each = q.to_kind(Kind::Double).matmul(&wide(&keys).transpose(2, 3)) * 0.3;
                    let each = products.cap.map_or(each.shallow_clone(), |cap| (each / cap).tanh() * cap);
                    let weights = each.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
                    let want = weights.matmul(&wide(&values)).transpose(1, 2).reshape([
                        batch,
                        pos,
                        n_heads * d_head,
                    ]);
                    let begin = padded(&starts.map(|start| start as usize), pos as usize);
                    let got = attend(on, &q, (&keys, &values), &begin, window.map(|n| n as usize), products);
                    let error = (got.to_kind(Kind::Double) - want).abs().max().double_value(&[]);
                    // Products of heads of width 256 are about 10 in size, and their exponentials have a relative
                    // error of about 1e-6.
                    assert!(
                        error < 1e-5,
                        "{n_heads} {n_kv_heads} {d_head} {pos} {starts:?} {window:?}: {error}"
                    );
                }
            }
        }
    }

    /// A row has the same bits alone, next to longer rows, and for any number of threads.
    #[test]
    fn a_row_does_not_see_the_others() {
        for on in Registers::here() {
            let (q, keys) = (random(&[4, 6, 200, 32]), random(&[4, 2, 200, 32]));
            let all = attend(on, &q, (&keys, &keys), &padded(&[0; 4], 200), None, UNBOUNDED);
            let short = |x: &Tensor| x.narrow(0, 2, 1).narrow(2, 0, 70);
            let threads = tch::get_num_threads();
            tch::set_num_threads(1);
            let alone =
                attend(on, &short(&q), (&short(&keys), &short(&keys)), &padded(&[0], 70), None, UNBOUNDED);
            tch::set_num_threads(threads);
            assert_eq!(alone, all.narrow(0, 2, 1).narrow(1, 0, 70));
            // The last token alone, as in a step of generation.
            let last = attend(
                on,
                &short(&q).narrow(2, 69, 1),
                (&short(&keys), &short(&keys)),
                &padded(&[69], 1),
                None,
                UNBOUNDED,
            );
            assert_eq!(last, alone.narrow(1, 69, 1));
            // Two rows one after another, the second in the middle of the tensors.
            let joined = |x: &Tensor| {
                Tensor::cat(&[x.narrow(0, 0, 1), x.narrow(0, 2, 1).narrow(2, 0, 70)], 2).contiguous()
            };
            let row = |first, pos| Row { batch: 0, first, pos, start: 0 };
            let (q, keys) = (joined(&q), joined(&keys));
            for window in [None, Some(9)] {
                let packed = attend(on, &q, (&keys, &keys), &[row(0, 200), row(200, 70)], window, UNBOUNDED);
                let second = |x: &Tensor| x.narrow(2, 200, 70);
                let (q, keys) = (second(&q), second(&keys));
                let alone = attend(on, &q, (&keys, &keys), &padded(&[0], 70), window, UNBOUNDED);
                assert_eq!(packed.narrow(1, 200, 70), alone);
            }
        }
    }

    #[test]
    fn a_token_goes_to_its_slot() {
        let (kept, token) = (random(&[4, 2, 9, 6]), random(&[3, 1, 2, 6]).transpose(1, 2));
        let want = kept.copy();
        for (row, slot) in [(0, 3), (1, 0), (2, 8)] {
            want.get(row).narrow(1, slot, 1).copy_(&token.get(row));
        }
        put(&kept.narrow(0, 0, 3), &token, &[3, 0, 8]);
        assert_eq!(kept, want);
    }

    #[test]
    fn what_is_not_a_number_is_seen() {
        for on in Registers::here() {
            let (q, keys) = (random(&[1, 1, 1, 16]), random(&[1, 1, 20, 16]));
            for number in [f64::NAN, f64::INFINITY] {
                let broken = keys.copy();
                let _ = broken.get(0).get(0).get(3).fill_(number);
                let z = attend(on, &q, (&broken, &keys), &padded(&[19], 1), None, UNBOUNDED);
                assert!(z.isnan().all().int64_value(&[]) == 1, "{number}");
            }
        }
    }
}
