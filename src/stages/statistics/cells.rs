//! Sums of stories in cells, one cell per pair of group and label, and their resampling: weighted sums over groups,
//! and sums under shuffled labels. Independent of what groups and labels mean.
//!
//! A resample of 171 emotions in 100 topics would otherwise read 35 million numbers. So cells are stored in pieces of
//! [`WIDE`] dimensions: a piece covers all cells (1 MB) and is read once for many resamples, its weighted sums are
//! one matrix product, and its sums under shuffled labels stay in the CPU caches. A piece is always processed by one
//! thread, so results do not depend on the number of threads.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

use super::design::{Shuffle, Weights};
use super::wide::wide;

/// Dimensions per piece: one cache line of float32.
const WIDE: usize = 16;

/// Number of groups whose cells are added to all sums in one pass, so that they stay in the cache.
const TOGETHER: usize = 4;

/// Sums of stories by group and label.
pub struct Cells {
    groups: usize,
    labels: usize,
    d: usize,
    /// One per piece, each `[group, label, WIDE]` in float32; the last piece is padded with zeros.
    pieces: Vec<Lines>,
}

/// Sums over groups for several resamples.
#[derive(Default)]
pub struct Drawn {
    labels: usize,
    d: usize,
    /// One per piece, each `[resample, label, WIDE]`.
    pieces: Vec<Lines>,
}

/// Numbers aligned so that each [`WIDE`] of them are one cache line: loading a register from two lines takes twice as
/// long.
struct Lines {
    values: Vec<f32>,
    first: usize,
}

impl Lines {
    fn zeros(n: usize) -> Lines {
        let values = vec![0.0; n + WIDE];
        let first = values.as_ptr().align_offset(WIDE * size_of::<f32>());
        // The offset may be unknown; then any alignment is correct.
        Lines { values, first: if first < WIDE { first } else { 0 } }
    }

    fn lines(&self) -> &[[f32; WIDE]] {
        self.values[self.first..].as_chunks().0
    }

    fn lines_mut(&mut self) -> &mut [[f32; WIDE]] {
        self.values[self.first..].as_chunks_mut().0
    }
}

impl Cells {
    /// From the sums of each group, `[label, d]` in float64. The component common to all stories should be subtracted
    /// beforehand, because the remainder is stored in float32.
    pub(super) fn new(labels: usize, d: usize, sums: &[Vec<f64>]) -> Cells {
        let piece = |first: usize| {
            let wide = WIDE.min(d - first);
            let mut piece = Lines::zeros(sums.len() * labels * WIDE);
            let rows = sums.iter().flat_map(|group| group.chunks_exact(d));
            for (cell, row) in piece.lines_mut().iter_mut().zip(rows) {
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

    /// For each of `weights`, the weighted sums over groups.
    pub fn weighted(&self, weights: &[Weights]) -> Drawn {
        let weights: Vec<f32> = weights.iter().flat_map(|weights| weights.iter().copied()).collect();
        let weights = DMatrixView::from_slice(&weights, self.groups, weights.len() / self.groups.max(1));
        let rows = self.labels * WIDE;
        let pieces = self.pieces.par_iter().map(|piece| {
            // A column of this matrix is a group.
            let cells = DMatrixView::from_slice(piece.lines().as_flattened(), rows, self.groups);
            Lines { values: (cells * weights).data.into(), first: 0 }
        });
        Drawn { labels: self.labels, d: self.d, pieces: pieces.collect() }
    }

    /// For each of `shuffles`, the sums over the groups listed in `of`, with each label's cell taken from the label
    /// it was shuffled with.
    pub fn shuffled(&self, shuffles: &[Shuffle], of: &[usize]) -> Drawn {
        // For consecutive groups, `[order, label, group]`: the label whose cell is taken.
        let labels = |of: &[usize]| -> Vec<u16> {
            let from = shuffles.par_iter().flat_map_iter(Shuffle::by_label);
            let short = |label: u32| u16::try_from(label).expect("at most 65,536 labels");
            from.flat_map_iter(|from| of.iter().map(move |&group| short(from[group]))).collect()
        };
        let (whole, rest) = of.as_chunks::<TOGETHER>();
        let whole: Vec<_> = whole.iter().map(|of| (*of, labels(of))).collect();
        let rest: Vec<_> = rest.iter().map(|&of| ([of], labels(&[of]))).collect();
        let pieces = self.pieces.par_iter().map(|piece| {
            let mut sums = Lines::zeros(shuffles.len() * self.labels * WIDE);
            let group = |number: usize| &piece.lines()[number * self.labels..][..self.labels];
            for (of, labels) in &whole {
                gathered(of.map(group), labels.as_chunks().0, sums.lines_mut());
            }
            for (of, labels) in &rest {
                gathered(of.map(group), labels.as_chunks().0, sums.lines_mut());
            }
            sums
        });
        Drawn { labels: self.labels, d: self.d, pieces: pieces.collect() }
    }
}

impl Drawn {
    /// `[label, d]`: the sums of one resample.
    pub fn of(&self, resample: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.labels * self.d];
        for (number, piece) in self.pieces.iter().enumerate() {
            let cells = &piece.lines()[resample * self.labels..][..self.labels];
            put(cells, &vec![1.0; self.labels], &[0.0; WIDE], &mut rows, self.d, number * WIDE);
        }
        rows
    }

    /// Writes the means of one resample, whose label sums cover `stories` stories, into `rows` (`[label, d]`), with
    /// the mean over labels subtracted. Returns that mean.
    pub fn centred(&self, resample: usize, stories: &[f64], rows: &mut Vec<f32>) -> Vec<f64> {
        rows.resize(self.labels * self.d, 0.0);
        let scales: Vec<f32> = stories.iter().map(|count| (1.0 / count) as f32).collect();
        let mut means = Vec::with_capacity(self.pieces.len() * WIDE);
        for (number, piece) in self.pieces.iter().enumerate() {
            let cells = &piece.lines()[resample * self.labels..][..self.labels];
            let mean = mean(cells, &scales);
            put(cells, &scales, &mean.map(|x| x as f32), rows, self.d, number * WIDE);
            means.extend(mean);
        }
        means.truncate(self.d);
        means
    }
}

wide! {
    /// Adds to each of `sums` one cell of each of `groups`; `labels` says which.
    fn gathered[const N: usize](groups: [&[[f32; WIDE]]; N], labels: &[[u16; N]], sums: &mut [[f32; WIDE]]) {
        for (labels, sum) in labels.iter().zip(sums) {
            let mut acc = *sum;
            for (group, &label) in groups.iter().zip(labels) {
                acc.iter_mut().zip(&group[usize::from(label)]).for_each(|(x, y)| *x += y);
            }
            *sum = acc;
        }
    }
}

wide! {
    /// The mean over labels of `cells`, each multiplied by its scale, in float64.
    fn mean(cells: &[[f32; WIDE]], scales: &[f32]) -> [f64; WIDE] {
        let mut mean = [0.0; WIDE];
        for (cell, scale) in cells.iter().zip(scales) {
            mean.iter_mut().zip(cell).for_each(|(mean, x)| *mean += f64::from(x * scale));
        }
        mean.map(|sum| sum / cells.len() as f64)
    }
}

wide! {
    /// Writes `cells`, each multiplied by its scale and with `mean` subtracted, into `rows` (`[label, d]`) starting
    /// at dimension `from`; the last piece may be cut off at `d`.
    fn put(cells: &[[f32; WIDE]], scales: &[f32], mean: &[f32; WIDE], rows: &mut [f32], d: usize, from: usize) {
        for ((row, cell), scale) in rows.chunks_exact_mut(d).zip(cells).zip(scales) {
            let row = &mut row[from..];
            if let Some(row) = row.first_chunk_mut::<WIDE>() {
                (0..WIDE).for_each(|at| row[at] = cell[at] * scale - mean[at]);
            } else {
                (0..row.len()).for_each(|at| row[at] = cell[at] * scale - mean[at]);
            }
        }
    }
}

/// `[n, n]`, symmetric: the Gram matrix of `rows` (`[n, d]`), in float32.
pub fn gram(rows: &[f32], n: usize) -> DMatrix<f64> {
    /// Columns per block: blocks above the diagonal are not computed.
    const BLOCK: usize = 64;
    /// Up to this many rows or columns nalgebra uses another code path, which cannot read strided matrices.
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

    /// Three groups of two labels in 19 dimensions, with integer entries.
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
        // Group 1 keeps its labels, groups 0 and 2 swap theirs; then the same over groups 0 and 1 only.
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
