//! The list of a commit's files, in the format in which Hugging Face's tools keep it in their cache: it never changes,
//! so offline it shows which files exist. Independent of the hub.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::listing::{Content, File, is_inside};
use crate::atomic;

/// The only version so far (huggingface_hub 2.4).
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    size: u64,
    /// Git's blob id of the file; for a large file, that of the pointer file.
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

/// The files in the list at `path`; `None` if it does not exist or cannot be read.
pub fn read(path: &Path) -> Option<Vec<File>> {
    let tree: Tree = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let fits = tree.format_version == VERSION && tree.files.keys().all(|name| is_inside(name));
    let file = |(name, entry): (String, Entry)| File {
        name,
        size: Some(entry.lfs_size.unwrap_or(entry.size)),
        content: Content::named(entry.lfs_sha256.as_ref().unwrap_or(&entry.blob_id)),
        blob_id: Some(entry.blob_id),
    };
    fits.then(|| tree.files.into_iter().map(file).collect())
}

/// Stores the list of `files` at `path`, unless the hub omitted some information.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, files: &[File]) -> Result<()> {
    let entry = |file: &File| {
        let (size, blob_id) = (file.size?, file.blob_id.clone()?);
        let large = match file.content.as_ref()? {
            Content::Sha256(digest) => Some(digest.to_string()),
            Content::Git(_) | Content::Sha1(_) => None,
        };
        let lfs_size = large.as_ref().map(|_| size);
        Some((file.name.clone(), Entry { size, blob_id, lfs_sha256: large, lfs_size }))
    };
    let Some(files) = files.iter().map(entry).collect() else { return Ok(()) };
    atomic::replace(path, &serde_json::to_vec_pretty(&Tree { format_version: VERSION, files })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format of huggingface_hub's `_tree_cache.py`.
    const THEIRS: &str = r#"{
 "format_version": 1,
 "files": {
  "README.md": {"size": 6, "blob_id": "ce013625030ba8dba906f756967f9e9ca394464a"},
  "a/b.parquet": {"size": 9, "blob_id": "10c66461e4c109db5a2196bff4bb59be30396ed8",
   "lfs_sha256": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707", "lfs_size": 9, "xet_hash": "0a"}
 }
}"#;

    #[test]
    fn a_list_is_read_and_written_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trees/c0.json");
        assert!(read(&path).is_none());
        fs::create_dir(dir.path().join("trees")).unwrap();
        fs::write(&path, THEIRS).unwrap();
        let files = read(&path).unwrap();
        assert_eq!(files.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["README.md", "a/b.parquet"]);
        assert!(matches!(files[0].content, Some(Content::Git(_))));
        assert!(matches!(files[1].content, Some(Content::Sha256(_))));
        write(&path, &files).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(THEIRS).unwrap();
        // The hash in the Xet storage is unknown here; it is optional.
        expected["files"]["a/b.parquet"].as_object_mut().unwrap().remove("xet_hash");
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written, expected);
        for bad in [THEIRS.replace("a/b", "../b"), THEIRS.replace(": 1,", ": 2,"), "{}".to_string()] {
            fs::write(&path, bad).unwrap();
            assert!(read(&path).is_none());
        }
    }

    #[test]
    fn a_list_with_gaps_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c0.json");
        let file = File { name: "x".into(), size: None, content: None, blob_id: None };
        write(&path, &[file]).unwrap();
        assert!(!path.exists());
    }
}
