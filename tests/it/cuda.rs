//! Runs on CUDA where there is none: `tests/stand_in/libtorch_cuda.cpp` stands in for libtorch's CUDA half. It computes on
//! the CPU, but tells devices apart as a GPU does. So this is about what is where and who waits for whom, not about
//! CUDA's numbers: on a machine with a GPU `cargo test --test it -- --ignored cuda::on` compares those.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use emoflow::lm::device;
use tch::Device;

use crate::interrupt::{EXPERIMENT, Running, results};
use crate::lm::{parity, sharing};
use crate::project::Project;

/// A libtorch whose CUDA half is the stand-in, and a driver.
struct StandIn {
    /// What `LD_LIBRARY_PATH` is to name.
    path: String,
    /// What `LD_PRELOAD` is to name.
    driver: String,
    /// What `XDG_CACHE_HOME` is to name.
    caches: String,
}

static STAND_IN: LazyLock<StandIn> = LazyLock::new(|| {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in");
    let texts =
        ["libtorch_cuda.cpp", "libcuda.c"].map(|name| fs::read_to_string(sources.join(name)).unwrap());
    let real = Path::new(env!("EMOFLOW_LIBTORCH"));
    let size = fs::metadata(real.join("libtorch_cpu.so")).unwrap().len();
    let mut hasher = DefaultHasher::new();
    (texts, real, size).hash(&mut hasher);
    // Beside the build, which is often on the file system of the libraries: then they need not be copied.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stand-in-{:016x}", hasher.finish()));
    if !folder.is_dir() {
        let made = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        make(&sources, real, made.path());
        // Whoever made it at the same time may have been first: then this one goes.
        let _ = fs::rename(made.path(), &folder);
    }
    let lib = folder.join("torch/lib");
    let driver = folder.join("driver/libcuda.so.1");
    let stand_in = StandIn {
        path: format!("{}:{}", lib.display(), driver.parent().unwrap().display()),
        driver: driver.display().to_string(),
        caches: folder.join("caches").display().to_string(),
    };
    // Its devices are checked before anything else, so that this is in no log.
    for device in ["cuda:0", "cuda:1"] {
        let (code, said) = doctor(&stand_in, device, &["--check"], &[("STAND_IN_DEVICES", "2")]);
        assert_eq!(code, Some(0), "{said}");
    }
    stand_in
});

/// What has a program find the stand-in, and remember what it is found to compute.
impl StandIn {
    fn environment(&self) -> [(&str, &str); 3] {
        [("LD_LIBRARY_PATH", &self.path), ("LD_PRELOAD", &self.driver), ("XDG_CACHE_HOME", &self.caches)]
    }
}

/// `emoflow doctor` on `device`; returns its exit code and what it printed.
fn doctor(
    stand_in: &StandIn,
    device: &str,
    more: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String) {
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_emoflow"))
        .args(["doctor", "--offline", "--device", device, "--cache"])
        .arg(cache.path())
        .args(more)
        .envs(stand_in.environment())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn make(sources: &Path, real: &Path, folder: &Path) {
    let root = real.parent().unwrap();
    let (lib, driver) = (folder.join("torch/lib"), folder.join("driver"));
    fs::create_dir_all(&lib).and_then(|()| fs::create_dir_all(&driver)).unwrap();
    for entry in fs::read_dir(real).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("libtorch_cuda") {
            let here = lib.join(&name);
            fs::hard_link(entry.path(), &here)
                .or_else(|_| fs::copy(entry.path(), &here).map(|_| ()))
                .unwrap();
        }
    }
    for version in ["version.py", "build-version"].map(|name| root.join(name)) {
        if version.is_file() {
            fs::copy(&version, folder.join("torch").join(version.file_name().unwrap())).unwrap();
        }
    }
    // What PyPI's libtorch needs lies beside it.
    let beside = root.with_file_name("nvidia");
    if beside.is_dir() {
        std::os::unix::fs::symlink(beside, folder.join("nvidia")).unwrap();
    }
    let compile = |compiler: &str, otherwise: &str, options: &[&str], source: &str, to: PathBuf| {
        let program = std::env::var_os(compiler).unwrap_or_else(|| otherwise.into());
        let mut command = Command::new(program);
        command.args(["-shared", "-fPIC"]).args(options).arg(sources.join(source)).arg("-o").arg(to);
        command.arg("-I").arg(root.join("include"));
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let torch = ["-std=c++17", "-O1"];
    compile("CXX", "c++", &torch, "libtorch_cuda.cpp", lib.join("libtorch_cuda.so"));
    compile("CC", "cc", &[], "libcuda.c", driver.join("libcuda.so.1"));
}

/// `emoflow run` on `device`, with more of the environment; returns its exit code and what it said.
fn run(
    project: &Project,
    device: &str,
    more: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String) {
    let environment = [&STAND_IN.environment(), environment].concat();
    let (code, _, said) =
        Running::command(project, "run", &[&["--device", device], more].concat(), &environment).ended();
    (code, said)
}

/// What the devices did in a run of some nodes, which must succeed.
fn log(project: &Project, only: &str) -> Vec<String> {
    let file = project.path("log");
    let _ = fs::remove_file(&file);
    let (code, said) = run(project, "cuda", &["--only", only], &[("STAND_IN_LOG", file.to_str().unwrap())]);
    assert_eq!(code, Some(0), "{said}");
    fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| line.strip_prefix("0 ").unwrap().to_string())
        .collect()
}

/// What crosses between host and device, without numbers of bytes; `op` for each row of operations.
fn crossings(log: &[String]) -> Vec<String> {
    let mut short: Vec<String> = log
        .iter()
        .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            ["op", ..] => "op".to_string(),
            [way, _, how] => format!("{way} {how}"),
            _ => line.to_string(),
        })
        .collect();
    short.dedup();
    short
}

/// The experiment with a model in fp32, and words; batches of the size of a GPU's.
fn experiment() -> String {
    EXPERIMENT
        .replace("path = \"{demo}\"", "path = \"{demo}\"\ndtype = \"f32\"")
        .replace("batch_tokens = 128\n", "")
        + "[analysis.words.logit_lens]\ntop = 1\n[neutral.template]\nset = \"neutral-40\"\n"
}

/// Fails where two tables differ: in their words at all, in their numbers by more than rounding.
fn same(got: &Path, want: &Path) {
    let cells = |path: &Path| -> Vec<String> {
        fs::read_to_string(path).unwrap().split([',', '\n', '"', '[', ']']).map(str::to_string).collect()
    };
    let (got_cells, want_cells) = (cells(got), cells(want));
    assert_eq!(got_cells.len(), want_cells.len(), "{}", got.display());
    for (got_cell, want_cell) in got_cells.iter().zip(&want_cells) {
        let near = match (got_cell.parse::<f64>(), want_cell.parse::<f64>()) {
            (Ok(a), Ok(b)) => a == b || (a - b).abs() <= 1e-3 * b.abs().max(1e-2),
            _ => got_cell == want_cell,
        };
        assert!(near, "{}: {got_cell} in place of {want_cell}", got.display());
    }
}

/// Fails where the tables of a folder differ.
fn same_files(got: &Project, want: &Project, folder: &str) {
    let files = fs::read_dir(want.path(folder)).unwrap().flatten().map(|entry| entry.path());
    let files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "csv")).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        same(&got.path(folder).join(file.file_name().unwrap()), &file);
    }
}

#[test]
fn a_run_on_cuda_has_the_results_of_one_on_the_cpu() {
    let [on_cuda, on_cpu] = [(); 2].map(|()| Project::new(&experiment()));
    let (code, said) = run(&on_cuda, "auto", &["-v"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("device: cuda") && said.contains("a CUDA device is there"), "{said}");
    assert_eq!(on_cpu.run(&[]).code, 0);
    for folder in ["results/exp/tables", "results/exp/stories"] {
        same_files(&on_cuda, &on_cpu, folder);
    }
}

/// The table of docs/design/devices.md: nothing waits but the copy of the means.
#[test]
fn a_batch_of_activations_waits_for_the_device_once() {
    let project = Project::new(&experiment());
    log(&project, "stories/*");
    let log = log(&project, "activations/*");
    assert!(!log.iter().any(|line| line.contains(" Double")), "there is no float64 on Apple's devices");
    let crossings = crossings(&log);
    let begin = crossings.iter().position(|line| line == "to queued").unwrap();
    let batch = ["to queued", "op", "to queued", "op", "from queued", "wait"];
    let batches = &crossings[begin..];
    assert!(batches.len() >= 2 * batch.len());
    assert!(batches.chunks(batch.len()).all(|lines| lines == batch), "{batches:?}");
}

/// Also with `top_p`, of which a draw in twenty is repeated.
#[test]
fn a_step_of_generation_waits_for_the_device_once() {
    for top_p in ["1.0", "0.95"] {
        let project =
            Project::new(&experiment().replace("per_topic", &format!("top_p = {top_p}\nper_topic")));
        let log = log(&project, "stories/own*");
        assert!(!log.iter().any(|line| line.contains(" Double")));
        let steps = log.iter().filter(|line| line.contains("aten::cumsum")).count();
        let crossings = crossings(&log);
        // Weights are copied while nothing else is to be done.
        let begin = crossings.iter().rposition(|line| line == "to waits").unwrap() + 1;
        let waits: Vec<_> =
            crossings[begin..].iter().filter(|line| *line != "op" && *line != "to queued").collect();
        assert!(waits.iter().all(|line| *line == "from waits"), "{waits:?}");
        assert!(
            steps > 40 && waits.len() >= steps && waits.len() * 10 < steps * 11,
            "{} of {steps}",
            waits.len()
        );
    }
}

/// Blocks come one by one, and what is between two of them stays where it is. Embeddings are looked up on the host.
#[test]
fn residuals_of_streamed_blocks_stay_on_the_device() {
    let plain = experiment().replace("dtype = \"f32\"", "");
    let streamed = experiment().replace("dtype = \"f32\"", "offload = \"layers\"");
    let to_the_host = |text: &str| {
        let project = Project::new(text);
        log(&project, "stories/*");
        log(&project, "activations/*").iter().filter(|line| line.starts_with("from ")).count()
    };
    let counts = [plain, streamed].map(|text| to_the_host(&text));
    let [means, means_and_tokens] = counts;
    assert!(means > 0 && means_and_tokens == 2 * means, "{counts:?}");
}

#[test]
fn two_cuda_devices_give_the_bytes_of_one() {
    let [one, two] = [(); 2].map(|()| Project::new(&experiment()));
    let (code, said) = run(&one, "cuda", &[], &[]);
    assert_eq!(code, Some(0), "{said}");
    let log = two.path("log");
    let environment = [("STAND_IN_DEVICES", "2"), ("STAND_IN_LOG", log.to_str().unwrap())];
    let (code, said) = run(&two, "cuda:0,cuda:1", &["-v"], &environment);
    assert_eq!(code, Some(0), "{said}");
    let log = fs::read_to_string(log).unwrap();
    assert!(["0 op ", "1 op "].into_iter().all(|device| log.lines().any(|line| line.starts_with(device))));
    assert!(said.contains("[cuda:1] demo: load "), "{said}");
    assert!(results(&one) == results(&two), "the bytes differ");
    let (code, said) = run(&one, "cuda:1", &[], &[]);
    assert!(code == Some(2) && said.contains("--device cuda:1: there is cuda:0 alone"), "{code:?} {said}");
}

#[test]
fn where_memory_is_short_batches_are_halved_and_where_a_model_does_not_fit_it_is_refused() {
    let text = experiment().replace("shard = 4\n", "");
    let [whole, halved, refused] = [(); 3].map(|()| Project::new(&text));
    let (code, said) = run(&whole, "cuda", &[], &[]);
    assert!(code == Some(0) && !said.contains("halves"), "{said}");
    // The weights take half of the 16 MB that are left. Each run says once that memory is short.
    let memory = [("STAND_IN_MEMORY", "1000000000"), ("STAND_IN_OTHERS", "984000000")];
    for node in ["stories/", "activations/", "causes/"] {
        let (code, said) = run(&halved, "cuda", &["--only", &format!("{node}*")], &memory);
        assert_eq!(code, Some(0), "{said}");
        let line = said.lines().find(|line| line.contains("not enough memory for ")).expect(&said);
        assert!(line.starts_with(node), "{said}");
        assert!(line.contains(" texts at once (CUDA out of memory. Tried to allocate"), "{line}");
    }
    assert_eq!(run(&halved, "cuda", &[], &memory).0, Some(0));
    same_files(&halved, &whole, "results/exp/tables");

    let (code, said) = run(&refused, "cuda", &[], &[("STAND_IN_MEMORY", "10000000")]);
    assert!(
        code == Some(1) && said.contains("0.0 GB are available (free memory of CUDA device 0)"),
        "{said}"
    );
}

/// A device that is wrong is found out the first time that a model is to be loaded on it, is refused with the numbers, and is
/// not asked again; one that is right is used.
#[test]
fn a_device_that_computes_wrong_numbers_is_refused() {
    let project = Project::new(&experiment());
    for (wrong, dtype) in [("mask", "f32"), ("groups", "bf16")] {
        let caches = tempfile::tempdir().unwrap();
        let caches = ("XDG_CACHE_HOME", caches.path().to_str().unwrap());
        let said = doctor(&STAND_IN, "cuda", &[], &[caches]).1;
        assert_eq!(said.matches("warning   cuda in ").count(), 3, "{said}");
        let set = format!("models.demo.dtype='{dtype}'");
        let only = ["--only", "stories/own*", "--set", &set];
        let (code, said) = run(&project, "cuda", &only, &[caches, ("STAND_IN_WRONG", wrong)]);
        assert_eq!(code, Some(1), "{said}");
        let line = said.lines().find(|line| line.contains("computes wrong numbers")).expect(&said);
        assert!(
            line.contains(&format!("cuda:0 computes wrong numbers in {dtype}: a small model is off by ")),
            "{line}"
        );
        // It is remembered: nothing wrong is planted now.
        let (code, said) = run(&project, "cuda", &only, &[caches]);
        assert!(code == Some(1) && said.contains(line), "{said}");
        let (code, said) = doctor(&STAND_IN, "cuda", &[], &[caches]);
        assert!(
            code == Some(1) && said.contains(&format!("FAILED    cuda in {dtype}: wrong numbers: off by ")),
            "{said}"
        );
        let (code, said) = doctor(&STAND_IN, "cuda", &["--check"], &[caches]);
        assert!(code == Some(0) && said.matches("ok        cuda in ").count() == 3, "{said}");
        let (code, said) = run(&project, "cuda", &only, &[caches]);
        assert_eq!(code, Some(0), "{said}");
    }
}

/// In a process that finds the stand-in.
#[test]
fn every_family_agrees_with_transformers_on_a_device_of_its_own() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["cuda::on_", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", &STAND_IN.path)
        .env("XDG_CACHE_HOME", &STAND_IN.caches)
        .env("TORCH_CUDNN_SDPA_DEPRIORITIZED", "1") // as the program does
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("3 passed"), "{said}");
}

fn cuda() -> Device {
    device::choose("cuda").unwrap().device
}

#[test]
#[ignore = "needs a GPU; another test runs it with a stand-in"]
fn on_cuda_every_family_agrees_with_transformers() {
    parity::check_all(&parity::fixtures(), parity::BF16, cuda());
}

#[test]
#[ignore = "needs a GPU; another test runs it with a stand-in"]
fn on_cuda_streamed_blocks_give_the_same_residuals() {
    parity::check_streamed(cuda());
}

#[test]
#[ignore = "needs a GPU; another test runs it with a stand-in"]
fn on_cuda_passes_that_go_on_from_a_layer_agree_with_whole_ones() {
    sharing::check_on(cuda());
}
