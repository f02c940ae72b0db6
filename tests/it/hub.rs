//! The real program against a small local server that plays the hub: what is fetched, when, and where it goes.

mod adapters;
mod datasets;
mod faults;
mod gemma4;
mod mirrors;
mod refusals;
pub mod server;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::{COMMIT, Hub};

const EXPERIMENT: &str = r#"
layers = [0]
[models.tiny]
repo = "tests/tiny"
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["Today she felt {emotion} all day."]
[activations]
from_token = 0
[analysis.similarity.cosine]
"#;

/// `emoflow <command> <experiment>` in the project `dir`, with the hub at `url`.
fn command(dir: &Path, url: &str, experiment: &str, more: &[&str]) -> Command {
    std::fs::write(dir.join("emoflow.toml"), "").unwrap();
    std::fs::write(dir.join("exp.toml"), experiment).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    command.args([more[0], "exp.toml"]).args(&more[1..]).current_dir(dir);
    if more[0] != "check" {
        command.args(["--device", "cpu"]);
    }
    for name in [
        "HUGGING_FACE_HUB_TOKEN",
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
        "EMOFLOW_CACHE",
    ] {
        command.env_remove(name);
    }
    command.env("HF_HOME", dir.join("hf")).env("HF_ENDPOINT", url).env("NO_PROXY", "127.0.0.1");
    command
}

fn run(dir: &Path, hub: &Hub, more: &[&str]) -> Output {
    command(dir, &hub.url, EXPERIMENT, &[&["run", "--quiet"], more].concat()).output().unwrap()
}

fn plan(dir: &Path, hub: &Hub, more: &[&str]) -> Output {
    command(dir, &hub.url, EXPERIMENT, &[&["plan"], more].concat()).output().unwrap()
}

/// Everything that it printed.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[track_caller]
fn succeeds(output: &Output, expected: &str) {
    assert!(output.status.success() && said(output).contains(expected), "{}", said(output));
}

#[track_caller]
fn fails(output: &Output, expected: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    for part in expected {
        // Long problems are wrapped.
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&said).contains(&words(part)), "no `{part}` in:\n{said}");
    }
}

/// The repository's folder in the cache of Hugging Face's tools.
fn home(dir: &Path) -> PathBuf {
    dir.join("hf/hub/models--tests--tiny")
}

/// Files in `blobs/`, in order.
fn blobs(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home(dir).join("blobs")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn weights_are_fetched_once_and_only_to_be_loaded() {
    let hub = Hub::start("llama-gqa");
    hub.state().token = Some("secret".to_string());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("hf")).unwrap();
    std::fs::write(dir.path().join("hf/token"), "secret\n").unwrap();
    succeeds(&plan(dir.path(), &hub, &[]), "5 to run, 0 cached");
    assert_eq!(hub.fetched(), ["config.json", "tokenizer.json", "tokenizer_config.json"]);

    succeeds(&run(dir.path(), &hub, &[]), "ran 5, cached 0");
    let asked = hub.asked();
    let (storage, rest): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| asked.storage);
    assert_eq!(storage.len(), 1, "{storage:?}");
    assert_eq!(storage[0].authorization, None, "the token went to another host");
    assert!(rest.iter().all(|a| a.authorization.as_deref() == Some("Bearer secret")), "{rest:?}");
    let run_json = std::fs::read_to_string(dir.path().join("results/exp/run.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(&run_json).unwrap();
    assert_eq!(recorded["models"][0]["commit"], COMMIT);
    assert_eq!(std::fs::read_to_string(home(dir.path()).join("refs/main")).unwrap(), COMMIT);

    succeeds(&run(dir.path(), &hub, &[]), "ran 0,");
    assert_eq!(hub.asked().len(), 1, "only the commit is asked for");
    hub.connections();
    for more in [["run", "--offline"], ["plan", "--offline"]] {
        succeeds(&command(dir.path(), &hub.url, EXPERIMENT, &more).output().unwrap(), "");
    }
    let mut check = command(dir.path(), &hub.url, EXPERIMENT, &["check"]);
    succeeds(&check.output().unwrap(), "no problems");
    let mut offline = command(dir.path(), &hub.url, EXPERIMENT, &["run"]);
    succeeds(&offline.env("HF_HUB_OFFLINE", "ON").output().unwrap(), "ran 0,");
    assert_eq!(hub.connections(), 0, "a socket was opened");

    // Without the weights, everything that was made of them is still known.
    std::fs::remove_dir_all(dir.path().join("hf/hub")).unwrap();
    succeeds(&run(dir.path(), &hub, &[]), "ran 0,");
    assert!(hub.fetched().iter().all(|name| !server::is_large(name)));
    fails(
        &run(dir.path(), &hub, &["--offline"]),
        &["tests/tiny at main is not in `", "run once with the network"],
    );
}

/// The plan's keys.
fn keys(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", said(output));
    let nodes: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    nodes.into_iter().filter(|node| node["name"] != "report").map(|node| node["keys"].clone()).collect()
}

#[test]
fn a_folder_and_a_repository_with_the_same_files_have_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    for fixture in ["llama-gqa", "llama-sharded"] {
        let hub = Hub::start(fixture);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
        let local = EXPERIMENT.replace("repo = \"tests/tiny\"", &format!("path = \"{}\"", folder.display()));
        let expected = keys(&command(dir.path(), &hub.url, &local, &["plan", "--json"]).output().unwrap());
        assert_eq!(keys(&plan(dir.path(), &hub, &["--json"])), expected, "as listed");
        assert!(hub.fetched().iter().all(|name| !server::is_large(name)));
        // A hub that lists no digests: the weights are fetched to be digested.
        std::fs::remove_dir_all(dir.path().join("hf")).unwrap();
        hub.state().names_only = true;
        assert_eq!(keys(&plan(dir.path(), &hub, &["--json"])), expected, "as digested");
        assert!(hub.fetched().iter().any(|name| server::is_large(name)));
        assert_eq!(keys(&plan(dir.path(), &hub, &["--json", "--offline"])), expected, "as fetched");
        std::fs::remove_dir_all(dir.path().join("hf")).unwrap();
    }
}

#[test]
fn only_what_a_checkpoint_needs_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start("llama-sharded");
    hub.state().files.insert("model-of-another-kind.safetensors".to_string(), b"not needed".to_vec());
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
    let mut fetched = hub.fetched();
    fetched.sort();
    let mut expected: Vec<String> =
        (1..=5).map(|shard| format!("model-0000{shard}-of-00005.safetensors")).collect();
    expected.extend(["config.json", "model.safetensors.index.json"].map(String::from));
    expected.extend(["tokenizer.json", "tokenizer_config.json"].map(String::from));
    expected.sort();
    assert_eq!(fetched, expected);

    // A single file goes before shards.
    let both = Hub::start("llama-gqa");
    both.state()
        .files
        .extend(hub.state().files.clone().into_iter().filter(|(name, _)| name.starts_with("model")));
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &both, &[]), "ran 5,");
    let weights: Vec<String> = both.fetched().into_iter().filter(|name| server::is_large(name)).collect();
    assert_eq!(weights, ["model.safetensors"]);
}

#[test]
fn what_hugging_faces_tools_fetched_is_used() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    for folder in ["blobs".to_string(), "refs".to_string(), format!("snapshots/{COMMIT}")] {
        std::fs::create_dir_all(home.join(folder)).unwrap();
    }
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        let content = hub.state().files[name].clone();
        let large = server::is_large(name);
        let blob = if large {
            emoflow::plan::key::Digest::of(&content).to_string()
        } else {
            server::git_name(&content)
        };
        std::fs::write(home.join("blobs").join(&blob), content).unwrap();
        symlink(format!("../../blobs/{blob}"), home.join("snapshots").join(COMMIT).join(name)).unwrap();
    }
    std::fs::write(home.join("refs/main"), COMMIT).unwrap();
    let before = blobs(dir.path());
    succeeds(&run(dir.path(), &hub, &["--offline"]), "ran 5,");
    assert_eq!(hub.connections(), 0);
    succeeds(&run(dir.path(), &hub, &[]), "ran 0,");
    assert_eq!(hub.fetched(), Vec::<String>::new());

    // Another commit with the same weights: nothing of them is fetched again.
    let commit = COMMIT.replace('0', "f");
    hub.state().commit = commit.clone();
    hub.state().files.insert("generation_config.json".to_string(), b"{}".to_vec());
    succeeds(&run(dir.path(), &hub, &[]), "ran 4, cached 1");
    assert_eq!(hub.fetched(), ["generation_config.json"]);
    let weights = home.join("snapshots").join(&commit).join("model.safetensors");
    assert!(std::fs::read_link(weights).unwrap().starts_with("../../blobs"));
    assert_eq!(blobs(dir.path()).len(), before.len() + 1);
    assert_eq!(std::fs::read_to_string(home.join("refs/main")).unwrap(), commit);
}

#[test]
fn two_runs_at_once_fetch_once() {
    let hub = Hub::start("llama-gqa");
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let children = dirs.each_ref().map(|dir| {
        let mut command = command(dir.path(), &hub.url, EXPERIMENT, &["run", "--quiet"]);
        let command = command.env("HF_HOME", dirs[0].path().join("hf"));
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap()
    });
    for child in children {
        succeeds(&child.wait_with_output().unwrap(), "ran 5,");
    }
    assert_eq!(hub.asked().iter().filter(|asked| asked.storage).count(), 1);
    assert!(blobs(dirs[0].path()).iter().all(|name| !name.ends_with("incomplete")));
}

#[test]
fn a_revision_is_a_branch_or_a_commit() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    let refs = home(dir.path()).join("refs");
    let commit = format!("models.tiny.revision={COMMIT}");
    succeeds(&run(dir.path(), &hub, &["--set", &commit]), "ran 5,");
    assert!(!refs.exists(), "a commit needs no note");
    succeeds(&run(dir.path(), &hub, &["--set", &commit, "--offline"]), "ran 0,");
    fails(&run(dir.path(), &hub, &["--offline"]), &["tests/tiny at main is not in `"]);
    let branch = "models.tiny.revision=refs/pr/1";
    hub.fetched();
    succeeds(&run(dir.path(), &hub, &["--set", branch]), "ran 0,");
    assert_eq!(hub.fetched(), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(refs.join("refs/pr/1")).unwrap(), COMMIT);
    succeeds(&run(dir.path(), &hub, &["--set", branch, "--offline"]), "ran 0,");
}

#[test]
fn progress_is_as_asked_for() {
    let shown = |style: &[&str]| {
        let hub = Hub::start("llama-gqa");
        let dir = tempfile::tempdir().unwrap();
        let output = command(dir.path(), &hub.url, EXPERIMENT, &[&["run"], style].concat()).output().unwrap();
        succeeds(&output, "ran 5,");
        String::from_utf8(output.stderr).unwrap()
    };
    let plain = shown(&["--progress", "plain"]);
    assert_eq!(plain.matches("fetch tests/tiny: 1 MB\n").count(), 2, "{plain}");
    assert_eq!(shown(&["--quiet"]), "");
}

#[test]
fn a_renamed_repository_is_followed() {
    let hub = Hub::start("llama-gqa");
    hub.state().renamed = true;
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
}
