//! The integration tests, in one binary.

mod cache_commands;
mod check;
mod corruption;
mod hub;
mod keys;
mod lm;
mod plan;
mod program;
mod project;
mod quickstart;
mod report;
mod run;
mod science;
mod stages;
mod status;
mod store;
