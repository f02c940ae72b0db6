//! `submit` and `finish` beside a Slurm that only notes what it is asked; `make test-slurm` asks a real one.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;

use crate::corruption::EXPERIMENT;
use crate::project::Project;

/// Says `17`, `18`, ... to each script, and notes its arguments; refuses scripts that name `no-such`.
const SBATCH: &str = r#"#!/bin/sh
echo "$@" >>asked
for script; do :; done
grep -q no-such "$script" && { echo "sbatch: error: invalid partition specified: no-such" >&2; exit 1; }
[ "$1" = --test-only ] && { echo "Job 17 to start at once" >&2; exit 0; }
echo $((16 + $(wc -l <asked)))
"#;

fn with_slurm(text: &str) -> Project {
    let project = Project::new(text);
    std::fs::create_dir(project.path("bin")).unwrap();
    executable(&project, "sbatch", SBATCH);
    executable(&project, "scancel", "#!/bin/sh\necho scancel \"$@\" >>asked\n");
    project
}

/// Makes `text` a program called `name`.
pub fn executable(project: &Project, name: &str, text: &str) {
    let path = project.path("bin").join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `emoflow <command> exp.toml --device cpu <more>`: exit code, stdout, stderr.
fn emoflow(
    project: &Project,
    command: &str,
    more: &[&str],
    environment: &[(&str, &str)],
) -> (i32, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    program.args([command, "exp.toml", "--device", "cpu"]).args(more).current_dir(project.path("."));
    let path = format!("{}:/usr/bin:/bin", project.path("bin").display());
    program.env("PATH", path).env("XDG_CONFIG_HOME", project.path("config")).env_remove("LD_LIBRARY_PATH");
    program.env_remove("SLURM_JOB_ID").envs(environment.iter().copied());
    let Output { status, stdout, stderr } = program.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub fn asked(project: &Project) -> Vec<String> {
    let asked = std::fs::read_to_string(project.path("asked")).unwrap_or_default();
    asked.lines().map(String::from).collect()
}

/// The words after `exec emoflow` of a script that was written.
fn command(project: &Project, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(project.path("results/exp/slurm").join(name)).unwrap();
    let line = text.lines().last().unwrap().to_string();
    let words = line.strip_prefix(&format!("exec {} ", env!("CARGO_BIN_EXE_emoflow"))).unwrap();
    words.split(' ').map(|word| word.trim_matches('\'').to_string()).collect()
}

#[test]
fn what_is_missing_is_submitted_and_the_end_comes_after_all() {
    let project = with_slurm(EXPERIMENT);
    let (code, out, said) = emoflow(&project, "submit", &["--dry-run", "--gpus", "4"], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        out.contains("# --- model-demo.sbatch\n")
            && out.contains("# --- finish.sbatch after model-demo after cpu\n"),
        "{out}"
    );
    assert!(asked(&project).is_empty() && !project.path("results").exists());

    let (code, out, said) = emoflow(&project, "submit", &["--gpus", "4", "--", "--qos=low"], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(out.starts_with("model-demo: job 17\ncpu: job 18\nfinish: job 19\n"), "{out}");
    let folder = project.path("results/exp/slurm");
    let folder = folder.display();
    let wanted = [
        format!("--parsable --qos=low {folder}/model-demo.sbatch"),
        format!("--parsable --qos=low {folder}/cpu.sbatch"),
        format!("--parsable --dependency=afterany:17:18 --qos=low {folder}/finish.sbatch"),
    ];
    assert_eq!(asked(&project), wanted);
    // What Slurm says of it is shown, where it can be asked.
    let squeue = |text: &str| executable(&project, "squeue", text);
    squeue("#!/bin/sh\necho no controller >&2\nexit 1\n");
    let temporary = project.path("bin");
    let status = || emoflow(&project, "status", &[], &[("XDG_CACHE_HOME", temporary.to_str().unwrap())]);
    let (code, out, said) = status();
    assert!(code == 0 && out.starts_with("exp: submitted to Slurm "), "{out}{said}");
    assert!(said.contains("squeue refuses: no controller"), "{said}");
    squeue("#!/bin/sh\necho \"$@\" >>asked\nprintf '17 RUNNING\\n17 PENDING\\n19 PENDING\\n3 PENDING\\n'\n");
    for _ in 0..2 {
        let (_, out, said) = status();
        let jobs: Vec<&str> = out.lines().filter(|line| line.starts_with("job ")).collect();
        assert_eq!(
            jobs,
            [
                "job 17         model-demo                   1 pending, 1 running",
                "job 19         finish                       1 pending"
            ],
            "{said}"
        );
    }
    assert_eq!(
        asked(&project).iter().filter(|line| line.starts_with("--me ")).count(),
        1,
        "asked once in half a minute"
    );
    // One shard of passages and one of neutral text.
    let text = std::fs::read_to_string(project.path("results/exp/slurm/model-demo.sbatch")).unwrap();
    assert!(text.contains("#SBATCH --array=0-1\n") && !text.contains("--gres"), "{text}");

    // What jobs run is what was submitted, though the file is another now.
    project.write("name = \"other\"");
    let jobs = |name: &str| {
        let words = command(&project, name);
        Command::new(env!("CARGO_BIN_EXE_emoflow"))
            .args(words)
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap()
    };
    let finish = jobs("finish.sbatch");
    let said = String::from_utf8_lossy(&finish.stdout).into_owned();
    assert_eq!(finish.status.code(), Some(5), "{said}{}", String::from_utf8_lossy(&finish.stderr));
    assert!(said.contains("vectors/demo/passages                        1 of 1\n"), "{said}");
    assert!(
        said.ends_with("5 units are missing: `emoflow submit` or `emoflow run` computes them\n"),
        "{said}"
    );
    let worker = jobs("model-demo.sbatch");
    let said = String::from_utf8_lossy(&worker.stdout).into_owned();
    assert!(
        said.starts_with("computed 5 units, left 0"),
        "{said}{}",
        String::from_utf8_lossy(&worker.stderr)
    );
    assert_eq!(jobs("finish.sbatch").status.code(), Some(0));
    assert!(project.path("results/exp/report.html").exists());

    project.write(EXPERIMENT);
    let (code, out, said) = emoflow(&project, "submit", &[], &[]);
    assert_eq!((code, out.as_str()), (0, "nothing to submit: everything is cached\n"), "{said}");
    assert_eq!(asked(&project).iter().filter(|line| line.starts_with("--parsable ")).count(), 3);
    assert_eq!(project.run(&[]).names("ran"), Vec::<&str>::new());
}

#[test]
fn readers_of_others_stories_wait_for_the_writers() {
    let small = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo-small");
    let text =
        EXPERIMENT.replace("[emotions]", &format!("[models.small]\npath = \"{small}\"\n[emotions]")).replace(
            "[stories.passages.template]\nset = \"passages-10\"",
            "[stories.own.generate]\nmodel = \"demo\"\ntopics = [\"rain\"]\nper_topic = 1\n\
             [stories.theirs.generate]\nmodel = \"small\"\ntopics = [\"rain\"]\nper_topic = 1",
        );
    let project = with_slurm(&text);
    let (code, out, said) = emoflow(&project, "submit", &["--gpus", "4"], &[]);
    assert_eq!(code, 0, "{said}");
    let names: Vec<&str> =
        out.lines().filter_map(|line| line.split_once(": job ")).map(|(name, _)| name).collect();
    assert_eq!(names, ["model-demo", "model-small", "after-demo", "after-small", "cpu", "finish"]);
    let asked = asked(&project);
    assert!(
        asked[2].contains("--dependency=afterany:18:17 ")
            && asked[3].contains("--dependency=afterany:17:18 "),
        "{asked:?}"
    );
    assert!(asked[5].contains("--dependency=afterany:17:18:19:20:21 "), "{asked:?}");
}

#[test]
fn what_cannot_be_submitted_is_said_before() {
    let project = with_slurm(EXPERIMENT);
    let wrong = |more: &[&str], environment: &[(&str, &str)], code: i32, why: &str| {
        let (found, out, said) = emoflow(&project, "submit", more, environment);
        assert!(found == code && said.contains(why), "{found} {out}{said}");
    };
    wrong(&[], &[("SLURM_JOB_ID", "3")], 2, "this is itself a Slurm job");
    wrong(&[], &[("PATH", "/nowhere")], 1, "there is no `sbatch` on the PATH");
    // Where the second is refused, the first is taken back.
    std::fs::write(project.path("slurm.toml"), "[cpu]\npartition = \"no-such\"\n").unwrap();
    wrong(&[], &[], 1, "sbatch refuses: sbatch: error: invalid partition specified: no-such");
    let asked = asked(&project);
    assert!(asked.len() == 3 && asked[2] == "scancel 17", "{asked:?}");
    assert!(!project.path("results/exp/slurm/jobs.json").exists());
    std::fs::write(project.path("slurm.toml"), "gpu_memory = \"1MB\"\n").unwrap();
    wrong(&[], &[], 2, "`gpu_memory` of the profile");
    std::fs::write(project.path("slurm.toml"), "acount = \"me\"\n").unwrap();
    wrong(&[], &[], 2, "unknown field `acount`");
    wrong(&["--profile", "none.toml"], &[], 2, "none.toml");
    std::fs::write(project.path("slurm.toml"), "restarts = 2\n").unwrap();
    let (code, out, said) = emoflow(&project, "submit", &["--test"], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("profile: slurm.toml") || said.contains("slurm.toml"), "{said}");
    assert!(out.contains("model-demo: Job 17 to start at once\n"), "{out}");
    assert!(command(&project, "model-demo.sbatch").join(" ").contains("--restarts 2"));
    let recorded: Value =
        serde_json::from_slice(&std::fs::read(project.path("results/exp/run.json")).unwrap()).unwrap();
    assert_eq!(recorded["device"]["kind"], "cpu");
}
