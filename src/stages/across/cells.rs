//! The mean activations of each emotion on each topic in two models, of which any part may be had for one purpose. Knows
//! nothing of what they are for.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::Shared;
use crate::lm::Layer;
use crate::stages::statistics::design::Shuffle;
use crate::stages::statistics::parts::{Mark, Part};

/// One row a cell, at one layer of each model.
pub struct Cells<'a> {
    shared: &'a Shared,
    /// Group and emotion of each row.
    of: Vec<(usize, usize)>,
    /// `[cell, d]` of each model, in float64, less the mean of all rows: what all have in common plays no part in what
    /// follows, and would take digits.
    sides: [Tensor; 2],
    /// The second model's in float32, for what is done thousands of times.
    single: Tensor,
}

/// Cells of one model in one part.
pub struct Rows<'r, Purpose> {
    /// `[n, d]`
    pub(super) values: Tensor,
    emotions: Vec<i64>,
    n_emotions: usize,
    mark: Mark<'r, Purpose>,
}

/// Emotion vectors of one model from the cells of one part.
pub struct Vectors<'r, Purpose> {
    /// `[emotion, d]`
    pub(super) values: Tensor,
    mark: Mark<'r, Purpose>,
}

impl<'a> Cells<'a> {
    /// Those of `shared` at a layer of each side. One layer's sums are held at a time, and one shard's activations.
    pub fn read(shared: &'a Shared, sides: &[super::Side; 2], layers: [Layer; 2]) -> Result<Cells<'a>> {
        let design = &shared.design;
        let cells =
            (0..design.groups()).flat_map(|group| (0..design.labels()).map(move |label| (group, label)));
        let of: Vec<(usize, usize)> =
            cells.filter(|&(group, label)| design.count(group, label) > 0.0).collect();
        let read = |at: usize| -> Result<Tensor> {
            let sums = shared.sums(&sides[at], layers[at])?;
            let mean = |&(group, label): &(usize, usize)| {
                let count = design.count(group, label);
                sums.cell(group, label).iter().map(move |x| x / count)
            };
            let values: Vec<f64> = of.iter().flat_map(mean).collect();
            let rows = Tensor::from_slice(&values).view([of.len() as i64, -1]);
            Ok(&rows - rows.mean_dim(0, true, Kind::Double))
        };
        let sides = [read(0)?, read(1)?];
        Ok(Cells { shared, of, single: sides[1].to_kind(Kind::Float), sides })
    }

    /// The cells of one side in a part, in the precision of `kind`, each with the emotion that it has, or under `shuffle` in its
    /// place the cell of the emotion that it is given.
    pub fn rows<'r, P>(
        &self,
        side: usize,
        part: &Part<'r, P>,
        kind: Kind,
        shuffle: Option<&Shuffle>,
    ) -> Result<Rows<'r, P>> {
        let here = self.of.iter().filter(|(group, _)| part.has(*group));
        let places = here.clone().map(|&(group, label)| {
            let from = shuffle.map_or(label, |shuffle| shuffle.from(label, group));
            self.of.binary_search(&(group, from)).ok().map(|at| at as i64).context("no such cell")
        });
        let places = Tensor::from_slice(&places.collect::<Result<Vec<i64>>>()?);
        Ok(Rows {
            values: match (side, kind) {
                (1, Kind::Float) => self.single.index_select(0, &places),
                _ => self.sides[side].index_select(0, &places).to_kind(kind),
            },
            emotions: here.map(|&(_, label)| label as i64).collect(),
            n_emotions: self.shared.emotions.len(),
            mark: PhantomData,
        })
    }
}

impl<'r, P> Rows<'r, P> {
    #[cfg(test)]
    pub fn new(values: &[f64], d: usize) -> Rows<'r, P> {
        let values = Tensor::from_slice(values).view([-1, d as i64]);
        let emotions: Vec<i64> = (0..values.size()[0]).collect();
        Rows { n_emotions: emotions.len(), values, emotions, mark: PhantomData }
    }

    /// For each emotion the mean of its cells, so that every topic counts alike, minus the mean over emotions of these
    /// means. Every emotion must have a cell.
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
