//! Sums of stories in cells, one a pair of group and label, and what resampling makes of them: weighted sums over groups,
//! and sums under other labels. Knows nothing of what groups and labels are.
//!
//! Resamples of 171 emotions in 100 topics would each go through 35 million numbers. So cells are kept in pieces of [`WIDE`]
//! dimensions: a piece of all cells, 1 MB, is read once for many resamples, weighted sums of it are one product of matrices,
//! and sums under other labels stay in the caches. A piece is always the work of one thread: results do not depend on
//! how many there are.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::design::{Shuffle, Weights};

/// Dimensions of a piece: one cache line in float32.
const WIDE: usize = 16;

/// Sums of stories by group and label.
pub struct Cells {
    groups: usize,
    labels: usize,
    d: usize,
    /// Each `[group, label, WIDE]`, in float32; the last is filled up with zeros.
    pieces: Vec<Vec<f32>>,
}

/// Sums over groups, of several resamples.
pub struct Drawn {
    labels: usize,
    d: usize,
    /// Each `[resample, label, WIDE]`.
    pieces: Vec<Vec<f32>>,
}

impl Cells {
    /// From the sums of each group, `[label, d]` in float64. What all stories have in common should be gone from them: what
    /// is left is kept in float32.
    pub(super) fn new(labels: usize, d: usize, sums: &[Vec<f64>]) -> Cells {
        let piece = |first: usize| {
            let wide = WIDE.min(d - first);
            let mut piece = vec![0.0; sums.len() * labels * WIDE];
            let rows = sums.iter().flat_map(|group| group.chunks_exact(d));
            for (cell, row) in piece.chunks_exact_mut(WIDE).zip(rows) {
                cell.iter_mut().zip(&row[first..first + wide]).for_each(|(x, y)| *x = *y as f32);
            }
            piece
        };
        let pieces = (0..d).step_by(WIDE).collect::<Vec<_>>().into_par_iter().map(piece).collect();
        Cells { groups: sums.len(), labels, d, pieces }
    }

    /// The width of a row.
    pub fn d(&self) -> usize {
        self.d
    }

    /// For each of `weights` the sums over groups, each group so often.
    pub fn weighted(&self, weights: &[Weights]) -> Drawn {
        let weights: Vec<f32> = weights.iter().flat_map(|weights| weights.iter().copied()).collect();
        let weights = DMatrixView::from_slice(&weights, self.groups, weights.len() / self.groups.max(1));
        let rows = self.labels * WIDE;
        let pieces = self.pieces.par_iter().map(|piece| {
            // A column of this matrix is a group.
            let cells = DMatrixView::from_slice(piece, rows, self.groups);
            (cells * weights).as_slice().to_vec()
        });
        Drawn { labels: self.labels, d: self.d, pieces: pieces.collect() }
    }

    /// For each of `shuffles` the sums over the groups that `of` lists, where labels get each other's cells.
    pub fn shuffled(&self, shuffles: &[Shuffle], of: &[usize]) -> Drawn {
        // `[order, label, group]`: which cell.
        let place = |from: &[u32], group: usize| (group * self.labels) as u32 + from[group];
        let cells: Vec<u32> = shuffles
            .par_iter()
            .flat_map_iter(Shuffle::by_label)
            .flat_map_iter(|from| of.iter().map(move |&group| place(from, group)))
            .collect();
        let pieces = self.pieces.par_iter().map(|piece| {
            let mut sums = vec![0.0; shuffles.len() * self.labels * WIDE];
            gathered(piece.as_chunks().0, &cells, of.len().max(1), sums.as_chunks_mut().0);
            sums
        });
        Drawn { labels: self.labels, d: self.d, pieces: pieces.collect() }
    }
}

impl Drawn {
    /// `[label, d]`: those of one resample.
    pub fn of(&self, resample: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.labels * self.d];
        let first = resample * self.labels * WIDE;
        for (number, piece) in self.pieces.iter().enumerate() {
            let from = number * WIDE;
            let wide = WIDE.min(self.d - from);
            let piece = piece[first..].chunks_exact(WIDE);
            for (row, cells) in rows.chunks_exact_mut(self.d).zip(piece) {
                row[from..from + wide].copy_from_slice(&cells[..wide]);
            }
        }
        rows
    }
}

/// Each of `sums`: the sum of the next `n` of `cells`, which are places in `piece`. With wide registers where the
/// processor has them: the numbers, and the order in which they are added, are the same.
fn gathered(piece: &[[f32; WIDE]], cells: &[u32], n: usize, sums: &mut [[f32; WIDE]]) {
    #[inline(always)]
    fn plain(piece: &[[f32; WIDE]], cells: &[u32], n: usize, sums: &mut [[f32; WIDE]]) {
        for (cells, sum) in cells.chunks_exact(n).zip(sums) {
            let mut acc = [0f32; WIDE];
            for &cell in cells {
                acc.iter_mut().zip(&piece[cell as usize]).for_each(|(x, y)| *x += y);
            }
            *sum = acc;
        }
    }
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn wide(piece: &[[f32; WIDE]], cells: &[u32], n: usize, sums: &mut [[f32; WIDE]]) {
            plain(piece, cells, n, sums);
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            return unsafe { wide(piece, cells, n, sums) };
        }
    }
    plain(piece, cells, n, sums);
}

/// Makes means of sums (`[label, d]`, over so many stories) and takes from each row the mean of all, which it returns.
pub fn centre(rows: &mut [f32], stories: &[f64], d: usize) -> Vec<f64> {
    let mut mean = vec![0.0; d];
    for (row, count) in rows.chunks_exact_mut(d).zip(stories) {
        let scale = (1.0 / count) as f32;
        for (x, mean) in row.iter_mut().zip(&mut mean) {
            *x *= scale;
            *mean += f64::from(*x);
        }
    }
    mean.iter_mut().for_each(|x| *x /= stories.len() as f64);
    let single: Vec<f32> = mean.iter().map(|&x| x as f32).collect();
    for row in rows.chunks_exact_mut(d) {
        row.iter_mut().zip(&single).for_each(|(x, mean)| *x -= mean);
    }
    mean
}

/// `[n, n]`, symmetric: the products of each two of `rows` (`[n, d]`), in float32.
pub fn gram(rows: &[f32], n: usize) -> DMatrix<f64> {
    /// Columns of a block: of the blocks above the diagonal none is computed.
    const BLOCK: usize = 64;
    /// Up to so many rows or columns nalgebra takes another way, which cannot read matrices with strides.
    const SMALL: usize = 5;
    let d = rows.len() / n.max(1);
    let mut gram = DMatrix::<f32>::zeros(n, n);
    for first in (0..n).step_by(BLOCK) {
        let wide = BLOCK.min(n - first);
        if wide <= SMALL || d <= SMALL {
            let row = |i: usize| &rows[i * d..(i + 1) * d];
            for (i, j) in (first..n).flat_map(|i| (first..first + wide).map(move |j| (i, j))) {
                gram[(i, j)] = row(i).iter().zip(row(j)).map(|(x, y)| x * y).sum();
            }
            continue;
        }
        let below = DMatrixView::from_slice_with_strides(&rows[first * d..], n - first, d, d, 1);
        let these = DMatrixView::from_slice(&rows[first * d..(first + wide) * d], d, wide);
        gram.view_mut((first, first), (n - first, wide)).gemm(1.0, &below, &these, 0.0);
    }
    gram.fill_upper_triangle_with_lower_triangle();
    gram.map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::super::design::tests::{shuffle, weights};
    use super::super::draws::Draws;
    use super::*;

    /// Three groups of two labels in 19 dimensions, of whole numbers.
    fn cells() -> (Cells, Vec<Vec<f64>>) {
        let mut draws = Draws::new("cells", &[]);
        let group = |draws: &mut Draws| (0..2 * 19).map(|_| draws.below(9) as f64 - 4.0).collect::<Vec<_>>();
        let sums: Vec<_> = (0..3).map(|_| group(&mut draws)).collect();
        (Cells::new(2, 19, &sums), sums)
    }

    #[test]
    fn weighted_sums_and_sums_under_other_labels_by_hand() {
        let (cells, sums) = cells();
        let got = cells.weighted(&[weights(&[1.0, 0.0, 2.0]), weights(&[0.0, 3.0, 0.0])]);
        let want: Vec<f32> = (0..38).map(|at| (sums[0][at] + 2.0 * sums[2][at]) as f32).collect();
        assert_eq!(got.of(0), want);
        assert_eq!(got.of(1), sums[1].iter().map(|x| 3.0 * *x as f32).collect::<Vec<_>>());
        // Group 1 keeps its labels, groups 0 and 2 exchange them; then over groups 0 and 1 alone.
        let order = [shuffle(&[1, 0, 1, 0, 1, 0], 3)];
        let other = |label: usize, at: usize| sums[0][(1 - label) * 19 + at] + sums[1][label * 19 + at];
        let got = cells.shuffled(&order, &[0, 1, 2]).of(0);
        let part = cells.shuffled(&order, &[0, 1]).of(0);
        for (label, at) in (0..38).map(|i| (i / 19, i % 19)) {
            assert_eq!(part[label * 19 + at], other(label, at) as f32);
            assert_eq!(got[label * 19 + at], (other(label, at) + sums[2][(1 - label) * 19 + at]) as f32);
        }
    }

    #[test]
    fn the_gram_matrix_by_hand_and_over_several_blocks() {
        assert_eq!(gram(&[1.0, 2.0, 3.0, -1.0], 2).as_slice(), [5.0, 1.0, 1.0, 10.0]);
        let mut draws = Draws::new("gram", &[]);
        for (n, d) in [(150, 3), (150, 9), (130, 70), (7, 6)] {
            let rows: Vec<f32> = (0..n * d).map(|_| draws.below(7) as f32 - 3.0).collect();
            let got = gram(&rows, n);
            for (a, b) in (0..n * n).map(|i| (i / n, i % n)) {
                let product: f32 = (0..d).map(|i| rows[a * d + i] * rows[b * d + i]).sum();
                assert_eq!(got[(a, b)], f64::from(product), "{n} {d}");
            }
        }
    }
}
