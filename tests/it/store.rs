//! The store as others use it: entries that come back, damage that is found, several writers, clear errors.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use emoflow::plan::key::{Digest, Key};
use emoflow::store::table::{Column, Table};
use emoflow::store::{Cost, Entry, Lookup, Store};
use fs_err as fs;
use tempfile::TempDir;

fn preimage(i: u64) -> (String, Key) {
    let text = format!(r#"{{"stage":"vectors","version":1,"params":{{"i":{i}}}}}"#);
    let key = Digest::of(text.as_bytes());
    (text, key)
}

fn table(values: Vec<f32>) -> Table {
    let rows = values.len() / 4;
    Table::new(
        "vectors/1",
        vec![
            ("emotion", Column::Str((0..rows).map(|i| format!("emotion {i}")).collect())),
            ("vector", Column::List { width: 4, values, half: false }),
        ],
    )
}

fn commit(store: &Store, i: u64, values: Vec<f32>) -> Entry {
    let (text, key) = preimage(i);
    let Lookup::Miss(miss) = store.lookup("vectors", &key).unwrap() else { panic!("a hit") };
    let metadata = [("emoflow.model".to_string(), "demo".to_string())];
    let tables = [("vectors".to_string(), table(values)), ("neutral".to_string(), table(vec![1.0; 8]))];
    miss.commit(&text, &tables, &metadata, Cost { seconds: 0.25 }).unwrap()
}

fn reason(store: &Store, i: u64) -> String {
    match store.lookup("vectors", &preimage(i).1).unwrap() {
        Lookup::Miss(miss) => miss.reason().to_string(),
        Lookup::Hit(_) => "hit".to_string(),
    }
}

fn store() -> (TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path().join("cache")).unwrap();
    (root, store)
}

#[test]
fn an_entry_comes_back_in_another_process() {
    let (root, first) = store();
    let first = first.record_version("libtorch", "2.11.0");
    assert!(!root.path().join("cache").exists(), "looking makes nothing");
    assert!(!first.contains("vectors", &preimage(0).1));
    assert_eq!(reason(&first, 0), "new");
    assert!(!root.path().join("cache").exists(), "a miss makes nothing");
    commit(&first, 0, vec![0.5; 12]);

    let second = Store::open(root.path().join("cache")).unwrap();
    assert!(second.contains("vectors", &preimage(0).1));
    assert!(!second.contains("stories", &preimage(0).1));
    let Lookup::Hit(entry) = second.lookup("vectors", &preimage(0).1).unwrap() else { panic!("a miss") };
    assert_eq!(entry.read("vectors").unwrap(), table(vec![0.5; 12]));
    assert_eq!(entry.read("neutral").unwrap(), table(vec![1.0; 8]));
    let manifest = &entry.manifest;
    assert_eq!(manifest.preimage, preimage(0).0);
    assert_eq!(manifest.cost, Cost { seconds: 0.25 });
    assert_eq!(manifest.versions["libtorch"], "2.11.0");
    assert_eq!(manifest.files[0].rows, 3);
    let error = entry.read("cosine").unwrap_err().to_string();
    assert_eq!(error, format!("vectors/{} has no table `cosine`", preimage(0).1.short()));
    let metadata = emoflow::store::parquet::metadata(
        fs::File::open(entry.path("vectors").unwrap()).unwrap().into_file(),
    );
    let metadata = metadata.unwrap();
    assert_eq!(metadata["emoflow.key"], preimage(0).1.to_string());
    assert_eq!(metadata["emoflow.schema"], "vectors/1");
    assert_eq!(metadata["emoflow.model"], "demo");
}

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

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Flips a bit of the file, or cuts it short.
fn damage(path: &Path, random: &mut Random) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len());
    let what = if random.below(4) == 0 {
        bytes.truncate(at);
        format!("{} cut to {at} bytes", path.display())
    } else {
        let bit = random.below(8);
        bytes[at] ^= 1 << bit;
        format!("{} bit {bit} of byte {at}", path.display())
    };
    fs::write(path, bytes).unwrap();
    what
}

#[test]
fn five_hundred_damages_are_all_found_before_use() {
    let (root, store) = store();
    let entry = commit(&store, 0, (0..4000).map(|i| i as f32).collect());
    let sound: Vec<_> =
        files(entry.dir()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert_eq!(sound.len(), 3);
    let mut random = Random(2);
    for _ in 0..500 {
        let what = damage(&sound[random.below(3)].0, &mut random);
        // The log of digests is as before: nothing in it, because the files are young.
        let store = Store::open(root.path().join("cache")).unwrap();
        assert!(reason(&store, 0).starts_with("damaged: "), "{what}: not found");
        assert!(!entry.dir().exists(), "{what}: not set aside");
        assert_eq!(store.take_warnings().len(), 1, "{what}");
        fs::create_dir(entry.dir()).unwrap();
        for (path, bytes) in &sound {
            fs::write(path, bytes).unwrap();
        }
    }
    assert_eq!(fs::read_dir(root.path().join("cache/quarantine")).unwrap().count(), 500);
    assert_eq!(reason(&Store::open(root.path().join("cache")).unwrap(), 0), "hit");
}

#[test]
fn damage_is_found_although_the_digests_are_remembered() {
    let (root, first) = store();
    let cache = root.path().join("cache");
    for i in 0..20 {
        commit(&first, i, (0..400).map(|i| i as f32).collect());
    }
    std::thread::sleep(Duration::from_millis(2100));
    let second = Store::open(&cache).unwrap();
    assert!((0..20).all(|i| reason(&second, i) == "hit"));
    assert_eq!(
        fs::read_to_string(cache.join("stat/digests.txt")).unwrap().split_whitespace().count(),
        40 * 8
    );

    let mut random = Random(3);
    for i in 0..20 {
        let (_, key) = preimage(i);
        let third = Store::open(&cache).unwrap();
        let Lookup::Hit(entry) = third.lookup("vectors", &key).unwrap() else { panic!("a miss") };
        let what = damage(&entry.path("vectors").unwrap(), &mut random);
        // By the one who looked it up before, and by those who come later.
        let error = format!("{:#}", entry.read("vectors").unwrap_err());
        assert!(error.contains("its SHA-256 is"), "{what}: {error}");
        assert!(reason(&Store::open(&cache).unwrap(), i).starts_with("damaged: "), "{what}");
    }
}

#[test]
fn missing_files_are_damage_too() {
    let (root, first) = store();
    let remove = |i: u64, name: &str| {
        let entry = commit(&first, i, vec![0.0; 4]);
        fs::remove_file(entry.dir().join(name)).unwrap();
        let store = Store::open(root.path().join("cache")).unwrap();
        assert!(!store.contains("vectors", &preimage(i).1));
        let reason = reason(&store, i);
        commit(&store, i, vec![0.0; 4]);
        reason
    };
    assert_eq!(remove(0, "manifest.json"), "damaged: no manifest.json");
    assert_eq!(remove(1, "neutral.parquet"), "damaged: no neutral.parquet");
}

#[test]
fn writers_of_one_key_end_with_one_entry() {
    let (root, _) = store();
    let cache = root.path().join("cache");
    let barrier = std::sync::Barrier::new(8);
    let (text, key) = preimage(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = Store::open(&cache).unwrap();
                let Lookup::Miss(miss) = store.lookup("vectors", &key).unwrap() else { panic!("a hit") };
                barrier.wait();
                let tables = [("vectors".to_string(), table(vec![0.5; 400]))];
                let entry = miss.commit(&text, &tables, &[], Cost::default()).unwrap();
                assert_eq!(entry.read("vectors").unwrap(), table(vec![0.5; 400]));
                assert_eq!(store.take_warnings(), Vec::<String>::new());
            });
        }
    });
    assert_eq!(reason(&Store::open(&cache).unwrap(), 0), "hit");
    assert_eq!(fs::read_dir(cache.join("tmp")).unwrap().count(), 0);
    assert!(!cache.join("quarantine").exists());
}

#[test]
fn different_data_for_one_key_is_reported_and_the_first_kept() {
    let (root, first) = store();
    let second = Store::open(root.path().join("cache")).unwrap();
    let (text, key) = preimage(0);
    let Lookup::Miss(late) = second.lookup("vectors", &key).unwrap() else { panic!("a hit") };
    commit(&first, 0, vec![0.5; 4]);
    let tables = [("vectors".to_string(), table(vec![0.25; 4]))];
    let entry = late.commit(&text, &tables, &[], Cost::default()).unwrap();
    assert_eq!(entry.read("vectors").unwrap(), table(vec![0.5; 4]));
    let warnings = second.take_warnings();
    assert_eq!(warnings.len(), 1);
    let expected = format!(
        "vectors/{} was computed twice with different results (table `vectors`: sha256 ",
        key.short()
    );
    assert!(warnings[0].starts_with(&expected), "{}", warnings[0]);
}

#[test]
fn a_preimage_that_is_not_the_keys_is_refused() {
    let (_root, store) = store();
    let Lookup::Miss(miss) = store.lookup("vectors", &preimage(0).1).unwrap() else { panic!("a hit") };
    let error = miss.commit(&preimage(1).0, &[], &[], Cost::default()).err().unwrap();
    assert!(format!("{error:#}").contains("the pre-image has the digest"), "{error:#}");
}

#[test]
fn a_cache_that_is_a_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("cache");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file).err().unwrap().to_string();
    assert_eq!(error, format!("the cache `{}` is not a folder", file.display()));
    let error = Store::open(file.join("below")).err().unwrap();
    assert!(format!("{error:#}").contains(&format!("{}/below", file.display())), "{error:#}");
}

#[test]
fn folders_that_cannot_be_made_are_named() {
    let blocked = |name: &str| {
        let (root, store) = store();
        let cache = root.path().join("cache");
        let (text, key) = preimage(0);
        let Lookup::Miss(miss) = store.lookup("vectors", &key).unwrap() else { panic!("a hit") };
        fs::create_dir(&cache).unwrap();
        fs::write(cache.join(name), "").unwrap();
        let error = miss.commit(&text, &[], &[], Cost::default()).err().unwrap();
        let error = format!("{error:#}");
        let start = format!("store vectors/{} in {}: ", key.short(), cache.display());
        assert!(error.starts_with(&start), "{error}");
        assert!(error[start.len()..].contains(&format!("{}/{name}", cache.display())), "{error}");
    };
    blocked("tmp");
    blocked("vectors");
}

#[test]
fn stages_are_names() {
    let (_root, store) = store();
    let error = |stage: &str| store.lookup(stage, &preimage(0).1).err().unwrap().to_string();
    assert_eq!(error("../x"), "`../x` is no name of a stage or table");
    assert_eq!(error("tmp"), "no stage can be called `tmp`");
}

#[test]
fn files_are_digested_by_content() {
    let (root, store) = store();
    let file = root.path().join("stories.csv");
    fs::write(&file, "abc").unwrap();
    assert_eq!(store.digest_file(&file).unwrap(), Digest::of(b"abc"));
    fs::write(&file, "abd").unwrap();
    assert_eq!(store.digest_file(&file).unwrap(), Digest::of(b"abd"));
    let error = store.digest_file(&root.path().join("absent")).unwrap_err();
    assert!(format!("{error:#}").contains("absent"), "{error:#}");
}

#[test]
fn looking_up_takes_no_time() {
    let (root, first) = store();
    for i in 0..20 {
        commit(&first, i, vec![0.0; 400_000]);
    }
    let start = Instant::now();
    for i in 0..2000 {
        assert_eq!(reason(&first, i % 20), "hit");
    }
    let each = start.elapsed() / 2000;
    println!("{each:?} each");
    // About 35 µs in an unoptimised build; reading 1.6 MB and hashing it would take longer than the bound.
    assert!(each < Duration::from_micros(500), "{each:?} each");
    drop(root);
}
