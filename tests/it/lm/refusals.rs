//! Checkpoints from strangers: what must be refused, and by which name; what may be passed over.

use std::path::{Path, PathBuf};

use emoflow::lm::{Checkpoint, Dtype, LanguageModel, Message, Role, weights};
use tch::{Device, Tensor};

use super::{folder, random};

/// Copies a fixture, changes it, and asks for the error.
#[track_caller]
fn refused(name: &str, change: impl FnOnce(&Path), said: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    change(dir.path());
    let outcome = Checkpoint::open(dir.path())
        .and_then(|c| LanguageModel::load(&c, Dtype::F32, Device::Cpu).map(|_| ()));
    let error = format!("{:#}", outcome.expect_err("it was loaded"));
    for part in said {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

fn edit_weights(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = dir.join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    weights::save(&path, &tensors).unwrap();
}

fn edit_text(path: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// A checkpoint's tensors by name, as `weights::save` takes them.
type Tensors = Vec<(String, Tensor)>;

#[test]
fn tensors_that_do_not_fit_are_named() {
    let q = "model.layers.1.self_attn.q_proj.weight";
    let edit = |change: &dyn Fn(&mut Tensors), said: &[&str]| {
        refused("llama-gqa", |dir| edit_weights(dir, change), said);
    };
    edit(&|t| t.retain(|(name, _)| name != q), &[q, "missing"]);
    edit(
        &|t| t.push(("model.extra.weight".into(), random(&[3], 0))),
        &["model.extra.weight", "not in the model"],
    );
    let other_shape = |t: &mut Tensors| {
        t.iter_mut().filter(|(name, _)| name == q).for_each(|(_, t)| *t = random(&[32, 31], 0));
    };
    edit(&other_shape, &[q, "[32, 31]", "[32, 32]"]);
    edit(&|t| t.push(("lm_head.weight".into(), random(&[320, 32], 0))), &["lm_head", "differs"]);
    refused(
        "llama-untied",
        |dir| edit_weights(dir, |t| t.retain(|(n, _)| n != "lm_head.weight")),
        &["lm_head", "missing"],
    );
    refused(
        "llama-bias",
        |dir| edit_text(dir.join("config.json"), "\"attention_bias\": true", "\"attention_bias\": false"),
        &["self_attn.q_proj.bias", "not in the model", "more"],
    );
}

#[test]
fn buffers_and_tied_copies_of_old_checkpoints_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("llama-gqa")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    edit_weights(dir.path(), |t| {
        let embed = t.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap().1.copy();
        t.push(("lm_head.weight".into(), embed));
        t.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), random(&[4], 0)));
    });
    LanguageModel::load(&Checkpoint::open(dir.path()).unwrap(), Dtype::F32, Device::Cpu).unwrap();
}

#[test]
fn files_of_strangers_are_refused_by_name() {
    let weights = |dir: &Path| dir.join("model.safetensors");
    let header = |n: u64| {
        move |dir: &Path| {
            let mut bytes = std::fs::read(weights(dir)).unwrap();
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            std::fs::write(weights(dir), bytes).unwrap();
        }
    };
    refused("llama-gqa", header(u64::MAX), &["model.safetensors", "header"]);
    refused("llama-gqa", header(200_000_000), &["header of 200000000"]);
    refused("llama-gqa", header(100_000), &["model.safetensors"]);
    refused("llama-gqa", |dir| std::fs::write(weights(dir), b"PK").unwrap(), &["2 bytes"]);
    refused(
        "llama-gqa",
        |dir| {
            let bytes = std::fs::read(weights(dir)).unwrap();
            std::fs::write(weights(dir), &bytes[..bytes.len() - 1]).unwrap();
        },
        &["model.safetensors", "not as many as its header says", "download it again"],
    );
    refused(
        "llama-gqa",
        |dir| std::fs::rename(weights(dir), dir.join("pytorch_model.bin")).unwrap(),
        &["pickle", "save_pretrained"],
    );
    refused("llama-gqa", |dir| std::fs::remove_file(weights(dir)).unwrap(), &["neither"]);
    for file in ["tokenizer.json", "config.json"] {
        refused("llama-gqa", |dir| std::fs::remove_file(dir.join(file)).unwrap(), &[file]);
        refused("llama-gqa", |dir| std::fs::write(dir.join(file), b"[[[").unwrap(), &[file]);
        refused("llama-gqa", |dir| std::fs::write(dir.join(file), "[".repeat(100_000)).unwrap(), &[file]);
    }
    refused(
        "llama-gqa",
        |dir| std::fs::write(dir.join("config.json"), vec![b' '; 17 << 20]).unwrap(),
        &["config.json", "larger"],
    );
    refused(
        "llama-gqa",
        |dir| edit_text(dir.join("config.json"), "LlamaForCausalLM", "MambaForCausalLM"),
        &["architecture `MambaForCausalLM` is not supported yet. Supported: LlamaForCausalLM, "],
    );
    let shard = "model-00002-of-0000";
    for evil in
        ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin", "C:\\\\x.safetensors"]
    {
        let rename = |dir: &Path| {
            let path = dir.join("model.safetensors.index.json");
            let text = std::fs::read_to_string(&path).unwrap();
            let at = text.find(shard).unwrap();
            let name = &text[at..at + text[at..].find('"').unwrap()];
            std::fs::write(&path, text.replace(name, evil)).unwrap();
        };
        refused("llama-sharded", rename, &["shard index names"]);
    }
    refused(
        "llama-sharded",
        |dir| {
            let name = Checkpoint::open(dir).unwrap().weights()[1].clone();
            std::fs::remove_file(name).unwrap();
        },
        &["shard", "missing"],
    );
    refused(
        "llama-gqa",
        |dir| std::fs::write(dir.join("chat_template.jinja"), "x".repeat(300_000)).unwrap(),
        &["chat_template.jinja"],
    );
}

#[test]
fn an_endless_template_ends() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("llama-gqa")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    std::fs::write(dir.path().join("chat_template.jinja"), endless).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
    let error =
        model.encode_chat(&[Message::new(Role::User, "hi")], emoflow::lm::Chat::default()).unwrap_err();
    assert!(format!("{error:#}").contains("fuel"), "{error:#}");
}

#[test]
fn a_checkpoint_lists_what_identifies_it() {
    let roles = |name: &str| -> Vec<String> {
        Checkpoint::open(&folder(name)).unwrap().files().into_iter().map(|(role, _)| role).collect()
    };
    assert_eq!(roles("llama-gqa"), ["weights/0", "config", "tokenizer", "tokenizer_config"]);
    assert_eq!(
        roles("llama3-rope"),
        ["weights/0", "config", "tokenizer", "tokenizer_config", "chat_template"]
    );
    assert_eq!(roles("llama-sharded")[..3], ["weights/0", "weights/1", "weights/2"]);
}

#[test]
fn a_method_of_quantisation_that_only_tensors_show_is_named() {
    let q = "model.layers.1.self_attn.q_proj";
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("models--nvidia--Llama-3.1-8B-Instruct-FP4/snapshots/1");
    std::fs::create_dir_all(&dir).unwrap();
    for entry in std::fs::read_dir(folder("llama-gqa")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    edit_weights(&dir, |tensors| {
        for name in ["weight_scale", "weight_scale_2", "input_scale"] {
            tensors.push((format!("{q}.{name}"), random(&[1], 0)));
        }
    });
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let error = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).map(|_| ()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("NVFP4 by NVIDIA ModelOpt"), "{error}");
    assert!(error.contains("`meta-llama/Llama-3.1-8B-Instruct`"), "{error}");
}

#[test]
fn other_forms_of_checkpoints_are_refused_in_words() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        refused(
            "llama-gqa",
            |dir| std::fs::write(dir.join(file), pointer).unwrap(),
            &["pointer of Git LFS", file],
        );
    }
    let gguf = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(gguf.path(), pointer).unwrap();
    assert!(format!("{:#}", Checkpoint::open(gguf.path()).unwrap_err()).contains("pointer of Git LFS"));
    let only = |names: &'static [&'static str]| {
        move |dir: &Path| {
            std::fs::remove_file(dir.join("model.safetensors")).unwrap();
            std::fs::remove_file(dir.join("config.json")).unwrap();
            names.iter().for_each(|name| std::fs::write(dir.join(name), "").unwrap());
        }
    };
    refused("llama-gqa", only(&["m.Q4_K_M.gguf", "m.Q8_0.gguf"]), &["m.Q4_K_M.gguf, m.Q8_0.gguf", "`path"]);
    refused("llama-gqa", only(&["consolidated.00.pth", "params.json"]), &["makers' own program"]);
    refused("llama-gqa", only(&["consolidated.safetensors"]), &["makers' own program"]);
    refused(
        "llama-gqa",
        |dir| std::fs::rename(dir.join("tokenizer.json"), dir.join("tokenizer.model")).unwrap(),
        &["tokenizer.model", "set `tokenizer`"],
    );
}

/// NVIDIA's ModelOpt, in the file that it writes beside a `config.json` that it leaves as it was.
#[test]
fn what_modelopt_quantised_is_refused_by_its_method() {
    let says = |text: &'static str| {
        move |dir: &Path| {
            std::fs::write(dir.join("hf_quant_config.json"), text).unwrap();
            edit_text(
                dir.join("config.json"),
                "{",
                "{\"_name_or_path\": \"meta-llama/Llama-3.1-8B-Instruct\",",
            );
        }
    };
    refused(
        "llama-gqa",
        says(
            r#"{"producer": {"name": "modelopt", "version": "0.29.0"},
                "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16}}"#,
        ),
        &["NVFP4 by NVIDIA ModelOpt", "meta-llama/Llama-3.1-8B-Instruct"],
    );
    refused("llama-gqa", says("no JSON"), &["hf_quant_config.json", "is not JSON"]);
    refused("llama-gqa", says(r#"{"quantization": {"quant_algo": "FP8"}}"#), &["FP8 by NVIDIA ModelOpt"]);
}

#[test]
fn names_of_mlx_are_those_of_gemma_4() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("gemma4-moe")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut renamed = 0;
    edit_weights(dir.path(), |tensors| {
        for (name, _) in tensors {
            let text = name.strip_prefix("model.language_model.");
            *name = match text.map(|rest| format!("language_model.model.{rest}")) {
                Some(text) => text,
                None => name.strip_prefix("model.").unwrap_or(name).to_string(),
            };
            renamed += usize::from(name.starts_with("language_model."));
        }
    });
    assert!(renamed > 50, "{renamed} tensors have another name");
    let load = |path: &Path| {
        let checkpoint = Checkpoint::open(path).unwrap();
        let spec = checkpoint.spec().unwrap();
        weights::load(&spec, &*checkpoint.open_weights().unwrap(), Dtype::F32, Device::Cpu).unwrap()
    };
    let (want, got) = (load(&folder("gemma4-moe")), load(dir.path()));
    assert_eq!(got.len(), want.len());
    for (name, tensor) in &got {
        assert!(tensor.equal(&want[name]), "{name}");
    }
}

/// As transformers 5.24 has them: `GPT2Config.from_dict({}).eos_token_id` is 50256, `GPTNeoXConfig.from_dict({})` has 0 and 2, and
/// null is none; where `generation_config.json` names ends, those hold.
#[test]
fn ends_that_a_config_does_not_name_are_those_of_its_class() {
    for (name, bos, eos) in [("gpt2", 50256, 50256), ("gpt-neox", 0, 2)] {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let ends = || {
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            let spec = checkpoint.spec().unwrap();
            (spec.bos, checkpoint.end_tokens(&spec).unwrap())
        };
        assert_eq!(ends(), (Some(0), vec![1]), "{name}");
        edit_text(dir.path().join("config.json"), "\"eos_token_id\": 1,", "\"eos_token_id\": null,");
        assert_eq!(ends(), (Some(0), vec![]), "{name}");
        edit_text(dir.path().join("config.json"), "\"eos_token_id\": null,", "");
        edit_text(dir.path().join("config.json"), "\"bos_token_id\": 0,", "");
        assert_eq!(ends(), (Some(bos), vec![eos]), "{name}");
        std::fs::write(dir.path().join("generation_config.json"), "{\"eos_token_id\": [7, 9]}").unwrap();
        assert_eq!(ends(), (Some(bos), vec![7, 9]), "{name}");
    }
}
