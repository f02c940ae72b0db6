//! Files of a hub dataset repository selected by a glob: which exist, and their paths on this machine. Independent of
//! their content.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use super::hub::{Hub, Snapshot};
use crate::config;
use crate::config::problem::Problem;
use crate::progress::Progress;

/// Files of a dataset repository at a commit.
#[derive(Clone, Debug, Serialize)]
pub struct Pinned {
    pub repo: String,
    pub commit: String,
    /// Names in the repository, sorted.
    pub files: Vec<String>,
}

/// A request for files of a dataset.
pub struct OnHub<'a> {
    pub repo: &'a str,
    pub revision: &'a str,
    /// A glob.
    pub files: &'a str,
    /// The location of the glob.
    pub span: &'a config::Span,
    /// Why a file with a given name cannot be read, and the hint for that case.
    pub readable: (fn(&str) -> Option<&'static str>, &'static str),
}

/// Files that do not exist or lack something: reported as a problem with a location.
#[derive(Debug)]
pub struct NoFiles(pub Problem);

impl std::fmt::Display for NoFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for NoFiles {}

/// The most existing files that a problem lists.
const NEAREST: usize = 3;

impl OnHub<'_> {
    /// Fetches the files; returns their paths on this machine.
    ///
    /// # Errors
    /// [`NoFiles`]; failures of the hub.
    pub fn fetched(&self, hub: &Arc<Hub>, progress: &dyn Progress) -> Result<(Vec<PathBuf>, Option<Pinned>)> {
        let snapshot = hub.dataset(self.repo, self.revision, progress)?;
        let names = self.matching(&snapshot).map_err(NoFiles)?;
        let paths = snapshot.fetch_files(&names, progress)?;
        let files = names.iter().map(ToString::to_string).collect();
        let pinned = Pinned { repo: self.repo.to_string(), commit: snapshot.commit.clone(), files };
        Ok((paths, Some(pinned)))
    }

    /// The files of `snapshot` that match, sorted by name.
    pub fn matching<'s>(&self, snapshot: &'s Snapshot) -> Result<Vec<&'s str>, Problem> {
        let OnHub { repo, files, readable: (refused, known), .. } = *self;
        let at = |message: String| Problem::at(self.span.clone(), message);
        let matcher = config::matcher(files).map_err(|error| at(error.to_string()))?;
        let mut names: Vec<&str> = snapshot.names().filter(|name| matcher.is_match(name)).collect();
        names.sort_unstable();
        if let Some((name, why)) = names.iter().find_map(|name| Some((name, refused(name)?))) {
            return Err(at(format!("`{files}` means `{name}` of {repo}, which {why}")).hint(known));
        }
        if !names.is_empty() {
            return Ok(names);
        }
        let at_commit = &snapshot.commit[..snapshot.commit.len().min(7)];
        let problem = at(format!("no file of dataset repository {repo} at {at_commit} matches `{files}`"));
        let mut readable: Vec<&str> = snapshot.names().filter(|name| refused(name).is_none()).collect();
        if readable.is_empty() {
            return Err(problem.hint(format!("it has no file that can be read: {known}")));
        }
        let alike = |name: &str| (strsim::normalized_levenshtein(name, files) * 1e6) as u64;
        readable.sort_by_key(|name| (std::cmp::Reverse(alike(name)), *name));
        let nearest: Vec<String> = readable.iter().take(NEAREST).map(|name| format!("`{name}`")).collect();
        let more = match readable.len().saturating_sub(NEAREST) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(problem.hint(format!("there is {}{more}", nearest.join(", "))))
    }
}
