//! The commands around a run: `init`, `show`, `diff`, `rm`, `check` of several files, and what tells without running.

use serde_json::Value;

use crate::project::Project;

const EXPERIMENT: &str = r#"
layers = [1, 2]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad", "calm"]
[stories.said.template]
passages = ["I was {emotion} all day, said the old man by the sea.", "She is {emotion} now, and will be so tomorrow."]
[activations]
from_token = 2
[analysis.similarity.cosine]
"#;

fn run(args: &[&str]) -> (u8, String) {
    let mut out = Vec::new();
    let code = emoflow::run([&["emoflow"], args].concat(), &mut out);
    (code, String::from_utf8(out).unwrap())
}

#[test]
fn what_would_run_is_told_without_running() {
    let project = Project::new(EXPERIMENT);
    let plan = |more: &[&str]| project.emoflow("plan", &[&["--device", "cpu"], more].concat());
    assert_eq!(plan(&["--exit-code"]).code, 1);
    let dry = project.run(&["--dry-run"]);
    assert_eq!(dry.code, 0);
    assert_eq!(dry.out, plan(&[]).out);
    assert!(dry.out.contains("of activations"), "{}", dry.out);
    assert!(!project.path("cache").exists() && !project.path("results").exists());
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!((plan(&[]).code, plan(&["--exit-code"]).code), (0, 0));
    // Six stories at two layers of 64 or so numbers in float32, and what stands beside them.
    project.write(&EXPERIMENT.replace("from_token = 2", "from_token = 1"));
    let nodes: Value = serde_json::from_str(&plan(&["--json"]).out).unwrap();
    let activations =
        nodes.as_array().unwrap().iter().find(|n| n["name"] == "activations/demo/said").unwrap();
    let config =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    let numbers = 6 * 2 * config["hidden_size"].as_u64().unwrap();
    let bytes = activations["bytes"].as_u64().unwrap();
    assert!(bytes >= 4 * numbers && bytes <= 4 * numbers + 2000, "{bytes}");
}

#[test]
fn tables_are_shown_and_forgotten() {
    let project = Project::new(EXPERIMENT);
    let show = |more: &[&str]| project.emoflow("show", &[more, &["--device", "cpu"]].concat());
    assert_eq!(show(&["similarity/*"]).code, 4, "nothing is there");
    assert_eq!(show(&["claims"]).code, 2);
    assert_eq!(project.run(&[]).code, 0);
    let shown = show(&["similarity/demo/said", "--rows", "3"]);
    assert_eq!(shown.code, 0);
    assert!(shown.out.contains("cosine: 3 of 18 rows"), "{}", shown.out);
    assert!(shown.out.contains("happy") && shown.out.contains("emotion_a"), "{}", shown.out);
    assert!(show(&["vectors/*"]).out.contains("...] of "), "lists are cut");
    let paths = show(&["similarity/*", "--path"]).out;
    assert!(std::path::Path::new(paths.trim()).is_file(), "{paths}");
    let claims = show(&["claims"]);
    assert!(claims.code == 0 && claims.out.contains("similarity/"), "{}", claims.out);
    assert!(!claims.out.contains("..."), "names are whole, as criteria need them: {}", claims.out);
    assert_eq!(show(&["nothing/*"]).code, 4);

    let rm = |more: &[&str]| project.emoflow("rm", &[more, &["--device", "cpu"]].concat());
    assert_eq!(rm(&["nothing/*"]).code, 4);
    assert_eq!(rm(&["report"]).code, 2);
    let asked = rm(&["vectors/demo/said"]);
    assert!(asked.code == 0 && asked.out.contains("would remove 2 entries"), "{}", asked.out);
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new(), "nothing was removed");
    let removed = rm(&["vectors/demo/said", "--yes"]);
    assert!(removed.out.contains("removed 2 entries"), "{}", removed.out);
    assert!(rm(&["vectors/demo/said"]).out.contains("no results in the cache"));
    assert_eq!(rm(&["similarity/*", "--yes"]).code, 0);
    let again = project.run(&[]);
    assert_eq!(
        again.names("ran"),
        ["similarity/demo/said", "vectors/demo/said"],
        "the report shows it already"
    );
}

#[test]
fn two_runs_are_compared() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).code, 0);
    project.write(&format!("name = \"other\"\n{}", EXPERIMENT.replace("from_token = 2", "from_token = 1")));
    assert_eq!(project.run(&[]).code, 0);
    let [one, two] = ["results/exp", "results/other/run.json"].map(|path| project.path(path));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let (code, out) = run(&["diff", one, one]);
    assert_eq!(code, 0, "{out}");
    let (code, out) = run(&["diff", one, two]);
    assert_eq!(code, 1);
    assert!(out.contains("experiment.activations.from_token 2 -> 1"), "{out}");
    assert!(out.contains("similarity/") && out.contains(" -> "), "{out}");
    let (_, out) = run(&["diff", one, two, "--json"]);
    let both: Value = serde_json::from_str(&out).unwrap();
    assert!(both["fields"].as_array().unwrap().iter().any(|field| field["path"] == "experiment.name"));
    assert!(!both["claims"].as_array().unwrap().is_empty());
    assert_eq!(run(&["diff", one, project.path("cache").to_str().unwrap()]).0, 2);
}

#[test]
fn several_files_are_checked() {
    let project = Project::new(EXPERIMENT);
    let right = project.path("exp.toml");
    let wrong = project.path("wrong.toml");
    let text = std::fs::read_to_string(&right).unwrap();
    std::fs::write(&wrong, text.replace("from_token = 2", "from_token = 2\nfrom_tokne = 2")).unwrap();
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    assert_eq!(run(&["check", right, right]).0, 0);
    assert_eq!(run(&["check", right, wrong]).0, 2);
    let (code, out) = run(&["check", wrong, right, "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told[0]["ok"], &told[1]["ok"]), (2, &Value::Bool(false), &Value::Bool(true)));
    let line = text.lines().position(|line| line == "from_token = 2").unwrap() + 2;
    let problem = &told[0]["problems"][0];
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(line as u64), Some(1)));
    assert!(problem["help"].as_str().unwrap().contains("from_token"));
}

#[test]
fn a_first_experiment_is_written_and_runs() {
    let project = Project::new(EXPERIMENT);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(project.path("models")).unwrap();
    std::os::unix::fs::symlink(root.join("models/demo"), project.path("models/demo")).unwrap();
    let name = project.path("mine");
    let name = name.to_str().unwrap();
    let (code, out) = run(&["init", name]);
    assert_eq!((code, out), (0, format!("{name}.toml\n")));
    assert_eq!(run(&["init", name]).0, 2, "it is there");
    let file = format!("{name}.toml");
    assert_eq!(run(&["check", &file]).0, 0);
    let only = ["--only", "similarity/*", "--device", "cpu", "--quiet"];
    assert_eq!(run(&[&["run", &file], &only[..]].concat()).0, 0);
    let other = project.path("other.toml");
    let other = other.to_str().unwrap();
    assert_eq!(run(&["init", other, "--from", "quikstart"]).0, 2);
    assert_eq!(run(&["init", other, "--from", "quickstart"]).0, 0);
    let written = std::fs::read_to_string(other).unwrap();
    assert_eq!(written, std::fs::read_to_string(root.join("experiments/quickstart.toml")).unwrap());
}

#[test]
fn nothing_is_cancelled_that_was_not_submitted() {
    let project = Project::new(EXPERIMENT);
    let cancelled = project.emoflow("cancel", &[]);
    assert!(cancelled.code == 0 && cancelled.out.starts_with("nothing was submitted"), "{}", cancelled.out);
}

#[test]
fn all_experiments_of_a_project_have_a_line_and_a_run_is_watched_to_its_end() {
    let project = Project::new(EXPERIMENT);
    let place = |folder: &str| project.path(folder).to_str().unwrap().to_string();
    let here = ["--cache", &place("cache"), "--results", &place("results")];
    let (code, out) = run(&[&["status"], &here[..]].concat());
    assert!(code == 0 && out.starts_with("no experiment has results"), "{out}");
    assert_eq!(project.run(&["--only", "stories/*"]).code, 0);
    let (code, out) = run(&[&["status"], &here[..]].concat());
    assert_eq!(code, 0);
    assert!(out.starts_with("exp ") && out.lines().count() == 1, "{out}");
    let (_, out) = run(&[&["status", "--json"], &here[..]].concat());
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&all[0]["experiment"], &all[0]["state"]), (&Value::from("exp"), &Value::from("finished")));
    let watched = project.emoflow("status", &["--watch=0.01"]);
    assert!(watched.code == 0 && watched.out.starts_with("exp: ended "), "{}", watched.out);
    assert_eq!(project.emoflow("status", &["--watch=0"]).code, 2);
}

#[test]
fn shells_complete_names_of_nodes_and_a_project_has_a_default_experiment() {
    let project = Project::new(EXPERIMENT);
    let program = |words: &[&str], variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emoflow"));
        command.args(words).current_dir(project.path(".")).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script) = run(&["completions", shell]);
        assert!(code == 0 && script.contains("EMOFLOW_COMPLETE"), "{script}");
    }
    assert_eq!(run(&["completions", "csh"]).0, 2);
    let complete = |words: &[&str]| {
        let at = (words.len() - 1).to_string();
        let asks = [("EMOFLOW_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", at.as_str()), ("_CLAP_IFS", "\n")];
        program(&[&["--"], words].concat(), &asks).1
    };
    let names = complete(&["emoflow", "explain", "exp.toml", "v"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), ["vectors/demo/said"]);
    assert!(complete(&["emoflow", "show", "exp.toml", "cl"]).contains("claims"));
    assert!(complete(&["emoflow", "pl"]).contains("plan"));
    assert!(complete(&["emoflow", "run", "exp.toml", "--only", "act"]).contains("activations/demo/said"));

    // The file that `init` writes is the one that is meant where none is named.
    assert_eq!(program(&["plan", "--device", "cpu"], &[]).0, Some(2));
    std::fs::rename(project.path("exp.toml"), project.path("experiment.toml")).unwrap();
    assert!(program(&["plan", "--device", "cpu"], &[]).1.contains("vectors/demo/said"));
    assert_eq!(program(&["check"], &[]).0, Some(0));
    assert!(program(&["explain", "vectors/*", "--device", "cpu"], &[]).1.contains("vectors/demo/said"));
}
