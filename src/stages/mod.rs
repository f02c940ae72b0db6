//! The computation of each kind of node. Independent of the plan, the cache and the command line.

pub mod across;
pub mod activations;
pub mod analysis;
pub mod batches;
pub mod live;
mod principal;
mod read;
pub mod readings;
pub mod rollouts;
pub mod scores;
pub mod spans;
pub mod statistics;
pub mod stories;
pub mod texts;
pub mod vectors;
