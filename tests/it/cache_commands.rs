//! `cache ls` and `cache gc`, and runs whose cache goes away under them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use emoflow::progress::Progress;
use serde_json::Value;

use crate::corruption::{EXPERIMENT, files};
use crate::project::Project;

/// `emoflow cache <args>` on the project's cache and results: exit code and what it prints.
fn cache(project: &Project, args: &[&str]) -> (u8, String) {
    let folder = |name: &str| project.path(name).to_str().unwrap().to_string();
    let mut all: Vec<String> = ["emoflow", "cache"].iter().chain(args).map(|arg| arg.to_string()).collect();
    all.extend(["--cache".into(), folder("cache")]);
    if args[0] != "verify" {
        all.extend(["--results".into(), folder("results")]);
    }
    let mut out = Vec::new();
    let code = emoflow::run(all, &mut out);
    (code, String::from_utf8(out).unwrap())
}

fn json(project: &Project, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let (code, out) = cache(project, &args);
    assert_eq!(code, 0, "{out}");
    serde_json::from_str(&out).unwrap()
}

/// Makes everything at or below `path` two hours old.
fn age(path: &Path) {
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| age(&entry.unwrap().path()));
    }
    let then = SystemTime::now() - Duration::from_secs(2 * 3600);
    std::fs::File::open(path).unwrap().set_modified(then).unwrap();
}

/// The entries that are there: `<stage>/<key>`.
fn entries(project: &Project) -> BTreeSet<String> {
    let root = project.path("cache");
    let manifests = files(&root).into_iter().filter(|path| path.ends_with("manifest.json"));
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
    let entry = |path: PathBuf| {
        let dir = path.parent().unwrap();
        format!("{}/{}", name(dir.parent().unwrap().parent().unwrap()), name(dir))
    };
    manifests.filter(|path| !path.starts_with(root.join("quarantine"))).map(entry).collect()
}

fn of_stage(entries: &BTreeSet<String>, stage: &str) -> usize {
    entries.iter().filter(|entry| entry.starts_with(&format!("{stage}/"))).count()
}

#[test]
fn ls_says_what_is_there_and_whose_it_is() {
    let project = Project::new(EXPERIMENT);
    let (code, out) = cache(&project, &["ls"]);
    assert_eq!((code, out.as_str()), (0, "total: 0 entries, 0 B, 0.0 s to compute\n"));
    project.run(&[]);
    project.run(&["--set", "name=other", "--set", "analysis.space.pca.components=1"]);
    let before = files(&project.path("."));
    let listing = json(&project, &["ls"]);
    let listed = listing["entries"].as_array().unwrap();
    let names: BTreeSet<String> = listed
        .iter()
        .map(|e| format!("{}/{}", e["stage"].as_str().unwrap(), e["key"].as_str().unwrap()))
        .collect();
    assert_eq!(names, entries(&project));
    assert_eq!(of_stage(&names, "pca"), 2);
    let of = |stage: &'static str| listed.iter().filter(move |e| e["stage"] == stage);
    assert!(of("vectors").all(|e| e["used_by"] == serde_json::json!(["exp", "other"])), "{listing}");
    let users: Vec<_> = of("pca").map(|e| e["used_by"][0].as_str().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(users), BTreeSet::from(["exp", "other"]));
    // Ten passages and three emotions.
    let stories: Vec<_> =
        of("stories").map(|e| (e["rows"].as_u64().unwrap(), e["what"].as_str().unwrap())).collect();
    assert!(stories.contains(&(30, "template, 30 stories")), "{stories:?}");
    assert!(of("activations").all(|e| e["what"].as_str().unwrap().contains(", layer 3, from 1 stories")));
    assert_eq!(listing["total"]["entries"], names.len());
    assert_eq!(listing["stages"]["pca"]["entries"], 2);
    let tables =
        files(&project.path("cache")).into_iter().filter(|path| path.extension().unwrap() == "parquet");
    let bytes: u64 = tables.map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(listing["total"]["bytes"], bytes);

    let (code, out) = cache(&project, &["ls", "--stage", "pca"]);
    assert_eq!((code, out.lines().count()), (0, 1 + 2 + 2), "{out}");
    assert_eq!(cache(&project, &["ls", "--stage", "pac"]).0, 4);
    assert_eq!(files(&project.path(".")), before, "ls writes nothing");
}

#[test]
fn gc_removes_what_no_run_needs_and_only_if_told() {
    let project = Project::new(EXPERIMENT);
    project.run(&["--set", "vectors.denoise={ components = 1 }"]);
    let old = entries(&project);
    project.run(&[]);
    // A run that was killed while it wrote its plan down.
    std::fs::write(project.path("results/exp/runs/.unfinished-x"), "{").unwrap();
    let both = entries(&project);
    let new: BTreeSet<String> = both.difference(&old).cloned().collect();
    assert!(of_stage(&new, "vectors") == 1 && of_stage(&new, "neutral") == 1 && of_stage(&new, "pca") == 1);

    // Young things may be a live run's.
    assert_eq!(json(&project, &["gc", "--keep-runs", "1"])["doomed"], serde_json::json!([]));
    age(&project.path("cache"));
    // Both plans count.
    assert_eq!(json(&project, &["gc"])["doomed"], serde_json::json!([]));
    let (code, out) = cache(&project, &["gc", "--keep-runs", "1"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("neutral: 1 entries, ") && out.contains("pca: 1 entries, "), "{out}");
    assert!(out.trim_end().ends_with("are kept; --yes removes"), "{out}");
    assert_eq!(entries(&project), both, "nothing goes without --yes");

    // A lease keeps what no record asks for.
    let lease = both.difference(&new).find(|e| e.starts_with("pca/") && old.contains(*e)).unwrap();
    let lease = project.path("cache/leases").join(lease.replace('/', "-"));
    std::fs::create_dir_all(lease.parent().unwrap()).unwrap();
    std::fs::write(&lease, serde_json::to_vec(&emoflow::store::Process::this()).unwrap()).unwrap();
    let found = json(&project, &["gc", "--keep-runs", "1"]);
    assert_eq!(found["doomed"].as_array().unwrap().len(), 2, "{found}");
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let mut process = serde_json::to_value(emoflow::store::Process::this()).unwrap();
    process["pid"] = child.id().into();
    child.wait().unwrap();
    std::fs::write(&lease, process.to_string()).unwrap();
    assert_eq!(
        json(&project, &["gc", "--keep-runs", "1"])["doomed"].as_array().unwrap().len(),
        3,
        "it is dead"
    );
    std::fs::remove_file(&lease).unwrap();

    let found = json(&project, &["gc", "--keep-runs", "1", "--yes"]);
    let doomed = found["doomed"].as_array().unwrap();
    assert!(
        doomed.iter().all(|d| d["why"] == "unused" && d["cost"]["seconds"].as_f64().unwrap() > 0.0),
        "{found}"
    );
    let gone: BTreeSet<String> = both.difference(&entries(&project)).cloned().collect();
    assert_eq!(gone.len(), 3);
    assert_eq!(doomed.len(), 3);
    assert!(gone.is_disjoint(&new));
    assert_eq!(std::fs::read_dir(project.path("cache/tmp")).unwrap().count(), 0);
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
    assert_eq!(cache(&project, &["verify"]).0, 0);
}

#[test]
fn max_size_takes_what_is_not_needed_activations_first() {
    let project = Project::new(EXPERIMENT);
    project.run(&["--set", "vectors.denoise={ components = 1 }"]);
    project.run(&[]);
    age(&project.path("cache"));
    let all = entries(&project);
    let total = json(&project, &["gc"])["kept_bytes"].as_u64().unwrap();
    let found = json(&project, &["gc", "--max-size", &(total - 1).to_string(), "--yes"]);
    assert_eq!(found["doomed"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["doomed"][0]["why"], "for_room");
    assert_eq!(of_stage(&all, "activations") - of_stage(&entries(&project), "activations"), 1);
    // What the last run needs stays, however small the cache is to be.
    let (_, out) = cache(&project, &["gc", "--max-size", "0", "--yes"]);
    assert!(out.contains("more is kept than requested"), "{out}");
    let left = entries(&project);
    assert_eq!(
        (of_stage(&left, "activations"), of_stage(&left, "vectors"), of_stage(&left, "stories")),
        (0, 1, 2)
    );
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());

    // As soon as something has to be made of them, they are needed.
    std::fs::remove_dir_all(project.path("cache/vectors")).unwrap();
    project.run(&["--only", "activations/*"]);
    age(&project.path("cache"));
    assert_eq!(json(&project, &["gc", "--max-size", "0"])["doomed"], serde_json::json!([]));
}

#[test]
fn gc_sweeps_what_crashes_leave() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let sound = entries(&project);
    let key_of = |entry: &str| entry.replacen('/', "-", 1);
    let unit = sound.iter().find(|entry| entry.starts_with("activations/")).unwrap();
    let made = project.path("cache/partial").join(key_of(unit));
    let unknown = project.path("cache/partial").join(format!("stories-{}", "ab".repeat(32)));
    let left = project.path("cache/tmp/pca-0123456789-1-x");
    let aside = project.path("cache/quarantine").join(format!("{}-1", key_of(unit)));
    for folder in [&made, &unknown, &left, &aside] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("00000.batch"), "x").unwrap();
    }
    let log = project.path("cache/stat/digests.txt");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "torn\n").unwrap();
    let whys = |found: &Value| -> Vec<String> {
        found["doomed"].as_array().unwrap().iter().map(|d| d["why"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(whys(&json(&project, &["gc"])), ["quarantine"], "the others are young");
    age(&project.path("cache"));
    assert_eq!(cache(&project, &["verify"]).0, 1, "the torn line and the batches");
    assert_eq!(whys(&json(&project, &["gc", "--yes"])), ["left_over", "partial", "partial", "quarantine"]);
    assert!(![made, unknown, left, aside].iter().any(|folder| folder.exists()));
    assert_eq!(entries(&project), sound);
    assert_eq!(cache(&project, &["verify"]).0, 0);

    // The log is looked after where nothing else is to be done.
    std::fs::write(&log, "torn\n").unwrap();
    assert_eq!(cache(&project, &["verify"]).0, 1);
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 0);
    assert_eq!(cache(&project, &["verify"]).0, 0);

    // Batches of a unit that is still to be made stay.
    let dir = files(&project.path("cache/activations"))[0].parent().unwrap().to_path_buf();
    let unit = format!("activations-{}", dir.file_name().unwrap().to_str().unwrap());
    std::fs::remove_dir_all(dir).unwrap();
    let batches = project.path("cache/partial").join(unit);
    std::fs::create_dir_all(&batches).unwrap();
    age(&project.path("cache"));
    assert_eq!(whys(&json(&project, &["gc"])), Vec::<String>::new());
}

#[test]
fn gc_refuses_where_it_knows_of_no_run() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 0, "nothing is there, nothing goes");
    project.run(&[]);
    age(&project.path("cache"));
    let record = project.path("results/exp/run.json");
    let text = std::fs::read(&record).unwrap();
    std::fs::write(&record, "{").unwrap();
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 1);
    std::fs::remove_file(&record).unwrap();
    let before = entries(&project);
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 2);
    assert_eq!(entries(&project), before);
    std::fs::write(&record, text).unwrap();
    assert_eq!(cache(&project, &["gc", "--keep-runs", "0"]).0, 2);
    assert_eq!(cache(&project, &["gc", "--max-size", "much"]).0, 2);
}

/// Removes the cache when a node begins, and keeps what is said.
struct Remover {
    node: &'static str,
    cache: PathBuf,
    said: Mutex<Vec<String>>,
}

impl Progress for Remover {
    fn begin(&self, node: &str, _: usize, _: &str) {
        if node == self.node {
            std::fs::remove_dir_all(&self.cache).unwrap();
        }
    }
    fn at(&self, _: f64) {}
    fn end(&self, _: &str) {}
    fn note(&self, line: &str) {
        self.said.lock().unwrap().push(line.to_string());
    }
}

#[test]
fn a_cache_that_goes_during_a_run_costs_only_time() {
    use emoflow::execute::{self, Options};
    use emoflow::explain::Past;
    use emoflow::record::State;
    use emoflow::{config::Experiment, lm::device, plan, resolve, store::Store};

    let sound = Project::new(EXPERIMENT);
    assert_eq!(sound.run(&[]).code, 0);
    for node in ["activations/demo/neutral", "vectors/demo/passages"] {
        let project = Project::new(EXPERIMENT);
        let progress = Remover { node, cache: project.path("cache"), said: Mutex::default() };
        let store = Store::open(project.path("cache")).unwrap();
        let experiment = Experiment::read(&project.path("exp.toml")).unwrap();
        let device = device::choose("cpu").unwrap();
        let resolved = resolve::resolve(experiment, &store, device, true, &progress).unwrap();
        let plan = plan::build(&resolved);
        let (everything, past) = (plan.select(&[]).unwrap(), Past::default());
        let options = Options::default();
        let outcome = execute::run(&resolved, &plan, &store, &past, &everything, options, &progress);
        let state = |name: &str| outcome.nodes.iter().find(|n| n.name == name).unwrap();
        assert_eq!(state(node).state, State::Failed, "{node}");
        assert!(state(node).reason.ends_with("is not in the cache any more"), "{}", state(node).reason);
        assert_eq!(state("space/demo/passages").state, State::Blocked);
        assert!(
            progress.said.lock().unwrap().iter().any(|line| line.starts_with(&format!("error: {node}: ")))
        );

        let next = project.run(&[]);
        assert_eq!(next.code, 0, "{:?}", next.nodes);
        for table in ["tables/space.parquet", "vectors/demo/passages.parquet"] {
            let bytes = |p: &Project| std::fs::read(p.path("results/exp").join(table)).unwrap();
            assert!(bytes(&project) == bytes(&sound), "{node}: {table} differs");
        }
    }
}

/// The same, but for what vanishes meanwhile.
fn age_beside_runs(path: &Path) {
    let then = SystemTime::now() - Duration::from_secs(2 * 3600);
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        age_beside_runs(&entry.path());
    }
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.set_modified(then);
    }
}

/// Sweeps that take whatever they can, also what is being made, beside runs that need it: what is there is whole, and a run
/// that is left alone ends in the same bytes.
#[test]
fn sweeps_beside_runs_harm_nothing_that_a_run_cannot_make_again() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let sound = Project::new(EXPERIMENT);
    assert_eq!(sound.run(&[]).code, 0);
    let bytes = |p: &Project| std::fs::read(p.path("results/exp/tables/space.parquet")).unwrap();
    let project = Project::new(EXPERIMENT);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                age_beside_runs(&project.path("cache"));
                let roots = std::fs::read_dir(project.path("cache/roots")).into_iter().flatten().flatten();
                for root in roots.map(|root| root.path()).filter(|root| root.extension().is_some()) {
                    let _ = std::fs::remove_file(root);
                }
                // Other results: all that the cache holds is asked for by nobody.
                let (cache, results) = (project.path("cache"), sound.path("other"));
                let record = results.join("exp/run.json");
                std::fs::create_dir_all(record.parent().unwrap()).unwrap();
                std::fs::write(record, r#"{"plan":[],"nodes":[]}"#).unwrap();
                let args =
                    ["emoflow", "cache", "gc", "--yes", "--cache", cache.to_str().unwrap(), "--results"];
                let code = emoflow::run(args.into_iter().chain([results.to_str().unwrap()]), &mut Vec::new());
                // The run may have noted its results in between, and no plan yet.
                assert!([0, 2].contains(&code), "{code}");
            }
        });
        for _ in 0..3 {
            let ran = project.run(&[]);
            assert!(ran.code == 0 || !ran.names("failed").is_empty(), "{}", ran.out);
            assert_eq!(cache(&project, &["verify"]).0, 0);
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(project.run(&[]).code, 0);
    assert!(bytes(&project) == bytes(&sound));
    assert_eq!(cache(&project, &["verify"]).0, 0);
}

#[test]
fn reports_at_once_write_the_same_results() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let before = files(&project.path("results/exp"));
    let content =
        |paths: &[PathBuf]| paths.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let bytes = content(&before);
    let codes: Vec<u8> = std::thread::scope(|scope| {
        let report = || (0..5).map(|_| project.emoflow("report", &["--device", "cpu"]).code).max().unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(report)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes, [0; 4]);
    assert_eq!(files(&project.path("results/exp")), before, "nothing is left over");
    assert!(content(&before) == bytes);
}

#[test]
fn gc_spares_what_other_projects_on_the_cache_need() {
    let (project, other) = (Project::new(EXPERIMENT), Project::new(EXPERIMENT));
    let shared = project.path("cache").to_str().unwrap().to_string();
    let of_other = ["--cache", shared.as_str(), "--set", "vectors.denoise={ components = 1 }"];
    assert_eq!((project.run(&[]).code, other.run(&of_other).code), (0, 0));
    age(&project.path("cache"));
    let all = entries(&project);
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 0);
    assert_eq!(entries(&project), all);
    assert_eq!(other.run(&of_other).names("ran"), Vec::<&str>::new());
    // A disk that is not mounted: the folder is gone, or is an empty one.
    age(&project.path("cache"));
    let results = other.path("results");
    std::fs::rename(&results, other.path("elsewhere")).unwrap();
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 2);
    std::fs::create_dir(&results).unwrap();
    assert_eq!(cache(&project, &["gc", "--yes"]).0, 2);
    assert_eq!(entries(&project), all);
    // For good.
    let results = results.canonicalize().unwrap();
    assert_eq!(cache(&project, &["gc", "--yes", "--forget", project.path("none").to_str().unwrap()]).0, 2);
    assert_eq!(cache(&project, &["gc", "--forget", results.to_str().unwrap()]).0, 0);
    assert_eq!(entries(&project), all, "only with --yes");
    assert_eq!(cache(&project, &["gc", "--yes", "--forget", results.to_str().unwrap()]).0, 0);
    assert_eq!(all.len() - entries(&project).len(), 3);
    assert_eq!(cache(&project, &["gc"]).0, 0, "it is forgotten");
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
}
