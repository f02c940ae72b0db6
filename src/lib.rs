//! emoflow: emotion vectors inside language models, declared in TOML and run by a content-hashed DAG.

pub mod lm;
