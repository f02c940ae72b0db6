//! Stories from dataset repositories: which files are fetched, where they go, and what of them is read.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use emoflow::plan::key::Digest;
use parquet::arrow::ArrowWriter;
use serde_json::Value;

use super::server::{Hub, git_name};
use super::{command, fails, said, succeeds};

const FIRST: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SECOND: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const A: &str = "expression/stories/a.parquet";
const B: &str = "expression/stories/more/b.jsonl";

const EXPERIMENT: &str = r#"
layers = [0]
[models.tiny]
path = "{fixtures}/llama-gqa"
[emotions]
words = ["happy", "sad"]
[stories.corpus.dataset]
repo = "tests/stories"
files = "expression/**/*.{parquet,jsonl}"
columns = { emotion = "emotion", text = "story", topic = "topic" }
[activations]
from_token = 0
"#;

/// A Parquet file of stories: emotion, text; and a column that nobody asks for.
fn stories(rows: &[(&str, &str)]) -> Vec<u8> {
    let text = |f: fn(&(&str, &str)) -> String| Arc::new(StringArray::from_iter_values(rows.iter().map(f)));
    let topics = StringArray::from_iter((0..rows.len()).map(|i| (i > 0).then_some("rain")));
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..rows.len() as i64))),
        ("emotion", text(|row| row.0.to_string())),
        ("story", text(|row| row.1.to_string())),
        ("topic", Arc::new(topics)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A hub with a dataset of two commits; the second has one story more.
fn hub() -> Hub {
    let hub = Hub::start("llama-gqa");
    let other = |name: &str| (name.to_string(), b"not to be fetched".to_vec());
    let mut files: BTreeMap<String, Vec<u8>> =
        ["README.md", ".gitattributes", "expression/a.csv", "expression/stories/more/b.md", "other/c d.csv"]
            .map(other)
            .into();
    files.insert(
        A.to_string(),
        stories(&[("Happy ", "The sun came out."), ("bored", "Nothing."), ("sad", "It rained.")]),
    );
    let jsonl = "{\"emotion\": \"sad\", \"story\": \"She wept.\", \"topic\": null}\n\
                 {\"emotion\": \"HAPPY\", \"story\": \"He sang.\", \"topic\": \"song\", \"n\": [1]}\n";
    files.insert(B.to_string(), jsonl.as_bytes().to_vec());
    files.insert("other/c d.csv".to_string(), b"text\nWater boils.\nIron rusts.\nSalt melts ice.\n".to_vec());
    let talk = |emotion: &str, other: &str| {
        let said = serde_json::json!([
            {"role": "user", "content": format!("I am {emotion}.")},
            {"role": "assistant", "content": format!("And I am {other}.")},
        ]);
        serde_json::json!({"messages": said, "felt": emotion, "shown": other}).to_string()
    };
    let talks = [talk("happy", "sad"), "{}".to_string(), talk("sad", "happy")].join("\n");
    files.insert("talk/a.jsonl".to_string(), talks.into_bytes());
    let mut later = files.clone();
    let more = "{\"emotion\": \"sad\", \"story\": \"The last one.\", \"topic\": null}\n";
    later.insert(B.to_string(), format!("{jsonl}{more}").into_bytes());
    hub.state().data =
        [("main", (FIRST.to_string(), files)), ("refs/pr/1", (SECOND.to_string(), later))].into();
    hub
}

fn emoflow(dir: &Path, url: &str, experiment: &str, more: &[&str]) -> Output {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let experiment = experiment.replace("{fixtures}", fixtures.to_str().unwrap());
    command(dir, url, &experiment, more).output().unwrap()
}

fn run(dir: &Path, hub: &Hub, experiment: &str, more: &[&str]) -> Output {
    emoflow(dir, &hub.url, experiment, &[&["run", "--quiet"], more].concat())
}

fn home(dir: &Path) -> PathBuf {
    dir.join("hf/hub/datasets--tests--stories")
}

/// The stories that a run stored, in order: emotion, text, topic, index.
fn stored(dir: &Path) -> Vec<(Option<String>, String, Option<String>, i32)> {
    let run: Value =
        serde_json::from_slice(&std::fs::read(dir.join("results/exp/run.json")).unwrap()).unwrap();
    let plan = run["plan"].as_array().unwrap();
    let keys = plan.iter().find(|node| node[0].as_str().unwrap().starts_with("stories/")).unwrap()[1].clone();
    let store = emoflow::store::Store::open(dir.join("cache")).unwrap();
    let mut rows = Vec::new();
    for key in keys.as_array().unwrap() {
        let key: Digest = key.as_str().unwrap().parse().unwrap();
        let emoflow::store::Lookup::Hit(entry) = store.lookup("stories", &key).unwrap() else {
            panic!("no {key}")
        };
        let stories = emoflow::stages::stories::rows(&entry.read("stories").unwrap()).unwrap();
        rows.extend(stories.into_iter().map(|s| (s.emotion, s.text, s.topic, s.index as i32)));
    }
    rows
}

/// Every file and link under `folder`, by path; a link as where it leads.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let (mut found, mut open) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_string();
            if let Ok(target) = std::fs::read_link(&path) {
                found.insert(name, format!("-> {}", target.display()));
            } else if path.is_dir() {
                open.push(path);
            } else {
                found.insert(name, std::fs::metadata(&path).unwrap().len().to_string());
            }
        }
    }
    found
}

#[test]
fn files_that_match_are_fetched_once_and_read_in_the_order_of_their_names() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    // Nothing is on this machine: no problem, and no socket.
    succeeds(&emoflow(dir, &hub.url, EXPERIMENT, &["check"]), "no problems");
    assert_eq!(hub.connections(), 0);
    succeeds(&run(dir, &hub, EXPERIMENT, &[]), "ran 4, cached 0");
    assert_eq!(hub.fetched(), [A, B]);
    let told = |emotion: &str, text: &str, topic: Option<&str>, index| {
        (Some(emotion.to_string()), text.to_string(), topic.map(String::from), index)
    };
    let first = told("happy", "The sun came out.", None, 0);
    let expected = [
        first,
        told("sad", "It rained.", Some("rain"), 2),
        told("sad", "She wept.", None, 3),
        told("happy", "He sang.", Some("song"), 4),
    ];
    assert_eq!(stored(dir), expected);
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(dir.join("results/exp/run.json")).unwrap()).unwrap();
    let dataset = &recorded["datasets"][0];
    assert_eq!((&dataset["source"], &dataset["repo"]), (&"corpus".into(), &"tests/stories".into()));
    assert_eq!((&dataset["commit"], &dataset["files"]), (&FIRST.into(), &serde_json::json!([A, B])));
    let page = crate::page(&dir.join("results/exp/report.html"));
    assert!(page.contains("tests/stories at aaaaaaa"));

    succeeds(&run(dir, &hub, EXPERIMENT, &[]), "ran 0, cached 4");
    assert_eq!(hub.fetched(), Vec::<String>::new());
    hub.connections();
    succeeds(&run(dir, &hub, EXPERIMENT, &["--offline"]), "ran 0, cached 4");
    assert_eq!(hub.connections(), 0);
    // Nobody answers: what is here does, and it is said.
    let alone = emoflow(dir, "http://127.0.0.1:9", EXPERIMENT, &["run", "--quiet"]);
    succeeds(&alone, "ran 0,");
    succeeds(&alone, &format!("using dataset repository tests/stories at {FIRST}, which is on this machine"));

    // Another glob: what is whole without the network is known by the list that was kept.
    let one = ["--set", "stories.corpus.dataset.files=expression/*/a.parquet", "--offline"];
    succeeds(&run(dir, &hub, EXPERIMENT, &one), "ran 4,");
    assert_eq!(stored(dir).len(), 2);
    let csv = ["--set", "stories.corpus.dataset.files=other/*.csv", "--offline"];
    fails(
        &run(dir, &hub, EXPERIMENT, &csv),
        &["dataset repository tests/stories at main is incomplete in `"],
    );
    assert_eq!(hub.connections(), 0);
}

/// Dialogues of a dataset: fetched once, read as files of transcripts are, and recorded.
#[test]
fn dialogues_are_read_from_a_dataset() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let experiment = EXPERIMENT.replace(
        "[activations]",
        r#"[dialogues.talk.dataset]
repo = "tests/stories"
files = "talk/*.jsonl"
emotion = "felt"
other = "shown"
[analysis.along.readings]
transcripts = ["talk"]
random = 2
[activations]"#,
    );
    succeeds(&emoflow(dir, &hub.url, &experiment, &["check"]), "no problems");
    assert_eq!(hub.connections(), 0);
    let ran = run(dir, &hub, &experiment, &[]);
    succeeds(&ran, "cached 0");
    succeeds(&ran, "talk: 1 cannot be read, skipped: a.jsonl, line 2");
    let csv = std::fs::read_to_string(dir.join("results/exp/tables/along.csv")).unwrap();
    assert!(csv.contains("texts/talk") && csv.contains("assistant"), "{csv}");
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(dir.join("results/exp/run.json")).unwrap()).unwrap();
    let talk = recorded["datasets"].as_array().unwrap().iter().find(|set| set["source"] == "talk").unwrap();
    assert_eq!((&talk["commit"], &talk["files"]), (&FIRST.into(), &serde_json::json!(["talk/a.jsonl"])));
    succeeds(&run(dir, &hub, &experiment, &["--offline"]), "ran 0,");
    let none = experiment.replace("talk/*.jsonl", "talk/*.json");
    fails(&run(dir, &hub, &none, &[]), &["no file of dataset repository tests/stories", "`talk/a.jsonl`"]);
}

/// What huggingface_hub 2.4 makes of `snapshot_download("tests/stories", repo_type="dataset",
/// allow_patterns=["expression/*.parquet", "expression/*.jsonl"])` from the same hub, apart from its lock files.
#[test]
fn the_cache_is_laid_out_as_hugging_faces_tools_do() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    succeeds(&run(dir.path(), &hub, EXPERIMENT, &["--only", "stories/*"]), "ran 1,");
    let files = hub.state().data["main"].1.clone();
    let (sha, git) = (Digest::of(&files[A]).to_string(), git_name(&files[B]));
    let mut found = tree(&home(dir.path()));
    let list = format!("trees/{FIRST}.json");
    assert!(found.remove(&list).is_some(), "{found:?}");
    let expected = [
        (format!("blobs/{git}"), files[B].len().to_string()),
        (format!("blobs/{sha}"), files[A].len().to_string()),
        ("refs/main".to_string(), "40".to_string()),
        (format!("snapshots/{FIRST}/{A}"), format!("-> ../../../../blobs/{sha}")),
        (format!("snapshots/{FIRST}/{B}"), format!("-> ../../../../../blobs/{git}")),
    ];
    assert_eq!(found, expected.into());
    // The list names every file of the commit.
    let list: Value = serde_json::from_slice(&std::fs::read(home(dir.path()).join(list)).unwrap()).unwrap();
    assert_eq!(list["format_version"], 1);
    assert_eq!(list["files"].as_object().unwrap().len(), files.len());
    assert_eq!(list["files"][A]["lfs_sha256"], sha.as_str());
    assert_eq!(list["files"][B], serde_json::json!({"size": files[B].len(), "blob_id": git}));
}

#[test]
fn what_hugging_faces_tools_fetched_of_a_dataset_is_used() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let files = hub.state().data["main"].1.clone();
    let home = home(dir.path());
    std::fs::create_dir_all(home.join("blobs")).unwrap();
    std::fs::create_dir_all(home.join("refs")).unwrap();
    std::fs::write(home.join("refs/main"), FIRST).unwrap();
    let put = |name: &str, blob: String, target: &str| {
        let link = home.join("snapshots").join(FIRST).join(name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::fs::write(home.join("blobs").join(&blob), &files[name]).unwrap();
        symlink(format!("{target}/{blob}"), link).unwrap();
    };
    put(A, Digest::of(&files[A]).to_string(), "../../../../blobs");
    // Older tools kept no list: without the network, what is here is taken, and it is said.
    let output = run(dir.path(), &hub, EXPERIMENT, &["--offline"]);
    succeeds(&output, "ran 4,");
    succeeds(&output, "it is not known which files dataset repository tests/stories has at main");
    assert_eq!((stored(dir.path()).len(), hub.connections()), (2, 0));
    put(B, git_name(&files[B]), "../../../../../blobs");
    succeeds(&run(dir.path(), &hub, EXPERIMENT, &[]), "ran 4,");
    assert_eq!((stored(dir.path()).len(), hub.fetched()), (4, Vec::new()));
    let output = run(dir.path(), &hub, EXPERIMENT, &["--offline"]);
    succeeds(&output, "ran 0,");
    assert!(!said(&output).contains("not known"), "{}", said(&output));
}

#[test]
fn a_mirror_that_lists_names_alone_is_asked_for_each_file() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    hub.state().names_only = true;
    succeeds(&run(dir.path(), &hub, EXPERIMENT, &[]), "ran 4,");
    // Once for its size and digest, once for its bytes.
    assert_eq!(hub.fetched(), [A, B, A, B]);
    succeeds(&run(dir.path(), &hub, EXPERIMENT, &[]), "ran 0,");
    assert_eq!(hub.fetched(), Vec::<String>::new());
    let output = run(dir.path(), &hub, EXPERIMENT, &["--offline"]);
    succeeds(&output, "ran 0,");
    succeeds(&output, "it is not known which files dataset repository tests/stories has at main");
}

#[test]
fn a_revision_is_another_content_and_a_limit_takes_the_first_stories() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    succeeds(&run(dir, &hub, EXPERIMENT, &[]), "ran 4,");
    hub.fetched();
    let branch = ["--set", "stories.corpus.dataset.revision=refs/pr/1"];
    succeeds(&run(dir, &hub, EXPERIMENT, &branch), "ran 4,");
    // The file that both commits have is not fetched again.
    assert_eq!(hub.fetched(), [B]);
    assert_eq!(stored(dir).last().unwrap().1, "The last one.");
    assert_eq!(std::fs::read_to_string(home(dir).join("refs/refs/pr/1")).unwrap(), SECOND);
    let commit = format!("stories.corpus.dataset.revision={FIRST}");
    succeeds(&run(dir, &hub, EXPERIMENT, &["--set", &commit, "--offline"]), "ran 1, cached 3");

    let limit = ["--set", "stories.corpus.dataset.limit_per_emotion=1"];
    succeeds(&run(dir, &hub, EXPERIMENT, &limit), "ran 4,");
    let texts: Vec<String> = stored(dir).into_iter().map(|story| story.1).collect();
    assert_eq!(texts, ["The sun came out.", "It rained."]);
}

#[test]
fn one_file_is_the_same_stories_wherever_it_is_from() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let file = hub.state().data["main"].1[A].clone();
    std::fs::write(dir.join("copy.parquet"), file).unwrap();
    let local = EXPERIMENT
        .replace("corpus.dataset", "corpus.file")
        .replace("repo = \"tests/stories\"\n", "")
        .replace("files = \"expression/**/*.{parquet,jsonl}\"", "path = \"copy.parquet\"");
    succeeds(&run(dir, &hub, &local, &[]), "ran 4,");
    let hubs = EXPERIMENT.replace("**/*.{parquet,jsonl}", "stories/*.parquet");
    succeeds(&run(dir, &hub, &hubs, &[]), "ran 0,");
}

#[test]
fn neutral_text_may_come_from_a_dataset() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let neutral = "[neutral.dataset]\nrepo = \"tests/stories\"\nfiles = \"other/c*.csv\"\n[vectors]\ndenoise = { components = 1 }\n";
    succeeds(&run(dir.path(), &hub, &format!("{EXPERIMENT}{neutral}"), &[]), "ran 7,");
    assert_eq!(hub.fetched(), [A, B, "other/c%20d.csv"]);
}

#[test]
fn a_glob_that_means_nothing_or_what_cannot_be_read_is_an_error_of_its_line() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let with = |files: &str| {
        let text = EXPERIMENT.replace("expression/**/*.{parquet,jsonl}", files);
        let output = emoflow(dir.path(), &hub.url, &text, &["plan"]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_eq!(hub.fetched(), Vec::<String>::new());
        output
    };
    let nothing = with("expression/*.parquet");
    fails(
        &nothing,
        &["no file of dataset repository tests/stories at aaaaaaa matches `expression/*.parquet`"],
    );
    fails(&nothing, &["exp.toml:9:9", "there is `expression/stories/a.parquet`, `expression/a.csv`, `"]);
    fails(&nothing, &[" and 2 more"]);
    fails(
        &with("expression/**"),
        &["means `expression/stories/more/b.md` of tests/stories", "unknown format"],
    );
    fails(&with("*"), &["means `.gitattributes`", "unknown format", "refs/convert/parquet", "exp.toml:9:9"]);
    // What the pattern tells by itself needs no hub.
    hub.connections();
    for (files, expected) in [
        ("data/*.jsonl.bz2", "has an unsupported compression"),
        ("data.xlsx", "save it as `.csv`"),
        ("data/[.csv", "is not a valid glob pattern"),
        ("../*.csv", "points outside the repository"),
        ("/data/*.csv", "points outside the repository"),
    ] {
        fails(&with(files), &[expected, "exp.toml:9:9"]);
    }
    assert_eq!(hub.connections(), 0);
    let mut state = hub.state();
    let (_, files) = state.data.get_mut("main").unwrap();
    files.insert("../../../../../escaped.csv".to_string(), b"text\nx\n".to_vec());
    drop(state);
    fails(&with("**/*.csv"), &["is no name of a file in a repository", "exp.toml:8:8"]);
}

#[test]
fn a_refusal_speaks_of_the_dataset_repository() {
    let (hub, dir) = (hub(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    let plan = || emoflow(dir, &hub.url, EXPERIMENT, &["plan"]);
    let page = format!("{}/datasets/tests/stories", hub.url);
    hub.state().token = Some("good".into());
    let gated = plan();
    assert_eq!(gated.status.code(), Some(2));
    fails(
        &gated,
        &[
            &format!("dataset repository tests/stories is gated: accept its terms on {page}, then log in"),
            "exp.toml:8:8",
        ],
    );
    hub.state().token = None;
    hub.state().missing = Some("RevisionNotFound");
    fails(
        &plan(),
        &[&format!(
            "dataset repository tests/stories has no revision `main`; its branches and tags are on {page}/tree/main"
        )],
    );
    hub.state().missing = Some("RepoNotFound");
    fails(
        &plan(),
        &[&format!("{} shows no dataset repository tests/stories to someone who is not logged in", hub.url)],
    );
    hub.state().missing = None;
    fails(
        &emoflow(dir, &hub.url, EXPERIMENT, &["plan", "--offline"]),
        &["dataset repository tests/stories at main is not in `", "run once with the network"],
    );
    // A column that is not there is a problem of the repository's line, with the file's name.
    let wrong = EXPERIMENT.replace("text = \"story\"", "text = \"tale\"");
    fails(
        &emoflow(dir, &hub.url, &wrong, &["plan"]),
        &["expression/stories/a.parquet", "no column `tale`; there is `id`, `emotion`, `story`, `topic`"],
    );
    let damaged = tempfile::tempdir().unwrap();
    hub.state().damage = Some(9);
    fails(
        &emoflow(damaged.path(), &hub.url, EXPERIMENT, &["plan"]),
        &["expression/stories/a.parquet of dataset repository tests/stories is damaged"],
    );
}
