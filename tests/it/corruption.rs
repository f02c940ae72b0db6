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
            ("vector", Column::List { width: 4, values, half: i < 3 }),
        ],
    )
}

/// A cache of three stages, two entries each, a finished batch, and a log of digests.
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
    let unit = format!("stories-{}", Digest::of(b"a unit that is not done"));
    let batches = root.join("partial").join(&unit);
    std::fs::create_dir_all(&batches).unwrap();
    // A batch ends with the SHA-256 of its place and what is before.
    let content = vec![7; 500];
    let seal = Digest::of(&[format!("{unit}/00000\n").as_bytes(), &content].concat());
    let seal = hex::decode(seal.to_string()).unwrap();
    std::fs::write(batches.join("00000.batch"), [content, seal].concat()).unwrap();
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
    assert_eq!(sound.len(), 6 + 8 + 2, "manifests, tables, a batch, the log");
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
    assert!(
        out.starts_with("note: tmp/pca-0123456789-1-x: being written, or from an interrupted run"),
        "{out}"
    );
    assert!(out.contains("6 entries, 16 files, "), "{out}");

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

/// Writes the manifest again with `change` made to its text, sealed as the store seals it.
fn reseal(manifest: &Path, change: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(manifest).unwrap();
    let (body, _) = text.rsplit_once("  \"sha256\": \"").unwrap();
    let body = change(body);
    let seal = Digest::of(body.as_bytes());
    std::fs::write(manifest, format!("{body}  \"sha256\": \"{seal}\"\n}}\n")).unwrap();
}

#[test]
fn deep_decodes_what_the_digests_vouch_for() {
    use arrow_array::{ArrayRef, Float64Array, RecordBatch};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let preimage = r#"{"stage":"pca","version":1}"#;
    let key = Digest::of(preimage.as_bytes());
    let Lookup::Miss(miss) = store.lookup("pca", &key).unwrap() else { panic!("a hit") };
    let sound = Table::new("pca/1", vec![("score", Column::F64(vec![0.5, 1.5]))]);
    let entry = miss.commit(preimage, &[("pca".to_string(), sound)], &[], Cost::default()).unwrap();

    // What no commit lets through: a NaN, in a file that the manifest vouches for.
    let scores: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![0.5, f64::NAN]));
    let batch = RecordBatch::try_from_iter([("score", scores)]).unwrap();
    let pair = |name: &str, value: String| KeyValue::new(name.to_string(), value);
    let pairs = vec![pair("emoflow.schema", "pca/1".to_string()), pair("emoflow.key", key.to_string())];
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let was = entry.manifest.files[0].clone();
    std::fs::write(entry.path("pca").unwrap(), &bytes).unwrap();
    let manifest = entry.dir().join("manifest.json");
    reseal(&manifest, |body| {
        let body = body.replace(&was.sha256.to_string(), &Digest::of(&bytes).to_string());
        body.replace(&format!("\"bytes\": {}", was.bytes), &format!("\"bytes\": {}", bytes.len()))
    });
    let verify = |deep| Store::open(dir.path()).unwrap().verify(deep).unwrap().damaged;
    assert_eq!(verify(false), []);
    let found = verify(true);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].what, "NaN in table `pca/1`, column `score`, row 1");

    // Rows that the manifest does not know are in the footer already.
    reseal(&manifest, |body| body.replace("\"rows\": 2", "\"rows\": 3"));
    assert_eq!(verify(false)[0].what, "2 rows, the manifest says 3");
}

#[test]
fn deep_hashes_again_what_is_remembered_of_weights() {
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("model.safetensors");
    std::fs::write(&weights, b"weights").unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let root = dir.path().join("cache");
    Store::open(&root).unwrap().digest_file(&weights).unwrap();
    let verify = |deep| Store::open(&root).unwrap().verify(deep).unwrap().damaged;
    assert_eq!(verify(true), []);
    // A disk that changes bytes on its own cannot be had in a test: the log is made to remember other bytes.
    let log = root.join("stat/digests.txt");
    let text = std::fs::read_to_string(&log).unwrap();
    let (line, _) = text.trim().rsplit_once(' ').unwrap();
    let line = line.replace(&Digest::of(b"weights").to_string(), &Digest::of(b"as they were").to_string());
    let check = &Digest::of(line.as_bytes()).to_string()[..16];
    std::fs::write(&log, format!("\n{line} {check}\n")).unwrap();
    assert_eq!(verify(false), []);
    let found = verify(true);
    assert_eq!(found.len(), 1);
    assert!(found[0].place.ends_with("model.safetensors"), "{found:?}");
    assert!(found[0].what.ends_with("although nothing wrote to it"), "{found:?}");
    // Written anew, it is another file, of which nothing is remembered.
    std::fs::write(&weights, b"other weights").unwrap();
    assert_eq!(verify(true), []);
}

pub const EXPERIMENT: &str = r#"
name = "exp"
layers = [3]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "joyful", "sad"]
[stories.passages.template]
set = "passages-10"
[neutral.template]
set = "neutral-40"
[activations]
from_token = 3
[vectors]
denoise = { components = 2 }
[analysis.space.pca]
components = 2
"#;

/// The program itself, for what it says on stderr.
fn program(project: &Project, only: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    command.args(["run", "exp.toml", "--device", "cpu", "--progress", "plain", "--only", only]);
    let ran = command.current_dir(project.path(".")).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(0), "{said}");
    said
}

#[test]
fn a_run_finds_damage_before_use_and_makes_the_same_bytes_again() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).code, 0);
    let results = std::fs::read(project.path("results/exp/tables/space.parquet")).unwrap();
    let mut random = Random(5);
    for (stage, only) in [
        ("stories", "stories/*"),
        ("activations", "activations/*"),
        ("vectors", "vectors/*"),
        ("pca", "space/*"),
    ] {
        for kind in ["parquet", "json"] {
            let mut sound = files(&project.path("cache").join(stage));
            sound.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
            let tables: Vec<Vec<u8>> = sound.iter().map(|path| std::fs::read(path).unwrap()).collect();
            let path = sound[0].with_file_name(match kind {
                "json" => "manifest.json".into(),
                _ => sound[0].file_name().unwrap().to_owned(),
            });
            let mut bytes = std::fs::read(&path).unwrap();
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            std::fs::write(&path, bytes).unwrap();

            let said = program(&project, only);
            let what = format!("{stage}, {kind}, byte {at}: {said}");
            let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("warning: ")).collect();
            assert_eq!(lines.len(), 1, "{what}");
            assert!(lines[0].starts_with(&format!("warning: {stage}/")), "{what}");
            assert!(lines[0].contains("was damaged and will be computed again"), "{what}");
            let again: Vec<Vec<u8>> = sound.iter().map(|path| std::fs::read(path).unwrap()).collect();
            assert!(again == tables, "{what}: other bytes");
        }
    }
    assert_eq!(std::fs::read_dir(project.path("cache/quarantine")).unwrap().count(), 8);
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
    assert!(std::fs::read(project.path("results/exp/tables/space.parquet")).unwrap() == results);
}
