//! What of a server is in keys: its model's digest or what is said to stand for it, and nothing of where it is.

use super::server::{MODEL, Server};
use super::{fails, ollama, openai, program, said, succeeds, write};
use crate::project::Project;

#[test]
fn the_digest_counts_and_the_address_does_not() {
    let [server, other] = [Server::start(), Server::start()];
    let project = Project::new(&ollama(&server, ""));
    succeeds(&write(&project, &[]), "ran 1,");
    server.asked();
    let run = std::fs::read_to_string(project.path("results/exp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    assert_eq!(run["served"]["far"], serde_json::json!(["ab".repeat(32)]));

    for more in ["parallel = 9", "timeout = 7"] {
        project.write(&ollama(&server, more));
        succeeds(&write(&project, &[]), "ran 0, cached 1,");
    }
    project.write(&ollama(&other, ""));
    succeeds(&write(&project, &[]), "ran 0, cached 1,");
    // A tag that goes without saying, a slash, and how digests are written, are the same.
    other.state().digest = format!("sha256:{}", "ab".repeat(32));
    project.write(&ollama(&other, "").replace(&other.url, &format!("{}/", other.url)));
    succeeds(&write(&project, &[]), "ran 0, cached 1,");
    assert_eq!((server.asked(), other.asked()), (vec![], vec![]));

    other.state().digest = "cd".repeat(32);
    let output = write(&project, &[]);
    succeeds(&output, "ran 1, cached 0,");
    assert!(said(&output).contains("model"), "the reason is not told: {}", said(&output));
    assert!(!other.asked().is_empty());
}

#[test]
fn an_endpoint_is_known_by_what_is_said_to_stand_for_it() {
    let [server, other] = [Server::start(), Server::start()];
    let project = Project::new(&openai(&server, ""));
    succeeds(&write(&project, &[]), "ran 1,");
    for more in ["parallel = 9", "timeout = 7", "api_key_env = \"EMOFLOW_NOT_SET\""] {
        project.write(&openai(&server, more));
        succeeds(&write(&project, &[]), "ran 0, cached 1,");
    }
    project.write(&openai(&other, ""));
    succeeds(&write(&project, &[]), "ran 1,");
    project.write(&openai(&server, "identity = \"teller of May\""));
    succeeds(&write(&project, &[]), "ran 1,");
    project.write(&openai(&other, "identity = \"teller of May\""));
    succeeds(&write(&project, &[]), "ran 0, cached 1,");
}

#[test]
fn with_everything_written_no_server_is_needed() {
    let server = Server::start();
    let project = Project::new(&ollama(&server, ""));
    succeeds(&program(&project, "check", &[]).output().unwrap(), "no problems");
    assert_eq!(server.connections(), 0, "a check opened a socket");
    let offline = ["--device", "cpu", "--offline"];
    fails(
        &program(&project, "plan", &offline).output().unwrap(),
        2,
        &["exp.toml:11:9", "is not known, and --offline opens no socket", MODEL],
    );
    assert_eq!(server.connections(), 0);
    // A plan only looks: it asks, and remembers nothing.
    succeeds(&program(&project, "plan", &["--device", "cpu"]).output().unwrap(), "stories/far");
    assert!(!project.path("cache").exists());
    succeeds(&write(&project, &[]), "ran 1,");
    server.connections();

    for command in ["plan", "run"] {
        let output = program(&project, command, &offline).arg("--only=stories/far").output().unwrap();
        succeeds(&output, "is still the one last seen, abababab");
    }
    assert_eq!(server.connections(), 0, "--offline opened a socket");
    // What is not written cannot be.
    project.write(&ollama(&server, "temperature = 0.5"));
    let output = program(&project, "run", &offline).arg("--only=stories/far").output().unwrap();
    fails(&output, 1, &["error: stories/far: it is written at a server, and --offline opens no socket"]);
    let output = program(&project, "plan", &offline).output().unwrap();
    succeeds(&output, "blocked");
    assert_eq!(server.connections(), 0);

    // Nobody listens at the address any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let moved = |text: String| text.replace(&server.url, &format!("http://{gone}"));
    let log = project.path("cache/stat/servers.txt");
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.lines().filter(|line| !line.is_empty()).count(), 1);
    project.write(&moved(ollama(&server, "")));
    fails(
        &write(&project, &[]),
        2,
        &[
            "exp.toml:11:9",
            "does not answer: connection refused",
            "`ollama serve`",
            "`ollama pull teller:8b`",
        ],
    );
    let store = emoflow::store::Store::open(project.path("cache")).unwrap();
    store.remember_server(&format!("http://{gone}"), MODEL, "ab".repeat(32).parse().unwrap());
    let output = write(&project, &[]);
    succeeds(&output, "ran 0, cached 1,");
    assert!(
        said(&output).contains("connection refused; assuming that `teller:8b` is still"),
        "{}",
        said(&output)
    );
    project.write(&moved(ollama(&server, "temperature = 0.5")));
    fails(
        &write(&project, &[]),
        1,
        &["error: stories/far: ", "connection refused (start it: `ollama serve`)"],
    );
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let server = Server::start();
    for (wrong, told) in [
        (openai(&server, "api_key_env = \"sk-top-secret\""), "is not the name of an environment variable"),
        (openai(&server, "").replace("http://", "http://me:sk-top-secret@"), "has a name or a password"),
        (openai(&server, "").replace("/v1", "/v1?key=sk-top-secret"), "goes on behind the path"),
    ] {
        let output = write(&Project::new(&wrong), &[]);
        fails(&output, 2, &[told]);
        assert!(!said(&output).contains("sk-top-secret"), "{}", said(&output));
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_model_that_an_ollama_has_not_is_a_problem_of_its_line() {
    let server = Server::start();
    let project = Project::new(&ollama(&server, "").replace(MODEL, "nobody"));
    fails(
        &write(&project, &[]),
        2,
        &["exp.toml:11:9", "has no model `nobody`; it has `teller:8b`", "`ollama pull nobody`"],
    );
    project.write(&ollama(&server, "").replace(&server.url, &format!("{}/v1", server.url)));
    fails(&write(&project, &[]), 2, &["status 404: Not Found"]);
}
