//! Principal components of the emotion vectors.

use serde::Serialize;

/// `[analysis.<name>.pca]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pca {
    pub components: usize,
}
