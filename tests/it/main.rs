//! The integration tests, in one binary.

mod check;
mod lm;
mod report;
mod science;
mod stages;
mod store;
