//! Tests of `commit.rs`: what remains when it is interrupted at each step.

use super::*;
use crate::store::table::Column;
use std::os::unix::fs::PermissionsExt as _;

const PREIMAGE: &str = r#"{"stage":"pca","version":1}"#;

fn key() -> Key {
    Digest::of(PREIMAGE.as_bytes())
}

fn tables() -> Vec<(String, Table)> {
    let table = |schema: &str| Table::new(schema, vec![("x", Column::F64(vec![0.5, -1.0, 2.0]))]);
    vec![("pca".to_string(), table("pca/1")), ("pca_variance".to_string(), table("pca_variance/1"))]
}

fn miss(store: &Store) -> Miss<'_> {
    match store.lookup("pca", &key()).unwrap() {
        Lookup::Miss(miss) => miss,
        Lookup::Hit(_) => panic!("a hit"),
    }
}

fn write(miss: &Miss<'_>, dir: &TempDir) -> Manifest {
    miss.write(dir.path(), PREIMAGE, &tables(), &[], Cost { seconds: 2.0 }).unwrap()
}

/// Runs the first steps of a commit, leaves what a crash would leave, and returns the root.
fn crashed(steps: impl FnOnce(&Miss<'_>, TempDir)) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let miss = miss(&store);
    let dir = miss.temporary_folder().unwrap();
    steps(&miss, dir);
    root
}

/// The key is still missing, nothing is reported, and computing it works despite the leftovers.
fn makes_it_anew(root: &TempDir) {
    let store = Store::open(root.path()).unwrap();
    assert!(!store.contains("pca", &key()));
    let miss = miss(&store);
    assert_eq!(miss.reason(), "new");
    let entry = miss.commit(PREIMAGE, &tables(), &[], Cost::default()).unwrap();
    assert_eq!(entry.read("pca").unwrap(), tables()[0].1);
    assert!(Store::open(root.path()).unwrap().contains("pca", &key()));
    assert_eq!(store.take_warnings(), Vec::<String>::new());
}

#[test]
fn a_crash_before_the_first_table() {
    makes_it_anew(&crashed(|_, dir| {
        let _ = dir.keep();
    }));
}

#[test]
fn a_crash_in_the_middle_of_a_table() {
    makes_it_anew(&crashed(|miss, dir| {
        miss.write_table(dir.path(), "pca", &tables()[0].1, &[]).unwrap();
        let file = fs::File::options().write(true).open(dir.path().join("pca.parquet")).unwrap();
        file.set_len(100).unwrap();
        let _ = dir.keep();
    }));
}

#[test]
fn a_crash_before_the_manifest() {
    makes_it_anew(&crashed(|miss, dir| {
        for (name, table) in tables() {
            miss.write_table(dir.path(), &name, &table, &[]).unwrap();
        }
        let _ = dir.keep();
    }));
}

#[test]
fn a_crash_in_the_middle_of_the_manifest() {
    makes_it_anew(&crashed(|miss, dir| {
        write(miss, &dir);
        let file = fs::File::options().write(true).open(dir.path().join(MANIFEST)).unwrap();
        file.set_len(100).unwrap();
        let _ = dir.keep();
    }));
}

#[test]
fn a_crash_before_the_rename() {
    makes_it_anew(&crashed(|miss, dir| {
        write(miss, &dir);
        make_parent(&miss.store.root, &miss.store.entry_dir("pca", &key()).unwrap()).unwrap();
        let _ = dir.keep();
    }));
}

#[test]
fn a_crash_after_the_rename_loses_nothing() {
    let root = crashed(|miss, dir| {
        let manifest = write(miss, &dir);
        miss.place(dir, manifest).unwrap();
    });
    let store = Store::open(root.path()).unwrap();
    let Lookup::Hit(entry) = store.lookup("pca", &key()).unwrap() else { panic!("a miss") };
    assert_eq!(entry.manifest.preimage, PREIMAGE);
    assert_eq!(entry.manifest.cost, Cost { seconds: 2.0 });
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_failed_commit_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mut bad = tables();
    bad[1].1 = Table::new("pca_variance/1", vec![("x", Column::F64(vec![0.0, f64::NAN]))]);
    let error = miss(&store).commit(PREIMAGE, &bad, &[], Cost::default()).err().unwrap();
    assert_eq!(
        format!("{error:#}"),
        format!(
            "store pca/{} in {}: table `pca_variance`: NaN in table `pca_variance/1`, column `x`, row 1",
            key().short(),
            root.path().display()
        )
    );
    assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    assert!(!root.path().join("pca").exists());
}

#[test]
fn entries_have_the_permissions_of_other_folders() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let entry = miss(&store).commit(PREIMAGE, &tables(), &[], Cost::default()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(entry.dir()), mode(entry.dir().parent().unwrap()));
}

#[test]
fn a_damaged_winner_is_set_aside_and_replaced() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let late = miss(&store);
    let entry = miss(&store).commit(PREIMAGE, &tables(), &[], Cost::default()).unwrap();
    fs::write(entry.path("pca").unwrap(), b"short").unwrap();
    let entry = late.commit(PREIMAGE, &tables(), &[], Cost::default()).unwrap();
    assert_eq!(entry.read("pca").unwrap(), tables()[0].1);
    let warnings = store.take_warnings();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("was damaged and will be computed again: pca.parquet has 5 bytes"),
        "{warnings:?}"
    );
}
