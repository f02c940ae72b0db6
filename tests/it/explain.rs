//! Why nodes run: after one change to the experiment or the cache, `explain` and `run` name exactly that change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::{Project, Ran};

const EXPERIMENT: &str = r#"
name = "exp"
layers = [2, 3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "joyful", "sad", "angry"]

[stories.passages.template]
set = "passages-10"

[neutral.template]
set = "neutral-40"

[activations]
from_token = 3

[vectors]
denoise = { components = 2 }

[analysis.space.pca]
components = 2
[analysis.similarity.cosine]
"#;

fn explain(project: &Project, node: &str, more: &[&str]) -> Ran {
    project.emoflow("explain", &[&[node, "--device", "cpu"], more].concat())
}

/// The first line of `explain`: the node, its state and its reason.
fn said(project: &Project, node: &str) -> String {
    let ran = explain(project, node, &[]);
    assert_eq!(ran.code, 0, "{node}");
    ran.out.lines().next().unwrap().to_string()
}

/// Paths of the fields that the units' causes end in.
fn roots(project: &Project, node: &str) -> Vec<String> {
    fn walk(causes: &Value, found: &mut Vec<String>) {
        for cause in causes.as_array().unwrap() {
            match cause["kind"].as_str().unwrap() {
                "field" => found.push(cause["path"].as_str().unwrap().to_string()),
                "input" => walk(&cause["causes"], found),
                other => found.push(other.to_string()),
            }
        }
    }
    let explained: Value = serde_json::from_str(&explain(project, node, &["--json"]).out).unwrap();
    let mut found = Vec::new();
    for unit in explained[0]["units"].as_array().unwrap() {
        if unit["reason"]["kind"] == "changed" {
            walk(&unit["reason"]["causes"], &mut found);
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The reason of a node in `run.json`.
fn reason(project: &Project, node: &str) -> String {
    let run = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    let nodes = run["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|n| n["name"] == node).unwrap_or_else(|| panic!("no {node}"));
    node["reason"].as_str().unwrap().to_string()
}

/// Every file below a folder, with what `stat` says of it.
fn files(folder: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            found.insert(entry.path(), (metadata.len(), metadata.modified().unwrap()));
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found
}

/// The folder of the one entry of a stage.
fn entry(project: &Project, stage: &str) -> PathBuf {
    let one = |folder: PathBuf| std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    one(one(project.path("cache").join(stage)))
}

#[test]
fn each_field_is_named_and_nothing_else() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(said(&project, "space/demo/passages"), "space/demo/passages: to run: new");
    assert!(!project.path("cache").exists(), "explain wrote something");
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(reason(&project, "vectors/demo/passages"), "new");
    let cached = said(&project, "space/demo/passages");
    assert_eq!(cached, "space/demo/passages: cached: every unit is stored under its key");
    let input = |node: &str, why: &str| format!("input {node} changed: {why}");
    let passages = |why: &str| input("activations/demo/passages", why);
    let cases = [
        (
            "components = 2\n[",
            "components = 1\n[",
            "space/demo/passages",
            "params.analysis.pca.components 2 -> 1".into(),
        ),
        ("from_token = 3", "from_token = 4", "activations/demo/passages", "params.from_token 3 -> 4".into()),
        (
            "from_token = 3",
            "from_token = 4",
            "vectors/demo/passages",
            format!(
                "{}; {}",
                passages("params.from_token 3 -> 4"),
                input("neutral/demo", &input("activations/demo/neutral", "params.from_token 3 -> 4"))
            ),
        ),
        (
            "denoise = { components = 2 }",
            "denoise = { components = 2 }\nnormalize = true",
            "similarity/demo/passages",
            input("vectors/demo/passages", "params.normalize false -> true"),
        ),
        (
            "from_token = 3",
            "from_token = 3\nbatch_tokens = 512",
            "activations/demo/neutral",
            "numerics.batch_tokens 2048 -> 512".into(),
        ),
        (
            "path = \"{demo}\"",
            "path = \"{demo}\"\ndtype = \"f32\"",
            "activations/demo/neutral",
            "numerics.dtype bf16 -> f32".into(),
        ),
    ];
    for (from, to, node, why) in cases {
        assert!(EXPERIMENT.contains(from), "{from}");
        project.write(&EXPERIMENT.replacen(from, to, 1));
        assert_eq!(said(&project, node), format!("{node}: to run: {why}"));
        assert_eq!(roots(&project, node).len(), 1, "{node}");
    }
    project.write(&EXPERIMENT.replace("from_token = 3", "from_token = 4"));
    // What is no longer stored still says which input changed.
    std::fs::remove_dir_all(project.path("cache/vectors")).unwrap();
    std::fs::remove_dir_all(project.path("cache/pca")).unwrap();
    assert_eq!(roots(&project, "space/demo/passages"), ["params.from_token"]);
    // A run gives the same reasons.
    let before: Vec<String> = ["activations/demo/passages", "space/demo/passages"]
        .iter()
        .map(|node| said(&project, node).split_once(": to run: ").unwrap().1.to_string())
        .collect();
    project.run(&[]);
    assert_eq!(reason(&project, "activations/demo/passages"), before[0]);
    assert_eq!(reason(&project, "space/demo/passages"), before[1]);
}

#[test]
fn what_another_experiment_left_is_no_reason() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).code, 0);
    project.write(&EXPERIMENT.replace("\"exp\"", "\"other\"").replace("\"joyful\", ", ""));
    for node in ["stories/passages", "vectors/demo/passages", "space/demo/passages"] {
        assert_eq!(said(&project, node), format!("{node}: to run: new"));
    }
}

#[test]
fn an_analysis_of_chosen_layers_names_what_changed() {
    let text = format!("{EXPERIMENT}\n[analysis.causes.steering]\nrandom = 1\n");
    let project = Project::new(&text);
    assert_eq!(project.run(&[]).code, 0);
    project.write(&text.replace("random = 1", "random = 2"));
    let node = "causes/demo/passages";
    assert_eq!(roots(&project, node).len(), 1, "{}", said(&project, node));
    project.write(&text.replace("from_token = 3", "from_token = 4"));
    assert_eq!(roots(&project, node), ["params.from_token"]);
}

#[test]
fn what_a_model_writes_is_followed_to_its_parameters() {
    let text = EXPERIMENT.replace(
        "[stories.passages.template]\nset = \"passages-10\"",
        "[stories.own.generate]\nmodel = \"self\"\ntopics = [\"a lost key\"]\nper_topic = 2\nmax_new_tokens = 40\n\
         temperature = 0.7\nreject = { names_emotion = true, attempts = 6 }",
    );
    let project = Project::new(&text);
    assert_eq!(project.run(&["--only", "activations/*/own,layer:2"]).code, 0);
    // The other layer was never made, so it is not missing.
    let node = "activations/demo/own";
    assert_eq!(said(&project, node), format!("{node}: partial: 1 of 2 units: new: layer 3"));
    project.write(&text.replace("temperature = 0.7", "temperature = 1.0"));
    assert_eq!(said(&project, "stories/own@demo"), "stories/own@demo: to run: params.temperature 0.7 -> 1.0");
    let ran = project.run(&["--only", "activations/*/own,layer:2"]);
    assert_eq!(ran.names("ran"), ["activations/demo/own", "stories/own@demo"]);
    assert_eq!(reason(&project, "stories/own@demo"), "params.temperature 0.7 -> 1.0");
    let input = "input stories/own@demo changed: params.temperature 0.7 -> 1.0";
    assert_eq!(reason(&project, "activations/demo/own"), format!("1 of 2 units: {input}"));
}

#[test]
fn what_is_added_is_new() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    project.write(&EXPERIMENT.replace("layers = [2, 3]", "layers = [1, 2, 3]"));
    let node = "activations/demo/passages";
    assert_eq!(said(&project, node), format!("{node}: partial: 1 of 3 units: new: layer 1"));
    assert_eq!(
        said(&project, "similarity/demo/passages"),
        "similarity/demo/passages: to run: params.layers: 1 is new; input vectors/demo/passages is new: layer 1"
    );
    project.run(&[]);
    assert_eq!(reason(&project, node), "1 of 3 units: new: layer 1");
    let more = EXPERIMENT.replace(
        "[stories.passages",
        "[stories.more.template]\npassages = [\"So {emotion}.\"]\n\n[stories.passages",
    );
    project.write(&more.replace("layers = [2, 3]", "layers = [1, 2, 3]"));
    assert_eq!(said(&project, "stories/more"), "stories/more: to run: new");
    assert_eq!(said(&project, "vectors/demo/more"), "vectors/demo/more: to run: new");
    assert!(said(&project, node).contains(": cached: "));
    // Another name is no change.
    project.write(&EXPERIMENT.replace("stories.passages", "stories.renamed"));
    assert!(said(&project, "vectors/demo/renamed").contains(": cached: "));
}

#[test]
fn emotions_that_come_are_named() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    project.write(&EXPERIMENT.replace("\"angry\"]", "\"angry\", \"calm\"]"));
    let words = said(&project, "vectors/demo/passages");
    assert!(words.contains("params.emotions: calm is new; input activations/demo/passages changed: input stories/passages changed"), "{words}");
}

#[test]
fn an_artifact_that_is_gone_or_damaged_is_told_apart() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let space = entry(&project, "pca");
    std::fs::remove_dir_all(&space).unwrap();
    assert_eq!(said(&project, "space/demo/passages"), "space/demo/passages: to run: blob missing");
    project.run(&[]);
    assert_eq!(reason(&project, "space/demo/passages"), "blob missing");

    let file = space.join("pca.parquet");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(100);
    std::fs::write(&file, bytes).unwrap();
    let before = said(&project, "space/demo/passages");
    assert!(before.contains("to run: damaged (pca.parquet has 100 bytes, the manifest says "), "{before}");
    assert!(!project.path("cache/quarantine").exists(), "explain moved something");
    project.run(&[]);
    let reason = reason(&project, "space/demo/passages");
    let place = reason.strip_prefix("damaged (set aside as ").unwrap().strip_suffix(")").unwrap();
    assert!(project.path("cache").join(place).is_dir(), "{reason}");
}

#[test]
fn a_run_that_failed_does_not_hide_what_changed() {
    let short =
        EXPERIMENT.replace("set = \"passages-10\"", "passages = [\"{emotion} wwwwwwwwwwwwwwwwwwwwwwwwwww\"]");
    let project = Project::new(&short);
    assert_eq!(project.run(&[]).code, 0);
    project.write(&short.replace("from_token = 3", "from_token = 30"));
    assert_eq!(project.run(&[]).names("failed"), ["vectors/demo/passages"]);
    assert_eq!(roots(&project, "space/demo/passages"), ["params.from_token"]);
    assert!(said(&project, "vectors/demo/passages").contains("params.from_token 3 -> 30"));
    project.write(&short);
    assert!(said(&project, "space/demo/passages").contains(": cached: "));
}

#[test]
fn a_file_that_is_touched_copied_or_moved_runs_nothing() {
    let text = EXPERIMENT.replace("template]\nset = \"passages-10\"", "file]\npath = \"own.csv\"");
    let project = Project::new(&text);
    let mut csv = "emotion,text\n".to_string();
    for (n, emotion) in ["happy", "joyful", "sad", "angry"].iter().cycle().take(12).enumerate() {
        csv += &format!("{emotion},The {n} of them went home along the river and said nothing of it.\n");
    }
    std::fs::write(project.path("own.csv"), &csv).unwrap();
    assert_eq!(project.run(&[]).code, 0);
    let nothing = |what: &str| {
        let ran = project.run(&[]);
        assert_eq!((ran.code, ran.names("ran")), (0, vec![]), "{what}");
    };
    let file = std::fs::File::options().append(true).open(project.path("own.csv")).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
    nothing("touched");
    std::fs::copy(project.path("own.csv"), project.path("copy.csv")).unwrap();
    project.write(&text.replace("own.csv", "copy.csv"));
    nothing("copied");
    std::fs::rename(project.path("copy.csv"), project.path("moved.csv")).unwrap();
    project.write(&text.replace("own.csv", "moved.csv"));
    nothing("moved");
    // One letter of it is a change.
    std::fs::write(project.path("moved.csv"), csv.replace("The 3 of", "The 4 of")).unwrap();
    assert_eq!(roots(&project, "space/demo/passages"), ["params.files[0].content"]);
}

#[test]
fn looking_writes_nothing() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    project.write(&EXPERIMENT.replace("from_token = 3", "from_token = 4"));
    let before = files(&project.path("."));
    explain(&project, "*", &[]);
    explain(&project, "report", &["--json"]);
    for more in [&[][..], &["--json"]] {
        project.emoflow("plan", &[&["--device", "cpu"], more].concat());
    }
    assert_eq!(files(&project.path(".")), before);
    assert_eq!(explain(&project, "no/such/node", &[]).code, 4);
}
