//! The vectors added for an emotion and for its random control directions: exactly those of `scenario` and `steering`,
//! so that what was explored interactively can be declared in an experiment. Independent of texts.

use anyhow::{Context, Result};

use crate::lm::{Layer, Positions};
use crate::stages::analysis::steering::Unit;
use crate::stages::analysis::steering_nulls::{beside, random, scaled, scales};
use crate::stages::analysis::{LayerVectors, VectorSet};
use crate::stages::principal::norm;
use crate::stages::rollouts::{Steering, cells};

/// The given layers of a set, in ascending order.
fn chosen<'a>(set: &'a VectorSet, layers: &[Layer]) -> Result<Vec<&'a LayerVectors>> {
    let of = |layer: &Layer| {
        let found = set.layers.iter().find(|kept| kept.layer == *layer);
        found.with_context(|| format!("there are no vectors at layer {layer}"))
    };
    layers.iter().map(of).collect()
}

fn place(set: &VectorSet, emotion: &str) -> Result<usize> {
    let first = set.layers.first().context("there are no vectors")?;
    first
        .emotions
        .iter()
        .position(|known| known == emotion)
        .with_context(|| format!("no vector of `{emotion}`"))
}

/// The vectors that `scenario` adds at `layers` (`[layer, d_model]`) for an emotion and for its first `n` random
/// directions.
///
/// # Errors
/// Those of [`cells::cells`]; the set has no vector there.
pub fn as_in_rollouts(
    set: &VectorSet,
    layers: &[Layer],
    (emotion, strength): (&str, f64),
    (seed, n): (u64, usize),
) -> Result<Vec<Vec<f32>>> {
    place(set, emotion)?;
    let steering = Steering {
        emotions: vec![emotion.to_string()],
        strength: vec![strength],
        positions: Positions::All,
        random: n,
    };
    let cells = cells::cells(&steering, &chosen(set, layers)?, seed)?;
    Ok(cells.into_iter().skip(1).map(|cell| cell.vector).collect())
}

/// The vectors that `steering` adds jointly at `layers` (`[layer, d_model]`, in residual norms) for an emotion, and
/// for the random direction whose text it writes first.
///
/// # Errors
/// A vector is zero; the set has no vector there.
pub fn as_in_steering(
    set: &VectorSet,
    layers: &[Layer],
    (emotion, strength): (&str, f64),
    seed: u64,
) -> Result<[Vec<f32>; 2]> {
    let at = place(set, emotion)?;
    let share = strength / layers.len() as f64;
    let (mut own, mut null) = (Vec::new(), Vec::new());
    for layer in chosen(set, layers)? {
        let scales = scales(Unit::ResidNorm, share, layer)?;
        own.extend(scaled(layer.vector(at), scales[at]));
        // It is the control of the first emotion's vector; all have the same norm in this unit.
        null.extend(beside(&random(seed, layer, 1), layer, 0, scales[0])?);
    }
    Ok([own, null])
}

/// An emotion's direction at a layer, of unit norm, as in `readings`.
///
/// # Errors
/// The vector is zero; the set has no vector there.
pub fn direction(set: &VectorSet, layer: Layer, emotion: &str) -> Result<Vec<f32>> {
    let at = place(set, emotion)?;
    let vector = chosen(set, &[layer])?[0].vector(at);
    let length = norm(vector);
    anyhow::ensure!(length > 0.0, "the vector of `{emotion}` at layer {layer} is zero: it has no direction");
    Ok(vector.iter().map(|x| (x / length) as f32).collect())
}
