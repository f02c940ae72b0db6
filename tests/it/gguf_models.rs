//! Models out of GGUF files, from the experiment file to the report: Ollama's store, a tokenizer from elsewhere, fields of
//! the config that are ignored; and what is odd about a tokenizer.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [0]
[models.one]
{model}
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["Today she felt {emotion} all day.", "Why are you {emotion}?"]
[activations]
from_token = 0
"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// An experiment on one model, `table` being what its table says, with the tokenizer of a fixture in the folder `words`.
fn project(table: &str) -> Project {
    let project = Project::new(&EXPERIMENT.replace("{model}", table));
    std::fs::create_dir(project.path("words")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture("llama-gqa").join(name), project.path("words").join(name)).unwrap();
    }
    std::fs::copy(fixture("gguf/llama-q8_0.gguf"), project.path("model.gguf")).unwrap();
    project
}

fn model(project: &Project) -> Value {
    let run = std::fs::read_to_string(project.path("results/exp/run.json")).unwrap();
    serde_json::from_str::<Value>(&run).unwrap()["models"][0].clone()
}

/// `emoflow <command>` in a process of its own, which has the store of Ollama that the project has.
fn with_store(project: &Project, command: &str) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    program.args([command, project.path("exp.toml").to_str().unwrap()]);
    if command == "run" {
        program.args(["--device", "cpu"]);
    }
    let out = program.env("OLLAMA_MODELS", project.path("ollama")).output().unwrap();
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code().unwrap(), text)
}

#[test]
fn a_model_of_ollamas_is_run_out_of_its_store() {
    let project = project("ollama = \"tiny:q8\"\ntokenizer = \"words\"");
    let (code, said) = with_store(&project, "check");
    assert_ne!(code, 0);
    assert!(said.contains("Ollama has no model `tiny:q8`") && said.contains("ollama pull tiny:q8"), "{said}");

    // Ollama does not look whether a blob has its name's digest, nor is that asked here.
    let digest = "ab".repeat(32);
    let manifest = json!({"schemaVersion": 2, "layers": [
        {"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{digest}"), "size": 1},
        {"mediaType": "application/vnd.ollama.image.license", "digest": format!("sha256:{}", "cd".repeat(32))},
    ]});
    let tags = project.path("ollama/manifests/registry.ollama.ai/library/tiny");
    std::fs::create_dir_all(&tags).unwrap();
    std::fs::write(tags.join("q8"), manifest.to_string()).unwrap();
    let blobs = project.path("ollama/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::copy(fixture("gguf/llama-q8_0.gguf"), blobs.join(format!("sha256-{digest}"))).unwrap();
    let (code, said) = with_store(&project, "check");
    assert_eq!(code, 0, "{said}");
    let (code, said) = with_store(&project, "run");
    assert_eq!(code, 0, "{said}");
    let ran = model(&project);
    assert_eq!(ran["repo"], "ollama tiny:q8");
    assert_eq!(ran["tokenizer"], json!({"name": "words"}));

    // It is the same model as the file itself.
    project.write(&EXPERIMENT.replace("{model}", "path = \"model.gguf\"\ntokenizer = \"words\""));
    let again = project.run(&[]);
    assert_eq!((again.code, again.names("ran")), (0, Vec::<&str>::new()), "{}", again.out);
    assert_eq!(model(&project)["digest"], ran["digest"]);
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("tokenizer of words"));
}

#[test]
fn fields_of_a_gguf_config_can_be_ignored() {
    let of = |more: &str| project(&format!("path = \"model.gguf\"\ntokenizer = \"words\"\n{more}"));
    let run = |project: &Project| {
        assert_eq!(project.run(&[]).code, 0);
        model(project)
    };
    let plain = run(&of(""));
    let taken = run(&of("ignore_config = [\"rope_theta\"]"));
    assert_eq!(taken["config_ignored"], json!(["rope_theta"]));
    assert_ne!(plain["digest"], taken["digest"]);
    assert_ne!(of("ignore_config = [\"no_such_field\"]").emoflow("check", &[]).code, 0);
}

/// Mistral's tokenizer of the Tekken kind with the expression that was published by mistake, as
/// `tests/fixtures/make_tekken.py` describes it.
#[test]
fn the_published_mistake_of_a_tokenizer_is_said() {
    let reference: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("tekken.json")).unwrap()).unwrap();
    let project = project("path = \"tekken\"");
    let dir = project.path("tekken");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(fixture("mistral/model.safetensors"), dir.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(fixture("mistral/config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["transformers_version"] = "4.57.1".into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tokenizer = reference["tokenizer"].clone();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let known = vocab.len();
    for i in 0..reference["filler"].as_u64().unwrap() as usize {
        vocab.insert(format!("<filler-{i}>"), (known + i).into());
    }
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let checkpoint = || emoflow::lm::Checkpoint::open(&dir).unwrap();
    let agrees = |ids: &str| {
        let tokenizer = emoflow::lm::Tokenizer::load(&checkpoint()).unwrap();
        for (text, want) in
            reference["texts"].as_array().unwrap().iter().zip(reference[ids].as_array().unwrap())
        {
            let got = tokenizer.encode(text.as_str().unwrap()).unwrap().ids;
            assert_eq!(json!(got), *want, "{ids}: {text}");
        }
    };
    agrees("published");
    let oddity = emoflow::lm::Tokenizer::oddity(&checkpoint()).unwrap();
    assert!(oddity.contains("regular expression"), "{oddity}");
    assert_eq!(project.run(&[]).code, 0);
    assert_eq!(model(&project)["tokenizer_note"], json!(oddity));
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("that Mistral has since corrected"));
    std::fs::write(dir.join("tokenizer_config.json"), r#"{"fix_mistral_regex": true}"#).unwrap();
    agrees("corrected");
    assert_eq!(emoflow::lm::Tokenizer::oddity(&checkpoint()), None);
}
