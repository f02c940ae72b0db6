//! What goes wrong around a run: each fault is a clear error, the rest of the run goes on, and the next run continues.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use emoflow::config::Experiment;
use emoflow::execute::{self, Options};
use emoflow::explain::Past;
use emoflow::lm::device;
use emoflow::progress::Progress;
use emoflow::record::State;
use emoflow::store::Store;
use emoflow::{plan, resolve};

use crate::interrupt::{EXPERIMENT, Running, batches, results, uninterrupted};
use crate::project::Project;

/// A copy of the demonstration model in the project's folder `model`.
fn own_model(project: &Project) -> PathBuf {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let copy = project.path("model");
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(demo).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    copy
}

fn reason(project: &Project, node: &str) -> String {
    let text = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let nodes = run["nodes"].as_array().unwrap();
    nodes.iter().find(|n| n["name"] == node).unwrap()["reason"].as_str().unwrap().to_string()
}

#[test]
fn a_nan_names_story_layer_and_token() {
    let sources = "[stories.clean.template]\npassages = [\"She is {emotion} now.\", \"He was {emotion} then.\"]\n\
                   [stories.wrong.template]\npassages = [\"She is {emotion} now.\", \"A {emotion} man of 7 men.\"]\n\n[act";
    let (head, tail) =
        (EXPERIMENT.split("[stories").next().unwrap(), EXPERIMENT.split("[act").nth(1).unwrap());
    let project = Project::new(&format!("{head}{sources}{tail}").replace("{demo}", "model"));
    let model = own_model(&project);
    let seven = crate::stages::load("models/demo").encode(" 7").unwrap().ids.pop().unwrap() as usize;

    // The embedding of `7` becomes NaN: every bit is set.
    let path = model.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let embedding = &tensors["model.embed_tokens.weight"];
    let at = |i: usize| embedding["data_offsets"][i].as_u64().unwrap() as usize;
    let row = (at(1) - at(0)) / embedding["shape"][0].as_u64().unwrap() as usize;
    let begin = 8 + header + at(0) + seven * row;
    bytes[begin..begin + row].fill(0xff);
    std::fs::write(&path, bytes).unwrap();

    let ran = project.run(&["--only", "vectors/*"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.names("failed"), ["activations/demo/wrong"]);
    assert_eq!(ran.names("blocked"), ["vectors/demo/wrong"]);
    assert!(ran.names("ran").contains(&"vectors/demo/clean"));
    let why = reason(&project, "activations/demo/wrong");
    for part in [
        "story ",
        "\"A happy man of 7 men.\"",
        "layer 1 is NaN",
        "the first is at layer embed, token ",
        "7\")",
    ] {
        assert!(why.contains(part), "no {part} in: {why}");
    }
}

#[test]
fn a_model_that_is_changed_during_a_run_is_found() {
    let project = Project::new(&EXPERIMENT.replace("{demo}", "model"));
    let path = own_model(&project).join("tokenizer_config.json");
    let original = std::fs::read(&path).unwrap();
    let mut running = Running::start(&project, &[]);
    running.until("a batch", || !batches(&project, "stories").is_empty());
    std::fs::write(&path, [&original[..], b"\n"].concat()).unwrap();
    let (code, _, said) = running.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("tokenizer_config.json was changed during this run: run it again"), "{said}");

    std::fs::write(&path, &original).unwrap();
    assert_eq!(project.run(&[]).code, 0);
    let continued = results(&project);
    let elsewhere = project.path("elsewhere");
    assert_eq!(project.run(&["--cache", elsewhere.to_str().unwrap()]).code, 0);
    assert!(continued == results(&project), "the bytes differ");
}

#[test]
fn a_cache_that_is_deleted_during_a_run_is_made_again() {
    let project = Project::new(EXPERIMENT);
    let mut running = Running::start(&project, &[]);
    running.until("a batch", || !batches(&project, "activations").is_empty());
    // The run may be putting something there at this moment.
    while std::fs::remove_dir_all(project.path("cache")).is_err() {}
    let (code, _, said) = running.ended();
    assert!(matches!(code, Some(0 | 1)), "{said}");
    assert!(code == Some(0) || said.contains("error: "), "{said}");
    let (code, _, said) = Running::start(&project, &[]).ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}

/// A file system in memory that vanishes with the test.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this user may not mount.
    fn new(path: PathBuf, options: &str) -> Option<Mounted> {
        std::fs::create_dir(&path).unwrap();
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &path).then(|| Mounted(path))
    }

    fn again(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}")], &self.0));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(args).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_and_one_that_is_read_only_are_clear_errors() {
    let project = Project::new(EXPERIMENT);
    let Some(disk) = Mounted::new(project.path("cache"), "size=200k") else {
        eprintln!("not tested: only root can mount");
        return;
    };
    let (code, _, said) = Running::start(&project, &[]).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    disk.again("size=100m");
    let (code, _, said) = Running::start(&project, &[]).ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(results(&project) == uninterrupted(), "the bytes differ");

    disk.again("ro");
    let whole = project.run(&[]);
    assert_eq!((whole.code, whole.names("ran")), (0, Vec::new()));
    project.write(&EXPERIMENT.replace("random = 2", "random = 3"));
    let (code, _, said) = Running::start(&project, &[]).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains(project.path("cache").to_str().unwrap()), "{said}");
}

/// Breaks off the stage that says how far it is, in one node.
struct Breaker {
    node: &'static str,
    at: AtomicBool,
    said: Mutex<Vec<String>>,
}

impl Progress for Breaker {
    fn begin(&self, node: &str, _: usize, _: &str) {
        self.at.store(node == self.node, Ordering::SeqCst);
    }
    fn at(&self, done: f64) {
        // The loop says that nothing is done; the stage, that something is.
        assert!(!self.at.load(Ordering::SeqCst) || done == 0.0, "a bug in a stage");
    }
    fn end(&self, _: &str) {
        self.at.store(false, Ordering::SeqCst);
    }
    fn note(&self, line: &str) {
        self.said.lock().unwrap().push(line.to_string());
    }
}

#[test]
fn a_panic_in_a_stage_fails_its_node_and_the_rest_goes_on() {
    let project = Project::new(EXPERIMENT);
    let node = "activations/demo/own";
    let progress = Breaker { node, at: AtomicBool::default(), said: Mutex::default() };
    let store = Store::open(project.path("cache")).unwrap();
    let experiment = Experiment::read(&project.path("exp.toml")).unwrap();
    let device = device::choose("cpu").unwrap();
    let resolved = resolve::resolve(experiment, &store, device, true, &progress).unwrap();
    let plan = plan::build(&resolved);
    let options = Options::default();
    let (past, everything) = (Past::default(), plan.select(&[]).unwrap());
    let outcome = execute::run(&resolved, &plan, &store, &past, &everything, options, &progress);
    let state = |name: &str| outcome.nodes.iter().find(|n| n.name == name).unwrap();
    assert_eq!((state(node).state, state(node).reason.as_str()), (State::Failed, "a bug in a stage"));
    assert_eq!(state("stories/own@demo").state, State::Ran);
    assert_eq!(state("vectors/demo/own").state, State::Blocked);
    assert!(
        progress
            .said
            .lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(node) && line.contains("a bug in a stage"))
    );

    let next = project.run(&[]);
    assert_eq!(next.code, 0, "{:?}", next.nodes);
    assert!(!next.names("ran").contains(&"stories/own@demo"), "what was finished is kept");
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}

/// Has the weights be others from the beginning of a node until its first progress.
struct Exchanger {
    node: &'static str,
    weights: PathBuf,
    original: Vec<u8>,
    others: Vec<u8>,
    at: AtomicBool,
}

impl Exchanger {
    /// In place, without cutting a file that may be mapped.
    fn put(&self, bytes: &[u8]) {
        let mut file = std::fs::File::options().write(true).open(&self.weights).unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
    }
}

impl Progress for Exchanger {
    fn begin(&self, node: &str, _: usize, _: &str) {
        if node == self.node {
            self.put(&self.others);
            self.at.store(true, Ordering::SeqCst);
        }
    }
    fn at(&self, done: f64) {
        if done > 0.0 && self.at.swap(false, Ordering::SeqCst) {
            self.put(&self.original);
        }
    }
    fn end(&self, _: &str) {}
    fn note(&self, _: &str) {}
}

#[test]
fn nothing_is_kept_of_weights_that_were_others_for_a_while() {
    let project = Project::new(&EXPERIMENT.replace("{demo}", "model"));
    let weights = own_model(&project).join("model.safetensors");
    let original = std::fs::read(&weights).unwrap();
    // The signs of the last tensor's numbers.
    let mut others = original.clone();
    let from = others.len() - 20_000;
    others[from..].iter_mut().skip(1).step_by(2).for_each(|byte| *byte ^= 0x80);
    let node = "stories/own@demo";
    let progress = Exchanger { node, weights, original, others, at: AtomicBool::default() };
    let store = Store::open(project.path("cache")).unwrap();
    let experiment = Experiment::read(&project.path("exp.toml")).unwrap();
    let device = device::choose("cpu").unwrap();
    let resolved = resolve::resolve(experiment, &store, device, true, &progress).unwrap();
    let plan = plan::build(&resolved);
    let (past, everything) = (Past::default(), plan.select(&[]).unwrap());
    let outcome = execute::run(&resolved, &plan, &store, &past, &everything, Options::default(), &progress);
    let state = outcome.nodes.iter().find(|n| n.name == node).unwrap();
    assert_eq!(state.state, State::Failed);
    assert!(state.reason.ends_with("was changed during this run: run it again"), "{}", state.reason);
    assert!(batches(&project, "stories").is_empty(), "batches of other weights stay");

    progress.put(&progress.original);
    assert_eq!(project.run(&[]).code, 0);
    let continued = results(&project);
    let elsewhere = project.path("elsewhere");
    assert_eq!(project.run(&["--cache", elsewhere.to_str().unwrap()]).code, 0);
    assert!(continued == results(&project), "the bytes differ");
}
