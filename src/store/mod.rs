//! Artifacts on disk: whole or absent, found by key.

pub mod table;
