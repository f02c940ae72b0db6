//! The real program: how it starts, and what it leaves to those who called it.

use std::path::Path;
use std::process::{Command, Output};

fn emoflow(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    command.args(args).current_dir(root).env_remove("LD_LIBRARY_PATH").envs(environment.iter().copied());
    command.output().unwrap()
}

/// Libraries of libtorch's folder that the dynamic linker initialised.
#[cfg(target_os = "linux")]
fn loaded(args: &[&str]) -> bool {
    let output = emoflow(args, &[("LD_DEBUG", "libs")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("calling init: "), "the dynamic linker says nothing:\n{said}");
    let real = format!("{}/libtorch_cpu.so", env!("EMOFLOW_LIBTORCH"));
    said.lines().any(|line| line.contains("calling init: ") && line.ends_with(&real))
}

#[test]
#[cfg(target_os = "linux")]
fn only_what_needs_libtorch_loads_it() {
    assert!(!loaded(&["check", "experiments/quickstart.toml"]));
    assert!(!loaded(&["--version"]));
    assert!(!loaded(&["run"]), "a command line that is wrong");
    assert!(!loaded(&["status", "experiments/quickstart.toml"]));
    assert!(!loaded(&["cache", "verify"]));
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    let (cache, results) = (at("cache"), at("results"));
    let here = ["experiments/quickstart.toml", "--device", "cpu", "--cache", &cache, "--results", &results];
    let with = |words: &[&'static str]| {
        let mut args = words[..1].to_vec();
        args.extend(here);
        args.extend(&words[1..]);
        loaded(&args)
    };
    assert!(!with(&["plan"]), "it runs nothing");
    let stories = ["run", "--only", "stories/passages", "--only", "stories/neutral"];
    assert!(with(&stories), "there is something to run");
    assert!(!with(&stories), "there is nothing to run");
    assert!(!with(&["report"]), "it shows what is there");
    assert!(!with(&["export", "--format", "npz"]), "it reads what is there");
    assert!(place.path().join("results/quickstart/report.html").is_file());
}

/// As where the program was carried to a machine without its build folder.
#[test]
#[cfg(target_os = "linux")]
fn a_libtorch_named_in_the_environment_is_used() {
    let place = tempfile::tempdir().unwrap();
    let lib = place.path().join("lib");
    std::os::unix::fs::symlink(env!("EMOFLOW_LIBTORCH"), &lib).unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    let (cache, results) = (at("cache"), at("results"));
    let args = ["run", "experiments/quickstart.toml", "--device", "cpu", "--only", "stories/neutral"];
    let args = [&args[..], &["--cache", &cache, "--results", &results]].concat();
    let output = emoflow(&args, &[("LD_LIBRARY_PATH", lib.to_str().unwrap()), ("LD_DEBUG", "libs")]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let begun: Vec<&str> = said.lines().filter(|line| line.contains("calling init: ")).collect();
    assert!(begun.iter().any(|line| line.ends_with(lib.join("libtorch_cpu.so").to_str().unwrap())));
    assert!(!begun.iter().any(|line| line.contains("stand-ins")), "it was loaded at once");
}

/// The name of what computes here.
fn backend() -> &'static str {
    emoflow::lm::Backend::chosen(tch::Device::Cpu).unwrap().name()
}

#[test]
fn the_doctor_tries_out_the_cache_and_says_what_there_is() {
    let cache = tempfile::tempdir().unwrap();
    let at = |cache: &Path| {
        let cache = cache.to_str().unwrap();
        emoflow(&["doctor", "--cache", cache, "--device", "cpu", "--offline"], &[])
    };
    let well = at(cache.path());
    let said = String::from_utf8(well.stdout).unwrap();
    assert_eq!(well.status.code(), Some(0), "{said}");
    for line in ["emoflow ", "libtorch ", "device    cpu", "hub ", "not asked: offline"] {
        assert!(said.contains(line), "{line} is not in {said}");
    }
    assert!(said.contains("ok        another process: sees at once what is written"), "{said}");
    // A processor is checked only when that is asked.
    let caches = tempfile::tempdir().unwrap();
    let caches = [("XDG_CACHE_HOME", caches.path().to_str().unwrap())];
    let checks = |more: &[&str]| {
        let args = ["doctor", "--cache", cache.path().to_str().unwrap(), "--device", "cpu", "--offline"];
        let output = emoflow(&[&args, more].concat(), &caches);
        let said = String::from_utf8(output.stdout).unwrap();
        ["warning   ", "ok        "]
            .map(|word| said.matches(&format!("{word}{backend} in ", backend = backend())).count())
    };
    assert_eq!([checks(&[]), checks(&["--check"]), checks(&[])], [[3, 0], [0, 3], [0, 3]]);
    // A file stands where the cache should be.
    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ill = at(&file);
    assert_eq!(ill.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ill.stderr).contains(file.to_str().unwrap()));
}

/// The stand-ins have none of the functions that would be bound (`build/stand_in.c`).
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn it_starts_where_all_functions_are_to_be_bound_at_once() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    let (cache, results) = (at("cache"), at("results"));
    let run = ["run", "experiments/quickstart.toml", "--device", "cpu", "--only", "stories/neutral"];
    let run = [&run[..], &["--cache", &cache, "--results", &results]].concat();
    for (args, code) in
        [(&["check", "experiments/quickstart.toml"][..], 0), (&["check", "no such file"], 2), (&run, 0)]
    {
        let output = emoflow(args, &[("LD_BIND_NOW", "1")]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The program as it is shipped, and where there is no libtorch: not where this one was built either.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn without_libtorch(place: &Path) -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = place.join("emoflow");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let mut package = Command::new(python);
    package
        .arg(root.join("scripts/package.py"))
        .args(["program", env!("CARGO_BIN_EXE_emoflow")])
        .arg(&program);
    assert!(package.status().unwrap().success());
    let mut bytes = std::fs::read(&program).unwrap();
    let built = env!("EMOFLOW_LIBTORCH").as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(built.len()).position(|window| window == built) {
        at += found;
        bytes[at..at + built.len()].fill(b'x');
    }
    assert!(at > 0, "the program knows where it was built");
    std::fs::write(&program, bytes).unwrap();
    program
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn all_that_computes_nothing_works_where_there_is_no_libtorch() {
    let place = tempfile::tempdir().unwrap();
    let program = without_libtorch(place.path());
    let project = crate::project::Project::new(
        "layers = [1]\n[models.demo]\npath = \"{demo}\"\n[emotions]\nwords = [\"happy\", \"sad\", \"calm\"]\n\
         [stories.said.template]\npassages = [\"I was {emotion} all day.\", \"She is {emotion} now, and will be.\"]\n\
         [activations]\nfrom_token = 2\n[analysis.similarity.cosine]\n",
    );
    assert_eq!(project.run(&[]).code, 0);
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(project.path(".")).env_clear().env("HOME", place.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    for line in [
        "check exp.toml",
        "plan exp.toml --device cpu",
        "plan exp.toml",
        "explain exp.toml vectors/* --device cpu",
        "status exp.toml",
        "status",
        "show exp.toml claims",
        "show exp.toml similarity/* --device cpu",
        "diff results/exp results/exp",
        "export exp.toml --format npz --device cpu",
        "report exp.toml --device cpu",
        "run exp.toml --device cpu",
        "init other",
        "schema",
        "completions bash",
        "cache ls",
        "--help",
    ] {
        let (code, said) = run(&line.split(' ').collect::<Vec<_>>(), &[]);
        assert_eq!(code, Some(0), "{line}: {said}");
    }
    assert_eq!(run(&["check", "exp.toml"], &[("LD_BIND_NOW", "1")]).0, Some(0));
    // What must compute says what is lacking, and how to get it.
    let again = ["run", "exp.toml", "--device", "cpu", "--set", "activations.from_token=1"];
    let (code, said) = run(&again, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no libtorch") && said.contains("emoflow setup"), "{said}");
    let (code, said) = run(&["doctor", "--device", "cpu", "--offline"], &[]);
    assert!(code == Some(0) && said.contains("libtorch  none: "), "{said}");
    // With one, it computes: by any of the ways to name it.
    let lib = std::path::PathBuf::from(env!("EMOFLOW_LIBTORCH"));
    let packages = place.path().join("env/lib/python3.12/site-packages");
    std::fs::create_dir_all(&packages).unwrap();
    std::os::unix::fs::symlink(lib.parent().unwrap(), packages.join("torch")).unwrap();
    let environment = place.path().join("env");
    let environment = [("VIRTUAL_ENV", environment.to_str().unwrap())];
    let (_, said) = run(&["doctor", "--device", "cpu", "--offline"], &environment);
    assert!(said.contains("(VIRTUAL_ENV, "), "{said}");
    let (code, said) = run(&again, &environment);
    assert_eq!(code, Some(0), "{said}");
    let again = [&again[..5], &["activations.from_token=0", "-v"]].concat();
    let (code, said) = run(&again, &[("LD_LIBRARY_PATH", lib.to_str().unwrap()), ("LD_BIND_NOW", "1")]);
    assert!(code == Some(0) && said.contains("LD_LIBRARY_PATH names it"), "{said}");
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().to_str().unwrap();
    for (args, code) in [
        (vec!["check", "experiments/quickstart.toml"], 0),
        (vec!["check", "no-such-file.toml"], 2),
        (vec!["check"], 2),
        (vec!["plan", "experiments/quickstart.toml", "--device", "abacus"], 2),
        (vec!["--help"], 0),
        (vec!["status", "no-such-file.toml"], 2),
        (vec!["cache", "gc", "--max-size", "much"], 2),
        (vec!["worker", "experiments/quickstart.toml", "--device", "cpu", "--results", place], 2),
        (vec!["submit", "experiments/quickstart.toml", "--gpus", "0"], 2),
        (vec!["cache", "ls", "--cache", "no-such-folder", "--stage", "vectors"], 4),
    ] {
        let output = emoflow(&args, &[]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// As in `emoflow plan | head`: whoever reads has read enough.
#[test]
fn a_reader_that_has_gone_is_no_error() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    let (cache, results) = (at("cache"), at("results"));
    let here = ["--device", "cpu", "--cache", &cache, "--results", &results];
    let run = ["run", "experiments/quickstart.toml", "--only", "stories/passages"];
    for (args, closed_stderr) in [
        ([&["plan", "experiments/quickstart.toml"], &here[..]].concat(), false),
        ([&run[..], &here].concat(), true),
        (vec!["cache", "ls", "--cache", &cache], false),
        (vec!["--help"], false),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        command.args(&args).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("LD_LIBRARY_PATH");
        command.stdout(writer.try_clone().unwrap());
        if closed_stderr {
            command.stderr(writer);
        } else {
            command.stderr(std::process::Stdio::piped());
        }
        drop(reader);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(!said.contains("error"), "{args:?}: {said}");
    }
    let cached = emoflow(&["cache", "ls", "--cache", &cache], &[]);
    assert!(String::from_utf8_lossy(&cached.stdout).contains("stories"), "the run went on to its end");
}
