//! The integration tests, in one binary.

mod check;
mod explain;
mod hub;
mod lm;
mod plan;
mod program;
mod project;
mod quickstart;
mod report;
mod run;
mod science;
mod select;
mod stages;
mod store;
