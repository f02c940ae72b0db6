//! The mean activations of each emotion on each topic, in two models, and emotion vectors of some of the topics. Knows
//! nothing of what they are for.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, ensure};

use super::{Side, Story};
use crate::lm::Layer;

/// Cells: the stories of one emotion and one topic.
pub struct Cells {
    pub emotions: Vec<String>,
    /// Topics, sorted.
    pub groups: Vec<String>,
    /// Topic and emotion of each.
    pub of: Vec<(usize, usize)>,
    /// The means of each cell in both models.
    pub sides: [Rows; 2],
}

/// Rows in float64.
pub struct Rows {
    pub d: usize,
    /// `[n, d]`
    pub values: Vec<f64>,
}

impl Rows {
    pub fn row(&self, at: usize) -> &[f64] {
        &self.values[at * self.d..][..self.d]
    }
}

impl Cells {
    /// The cells of `stories` that are of one of `emotions`, at a layer of each side. Of each side one layer's means are
    /// held, and one shard's activations.
    pub fn read(
        sides: &[Side; 2],
        layers: (Layer, Layer),
        stories: &[Story],
        emotions: &[String],
    ) -> Result<Cells> {
        let groups: BTreeSet<&str> = stories.iter().map(|story| story.group.as_str()).collect();
        let groups: Vec<String> = groups.into_iter().map(String::from).collect();
        let group: HashMap<&str, usize> = groups.iter().enumerate().map(|(at, g)| (g.as_str(), at)).collect();
        let emotion: HashMap<&str, usize> =
            emotions.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
        let places = stories.iter().filter_map(|story| {
            let emotion = *emotion.get(story.emotion.as_deref()?)?;
            Some((story.id.as_str(), (group[story.group.as_str()], emotion)))
        });
        let places: HashMap<&str, (usize, usize)> = places.collect();
        let of: BTreeSet<(usize, usize)> = places.values().copied().collect();
        let of: Vec<(usize, usize)> = of.into_iter().collect();
        let cell: HashMap<(usize, usize), usize> =
            of.iter().enumerate().map(|(at, &cell)| (cell, at)).collect();
        let read = |side: &Side, layer: Layer| -> Result<Rows> {
            let mut rows = Rows { d: 0, values: Vec::new() };
            let mut counts = vec![0usize; of.len()];
            for shard in 0..side.shards {
                let table = (side.activations)(layer, shard)?;
                if table.rows() == 0 {
                    continue;
                }
                let (d, values) = table.list("activation")?;
                if rows.values.is_empty() {
                    rows = Rows { d, values: vec![0.0; of.len() * d] };
                }
                ensure!(rows.d == d, "activations of different widths at layer {layer}");
                for (id, values) in table.str("story_id")?.iter().zip(values.chunks_exact(d)) {
                    let Some(at) = places.get(id.as_str()).map(|place| cell[place]) else { continue };
                    counts[at] += 1;
                    rows.values[at * d..][..d]
                        .iter_mut()
                        .zip(values)
                        .for_each(|(sum, &x)| *sum += f64::from(x));
                }
            }
            ensure!(
                counts.iter().all(|&n| n > 0) && rows.d > 0,
                "stories without activations at layer {layer}"
            );
            for (row, count) in rows.values.chunks_exact_mut(rows.d).zip(counts) {
                row.iter_mut().for_each(|x| *x /= count as f64);
            }
            Ok(rows)
        };
        let both = [read(&sides[0], layers.0)?, read(&sides[1], layers.1)?];
        Ok(Cells { emotions: emotions.to_vec(), groups, of, sides: both })
    }

    /// `[emotion, d]` of some rows, one a cell: for each emotion the mean of its cells, each topic with its weight, minus the
    /// mean over emotions of these means. `None` where an emotion has no cell.
    pub fn vectors(&self, rows: &Rows, weights: &[f64]) -> Option<Vec<f64>> {
        let n = self.emotions.len();
        let mut means = vec![0.0; n * rows.d];
        let mut counts = vec![0.0; n];
        for (at, &(group, emotion)) in
            self.of.iter().enumerate().filter(|(_, (group, _))| weights[*group] > 0.0)
        {
            counts[emotion] += weights[group];
            let to = &mut means[emotion * rows.d..][..rows.d];
            to.iter_mut().zip(rows.row(at)).for_each(|(sum, x)| *sum += weights[group] * x);
        }
        if counts.contains(&0.0) {
            return None;
        }
        let mut centre = vec![0.0; rows.d];
        for (mean, count) in means.chunks_exact_mut(rows.d).zip(counts) {
            mean.iter_mut().for_each(|x| *x /= count);
            centre.iter_mut().zip(mean).for_each(|(c, x)| *c += *x / n as f64);
        }
        means.chunks_exact_mut(rows.d).for_each(|row| row.iter_mut().zip(&centre).for_each(|(x, c)| *x -= c));
        Some(means)
    }

    /// The cells of the topics that `chosen` names.
    pub fn cells(&self, chosen: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.of.len()).filter(|&at| chosen(self.of[at].0)).collect()
    }
}
