//! `status`: beside a run, after a crash, after the end; and that it writes nothing.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::corruption::{EXPERIMENT, files};
use crate::project::Project;

/// `emoflow status --json`, which must leave every file as it was.
fn status(project: &Project) -> Value {
    let state = || -> Vec<_> {
        let stat = |path: std::path::PathBuf| {
            let modified = path.metadata().unwrap().modified().unwrap();
            (path, modified)
        };
        files(&project.path(".")).into_iter().map(stat).collect()
    };
    let before = state();
    let shown = project.emoflow("status", &["--json"]);
    assert_eq!(state(), before, "status wrote something");
    assert_eq!(shown.code, 0);
    serde_json::from_str(&shown.out).unwrap()
}

fn node<'a>(status: &'a Value, name: &str) -> &'a Value {
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[test]
fn status_of_runs_that_ended() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(status(&project)["state"], "never_run");
    assert_eq!(project.emoflow("status", &[]).out, "exp: no run yet\n");
    assert_eq!(project.emoflow("status", &["--set", "seed=-1"]).code, 2);

    project.run(&[]);
    let whole = status(&project);
    assert_eq!(
        (&whole["state"], &whole["done"], &whole["units"]),
        (&json!("finished"), &json!(7), &json!(7))
    );
    assert!(whole["nodes"].as_array().unwrap().iter().all(|node| node["state"] == "done"), "{whole}");
    assert!(whole["started"].as_u64().unwrap() <= whole["ended"].as_u64().unwrap());
    assert_eq!(whole["process"]["pid"], std::process::id());
    let (first, last) = {
        let out = project.emoflow("status", &[]).out;
        let lines: Vec<&str> = out.lines().collect();
        (lines[0].to_string(), lines[lines.len() - 1].to_string())
    };
    assert!(first.starts_with("exp: ended ") && first.ends_with(" ago"), "{first}");
    assert_eq!(last, "7 of 7 units done");

    // A run that a signal stopped says so itself.
    let file = project.path("results/exp/run.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    record["interrupted"] = json!(true);
    std::fs::write(&file, record.to_string()).unwrap();
    assert_eq!(status(&project)["state"], "interrupted");

    // Activations are not asked for once all is made of them; what is not there any more is said to be gone.
    std::fs::remove_dir_all(project.path("cache/activations")).unwrap();
    project.run(&[]);
    let without = status(&project);
    assert_eq!(node(&without, "activations/demo/neutral")["state"], "not_needed");
    assert_eq!((&without["done"], &without["units"]), (&json!(5), &json!(5)));
    std::fs::remove_dir_all(project.path("cache/vectors")).unwrap();
    assert_eq!(node(&status(&project), "vectors/demo/passages")["state"], "gone");
}

#[test]
fn status_of_a_run_that_failed() {
    let project = Project::new(EXPERIMENT);
    let text =
        EXPERIMENT.replace("set = \"passages-10\"", "passages = [\"{emotion} wwwwwwwwwwwwwwwwwwwwwwwwwww\"]");
    project.write(&text.replace("from_token = 3", "from_token = 30"));
    assert_eq!(project.run(&[]).code, 1);
    let failed = status(&project);
    assert_eq!(failed["state"], "failed");
    assert_eq!(node(&failed, "vectors/demo/passages")["state"], "failed");
    assert!(!node(&failed, "vectors/demo/passages")["reason"].as_str().unwrap().is_empty());
    assert_eq!(node(&failed, "space/demo/passages")["state"], "blocked");
    assert_eq!(node(&failed, "neutral/demo")["state"], "done");
}

/// Ends the child with the test, however that ends.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn status_beside_a_run_and_after_it_was_killed() {
    // Long enough to be found at work.
    let text = EXPERIMENT.replace(
        "[stories.passages.template]\nset = \"passages-10\"",
        "[stories.own.generate]\nmodel = \"self\"\ntopics = [\"a lost key\"]\nper_topic = 60\nmax_new_tokens = 60\n\
         reject = { names_emotion = false }",
    );
    let project = Project::new(&text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    command.args(["run", "exp.toml", "--device", "cpu", "--quiet"]).current_dir(project.path("."));
    command.env_remove("LD_LIBRARY_PATH").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Child(command.spawn().unwrap());
    let begun = Instant::now();
    while !project.path("results/exp/run.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not begin");
        assert!(child.0.try_wait().unwrap().is_none(), "the run ended before it was looked at");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Stopped, it is still there, and changes nothing meanwhile.
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &child.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let running = status(&project);
    assert_eq!((&running["state"], &running["process"]["pid"]), (&json!("running"), &json!(child.0.id())));
    assert_eq!(running["ended"], Value::Null);
    assert_eq!(node(&running, "space/demo/own")["state"], "to_do");
    assert!(running["done"].as_u64().unwrap() < running["units"].as_u64().unwrap());
    let out = project.emoflow("status", &[]).out;
    let seconds = out.strip_prefix("exp: running for ").and_then(|rest| rest.split_once(" s, process "));
    assert!(seconds.is_some_and(|(seconds, _)| seconds.parse::<f64>().is_ok()), "{out}");

    child.0.kill().unwrap();
    child.0.wait().unwrap();
    assert_eq!(status(&project)["state"], "interrupted");
    let out = project.emoflow("status", &[]).out;
    assert!(out.starts_with("exp: interrupted; begun ") && out.contains("the same `run` continues"), "{out}");

    // Who makes a unit says so in `leases/`; batches that are kept are counted.
    let record = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let unit = format!("pca-{}", record["plan"].as_array().unwrap().last().unwrap()[1][0].as_str().unwrap());
    let lease = project.path("cache/leases").join(&unit);
    std::fs::create_dir_all(lease.parent().unwrap()).unwrap();
    // As a lease says it: the process, for how long without a renewal, and which of its leases.
    let owned = |process: &Value| {
        let mut owner = process.clone();
        (owner["life"], owner["token"]) = (json!(30.0), json!("1"));
        std::fs::write(&lease, serde_json::to_vec(&owner).unwrap()).unwrap();
    };
    owned(&json!(emoflow::store::Process::this()));
    let batches = project.path("cache/partial").join(&unit);
    std::fs::create_dir_all(&batches).unwrap();
    std::fs::write(batches.join("00000.batch"), "").unwrap();
    let leased = status(&project);
    let made = node(&leased, "space/demo/own");
    assert_eq!((&made["state"], &made["batches"]), (&json!("running"), &json!(1)));
    assert_eq!(made["by"][0]["pid"], std::process::id());
    owned(&record["run"]["process"]);
    assert_eq!(node(&status(&project), "space/demo/own")["state"], "to_do", "its process is dead");

    std::fs::remove_file(&lease).unwrap();
    std::fs::remove_dir_all(&batches).unwrap();
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(status(&project)["state"], "finished");
}
