//! Several runs on one cache, the real program: each unit is made once, and who is gone or was stopped harms nobody.

use std::path::PathBuf;
use std::time::Duration;

use emoflow::plan::key::Digest;
use emoflow::store::{Leased, Store};

use crate::interrupt::{EXPERIMENT, Running, batches, results, uninterrupted};
use crate::project::Project;

/// A second project whose experiment and cache are those of `first`.
fn beside(first: &Project) -> (Project, String) {
    (Project::new(EXPERIMENT), first.path("cache").to_str().unwrap().to_string())
}

/// How many units a run made, by its `run.json`.
pub fn made(project: &Project) -> usize {
    let text = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let nodes = run["nodes"].as_array().unwrap().iter().filter(|node| node["name"] != "report");
    nodes.map(|node| node["made"].as_u64().unwrap() as usize).sum()
}

pub fn entries(project: &Project) -> usize {
    let list = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().map(|e| e.unwrap().path());
    let stages = list(project.path("cache")).filter(|s| {
        !["tmp", "stat", "leases", "partial"].contains(&s.file_name().unwrap().to_str().unwrap())
    });
    stages.flat_map(list).flat_map(list).count()
}

pub fn leases(project: &Project) -> usize {
    std::fs::read_dir(project.path("cache/leases")).into_iter().flatten().count()
}

#[test]
fn two_runs_at_once_make_each_unit_once() {
    let first = Project::new(EXPERIMENT);
    let (second, cache) = beside(&first);
    let cache = [("EMOFLOW_CACHE", cache.as_str())];
    let (a, b) = (Running::start(&first, &cache), Running::start(&second, &cache));
    let (a, b) = (a.ended(), b.ended());
    assert_eq!((a.0, b.0), (Some(0), Some(0)), "{}\n{}", a.2, b.2);
    let (mine, others) = (made(&first), made(&second));
    assert_eq!(mine + others, entries(&first), "{}\n{}", a.2, b.2);
    assert!(results(&first) == results(&second) && results(&first) == uninterrupted(), "the bytes differ");
    assert_eq!(leases(&first), 0);
    assert_eq!(std::fs::read_dir(first.path("cache/tmp")).unwrap().count(), 0);
}

#[test]
fn two_runs_at_once_of_one_project_write_its_results_once() {
    let project = Project::new(EXPERIMENT);
    let runs = [0; 3].map(|_| Running::start(&project, &[]));
    let ended = runs.map(Running::ended);
    let written = ended.iter().filter(|(code, _, said)| {
        assert_eq!(*code, Some(0), "{said}");
        said.contains("report: done")
    });
    assert_eq!(written.count(), 1, "{ended:?}");
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}

#[test]
fn a_run_that_was_killed_blocks_nobody() {
    let project = Project::new(EXPERIMENT);
    let mut running = Running::start(&project, &[]);
    running.until("a batch", || !batches(&project, "stories").is_empty());
    running.signal(libc::SIGKILL);
    running.ended();
    assert!(leases(&project) > 0);
    // The life of its lease has no end within this test.
    let (code, _, said) = Running::start(&project, &[("EMOFLOW_LEASE_SECONDS", "100000")]).ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("waiting"), "{said}");
    assert_eq!(leases(&project), 0);
}

#[test]
fn a_stopped_run_loses_its_lease_and_corrupts_nothing() {
    let first = Project::new(EXPERIMENT);
    let (second, cache) = beside(&first);
    let environment = [("EMOFLOW_CACHE", cache.as_str()), ("EMOFLOW_LEASE_SECONDS", "0.5")];
    let mut stopped = Running::start(&first, &environment);
    stopped.until("a batch", || !batches(&first, "activations").is_empty());
    stopped.signal(libc::SIGSTOP);
    let planned = first.emoflow("plan", &["--device", "cpu", "--json", "--cache", &cache]);
    let planned: serde_json::Value = serde_json::from_str(&planned.out).unwrap();
    let node = |name: &str| planned.as_array().unwrap().iter().find(|node| node["name"] == name).unwrap();
    let activations = node("activations/demo/own");
    let maker = activations["leased_by"][0].as_str().unwrap_or_default();
    assert!(maker.starts_with("process ") && activations["batches"].as_u64() >= Some(1), "{activations}");
    assert_eq!(node("space/demo/own")["leased_by"].as_array().unwrap().len(), 0);
    let (code, _, said) = Running::start(&second, &environment).ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the remaining units are deferred: another run is computing them"), "{said}");
    stopped.signal(libc::SIGCONT);
    let (code, _, said) = stopped.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("warning"), "{said}");
    assert!(results(&first) == results(&second) && results(&first) == uninterrupted(), "the bytes differ");
    assert_eq!(leases(&first), 0);
    assert_eq!(first.run(&[]).names("ran"), Vec::<&str>::new());
}

/// Changes one text of the one lease in the cache of `root`.
fn forge(root: &tempfile::TempDir, from: &str, to: &str) {
    let lease = std::fs::read_dir(root.path().join("leases")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&lease).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(lease, text.replace(from, to)).unwrap();
}

#[test]
fn leases_of_other_machines_end_when_they_are_not_renewed() {
    let life = Duration::from_millis(200);
    let open = |root: &tempfile::TempDir| Store::open(root.path()).unwrap().lease_life(life);
    let key = Digest::of(b"x");
    let root = tempfile::tempdir().unwrap();
    let (owner, observer) = (open(&root), open(&root));
    let is_mine = |store: &Store| matches!(store.lease("pca", &key).unwrap(), Leased::Mine(_));

    let Leased::Mine(lease) = owner.lease("pca", &key).unwrap() else { panic!("it is nobody's") };
    forge(&root, "\"host\":\"", "\"host\":\"far-");
    // It is renewed, so it holds however often it is looked at.
    let begun = std::time::Instant::now();
    while begun.elapsed() < 5 * life {
        let Leased::Other(Some(other)) = observer.lease("pca", &key).unwrap() else { panic!("taken") };
        assert!(other.to_string().contains(" on far-"), "{other}");
        std::thread::sleep(life / 10);
    }
    assert!(observer.leased("pca", &key).is_some());
    // It is not renewed any more: it holds for twice its life from when that is first seen.
    drop(lease); // leaves alone what it did not write
    let mut begun = std::time::Instant::now();
    let late = open(&root);
    std::thread::sleep(2 * life);
    while !is_mine(&observer) {
        std::thread::sleep(life / 10);
        assert!(begun.elapsed() < Duration::from_secs(60), "it never ends");
    }
    assert!(begun.elapsed() >= 2 * life);

    // Who was not there to see it waits as long, whatever the file's age.
    let Leased::Mine(lease) = observer.lease("pca", &key).unwrap() else { panic!("it was given back") };
    forge(&root, "\"host\":\"", "\"host\":\"far-");
    drop(lease);
    std::thread::sleep(3 * life);
    begun = std::time::Instant::now();
    assert!(!is_mine(&late));
    while !is_mine(&late) {
        std::thread::sleep(life / 10);
    }
    assert!(begun.elapsed() >= 2 * life);

    // A lease that says nothing, as of a program that was cut off while it wrote.
    std::fs::write(root.path().join(format!("leases/pca-{key}")), "").unwrap();
    assert!(matches!(late.lease("pca", &key).unwrap(), Leased::Other(None)));
    assert!(late.leased("pca", &key).is_none());
    std::thread::sleep(3 * life);
    assert!(is_mine(&late));
    assert_eq!(std::fs::read_dir(root.path().join("leases")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
}
