//! What each kind of node does. Knows neither the plan, nor the cache, nor the command line.

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
