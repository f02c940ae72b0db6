//! Sweeps over several models: one that fails does not stop the others, each is loaded once, and a sweep goes on where
//! it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use emoflow::lm::weights;
use serde_json::Value;
use tch::Tensor;

use crate::hub::server::Hub;
use crate::interrupt::Running;
use crate::project::{Project, Ran};

const EXPERIMENT: &str = r#"
name = "exp"
layers = [0]
[models.one]
path = "one"
[models.bad]
path = "bad"
[models.two]
path = "two"
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["Today she felt {emotion} all day.", "Why are you {emotion}?"]
[stories.told.generate]
model = "bad"
topics = ["rain"]
per_topic = 1
max_new_tokens = 8
reject = { names_emotion = false, attempts = 1 }
[activations]
from_token = 0
[analysis.similarity.cosine]
"#;

/// What is there when nothing of `bad` and of its stories is.
const OTHERS: [&str; 8] = [
    "activations/one/said",
    "activations/two/said",
    "report",
    "similarity/one/said",
    "similarity/two/said",
    "stories/said",
    "vectors/one/said",
    "vectors/two/said",
];

/// Copies a fixture into the project's folder `name`.
fn model(project: &Project, name: &str, fixture: &str) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    std::fs::create_dir_all(project.path(name)).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), project.path(name).join(file.file_name())).unwrap();
    }
}

/// `one` and `two` are whole; `bad` has an architecture that nobody knows.
fn project() -> Project {
    let project = Project::new(EXPERIMENT);
    model(&project, "one", "tests/fixtures/llama-gqa");
    model(&project, "two", "tests/fixtures/mistral");
    model(&project, "bad", "tests/fixtures/llama-untied");
    let config = r#"{"architectures": ["BertModel"], "model_type": "bert"}"#;
    std::fs::write(project.path("bad/config.json"), config).unwrap();
    project
}

fn reasons(project: &Project) -> BTreeMap<String, String> {
    let run = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_string();
    run["nodes"].as_array().unwrap().iter().map(|n| (text(&n["name"]), text(&n["reason"]))).collect()
}

fn page(project: &Project) -> String {
    crate::page(&project.path("results/exp/report.html"))
}

#[test]
fn a_model_that_cannot_be_pinned_is_left_out_until_it_can() {
    let project = project();
    // A check says what is wrong; a plan and a run go on without it.
    assert_eq!(project.emoflow("check", &[]).code, 2);
    let plan = project.emoflow("plan", &["--device", "cpu"]);
    assert_eq!(plan.code, 0);
    let lines: Vec<&str> = plan.out.lines().collect();
    assert!(lines[0].starts_with("models/bad ") && lines[0].contains(" absent "), "{}", plan.out);
    assert!(lines[0].contains("`BertModel`"), "{}", plan.out);
    assert!(lines[1].starts_with("stories/told ") && lines[1].ends_with("needs models/bad"), "{}", plan.out);
    assert_eq!(lines.last(), Some(&"2 absent, 8 to run, 0 cached"));
    let json: Value =
        serde_json::from_str(&project.emoflow("plan", &["--device", "cpu", "--json"]).out).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["state"]), (&"models/bad".into(), &"absent".into()));
    assert!(json[0]["reason"].as_str().unwrap().contains("`BertModel`"), "{}", json[0]);

    let ran = project.run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "ran 8, cached 0, failed 2\n"));
    assert_eq!(ran.names("ran"), OTHERS);
    assert_eq!((ran.names("failed"), ran.names("blocked")), (vec!["models/bad"], vec!["stories/told"]));
    assert!(reasons(&project)["models/bad"].contains("`BertModel`"));
    let first = page(&project);
    assert!(first.contains("Missing: models/bad") && first.contains("needs models/bad"), "{first}");
    let again = project.run(&[]);
    assert_eq!((again.code, again.out.as_str()), (1, "ran 0, cached 8, failed 2\n"));
    let status: Value = serde_json::from_str(&project.emoflow("status", &["--json"]).out).unwrap();
    assert_eq!((&status["state"], &status["nodes"][0]["name"]), (&"failed".into(), &"models/bad".into()));
    assert_eq!(project.emoflow("report", &["--device", "cpu"]).code, 0);
    assert_eq!(page(&project), first);
    let explained = project.emoflow("explain", &["vectors/bad/said", "--device", "cpu"]);
    assert!(explained.out.starts_with("models/bad: absent: "), "{}", explained.out);

    // What does not ask for it does not fail for it.
    let part = |pattern: &str| project.run(&["--only", pattern]);
    assert_eq!((part("vectors/two/said").code, part("model:two,source:said").code), (0, 0));
    let asked = |ran: &Ran| [ran.names("failed"), ran.names("blocked")].concat().join(" ");
    let (bad, told) = (part("model:bad,layer:0"), part("source:told"));
    assert_eq!((bad.code, asked(&bad).as_str()), (1, "models/bad"));
    assert_eq!((told.code, asked(&told).as_str()), (1, "models/bad stories/told"));
    assert_eq!(part("similarity/two/told").code, 1);
    let fast = project.run(&["--fail-fast", "--set", "activations.from_token=1"]);
    assert_eq!((fast.code, fast.names("ran")), (1, vec!["report"]));

    // Mended: only what is missing runs.
    model(&project, "bad", "tests/fixtures/llama-untied");
    let mended = project.run(&[]);
    assert_eq!(mended.code, 0, "{:?}", reasons(&project));
    let others: Vec<&str> = OTHERS.into_iter().filter(|name| *name != "report").collect();
    assert_eq!(mended.names("cached"), others);
    assert_eq!(mended.names("ran").len(), 14);
    assert!(!page(&project).contains("Missing: "));
}

#[test]
fn neutral_text_of_a_missing_model_leaves_no_vectors() {
    let project = project();
    let neutral = "[neutral.generate]\nmodel = \"bad\"\n";
    project.write(
        &format!("{EXPERIMENT}{neutral}")
            .replace("[stories.told.generate]\nmodel = \"bad\"", "[stories.told.generate]"),
    );
    let ran = project.run(&["--only", "*"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.names("blocked"), ["stories/neutral"]);
    assert!(ran.nodes.keys().all(|name| !name.starts_with("vectors/")), "{:?}", ran.nodes);
    let only = project.run(&["--only", "activations/one/said"]);
    assert_eq!((only.code, only.names("ran")), (0, vec!["activations/one/said"]));
    let vectors = project.run(&["--only", "vectors/one/said"]);
    assert_eq!((vectors.code, vectors.names("blocked")), (1, vec!["stories/neutral"]));
}

#[test]
fn what_is_wrong_in_the_file_stops_all_models() {
    let project = project();
    for (old, new) in [("path = \"two\"", "path = \"three\""), ("layers = [0]", "layers = [0, 99]")] {
        project.write(&EXPERIMENT.replace(old, new));
        for command in ["plan", "run", "report"] {
            assert_eq!(project.emoflow(command, &["--device", "cpu"]).code, 2, "{command}: {new}");
        }
    }
    assert!(!project.path("results").exists());
    // With none left, and with a single one, it is an error as before.
    project.write(EXPERIMENT);
    for name in ["one", "two"] {
        std::fs::remove_file(project.path(name).join("tokenizer.json")).unwrap();
    }
    assert_eq!(project.run(&[]).code, 2);
    let alone = EXPERIMENT.split("[models.bad]").next().unwrap().to_string()
        + EXPERIMENT.split("path = \"two\"\n").nth(1).unwrap();
    project.write(&alone.replace("model = \"bad\"", "model = \"one\""));
    assert_eq!(project.run(&[]).code, 2);
}

#[test]
fn weights_that_are_not_the_config_s_leave_their_model_out() {
    let project = project();
    model(&project, "bad", "tests/fixtures/llama-untied");
    let path = project.path("bad/model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    let ran = project.run(&[]);
    assert_eq!((ran.code, ran.names("ran")), (1, OTHERS.to_vec()));
    assert_eq!((ran.names("failed"), ran.names("blocked")), (vec!["models/bad"], vec!["stories/told"]));
    let why = &reasons(&project)["models/bad"];
    assert!(why.contains("model.safetensors: its") && why.contains("not as many"), "{why}");
}

#[test]
fn weights_that_show_to_be_wrong_when_they_are_read_fail_their_model_alone() {
    let project = project();
    project.write(&EXPERIMENT.replace("model = \"bad\"", "model = \"one\""));
    model(&project, "bad", "tests/fixtures/qwen2-tied");
    let path = project.path("bad/model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    // What is tied to the embedding is stored beside it, and differs.
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    let embed = tensors.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap().1.copy();
    tensors.push(("lm_head.weight".into(), embed + 1));
    weights::save(&path, &tensors).unwrap();
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.names("failed"), ["activations/bad/said", "activations/bad/told"]);
    assert!(ran.names("blocked").iter().all(|name| name.contains("/bad/")));
    assert_eq!(ran.names("blocked").len(), 4);
    let why = &reasons(&project)["activations/bad/said"];
    assert!(why.contains("load bad") && why.contains("differs"), "{why}");
    for name in ["one", "two"] {
        assert!(ran.names("ran").contains(&format!("similarity/{name}/told").as_str()), "{:?}", ran.nodes);
    }
    std::fs::write(&path, whole).unwrap();
    let mended = project.run(&[]);
    assert_eq!(mended.code, 0);
    assert!(mended.names("ran").iter().all(|name| name.contains("/bad/") || *name == "report"));
    assert_eq!(mended.names("ran").len(), 7);
}

#[test]
fn a_gated_model_is_left_out_until_access_is_granted() {
    let hub = Hub::start("llama-untied");
    let project = project();
    let text = EXPERIMENT.replace("path = \"bad\"", "repo = \"tests/tiny\"").replace("model = \"bad\"", "");
    project.write(&text);
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        command.args(["run", "exp.toml", "--quiet", "--device", "cpu"]).current_dir(project.path("."));
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "EMOFLOW_CACHE"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", project.path("hf")).env("HF_ENDPOINT", &hub.url).env("NO_PROXY", "127.0.0.1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    hub.state().token = Some("good".to_string());
    let (code, said) = run();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: model `bad`: tests/tiny is gated: accept its terms on "), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("ran 16, cached 0, failed 1"), "{said}");
    assert!(page(&project).contains("tests/tiny is gated"));
    // The weights are refused later than the rest was given: its nodes fail alone, too.
    hub.state().token = None;
    hub.state().damage = Some(100);
    let (code, said) = run();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("model.safetensors of tests/tiny is damaged"), "{said}");
    hub.state().damage = None;
    let (code, said) = run();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ran 8, cached 15, failed 0"), "{said}");
}

#[test]
fn each_model_is_loaded_once() {
    let project = project();
    project.write(
        &EXPERIMENT
            .replace("[models.bad]\npath = \"bad\"\n", "")
            .replace("model = \"bad\"", "model = \"two\""),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_emoflow"))
        .args(["run", project.path("exp.toml").to_str().unwrap()])
        .args(["--verbose", "--progress", "plain", "--device", "cpu"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let loads: Vec<&str> = said.lines().filter(|line| line.contains(": load ")).collect();
    // `two` writes first, so it also reads first.
    assert_eq!(loads, ["two: load two", "one: load one"], "{said}");
}

/// A sweep over copies of the demonstration model that differ in a comment of theirs.
const SWEEP: &str = r#"
name = "exp"
layers = [1]
shard = 4
{models}
[emotions]
words = ["happy", "joyful", "sad", "angry"]
[stories.own.generate]
model = "self"
topics = ["a lost key", "rain"]
per_topic = 1
max_new_tokens = 60
[activations]
from_token = 3
[analysis.space.pca]
components = 2
"#;

fn sweep(names: &[&str]) -> String {
    let models: String = names.iter().map(|name| format!("[models.{name}]\npath = \"{name}\"\n")).collect();
    SWEEP.replace("{models}", &models)
}

#[test]
fn a_sweep_goes_on_where_it_was_and_takes_models_in_and_out() {
    let project = Project::new(&sweep(&["a", "b", "c"]));
    for (index, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        model(&project, name, "models/demo");
        let path = project.path(name).join("tokenizer_config.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + &"\n".repeat(1 + index)).unwrap();
    }
    let of = |name: &str| -> Vec<String> {
        ["activations/{}/own", "space/{}/own", "stories/own@{}", "vectors/{}/own"]
            .map(|node| node.replace("{}", name))
            .into()
    };
    // Stopped while the third model writes.
    let mut running = Running::start(&project, &[]);
    running.until("the third model", || {
        let text = std::fs::read(project.path("results/exp/run.json")).unwrap_or_default();
        let Ok(run) = serde_json::from_slice::<Value>(&text) else { return false };
        let plan = run["plan"].as_array().unwrap();
        let node = plan.iter().find(|node| node[0] == "stories/own@c").unwrap();
        let partial =
            |key: &Value| project.path("cache/partial").join(format!("stories-{}", key.as_str().unwrap()));
        node[1].as_array().unwrap().iter().any(|key| partial(key).exists())
    });
    running.signal(libc::SIGINT);
    let (code, _, said) = running.ended();
    assert_eq!(code, Some(75), "{said}");
    let run: Value =
        serde_json::from_slice(&std::fs::read(project.path("results/exp/run.json")).unwrap()).unwrap();
    let nodes = run["nodes"].as_array().unwrap().iter();
    let interrupted =
        nodes.filter(|node| node["state"] == "interrupted").map(|node| node["name"].as_str().unwrap());
    let interrupted: Vec<&str> = interrupted.collect();
    assert_eq!(interrupted.len(), 1);
    assert!(of("c").iter().any(|name| name == interrupted[0]), "{interrupted:?}");
    let ran = |what: &str| {
        let ran = project.run(&[]);
        assert_eq!(ran.code, 0, "{what}: {:?}", ran.nodes);
        let names: Vec<String> = ran.names("ran").into_iter().map(String::from).collect();
        names
    };
    let report = || vec!["report".to_string()];
    let and_report = |mut names: Vec<String>| {
        names.extend(report());
        names.sort();
        names
    };
    assert_eq!(ran("continued"), and_report(of("c")));

    project.write(&sweep(&["a", "b", "c", "d"]));
    assert_eq!(ran("a fourth"), and_report(of("d")));
    assert!(page(&project).contains("Model d"));

    project.write(&sweep(&["a", "c", "d"]));
    assert_eq!(ran("one less"), report());
    assert!(!page(&project).contains("Model b"));
    assert!(!project.path("results/exp/vectors/b").exists());
    project.write(&sweep(&["a", "b", "c", "d"]));
    assert_eq!(ran("there again"), report());
    assert!(page(&project).contains("Model b"));
}
