//! The integration tests: one program, everything in process.

mod lm;
mod science;
mod stages;
