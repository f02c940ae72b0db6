//! The owner of a results folder: two experiment files with the same name would overwrite each other's results.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Experiment;
use crate::record;

/// The part of `run.json` that names its experiment file.
#[derive(Deserialize)]
struct Written {
    file: Option<PathBuf>,
}

/// The other experiment file whose results are in `dir`, according to `run.json`. `None` if the results belong to
/// `experiment` or to no file, or if the other file no longer exists, has another experiment name now, or if one of
/// both files is in `dir`.
pub fn of_another(dir: &Path, experiment: &Experiment) -> Option<PathBuf> {
    let other = record::read_json::<Written>(&dir.join(record::FILE)).ok().flatten()?.file?;
    let own = fs_err::canonicalize(&experiment.file).ok()?;
    let inside = fs_err::canonicalize(dir).is_ok_and(|dir| other.starts_with(&dir) || own.starts_with(&dir));
    let is_other = other != own && other.is_file() && !inside;
    let named = |other: &Path| Experiment::read(other).map_or(true, |other| other.name == experiment.name);
    (is_other && named(&other)).then_some(other)
}
