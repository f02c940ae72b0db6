//! What part of an experiment runs: `--only`, `--limit`; and how `plan` shows it.

use std::collections::{BTreeMap, BTreeSet};

use emoflow::store::parquet;
use serde_json::Value;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [2, 3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "joyful", "sad", "angry"]

[stories.passages.template]
set = "passages-10"

[stories.short.template]
passages = ["She felt {emotion} and went home along the river.", "He was {emotion} when the train came in."]

[neutral.template]
set = "neutral-40"

[activations]
from_token = 3

[vectors]
denoise = { components = 2 }

[analysis.space.pca]
components = 2
"#;

/// Nodes of `plan --json` by name.
fn plan(project: &Project, more: &[&str]) -> BTreeMap<String, Value> {
    let ran = project.emoflow("plan", &[&["--device", "cpu", "--json"], more].concat());
    assert_eq!(ran.code, 0, "{more:?}");
    let nodes: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    nodes.into_iter().map(|node| (node["name"].as_str().unwrap().to_string(), node)).collect()
}

/// Names and numbers of units that a run with `--only` would make on an empty cache.
fn runs(project: &Project, only: &[&str]) -> Vec<String> {
    let args: Vec<&str> = only.iter().flat_map(|pattern| ["--only", pattern]).collect();
    let nodes = plan(project, &args);
    nodes.iter().map(|(name, node)| format!("{name} {}", node["missing"])).collect()
}

#[test]
fn names_and_keys_select_units_and_what_they_need() {
    let project = Project::new(EXPERIMENT);
    let neutral = ["activations/demo/neutral", "neutral/demo", "stories/neutral"];
    let one_layer = |stories: &str| {
        let mut nodes = vec![
            "activations/demo/neutral 1".to_string(),
            format!("activations/demo/{stories} 1"),
            "neutral/demo 1".into(),
            "stories/neutral 1".into(),
            format!("stories/{stories} 1"),
            format!("vectors/demo/{stories} 1"),
        ];
        nodes.sort();
        nodes
    };
    assert_eq!(
        runs(&project, &["stories/*"]),
        ["stories/neutral 1", "stories/passages 1", "stories/short 1"]
    );
    assert_eq!(runs(&project, &["stage:stories,source:short"]), ["stories/short 1"]);
    assert_eq!(runs(&project, &["stage:vectors,source:short,layer:3"]), one_layer("short"));
    assert_eq!(runs(&project, &["vectors/*/passages,layer:2"]), one_layer("passages"));
    let both = runs(&project, &["stories/short", "source:neutral,model:demo,layer:2"]);
    let layer_2: Vec<String> = neutral.iter().map(|name| format!("{name} 1")).collect();
    assert_eq!(both, [&layer_2[..], &["stories/short 1".to_string()]].concat());
    // An analysis by its name or its kind: it reads all layers.
    let by_kind = runs(&project, &["stage:pca,source:short"]);
    assert_eq!(by_kind, runs(&project, &["space/demo/short"]));
    assert!(by_kind.contains(&"vectors/demo/short 2".to_string()), "{by_kind:?}");
    // Neutral text is about no emotion.
    let sad = runs(&project, &["stage:stories,emotion:sad"]);
    assert_eq!(sad, ["stories/passages 1", "stories/short 1"]);
    let all = runs(&project, &[]);
    for everything in ["*", "report"] {
        assert_eq!(runs(&project, &[everything]), all);
    }
}

#[test]
fn a_layer_runs_alone_and_the_rest_later() {
    let project = Project::new(EXPERIMENT);
    let ran = project.run(&["--only", "stage:vectors,source:short,layer:3"]);
    assert_eq!(ran.code, 0);
    assert!(!project.path("results/exp/report.html").exists());
    let nodes = plan(&project, &[]);
    let of = |name: &str| (nodes[name]["state"].as_str().unwrap(), nodes[name]["missing"].as_u64().unwrap());
    assert_eq!(of("vectors/demo/short"), ("partial", 1));
    assert_eq!(of("activations/demo/short"), ("partial", 1));
    assert_eq!(of("activations/demo/passages"), ("to run", 2));
    assert_eq!(of("stories/short"), ("cached", 0));
    assert_eq!(of("space/demo/short"), ("to run", 1));
    // What was done of a kind tells what more of it takes.
    assert!(nodes["activations/demo/passages"]["seconds"].as_f64().unwrap() > 0.0);
    assert!(nodes["space/demo/short"]["seconds"].is_null());
    assert_eq!(project.run(&[]).code, 0);
    assert!(plan(&project, &[]).values().all(|node| node["state"] == "cached"));
    std::fs::remove_dir_all(project.path("cache/activations")).unwrap();
    let state = plan(&project, &[])["activations/demo/short"]["state"].clone();
    assert_eq!(state, "not needed");
    assert_eq!(plan(&project, &["--only", "activations/*"])["activations/demo/short"]["state"], "to run");
}

#[test]
fn what_cannot_be_made_is_blocked_with_what_needs_it() {
    let own = "[stories.own.generate]\nmodel = \"self\"\ntopics = [\"a lost key\"]\nper_topic = 2\n\
               max_new_tokens = 100000000\n\n[neutral";
    let project = Project::new(&EXPERIMENT.replace("[neutral", own).replace("{demo}", "roomy"));
    // The demonstration model with room for very long texts.
    std::fs::create_dir(project.path("roomy")).unwrap();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    for file in std::fs::read_dir(demo).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), project.path("roomy").join(file.file_name())).unwrap();
    }
    let config = project.path("roomy/config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["max_position_embeddings"] = 200_000_000.into();
    std::fs::write(&config, json.to_string()).unwrap();
    let nodes = plan(&project, &[]);
    let of = |name: &str| (nodes[name]["state"].as_str().unwrap(), nodes[name]["reason"].as_str().unwrap());
    let (state, why) = of("stories/own@demo");
    assert!(state == "blocked" && why.contains("it does not fit into memory: "), "{why}");
    assert_eq!(of("activations/demo/own"), ("blocked", "needs stories/own@demo"));
    assert_eq!(of("space/demo/own"), ("blocked", "needs vectors/demo/own"));
    assert_eq!(of("space/demo/short"), ("to run", "new"));
    let said = project.emoflow("plan", &["--device", "cpu"]).out;
    assert!(said.ends_with("4 blocked, 12 to run, 0 cached\n"), "{said}");
}

#[test]
fn nothing_selected_exits_4() {
    let project = Project::new(EXPERIMENT);
    for only in
        ["vector/demo/short", "layer:7", "model:demos", "modell:demo", "stage:neutral,source:short", ""]
    {
        for command in ["run", "plan"] {
            let ran = project.emoflow(command, &["--device", "cpu", "--only", only]);
            assert_eq!(ran.code, 4, "{command} {only}");
        }
    }
    assert!(!project.path("cache").exists() || !project.path("cache/stories").exists());
    assert_eq!(project.emoflow("plan", &["--device", "cpu", "--limit", "0"]).code, 2);
}

#[test]
fn suggestions_name_what_is_nearest() {
    let output = |only: &str| {
        let project = Project::new(EXPERIMENT);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emoflow"));
        command.arg("plan").arg(project.path("exp.toml")).args(["--device", "cpu", "--only", only]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = output("vector/demo/short");
    assert!(
        said.starts_with("error: nothing matches `vector/demo/short`; nearest: vectors/demo/short, "),
        "{said}"
    );
    let said = output("layer:7");
    assert!(said.contains("nearest: layer:3, layer:2"), "{said}");
    let said = output("modle:demo");
    assert!(said.contains("nearest: model:, "), "{said}");
}

#[test]
fn a_limited_run_is_a_warm_start() {
    // 30 emotions: a shard of 256 holds 8 stories of each; the other 2 are in the second.
    let text = EXPERIMENT
        .replace("words = [\"happy\", \"joyful\", \"sad\", \"angry\"]", "preset = \"template-30\"")
        .replace("layers = [2, 3]", "layers = [2]");
    let project = Project::new(&text);
    let full = plan(&project, &[]);
    let limited = plan(&project, &["--limit", "5"]);
    let keys = |nodes: &BTreeMap<String, Value>, name: &str| -> Vec<String> {
        nodes[name]["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_string()).collect()
    };
    for name in ["stories/passages", "activations/demo/passages"] {
        assert_eq!(keys(&full, name).len(), 2, "{name}");
        assert_eq!(keys(&limited, name), keys(&full, name)[..1], "{name}");
    }
    for name in ["stories/neutral", "neutral/demo", "stories/short", "vectors/demo/short"] {
        assert_eq!(keys(&limited, name), keys(&full, name), "{name}");
    }
    assert_ne!(keys(&limited, "vectors/demo/passages"), keys(&full, "vectors/demo/passages"));
    assert_eq!(project.run(&["--limit", "5"]).code, 0);
    let after = plan(&project, &[]);
    let partial: BTreeSet<&str> =
        after.iter().filter(|(_, node)| node["state"] == "partial").map(|(name, _)| name.as_str()).collect();
    assert_eq!(partial, BTreeSet::from(["activations/demo/passages", "stories/passages"]));
    // Every emotion has its first 8 passages, then all 10.
    let stories = || {
        let file = std::fs::File::open(project.path("results/exp/vectors/demo/passages.parquet")).unwrap();
        let table = parquet::read(file, "vectors/2").unwrap();
        table.i32("n_stories").unwrap().to_vec()
    };
    assert_eq!(stories(), [8; 30]);
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(stories(), [10; 30]);
    let plan = plan(&project, &["--limit", "8"]);
    assert!(plan.iter().all(|(name, node)| name == "report" || node["state"] == "cached"), "{plan:?}");
}

#[test]
fn graphs_have_a_box_a_stage_and_an_arrow_a_need() {
    let project = Project::new(EXPERIMENT);
    project.run(&["--only", "stories/*"]);
    let graph = |language: &str| project.emoflow("plan", &["--device", "cpu", "--graph", language]).out;
    let wanted = BTreeSet::from([
        ("stories", "activations"),
        ("activations", "neutral"),
        ("activations", "vectors"),
        ("neutral", "vectors"),
        ("vectors", "space"),
        ("stories", "report"),
        ("vectors", "report"),
        ("space", "report"),
    ]);
    let labels = BTreeMap::from([
        ("stories", "3 nodes, 3 of 3 units cached"),
        ("activations", "3 nodes, 0 of 6 units cached"),
        ("neutral", "0 of 2 cached"),
        ("vectors", "2 nodes, 0 of 4 units cached"),
        ("space", "2 nodes, 0 of 2 units cached"),
        ("report", "0 of 1 cached"),
    ]);
    for (language, begins, label_end, arrow, line_break) in [
        ("mermaid", "flowchart LR\n", "\"]", " --> ", "<br/>"),
        ("dot", "digraph plan {\n", "\", ", " -> ", "\\n"),
    ] {
        let text = graph(language);
        assert!(text.starts_with(begins), "{text}");
        let mut boxes = BTreeMap::new();
        let mut arrows = Vec::new();
        for line in text.lines().map(|line| line.trim().trim_end_matches(';')) {
            if let Some((from, to)) = line.split_once(arrow) {
                arrows.push((from.to_string(), to.to_string()));
            } else if let Some((id, rest)) = line.split_once("[\"").or_else(|| line.split_once(" [label=\""))
            {
                let label = rest.split(label_end).next().unwrap();
                boxes.insert(id.to_string(), label.split_once(line_break).unwrap());
            }
        }
        assert_eq!(boxes.values().copied().collect::<BTreeMap<_, _>>(), labels, "{language}");
        let named: BTreeSet<_> = arrows.iter().map(|(from, to)| (boxes[from].0, boxes[to].0)).collect();
        assert_eq!((named, arrows.len()), (wanted.clone(), wanted.len()), "{language}");
    }
    assert!(graph("dot").ends_with("}\n"));
    assert!(graph("mermaid").contains(":::cached") && graph("mermaid").contains("classDef cached "));
}
