//! The similarity of two models' emotion vectors computed from disjoint stories: the vectors of one model from one
//! half of the topics, those of the other from the other half. Models that read the same stories also share the
//! idiosyncrasies of these stories, so their vectors are similar even where no emotion is represented. Independent of
//! how similarity is measured.

use anyhow::{Context, Result};
use nalgebra::DMatrix;
use rayon::prelude::*;

use super::{Shared, Side};
use crate::lm::Layer;
use crate::stages::statistics::cells::{Cells, gram};
use crate::stages::statistics::design::{Shuffle, Weights};
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{mean, p_value};

/// Number of pairs of halves over which a similarity is averaged; each is also computed for every shuffle.
const SPLITS: usize = 4;

/// Shuffles that are computed together.
const BATCH: usize = 16;

/// A similarity measure.
pub trait Likeness: Sync {
    /// The representation that it compares.
    type Form: Send + Sync;

    /// From the Gram matrix of one model's emotion vectors.
    fn form(&self, gram: DMatrix<f64>) -> Self::Form;

    /// The similarity of two forms; `order` permutes the emotions of the second one.
    fn like(&self, a: &Self::Form, b: &Self::Form, order: Option<&[usize]>) -> f64;
}

/// Pairs of halves of a design's topics.
pub struct Splits(Vec<[Weights; 2]>);

impl Splits {
    /// `None` where there are so few topics that halves lack an emotion.
    pub fn of(shared: &Shared) -> Option<Splits> {
        (0..SPLITS).map(|number| shared.design.halves(number)).collect::<Option<Vec<_>>>().map(Splits)
    }
}

/// One layer of one model.
pub struct Halves<'a, F> {
    shared: &'a Shared,
    splits: &'a Splits,
    cells: Cells,
    /// One for each pair of halves.
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

/// The similarity of the first model's vectors from one half with the second model's from the other, averaged over
/// both directions and over the pairs of halves.
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

/// The value of [`crossed`] if both models were identical up to the noise of their halves: the geometric mean of the
/// similarities between the two halves of each model. 0 where the halves of one model are not similar at all.
pub fn ceiling<L: Likeness>(likeness: &L, a: &[[L::Form; 2]], b: &[[L::Form; 2]]) -> f64 {
    let within = |of: &[[L::Form; 2]]| {
        mean(&of.iter().map(|[half, rest]| likeness.like(half, rest, None)).collect::<Vec<_>>()).max(0.0)
    };
    (within(a) * within(b)).sqrt()
}

/// The similarity of two models with that to others partialled out: the partial correlation, from the pairwise
/// similarities of `all`, for the first two. `None` where it is undefined.
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

/// Permutation p-values of a similarity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// From shuffling the names of one model's emotions: the null of two unrelated geometries.
    pub names: f64,
    /// From shuffling the cells of each topic among the emotions, in the same way in both models: the null of the
    /// same stories without emotions.
    pub cells: f64,
}

impl Chance {
    /// The larger of both: a similarity is significant only if neither null explains it.
    pub fn p(&self) -> f64 {
        self.names.max(self.cells)
    }

    /// For the similarity `found` by [`crossed`].
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
        // Nothing to partial out.
        assert!((partial(&[0, 1], |&i, &j| r[i][j]).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(partial(&[0, 1], |_, _| 1.0), None);
    }
}
