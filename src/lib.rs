//! emoflow: emotion vectors inside language models, declared in TOML and run by a content-hashed DAG.

pub mod config;
pub mod lm;
pub mod plan;
pub mod report;
pub mod stages;
pub mod store;
