//! A control that is not an emotion: as many topics' vectors as emotions', from the same cells. Independent of the
//! tables.

use anyhow::Result;
use nalgebra::DMatrix;
use rayon::prelude::*;

use super::super::made_of::MOST_TOPICS;
use crate::stages::principal::dot;
use crate::stages::statistics::Design;
use crate::stages::statistics::design::FEWEST;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::mean;
use crate::stages::statistics::spectrum::top_two;
use crate::stages::statistics::sums::Sums;

/// The number of random selections if there are more emotions or topics than are compared.
const PICKS: usize = 20;

/// Emotions and as many topics, selected several times if there are more of either.
///
/// A mean over few cells is noisier than one over many, and a few vectors have larger variance shares than many.
/// Therefore m emotions are compared with m topics over the same m by m cells, which gives both the same noise.
pub struct Control {
    /// The number of emotions, and of topics.
    pub size: usize,
    picks: Vec<Pick>,
}

/// The dot products of `size - 1` contrasts among emotions, followed by as many among topics.
struct Pick(DMatrix<f64>);

/// The compared quantities.
#[derive(Clone, Copy, Debug)]
pub struct Compared {
    /// The variance among the emotions' vectors divided by that among the topics'.
    pub variance: f64,
    /// The first component's share for emotions and for topics.
    pub shares: [f64; 2],
}

impl Compared {
    /// The difference between the emotions' share and the topics'.
    pub fn more(&self) -> f64 {
        self.shares[0] - self.shares[1]
    }
}

impl Control {
    /// From sums that are denoised like the vectors. `None` for fewer than [`FEWEST`] emotions or topics.
    pub fn of(sums: &Sums, design: &Design) -> Option<Control> {
        let topics = design.topics(usize::MAX);
        let size = MOST_TOPICS.min(topics.len()).min(design.labels());
        if size < FEWEST {
            return None;
        }
        let once = size == topics.len() && size == design.labels();
        let pick = |number: usize| {
            let mut draws = Draws::new("emotions and topics", &[design.seed(), number as u64]);
            let mut some = |from: &[usize]| {
                let mut order = from.to_vec();
                draws.shuffle(&mut order);
                order.truncate(size);
                order
            };
            let labels: Vec<usize> = (0..design.labels()).collect();
            let (emotions, topics) = (some(&labels), some(&topics));
            pick(sums, design, &emotions, &topics)
        };
        let picks = (0..if once { 1 } else { PICKS }).into_par_iter().map(pick);
        Some(Control { size, picks: picks.collect() })
    }

    /// The mean over the selections; `None` if topics do not vary.
    pub fn compared(&self) -> Result<Option<Compared>> {
        let all: Vec<usize> = (0..2 * (self.size - 1)).collect();
        let (own, topics) = all.split_at(self.size - 1);
        let each = self.picks.iter().map(|pick| pick.compare(own, topics));
        let Some(each) = each.collect::<Result<Option<Vec<_>>>>()? else { return Ok(None) };
        let over = |of: fn(&Compared) -> f64| mean(&each.iter().map(of).collect::<Vec<_>>());
        Ok(Some(Compared {
            variance: over(|c| c.variance),
            shares: [over(|c| c.shares[0]), over(|c| c.shares[1])],
        }))
    }

    /// The same for contrasts randomly assigned to emotions and topics, from a single selection each: if the two
    /// differ in nothing but their names, every such assignment is as likely as the observed one.
    pub fn dealt(&self, deals: usize, seed: u64) -> Result<Vec<Compared>> {
        let n = self.size - 1;
        let found = rounds(seed, "emotions randomly assigned to topics", deals, |draws| {
            let order = draws.shuffled(2 * n);
            let pick = &self.picks[draws.below(self.picks.len())];
            pick.compare(&order[..n], &order[n..])
        });
        Ok(found.into_iter().collect::<Result<Option<Vec<_>>>>()?.unwrap_or_default())
    }
}

/// The row and column means of the table of `emotions` by `topics`, as contrasts: for Gaussian vectors these are
/// independent, unlike differences from the mean, and they have the same variance and components.
fn pick(sums: &Sums, design: &Design, emotions: &[usize], topics: &[usize]) -> Pick {
    let d = sums.d();
    let mut of = [vec![vec![0.0; d]; emotions.len()], vec![vec![0.0; d]; topics.len()]];
    for (row, &label) in emotions.iter().enumerate() {
        for (column, &group) in topics.iter().enumerate() {
            let weight = 1.0 / (design.count(group, label) * emotions.len() as f64);
            for (at, x) in sums.cell(group, label).iter().enumerate() {
                of[0][row][at] += weight * x;
                of[1][column][at] += weight * x;
            }
        }
    }
    let contrasts: Vec<Vec<f64>> = of.iter().flat_map(|vectors| helmert(vectors)).collect();
    let mut products = DMatrix::zeros(contrasts.len(), contrasts.len());
    for (i, j) in (0..contrasts.len()).flat_map(|j| (j..contrasts.len()).map(move |i| (i, j))) {
        products[(i, j)] = dot(&contrasts[i], &contrasts[j]);
    }
    products.fill_upper_triangle_with_lower_triangle();
    Pick(products)
}

/// Helmert contrasts of n vectors: the k-th of n - 1 is the sum of the first k minus k times the next, divided by
/// `sqrt(k (k + 1))`.
fn helmert(vectors: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut sum = vec![0.0; vectors[0].len()];
    let mut contrasts = Vec::with_capacity(vectors.len() - 1);
    for (at, pair) in vectors.windows(2).enumerate() {
        let k = (at + 1) as f64;
        sum.iter_mut().zip(&pair[0]).for_each(|(sum, x)| *sum += x);
        let contrast = sum.iter().zip(&pair[1]).map(|(sum, x)| (sum - k * x) / (k * (k + 1.0)).sqrt());
        contrasts.push(contrast.collect());
    }
    contrasts
}

impl Pick {
    fn compare(&self, own: &[usize], topics: &[usize]) -> Result<Option<Compared>> {
        let part = |of: &[usize]| self.0.select_rows(of).select_columns(of);
        let (own, topics) = (part(own), part(topics));
        let (whole, beside) = (own.trace(), topics.trace());
        if whole <= 0.0 || beside <= 0.0 {
            return Ok(None);
        }
        let share = |gram: &DMatrix<f64>, trace: f64| anyhow::Ok(top_two(gram)?[0].0 / trace);
        Ok(Some(Compared {
            variance: whole / beside,
            shares: [share(&own, whole)?, share(&topics, beside)?],
        }))
    }
}
