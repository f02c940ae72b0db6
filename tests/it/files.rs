//! Story files from end to end: what is said of their rows before and after a run, and two experiments of one name.

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [1]

[models.demo]
path = "{demo}"

[emotions]
words = ["grief-stricken", "at ease"]

[stories.mine.file]
path = "stories/*.jsonl"

[activations]
from_token = 0
short = "whole"
"#;

fn project(rows: &str) -> Project {
    let project = Project::new(EXPERIMENT);
    std::fs::create_dir(project.path("stories")).unwrap();
    std::fs::write(project.path("stories/a.jsonl"), rows).unwrap();
    project
}

fn row(emotion: &str, text: &str) -> String {
    format!("{{\"emotion\": \"{emotion}\", \"text\": {text}}}\n")
}

#[test]
fn spelling_does_not_matter_and_what_is_skipped_is_said() {
    let rows = [
        row("Grief_Stricken", "\"The board had not changed since noon.\""),
        row("AT  EASE", "\"They sat in the shade.\""),
        row("grief-striken", "\"She counted the dry leaves.\""),
        row("at ease", "null"),
    ];
    let project = project(&rows.concat());
    let checked = project.emoflow("check", &[]);
    assert_eq!(checked.code, 0);
    for said in [
        "1 row without a text skipped (a.jsonl, line 4)",
        "`grief-striken` (1; did you mean `grief-stricken`?)",
    ] {
        assert!(checked.out.contains(said), "{}", checked.out);
    }
    let ran = project.run(&[]);
    assert_eq!((ran.code, ran.names("failed")), (0, vec![]));
    let report = crate::page(&project.path("results/exp/report.html"));
    assert!(report.contains("1 row without a text skipped") && report.contains("grief-striken"));
}

#[test]
fn an_emotion_without_a_story_stops_the_plan() {
    let project = project(&row("at ease", "\"They sat in the shade.\""));
    for command in ["check", "plan"] {
        assert_eq!(project.emoflow(command, &[]).code, 2, "{command}");
    }
    assert_eq!(project.run(&[]).code, 2);
    assert!(!project.path("results").exists());
}

#[test]
fn a_second_experiment_of_one_name_stops() {
    let rows = [row("grief-stricken", "\"Rain fell.\""), row("at ease", "\"They sat in the shade.\"")];
    let project = project(&rows.concat());
    assert_eq!(project.run(&[]).code, 0);
    let report = || std::fs::read(project.path("results/exp/report.html")).unwrap();
    let before = report();
    let text = std::fs::read_to_string(project.path("exp.toml")).unwrap();
    let second = project.path("second.toml");
    std::fs::write(&second, text.replace("layers = [1]", "layers = [2]")).unwrap();
    let run = |file: &std::path::Path| {
        emoflow::run(
            ["emoflow", "run", file.to_str().unwrap(), "--device", "cpu", "--quiet"],
            &mut Vec::new(),
        )
    };
    assert_eq!(run(&second), 2);
    assert_eq!(report(), before);
    // A file that was renamed, or has another name by now, holds nothing.
    std::fs::write(&second, text.replace("name = \"exp\"", "name = \"other\"")).unwrap();
    assert_eq!(run(&second), 0);
    std::fs::rename(project.path("exp.toml"), project.path("moved.toml")).unwrap();
    assert_eq!(run(&project.path("moved.toml")), 0);
}
