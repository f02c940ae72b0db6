//! Preferences and scenarios in the whole program: what is kept when it is killed, what runs again when a file changes, what
//! is refused.

use std::process::Command;

use super::interrupt::{Running, batches, results};
use super::project::Project;

/// Small, on passages; the sets and the activities are files of the project.
const EXPERIMENT: &str = r#"
name = "exp"
layers = [1, 2]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "sad", "angry", "calm"]

[stories.passages.template]
set = "passages-10"

[activations]
from_token = 3

[analysis.likes.preferences]
activities = "acts.csv"
steer = { emotions = ["happy", "sad", "angry", "calm"], strength = [0.2], splits = 1, random = 2 }
bootstrap = 50
permutations = 50

[analysis.door.scenario]
set = "door.toml"
layers = [1, 2]
emotions = ["angry"]
strength = [-0.2, 0.2]
random = 3

[analysis.words.scenario]
set = "door.toml"
evidence = "pattern"
emotions = ["angry"]
strength = [0.2]
positions = "generated"
random = 2
samples = 40
max_new_tokens = 40
read = 0
"#;

const DOOR: &str = r#"
about = "a test"
system = "Be brief."
[[cases]]
name = "open"
turns = ["Open the door for {who}."]
values = { who = ["Ann", "Ben", "Eve", "Kim", "Max"] }
[[cases]]
name = "shut"
control = true
turns = ["Shut the door."]
[choices]
question = "Do it?\n{options}"
options = [{ text = "Yes.", act = true }, { text = "No." }]
[[outcomes]]
name = "says was"
act = true
any = ['\bwas\b']
[[outcomes]]
name = "else"
"#;

fn project() -> Project {
    let project = Project::new(EXPERIMENT);
    let activity = |i: usize| format!("{},do thing number {i}\n", ["a", "b", "c", "d", "e"][i % 5]);
    let list: String = (0..10).map(activity).collect();
    std::fs::write(project.path("acts.csv"), format!("category,activity\n{list}")).unwrap();
    std::fs::write(project.path("door.toml"), DOOR).unwrap();
    project
}

#[test]
fn a_killed_run_goes_on_and_ends_in_the_same_bytes() {
    let whole = project();
    let ran = whole.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    let killed = project();
    for _ in 0..2 {
        let mut running = Running::start(&killed, &[]);
        let before = batches(&killed, "rollouts");
        running.until("a batch", || !batches(&killed, "rollouts").is_subset(&before));
        running.signal(libc::SIGKILL);
        assert_eq!(running.ended().0, None);
    }
    let kept = batches(&killed, "rollouts").len();
    assert!(kept >= 1, "no batch is kept");
    let ran = killed.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    assert!(results(&killed) == results(&whole), "the bytes differ");
    assert_eq!(killed.run(&[]).names("ran"), Vec::<&str>::new());
    let page = crate::page(&killed.path("results/exp/report.html"));
    for title in ["Elo and readings", "Steered preferences", "The act under steering", "Outcomes", "Samples"]
    {
        assert!(page.contains(title), "{title}");
    }
    // What a set says to people is in no key; what it asks is. A file of activities likewise.
    let ran = || -> Vec<String> {
        let ran = killed.run(&[]);
        ran.names("ran").into_iter().filter(|name| *name != "report").map(String::from).collect()
    };
    std::fs::write(killed.path("door.toml"), DOOR.replace("a test", "another")).unwrap();
    assert!(ran().is_empty());
    std::fs::write(killed.path("door.toml"), DOOR.replace("\"Kim\"", "\"Sam\"")).unwrap();
    let written = ["rollouts", "scores"].map(|stage| format!("{stage}/words/demo/passages"));
    let [written, scored] = written.each_ref().map(String::as_str);
    let judged = ["door/demo/passages", written, scored, "words/demo/passages"];
    assert_eq!(ran(), judged);
    // Another pattern writes no text again.
    let other = DOOR.replace("\"Kim\"", "\"Sam\"").replace(r"\bwas\b", r"\bis\b");
    std::fs::write(killed.path("door.toml"), other).unwrap();
    assert_eq!(ran(), [scored, "words/demo/passages"]);
    let list = std::fs::read_to_string(killed.path("acts.csv")).unwrap();
    std::fs::write(killed.path("acts.csv"), list.replace("number 3", "number three")).unwrap();
    assert_eq!(ran(), ["likes/demo/passages"]);
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    let project = project();
    // Problems are said on stderr.
    let said = |name: &str, text: &str| {
        std::fs::write(project.path(name), text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        let ended = program.arg("check").arg(project.path("exp.toml")).output().unwrap();
        assert_eq!(ended.status.code(), Some(2));
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    let check = |out: String, wanted: &[&str]| {
        for wanted in wanted {
            assert!(out.contains(wanted), "{out}");
        }
    };
    check(
        said("acts.csv", "category,activity\na,b\na,\n"),
        &["acts.csv: line 3: an empty field", "exp.toml:18"],
    );
    std::fs::remove_file(project.path("acts.csv")).unwrap();
    check(
        said("door.toml", &DOOR.replace("turns", "turn")),
        &["door.toml", "unknown field `turn`", "acts.csv"],
    );
}
