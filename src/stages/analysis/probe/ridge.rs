//! Ridge regression onto labels in closed form, fold by fold, from sums over the stories. Independent of emotions.

use anyhow::{Context, Result};
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use tch::{Kind, Tensor};

/// Columns per block of the matrix of products: each block is computed by one thread.
const BLOCK: usize = 128;

/// Rows added at once.
pub const ROWS: usize = 256;

/// Sums over the stories of one fold: `X^T X`, the sum of the rows, and their number.
#[derive(Clone)]
pub struct Products {
    d: usize,
    /// For each block of columns, `[rows from the block's first on, BLOCK]`.
    blocks: Vec<DMatrix<f64>>,
    pub sum: Vec<f64>,
    pub count: f64,
}

impl Products {
    pub fn new(d: usize) -> Products {
        let block = |first: usize| DMatrix::zeros(d - first, BLOCK.min(d - first));
        Products { d, blocks: (0..d).step_by(BLOCK).map(block).collect(), sum: vec![0.0; d], count: 0.0 }
    }

    /// Adds `rows` (`[n, d]`), with the blocks distributed over all cores.
    pub fn add(&mut self, rows: &[f64]) {
        let (d, n) = (self.d, rows.len() / self.d);
        rows.chunks_exact(d).for_each(|row| self.sum.iter_mut().zip(row).for_each(|(s, x)| *s += x));
        self.count += n as f64;
        // A column of this matrix is one of our rows.
        let columns = DMatrixView::from_slice(rows, d, n);
        let turned = columns.transpose();
        self.blocks.par_iter_mut().enumerate().for_each(|(number, block)| {
            let (first, wide) = (number * BLOCK, block.ncols());
            block.gemm(1.0, &columns.rows(first, d - first), &turned.columns(first, wide), 1.0);
        });
    }

    /// The sums over all folds but one.
    pub fn without(all: &[Products], left_out: usize) -> Products {
        let mut sum = Products::new(all[left_out].d);
        for other in all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, other)| other) {
            sum.blocks.par_iter_mut().zip(&other.blocks).for_each(|(a, b)| *a += b);
            sum.sum.iter_mut().zip(&other.sum).for_each(|(a, b)| *a += b);
            sum.count += other.count;
        }
        sum
    }

    /// The mean row.
    pub fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|x| x / self.count).collect()
    }

    /// `(Xc^T Xc + penalty * mean diagonal * I)^-1` times `right` (`[n, d]`), where Xc are the rows minus their mean:
    /// `[n, d]`.
    ///
    /// By Cholesky factorisation, in float64 and on a single libtorch thread, so that the last bits are the same for
    /// any number of cores.
    pub fn solve(&self, penalty: f64, right: &[f64]) -> Result<Vec<f64>> {
        let (d, mean) = (self.d, self.mean());
        let mut whole = vec![0.0; d * d];
        for (number, block) in self.blocks.iter().enumerate() {
            let first = number * BLOCK;
            for (j, column) in block.column_iter().enumerate() {
                for (i, &product) in column.iter().enumerate() {
                    let (row, column) = (first + i, first + j);
                    let centred = product - self.count * mean[row] * mean[column];
                    (whole[row * d + column], whole[column * d + row]) = (centred, centred);
                }
            }
        }
        let trace: f64 = (0..d).map(|i| whole[i * d + i]).sum();
        (0..d).for_each(|i| whole[i * d + i] += penalty * trace / d as f64);
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let solved = (|| {
            let size = d as i64;
            let factor = Tensor::from_slice(&whole).reshape([size, size]).f_linalg_cholesky(false)?;
            // One of our rows is a column of the system.
            let right = Tensor::from_slice(right).reshape([-1, size]).tr();
            right.f_cholesky_solve(&factor, false)
        })();
        tch::set_num_threads(threads);
        let solved = solved.context("the activations have no variance, or too much")?;
        Ok(Vec::<f64>::try_from(solved.tr().contiguous().to_kind(Kind::Double).reshape([-1]))?)
    }
}
