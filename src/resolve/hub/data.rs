//! Files of a dataset repository: pinned to a commit, and fetched only when requested. Independent of file formats.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use fs_err as fs;

use super::cache::Place;
use super::listing::File;
use super::repo::Repo;
use super::{FETCH, Hub, Snapshot, tree};
use crate::progress::Progress;

impl Hub {
    /// Pins `revision` of the dataset repository `repo` to a commit; fetches no file. Offline, or if the hub cannot be
    /// reached, the copy on this machine is used, complete or not: see [`Snapshot::fetch_files`].
    ///
    /// # Errors
    /// The repository or revision does not exist or is not accessible; the hub cannot be reached and there is no copy.
    pub fn dataset(self: &Arc<Hub>, repo: &str, revision: &str, progress: &dyn Progress) -> Result<Snapshot> {
        let repo = Repo::dataset(repo);
        let here = || self.cached_dataset(&repo.name, revision);
        let snapshot = match &self.client {
            None => here()?,
            Some(client) => match self.ask(client, &repo, revision, progress)? {
                Ok(listing) => return Ok(self.at(&repo, revision, listing.commit, listing.files)),
                Err(trouble) => self.instead(&trouble, &repo, revision, here(), progress)?,
            },
        };
        if tree::read(&snapshot.place.tree(&snapshot.commit)).is_none() {
            progress.note(&format!(
                "warning: without the network it is not known which files {repo} has at {revision}: using those that \
                 are on this machine"
            ));
        }
        Ok(snapshot)
    }

    /// The copy of a dataset repository on this machine, with the stored list of its files or, without one, the files
    /// that are present. Opens no socket.
    ///
    /// # Errors
    /// There is no copy.
    pub fn cached_dataset(self: &Arc<Hub>, repo: &str, revision: &str) -> Result<Snapshot> {
        let (repo, cache) = (Repo::dataset(repo), &self.settings.cache);
        let place = Place::new(cache, &repo);
        let commit = place.commit(revision);
        if !place.snapshot(&commit).is_dir() {
            bail!("{repo} at {revision} is not in `{}`: {FETCH}", cache.display());
        }
        let files = tree::read(&place.tree(&commit)).unwrap_or_else(|| {
            let mut files = Vec::new();
            walk(&place.snapshot(&commit), "", &mut files);
            files
        });
        Ok(self.at(&repo, revision, commit, files))
    }
}

/// Lists the files in `folder` and below, with `before` as a prefix of each name.
fn walk(folder: &Path, before: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, name) = (entry.path(), format!("{before}{name}"));
        // This cache creates no links to folders.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, &format!("{name}/"), files);
        } else if path.is_file() {
            files.push(File { name, size: None, content: None, blob_id: None });
        }
    }
}

impl Snapshot {
    /// The names of its files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// The paths of `names`, which are among its files, on this machine; `None` if one is missing.
    pub fn paths(&self, names: &[&str]) -> Option<Vec<PathBuf>> {
        let path = |name: &&str| {
            let path = self.dir().join(name);
            self.listed(&path).is_some_and(|file| self.is_here(file)).then_some(path)
        };
        names.iter().map(path).collect()
    }

    /// Fetches the missing ones of `names`, which are among its files, and returns the paths of all. The revision and
    /// its list of files are recorded for offline runs.
    ///
    /// # Errors
    /// Failures of the hub, the network or the disk, with a hint; offline, a missing file.
    pub fn fetch_files(&self, names: &[&str], progress: &dyn Progress) -> Result<Vec<PathBuf>> {
        let paths: Vec<PathBuf> = names.iter().map(|name| self.dir().join(name)).collect();
        self.fetch(&paths, progress)?;
        let Some(paths) = self.paths(names) else {
            let (repo, revision, cache) = (&self.repo, &self.revision, &self.hub.settings.cache);
            bail!("{repo} at {revision} is incomplete in `{}`: {FETCH}", cache.display());
        };
        let tree = self.place.tree(&self.commit);
        if !tree.exists() {
            // Optional: offline runs then merely know less; the cache may be read-only.
            let _ = tree::write(&tree, &self.files);
        }
        self.place.note(&self.revision, &self.commit)?;
        Ok(paths)
    }
}
