//! Sums of stories by group and label in float64, and the means computed from them. Independent of what groups and
//! labels mean.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::cells::Cells;
use super::design::{Design, Shuffle, Weights};

/// Sums of rows by cell: 280 MB for 171 labels, 100 groups and a width of 2,048.
pub struct Sums {
    labels: usize,
    /// 0 until the first row is added.
    d: usize,
    /// For each group, `[label, d]`.
    groups: Vec<Vec<f64>>,
}

impl Sums {
    pub fn new(labels: usize) -> Sums {
        Sums { labels, d: 0, groups: Vec::new() }
    }

    /// The width of a row.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Adds a row of `d` numbers to a cell. An error if its width differs from that of the first row.
    pub fn add(
        &mut self,
        group: usize,
        label: usize,
        d: usize,
        row: impl Iterator<Item = f64>,
    ) -> Result<()> {
        ensure!(self.d == 0 || self.d == d, "activations of different widths");
        self.d = d;
        while self.groups.len() <= group {
            self.groups.push(vec![0.0; self.labels * d]);
        }
        let sum = &mut self.groups[group][label * d..][..d];
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        Ok(())
    }

    /// `[label, d]` for each group.
    pub fn groups(&self) -> &[Vec<f64>] {
        &self.groups
    }

    /// The sum of a cell.
    pub fn cell(&self, group: usize, label: usize) -> &[f64] {
        &self.groups[group][label * self.d..][..self.d]
    }

    /// `[label, d]`: the mean of each label's rows, with groups weighted. `None` if a label has no rows.
    pub fn means(&self, design: &Design, weights: &Weights) -> Option<Vec<f64>> {
        let (n, d) = (self.labels, self.d.max(1));
        let mut means = vec![0.0; n * d];
        let whole = means.par_chunks_exact_mut(d).enumerate().map(|(label, mean)| {
            let mut count = 0.0;
            for (group, weight) in
                weights.iter().map(|&w| f64::from(w)).enumerate().filter(|(_, w)| *w != 0.0)
            {
                count += weight * design.count(group, label);
                mean.iter_mut().zip(self.cell(group, label)).for_each(|(m, x)| *m += weight * x);
            }
            mean.iter_mut().for_each(|m| *m /= count);
            count > 0.0
        });
        let whole = whole.all(|there| there);
        whole.then_some(means)
    }

    /// `[label, d]`: the means after shuffling. Every label must have a row.
    pub fn means_shuffled(&self, design: &Design, shuffle: &Shuffle) -> Vec<f64> {
        let (n, d) = (self.labels, self.d.max(1));
        let mut means = vec![0.0; n * d];
        means.par_chunks_exact_mut(d).enumerate().for_each(|(label, mean)| {
            let mut count = 0.0;
            for group in 0..self.groups.len() {
                let from = shuffle.from(label, group);
                count += design.count(group, from);
                mean.iter_mut().zip(self.cell(group, from)).for_each(|(m, x)| *m += x);
            }
            mean.iter_mut().for_each(|m| *m /= count);
        });
        means
    }

    /// Replaces the sum of each cell by its mean, matching the counts of [`Design::evened`].
    pub fn even(&mut self, design: &Design) {
        let (n, d) = (self.labels, self.d.max(1));
        self.groups.par_iter_mut().enumerate().for_each(|(group, rows)| {
            let counts = &design.counts()[group * n..][..n];
            for (row, &count) in rows.chunks_exact_mut(d).zip(counts).filter(|(_, count)| **count > 0.0) {
                row.iter_mut().for_each(|x| *x /= count);
            }
        });
    }

    /// The mean of all rows.
    pub fn mean(&self, design: &Design) -> Vec<f64> {
        let all: f64 = design.counts().iter().sum();
        let mut mean = vec![0.0; self.d];
        for row in self.groups.iter().flat_map(|group| group.chunks_exact(self.d)) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x / all);
        }
        mean
    }

    /// Subtracts `origin` from every row, and applies `change` to the remaining sum of each cell.
    pub fn shift(&mut self, design: &Design, origin: &[f64], change: impl Fn(&mut [f64]) + Sync) {
        let d = self.d.max(1);
        self.groups.par_iter_mut().enumerate().for_each(|(group, rows)| {
            for (label, row) in rows.chunks_exact_mut(d).enumerate() {
                let count = design.count(group, label);
                row.iter_mut().zip(origin).for_each(|(x, origin)| *x -= count * origin);
                change(row);
            }
        });
    }

    /// Converts to [`Cells`] for repeated resampling; in float32, so the component common to all rows should be
    /// subtracted first.
    pub fn cells(&self) -> Cells {
        Cells::new(self.labels, self.d, &self.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::super::design::tests::{design, shuffle, weights};
    use super::*;

    /// Label 0 has one row in group 0 and two in group 1, label 1 one in each.
    fn sums() -> (Sums, Design) {
        let mut sums = Sums::new(2);
        let rows = [
            (0, 0, [1.0, 0.0]),
            (0, 1, [0.0, 1.0]),
            (1, 0, [3.0, 2.0]),
            (1, 0, [5.0, 2.0]),
            (1, 1, [0.0, 7.0]),
        ];
        rows.into_iter().for_each(|(group, label, row)| sums.add(group, label, 2, row.into_iter()).unwrap());
        (sums, design(&[1.0, 1.0, 2.0, 1.0], 2, 0))
    }

    #[test]
    fn weighted_means_by_hand() {
        let (sums, design) = sums();
        let means = |w: &[f32]| sums.means(&design, &weights(w));
        assert_eq!(means(&[1.0, 1.0]).unwrap(), [3.0, 4.0 / 3.0, 0.0, 4.0]);
        // Group 0 once, 1 twice: label 0 is (1 + 2 (3 + 5)) / 5.
        assert_eq!(means(&[1.0, 2.0]).unwrap(), [17.0 / 5.0, 8.0 / 5.0, 0.0, 5.0]);
        assert_eq!(means(&[0.0, 1.0]).unwrap(), [4.0, 2.0, 0.0, 7.0]);
        assert_eq!(means(&[0.0, 0.0]), None);
        assert_eq!(sums.mean(&design), [9.0 / 5.0, 12.0 / 5.0]);
    }

    #[test]
    fn whole_cells_change_places() {
        let (sums, design) = sums();
        // In group 1 the two rows of label 0 become label 1's together.
        let means = sums.means_shuffled(&design, &shuffle(&[0, 1, 1, 0], 2));
        assert_eq!(means, [0.5, 3.5, 8.0 / 3.0, 5.0 / 3.0]);
        assert_eq!(
            sums.means_shuffled(&design, &design.unshuffled()),
            sums.means(&design, &design.every()).unwrap()
        );
    }

    #[test]
    fn where_every_group_counts_alike_means_are_those_of_the_groups_means() {
        let (mut sums, design) = sums();
        sums.even(&design);
        let design = design.evened();
        // Label 0: the mean of (1, 0) and (4, 2).
        assert_eq!(sums.means(&design, &design.every()).unwrap(), [2.5, 1.0, 0.0, 4.0]);
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let (mut sums, _) = sums();
        assert!(sums.add(0, 0, 3, [0.0; 3].into_iter()).is_err());
    }
}
