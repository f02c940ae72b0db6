//! Runs the program's parts together, in process.

mod science;
mod stages;
