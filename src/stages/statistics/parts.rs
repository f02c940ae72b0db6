//! Disjoint parts of the groups, each with one purpose, so that nothing can be evaluated on the groups that it was
//! fitted on. Independent of what is fitted.
//!
//! A part carries its purpose and its rotation in its type. Only [`Rotations::each`] creates parts, and none outlives
//! its rotation: a function that takes a part of each purpose from one rotation receives three parts that share no
//! group.
//!
//! ```compile_fail
//! use emoflow::stages::statistics::{Design, parts::{Part, Fit}};
//! fn fitted(on: &Part<'_, Fit>) {}
//! let design = Design::new(1, vec![1.0; 6], String::new(), 0);
//! design.rotations(3).unwrap().each(|_, rotation| Ok(fitted(&rotation.target)));
//! ```
//!
//! ```compile_fail
//! use emoflow::stages::statistics::{Design, parts::{Part, Fit}};
//! let design = Design::new(1, vec![1.0; 6], String::new(), 0);
//! let mut kept: Option<Part<'_, Fit>> = None; // to be judged in another rotation
//! design.rotations(3).unwrap().each(|_, rotation| Ok(kept = Some(rotation.fit)));
//! ```

use std::marker::PhantomData;

use anyhow::{Result, bail};

use super::design::{Design, TRIES};
use super::draws::Draws;

/// The purpose of the groups that a map is fitted on.
#[derive(Debug)]
pub enum Fit {}

/// The purpose of the groups whose vectors the fitted map is applied to.
#[derive(Debug)]
pub enum Source {}

/// The purpose of the groups that mapped vectors are compared with.
#[derive(Debug)]
pub enum Target {}

/// Ties a computed value to a purpose and a rotation. Invariant in `'r`, so that two rotations never have the same
/// type.
pub type Mark<'r, Purpose> = PhantomData<(fn(&'r ()) -> &'r (), Purpose)>;

/// The groups with `Purpose` in the rotation `'r`.
#[derive(Debug)]
pub struct Part<'r, Purpose> {
    groups: Vec<bool>,
    mark: Mark<'r, Purpose>,
}

impl<P> Part<'_, P> {
    fn new(groups: Vec<bool>) -> Self {
        Part { groups, mark: PhantomData }
    }

    pub fn has(&self, group: usize) -> bool {
        self.groups[group]
    }
}

/// Three parts that share no group.
#[derive(Debug)]
pub struct Rotation<'r> {
    pub fit: Part<'r, Fit>,
    pub source: Part<'r, Source>,
    pub target: Part<'r, Target>,
}

/// A random assignment of groups to parts, which rotate through the purposes.
pub struct Rotations {
    part_of: Vec<usize>,
    parts: usize,
}

impl Design {
    /// Assigns the groups at random to `parts` parts, or to one part per group if there are fewer groups. In each
    /// rotation one part is the target, the next one the source, and all others are for fitting: cross-fitting, in
    /// which each group serves every purpose at least once.
    ///
    /// An error if there are fewer than three groups, or if in a thousand draws some part lacks a story of some
    /// label.
    pub fn rotations(&self, parts: usize) -> Result<Rotations> {
        let groups = self.groups();
        let parts = parts.min(groups);
        if parts < 3 {
            bail!(
                "there are stories on {groups} topics or passages, and three parts are needed: one that the map is \
                 fitted on, one that the vectors that go through it are from, and one that they are compared on"
            );
        }
        for attempt in 0..TRIES {
            let mut draws = Draws::new("parts of the groups", &[self.seed(), attempt]);
            let mut part_of = vec![0; groups];
            draws
                .shuffled(groups)
                .into_iter()
                .enumerate()
                .for_each(|(at, group)| part_of[group] = at % parts);
            let weights = |part: usize| -> Vec<f32> {
                part_of.iter().map(|of| if *of == part { 1.0 } else { 0.0 }).collect()
            };
            if (0..parts).all(|part| self.whole(&weights(part))) {
                return Ok(Rotations { part_of, parts });
            }
        }
        bail!("an emotion has no story that both models read in the topics of a part: set fewer `folds`")
    }
}

impl Rotations {
    /// The number of rotations.
    pub fn count(&self) -> usize {
        self.parts
    }

    /// Calls `visit` with each rotation and its number, and collects the results.
    pub fn each<T>(&self, mut visit: impl for<'r> FnMut(usize, Rotation<'r>) -> Result<T>) -> Result<Vec<T>> {
        let rotation = |number: usize| {
            let source = (number + 1) % self.parts;
            let of = |wanted: &dyn Fn(usize) -> bool| self.part_of.iter().map(|&part| wanted(part)).collect();
            Rotation {
                fit: Part::new(of(&|part| part != number && part != source)),
                source: Part::new(of(&|part| part == source)),
                target: Part::new(of(&|part| part == number)),
            }
        };
        (0..self.parts).map(|number| visit(number, rotation(number))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::design::tests::design;

    #[test]
    fn parts_share_no_group_and_all_groups_serve_every_purpose() {
        let design = design(&[1.0; 14], 2, 3);
        let rotations = design.rotations(4).unwrap();
        let mut served = [[0; 3]; 7];
        rotations
            .each(|_, rotation| {
                for (group, served) in served.iter_mut().enumerate() {
                    let here =
                        [rotation.fit.has(group), rotation.source.has(group), rotation.target.has(group)];
                    assert_eq!(here.iter().filter(|has| **has).count(), 1);
                    served.iter_mut().zip(here).for_each(|(n, has)| *n += usize::from(has));
                }
                Ok(())
            })
            .unwrap();
        assert_eq!((rotations.count(), served), (4, [[2, 1, 1]; 7]));
        assert_eq!(design.rotations(100).unwrap().count(), 7);
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let said = |counts: &[f64]| design(counts, 2, 0).rotations(3).err().unwrap().to_string();
        assert!(said(&[1.0; 4]).contains("2 topics"));
        assert!(said(&[1.0, 1.0, 1.0, 0.0, 1.0, 1.0]).contains("set fewer"));
    }
}
