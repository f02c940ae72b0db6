//! The integration tests, in one binary.

mod across;
mod check;
mod comparison;
mod corruption;
mod explain;
mod faults;
mod hub;
mod interrupt;
mod keys;
mod kills;
mod lease;
mod lm;
mod models;
mod plan;
mod program;
mod project;
mod quickstart;
mod remote;
mod report;
mod run;
mod science;
mod select;
mod stages;
mod status;
mod store;
mod sweep;
