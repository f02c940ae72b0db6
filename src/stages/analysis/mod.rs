//! What is computed from emotion vectors: one file an analysis.

pub mod cosine;
pub mod logit_lens;
pub mod pca;
pub mod steering;

use serde::Serialize;

/// Every analysis there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    Pca(pca::Pca),
    Cosine(cosine::Cosine),
    LogitLens(logit_lens::LogitLens),
    Steering(steering::Steering),
}
