//! The tokens that an emotion vector promotes and suppresses.

use serde::Serialize;

pub use crate::lm::LensNorm;

/// `[analysis.<name>.logit_lens]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogitLens {
    pub top: usize,
    pub norm: LensNorm,
}
