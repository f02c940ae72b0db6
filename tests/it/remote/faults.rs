//! Servers that misbehave: what passes is borne, what does not is told, and nothing that was paid for is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::server::{Mishap, Server};
use super::{artifacts, fails, holding, ollama, openai, said, succeeds, write};
use crate::interrupt::batches;
use crate::project::Project;

const KEY: &str = "sk-0123456789abcdef";

/// Every kind of mishap that may pass, the worst of them in bursts.
fn mishaps() -> Vec<Mishap> {
    let status = |status, wait| Mishap::Status(status, wait, "{\"error\": \"busy\"}".to_string());
    vec![
        Mishap::Close,
        status(500, None),
        status(500, None),
        status(429, Some(1)),
        Mishap::Half,
        Mishap::NoJson,
        Mishap::Empty,
        Mishap::Slow(Duration::from_millis(1500)),
        status(503, Some(0)),
        status(408, None),
        status(500, None),
        Mishap::Half,
        Mishap::Close,
    ]
}

#[test]
fn a_bad_server_brings_what_a_good_one_does() {
    // One address, and so one key, for both.
    for file in [ollama as fn(&Server, &str) -> String, openai] {
        let server = Server::start();
        let text = file(&server, "timeout = 1\nparallel = 2");
        let good = Project::new(&text);
        succeeds(&write(&good, &[]), "ran 1,");
        let requests = server.asked().len();

        let bad = Project::new(&text);
        server.state().mishaps = mishaps().into();
        let output = write(&bad, &[]);
        succeeds(&output, "ran 1,");
        assert!(said(&output).contains(&format!(", {} retries", mishaps().len())), "{}", said(&output));
        assert_eq!(server.asked().len(), requests + mishaps().len());
        assert_eq!(artifacts(&bad), artifacts(&good));
        // The server is still at work on the request that was given up after a second.
        assert!(server.most() <= 3);
    }
}

#[test]
fn a_text_that_stays_empty_is_a_rejected_one() {
    let server = Server::start();
    let project = Project::new(&ollama(&server, "").replace("attempts = 6", "attempts = 1"));
    server.state().always = Some(Mishap::Empty);
    succeeds(&write(&project, &[]), "ran 1,");
    assert_eq!(server.asked().len(), 24, "twice for each of twelve stories");
    let rejected = super::tables(&project, "stories/far", "rejected");
    let reasons: Vec<&String> = rejected.iter().flat_map(|table| table.str("reason").unwrap()).collect();
    assert_eq!(reasons, ["empty"; 12]);
}

#[test]
fn replies_that_came_before_a_failure_are_not_asked_for_again() {
    let server = Server::start();
    let project = Project::new(&ollama(&server, "parallel = 1"));
    let fine = |n: usize| vec![Mishap::Slow(Duration::ZERO); n];
    server.state().mishaps = fine(3).into();
    server.state().always = Some(Mishap::Status(500, None, "{\"error\": \"the runner has\\n gone\"}".into()));
    let url = server.url.clone();
    fails(
        &write(&project, &[]),
        1,
        &["error: stories/far: ", &url, "status 500: the runner has gone, 6 times in a row"],
    );
    assert_eq!(server.asked().len(), 3 + 6);
    assert_eq!(batches(&project, "stories").len(), 3);

    server.state().always = None;
    succeeds(&write(&project, &[]), "ran 1,");
    let asked = server.asked();
    let other = Project::new(&ollama(&server, "parallel = 1"));
    succeeds(&write(&other, &[]), "ran 1,");
    assert_eq!(server.asked().len(), asked.len() + 3);
    assert_eq!(artifacts(&other), artifacts(&project));
}

#[test]
fn what_a_server_refuses_is_told_at_once() {
    let server = Server::start();
    let url = server.url.clone();
    let refused = |file: &str, wanted: &[&str]| {
        let project = Project::new(file);
        fails(&write(&project, &[]), 1, &[&["error: stories/far: ", &url], wanted].concat());
        let asked = server.asked();
        assert!((1..=4).contains(&asked.len()), "{asked:?}");
    };
    let other = openai(&server, "").replace("model = \"teller:8b\"", "model = \"nobody\"");
    refused(&other, &["/v1: status 404: model \"nobody\" not found"]);
    server.state().key = Some(KEY.to_string());
    refused(&openai(&server, ""), &["status 401: Incorrect API key provided: . (no key was sent)"]);
    server.state().key = None;
    server.state().always =
        Some(Mishap::Status(422, None, format!("{{\"detail\": \"{}\"}}", "x".repeat(5000))));
    refused(&openai(&server, ""), &[&format!("status 422: {}...", "x".repeat(300))]);
    let elsewhere = Server::start();
    server.state().always = Some(Mishap::Redirect(format!("{}/v1/chat/completions", elsewhere.url)));
    refused(&openai(&server, ""), &["status 307: it redirects to http://127.0.0.1", "is not followed"]);
    assert_eq!(elsewhere.connections(), 0);
    server.state().always = Some(Mishap::Status(429, Some(3600), String::new()));
    refused(&openai(&server, ""), &["status 429, and asks to wait 3600 s"]);
}

#[test]
fn a_prompt_that_is_refused_in_unknown_words_ends_nothing_but_itself() {
    for (word, parallel) in [("happy", 1), ("happy", 3), ("rain", 1), ("sad", 2)] {
        let server = Server::start();
        server.state().dislikes = Some(word.to_string());
        let text = openai(&server, &format!("parallel = {parallel}"));
        let text = text.replace("attempts = 6", "attempts = 2, names_emotion = false");
        let project = Project::new(&text.replace("shard = 4", "shard = 64"));
        succeeds(&write(&project, &[]), "ran 1,");
        let stories = super::tables(&project, "stories/far", "stories");
        assert_eq!(stories[0].rows(), 6, "{word}");
        let rejected = super::tables(&project, "stories/far", "rejected");
        assert_eq!(rejected[0].str("reason").unwrap(), ["filtered"; 12], "six stories, tried twice");
        assert!(rejected[0].str("text").unwrap()[0].contains("status 400: Request could not be processed."));
    }
    // Every request: told at once, and nothing is kept.
    let server = Server::start();
    server.state().dislikes = Some(" ".to_string());
    let project = Project::new(&openai(&server, "parallel = 2"));
    fails(&write(&project, &[]), 1, &["status 400: Request could not be processed."]);
    assert!(server.asked().len() <= 4);
}

#[test]
fn a_server_that_is_busy_is_waited_out_for_as_long_as_the_file_says() {
    let server = Server::start();
    let busy = Mishap::Status(503, None, "{\"error\": \"Loading model\"}".into());
    // More often in a row than any other failure is borne.
    server.state().always = Some(busy);
    let project = Project::new(&openai(&server, "parallel = 1\npatience = 60"));
    let state = || server.state();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| write(&project, &[]));
        while state().asked_so_far() < 9 {
            std::thread::sleep(Duration::from_millis(5));
        }
        state().always = None;
        succeeds(&run.join().unwrap(), "ran 1,");
    });
    server.state().always = Some(Mishap::Status(429, None, String::new()));
    let project = Project::new(&openai(&server, "parallel = 1\npatience = 0"));
    server.asked();
    fails(&write(&project, &[]), 1, &["status 429; `patience` of the source is 0 s"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_server_that_wants_the_bound_called_otherwise_gets_it_so() {
    let server = Server::start();
    server.state().renamed = true;
    let project = Project::new(&openai(&server, "parallel = 1\nmax_new_tokens = 99"));
    let output = write(&project, &[]);
    succeeds(&output, "ran 1,");
    assert!(said(&output).contains(" 0 retries"), "{}", said(&output));
    let asked = server.asked();
    let refused = asked.iter().filter(|a| a.body.get("max_tokens").is_some()).count();
    assert_eq!(refused, 1, "it was told more than once");
    let rest = asked.iter().filter(|a| a.body["max_completion_tokens"] == 99);
    assert_eq!(rest.count(), asked.len() - 1);
}

#[test]
fn a_key_goes_to_the_server_and_nowhere_else() {
    let server = Server::start();
    server.state().key = Some(KEY.to_string());
    let project = Project::new(&openai(&server, "api_key_env = \"EMOFLOW_TEST_KEY\"\nparallel = 2"));
    let write = |key: Option<&str>| {
        let mut program = super::program(
            &project,
            "run",
            &["--device", "cpu", "--only", "stories/*", "--progress", "plain", "--verbose"],
        );
        match key {
            Some(key) => program.env("EMOFLOW_TEST_KEY", key),
            None => program.env_remove("EMOFLOW_TEST_KEY"),
        };
        program.output().unwrap()
    };
    fails(&write(None), 1, &["error: stories/far: ", "`EMOFLOW_TEST_KEY`", "is not set"]);
    fails(&write(Some("no key")), 1, &["`EMOFLOW_TEST_KEY`", "cannot be part of a key"]);
    assert_eq!(server.connections(), 0, "asked without a key");

    // The server repeats the wrong key; emoflow does not.
    let wrong = "sk-wrong-and-secret";
    let output = write(Some(wrong));
    fails(&output, 1, &["Incorrect API key provided: [key].", "(the key is that of `EMOFLOW_TEST_KEY`)"]);
    assert!(!said(&output).contains(wrong));
    server.asked();

    let output = write(Some(KEY));
    succeeds(&output, "ran 1,");
    assert!(!said(&output).contains(KEY), "{}", said(&output));
    let shown: BTreeSet<_> = server.asked().into_iter().map(|asked| asked.authorization.unwrap()).collect();
    assert_eq!(shown, BTreeSet::from([format!("Bearer {KEY}")]));
    for secret in [KEY, wrong] {
        for folder in ["cache", "results"] {
            assert_eq!(holding(&project.path(folder), secret), Vec::<String>::new());
        }
    }
    assert!(
        !holding(&project.path("results"), "EMOFLOW_TEST_KEY").is_empty(),
        "the search finds nothing at all"
    );

    // With everything written, nobody needs the key.
    succeeds(&write(None), "ran 0, cached 1,");
}
