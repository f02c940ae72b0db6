//! `experiments/gemma4.toml`, as it ships, on a random checkpoint of that repository's shape that a local hub serves.

use std::path::Path;

use emoflow::lm::{Spec, sample, weights};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::server::Hub;
use super::{command, said};

/// As many layers as Gemma-4-E4B has, of which the last 18 use the keys and values of others.
const LAYERS: usize = 42;

/// The fixture's config with the depth of the published model.
fn config(fixture: &[u8]) -> Value {
    let mut config: Value = serde_json::from_slice(fixture).unwrap();
    let text = &mut config["text_config"];
    let kind =
        |layer: usize| if (layer + 1).is_multiple_of(6) { "full_attention" } else { "sliding_attention" };
    text["layer_types"] = (0..LAYERS).map(kind).collect();
    text["num_hidden_layers"] = LAYERS.into();
    text["num_kv_shared_layers"] = 18.into();
    text["max_position_embeddings"] = 2048.into();
    config
}

/// Random weights for a config, under the names that the hub's checkpoints have.
fn random_weights(config: &Value) -> Vec<u8> {
    let spec = Spec::from_config(config).unwrap();
    let tensors = spec.tensors().into_iter().zip(0..).map(|((name, shape), seed)| {
        let n: i64 = shape.iter().product();
        let numbers: Vec<f32> = (0..n).map(|i| sample::uniform(seed, i as u64, 0) * 2.0 - 1.0).collect();
        let random = Tensor::from_slice(&numbers).view(shape.as_slice());
        let tensor = match shape.as_slice() {
            // Norms and scalars near 1, maps that keep a vector's size.
            [_] => random * 0.2 + 1.0,
            [.., width] => random * (3.0 / *width as f64).sqrt(),
            [] => random,
        };
        (name.replacen("model.", "model.language_model.", 1), tensor.to_kind(Kind::BFloat16))
    });
    let path = tempfile::NamedTempFile::new().unwrap();
    weights::save(path.path(), &tensors.collect::<Vec<_>>()).unwrap();
    std::fs::read(path.path()).unwrap()
}

#[test]
fn the_gemma_4_experiment_runs_as_it_ships() {
    let hub = Hub::start("gemma4-e");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    {
        let mut state = hub.state();
        state.repo = "google/gemma-4-E4B-it".to_string();
        let config = config(&state.files["config.json"]);
        state.files.insert("model.safetensors".to_string(), random_weights(&config));
        state.files.insert("config.json".to_string(), config.to_string().into_bytes());
        let template = std::fs::read(root.join("tests/fixtures/chat/macros.jinja")).unwrap();
        state.files.insert("chat_template.jinja".to_string(), template);
    }
    let dir = tempfile::tempdir().unwrap();
    let experiment = std::fs::read_to_string(root.join("experiments/gemma4.toml")).unwrap();
    let checked = command(dir.path(), &hub.url, &experiment, &["check"]).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
    // Fewer and shorter stories than it asks for; a random model's texts are noise.
    let fewer = [
        "stories.own.generate.per_topic=1",
        "stories.own.generate.max_new_tokens=90",
        "stories.own.generate.topics=['a lost key', 'the school play']",
        "stories.own.generate.reject={ names_emotion = true, min_tokens = 60, attempts = 8 }",
    ];
    let sets: Vec<&str> = fewer.iter().flat_map(|set| ["--set", set]).collect();
    let run = || command(dir.path(), &hub.url, &experiment, &[&["run", "--quiet"], sets.as_slice()].concat());
    let first = run().output().unwrap();
    assert!(first.status.success(), "{}", said(&first));
    assert!(hub.fetched().contains(&"model.safetensors".to_string()));
    let results = dir.path().join("results/exp");
    let recorded = std::fs::read_to_string(results.join("run.json")).unwrap();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    let model = &recorded["models"][0];
    assert_eq!(
        (&model["repo"], &model["dtype"], &model["n_layers"]),
        (&json!("google/gemma-4-E4B-it"), &json!("bf16"), &json!(LAYERS))
    );
    assert_eq!(model["not_read"][0], "model.vision_tower.", "towers are passed over by name");
    assert_eq!(recorded["summary"]["failed"], 0, "{}", said(&first));
    for table in ["space", "similarity", "words", "causes"] {
        assert!(results.join(format!("tables/{table}.parquet")).is_file(), "no table {table}");
    }
    assert!(results.join("report.html").is_file());
    let second = run().output().unwrap();
    assert!(said(&second).contains("ran 0,"), "{}", said(&second));
    assert!(!hub.fetched().contains(&"model.safetensors".to_string()), "the weights are here");
}
