//! A complete entry: its manifest and its tables. Independent of how entries are computed.
//!
//! The manifest is a JSON file. Its last line holds the SHA-256 of all bytes before it, so that any flipped bit is
//! detected. The pre-image is on one line, exactly as it was hashed:
//!
//! ```text
//! {
//!   "preimage": {"stage":"pca",...},
//!   "version": 1,
//!   ...
//!   "sha256": "..."
//! }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::parquet;
use super::stat_cache::StatCache;
use super::table::Table;
use crate::plan::key::{Digest, Key};

/// File name of the manifest in an entry's folder.
pub(super) const MANIFEST: &str = "manifest.json";
/// Version of the manifest layout that this program writes and reads.
const VERSION: u32 = 1;

const HEAD: &str = "{\n  \"preimage\": ";
const SEAL: &str = "  \"sha256\": \"";
const TAIL: &str = "\"\n}\n";

/// The contents of an entry and how they were computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the manifest layout.
    pub version: u32,
    pub stage: String,
    pub key: Key,
    /// The JSON text whose SHA-256 is the key, verbatim.
    #[serde(skip)]
    pub preimage: String,
    /// Time of storing, in seconds since 1970.
    pub created: u64,
    pub cost: Cost,
    /// Versions of the programs and libraries that computed it, such as `emoflow` and `libtorch`.
    pub versions: BTreeMap<String, String>,
    pub files: Vec<FileRecord>,
}

/// What it cost to compute an entry, and would cost to compute it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall time.
    pub seconds: f64,
}

/// One table of an entry, in `<name>.parquet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    pub name: String,
    /// The table's schema name and version.
    pub schema: String,
    /// SHA-256 of the file's bytes.
    pub sha256: Digest,
    pub bytes: u64,
    pub rows: u64,
}

impl FileRecord {
    /// The file's name in the entry's folder.
    pub fn file_name(&self) -> String {
        format!("{}.parquet", self.name)
    }
}

/// Why a manifest cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It differs from what was written.
    Damaged(String),
    /// It is intact but has another layout, which this program cannot check.
    OtherVersion(u32),
}

impl Manifest {
    pub(super) fn new(stage: &str, key: Key, preimage: &str) -> Manifest {
        Manifest {
            version: VERSION,
            stage: stage.to_string(),
            key,
            preimage: preimage.to_string(),
            created: 0,
            cost: Cost::default(),
            versions: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// The text of `manifest.json`. Fails if the pre-image's digest is not the key, or if it is not JSON on one line.
    pub(super) fn render(&self) -> Result<String> {
        let Manifest { key, preimage, .. } = self;
        let found = Digest::of(preimage.as_bytes());
        ensure!(found == *key, "the pre-image has the digest {found}, not that of the key {key}");
        ensure!(!preimage.contains('\n'), "the pre-image of {key} has more than one line");
        serde_json::from_str::<serde::de::IgnoredAny>(preimage).context("the pre-image is not JSON")?;
        let fields = serde_json::to_string_pretty(self)?;
        let fields = fields.strip_prefix("{\n").and_then(|rest| rest.strip_suffix("\n}"));
        let fields = fields.context("the manifest has fields")?;
        let body = format!("{HEAD}{preimage},\n{fields},\n");
        let digest = Digest::of(body.as_bytes());
        Ok(format!("{body}{SEAL}{digest}{TAIL}"))
    }

    /// Parses and checks the manifest of `stage` and `key`.
    pub(super) fn parse(bytes: &[u8], stage: &str, key: &Key) -> Result<Manifest, Unusable> {
        let damaged = |what: &str| Unusable::Damaged(format!("{MANIFEST} {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("is not UTF-8"))?;
        let body = unseal(text).ok_or_else(|| damaged("does not have the SHA-256 that it states"))?;
        let preimage = body.strip_prefix(HEAD).and_then(|rest| rest.split_once(",\n")).map(|(line, _)| line);
        let manifest = match serde_json::from_str::<Manifest>(text) {
            Ok(manifest) if manifest.version == VERSION => manifest,
            other => {
                #[derive(Deserialize)]
                struct Version {
                    version: u32,
                }
                return Err(match (serde_json::from_str::<Version>(text), other) {
                    (Ok(Version { version }), _) if version != VERSION => Unusable::OtherVersion(version),
                    (_, Err(error)) => damaged(&format!("cannot be read: {error}")),
                    (_, Ok(_)) => damaged("cannot be read"),
                });
            }
        };
        let preimage = preimage.ok_or_else(|| damaged("holds no pre-image"))?;
        if manifest.key != *key || manifest.stage != stage {
            return Err(damaged(&format!("is that of {}/{}", manifest.stage, manifest.key)));
        }
        if Digest::of(preimage.as_bytes()) != *key {
            return Err(damaged("holds a pre-image that is not the key's"));
        }
        if let Some(file) = manifest.files.iter().find(|file| check_name(&file.name).is_err()) {
            return Err(damaged(&format!("names a table `{}`", file.name)));
        }
        Ok(Manifest { preimage: preimage.to_string(), ..manifest })
    }

    /// The record of a table.
    pub fn file(&self, table: &str) -> Result<&FileRecord> {
        let found = self.files.iter().find(|file| file.name == table);
        found.with_context(|| format!("{}/{} has no table `{table}`", self.stage, self.key.short()))
    }
}

/// The text before the last line, if the last line holds its digest.
fn unseal(text: &str) -> Option<&str> {
    let sealed = text.strip_suffix(TAIL)?;
    let (body, digest) = sealed.rsplit_once(SEAL)?;
    (Digest::of(body.as_bytes()).to_string() == digest).then_some(body)
}

/// Names of stages and tables become file names: ASCII letters, digits, `.`, `_` and `-`, not starting with `.` or `-`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !first || !name.chars().all(legal) || name.len() > 100 {
        bail!("`{name}` is no name of a stage or table");
    }
    Ok(())
}

/// A complete entry of the store.
pub struct Entry {
    pub manifest: Manifest,
    pub(super) dir: PathBuf,
    pub(super) stats: Arc<StatCache>,
}

impl Entry {
    /// Reads a table. The file is hashed first unless its digest is known by its `stat` data, so a file that changed
    /// since the lookup is an error.
    pub fn read(&self, table: &str) -> Result<Table> {
        let path = self.path(table)?;
        let read = || {
            let record = self.manifest.file(table)?;
            let digest = self.stats.digest(&path)?;
            ensure!(digest == record.sha256, "its SHA-256 is {digest}, the manifest says {}", record.sha256);
            let table = parquet::read(fs_err::File::open(&path)?.into_file(), &record.schema)?;
            let rows = table.rows();
            ensure!(rows as u64 == record.rows, "{rows} rows, the manifest says {}", record.rows);
            Ok(table)
        };
        read().with_context(|| format!("read {}", path.display()))
    }

    /// The path of a table's file, for copying. The file must not be changed.
    pub fn path(&self, table: &str) -> Result<PathBuf> {
        Ok(self.dir.join(self.manifest.file(table)?.file_name()))
    }

    /// The entry's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREIMAGE: &str = r#"{"stage":"pca","params":{"x":0.1,"text":"a,\n\"b\""}}"#;

    fn manifest() -> Manifest {
        Manifest {
            created: 1_775_000_000,
            cost: Cost { seconds: 1.5 },
            versions: BTreeMap::from([("emoflow".to_string(), "0.1.0".to_string())]),
            files: vec![FileRecord {
                name: "pca".into(),
                schema: "pca/1".into(),
                sha256: Digest::of(b"x"),
                bytes: 1,
                rows: 2,
            }],
            ..Manifest::new("pca", Digest::of(PREIMAGE.as_bytes()), PREIMAGE)
        }
    }

    fn parse(bytes: &[u8]) -> Result<Manifest, Unusable> {
        Manifest::parse(bytes, "pca", &manifest().key)
    }

    #[test]
    fn a_manifest_comes_back_and_is_plain_json() {
        let text = manifest().render().unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), manifest());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["preimage"]["params"]["text"], "a,\n\"b\"");
        assert_eq!(json["files"][0]["rows"], 2);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let text = manifest().render().unwrap().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(parse(&damaged), Err(Unusable::Damaged(_))), "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(matches!(parse(&text[..length]), Err(Unusable::Damaged(_))), "{length} bytes");
        }
    }

    #[test]
    fn a_sealed_manifest_of_something_else_is_found() {
        let other = Manifest::new("cosine", manifest().key, PREIMAGE).render().unwrap();
        let Err(Unusable::Damaged(why)) = parse(other.as_bytes()) else { panic!("accepted") };
        assert_eq!(why, format!("manifest.json is that of cosine/{}", manifest().key));
        let escape = Manifest {
            files: vec![FileRecord { name: "../x".into(), ..manifest().files[0].clone() }],
            ..manifest()
        };
        assert!(matches!(parse(escape.render().unwrap().as_bytes()), Err(Unusable::Damaged(_))));
    }

    #[test]
    fn another_layout_is_told_apart_from_damage() {
        let newer = Manifest { version: 2, ..manifest() }.render().unwrap();
        assert!(matches!(parse(newer.as_bytes()), Err(Unusable::OtherVersion(2))));
        // A layout with other fields, sealed in the same way.
        let body = format!("{HEAD}{PREIMAGE},\n  \"version\": 3,\n");
        let text = format!("{body}{SEAL}{}{TAIL}", Digest::of(body.as_bytes()));
        assert!(matches!(parse(text.as_bytes()), Err(Unusable::OtherVersion(3))));
    }

    #[test]
    fn wrong_preimages_are_refused() {
        let error = |preimage: &str, of: &str| {
            let manifest = Manifest::new("pca", Digest::of(of.as_bytes()), preimage);
            manifest.render().unwrap_err().to_string()
        };
        assert!(error("{}", "{ }").starts_with("the pre-image has the digest 44136fa355"));
        assert!(error("{\n}", "{\n}").ends_with("has more than one line"));
        assert_eq!(error("{", "{"), "the pre-image is not JSON");
    }

    #[test]
    fn names_are_file_names_and_no_paths() {
        for good in ["pca", "pca_variance", "logit_lens", "a.b-c", "_x"] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", "a/b", "../a", ".hidden", "-x", "a b", "ä", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
