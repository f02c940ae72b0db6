//! Runs that are stopped in the middle, the real program and the stages alone: what is kept, and that the bytes are the
//! same in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use emoflow::interrupt::Interrupted;
use emoflow::lm::{Chat, Layer};
use emoflow::stages::activations::{self, Long, Short, StoreDtype, Wrap};
use emoflow::stages::batches::Batches;
use emoflow::stages::stories::{self, Generate, Reject, generate, writing};
use emoflow::store::table::{Column, Table};

use crate::project::Project;

/// Stories of the model's own in six shards, each of several batches.
pub const EXPERIMENT: &str = r#"
name = "exp"
layers = [1, 2]
shard = 4

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "joyful", "sad", "angry"]

[stories.own.generate]
model = "self"
topics = ["a lost key", "a birthday party", "rain"]
per_topic = 2
max_new_tokens = 60
reject = { names_emotion = true, attempts = 4 }

[activations]
from_token = 3
batch_tokens = 128

[analysis.space.pca]
components = 2
[analysis.causes.steering]
random = 2
"#;

/// Ends the program when the test fails.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// `emoflow run exp.toml` as a program of its own.
    pub fn start(project: &Project, environment: &[(&str, &str)]) -> Running {
        Running::with(project, &[], environment)
    }

    /// The same with `more` on the command line.
    pub fn with(project: &Project, more: &[&str], environment: &[(&str, &str)]) -> Running {
        Running::command(project, "run", &[&["--device", "cpu"], more].concat(), environment)
    }

    /// `emoflow <command> exp.toml <more>`, which says in plain lines how far it is.
    pub fn command(project: &Project, command: &str, more: &[&str], environment: &[(&str, &str)]) -> Running {
        let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        program.args([command, project.path("exp.toml").to_str().unwrap()]).args(more);
        program.args(["--progress", "plain"]);
        program.env_remove("LD_LIBRARY_PATH").envs(environment.iter().copied()).stdin(Stdio::null());
        Running(program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }

    /// Waits until `seen`, while the program runs.
    pub fn until(&mut self, what: &str, seen: impl Fn() -> bool) {
        let begun = Instant::now();
        while !seen() {
            assert!(self.0.try_wait().unwrap().is_none(), "the program ended before {what}");
            assert!(begun.elapsed() < Duration::from_secs(300), "{what} does not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Exit code, stdout and stderr of the ended program; no code: it was killed.
    pub fn ended(mut self) -> (Option<i32>, String, String) {
        let child = std::mem::replace(&mut self.0, Command::new("true").spawn().unwrap());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr).into_owned())
    }
}

/// Batches kept of units of `stage`.
pub fn batches(project: &Project, stage: &str) -> BTreeSet<PathBuf> {
    let list = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path());
    list(&project.path("cache/partial"))
        .filter(|unit| unit.file_name().unwrap().to_str().unwrap().starts_with(&format!("{stage}-")))
        .flat_map(|unit| list(&unit).collect::<Vec<_>>())
        .collect()
}

/// Every table of the results, and the vectors, by path.
pub fn results(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![project.path("results/exp/tables"), project.path("results/exp/vectors")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(project.path("results")).unwrap().to_str().unwrap().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    assert!(found.len() >= 5, "{:?}", found.keys());
    found
}

fn run_json(project: &Project) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(project.path("results/exp/run.json")).unwrap()).unwrap()
}

/// What an uninterrupted run of `EXPERIMENT` ends in.
pub fn uninterrupted() -> BTreeMap<String, Vec<u8>> {
    static RESULTS: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
        let whole = Project::new(EXPERIMENT);
        let ran = whole.run(&[]);
        assert_eq!(ran.code, 0, "{:?}", ran.nodes);
        for stage in ["stories", "activations"] {
            assert!(batches(&whole, stage).is_empty(), "batches of stored units stay");
        }
        results(&whole)
    });
    RESULTS.clone()
}

#[test]
fn a_run_that_was_asked_to_stop_continues_and_ends_in_the_same_bytes() {
    // Tests that were started by `nohup` would hand on that it is ignored.
    // SAFETY: nothing here handles it.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
    let project = Project::new(EXPERIMENT);
    for (stage, signal) in [
        ("stories", libc::SIGINT),
        ("stories", libc::SIGUSR1),
        ("activations", libc::SIGTERM),
        ("activations", libc::SIGHUP),
    ] {
        let mut running = Running::start(&project, &[]);
        let before = batches(&project, stage);
        running.until("a batch", || !batches(&project, stage).is_subset(&before));
        running.signal(signal);
        let (code, out, said) = running.ended();
        assert_eq!(code, Some(75), "{said}");
        assert!(out.starts_with("ran "), "{out}");
        let file = project.path("exp.toml");
        let command = format!("emoflow run {} --device cpu --progress plain\n", file.display());
        assert!(said.contains("To continue: ") && said.ends_with(&command), "{said}");
        let run = run_json(&project);
        assert_eq!(run["interrupted"], true);
        let last = run["nodes"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["state"], "interrupted", "{last}");
        assert!(!project.path("results/exp/report.html").exists());
    }
    // Two at once: it ends in the middle of a batch.
    std::fs::remove_file(project.path("results/exp/run.json")).unwrap();
    let mut running = Running::start(&project, &[]);
    running.until("the plan", || project.path("results/exp/run.json").exists());
    running.signal(libc::SIGINT);
    running.signal(libc::SIGTERM);
    assert_eq!(running.ended().0, Some(75));

    let (code, _, said) = Running::start(&project, &[]).ended();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(run_json(&project)["interrupted"], false);
    assert!(results(&project) == uninterrupted(), "the bytes differ");
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
}

#[test]
fn a_damaged_batch_is_made_again() {
    let project = Project::new(EXPERIMENT);
    for stage in ["stories", "activations"] {
        let mut running = Running::start(&project, &[]);
        running.until("a batch", || !batches(&project, stage).is_empty());
        running.signal(libc::SIGKILL);
        assert_eq!(running.ended().0, None);
        let mut damaged = 0;
        for unit in std::fs::read_dir(project.path("cache/partial")).unwrap() {
            for batch in std::fs::read_dir(unit.unwrap().path()).unwrap() {
                let path = batch.unwrap().path();
                let mut bytes = std::fs::read(&path).unwrap();
                let at = bytes.len() / 3;
                bytes[at] ^= 16;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
        // A kill between the last batch and the unit's end leaves none.
        let mut running = Running::start(&project, &[]);
        let next = if stage == "stories" { "activations" } else { "vectors" };
        running
            .until(next, || !batches(&project, next).is_empty() || project.path("cache").join(next).exists());
        running.signal(libc::SIGINT);
        let (code, _, said) = running.ended();
        assert!(matches!(code, Some(0 | 75)), "{said}");
        let found =
            said.lines().filter(|line| line.contains("was damaged and will be computed again")).count();
        assert_eq!(found, damaged, "{said}");
    }
    assert_eq!(Running::start(&project, &[]).ended().0, Some(0));
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}

/// Keeps batches in memory and stops after one new batch.
#[derive(Default)]
struct OneMore {
    kept: BTreeMap<usize, Table>,
    made: Vec<usize>,
    stopped: bool,
}

impl Batches for OneMore {
    fn at(&mut self, _: usize, _: usize) {}

    fn stopped(&self) -> bool {
        self.stopped
    }

    fn kept(&mut self, number: usize, schema: &str) -> anyhow::Result<Option<Table>> {
        Ok(self.kept.get(&number).cloned().inspect(|table| assert_eq!(table.schema, schema)))
    }

    fn keep(&mut self, number: usize, table: &Table) -> anyhow::Result<()> {
        self.kept.insert(number, table.clone());
        self.made.push(number);
        self.stopped = true;
        Ok(())
    }
}

/// Runs `work` until it ends, one batch at a time; returns what it gave and the batches in the order of making.
fn one_by_one<T>(work: impl Fn(&mut dyn Batches) -> anyhow::Result<T>) -> (T, Vec<usize>) {
    let mut batches = OneMore::default();
    loop {
        batches.stopped = false;
        match work(&mut batches) {
            Ok(done) => return (done, batches.made),
            Err(error) => assert!(error.is::<Interrupted>(), "{error:#}"),
        }
    }
}

#[test]
fn each_batch_is_made_once_however_often_the_work_is_stopped() {
    let model = crate::stages::load("models/demo");
    let params = Generate {
        topics: vec!["rain".into(), "bread".into()],
        per_topic: 40,
        max_new_tokens: 12,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        prompt: "A story about {topic}.".into(),
        system: String::new(),
        several: None,
        reject: Reject {
            names_emotion: false,
            min_tokens: 12,
            attempts: 3,
            refusals: true,
            near_duplicate: None,
            cut: false,
        },
    };
    let items = writing::items(&params, Some(&["sad".into(), "calm".into()]));
    let seeds = writing::Seeds { run: 1, writer: "w".into() };
    let write = |batches: &mut dyn Batches| {
        generate::run(&params, &items, &model, Chat::default(), "demo", &seeds, batches)
    };
    let whole = write(&mut |_: usize, _: usize| {}).unwrap();
    let (pieces, made) = one_by_one(write);
    assert_eq!(pieces, whole);
    assert!(made.len() >= 3 && made.iter().copied().eq(0..made.len()), "{made:?}");
    assert!(whole.rejected.rows() > 0);
    let whole = whole.stories;

    let params = activations::Params {
        from_token: 2,
        wrap: Wrap::Raw,
        short: Short::Skip,
        long: Long::Error,
        batch_tokens: Some(100),
        store_dtype: StoreDtype::F32,
    };
    assert!(stories::rows(&whole).unwrap().len() > 20);
    let read = |layers: &[Layer], batches: &mut dyn Batches| {
        let read =
            activations::read(&params, Chat::default(), &whole, model.tokenizer(), model.spec.context)?;
        activations::run(&params, layers, &read.rows, &model, batches)
    };
    let at_once = read(&[1, 3].map(Layer::Block), &mut |_: usize, _: usize| {}).unwrap();
    let (pieces, made) = one_by_one(|batches| read(&[1, 3].map(Layer::Block), batches));
    assert_eq!(pieces, at_once);
    assert!(made.len() >= 3 && made.iter().copied().eq(0..made.len()), "{made:?}");

    // What was kept of more layers serves fewer; what was kept of fewer does not serve more.
    let mut batches = OneMore::default();
    while read(&[1, 3].map(Layer::Block), &mut batches).is_err() {
        batches.stopped = false;
    }
    batches.made.clear();
    assert_eq!(read(&[Layer::Block(3)], &mut batches).unwrap(), at_once[1..]);
    assert!(batches.made.is_empty());
    batches.stopped = false;
    assert!(read(&[2, 3].map(Layer::Block), &mut batches).unwrap_err().is::<Interrupted>());
    assert_eq!(batches.made, [0]);
}

#[test]
fn a_kept_batch_answers_only_the_requests_that_it_was_made_for() {
    let model = crate::stages::load("models/demo");
    let reject = Reject {
        names_emotion: false,
        min_tokens: 40,
        attempts: 2,
        refusals: false,
        near_duplicate: None,
        cut: false,
    };
    let params = Generate {
        topics: vec!["rain".into()],
        per_topic: 100,
        max_new_tokens: 40,
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        prompt: "A story about {topic}.".into(),
        system: String::new(),
        several: None,
        reject,
    };
    let items = writing::items(&params, Some(&["sad".into()]));
    let seeds = writing::Seeds { run: 1, writer: "w".into() };
    let write = |batches: &mut dyn Batches| {
        generate::run(&params, &items, &model, Chat::default(), "demo", &seeds, batches)
    };
    let mut batches = OneMore::default();
    let whole = loop {
        batches.stopped = false;
        match write(&mut batches) {
            Ok(whole) => break whole,
            Err(error) => assert!(error.is::<Interrupted>(), "{error:#}"),
        }
    };
    assert_eq!(batches.made, [0, 1], "one for each attempt");
    // The first batch was lost and came out otherwise: as many stories are open after it, but not the same ones.
    let index = |table: &Table, attempt: &str, is: i32| {
        let rows = table.i32("index").unwrap().iter().zip(table.i32(attempt).unwrap());
        rows.filter(|(_, of)| **of == is).map(|(index, _)| *index as usize).next().unwrap()
    };
    let (refused, accepted) = (index(&whole.rejected, "attempt", 0), index(&whole.stories, "rejected", 0));
    for (name, column) in &mut batches.kept.get_mut(&0).unwrap().columns {
        match column {
            Column::Str(values) if name != "asked" => values.swap(refused, accepted),
            _ => {}
        }
    }
    batches.made.clear();
    batches.stopped = false;
    write(&mut batches).unwrap();
    assert_eq!(batches.made, [1], "what was kept of the second attempt answers other requests");
}
