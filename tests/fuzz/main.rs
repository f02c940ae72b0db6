//! Every reader of what strangers give, against inputs drawn from the fixtures (docs/design/strangers.md, "Fuzzing").

mod engine;
mod files;
mod models;
mod remote;
mod serve;
mod transcripts;
mod vectors;

use std::path::{Path, PathBuf};

/// A file or folder of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Files called `name` in the folders of `folder`.
fn in_folders(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let folders = std::fs::read_dir(project(folder)).unwrap().flatten();
    let mut files: Vec<PathBuf> =
        folders.map(|folder| folder.path().join(name)).filter(|path| path.is_file()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The first line of an outcome, in words.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "it is read".to_string(),
        Err(error) => format!("{error:#}"),
    }
}
