//! The cells of a steering experiment: no steering, each emotion at each strength, and random directions at each
//! strength. Independent of texts.

use anyhow::{Result, ensure};

use super::Steering;
use crate::lm::Layer;
use crate::stages::analysis::LayerVectors;
use crate::stages::analysis::steering::Unit;
use crate::stages::analysis::steering_nulls::{scaled, scales};
use crate::stages::principal::norm;
use crate::stages::statistics::draws::Draws;

/// The name of the unsteered cell.
pub const NONE: &str = "unsteered";

/// One steering condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// An emotion, `random-1`, ..., or [`NONE`].
    pub steered: String,
    /// 0 without steering.
    pub strength: f64,
    /// `[layer, d_model]`: the vector added at each layer; empty without steering.
    pub vector: Vec<f32>,
}

/// Whether a name in the column `steered` is that of a random direction.
pub fn is_random(steered: &str) -> bool {
    steered.strip_prefix("random-").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// All cells, the unsteered one first. Several layers share a strength equally.
///
/// # Errors
/// A vector is zero; the layers have vectors of different emotions.
pub fn cells(params: &Steering, layers: &[&LayerVectors], seed: u64) -> Result<Vec<Cell>> {
    let emotions = &layers[0].emotions;
    ensure!(
        layers.iter().all(|layer| layer.emotions == *emotions),
        "the layers have vectors of different emotions"
    );
    let mut all = vec![Cell { steered: NONE.into(), strength: 0.0, vector: Vec::new() }];
    let chosen: Vec<usize> = (0..emotions.len())
        .filter(|&at| params.emotions.is_empty() || params.emotions.contains(&emotions[at]))
        .collect();
    for &strength in &params.strength {
        let share = strength / layers.len() as f64;
        let scales: Vec<Vec<f64>> =
            layers.iter().map(|layer| scales(Unit::ResidNorm, share, layer)).collect::<Result<_>>()?;
        for &at in &chosen {
            let here =
                layers.iter().zip(&scales).flat_map(|(layer, scales)| scaled(layer.vector(at), scales[at]));
            all.push(Cell { steered: emotions[at].clone(), strength, vector: here.collect() });
        }
        let Some(&first) = chosen.first() else { continue };
        for number in 1..=params.random {
            let here = layers.iter().zip(&scales).flat_map(|(layer, scales)| {
                let parts = [seed, layer.layer.number() as u64, number as u64];
                let direction = Draws::new("scenario random", &parts).direction(layer.d_model);
                // All vectors are added with this norm.
                scaled(&direction, scales[first] * norm(layer.vector(first)))
            });
            all.push(Cell { steered: format!("random-{number}"), strength, vector: here.collect() });
        }
    }
    Ok(all)
}

/// The layers that are steered, all at once.
pub fn steered(layers: &[&LayerVectors]) -> Vec<Layer> {
    layers.iter().map(|layer| layer.layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::Positions;
    use crate::stages::analysis::tests::set;

    #[test]
    fn layers_share_the_strength_and_random_directions_are_as_long() {
        let set = set(&["calm", "angry"], &[&[3.0, 4.0], &[0.0, -2.0]]);
        let layer = &set.layers[0];
        let params = Steering {
            emotions: Vec::new(),
            strength: vec![0.5, -0.5],
            positions: Positions::All,
            random: 2,
        };
        // The residual norm of this set is 10.
        let found = cells(&params, &[layer, layer], 1).unwrap();
        let names: Vec<(&str, f64)> = found.iter().map(|c| (c.steered.as_str(), c.strength)).collect();
        assert_eq!(names[..4], [(NONE, 0.0), ("calm", 0.5), ("angry", 0.5), ("random-1", 0.5)]);
        assert_eq!(names.len(), 1 + 2 * 4);
        assert_eq!(found[1].vector, [1.5, 2.0, 1.5, 2.0]);
        for cell in &found[1..] {
            let half: Vec<f64> = cell.vector[..2].iter().map(|&x| f64::from(x)).collect();
            assert!((norm(&half) - 2.5).abs() < 1e-6, "{cell:?}");
        }
        assert_eq!(found[5].vector[0], -1.5);
        assert!(is_random("random-12") && !is_random("random-walk") && !is_random(NONE));
    }
}
