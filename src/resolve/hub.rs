//! Checkpoints from the Hugging Face hub, kept in its own tools' cache layout. Knows nothing of experiments.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

/// A snapshot on this machine.
pub struct Pinned {
    pub dir: PathBuf,
    pub commit: String,
}

/// The files of a repository that make a checkpoint; everything else stays on the hub.
fn wanted(name: &str) -> bool {
    let weights = name.starts_with("model") && name.ends_with(".safetensors");
    let rest = [
        "model.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ];
    !name.contains('/') && (weights || rest.contains(&name))
}

/// Resolves `revision` to a commit and fetches the checkpoint's files that are not on this machine yet.
///
/// `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to Hugging Face's tools.
///
/// # Errors
/// No such repository or revision; a gated one without access; no network and no copy here.
pub fn fetch(repo: &str, revision: &str) -> Result<Pinned> {
    if std::env::var("HF_HUB_OFFLINE")
        .is_ok_and(|v| ["1", "true", "yes", "on"].contains(&v.to_lowercase().as_str()))
    {
        return cached(repo, revision);
    }
    let mut builder = ApiBuilder::from_env().with_retries(3).with_progress(true);
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let api = builder.build()?;
    let named = Repo::with_revision(repo.to_string(), RepoType::Model, revision.to_string());
    let info = match api.repo(named.clone()).info() {
        Ok(info) => info,
        Err(error) => {
            return match (status(&error), cached(repo, revision)) {
                // No answer at all: what is here already will do.
                (None, Ok(pinned)) => Ok(pinned),
                _ => Err(explain(error, repo, revision)),
            };
        }
    };
    let pinned = Repo::with_revision(repo.to_string(), RepoType::Model, info.sha.clone());
    let snapshot = Cache::from_env().repo(pinned.clone()).pointer_path(&info.sha);
    let files = api.repo(pinned);
    for file in info.siblings.iter().map(|f| &f.rfilename).filter(|name| wanted(name)) {
        // What this tool or another one fetched before stays.
        if !snapshot.join(file).exists() {
            let fetched = files.download(file).map_err(|e| explain(e, repo, revision));
            fetched.with_context(|| format!("fetch `{file}`"))?;
        }
    }
    let noted = Cache::from_env().repo(named).create_ref(&info.sha);
    noted.with_context(|| format!("note the commit of {repo}"))?;
    cached(repo, &info.sha)
}

/// The snapshot of `repo` at `revision` (a branch, a tag or a commit) that is on this machine.
///
/// # Errors
/// There is none.
pub fn cached(repo: &str, revision: &str) -> Result<Pinned> {
    let cache = Cache::from_env();
    let named = Repo::with_revision(repo.to_string(), RepoType::Model, revision.to_string());
    let home = cache.path().join(named.folder_name());
    let noted = fs_err::read_to_string(home.join("refs").join(revision)).ok();
    let commit = noted.map_or_else(|| revision.to_string(), |text| text.trim().to_string());
    let dir = home.join("snapshots").join(&commit);
    if !dir.join("config.json").exists() {
        bail!("{repo} at {revision} is not in `{}`: run once with the network", cache.path().display());
    }
    Ok(Pinned { dir, commit })
}

/// The HTTP status that the hub answered with, if it answered.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(code) => Some(code),
            _ => None,
        },
        _ => None,
    }
}

fn explain(error: ApiError, repo: &str, revision: &str) -> anyhow::Error {
    let advice = match status(&error) {
        Some(401 | 403) => format!(
            "{repo} is gated or private: accept its terms on its page on the hub, then set HF_TOKEN to a token that may read it"
        ),
        Some(404) => format!("the hub has no repository {repo} with a revision {revision}"),
        Some(code) => format!("the hub answered {code} for {repo}"),
        None => format!("{repo} could not be fetched"),
    };
    anyhow::Error::from(error).context(advice)
}
