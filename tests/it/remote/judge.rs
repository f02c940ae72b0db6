//! A judge at a server: what it is asked, what it may not be told, and servers that misbehave.

use super::server::{MODEL, Mishap, Server};
use super::{fails, program, said, succeeds};
use crate::project::Project;

/// Twelve texts: three cells, two cases, two samples.
const EXPERIMENT: &str = r#"
name = "exp"
layers = [1]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "angry"]
[stories.passages.template]
set = "passages-10"
[activations]
from_token = 3
[judges.far]
orders = 1
{judge}
[analysis.door.scenario]
set = "door.toml"
evidence = "judge"
emotions = ["angry"]
strength = [0.1]
random = 1
samples = 2
max_new_tokens = 6
"#;

const DOOR: &str = r#"
about = "a test"
[[cases]]
name = "door"
turns = ["Open the door for {who}."]
values = { who = ["Ann", "Ben"] }
[judge]
question = "{conversation}\n{answer}\nWhat is it?\n{options}"
options = [{ outcome = "yes", text = "A yes.", act = true }, { outcome = "no", text = "A no." }]
"#;

fn project(judge: &str) -> Project {
    let project = Project::new(&EXPERIMENT.replace("{judge}", judge));
    std::fs::write(project.path("door.toml"), DOOR).unwrap();
    project
}

fn run(project: &Project) -> std::process::Output {
    program(project, "run", &["--device", "cpu", "--progress", "plain"]).output().unwrap()
}

#[test]
fn texts_are_judged_without_their_condition_and_not_written_again() {
    let server = Server::start();
    server.state().first = [("A", 0.7), (" B", 0.2), ("Apple", 0.1)].map(|(t, p)| (t.to_string(), p)).into();
    for judge in [
        format!("openai = {{ url = \"{}/v1\", model = \"{MODEL}\" }}", server.url),
        format!("ollama = {{ url = \"{}\", model = \"{MODEL}\" }}", server.url),
    ] {
        let project = project(&judge);
        server.state().mishaps =
            [Mishap::Half, Mishap::NoJson, Mishap::Close, Mishap::Status(500, None, String::new())].into();
        succeeds(&run(&project), "failed 0");
        let asked = server.asked();
        assert_eq!(asked.len(), 12 + 4);
        for one in &asked {
            assert!(!one.prompt.contains("angry") && !one.prompt.contains("random"), "{}", one.prompt);
            assert_eq!((&one.body["logprobs"], &one.body["top_logprobs"]), (&true.into(), &20.into()));
        }
        let samples =
            std::fs::read_to_string(project.path("results/exp/tables/door.scenario_samples.csv")).unwrap();
        // Each option is A in some texts. They are all cut off: what is not the act might have come.
        assert!(
            samples.contains(",yes,") && samples.contains(",cut off,") && samples.contains("0.70 of 0.90"),
            "{samples}"
        );
        let before = samples.clone();
        // Another question: the same texts.
        std::fs::write(project.path("door.toml"), DOOR.replace("What is it?", "Which is it?")).unwrap();
        let output = run(&project);
        succeeds(&output, "scores/door/demo/passages");
        assert!(!said(&output).contains("rollouts/door"), "{}", said(&output));
        assert_eq!(server.asked().len(), 12);
        let after =
            std::fs::read_to_string(project.path("results/exp/tables/door.scenario_samples.csv")).unwrap();
        assert_eq!(before, after);
    }
}

#[test]
fn a_server_that_tells_no_probabilities_or_none_of_a_letter_is_said() {
    let server = Server::start();
    let project = project(&format!("openai = {{ url = \"{}/v1\", model = \"{MODEL}\" }}", server.url));
    fails(&run(&project), 1, &["error: scores/door/demo/passages: ", "without log-probabilities"]);
    server.state().first = vec![("A".to_string(), 1.5)];
    fails(&run(&project), 1, &["an invalid reply", "no log-probability of the token"]);
    server.state().first = [("Answer", 0.9), ("a", 0.05)].map(|(t, p)| (t.to_string(), p)).into();
    succeeds(&run(&project), "failed 0");
    let outcomes =
        std::fs::read_to_string(project.path("results/exp/tables/door.scenario_outcomes.csv")).unwrap();
    let unclear = outcomes.lines().filter(|line| line.contains("unclear"));
    assert!(unclear.clone().count() == 3 && unclear.clone().all(|line| line.ends_with(",4,4")), "{outcomes}");
}
