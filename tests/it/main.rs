//! The integration tests, in one binary.

mod lm;
mod report;
mod science;
mod stages;
mod store;
