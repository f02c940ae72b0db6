//! Models that Ollama has downloaded: resolves a name and tag to the weights file in its store. Independent of the
//! file's content; the template beside it is in another language than tokenizers' templates, and is not used.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fs_err as fs;
use serde_json::Value;

/// Bound on a manifest, in bytes; real ones have several hundred.
const LARGEST: u64 = 1 << 20;
/// The layer of a manifest that holds the weights.
const WEIGHTS: &str = "application/vnd.ollama.image.model";

/// The GGUF file of the model `name`: `gemma3:4b`, `owner/model:tag` or `hf.co/owner/repository:tag`; without a tag,
/// `latest` is used.
///
/// # Errors
/// The name is invalid; the model is not in the store.
pub fn find(name: &str) -> Result<PathBuf> {
    find_in(&stores(), name)
}

/// The folders in which Ollama keeps models: `OLLAMA_MODELS`, or else the one in the home folder and that of its
/// service.
fn stores() -> Vec<PathBuf> {
    if let Some(told) = std::env::var_os("OLLAMA_MODELS").filter(|told| !told.is_empty()) {
        return vec![told.into()];
    }
    let home = std::env::home_dir().map(|home| home.join(".ollama/models"));
    let service = ["/usr/share/ollama/.ollama/models", "/var/lib/ollama/.ollama/models"];
    home.into_iter().chain(service.map(PathBuf::from)).collect()
}

fn find_in(stores: &[PathBuf], name: &str) -> Result<PathBuf> {
    let manifest = manifest(name)?;
    let Some((store, path)) = stores
        .iter()
        .map(|store| (store, store.join("manifests").join(&manifest)))
        .find(|(_, path)| path.is_file())
    else {
        let looked: Vec<String> = stores.iter().map(|store| format!("`{}`", store.display())).collect();
        bail!(
            "Ollama has no model `{name}` in {}: `ollama pull {name}` downloads it, `ollama list` lists its models; \
             set `OLLAMA_MODELS` if they are in another folder",
            looked.join(", ")
        );
    };
    blob(store, &path).with_context(|| format!("Ollama's `{name}`, {}", path.display()))
}

/// The manifest's path below the manifests folder: registry, owner, name, tag.
fn manifest(name: &str) -> Result<PathBuf> {
    let (model, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let parts: Vec<&str> = model.split('/').chain([tag]).collect();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain = |part: &&str| !part.is_empty() && !part.starts_with('.') && part.chars().all(fits);
    ensure!(
        parts.iter().all(plain) && parts.len() <= 4,
        "`{name}` is not the name of an Ollama model: those are `model:tag`, `owner/model:tag` and \
         `host/owner/model:tag`"
    );
    let before: &[&str] = match parts.len() {
        2 => &["registry.ollama.ai", "library"],
        3 => &["registry.ollama.ai"],
        _ => &[],
    };
    Ok(before.iter().chain(&parts).collect())
}

/// The weights file that the manifest at `path` refers to.
fn blob(store: &Path, path: &Path) -> Result<PathBuf> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(LARGEST).read_to_end(&mut text)?;
    let manifest: Value = serde_json::from_slice(&text).context("the manifest is not JSON")?;
    let layers = manifest["layers"].as_array().context("the manifest has no layers")?;
    let weights: Vec<&Value> = layers.iter().filter(|layer| layer["mediaType"] == WEIGHTS).collect();
    let [weights] = weights[..] else {
        bail!("the manifest names {} files of weights; a GGUF file is needed", weights.len());
    };
    let digest = weights["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
    let digest = digest.filter(|digest| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()));
    let blob =
        store.join("blobs").join(format!("sha256-{}", digest.context("the manifest's digest is none")?));
    ensure!(blob.is_file(), "`{}` is missing: `ollama pull` fetches it again", blob.display());
    Ok(blob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_file_of_weights() {
        let store = tempfile::tempdir().unwrap();
        let (digest, other) = ("a".repeat(64), "b".repeat(64));
        let at = |path: &str| store.path().join(path);
        let manifest = format!(
            r#"{{"layers": [{{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:{other}"}},
                {{"mediaType": "{WEIGHTS}", "digest": "sha256:{digest}"}}]}}"#
        );
        for place in ["registry.ollama.ai/library/gemma3/4b", "hf.co/me/model/latest"] {
            let path = at("manifests").join(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, &manifest).unwrap();
        }
        let stores = [at("elsewhere"), store.path().to_path_buf()];
        let found = |name: &str| find_in(&stores, name).map_err(|error| format!("{error:#}"));
        assert!(found("gemma3:4b").unwrap_err().contains("is missing"));
        let blob = at("blobs").join(format!("sha256-{digest}"));
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "").unwrap();
        assert_eq!(found("gemma3:4b").unwrap(), blob);
        assert_eq!(found("hf.co/me/model").unwrap(), blob);
        assert!(found("gemma3").unwrap_err().contains("`ollama pull gemma3` downloads it"));
        for evil in ["../x", "a//b", "", "a/b/c/d/e:f", "/etc:passwd"] {
            assert!(found(evil).unwrap_err().contains("is not the name"), "{evil}");
        }
    }
}
