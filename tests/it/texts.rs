//! What a user is told of texts that do not count, and of results that cannot be written: own stories in a CSV file.

use std::process::Command;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [1]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad"]
[stories.mine.file]
path = "s.csv"
[activations]
from_token = 6
[analysis.space.pca]
components = 1
"#;

fn project(sad: &[&str]) -> Project {
    let project = Project::new(EXPERIMENT);
    let long = "She laughed and ran down the hill with the dog beside her all the way to the old river";
    let mut rows = format!("emotion,text\nhappy,{long}\nhappy,{long} again\n");
    sad.iter().for_each(|text| rows.push_str(&format!("sad,{text}\n")));
    std::fs::write(project.path("s.csv"), rows).unwrap();
    project
}

/// Exit code and all that the real program says.
fn said(project: &Project, command: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    program.arg(command).arg(project.path("exp.toml")).args(["--device", "cpu"]).args(more);
    let output = program.env_remove("LD_LIBRARY_PATH").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn texts_that_are_too_short_are_told_by_emotion_after_the_run_and_in_the_plan() {
    let project = project(&["He cried.", "He cried and walked home in the rain with nobody beside him"]);
    let wanted = "1 of 4 texts too short for from_token = 6 (sad 1 of 2)";
    let (code, run) = said(&project, "run", &[]);
    assert_eq!(code, Some(0), "{run}");
    assert!(run.contains(&format!("activations/demo/mine: {wanted}")), "{run}");
    let (_, plan) = said(&project, "plan", &[]);
    assert!(plan.lines().any(|line| line.starts_with("activations") && line.contains(wanted)), "{plan}");
}

#[test]
fn an_emotion_of_which_nothing_can_be_read_fails_with_the_lengths_and_the_remedy() {
    let project = project(&["He cried.", "Rain."]);
    let (code, said) = said(&project, "run", &[]);
    assert_eq!(code, Some(1), "{said}");
    for wanted in
        ["`sad` has no story to average: its 2 are too short", "`from_token` = 6", "`short` = \"skip\""]
    {
        assert!(said.contains(wanted), "no `{wanted}`: {said}");
    }
}

#[test]
fn a_report_does_not_replace_what_is_there_by_nothing() {
    let project = project(&["He cried and walked home in the rain with nobody beside him at all"]);
    assert_eq!(project.run(&[]).code, 0);
    let files = ["report.html", "tables/space.parquet", "tables/space.csv", "vectors/demo/mine.parquet"];
    let read = || files.map(|file| std::fs::read(project.path("results/exp").join(file)).unwrap());
    let before = read();
    let (code, told) = said(&project, "report", &["--set", "activations.from_token=7"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is not changed") && told.contains("vectors/demo/mine, space/demo/mine"), "{told}");
    assert_eq!(read(), before);
    assert_eq!(said(&project, "report", &[]).0, Some(0));
    // Where there is nothing to lose, what there is is shown, and what is missing is said.
    std::fs::remove_dir_all(project.path("results")).unwrap();
    let (code, told) = said(&project, "report", &["--set", "activations.from_token=7"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("missing in it: vectors/demo/mine, space/demo/mine"), "{told}");
    assert!(project.path("results/exp/stories/mine.csv").is_file());
}

#[test]
fn a_model_without_a_chat_template_is_refused_before_anything_is_written() {
    let project = project(&["He cried and walked home in the rain with nobody beside him at all"]);
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let plain = project.path("plain");
    std::fs::create_dir(&plain).unwrap();
    for entry in std::fs::read_dir(demo).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "chat_template.jinja" {
            std::fs::copy(entry.path(), plain.join(entry.file_name())).unwrap();
        }
    }
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(plain.join("tokenizer_config.json")).unwrap()).unwrap();
    let mut config = config.as_object().unwrap().clone();
    config.remove("chat_template");
    std::fs::write(plain.join("tokenizer_config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    let check = |model: &str, more: &str| {
        project.write(
            &EXPERIMENT.replace("{demo}", model).replace("from_token = 6", &format!("from_token = 6{more}")),
        );
        let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        let output =
            program.arg("check").arg(project.path("exp.toml")).env_remove("LD_LIBRARY_PATH").output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("plain", "").0, Some(0));
    assert_eq!(check("{demo}", "\nwrap = \"user\"").0, Some(0));
    for (more, wanted) in [
        (
            "\nwrap = \"user\"",
            "`wrap = \"user\"` in `[activations]` needs a chat template, and model `demo` has none",
        ),
        ("\n[analysis.known.implicit]", "`[analysis.known.implicit]` needs a chat template"),
    ] {
        let (code, told) = check("plain", more);
        assert!(code == Some(2) && told.contains(wanted), "{code:?}: {told}");
    }
}

#[test]
fn commands_that_are_called_otherwise_lead_to_the_one_that_does_it() {
    for (tried, wanted) in [
        ("gc", "emoflow cache gc"),
        ("compare", "comparison"),
        ("list", "emoflow plan"),
        ("tokens", "too short"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_emoflow")).arg(tried).env_remove("LD_LIBRARY_PATH").output();
        let output = output.unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(wanted), "{tried}: {told}");
    }
}

#[test]
fn layers_and_folders_that_are_not_there_come_with_what_to_write() {
    let project = project(&["He cried."]);
    for (from, to, wanted) in [
        ("layers = [1]", "layers = [20]", "`layers = { depth = 0.667 }`"),
        ("layers = [1]", "layers = [20]", "`layers` in `[models.demo]`"),
        ("path = \"{demo}\"", "path = \"owner/name\"", "a model of the hub is `repo = \"owner/name\"`"),
    ] {
        project.write(&EXPERIMENT.replace(from, to));
        let (code, told) = said(&project, "plan", &[]);
        assert!(code == Some(2) && told.contains(wanted), "{code:?}: {told}");
    }
}

#[test]
fn what_is_selected_is_written_and_the_end_says_where() {
    let project = project(&["He cried and walked home in the rain with nobody beside him at all"]);
    let results = project.path("results/exp");
    assert_eq!(project.run(&["--only", "stories/*"]).code, 0);
    assert!(results.join("stories/mine.csv").is_file() && !results.join("tables").exists());
    assert_eq!(project.run(&["--only", "space/*"]).code, 0);
    assert!(results.join("tables/space.csv").is_file() && !results.join("report.html").exists());
    let (_, told) = said(&project, "run", &[]);
    assert!(told.contains(&format!("results: {}", results.join("report.html").display())), "{told}");
}
