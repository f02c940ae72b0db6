//! The plan: nodes in topological order, each unit with its key. A pure function of the resolved experiment.

pub mod key;
