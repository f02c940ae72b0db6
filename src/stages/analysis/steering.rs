//! What adding an emotion vector does to the log-probability of every emotion's word.

use serde::Serialize;

pub use crate::lm::Positions;

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
