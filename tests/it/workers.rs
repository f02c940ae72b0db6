//! Runs on several devices, and workers that are started by hand, the real program: each unit is made once, the bytes are
//! those of one device, and whoever dies harms nobody.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::corruption;
use crate::interrupt::{EXPERIMENT, Running, batches, results, uninterrupted};
use crate::lease::{entries, leases, made};
use crate::project::Project;

const TWO: [&str; 2] = ["--device", "cpu,cpu"];

fn two(project: &Project, more: &[&str]) -> Running {
    Running::command(project, "run", &[&TWO, more].concat(), &[])
}

fn worker(project: &Project, more: &[&str]) -> (Option<i32>, String, String) {
    Running::command(project, "worker", &[&["--device", "cpu"], more].concat(), &[]).ended()
}

/// Two models, each of which reads its own stories.
fn of_two_models() -> String {
    let small = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo-small");
    EXPERIMENT.replace(
        "[emotions]",
        &format!(
            "[models.small]\npath = \"{small}\"\n\n[neutral.template]\nset = \"neutral-40\"\n\n[emotions]"
        ),
    )
}

/// Processes that say that they make a unit of the project.
fn makers(project: &Project) -> BTreeSet<u32> {
    let files = std::fs::read_dir(project.path("cache/leases")).into_iter().flatten().flatten();
    let owner = |file: std::fs::DirEntry| {
        let owner: Value = serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok()?;
        Some(owner["pid"].as_u64().unwrap() as u32)
    };
    files.filter_map(owner).collect()
}

/// The worker beside `running`, once it makes something.
fn child(project: &Project, running: &mut Running) -> u32 {
    let others = |id: u32| makers(project).into_iter().find(|pid| *pid != id);
    let id = running.id();
    running.until("a worker's lease", || others(id).is_some());
    others(id).unwrap_or_else(|| child(project, running))
}

fn kill(pid: u32, signal: libc::c_int) {
    // SAFETY: a signal to a process that this test had started.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

/// Waits until there is no such process.
fn gone(pid: u32) {
    let begun = Instant::now();
    // SAFETY: signal 0 only asks.
    while unsafe { libc::kill(pid as libc::pid_t, 0) } == 0 {
        // Who has lost its parent may stay as a zombie where nobody waits for it.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.contains(") Z ") {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "process {pid} outlives the run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn two_devices_make_each_unit_once_and_give_the_bytes_of_one() {
    let project = Project::new(EXPERIMENT);
    let (code, out, said) = two(&project, &["-v"]).ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("device: cpu") && said.contains(", and cpu#2"), "{said}");
    assert!(said.contains("[cpu#2] demo: load "), "{said}");
    assert!(results(&project) == uninterrupted(), "the bytes differ");
    // What a worker made is counted with what the run made itself; who makes a unit twice is counted twice.
    assert_eq!(made(&project), entries(&project), "{said}");
    let nodes = project.run(&["--only", "stories/*"]).nodes;
    assert!(nodes.values().all(|state| state == "cached"), "{nodes:?}");
    assert!(out.ends_with(", cached 0, failed 0\n"), "{out}");
    assert_eq!(leases(&project), 0);
    assert_eq!(std::fs::read_dir(project.path("cache/tmp")).unwrap().count(), 0);
}

#[test]
fn workers_begin_at_several_models() {
    let project = Project::new(&of_two_models());
    let (code, _, said) = two(&project, &["-v"]).ended();
    assert_eq!(code, Some(0), "{said}");
    // Which of the two says so first is chance.
    let loads = said.lines().filter(|line| line.contains(": load "));
    let (of_worker, of_run): (Vec<&str>, Vec<&str>) = loads.partition(|line| line.starts_with("[cpu#2] "));
    assert!(of_worker[0].starts_with("[cpu#2] small: load "), "{said}");
    assert!(of_run[0].starts_with("demo: load "), "{said}");
    assert_eq!(made(&project), entries(&project), "{said}");
}

#[test]
fn a_worker_that_is_killed_is_replaced_by_the_others() {
    let project = Project::new(EXPERIMENT);
    let mut running = two(&project, &[]);
    let worker = child(&project, &mut running);
    kill(worker, libc::SIGKILL);
    let (code, _, said) = running.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("[cpu#2] ended: signal: 9"), "{said}");
    assert!(results(&project) == uninterrupted(), "the bytes differ");
    assert_eq!(leases(&project), 0);
}

#[test]
fn workers_end_with_the_run_that_started_them() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let project = Project::new(EXPERIMENT);
        let mut running = two(&project, &[]);
        let worker = child(&project, &mut running);
        running.until("a batch", || !batches(&project, "stories").is_empty());
        running.signal(signal);
        let (code, _, said) = running.ended();
        gone(worker);
        if signal == libc::SIGTERM {
            assert_eq!(code, Some(75), "{said}");
            // Both were asked, not killed: they gave back what they had.
            assert_eq!(leases(&project), 0, "{said}");
            let (_, again) = said.split_once("To continue: ").unwrap();
            assert!(again.contains("--device cpu,cpu"), "{again}");
        }
        let (code, _, said) = two(&project, &[]).ended();
        assert_eq!(code, Some(0), "{said}");
        assert!(results(&project) == uninterrupted(), "the bytes differ");
    }
}

#[test]
fn what_fails_is_tried_once_by_each() {
    // Passages of which nothing is left to pool.
    let text = corruption::EXPERIMENT
        .replace("set = \"passages-10\"", "passages = [\"{emotion} wwwwwwwwwwwwwwwwwwwwwwwwwww\"]")
        .replace("from_token = 3", "from_token = 30");
    let project = Project::new(&text);
    let (code, out, said) = two(&project, &[]).ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(out.ends_with("failed 2\n"), "vectors, and what is made of them: {out}");
    let tried = |line: &&str| line.contains("error: vectors/demo/passages: ");
    let tried: Vec<&str> = said.lines().filter(tried).collect();
    assert!(tried.len() <= 2 && tried.iter().any(|line| line.starts_with("error: ")), "{said}");
    assert_eq!(leases(&project), 0);
}

#[test]
fn devices_of_several_classes_are_refused() {
    let project = Project::new(EXPERIMENT);
    let run = |command, device| Running::command(&project, command, &["--device", device], &[]).ended();
    let (code, _, said) = run("run", "cpu,cuda:0");
    assert!(code == Some(2) && said.contains("cpu and cuda do not give the same numbers"), "{said}");
    let (code, _, said) = run("worker", "cpu,cpu");
    assert!(code == Some(2) && said.contains("a worker works on one device"), "{said}");
    assert!(!project.path("results").exists());
}

#[test]
fn a_worker_takes_units_of_the_frozen_plan_and_of_no_other() {
    let project = Project::new(&of_two_models());
    let (code, _, said) = worker(&project, &[]);
    assert!(code == Some(2) && said.contains("no run has frozen a plan yet"), "{said}");

    // Of the frozen plan, nothing but this is there.
    assert_eq!(project.run(&["--only", "stories/neutral"]).code, 0);
    let before = entries(&project);
    let wrong = |more: &[&str], why: &str| {
        let (code, _, said) = worker(&project, more);
        assert!(code == Some(2) && said.contains(why), "{said}");
    };
    wrong(&["--set", "activations.from_token=4"], "first in activations/demo/");
    wrong(&["--limit", "1"], "the experiment differs from the one that the run started with");
    wrong(&["--model", "large"], "the experiment has demo, small");
    project.write(&of_two_models().replace("layers = [1, 2]", "layers = [2]"));
    wrong(&[], "first in activations/demo/");
    project.write(&of_two_models());
    let file = project.path("results/exp/run.json");
    let frozen = std::fs::read(&file).unwrap();
    for (at, value, why) in [
        (["device", "kind"], "cuda", "the run computes on cuda, and this worker on cpu"),
        (["versions", "emoflow"], "0.0.1", "the run is of emoflow 0.0.1"),
    ] {
        let mut record: Value = serde_json::from_slice(&frozen).unwrap();
        record[at[0]][at[1]] = json!(value);
        std::fs::write(&file, record.to_string()).unwrap();
        wrong(&[], why);
    }
    std::fs::write(&file, &frozen).unwrap();
    assert_eq!(entries(&project), before);

    // Its time is over before it begins.
    let (code, out, said) = worker(&project, &["--until", "0"]);
    assert!(code == Some(75) && out.starts_with("computed 0 units, left "), "{out}{said}");
    assert_eq!(entries(&project), before);
    // Nothing that needs no model is ready, and nobody makes what it waits for.
    let (code, out, said) = worker(&project, &["--no-model", "--no-wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(out.starts_with("computed 0 units, left "), "{out}");
    assert_eq!(entries(&project), before);

    let (code, out, said) = worker(&project, &["--model", "small"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(out, format!("computed {} units, left 0, failed 0\n", entries(&project) - before));
    let status = project.emoflow("status", &["--json"]).out;
    let status: Value = serde_json::from_str(&status).unwrap();
    for node in status["nodes"].as_array().unwrap() {
        let name = node["name"].as_str().unwrap();
        let done = name.contains("small") || name == "stories/neutral";
        assert_eq!(node["state"], if done { "done" } else { "to_do" }, "{node}");
    }
    let (code, out, said) = worker(&project, &["--json"]);
    assert_eq!(code, Some(0), "{said}");
    let made: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&made["left"], &made["failed"]), (&json!(0), &json!(0)));
    assert!(made["made"].as_u64().unwrap() > 0);
    assert_eq!(std::fs::read(&file).unwrap(), frozen, "a worker writes no results");
    assert!(!project.path("results/exp/report.html").exists());

    let ran = project.run(&[]);
    assert_eq!((ran.code, ran.names("ran")), (0, vec!["report"]));
}
