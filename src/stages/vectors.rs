//! Activations -> neutral components -> emotion vectors.

use serde::Serialize;

/// `[vectors]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    pub center: Center,
    pub denoise: Denoise,
    pub normalize: bool,
}

/// What is subtracted from each emotion's mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Center {
    /// The mean of the emotions' means.
    Emotions,
    None,
}

/// Which neutral principal components are projected out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Denoise {
    None,
    /// The leading so many.
    Components(usize),
    /// The fewest that explain at least this fraction of the variance.
    Variance(f64),
}
