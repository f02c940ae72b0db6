//! Whose results a folder holds: two experiment files of one name would replace each other's.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::Experiment;
use crate::record;

/// Of `run.json` no more than the file that it was written for.
#[derive(Deserialize)]
struct Written {
    file: Option<PathBuf>,
}

/// The other experiment file whose results are in `dir`, as `run.json` says; `None` where they are those of
/// `experiment`, of nobody, or of a file that is gone, has another name now or is itself a part of `dir`.
pub fn of_another(dir: &Path, experiment: &Experiment) -> Option<PathBuf> {
    let other = record::read_json::<Written>(&dir.join(record::FILE)).ok().flatten()?.file?;
    let own = fs_err::canonicalize(&experiment.file).ok()?;
    let inside = fs_err::canonicalize(dir).is_ok_and(|dir| other.starts_with(&dir) || own.starts_with(&dir));
    let is_other = other != own && other.is_file() && !inside;
    let named = |other: &Path| Experiment::read(other).map_or(true, |other| other.name == experiment.name);
    (is_other && named(&other)).then_some(other)
}
