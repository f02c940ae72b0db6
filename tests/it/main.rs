//! The integration tests, in one binary.

mod across;
mod behaviour;
mod cache_commands;
mod check;
mod comparison;
mod corruption;
#[cfg(target_os = "linux")]
mod cuda;
mod explain;
mod faults;
mod hub;
mod interrupt;
mod keys;
mod kills;
mod layers;
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
mod slurm_job;
mod stages;
mod statistics;
mod status;
mod steering;
mod store;
mod submit;
mod sweep;
mod workers;
