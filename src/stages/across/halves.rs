//! How alike two models' emotion vectors are where they share no story: the vectors of one from one half of the topics, those of
//! the other from the other half. Models that read the same stories also share what is accidental in these; so their
//! vectors are alike even where no emotion is. Knows nothing of how likeness is measured.

use anyhow::{Context, Result};
use nalgebra::DMatrix;
use rayon::prelude::*;

use super::{Shared, Side};
use crate::lm::Layer;
use crate::stages::statistics::cells::{Cells, gram};
use crate::stages::statistics::design::{Shuffle, Weights};
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{mean, p_value};

/// Pairs of halves over which a likeness is averaged: each is computed for every shuffle too.
const SPLITS: usize = 4;

/// Shuffles that are computed together.
const BATCH: usize = 16;

/// A way to measure likeness.
pub trait Likeness: Sync {
    /// What it compares.
    type Form: Send + Sync;

    /// From the products of each two of one model's emotion vectors.
    fn form(&self, gram: DMatrix<f64>) -> Self::Form;

    /// The likeness of two of them; under `order` the second one's emotions have each other's names.
    fn like(&self, a: &Self::Form, b: &Self::Form, order: Option<&[usize]>) -> f64;
}

/// Pairs of halves of a design's topics.
pub struct Splits(Vec<[Weights; 2]>);

impl Splits {
    /// `None` where topics are so few that halves lack an emotion.
    pub fn of(shared: &Shared) -> Option<Splits> {
        (0..SPLITS).map(|number| shared.design.halves(number)).collect::<Option<Vec<_>>>().map(Splits)
    }
}

/// One layer of one model.
pub struct Halves<'a, F> {
    shared: &'a Shared,
    splits: &'a Splits,
    cells: Cells,
    /// Of each pair of halves.
    pub forms: Vec<[F; 2]>,
}

impl<'a, F: Send + Sync> Halves<'a, F> {
    /// Reads the layer.
    pub fn read<L: Likeness<Form = F>>(
        likeness: &L,
        (shared, splits): (&'a Shared, &'a Splits),
        side: &Side,
        layer: Layer,
    ) -> Result<Halves<'a, F>> {
        let mut sums = shared.sums(side, layer)?;
        let origin = sums.mean(&shared.design);
        sums.shift(&shared.design, &origin, |_| {});
        let mut halves = Halves { shared, splits, cells: sums.cells(), forms: Vec::new() };
        let shuffle = shared.design.unshuffled();
        halves.forms = halves.shuffled(likeness, std::slice::from_ref(&shuffle)).remove(0);
        Ok(halves)
    }

    /// The forms of each pair of halves under each of `shuffles`.
    fn shuffled<L: Likeness<Form = F>>(&self, likeness: &L, shuffles: &[Shuffle]) -> Vec<Vec<[F; 2]>> {
        let design = &self.shared.design;
        let of = |weights: &Weights| -> Vec<F> {
            let groups: Vec<usize> = (0..design.groups()).filter(|&group| weights[group] > 0.0).collect();
            let sums = self.cells.shuffled(shuffles, &groups);
            let form = |at: usize| {
                let mut rows = Vec::new();
                sums.centred(at, &design.stories_shuffled(&shuffles[at], &groups), &mut rows);
                likeness.form(gram(&rows, design.labels()))
            };
            (0..shuffles.len()).into_par_iter().map(form).collect()
        };
        let mut all: Vec<Vec<[F; 2]>> = shuffles.iter().map(|_| Vec::new()).collect();
        for [half, rest] in &self.splits.0 {
            let pairs = of(half).into_iter().zip(of(rest));
            all.iter_mut().zip(pairs).for_each(|(all, (half, rest))| all.push([half, rest]));
        }
        all
    }
}

/// The likeness of the first model's vectors from one half with the second's from the other, mean over both ways and over
/// the pairs of halves.
pub fn crossed<L: Likeness>(
    likeness: &L,
    a: &[[L::Form; 2]],
    b: &[[L::Form; 2]],
    order: Option<&[usize]>,
) -> f64 {
    let both = |([a0, a1], [b0, b1]): (&[L::Form; 2], &[L::Form; 2])| {
        [likeness.like(a0, b1, order), likeness.like(a1, b0, order)]
    };
    mean(&a.iter().zip(b).flat_map(both).collect::<Vec<_>>())
}

/// What [`crossed`] would be if both models were alike but for the noise of their halves: the geometric mean of how alike each
/// one's halves are. 0 where one's are not alike at all.
pub fn ceiling<L: Likeness>(likeness: &L, a: &[[L::Form; 2]], b: &[[L::Form; 2]]) -> f64 {
    let within = |of: &[[L::Form; 2]]| {
        mean(&of.iter().map(|[half, rest]| likeness.like(half, rest, None)).collect::<Vec<_>>()).max(0.0)
    };
    (within(a) * within(b)).sqrt()
}

/// What is left of the likeness of two models when that with others is taken out: the partial correlation, from the
/// likenesses of each two of `all`, the first two of which are asked for. `None` where it is not defined.
pub fn partial<F>(all: &[F], like: impl Fn(&F, &F) -> f64) -> Option<f64> {
    let n = all.len();
    let matrix = DMatrix::from_fn(n, n, |i, j| match i == j {
        true => 1.0,
        false => (like(&all[i], &all[j]) + like(&all[j], &all[i])) / 2.0,
    });
    let inverse = matrix.try_inverse()?;
    let (own, both) = (inverse[(0, 0)] * inverse[(1, 1)], -inverse[(0, 1)]);
    (own > 0.0).then(|| (both / own.sqrt()).clamp(-1.0, 1.0))
}

/// How often shuffles give as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// The emotions of one model under each other's names: two geometries that have nothing to do with each other.
    pub names: f64,
    /// The cells of each topic under each other's emotions, in both models alike: no emotion at all, but the same stories.
    pub cells: f64,
}

impl Chance {
    /// The larger: likeness is shown where neither can explain it.
    pub fn p(&self) -> f64 {
        self.names.max(self.cells)
    }

    /// Of the likeness `found` by [`crossed`].
    pub fn of<L: Likeness>(
        likeness: &L,
        (a, b): (&Halves<L::Form>, &Halves<L::Form>),
        found: f64,
        permutations: usize,
    ) -> Result<Chance> {
        let design = &a.shared.design;
        let n = design.labels();
        let names = rounds(design.seed(), "names of emotions", permutations, |dice| {
            crossed(likeness, &a.forms, &b.forms, Some(&dice.shuffled(n)))
        });
        let mut cells = Vec::with_capacity(permutations);
        for from in (0..permutations).step_by(BATCH) {
            let numbers = from..permutations.min(from + BATCH);
            let [x, y] = [a, b].map(|side| {
                let shuffles: Vec<Shuffle> =
                    numbers.clone().map(|number| side.shared.design.shuffle(number)).collect();
                side.shuffled(likeness, &shuffles)
            });
            cells.extend(x.iter().zip(&y).map(|(x, y)| crossed(likeness, x, y, None)));
        }
        let finite = |null: Vec<f64>| -> Vec<f64> { null.into_iter().filter(|x| x.is_finite()).collect() };
        found.is_finite().then_some(()).context("the likeness of two sets of vectors is not defined")?;
        Ok(Chance { names: p_value(found, &finite(names)), cells: p_value(found, &finite(cells)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_correlation_by_hand() {
        // (r_ab - r_ac r_bc) / sqrt((1 - r_ac^2) (1 - r_bc^2)) with .6, .5 and .4: .4 / sqrt(.75 * .84)
        let r = [[1.0, 0.6, 0.5], [0.6, 1.0, 0.4], [0.5, 0.4, 1.0]];
        let found = partial(&[0, 1, 2], |&i, &j| r[i][j]).unwrap();
        assert!((found - 0.4 / (0.75f64 * 0.84).sqrt()).abs() < 1e-12, "{found}");
        // Nothing to take out.
        assert!((partial(&[0, 1], |&i, &j| r[i][j]).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(partial(&[0, 1], |_, _| 1.0), None);
    }
}
