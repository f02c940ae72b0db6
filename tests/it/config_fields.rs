//! Fields of a checkpoint's `config.json`: what is refused, what is listed, what `ignore_config` does.

use emoflow::config::{Asked, Experiment};
use serde_json::{Value, json};

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [0]
[models.odd]
path = "odd"
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["Today she felt {emotion} all day.", "Why are you {emotion}?"]
[activations]
from_token = 0
"#;

/// The experiment on a checkpoint whose `config.json` has `more`, with `ignore_config` as it stands in TOML.
fn project(more: &Value, ignore: &str) -> Project {
    let project = Project::new(&EXPERIMENT.replace("\"odd\"", &format!("\"odd\"\n{ignore}")));
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
    std::fs::create_dir(project.path("odd")).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, project.path("odd").join(path.file_name().unwrap())).unwrap();
    }
    let config = project.path("odd/config.json");
    let mut read: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    for (key, value) in more.as_object().unwrap() {
        read[key] = value.clone();
    }
    std::fs::write(config, read.to_string()).unwrap();
    project
}

/// What `check` finds wrong.
fn problems(project: &Project) -> String {
    let check = |asked: &Asked| emoflow::resolve::check(asked, &mut Vec::new());
    let read = Experiment::read_with(&project.path("exp.toml"), &[], &check);
    read.err().map_or(String::new(), |problems| problems.to_string())
}

fn model(project: &Project) -> Value {
    let run = std::fs::read_to_string(project.path("results/exp/run.json")).unwrap();
    serde_json::from_str::<Value>(&run).unwrap()["models"][0].clone()
}

#[test]
fn a_field_is_refused_listed_or_ignored() {
    let odd = json!({"odd_field": 3, "pruned_heads": {"0": [1]}});
    let refused = problems(&project(&odd, ""));
    assert!(refused.contains("ignore_config = [\"pruned_heads\"]"), "{refused}");
    assert!(!refused.contains("odd_field"), "{refused}");

    let unknown = problems(&project(&odd, "ignore_config = [\"pruned_heads\", \"prune\"]"));
    assert!(unknown.contains("has no field `prune`"), "{unknown}");

    let taken = project(&odd, "ignore_config = [\"pruned_heads\", \"odd_field\"]");
    assert_eq!(taken.run(&[]).code, 0);
    let taken = model(&taken);
    assert_eq!(taken["config_ignored"], json!(["pruned_heads"]));
    let unread = taken["config_unread"].as_array().unwrap();
    assert!(unread.contains(&json!("odd_field")) && !unread.contains(&json!("hidden_size")), "{unread:?}");

    // The file is the same where nothing of it is ignored; the model is not.
    let plain = json!({"rope_theta": 10_000.0});
    let digest = |ignore: &str| {
        let project = project(&plain, ignore);
        assert_eq!(project.run(&[]).code, 0);
        model(&project)["digest"].clone()
    };
    let before = digest("");
    assert_ne!(before, digest("ignore_config = [\"rope_theta\"]"));
    assert_eq!(before, digest("ignore_config = [\"initializer_range\"]"));
}
