//! Checkpoints and data from the Hugging Face hub, in the cache of its own tools. Independent of experiments.
//!
//! When an experiment is resolved, a revision is pinned to a commit, and a checkpoint's small files are fetched. Its
//! weights are fetched when the model is to be loaded: until then the SHA-256 listed by the hub identifies them.

mod cache;
mod client;
mod data;
mod download;
mod explain;
pub mod listing;
mod repo;
mod settings;
pub mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::lm::Checkpoint;
use crate::lm::adapter::AdapterFiles;
use crate::lm::checkpoint::{Beside, TokenizerFiles};
use crate::plan::key::Digest;
use crate::progress::Progress;
use cache::Place;
use client::{Client, Trouble};
use download::Download;
use listing::{Content, File, Listing};
use repo::Repo;
use settings::Settings;

/// The files of a checkpoint or adapter besides its weights. All other files of a repository stay on the hub.
const SMALL: [&str; 8] = [
    "config.json",
    "adapter_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "model.safetensors.index.json",
];

/// The hint if something is not in the cache.
const FETCH: &str = "run once with the network; after that `--offline` works";

/// What a repository is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// As a checkpoint.
    Model,
    /// As an adapter.
    Adapter,
}

/// A hub, and the cache of its files.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// `None`: offline. Then nothing can open a socket.
    client: Option<Client>,
}

/// A repository at a commit: the files on this machine, and those that the hub can provide.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub commit: String,
    hub: Arc<Hub>,
    repo: Repo,
    /// The requested branch, tag or commit.
    revision: String,
    /// As listed by the hub: for a model, files in the top folder (empty if the hub was not asked); for a dataset, all
    /// files.
    files: Vec<File>,
    place: Place,
}

/// One line of text on whether the configured hub replies, and whether it accepts the token.
pub fn reach(offline: bool) -> String {
    let settings = Settings::from_env();
    if offline || settings.offline {
        return format!("{} not asked: offline", settings.endpoint);
    }
    if let Err(error) = settings.check() {
        return format!("{error:#}");
    }
    let client = Client::new(&settings);
    let token = settings.token.as_ref().map(|token| format!("the token from {}", token.origin));
    match (client.get(&client.url("api/whoami-v2"), 0), token) {
        (Ok(_), Some(token)) => format!("{} answers and knows {token}", settings.endpoint),
        (Err(Trouble::Refused { status: 401, .. }), Some(token)) => {
            format!("{} answers but does not know {token}", settings.endpoint)
        }
        (Ok(_) | Err(Trouble::Refused { .. }), None) => format!("{} answers; no token", settings.endpoint),
        (Err(Trouble::Refused { status, .. }), Some(token)) => {
            format!("{} answers {status} to {token}", settings.endpoint)
        }
        (Err(Trouble::Unreachable(why) | Trouble::Passing { why, .. }), _) => {
            format!("{} cannot be reached ({why})", settings.endpoint)
        }
    }
}

/// The hub could not be asked, and the requested files are not on this machine: the experiment itself may be valid.
#[derive(Debug)]
pub struct Outage(String);

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Outage {}

impl Hub {
    /// The hub configured by the environment; offline if the environment or `offline` says so.
    pub fn open(offline: bool) -> Arc<Hub> {
        let settings = Settings::from_env();
        let client = (!offline && !settings.offline).then(|| Client::new(&settings));
        Arc::new(Hub { settings, client })
    }

    /// Pins `revision` (a branch, a tag or a commit) of `repo`, which are plain names, to a commit, and fetches the
    /// files of its checkpoint except for the weights. Offline, or if the hub cannot be reached, a complete copy on
    /// this machine is used.
    ///
    /// # Errors
    /// The repository or revision does not exist or is not accessible; the hub cannot be reached and there is no copy.
    pub fn pin(
        self: &Arc<Hub>,
        repo: &str,
        revision: &str,
        wanted: Wanted,
        progress: &dyn Progress,
    ) -> Result<Snapshot> {
        let repo = Repo::model(repo);
        let Some(client) = &self.client else { return self.cached(&repo.name, revision, wanted) };
        let trouble = match self.ask(client, &repo, revision, progress)? {
            Ok(listing) => {
                let files = listing.files.into_iter().filter(|file| !file.name.contains('/')).collect();
                let snapshot = self.at(&repo, revision, listing.commit, files);
                let small = SMALL.map(|name| snapshot.dir().join(name));
                let small = small.into_iter().filter(|path| snapshot.listed(path).is_some());
                snapshot.fetch(&small.collect::<Vec<_>>(), progress)?;
                return Ok(snapshot);
            }
            Err(trouble) => trouble,
        };
        self.instead(&trouble, &repo, revision, self.cached(&repo.name, revision, wanted), progress)
    }

    /// The hub's listing of `repo` at `revision`; the inner error is the hub's.
    fn ask(
        &self,
        client: &Client,
        repo: &Repo,
        revision: &str,
        progress: &dyn Progress,
    ) -> Result<Result<Listing, Trouble>> {
        self.settings.check()?;
        let asked = client.read(&repo.listing(revision), progress).map(|answer| {
            Listing::parse(&answer).with_context(|| format!("ask {} for {repo}", self.settings.endpoint))
        });
        match asked {
            Ok(listing) => Ok(Ok(listing?)),
            Err(trouble) => Ok(Err(trouble)),
        }
    }

    /// Falls back to the local copy `here` if the hub could not be reached, and reports which commit that is.
    fn instead(
        &self,
        trouble: &Trouble,
        repo: &Repo,
        revision: &str,
        here: Result<Snapshot>,
        progress: &dyn Progress,
    ) -> Result<Snapshot> {
        let refused = matches!(trouble, Trouble::Refused { .. });
        let said = explain::trouble(trouble, &self.settings, repo, revision, None);
        match here {
            Ok(_) if refused => bail!("{said}; `--offline` uses the copy on this machine"),
            Ok(copy) => {
                progress.note(&format!(
                    "warning: {said}; using {repo} at {}, which is on this machine",
                    copy.commit
                ));
                Ok(copy)
            }
            Err(_) if refused => bail!("{said}"),
            Err(none) => Err(Outage(format!("{said}, and {none:#}")).into()),
        }
    }

    /// The complete snapshot of `repo` at `revision` on this machine. Opens no socket.
    ///
    /// # Errors
    /// There is none.
    pub fn cached(self: &Arc<Hub>, repo: &str, revision: &str, wanted: Wanted) -> Result<Snapshot> {
        let (repo, cache) = (Repo::model(repo), &self.settings.cache);
        let commit = Place::new(cache, &repo).commit(revision);
        let snapshot = self.at(&repo, revision, commit, Vec::new());
        let (config, whole) = match wanted {
            Wanted::Model => ("config.json", snapshot.checkpoint(None).map(|_| ())),
            Wanted::Adapter => ("adapter_config.json", snapshot.adapter().map(|_| ())),
        };
        if !snapshot.dir().join(config).exists() {
            bail!("{repo} at {revision} is not in `{}`: {FETCH}", cache.display());
        }
        if let Err(why) = whole {
            bail!("{repo} at {revision} is incomplete in `{}` ({why:#}): {FETCH}", cache.display());
        }
        Ok(snapshot)
    }

    /// The current tokenizer of `repo`; without `progress` the hub is not asked and the local copy is used.
    ///
    /// # Errors
    /// Those of [`Hub::pin`]; the repository has no `tokenizer.json`.
    pub fn tokenizer(
        self: &Arc<Hub>,
        repo: &str,
        progress: Option<&dyn Progress>,
    ) -> Result<(TokenizerFiles, String)> {
        let (repo, cache) = (Repo::model(repo), &self.settings.cache);
        if let (Some(_), Some(progress)) = (&self.client, progress) {
            let snapshot = self.pin(&repo.name, "main", Wanted::Model, progress)?;
            snapshot.place.note("main", &snapshot.commit)?;
            let files = TokenizerFiles::open(&snapshot.dir(), &[]).with_context(|| format!("{repo}"))?;
            return Ok((files, snapshot.commit));
        }
        let commit = Place::new(cache, &repo).commit("main");
        let snapshot = self.at(&repo, "main", commit, Vec::new());
        let files = TokenizerFiles::open(&snapshot.dir(), &[]);
        let missing = || format!("the tokenizer of {repo} is not in `{}`: {FETCH}", cache.display());
        Ok((files.with_context(missing)?, snapshot.commit))
    }

    fn at(self: &Arc<Hub>, repo: &Repo, revision: &str, commit: String, files: Vec<File>) -> Snapshot {
        Snapshot {
            commit,
            hub: self.clone(),
            repo: repo.clone(),
            revision: revision.to_string(),
            files,
            place: Place::new(&self.settings.cache, repo),
        }
    }
}

impl Snapshot {
    /// The checkpoint, with a replacement tokenizer if given; its weights may still be on the hub.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn checkpoint(&self, tokenizer: Option<TokenizerFiles>) -> Result<Checkpoint> {
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        Checkpoint::open_with(&self.dir(), Beside { promised: &names, tokenizer })
    }

    /// The adapter; its weights may still be on the hub.
    ///
    /// # Errors
    /// Those of [`AdapterFiles::open`].
    pub fn adapter(&self) -> Result<AdapterFiles> {
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        AdapterFiles::open(&self.dir(), &names)
    }

    /// The digest that the hub lists for a file that is not on this machine.
    pub fn promised(&self, path: &Path) -> Option<Digest> {
        let file = self.listed(path).filter(|file| !self.is_here(file))?;
        match file.content {
            Some(Content::Sha256(digest)) => Some(digest),
            _ => None,
        }
    }

    /// Provides those of `weights` that need no network, because another commit has the same content, and those for
    /// which the hub lists no digest. Once all are present, the revision is recorded for offline runs.
    ///
    /// # Errors
    /// Those of [`Snapshot::fetch_weights`].
    pub fn prepare_weights(&self, weights: &[PathBuf], progress: &dyn Progress) -> Result<()> {
        let at_hand = |path: &&PathBuf| {
            let listed = self.listed(path);
            let blob = listed.and_then(|f| Some((f.content.as_ref()?, f.size?)));
            let is_blob = |(content, size): (&Content, u64)| {
                download::is_whole(&self.place.blob(&content.blob()), size)
            };
            listed.is_some_and(|file| !self.is_here(file))
                && (self.promised(path).is_none() || blob.is_some_and(is_blob))
        };
        let now: Vec<PathBuf> = weights.iter().filter(at_hand).cloned().collect();
        self.fetch(&now, progress)?;
        self.settle(weights)
    }

    /// Fetches those of `weights` that are missing.
    ///
    /// # Errors
    /// Failures of the hub, the network or the disk, with a hint.
    pub fn fetch_weights(&self, weights: &[PathBuf], progress: &dyn Progress) -> Result<()> {
        self.fetch(weights, progress)?;
        self.settle(weights)
    }

    fn settle(&self, weights: &[PathBuf]) -> Result<()> {
        if weights.iter().all(|path| self.listed(path).is_some_and(|file| self.is_here(file))) {
            self.place.note(&self.revision, &self.commit)?;
        }
        Ok(())
    }

    fn fetch(&self, paths: &[PathBuf], progress: &dyn Progress) -> Result<()> {
        let files = paths.iter().filter_map(|path| self.listed(path)).filter(|file| !self.is_here(file));
        let files: Vec<&File> = files.collect();
        let (false, Some(client)) = (files.is_empty(), &self.hub.client) else { return Ok(()) };
        let mut downloads = Vec::new();
        for &file in &files {
            downloads.push(self.download(client, file, progress)?);
        }
        let todo = downloads.iter().filter(|d| !download::is_whole(&d.blob, d.size));
        let (mut bytes, mut missing) = (0, 0);
        for download in todo {
            bytes += download.size;
            missing += download.size.saturating_sub(download::begun(&download.blob));
        }
        download::ensure_room(&self.place.blob(""), missing)
            .with_context(|| format!("fetch {}", self.repo.name))?;
        let begun = std::time::Instant::now();
        if bytes > 0 {
            progress.begin(&format!("fetch {}", self.repo.name), megabytes(bytes), "MB");
        }
        let mut before = 0;
        for (file, download) in files.into_iter().zip(&downloads) {
            let ran = if download::is_whole(&download.blob, download.size) {
                Ok(())
            } else {
                let ran = download.run(client, &mut |here| progress.at((before + here) as f64 / 1e6));
                before += download.size;
                ran
            };
            if let Err(error) = ran {
                progress.end("FAILED");
                return Err(self.explained(error, &file.name));
            }
            self.place.link(&self.commit, &file.name, &download.content.blob())?;
        }
        if bytes > 0 {
            progress.end(&format!("done in {:.1} s", begun.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// Prepares the download of `file`; asks the hub for its size and digest if they were not listed.
    fn download<'a>(&self, client: &Client, file: &File, progress: &'a dyn Progress) -> Result<Download<'a>> {
        let path = self.repo.file(&self.commit, &file.name);
        let (mut content, mut size) = (file.content.clone(), file.size);
        if content.is_none() || size.is_none() {
            let head = client.head(&path, progress).map_err(|e| self.explained(e.into(), &file.name))?;
            content = content.or(head.content);
            size = size.or(head.size);
        }
        let content = content.with_context(|| {
            format!(
                "{} gives no known digest (SHA-256, SHA-1, git's) of {}, so it cannot be verified: use a folder with \
                 the model's files as `path` instead",
                self.hub.settings.endpoint, file.name
            )
        })?;
        let size = size.with_context(|| {
            format!("{} gives no size of {}, so it cannot be verified", self.hub.settings.endpoint, file.name)
        })?;
        let blob = content.blob();
        Ok(Download {
            url: client.url(&path),
            name: format!("{} of {}", file.name, self.repo),
            size,
            content,
            lock: self.place.lock(&blob),
            blob: self.place.blob(&blob),
            progress,
        })
    }

    fn explained(&self, error: anyhow::Error, file: &str) -> anyhow::Error {
        match error.downcast::<Trouble>() {
            Ok(trouble) => {
                let settings = &self.hub.settings;
                let (repo, commit) = (&self.repo, &self.commit);
                let said = explain::trouble(&trouble, settings, repo, commit, Some(file));
                match trouble {
                    Trouble::Refused { .. } => anyhow::anyhow!(said),
                    Trouble::Unreachable(_) | Trouble::Passing { .. } => Outage(said).into(),
                }
            }
            Err(error) => error,
        }
    }

    fn dir(&self) -> PathBuf {
        self.place.snapshot(&self.commit)
    }

    /// The hub's listing of the file at `path`.
    fn listed(&self, path: &Path) -> Option<&File> {
        let inside = path.strip_prefix(self.dir()).ok()?;
        self.files.iter().find(|file| inside == Path::new(&file.name))
    }

    fn is_here(&self, file: &File) -> bool {
        let path = self.dir().join(&file.name);
        file.size.map_or_else(|| path.is_file(), |size| download::is_whole(&path, size))
    }
}

/// Megabytes, rounded up.
fn megabytes(bytes: u64) -> usize {
    bytes.div_ceil(1_000_000) as usize
}
