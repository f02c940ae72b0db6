//! Adapters that do not fit, and kinds that are not supported: refused, and by which name.

use std::path::Path;

use emoflow::lm::adapter::AdapterFiles;
use emoflow::lm::{Checkpoint, weights};
use tch::Tensor;

use super::folder;

/// A copy of the adapter fixture `name`, changed, on the checkpoint fixture `base`: the error.
#[track_caller]
fn refused(name: &str, base: &str, change: impl FnOnce(&Path), said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(folder("adapters").join(name).join(file), dir.path().join(file)).unwrap();
    }
    change(dir.path());
    let checkpoint = Checkpoint::open(&folder(base)).unwrap();
    let spec = checkpoint.spec().unwrap();
    let outcome = AdapterFiles::open(dir.path(), &[])
        .and_then(|files| checkpoint.with_adapter(files).check_weights(&spec));
    let error = format!("{:#}", outcome.expect_err("it fits"));
    for part in said {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

fn edit(dir: &Path, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = dir.join("adapter_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    weights::save(&path, &tensors).unwrap();
}

fn set(dir: &Path, key: &str, value: serde_json::Value) {
    let path = dir.join("adapter_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn adapters_that_do_not_fit_are_refused_by_the_module() {
    let up = "base_model.model.model.layers.0.mlp.up_proj";
    let without = |dir: &Path, ending: &str| {
        edit(dir, |tensors| tensors.retain(|(name, _)| name != &format!("{up}.{ending}")));
    };
    let renamed = |dir: &Path, to: &str| {
        edit(dir, |tensors| {
            for (name, _) in tensors.iter_mut().filter(|(name, _)| name.starts_with(up)) {
                *name = name.replace("mlp.up_proj", to);
            }
        });
    };
    let plain = |change: &dyn Fn(&Path), said: &[&str]| refused("plain", "llama-gqa", change, said);
    plain(&|dir| without(dir, "lora_B.weight"), &["`model.layers.0.mlp.up_proj`", "halves", "is missing"]);
    plain(&|dir| renamed(dir, "mlp.up"), &["`model.layers.0.mlp.up`", "is not a module of the model"]);
    plain(&|dir| renamed(dir, "mlp.down_proj2.lora_C"), &["is not a module of the model"]);
    plain(&|dir| set(dir, "r", 5.into()), &["the ranks 4 and 4, adapter_config.json says 5"]);
    plain(
        &|dir| {
            edit(dir, |t| {
                t.push((format!("{up}.lora_E"), Tensor::ones([1], (tch::Kind::Float, tch::Device::Cpu))))
            })
        },
        &["lora_E", "is nothing that PEFT writes for LoRA"],
    );
    plain(&|dir| set(dir, "peft_type", "IA3".into()), &["of the kind IA3"]);
    refused("plain", "phi3", |_| {}, &["is not a module of the model"]);
    refused(
        "fused",
        "llama-gqa",
        |_| {},
        &["`model.layers.0.mlp.gate_up_proj`", "is not a module of the model"],
    );
    refused("plain", "qwen3", |_| {}, &["is for a tensor of", "the model's has"]);
    refused("dora", "qwen2", |dir| set(dir, "use_dora", false.into()), &["`use_dora`"]);
    refused(
        "embeddings",
        "qwen2-tied",
        |_| {},
        &["ties its unembedding to its embedding", "merge_and_unload"],
    );
}

#[test]
fn a_pickle_and_what_is_no_adapter_are_refused() {
    let rename = |dir: &Path| {
        std::fs::rename(dir.join("adapter_model.safetensors"), dir.join("adapter_model.bin")).unwrap();
    };
    refused("plain", "llama-gqa", rename, &["`adapter_model.bin` is a pickle"]);
    let remove = |dir: &Path| std::fs::remove_file(dir.join("adapter_config.json")).unwrap();
    refused("plain", "llama-gqa", remove, &["there is no `adapter_config.json`"]);
    let damage = |dir: &Path| std::fs::write(dir.join("adapter_model.safetensors"), b"x").unwrap();
    refused("plain", "llama-gqa", damage, &["not a safetensors file"]);
}
