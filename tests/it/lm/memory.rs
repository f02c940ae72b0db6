//! What loading takes, measured in processes of their own, and what is refused before it is loaded.

use super::*;
use crate::project::Project;
use emoflow::lm::Spec;
use emoflow::lm::memory::{Need, Work};

/// Copies a fixture's checkpoint into a new folder, with another `config.json`.
fn with_config(change: impl FnOnce(&mut serde_json::Value)) -> (tempfile::TempDir, Spec) {
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"] {
        std::fs::copy(folder("llama-gqa").join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    (dir, Spec::from_config(&config).unwrap())
}

/// A checkpoint of 1.5 TB as bf16, if one believes its `config.json`.
fn giant() -> tempfile::TempDir {
    let (dir, spec) = with_config(|config| {
        config["hidden_size"] = 32_768.into();
        config["intermediate_size"] = 131_072.into();
        config["num_hidden_layers"] = 60.into();
        config["dtype"] = "bfloat16".into();
    });
    assert!(spec.n_params() > 700_000_000_000);
    dir
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let dir = giant();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let need = Need::new(&checkpoint.spec().unwrap(), Dtype::F32, Work::Little, Device::Cpu);
    let error = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).map(|_| ()).unwrap_err();
    let error = format!("{error:#}");
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    for said in [
        format!("{} are needed", gb(need.total())),
        format!("{} of weights as f32", gb(need.weights)),
        format!("A machine with {} would be enough", gb(need.total())),
        " are available (".into(),
    ] {
        assert!(error.contains(&said), "no `{said}` in: {error}");
    }
}

/// A checkpoint of the right size, with keys and values for more tokens than any machine holds.
#[test]
fn what_does_not_fit_fails_alone() {
    let (giant, _) = with_config(|config| config["max_position_embeddings"] = (1u64 << 28).into());
    let project = Project::new(&format!(
        "name = \"exp\"\nlayers = [1]\n[models.demo]\npath = \"{{demo}}\"\n[models.giant]\npath = {:?}\n\
         [emotions]\nwords = [\"happy\", \"sad\"]\n[stories.passages.template]\nset = \"passages-10\"\n\
         [stories.long.generate]\nmodel = \"giant\"\ntopics = [\"a lost key\"]\nmax_new_tokens = 200_000_000\n\
         [activations]\nfrom_token = 3\n[vectors]\ndenoise = \"none\"\n[analysis.similarity.cosine]\n",
        giant.path()
    ));
    let ran = project.run(&[]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.names("failed"), ["stories/long"]);
    assert_eq!(ran.nodes["similarity/demo/long"], "blocked");
    assert_eq!(ran.nodes["similarity/demo/passages"], "ran");
    assert_eq!(ran.nodes["similarity/giant/passages"], "ran");
    let run = std::fs::read_to_string(project.path("results/exp/run.json")).unwrap();
    assert!(run.contains("it does not fit into memory"), "{run}");
}

#[test]
fn numbers_at_odd_places_of_a_file_are_read() {
    let (dir, _) = with_config(|_| ());
    std::fs::copy(folder("llama-bf16").join("config.json"), dir.path().join("config.json")).unwrap();
    // One space more in the header, which is legal, moves every number by a byte.
    let bytes = std::fs::read(folder("llama-bf16").join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let mut moved = (header + 1).to_le_bytes().to_vec();
    moved.extend(&bytes[8..8 + header as usize]);
    moved.push(b' ');
    moved.extend(&bytes[8 + header as usize..]);
    std::fs::write(dir.path().join("model.safetensors"), moved).unwrap();
    for dtype in [Dtype::Bf16, Dtype::F32] {
        let odd = LanguageModel::load(&Checkpoint::open(dir.path()).unwrap(), dtype, Device::Cpu).unwrap();
        let batch = Batch::new(&[[3, 1, 4, 1, 5]]).unwrap();
        let [got, want] =
            [&odd, &load_as("llama-bf16", dtype)].map(|model| model.forward(&batch, &mut [], None).unwrap());
        assert!(got.equal(&want), "{dtype:?}");
    }
}

/// Started by [`measured`]: loads `$EMOFLOW_TEST_LOAD` ("dtype tokens folder"), passes so many tokens through it, and
/// prints the most memory that the process ever had, in KiB, after each.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "another test runs it in a process of its own"]
fn load_and_measure() {
    let asked = std::env::var("EMOFLOW_TEST_LOAD").expect("EMOFLOW_TEST_LOAD");
    let [dtype, tokens, dir]: [&str; 3] = asked.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let dtype = if dtype == "f32" { Dtype::F32 } else { Dtype::Bf16 };
    let model = LanguageModel::load(&Checkpoint::open(Path::new(dir)).unwrap(), dtype, Device::Cpu).unwrap();
    print_peak();
    let ids: Vec<i64> = (0..tokens.parse().unwrap()).map(|i| i % 320).collect();
    let rows: Vec<&[i64]> = ids.chunks(256).collect();
    let resid = model.forward(&Batch::new(&rows).unwrap(), &mut [], None).unwrap();
    assert!(resid.isfinite().all().int64_value(&[]) == 1);
    print_peak();
}

#[cfg(target_os = "linux")]
fn print_peak() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak: {}", peak.trim_end_matches("kB").trim());
}

/// The most memory, in MB, that a process had that loaded the checkpoint in `dir`, and after a pass as well.
#[cfg(target_os = "linux")]
fn measured(dtype: Dtype, tokens: usize, dir: &Path) -> [f64; 2] {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lm::memory::load_and_measure", "--ignored", "--nocapture"])
        .env("EMOFLOW_TEST_LOAD", format!("{} {tokens} {}", dtype.name(), dir.display()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let peaks =
        said.lines().filter_map(|line| Some(line.split_once("peak: ")?.1.parse::<f64>().unwrap() * 1.024e-3));
    peaks.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn loading_holds_the_weights_once() {
    /// What two processes that do the same differ by, in MB, and more.
    const NOISE: f64 = 24.0;
    const TOKENS: usize = 1024;
    // 114 MB as bf16; the largest tensor is 8 MB of it.
    let (dir, spec) = with_config(|config| {
        config["hidden_size"] = 1024.into();
        config["head_dim"] = 128.into();
        config["intermediate_size"] = 4096.into();
        config["num_hidden_layers"] = 4.into();
        config["dtype"] = "bfloat16".into();
    });
    let tensors = spec.tensors().into_iter();
    let tensors =
        tensors.map(|(name, shape)| (name, Tensor::full(shape, 0.01, (Kind::BFloat16, Device::Cpu))));
    weights::save(&dir.path().join("model.safetensors"), &tensors.collect::<Vec<_>>()).unwrap();

    let mb = |bytes: u64| bytes as f64 / 1e6;
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let tiny = measured(dtype, 16, &folder("llama-gqa"));
        let [loaded, passed] = measured(dtype, TOKENS, dir.path());
        let need = Need::new(&spec, dtype, Work::Passes { batch_tokens: TOKENS, waiting: 0 }, Device::Cpu);
        let (weights, work) = (mb(need.weights), mb(need.work));
        assert!(weights > 4.0 * NOISE);
        let loaded = loaded - tiny[0];
        assert!(loaded < weights + NOISE, "{dtype:?}: loading took {loaded} MB for {weights} MB");
        let passed = passed - tiny[1];
        // Mapped weights count once they are read, which is now.
        assert!(passed > 0.9 * weights, "{dtype:?}: {passed} MB with {weights} MB of weights?");
        assert!(passed < weights + work + NOISE, "{dtype:?}: a pass took {passed} MB beside {work} MB");
    }
}

#[test]
fn a_model_that_stays_in_its_files_gives_the_same_vectors() {
    let text = |offload: &str| {
        format!(
            "name = \"exp\"\nlayers = \"all\"\nshard = 8\n[models.demo]\npath = \"{{demo}}\"\n{offload}\n[emotions]\n\
             words = [\"happy\", \"sad\"]\n[stories.passages.template]\nset = \"passages-10\"\n[activations]\n\
             from_token = 3\nbatch_tokens = 300\n[vectors]\ndenoise = \"none\"\n"
        )
    };
    let [whole, streamed] = ["", "offload = \"layers\""].map(|offload| {
        let project = Project::new(&text(offload));
        assert_eq!(project.run(&[]).code, 0);
        let vectors = std::fs::read(project.path("results/exp/vectors/demo/passages.parquet")).unwrap();
        (project, vectors)
    });
    assert!(whole.1 == streamed.1, "the bytes differ");
    // The same keys: what one made, the other finds.
    whole.0.write(&text("offload = \"layers\""));
    assert_eq!(whole.0.run(&[]).names("ran"), Vec::<&str>::new());
}
