//! Stories -> pooled residual-stream activations.

use serde::Serialize;

pub use crate::lm::Wrap;

/// `[activations]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    /// Pool over the story's own tokens from this one on (0-based).
    pub from_token: usize,
    pub wrap: Wrap,
    pub short: Short,
    /// Bound on padded tokens in a batch. Part of the numerics: batch composition changes low bits.
    pub batch_tokens: usize,
    pub store_dtype: StoreDtype,
}

/// What is done with a story that has no token at `from_token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Short {
    /// Left out, and counted in the report.
    Skip,
    Error,
    /// Pooled over all of its tokens.
    Whole,
}

/// The type in which pooled activations are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreDtype {
    F32,
    F16,
}
