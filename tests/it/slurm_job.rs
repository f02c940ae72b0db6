//! A worker in a job of a Slurm that only notes what it is asked: when it ends, and whether it has itself queued again.

use crate::interrupt::{EXPERIMENT, Running, batches, results, uninterrupted};
use crate::project::Project;
use crate::submit::{asked, executable};

/// A project whose plan is frozen, of which nothing is made, beside a Slurm that says that the job ends `end` (as `date`
/// reads it).
fn in_a_job(end: &str) -> Project {
    let project = Project::new(EXPERIMENT);
    std::fs::create_dir(project.path("bin")).unwrap();
    let mut running = Running::start(&project, &[]);
    running.until("the plan", || project.path("results/exp/run.json").exists());
    running.signal(libc::SIGKILL);
    running.ended();
    let _ = std::fs::remove_dir_all(project.path("cache"));
    let note = format!("echo $(basename $0) \"$@\" >>{}", project.path("asked").display());
    executable(&project, "squeue", &format!("#!/bin/sh\n{note}\ndate --date '{end}' +%Y-%m-%dT%H:%M:%S\n"));
    executable(&project, "scontrol", &format!("#!/bin/sh\n{note}\n"));
    project
}

fn worker(project: &Project, more: &[&str], restarts: &str) -> Running {
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    let environment = [
        ("PATH", path.as_str()),
        ("SLURM_JOB_ID", "19"),
        ("SLURM_ARRAY_JOB_ID", "17"),
        ("SLURM_ARRAY_TASK_ID", "3"),
        ("SLURM_RESTART_COUNT", restarts),
    ];
    let more = [&["--device", "cpu", "--slurm", "60"], more].concat();
    Running::command(project, "worker", &more, &environment)
}

const ASKED: &str = "squeue --noheader --format=%e --jobs 17_3";

#[test]
fn a_job_ends_before_its_time() {
    // A minute less than the margin: its time is over before it begins, and it would be the next time.
    let project = in_a_job("now");
    let (code, out, said) = worker(&project, &[], "").ended();
    assert!(code == Some(75) && out.starts_with("computed 0 units, left "), "{out}{said}");
    assert!(said.contains("job 17_3 finished no batch within its time limit"), "{said}");
    assert_eq!(asked(&project), [ASKED]);
    // An hour is enough, and nothing is left.
    let project = in_a_job("1 hour");
    let (code, out, said) = worker(&project, &[], "").ended();
    assert!(code == Some(0) && out.ends_with("left 0, failed 0\n"), "{out}{said}");
    assert_eq!(asked(&project), [ASKED]);
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}

#[test]
fn a_job_is_queued_again_if_that_leads_on() {
    let project = in_a_job("1 hour");
    for (signals, restarts, wanted, requeued) in [
        // Slurm's warning, twice: the second does not end it in the middle of a batch.
        ([libc::SIGUSR1, libc::SIGUSR1], "1", "job 17_3 is queued again", true),
        ([libc::SIGUSR1, libc::SIGCONT], "2", "job 17_3 was queued again 2 times, which is the limit", false),
        // It was cancelled, or preempted and is queued again by Slurm; the continuation comes before or after.
        ([libc::SIGCONT, libc::SIGTERM], "0", "job 17_3 was asked to stop", false),
        ([libc::SIGUSR1, libc::SIGTERM], "0", "job 17_3 was asked to stop", false),
    ] {
        for left in ["asked", "cache"] {
            let _ = std::fs::remove_file(project.path(left))
                .or_else(|_| std::fs::remove_dir_all(project.path(left)));
        }
        let mut running = worker(&project, &["--restarts", "2"], restarts);
        running.until("a batch", || !batches(&project, "stories").is_empty());
        signals.into_iter().for_each(|signal| running.signal(signal));
        let (code, _, said) = running.ended();
        assert_eq!(code, Some(75), "{said}");
        assert!(said.contains(wanted), "{said}");
        let asked = asked(&project);
        assert_eq!(asked.contains(&"scontrol requeue 17_3".to_string()), requeued, "{asked:?}");
    }
    assert_eq!(worker(&project, &[], "3").ended().0, Some(0));
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert!(results(&project) == uninterrupted(), "the bytes differ");
}
