//! Cosines between emotion vectors.

use serde::Serialize;

/// `[analysis.<name>.cosine]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cosine {
    /// Pairs with a row of their own in the report. Not in the key: the table has every pair.
    #[serde(skip)]
    pub pairs: Vec<(String, String)>,
}
