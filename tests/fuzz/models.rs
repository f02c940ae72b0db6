//! Checkpoints: their configs, weights, tokenizers and templates.

use std::path::Path;
use std::sync::Arc;

use emoflow::lm::adapter::AdapterConfig;
use emoflow::lm::bounded::Bounds;
use emoflow::lm::gguf::Gguf;
use emoflow::lm::template::ChatTemplate;
use emoflow::lm::{Chat, Checkpoint, Message, Role, Tokenizer, family, weights};
use serde_json::Value;

use crate::engine::{Shape, Target, USUAL, hold, inputs, quiet};
use crate::{in_folders, project, said};

/// Templates and tokenizers have bounds of their own (`src/lm/bounded/`).
const OWN: Bounds = Bounds { seconds: 90, ..USUAL };

fn read_config(bytes: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Value>(bytes);
    parsed.map_or_else(|e| e.to_string(), |config| said(family::read(&config, &[])))
}

#[test]
fn config_json() {
    quiet();
    hold(Target {
        name: "config",
        shape: Shape::Json,
        seeds: [
            in_folders("tests/fixtures", "config.json"),
            in_folders("tests/fixtures/quantised", "config.json"),
        ]
        .concat(),
        words: &[
            "hidden_size",
            "num_attention_heads",
            "num_key_value_heads",
            "rope_scaling",
            "rope_parameters",
            "rope_type",
            "yarn",
            "llama3",
            "longrope",
            "layer_types",
            "sliding_window",
            "text_config",
            "quantization_config",
            "torch_dtype",
            "eos_token_id",
            "num_local_experts",
            "head_dim",
            "architectures",
            "LlamaForCausalLM",
        ],
        executions: 3000,
        bounds: USUAL,
        read: Arc::new(|_, bytes| read_config(bytes)),
    });
}

#[test]
fn adapter_config() {
    quiet();
    hold(Target {
        name: "adapter",
        shape: Shape::Json,
        seeds: in_folders("tests/fixtures/adapters", "adapter_config.json"),
        words: &[
            "target_modules",
            "rank_pattern",
            "alpha_pattern",
            "layers_to_transform",
            "(a|a)*$",
            "modules_to_save",
        ],
        executions: 3000,
        bounds: USUAL,
        read: Arc::new(|_, bytes| {
            let parsed = serde_json::from_slice::<Value>(bytes);
            parsed.map_or_else(|e| e.to_string(), |config| said(AdapterConfig::read(&config)))
        }),
    });
}

/// A small checkpoint in `place`, but for the files that a target writes.
fn beside(place: &Path, names: &[&str]) {
    for name in names {
        let to = place.join(name);
        if !to.exists() {
            std::fs::copy(project("tests/fixtures/llama").join(name), to).unwrap();
        }
    }
}

#[test]
fn safetensors() {
    quiet();
    hold(Target {
        name: "safetensors",
        shape: Shape::Framed,
        seeds: vec![std::fs::read(project("tests/fixtures/llama/model.safetensors")).unwrap()],
        words: &[
            "F32",
            "BF16",
            "F8_E4M3",
            "I64",
            "dtype",
            "shape",
            "data_offsets",
            "__metadata__",
            "model.norm.weight",
        ],
        executions: 1000,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            beside(place, &["config.json", "tokenizer.json", "tokenizer_config.json"]);
            std::fs::write(place.join("model.safetensors"), bytes).unwrap();
            said(Checkpoint::open(place).and_then(|checkpoint| checkpoint.check_weights(&checkpoint.spec()?)))
        }),
    });
}

#[test]
fn index_of_shards() {
    quiet();
    hold(Target {
        name: "index",
        shape: Shape::Json,
        seeds: in_folders("tests/fixtures", "model.safetensors.index.json"),
        words: &["weight_map", "../x", "/etc/passwd", "model-00001-of-00002.safetensors"],
        executions: 1000,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            beside(place, &["config.json", "tokenizer.json", "tokenizer_config.json"]);
            std::fs::write(place.join("model.safetensors.index.json"), bytes).unwrap();
            said(Checkpoint::open(place).and_then(|checkpoint| checkpoint.check_weights(&checkpoint.spec()?)))
        }),
    });
}

#[test]
fn gguf() {
    quiet();
    // Headers alone: what is behind them is read as it is.
    let mut seeds = inputs(&project("tests/fixtures/gguf"));
    seeds.retain(|seed| seed.starts_with(b"GGUF"));
    seeds.iter_mut().for_each(|seed| seed.truncate(48 << 10));
    hold(Target {
        name: "gguf",
        shape: Shape::Bytes,
        seeds,
        words: &[],
        executions: 1000,
        bounds: USUAL,
        read: Arc::new(|place, bytes| {
            let path = place.join("model.gguf");
            std::fs::write(&path, bytes).unwrap();
            said(
                Gguf::open(&path)
                    .and_then(|gguf| gguf.config())
                    .and_then(|config| family::read(&config, &[])),
            )
        }),
    });
}

fn tokenizer(name: &'static str, file: &'static str, words: &'static [&'static str], executions: usize) {
    quiet();
    let mut seeds = in_folders("tests/fixtures", file);
    seeds.retain(|seed| seed.len() < 32 << 10);
    let others: &[&str] = match file {
        "tokenizer.json" => &["config.json", "model.safetensors", "tokenizer_config.json"],
        _ => &["config.json", "model.safetensors", "tokenizer.json"],
    };
    hold(Target {
        name,
        shape: Shape::Json,
        seeds,
        words,
        executions,
        bounds: OWN,
        read: Arc::new(move |place, bytes| {
            beside(place, others);
            std::fs::write(place.join(file), bytes).unwrap();
            let read = Checkpoint::open(place).and_then(|checkpoint| {
                let tokenizer = Tokenizer::load(&checkpoint)?;
                let tokens = tokenizer.encode("It rained on  the 3rd day.\u{301}")?;
                tokenizer.decode(&tokens.ids)
            });
            said(read)
        }),
    });
}

#[test]
fn tokenizer_json() {
    let words = &[
        "BPE",
        "Unigram",
        "WordLevel",
        "Split",
        "Sequence",
        "Replace",
        "Prepend",
        "ByteFallback",
        "Regex",
        "(a+)+$",
        "\\p{L}+|(?=x)*",
        "byte_fallback",
        "unk_id",
        "vocab",
        "merges",
        "added_tokens",
        "TemplateProcessing",
        "Metaspace",
        "continuing_subword_prefix",
    ];
    tokenizer("tokenizer", "tokenizer.json", words, 300);
}

#[test]
fn tokenizer_config() {
    let words = &[
        "chat_template",
        "bos_token",
        "eos_token",
        "{{ messages }}",
        "add_bos_token",
        "content",
        "lstrip",
        "default",
    ];
    tokenizer("tokenizer-config", "tokenizer_config.json", words, 300);
}

#[test]
fn chat_template() {
    quiet();
    let mut seeds = Vec::new();
    for file in std::fs::read_dir(project("tests/fixtures/chat")).unwrap().flatten() {
        if file.path().extension().is_some_and(|ending| ending == "jinja") {
            seeds.push((file.file_name(), std::fs::read(file.path()).unwrap()));
        }
    }
    seeds.sort();
    hold(Target {
        name: "template",
        shape: Shape::Text,
        seeds: seeds.into_iter().map(|(_, seed)| seed).collect(),
        words: &[
            "{%",
            "%}",
            "{{",
            "}}",
            "for",
            "endfor",
            "set",
            "ns",
            "namespace",
            "messages",
            "loop",
            "range",
            "* 99999999",
            "|",
            "tojson",
            "raise_exception",
            "macro",
            "endmacro",
            "~ x",
            "[::-1]",
            "split",
            "replace",
            "strftime_now",
            "join",
            "recursive",
        ],
        executions: 1000,
        bounds: OWN,
        read: Arc::new(|_, bytes| {
            let source = String::from_utf8_lossy(bytes);
            let tokens = vec![("bos_token".to_string(), "<s>".to_string())];
            let rendered = ChatTemplate::new(&source, tokens).and_then(|template| {
                let messages =
                    [Message::new(Role::User, "Tell."), Message::new(Role::Assistant, "It rained.")];
                template.render(&messages, true, Chat::default())
            });
            said(rendered)
        }),
    });
}

#[test]
fn weights_of_a_config() {
    quiet();
    // What a config asks for is compared with the tensors that there are, whatever sizes it names.
    hold(Target {
        name: "sizes",
        shape: Shape::Json,
        seeds: in_folders("tests/fixtures", "config.json"),
        words: &["num_hidden_layers", "vocab_size", "intermediate_size", "num_local_experts"],
        executions: 1000,
        bounds: USUAL,
        read: Arc::new(|_, bytes| {
            let config = match serde_json::from_slice::<Value>(bytes) {
                Ok(config) => config,
                Err(error) => return error.to_string(),
            };
            said(family::read(&config, &[]).and_then(|reading| weights::check(&reading.spec, [].into_iter())))
        }),
    });
}
