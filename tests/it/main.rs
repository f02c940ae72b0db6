//! The integration tests, in one binary.

mod across;
mod behaviour;
mod browser;
mod cache_commands;
mod check;
mod comparison;
mod config_fields;
mod corruption;
#[cfg(target_os = "linux")]
mod cuda;
mod dialogues;
mod docs;
mod evidence;
mod explain;
mod export;
mod faults;
mod files;
mod gguf_models;
mod hub;
mod imports;
mod interrupt;
mod keys;
mod kills;
mod layers;
mod lease;
mod lengths;
mod lm;
mod models;
mod plan;
mod planted;
mod program;
mod project;
mod quickstart;
mod real;
mod remote;
mod report;
mod run;
mod scenario;
mod schema;
mod science;
mod select;
mod serve;
mod slurm_job;
mod stages;
mod statistics;
mod status;
mod steering;
mod store;
mod submit;
mod sweep;
mod texts;
mod verbs;
mod workers;

/// What a report shows: its frame, then all that it carries compressed.
fn page(path: &std::path::Path) -> String {
    emoflow::report::inflated(&std::fs::read_to_string(path).unwrap()).unwrap()
}
