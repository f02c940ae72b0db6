//! Tests on configs of published checkpoints: `tests/fixtures/published_fields.tsv`, and regressions for configs that
//! were wrongly refused.

use super::read;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Fields with their observed values, by `model_type`.
fn published() -> BTreeMap<String, Vec<(String, Vec<Value>)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published_fields.tsv");
    let text = fs_err::read_to_string(path).unwrap();
    let mut all: BTreeMap<String, Vec<(String, Vec<Value>)>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [model_type, field, values] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let values = serde_json::from_str(values).unwrap();
        all.entry(model_type.into()).or_default().push((field.into(), values));
    }
    all
}

/// Sets `field`, which may be in an inner table.
fn set(config: &mut Value, field: &str, value: &Value) {
    let mut table = config;
    let mut parts = field.split('.').peekable();
    while let Some(part) = parts.next() {
        if !table.is_object() {
            *table = json!({});
        }
        table = &mut table[part];
        if parts.peek().is_none() {
            *table = value.clone();
        }
    }
}

/// A config with the most frequent value of every field, except `value` for `field`; its sizes are consistent.
fn config(fields: &[(String, Vec<Value>)], field: &str, value: &Value) -> Value {
    let mut config = json!({});
    for (name, values) in fields {
        set(&mut config, name, &values[0]);
    }
    set(&mut config, field, value);
    let text = if config["text_config"].is_object() { &mut config["text_config"] } else { &mut config };
    let size = |text: &Value, key: &str| text[key].as_u64();
    let heads = size(text, "num_attention_heads").unwrap_or(8);
    let kv = value.as_u64().filter(|kv| field.ends_with("num_key_value_heads") && heads % kv != 0);
    let heads = kv.unwrap_or(heads);
    text["num_attention_heads"] = json!(heads);
    if size(text, "num_key_value_heads").is_none_or(|kv| !heads.is_multiple_of(kv)) {
        text["num_key_value_heads"] = json!(heads);
    }
    if size(text, "head_dim").is_none() && size(text, "hidden_size").is_some_and(|width| width % heads != 0) {
        text["hidden_size"] = json!(heads * 128);
    }
    let layers = size(text, "num_hidden_layers").unwrap() as usize;
    let pairs =
        size(text, "head_dim").unwrap_or_else(|| size(text, "hidden_size").unwrap() / heads) as usize / 2;
    let repeat = |value: &mut Value, count: usize| {
        if let Some(list) = value.as_array().cloned() {
            *value = list.into_iter().cycle().take(count).collect();
        }
    };
    for list in ["layer_types", "no_rope_layers"] {
        repeat(&mut text[list], layers);
    }
    if text["rope_scaling"].is_object() {
        for list in ["long_factor", "short_factor"] {
            repeat(&mut text["rope_scaling"][list], pairs);
        }
    }
    config
}

#[test]
fn every_value_of_published_configs_is_accepted() {
    let mut wrong = Vec::new();
    for (model_type, fields) in published() {
        for (field, values) in &fields {
            for value in values {
                if let Err(error) = read(&config(&fields, field, value), &[]) {
                    wrong.push(format!("{model_type}: {field} = {value}: {error:#}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_transformers_passes_over_is_no_reason_to_refuse() {
    let published = published();
    let full = |model_type: &str| {
        let fields = &published[model_type];
        let (field, values) = &fields[0];
        config(fields, field, &values[0])
    };
    for (model_type, changes) in [
        ("gemma2", json!({"sliding_window_size": 4096})),
        ("qwen3_moe", json!({"use_qk_norm": true, "qkv_bias": false, "shared_expert_intermediate_size": 0})),
        (
            "llama",
            json!({
                "unk_token_id": 0, "model_name": "unsloth/llama", "max_sequence_length": 2048, "pretraining_tp": 2,
                "is_llama_config": true, "rope_interleaved": false, "unsloth_fixed": true, "head_dim": null,
                "attn_implementation": "flash_attention_2", "_attn_implementation_internal": "sdpa",
                "_flash_attn_2_enabled": true, "use_flash_attn": true, "dtype": "bfloat16", "rope_parameters": null,
                "sliding_window": null, "layer_types": null, "mlp_bias": null, "tie_word_embeddings": null
            }),
        ),
        ("mistral", json!({"layer_types": vec!["full_attention"; 32], "rms_norm": true})),
        (
            "qwen2",
            json!({"use_mrope": false, "layer_types": vec!["full_attention"; 28], "use_sliding_window": null}),
        ),
        (
            "phi3",
            json!({"attention_bias": false, "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": false}),
        ),
        (
            "gemma3_text",
            json!({"rope_scaling": null, "rope_theta": null, "rope_local_base_freq": null, "rope_parameters": {
                "rope_type": "default",
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}
            }}),
        ),
    ] {
        let mut config = full(model_type);
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        read(&config, &[]).unwrap_or_else(|error| panic!("{model_type}: {error:#}"));
    }
}

/// The two rotations of OLMo 3 as transformers 5.24 builds them (`Olmo3Config(...).rope_parameters`): a single table
/// for all layers, which its first versions wrote, is ignored; in the hub's spelling, `rope_theta` and `rope_scaling`
/// apply to the layers without a window.
#[test]
fn rotations_of_olmo_3_are_those_of_transformers() {
    let yarn = json!({
        "rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
        "attention_factor": 1.2079441541679836, "original_max_position_embeddings": 8192
    });
    let ropes = |more: Value| {
        let mut config = json!({
            "architectures": ["Olmo3ForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 4, "num_attention_heads": 32, "vocab_size": 100_278
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        let reading = read(&config, &[]).unwrap();
        let rope = |layer: usize| reading.spec.layers[layer].attention().unwrap().rope.clone().unwrap();
        (rope(3), rope(0), reading.unread)
    };
    let mut flat = yarn.clone();
    flat["rope_theta"] = json!(777_000.0);
    let (global, local, unread) = ropes(json!({ "rope_parameters": flat }));
    assert_eq!((global.theta, global.amplitude, &global), (500_000.0, 1.0, &local));
    assert!(unread.contains(&"rope_parameters.factor".to_string()), "{unread:?}");
    let (global, local, _) = ropes(json!({"rope_theta": 600_000.0, "rope_scaling": yarn}));
    assert_eq!((global.theta, global.amplitude), (600_000.0, 1.2079441541679836));
    assert_eq!((local.theta, local.amplitude), (500_000.0, 1.0));
}
