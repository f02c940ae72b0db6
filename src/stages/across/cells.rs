//! The mean activations of each emotion on each topic in two models, split into parts that each serve one purpose.
//! Independent of these purposes.

use std::marker::PhantomData;
use std::ops::Range;

use anyhow::{Context, Result};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::Shared;
use crate::lm::Layer;
use crate::stages::statistics::parts::{Mark, Part};

/// One row per cell, at one layer of each model.
pub struct Cells<'a> {
    shared: &'a Shared,
    /// Group and emotion of each row, in ascending order.
    of: Vec<(usize, usize)>,
    /// `[cell, d]` for each model, with the mean of all rows subtracted: it does not affect the results and would
    /// cost precision. In float32, because the tensors can take gigabytes.
    sides: [Tensor; 2],
}

/// The cells of one model in one part.
pub struct Rows<'r, Purpose> {
    /// `[n, d]`
    pub(super) values: Tensor,
    /// Row ranges of the groups, one group after the other.
    pub(super) groups: Vec<Range<usize>>,
    emotions: Vec<i64>,
    n_emotions: usize,
    mark: Mark<'r, Purpose>,
}

/// A permutation of the rows of a part within their groups.
pub struct Order<'r, Purpose> {
    /// For each row, the index within its group of the row that replaces it.
    pub(super) rows: Vec<u32>,
    mark: Mark<'r, Purpose>,
}

/// Emotion vectors of one model from the cells of one part.
pub struct Vectors<'r, Purpose> {
    /// `[emotion, d]`
    pub(super) values: Tensor,
    mark: Mark<'r, Purpose>,
}

impl<'a> Cells<'a> {
    /// Reads the cells of `shared` at a layer of each side. One layer's sums and one shard's activations are in
    /// memory at a time.
    pub fn read(shared: &'a Shared, sides: &[super::Side; 2], layers: [Layer; 2]) -> Result<Cells<'a>> {
        let design = &shared.design;
        let cells =
            (0..design.groups()).flat_map(|group| (0..design.labels()).map(move |label| (group, label)));
        let of: Vec<(usize, usize)> =
            cells.filter(|&(group, label)| design.count(group, label) > 0.0).collect();
        let read = |at: usize| -> Result<Tensor> {
            let sums = shared.sums(&sides[at], layers[at])?;
            let of_cell = |&(group, label): &(usize, usize)| {
                let count = design.count(group, label);
                sums.cell(group, label).iter().map(move |x| x / count)
            };
            let mut mean = vec![0.0; sums.d()];
            for cell in &of {
                mean.iter_mut().zip(of_cell(cell)).for_each(|(mean, x)| *mean += x / of.len() as f64);
            }
            let values = Tensor::empty([of.len() as i64, sums.d() as i64], (Kind::Float, Device::Cpu));
            for (at, cell) in of.iter().enumerate() {
                let row: Vec<f32> = of_cell(cell).zip(&mean).map(|(x, mean)| (x - mean) as f32).collect();
                values.get(at as i64).copy_(&Tensor::from_slice(&row));
            }
            Ok(values)
        };
        Ok(Cells { shared, sides: [read(0)?, read(1)?], of })
    }

    /// The cells of one side in a part, in the precision of `kind`.
    pub fn rows<'r, P>(&self, side: usize, part: &Part<'r, P>, kind: Kind) -> Rows<'r, P> {
        let here = self.of.iter().enumerate().filter(|(_, (group, _))| part.has(*group));
        let (places, of): (Vec<i64>, Vec<(usize, usize)>) = here.map(|(at, of)| (at as i64, *of)).unzip();
        let mut groups: Vec<Range<usize>> = Vec::new();
        for group in of.chunk_by(|a, b| a.0 == b.0) {
            let from = groups.last().map_or(0, |last| last.end);
            groups.push(from..from + group.len());
        }
        Rows {
            values: self.sides[side].index_select(0, &Tensor::from_slice(&places)).to_kind(kind),
            groups,
            emotions: of.iter().map(|&(_, label)| label as i64).collect(),
            n_emotions: self.shared.emotions.len(),
            mark: PhantomData,
        }
    }

    /// The permutations of a part's cells for the shuffles with these numbers: each cell is replaced by the cell of
    /// the emotion that it is shuffled with.
    pub fn orders<'r, P>(&self, part: &Part<'r, P>, numbers: Range<usize>) -> Result<Vec<Order<'r, P>>> {
        let design = &self.shared.design;
        let groups = self.of.chunk_by(|a, b| a.0 == b.0).filter(|group| part.has(group[0].0));
        let groups: Vec<&[(usize, usize)]> = groups.collect();
        let order = |number: usize| {
            let shuffle = design.shuffle(number);
            let given = groups.iter().flat_map(|cells| {
                let from = |&(group, label): &(usize, usize)| (group, shuffle.from(label, group));
                cells.iter().map(move |cell| cells.binary_search(&from(cell)).ok().map(|at| at as u32))
            });
            given.collect::<Option<Vec<u32>>>().context("no such cell")
        };
        let orders = numbers.into_par_iter().map(order).collect::<Result<Vec<_>>>()?;
        Ok(orders.into_iter().map(|rows| Order { rows, mark: PhantomData }).collect())
    }
}

impl<P> Order<'_, P> {
    #[cfg(test)]
    pub fn new(rows: Vec<u32>) -> Self {
        Order { rows, mark: PhantomData }
    }

    /// The permutation as indices into all rows, which have these `groups`.
    pub(super) fn index(&self, groups: &[Range<usize>]) -> Tensor {
        let all =
            groups.iter().flat_map(|group| self.rows[group.clone()].iter().map(|&at| (group.start, at)));
        Tensor::from_slice(&all.map(|(start, at)| start as i64 + i64::from(at)).collect::<Vec<_>>())
    }
}

impl<'r, P> Rows<'r, P> {
    #[cfg(test)]
    pub fn new(values: &[f64], d: usize) -> Rows<'r, P> {
        let values = Tensor::from_slice(values).view([-1, d as i64]);
        let emotions: Vec<i64> = (0..values.size()[0]).collect();
        let groups = vec![0..emotions.len()];
        Rows { n_emotions: emotions.len(), values, groups, emotions, mark: PhantomData }
    }

    /// With groups of the given numbers of rows.
    #[cfg(test)]
    pub fn in_groups(values: &[f64], d: usize, sizes: &[usize]) -> Rows<'r, P> {
        let mut from = 0;
        let groups = sizes.iter().map(|size| {
            from += size;
            from - size..from
        });
        Rows { groups: groups.collect(), ..Rows::new(values, d) }
    }

    /// The rows permuted by `order`.
    pub fn ordered(&self, order: &Order<'r, P>) -> Rows<'r, P> {
        Rows {
            values: self.values.index_select(0, &order.index(&self.groups)),
            groups: self.groups.clone(),
            emotions: self.emotions.clone(),
            n_emotions: self.n_emotions,
            mark: PhantomData,
        }
    }

    /// In single precision.
    pub fn single(self) -> Rows<'r, P> {
        Rows { values: self.values.to_kind(Kind::Float), ..self }
    }

    /// For each emotion the mean of its cells, so that every topic has equal weight, minus the mean over emotions of
    /// these means. Every emotion must have a cell.
    pub fn vectors(&self) -> Vectors<'r, P> {
        let emotions = Tensor::from_slice(&self.emotions);
        let n = self.n_emotions as i64;
        let zeros = || Tensor::zeros([n, self.values.size()[1]], (self.values.kind(), self.values.device()));
        let sums = zeros().index_add(0, &emotions, &self.values);
        let counts = emotions.bincount::<Tensor>(None, n).to_kind(self.values.kind()).unsqueeze(1);
        let means = sums / counts;
        Vectors { values: &means - means.mean_dim(0, true, None::<Kind>), mark: PhantomData }
    }
}

impl<'r, P> Vectors<'r, P> {
    /// In single precision.
    pub fn single(&self) -> Vectors<'r, P> {
        Vectors::new(self.values.to_kind(Kind::Float))
    }

    pub(super) fn new(values: Tensor) -> Vectors<'r, P> {
        Vectors { values, mark: PhantomData }
    }
}
