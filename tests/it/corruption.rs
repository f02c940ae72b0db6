//! Flipped bits and cut files anywhere in a cache: `cache verify` finds each, and a run makes anew what it needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use emoflow::plan::key::Digest;
use emoflow::store::table::{Column, Table};
use emoflow::store::{Cost, Lookup, Store};

use crate::project::Project;

/// Steele, Lea and Flood's SplitMix64: a seeded sequence, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Every file below a folder, sorted.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn table(i: usize) -> Table {
    let values = (0..80).map(|x| (x * i) as f32 + 0.5).collect();
    Table::new(
        "vectors/1",
        vec![
            ("emotion", Column::Str((0..20).map(|row| format!("emotion {row}")).collect())),
            ("vector", Column::List { width: 4, values, half: i % 2 == 0 }),
        ],
    )
}

/// A cache of three stages, two entries each, and a log of digests.
fn small_cache(root: &Path) {
    let store = Store::open(root).unwrap();
    let mut keys = Vec::new();
    for i in 0..6 {
        let stage = ["activations", "pca", "vectors"][i % 3];
        let preimage = format!(r#"{{"stage":"{stage}","version":{i}}}"#);
        let key = Digest::of(preimage.as_bytes());
        let Lookup::Miss(miss) = store.lookup(stage, &key).unwrap() else { panic!("a hit") };
        let mut tables = vec![(stage.to_string(), table(i))];
        if stage == "pca" {
            tables.push(("pca_variance".to_string(), table(i + 6)));
        }
        miss.commit(&preimage, &tables, &[], Cost { seconds: 1.0 }).unwrap();
        keys.push((stage, key));
    }
    // Digests of files that are older than two seconds are remembered.
    std::thread::sleep(Duration::from_millis(2100));
    let later = Store::open(root).unwrap();
    assert!(keys.iter().all(|(stage, key)| matches!(later.lookup(stage, key), Ok(Lookup::Hit(_)))));
}

#[test]
fn a_thousand_damages_are_all_found_by_verify() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    small_cache(&root);
    let sound: Vec<(PathBuf, Vec<u8>)> =
        files(&root).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert_eq!(sound.len(), 6 + 8 + 1, "manifests, tables, the log");
    let verify = || Store::open(&root).unwrap().read_only().verify(false).unwrap();
    assert_eq!(verify().damaged, []);

    let mut random = Random(4);
    for turn in 0..1000 {
        let (path, bytes) = &sound[random.below(sound.len())];
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let mut damaged = bytes.clone();
        let mut at = random.below(bytes.len());
        let what = if random.below(3) == 0 {
            // Between two of its lines a log ends as it once did: nothing in it is wrong.
            while name.ends_with("digests.txt") && at > 0 && bytes[at - 1] == b'\n' {
                at = random.below(bytes.len());
            }
            damaged.truncate(at);
            format!("{name} cut to {at} bytes")
        } else {
            let bit = random.below(8);
            damaged[at] ^= 1 << bit;
            format!("{name}, bit {bit} of byte {at}")
        };
        std::fs::write(path, damaged).unwrap();
        let found = verify();
        std::fs::write(path, bytes).unwrap();
        assert!(!found.damaged.is_empty(), "turn {turn}: {what}: not found");
        for damage in &found.damaged {
            assert!(name.starts_with(&damage.place), "turn {turn}: {what}: {damage:?}");
        }
    }
    assert_eq!(verify().damaged, []);
}

#[test]
fn verify_tells_damage_from_what_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    let verify = |more: &[&str]| {
        let mut args = vec!["emoflow", "cache", "verify", "--cache", root.to_str().unwrap()];
        args.extend(more);
        let mut out = Vec::new();
        let code = emoflow::run(args, &mut out);
        (code, String::from_utf8(out).unwrap())
    };
    assert_eq!(verify(&[]), (0, "0 entries, 0 files, 0 B: nothing is damaged\n".to_string()));
    assert!(!root.exists(), "looking makes nothing");

    small_cache(&root);
    std::fs::create_dir_all(root.join("tmp/pca-0123456789-1-x")).unwrap();
    let (code, out) = verify(&["--deep"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("note: tmp/pca-0123456789-1-x: being written, or left by"), "{out}");
    assert!(out.contains("6 entries, 15 files, "), "{out}");

    let damaged = files(&root.join("vectors")).into_iter().find(|path| path.ends_with("vectors.parquet"));
    let damaged = damaged.unwrap();
    std::fs::write(&damaged, "PAR1").unwrap();
    let before = files(&root);
    let (code, out) = verify(&[]);
    assert_eq!(code, 1);
    let place = damaged.strip_prefix(&root).unwrap().display();
    assert!(out.starts_with(&format!("damaged: {place}: 4 bytes, the manifest says ")), "{out}");
    assert!(out.contains(": 1 damaged; a run "), "{out}");
    let (code, out) = verify(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["damaged"][0]["place"]), (1, &serde_json::json!(place.to_string())));
    assert_eq!(files(&root), before, "verify moves nothing");
}
