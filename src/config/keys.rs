//! All tables of an experiment file, as declared by the structs of its parts.

use super::root::Root;
use crate::params::{self, Params as _, Placed};

/// The whole file.
pub fn top() -> Placed {
    Placed::top(Root::TABLE)
}

/// The JSON Schema of an experiment file.
pub fn schema() -> serde_json::Value {
    params::schema(&top(), "An experiment of emoflow")
}

/// Every table, each once, in the order of the file.
pub fn tables() -> Vec<Placed> {
    top().all()
}
