//! What adding an emotion vector does to the log-probability of every emotion's word.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{LayerVectors, Places, Progress, Tables, VectorSet};
use crate::lm::LanguageModel;
use crate::stages::principal::norm;
use crate::store::table::Column;

pub use crate::lm::Positions;

/// Raised when the same vectors would give other tables.
pub const VERSION: u32 = 1;

/// What the names of random directions start with in the column `steered`: `random-1`, `random-2`, ...
pub const RANDOM: &str = "random-";

/// `[analysis.<name>.steering]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steering {
    pub prompts: Vec<String>,
    pub strength: Vec<f64>,
    pub unit: Unit,
    pub layers: Layers,
    pub positions: Positions,
    /// Random directions of equal norm beside each vector: the null.
    pub random: usize,
}

/// What a strength of 1 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The vector as it is.
    Vector,
    /// The mean residual norm at that layer, in the vector's direction.
    ResidNorm,
}

/// Which of the kept layers are steered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// The kept layer nearest to 2/3 of the depth.
    Default,
    All,
    List(Vec<usize>),
}

impl Layers {
    /// The kept layers that are steered. 2/3 of the depth falls in block `floor(2 n_layers / 3)` (10 of 16, 28 of
    /// 42); of two kept layers equally near to it the lower one is taken.
    pub fn of(&self, kept: &[usize], n_layers: usize) -> Vec<usize> {
        match self {
            Layers::All => kept.to_vec(),
            Layers::List(list) => kept.iter().copied().filter(|layer| list.contains(layer)).collect(),
            Layers::Default => {
                let wanted = 2 * n_layers / 3;
                kept.iter().copied().min_by_key(|&layer| (layer.abs_diff(wanted), layer)).into_iter().collect()
            }
        }
    }
}

pub fn run(params: &Steering, set: &VectorSet, model: &LanguageModel, seed: u64, progress: &mut Progress) -> Result<Tables> {
    todo!()
}

/// `[d]`: the `number`-th (from 1) Gaussian direction of a layer, of unit norm.
///
/// SHA-256 in counter mode over (seed, layer, number), each digest two pairs of uniform numbers, each pair two
/// normal ones by Box and Muller's formula: the same on every machine.
fn random_direction(seed: u64, layer: usize, number: usize, d: usize) -> Vec<f64> {
    let mut values = Vec::with_capacity(d + 4);
    for counter in 0u64.. {
        if values.len() >= d {
            break;
        }
        let mut hasher = Sha256::new_with_prefix("steering null");
        for part in [seed, layer as u64, number as u64, counter] {
            hasher.update(part.to_le_bytes());
        }
        // 53 bits make a float64 in (0, 1), never 0.
        let uniform = hasher.finalize().chunks_exact(8).map(|bytes| {
            let bits = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }).collect::<Vec<_>>();
        for pair in uniform.chunks_exact(2) {
            let (radius, angle) = ((-2.0 * pair[0].ln()).sqrt(), std::f64::consts::TAU * pair[1]);
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
    }
    values.truncate(d);
    let length = norm(&values);
    values.iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_layer_is_the_kept_one_nearest_to_two_thirds() {
        let all = |n: usize| (0..n).collect::<Vec<_>>();
        assert_eq!(Layers::Default.of(&all(16), 16), [10]);
        assert_eq!(Layers::Default.of(&all(42), 42), [28]);
        assert_eq!(Layers::Default.of(&[0, 8, 12], 16), [8]);
        assert_eq!(Layers::Default.of(&[3], 16), [3]);
        assert_eq!(Layers::All.of(&[2, 5], 6), [2, 5]);
        assert_eq!(Layers::List(vec![5, 4]).of(&[2, 4, 5], 6), [4, 5]);
    }

    #[test]
    fn random_directions_are_unit_gaussian_and_repeatable() {
        let d = 4096;
        let a = random_direction(7, 3, 1, d);
        assert_eq!(a, random_direction(7, 3, 1, d));
        assert!((norm(&a) - 1.0).abs() < 1e-12);
        // Entries of a unit Gaussian direction have variance 1/d and kurtosis 3.
        let scaled: Vec<f64> = a.iter().map(|x| x * (d as f64).sqrt()).collect();
        let mean = scaled.iter().sum::<f64>() / d as f64;
        let kurtosis = scaled.iter().map(|x| x.powi(4)).sum::<f64>() / d as f64;
        assert!(mean.abs() < 0.06 && (kurtosis - 3.0).abs() < 0.4, "{mean} {kurtosis}");
        for other in [random_direction(8, 3, 1, d), random_direction(7, 4, 1, d), random_direction(7, 3, 2, d)] {
            let cosine: f64 = a.iter().zip(&other).map(|(a, b)| a * b).sum();
            assert!(cosine.abs() < 0.07, "{cosine}");
        }
        assert_eq!(random_direction(7, 3, 1, 5).len(), 5);
    }
}
