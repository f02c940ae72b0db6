//! Measures the overhead of the orchestrator if there is nothing to compute: an experiment of N nodes is read and
//! planned, every unit is looked up in a full cache, and the program reports what is cached. The cache holds tables of
//! one number.
//!
//! `cargo bench --bench orchestrator [-- 10000 100000]` prints the seconds of each phase, and for the whole program
//! (`plan`, and a `run` with nothing to compute) the median seconds and the peak memory. With `--keep FOLDER` the last
//! experiment and its cache are kept there, for `benches/beside.py`. The cache is created in `$TMPDIR`; a folder in
//! memory avoids N flushes to disk.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use emoflow::config::Experiment;
use emoflow::execute;
use emoflow::lm::device;
use emoflow::plan::{self, Plan};
use emoflow::progress::Silent;
use emoflow::resolve::{Resolved, resolve};
use emoflow::results;
use emoflow::store::table::{Column, Table};
use emoflow::store::{Cost, Lookup, Store};

/// Nodes per source of stories: the stories, and for its one reader activations, vectors and analyses.
const NODES_A_SOURCE: usize = 3 + ANALYSES;
const ANALYSES: usize = 7;

fn main() {
    let mut sizes = Vec::new();
    let mut keep = None;
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--keep" => keep = arguments.next().map(PathBuf::from),
            size => sizes.push(size.parse().expect("a number of nodes")),
        }
    }
    if sizes.is_empty() {
        sizes = vec![1_000, 10_000, 100_000];
    }
    println!("   nodes    read resolve    plan  lookup | emoflow plan  emoflow run  peak memory");
    for &nodes in &sizes {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = keep.clone().unwrap_or_else(|| temporary.path().to_path_buf());
        std::fs::create_dir_all(&folder).expect("make the folder");
        std::fs::write(folder.join("emoflow.toml"), "").expect("mark the project's folder");
        std::fs::write(folder.join("exp.toml"), experiment(nodes)).expect("write the experiment");
        fill(&folder);
        measure(&folder);
    }
}

/// An experiment of about `nodes` nodes on a tiny checkpoint.
fn experiment(nodes: usize) -> String {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
    let mut text = format!(
        "name = \"exp\"\nlayers = [1]\n[models.tiny]\npath = {model:?}\n[emotions]\nwords = [\"happy\", \"sad\"]\n\
         [activations]\nfrom_token = 1\n"
    );
    for i in 0..ANALYSES {
        let _ = writeln!(text, "[analysis.a{i}.pca]\ncomponents = {}", i + 1);
    }
    for i in 0..nodes / NODES_A_SOURCE {
        let _ = writeln!(text, "[stories.s{i}.template]\npassages = [\"On day {i} she felt {{emotion}}.\"]");
    }
    text
}

fn open(folder: &Path) -> (Resolved, Store) {
    let file = folder.join("exp.toml");
    let text = std::fs::read_to_string(&file).expect("read the experiment");
    let experiment = Experiment::parse(&file, folder, &text).expect("the experiment is right");
    let store = Store::open(folder.join("cache")).expect("open the cache");
    let device = device::choose("cpu").expect("a CPU");
    let resolved = resolve(experiment, &store, device, true, &Silent).expect("the model is there");
    (resolved, store)
}

/// Writes an entry of one number under every key of the plan.
fn fill(folder: &Path) {
    let (resolved, store) = open(folder);
    let table = Table::new("number/1", vec![("number", Column::I32(vec![1]))]);
    for node in &plan::build(&resolved).nodes {
        let tables = [(node.work.stage().to_string(), table.clone())];
        for unit in &node.units {
            if let Lookup::Miss(miss) = store.lookup(node.work.stage(), &unit.key).expect("look up") {
                miss.commit(&unit.preimage, &tables, &[], Cost::default()).expect("commit");
            }
        }
    }
    // Digests of files younger than two seconds are not remembered: waits until they are older, then records the
    // digests.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let (resolved, store) = open(folder);
    let plan = plan::build(&resolved);
    look(&plan, &store);
    stand_in(folder, &resolved, &plan, &store);
}

/// Empty files in place of all results, and a page that claims to show this plan: tables of one number cannot be
/// reported.
fn stand_in(folder: &Path, resolved: &Resolved, plan: &Plan, store: &Store) {
    let results = folder.join("results/exp");
    let mut files = vec![results.join("tables/comparison.csv"), results.join("tables/comparison.parquet")];
    for i in 0..ANALYSES {
        files.extend(["csv", "parquet"].map(|kind| results.join(format!("tables/a{i}.{kind}"))));
    }
    for node in plan.nodes.iter().filter(|node| node.work.stage() == "stories") {
        let source = node.id.subject.source().expect("stories have a source");
        files.extend(["csv", "parquet"].map(|kind| results.join(format!("stories/{source}.{kind}"))));
        files.push(results.join(format!("vectors/tiny/{source}.parquet")));
    }
    for part in ["tables", "stories", "vectors/tiny", "figures"] {
        std::fs::create_dir_all(results.join(part)).expect("make the folder of results");
    }
    for file in files {
        std::fs::write(file, "").expect("write a stand-in");
    }
    let present = execute::present(plan, store);
    let (key, _) = results::report_state((resolved, plan, store), &present, &results);
    std::fs::write(results.join("report.html"), key.short()).expect("write the page");
    let (_, current) = results::report_state((resolved, plan, store), &present, &results);
    assert!(current, "the report is up to date");
}

fn look(plan: &Plan, store: &Store) {
    for node in &plan.nodes {
        for unit in &node.units {
            let found = store.lookup(node.work.stage(), &unit.key).expect("look up");
            assert!(matches!(found, Lookup::Hit(_)), "everything is cached");
        }
    }
}

fn measure(folder: &Path) {
    let begun = Instant::now();
    let mut laps = Vec::new();
    let mut last = 0.0;
    let mut lap = || {
        let now = begun.elapsed().as_secs_f64();
        laps.push(now - last);
        last = now;
    };
    let file = folder.join("exp.toml");
    let text = std::fs::read_to_string(&file).expect("read the experiment");
    let experiment = Experiment::parse(&file, folder, &text).expect("the experiment is right");
    lap();
    let store = Store::open(folder.join("cache")).expect("open the cache");
    let device = device::choose("cpu").expect("a CPU");
    let resolved = resolve(experiment, &store, device, true, &Silent).expect("the model is there");
    lap();
    let plan = plan::build(&resolved);
    lap();
    look(&plan, &store);
    lap();
    let shown: String = laps.iter().map(|s| format!("{s:>8.3}")).collect();
    let commands: [&[&str]; 2] = [&["plan"], &["run", "--quiet"]];
    let [planned, ran] = commands.map(|words| seconds(folder, words));
    let peak = commands.map(|words| peak_mb(folder, words)).into_iter().fold(0.0, f64::max);
    println!("{:>8}{shown} | {planned:>10.3} s {ran:>10.3} s {peak:>9.0} MB", plan.nodes.len());
}

/// The command with the first of `words` and the folder's experiment.
fn program(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    command.arg(words[0]).arg(folder.join("exp.toml")).args(&words[1..]).args(["--device", "cpu"]);
    command.stdout(Stdio::null());
    command
}

/// Median seconds of five whole runs of the program.
fn seconds(folder: &Path, words: &[&str]) -> f64 {
    let mut seconds: Vec<f64> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            assert!(program(folder, words).status().expect("start the program").success());
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// The largest resident memory of a run of the program, polled every millisecond: the kernel's value at the end
/// includes this process's memory, from which it was forked. NaN without `/proc`.
fn peak_mb(folder: &Path, words: &[&str]) -> f64 {
    let mut child = program(folder, words).spawn().expect("start the program");
    let mut peak = f64::NAN;
    while child.try_wait().expect("wait for the program").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let (Some("emoflow"), Some(high)) = (field("Name:"), field("VmHWM:"))
            && let Some(kilobytes) = high.strip_suffix(" kB").and_then(|n| n.parse::<f64>().ok())
        {
            peak = kilobytes / 1e3;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    peak
}
