//! Reading and editing the residual stream during a forward pass. Independent of the purpose.

use super::backend::Backend;
use super::batch::Batch;
use super::device::{fetch, send};
use super::layer::Layer;
use anyhow::{Context, Result, ensure};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Receives the residual stream before the first block and after each block, and may change it.
pub trait Hook {
    /// `resid` is the residual stream at `layer`, `[batch, pos, d_model]`, or `[1, tokens, d_model]` if the batch is packed
    /// ([`Batch::row`] finds a row's tokens in both): after block `l` it is `resid_post[l]`,
    /// before any later norm. The returned tensor is passed to the following hooks and to the next block.
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor;

    /// The first layer that the hook must see: a pass that continues from a later layer would miss it. `None`: no such
    /// requirement.
    fn first(&self) -> Option<Layer> {
        None
    }

    /// For how many leading tokens the hook does the same to two sequences, so that these tokens, if equal, may be
    /// computed once for both. 0 for a hook that must see each row.
    fn alike(&self, _a: usize, _b: usize) -> usize {
        0
    }
}

/// Collects the mean of each row's residuals over a range of its tokens, for the requested layers. Pooled immediately
/// and on the model's device: no layer's full residuals outlive their block.
pub struct Capture {
    layers: Vec<Layer>,
    /// Ranges of each row.
    ranges: Vec<Vec<Range<usize>>>,
    /// Whether norms follow each mean.
    norms: bool,
    /// Created at the first requested layer.
    pool: Option<Pool>,
    means: Vec<Option<Tensor>>,
}

impl Capture {
    /// `ranges[row]` are the token indices to pool, counted from the row's first real token.
    pub fn new(layers: &[Layer], ranges: Vec<Range<usize>>) -> Capture {
        Capture::over(layers, ranges.into_iter().map(|range| vec![range]).collect())
    }

    /// Like [`Capture::new`] with several non-overlapping ranges per row: the mean over all their tokens.
    pub fn over(layers: &[Layer], ranges: Vec<Vec<Range<usize>>>) -> Capture {
        let means = layers.iter().map(|_| None).collect();
        Capture { layers: layers.to_vec(), ranges, norms: false, pool: None, means }
    }

    /// Adds two entries after each mean: the mean norm of the tokens in the range, and the same norm without the
    /// [`LARGEST`] dimensions in which the row's mean is largest.
    pub fn with_norms(self) -> Capture {
        Capture { norms: true, ..self }
    }

    /// The means, `[layer, batch, d_model]` (two entries wider [`with_norms`](Capture::with_norms)), in fp32 on the
    /// CPU, with layers in the requested order. One copy to the host.
    ///
    /// # Errors
    /// A layer that the pass did not reach.
    pub fn finish(self) -> Result<Tensor> {
        ensure!(!self.layers.is_empty(), "no layer was to be captured");
        let mut means = Vec::new();
        for (layer, mean) in self.layers.iter().zip(self.means) {
            means.push(mean.with_context(|| format!("the forward pass did not reach layer {layer}"))?);
        }
        Ok(fetch(&Tensor::stack(&means, 0)))
    }
}

impl Hook for Capture {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor {
        for (wanted, mean) in self.layers.iter().zip(&mut self.means) {
            if *wanted == layer {
                let pool = self.pool.get_or_insert_with(|| Pool::new(&self.ranges, batch, resid.device()));
                let pooled = pool.mean(&resid, batch);
                *mean = Some(match self.norms {
                    true => Tensor::cat(&[&pooled, &pool.norms(&resid, &pooled, batch)], 1),
                    false => pooled,
                });
            }
        }
        resid
    }

    fn first(&self) -> Option<Layer> {
        self.layers.iter().copied().min()
    }
}

/// Number of dimensions excluded as large: in some models a few dimensions hold most of the norm (Sun et al. 2024 found
/// at most four in any).
pub const LARGEST: usize = 4;

/// Ranges of a batch's rows, on the device of its residuals; [`Backend::pools_row_by_row`] selects the variant.
enum Pool {
    /// Row by row.
    Rows(Vec<Vec<Range<usize>>>),
    /// All rows at once.
    Mask {
        /// `[batch, pos, 1]` bool: which tokens are pooled.
        pooled: Tensor,
        /// Number of tokens in each row's ranges, `[batch, 1]` fp32.
        counts: Tensor,
    },
}

/// The residuals of a row in the given ranges, `[pos, d_model]`.
fn tokens(resid: &Tensor, row: usize, batch: &Batch, ranges: &[Range<usize>]) -> Tensor {
    let own = batch.row(resid, row);
    let part = |range: &Range<usize>| own.narrow(0, range.start as i64, range.len() as i64);
    match ranges {
        [range] => part(range),
        _ => Tensor::cat(&ranges.iter().map(part).collect::<Vec<_>>(), 0),
    }
}

impl Pool {
    fn new(ranges: &[Vec<Range<usize>>], batch: &Batch, device: Device) -> Pool {
        assert_eq!(ranges.len(), batch.rows(), "tokens to pool for each row");
        for (own, length) in ranges.iter().zip(&batch.lengths) {
            assert!(!own.is_empty(), "a row without a token to pool");
            for range in own {
                assert!(
                    range.start < range.end && range.end <= *length,
                    "range {range:?} of a row of {length} tokens"
                );
            }
        }
        if Backend::pools_row_by_row(device) {
            return Pool::Rows(ranges.to_vec());
        }
        let pooled = batch.mask(|row, at| ranges[row].iter().any(|r| r.contains(&at))).unsqueeze(-1);
        let counts: Vec<f32> =
            ranges.iter().map(|own| own.iter().map(Range::len).sum::<usize>() as f32).collect();
        Pool::Mask {
            pooled: send(&pooled, device),
            counts: send(&Tensor::from_slice(&counts).unsqueeze(1), device),
        }
    }

    /// The fp32 mean of each row over its ranges, `[batch, d_model]`. An infinity outside the ranges has no effect.
    fn mean(&self, resid: &Tensor, batch: &Batch) -> Tensor {
        match self {
            Pool::Rows(ranges) => {
                let mean = |(row, own): (usize, &Vec<Range<usize>>)| {
                    tokens(resid, row, batch, own).mean_dim(0, false, Kind::Float)
                };
                Tensor::stack(&ranges.iter().enumerate().map(mean).collect::<Vec<_>>(), 0)
            }
            Pool::Mask { pooled, counts } => {
                // Replaced by 0 rather than multiplied by it.
                let kept = resid.where_scalarother(pooled, 0.0);
                kept.sum_dim_intlist(1, false, Kind::Float) / counts
            }
        }
    }

    /// For each row the mean norm of its tokens in the ranges, and the same without the [`LARGEST`] dimensions of its
    /// `mean`: `[batch, 2]` fp32.
    fn norms(&self, resid: &Tensor, mean: &Tensor, batch: &Batch) -> Tensor {
        let largest = mean.abs().topk((LARGEST as i64).min(mean.size()[1]), 1, true, false).1;
        let norm = |of: &Tensor| of.norm_scalaropt_dim_dtype(2.0, [-1i64].as_slice(), false, Kind::Float);
        match self {
            Pool::Rows(ranges) => {
                let norms = |(row, own): (usize, &Vec<Range<usize>>)| {
                    let tokens = tokens(resid, row, batch, own);
                    let rest = tokens.index_fill(1, &largest.get(row as i64), 0.0);
                    Tensor::stack(&[norm(&tokens).mean(Kind::Float), norm(&rest).mean(Kind::Float)], 0)
                };
                Tensor::stack(&ranges.iter().enumerate().map(norms).collect::<Vec<_>>(), 0)
            }
            Pool::Mask { pooled, counts } => {
                let kept = resid.where_scalarother(pooled, 0.0);
                let rest =
                    mean.ones_like().scatter_value(1, &largest, 0.0).to_kind(resid.kind()).unsqueeze(1);
                let norms = Tensor::stack(&[norm(&kept), norm(&(&kept * rest))], 2);
                norms.sum_dim_intlist(1, false, Kind::Float) / counts
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares both variants with sums in fp64; an infinity in the padding has no effect.
    #[test]
    fn means_are_of_a_rows_own_tokens() {
        let resid = Tensor::randn([3, 300, 20], (Kind::Float, Device::Cpu));
        let _ = resid.get(0).narrow(0, 7, 293).fill_(f64::INFINITY);
        let batch = Batch::new(&[vec![1; 7], vec![2; 300], vec![3; 41]]).unwrap();
        let ranges = [vec![0..7], vec![0..9, 250..300], vec![3..4]];
        let rows = Pool::new(&ranges, &batch, Device::Cpu);
        let pooled = batch.mask(|row, at| ranges[row].iter().any(|r| r.contains(&at))).unsqueeze(-1);
        let mask = Pool::Mask { pooled, counts: Tensor::from_slice(&[7f32, 59.0, 1.0]).unsqueeze(1) };
        for pool in [rows, mask] {
            let got = pool.mean(&resid, &batch);
            assert_eq!((got.size(), got.kind()), (vec![3, 20], Kind::Float));
            for (row, own) in (0..).zip(&ranges) {
                let at: Vec<i64> = own.iter().cloned().flatten().map(|at: usize| at as i64).collect();
                let tokens = resid.get(row).index_select(0, &Tensor::from_slice(&at));
                let want = tokens.to_kind(Kind::Double).mean_dim(0, false, Kind::Double);
                assert!((got.get(row) - want).abs().max().double_value(&[]) < 1e-6, "row {row}");
            }
        }
    }

    /// Four of twenty dimensions are a hundred times as large as the others: they determine the norm of each token, and
    /// without them the others do. Compared with fp64.
    #[test]
    fn norms_are_of_tokens_and_of_tokens_without_their_large_dimensions() {
        let resid = Tensor::randn([2, 50, 20], (Kind::Float, Device::Cpu));
        let _ = resid.narrow(2, 3, LARGEST as i64).g_add_scalar_(100.0);
        let batch = Batch::new(&[vec![1; 50], vec![2; 31]]).unwrap();
        let ranges = [vec![10..50], vec![0..31]];
        let rows = Pool::new(&ranges, &batch, Device::Cpu);
        let pooled = batch.mask(|row, at| ranges[row][0].contains(&at)).unsqueeze(-1);
        let mask = Pool::Mask { pooled, counts: Tensor::from_slice(&[40f32, 31.0]).unsqueeze(1) };
        for pool in [rows, mask] {
            let got = pool.norms(&resid, &pool.mean(&resid, &batch), &batch);
            assert_eq!(got.size(), [2, 2]);
            for (row, own) in (0..).zip(&ranges) {
                let range = &own[0];
                let tokens = resid.get(row).narrow(0, range.start as i64, range.len() as i64);
                let tokens = tokens.to_kind(Kind::Double);
                let rest = Tensor::cat(&[tokens.narrow(1, 0, 3), tokens.narrow(1, 7, 13)], 1);
                for (at, of) in [(0, tokens), (1, rest)] {
                    let want = of.square().sum_dim_intlist(1, false, Kind::Double).sqrt().mean(Kind::Double);
                    let got = got.double_value(&[row, at]);
                    assert!((got / want.double_value(&[]) - 1.0).abs() < 1e-6, "row {row}: {got}");
                }
            }
        }
    }
}
