//! Runs at servers that are stopped in the middle: what was paid for is kept, and the tables are the same in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use emoflow::store::Store;

use super::server::{Asked, Server, text};
use super::{artifacts, fails, ollama, succeeds, write};
use crate::interrupt::{Running, batches};
use crate::project::Project;

/// One shard, so that all replies are kept until the end.
fn file(server: &Server) -> String {
    ollama(server, "parallel = 3")
        .replace("shard = 4", "shard = 64")
        .replace("per_topic = 3", "per_topic = 10")
}

fn start(project: &Project) -> Running {
    let arguments = ["--only", "stories/*"];
    Running::with(project, &arguments, &[("EMOFLOW_SERVER_WAIT_MS", "5")])
}

/// The texts of the kept replies.
fn kept(project: &Project) -> BTreeSet<String> {
    let store = Store::open(project.path("cache")).unwrap();
    let Some(unit) = batches(project, "stories").first().map(|file| file.parent().unwrap().to_path_buf())
    else {
        return BTreeSet::new();
    };
    let key = unit.file_name().unwrap().to_str().unwrap().strip_prefix("stories-").unwrap().parse().unwrap();
    let partial = store.partial("stories", &key).unwrap();
    let replies = (0..1000).filter_map(|number| partial.kept(number, "stories.answer/2").unwrap());
    replies.flat_map(|(table, _)| table.str("text").unwrap().to_vec()).collect()
}

fn texts(asked: &[Asked]) -> BTreeSet<String> {
    asked.iter().map(|asked| text(&asked.prompt, asked.seed)).collect()
}

/// Tables of a run that nothing disturbed, at the same server.
fn undisturbed(server: &Server) -> (Project, usize) {
    let project = Project::new(&file(server));
    succeeds(&write(&project, &[]), "ran 1,");
    (project, server.asked().len())
}

#[test]
fn a_killed_run_asks_only_for_what_it_has_not() {
    let server = Server::start();
    let (whole, requests) = undisturbed(&server);
    server.state().delay = Duration::from_millis(20);
    let project = Project::new(&file(&server));
    for wanted in [4, 15, 33] {
        let mut running = start(&project);
        running.until("replies", || batches(&project, "stories").len() >= wanted);
        running.signal(libc::SIGKILL);
        assert_eq!(running.ended().0, None);
        let (kept, asked) = (kept(&project), server.asked());
        assert!(kept.len() >= wanted);
        // What was under way is lost, and no more.
        let lost = texts(&asked).difference(&kept).count();
        assert!(lost <= 3, "{lost} replies were lost");
    }
    let before = kept(&project);
    succeeds(&write(&project, &[]), "ran 1,");
    let again = texts(&server.asked());
    assert_eq!(again.intersection(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(again.len() + before.len(), requests);
    assert_eq!(artifacts(&project), artifacts(&whole));
    assert_eq!(batches(&project, "stories").len(), 0);
}

#[test]
fn a_run_that_is_asked_to_stop_waits_for_the_replies_on_their_way() {
    let server = Server::start();
    let (whole, requests) = undisturbed(&server);
    server.state().delay = Duration::from_millis(300);
    let project = Project::new(&file(&server));
    let mut running = start(&project);
    running.until("replies", || batches(&project, "stories").len() >= 2);
    running.signal(libc::SIGTERM);
    let (code, _, stderr) = running.ended();
    assert_eq!(code, Some(75), "{stderr}");
    let asked = server.asked();
    assert!(asked.iter().all(|asked| asked.answered), "a reply was not waited for");
    assert_eq!(kept(&project), texts(&asked), "a reply that came was not kept");
    assert!(asked.len() < requests / 2);

    server.state().delay = Duration::ZERO;
    succeeds(&write(&project, &[]), "ran 1,");
    assert_eq!(server.asked().len(), requests - asked.len());
    assert_eq!(artifacts(&project), artifacts(&whole));
}

#[test]
fn two_runs_at_once_ask_once() {
    let server = Server::start();
    let (whole, requests) = undisturbed(&server);
    server.state().delay = Duration::from_millis(20);
    let project = Project::new(&file(&server));
    let runs = [start(&project), start(&project)];
    for run in runs {
        let (code, _, stderr) = run.ended();
        assert_eq!(code, Some(0), "{stderr}");
    }
    assert_eq!(server.asked().len(), requests);
    assert_eq!(artifacts(&project), artifacts(&whole));
}

#[test]
fn a_kept_reply_that_was_damaged_is_asked_for_again() {
    let server = Server::start();
    let (whole, requests) = undisturbed(&server);
    server.state().delay = Duration::from_millis(20);
    let project = Project::new(&file(&server));
    let mut running = start(&project);
    running.until("replies", || batches(&project, "stories").len() >= 6);
    running.signal(libc::SIGKILL);
    running.ended();
    server.asked();
    let files = batches(&project, "stories");
    let damaged = files.first().unwrap();
    let mut bytes = std::fs::read(damaged).unwrap();
    bytes[40] ^= 1;
    std::fs::write(damaged, bytes).unwrap();
    succeeds(&write(&project, &[]), "was damaged and will be computed again");
    assert_eq!(server.asked().len(), requests - (files.len() - 1));
    assert_eq!(artifacts(&project), artifacts(&whole));
}

#[test]
fn a_model_that_changes_under_a_run_is_not_stored_under_the_old_name() {
    let server = Server::start();
    server.state().delay = Duration::from_millis(100);
    let project = Project::new(&file(&server));
    let mut running = start(&project);
    running.until("replies", || batches(&project, "stories").len() >= 2);
    server.state().digest = "cd".repeat(32);
    server.state().delay = Duration::ZERO;
    let (code, _, stderr) = running.ended();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("has changed since this run started"), "{stderr}");
    assert!(artifacts(&project).is_empty());
    assert_eq!(batches(&project, "stories").len(), 0, "replies of one of two models were kept");
    let output = write(&project, &[]);
    succeeds(&output, "ran 1,");
    fails(&write(&project, &["--no-such"]), 2, &[]);
}
