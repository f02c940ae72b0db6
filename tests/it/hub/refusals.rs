//! What the hub refuses, and what is said of it.

use super::server::Hub;
use super::{EXPERIMENT, command, fails, home, plan, run, said, succeeds};

/// The state of the hub, the token, and what is said.
type Case = (fn(&mut super::server::State), Option<&'static str>, &'static [&'static str]);

#[test]
fn a_refusal_says_what_to_do() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    let fresh = hub.state().clone();
    let cases: [Case; 7] = [
        (
            |hub| hub.token = Some("good".into()),
            None,
            &[
                "tests/tiny is gated: accept its terms on URL/tests/tiny, then log in with `hf auth login`",
                "HF_TOKEN",
            ],
        ),
        (
            |hub| hub.token = Some("good".into()),
            Some("bad"),
            &["URL rejects the token from HF_TOKEN", "URL/settings/tokens"],
        ),
        (
            |hub| (hub.token, hub.gated) = (Some("good".into()), true),
            Some("good"),
            &["the token from HF_TOKEN has no access", "accept its terms on URL/tests/tiny"],
        ),
        (
            |hub| hub.missing = Some("RepoNotFound"),
            None,
            &["URL shows no tests/tiny to someone who is not logged in", "check the name", "`hf auth login`"],
        ),
        (
            |hub| (hub.missing, hub.token) = (Some("RepoNotFound"), Some("good".into())),
            Some("good"),
            &["there is no repository tests/tiny on URL that the token from HF_TOKEN may see"],
        ),
        (
            |hub| hub.missing = Some("RevisionNotFound"),
            None,
            &["tests/tiny has no revision `main`", "URL/tests/tiny/tree/main"],
        ),
        (
            |hub| hub.files.retain(|name, _| !name.ends_with(".safetensors")),
            None,
            &["`pytorch_model.bin` is a pickle"],
        ),
    ];
    for (index, (change, token, expected)) in cases.into_iter().enumerate() {
        *hub.state() = fresh.clone();
        change(&mut hub.state());
        let mut command = command(dir.path(), &hub.url, EXPERIMENT, &["plan"]);
        let output = command.envs(token.map(|token| ("HF_TOKEN", token))).output().unwrap();
        let expected: Vec<String> = expected.iter().map(|text| text.replace("URL", &hub.url)).collect();
        assert_eq!(output.status.code(), Some(2), "case {index}: {}", said(&output));
        fails(&output, &expected.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!said(&output).contains("good"), "a token was printed: {}", said(&output));
    }
}

#[test]
fn access_that_ends_between_plan_and_run_fails_the_nodes() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    succeeds(&plan(dir.path(), &hub, &[]), "");
    hub.state().token = Some("good".to_string());
    let output = run(dir.path(), &hub, &[]);
    assert_eq!(output.status.code(), Some(1));
    fails(&output, &["activations/tiny/said: tests/tiny is gated: accept its terms"]);
}

#[test]
fn without_the_network_a_copy_does() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens on port 9; a failed plan leaves no copy behind.
    let alone = |more: &[&str]| command(dir.path(), "http://127.0.0.1:9", EXPERIMENT, more).output().unwrap();
    let down = alone(&["plan"]);
    fails(&down, &["http://127.0.0.1:9 cannot be reached", "tests/tiny at main is not in `"]);
    assert_eq!(down.status.code(), Some(1), "nothing is wrong with the experiment");
    // A plan leaves the weights on the hub, so its copy is not whole.
    succeeds(&plan(dir.path(), &hub, &[]), "5 to run");
    fails(&alone(&["plan"]), &["http://127.0.0.1:9 cannot be reached", "tests/tiny at main is not in `"]);
    succeeds(&run(dir.path(), &hub, &[]), "ran 5,");
    let going_on = alone(&["run", "--quiet"]);
    succeeds(&going_on, "ran 0,");
    let line = "using tests/tiny at 0123456789abcdef0123456789abcdef01234567, which is on this machine";
    succeeds(&going_on, line);
    // A hub that only says that it is down is as good as none; what it refuses is refused.
    hub.state().statuses = [503; 20].into();
    succeeds(&plan(dir.path(), &hub, &[]), line);
    hub.state().statuses.clear();
    hub.state().missing = Some("RevisionNotFound");
    fails(
        &plan(dir.path(), &hub, &[]),
        &["has no revision `main`", "`--offline` uses the copy on this machine"],
    );
    // What is not whole is not used.
    std::fs::remove_file(home(dir.path()).join("snapshots").join(super::COMMIT).join("model.safetensors"))
        .unwrap();
    fails(&plan(dir.path(), &hub, &["--offline"]), &["tests/tiny at main is incomplete in `"]);
}
