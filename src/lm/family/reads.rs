//! Compares the fields of `config.json` that the families read with those that transformers reads, as listed by
//! `tests/fixtures/config_fields.py`.

use super::config::Fields;
use super::{FAMILIES, has_field, read};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Output of the script.
#[derive(Deserialize)]
struct Reference {
    shared: BTreeSet<String>,
    rope: BTreeMap<String, BTreeSet<String>>,
    /// By architecture and table prefix.
    architectures: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn reference() -> Reference {
    parsed(&fixtures().join("config_fields.json"))
}

/// The configs of the fixtures, by architecture.
fn configs() -> BTreeMap<String, Vec<Value>> {
    let mut configs: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in fs_err::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path().join("config.json");
        if path.is_file() {
            let config: Value = parsed(&path);
            let architecture = config["architectures"][0].as_str().unwrap().to_string();
            configs.entry(architecture).or_default().push(config);
        }
    }
    // A text-only checkpoint of Gemma 4 12B: the text part of the multimodal one.
    let mut config = configs["Gemma4UnifiedForConditionalGeneration"][0]["text_config"].clone();
    config["architectures"] = json!(["Gemma4UnifiedForCausalLM"]);
    configs.insert("Gemma4UnifiedForCausalLM".into(), vec![config]);
    configs
}

/// Fields that transformers reads but that do not affect a forward pass over text.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("kinds of layers that none of ours has", &["first_k_dense_replace", "number_of_conv_states"]),
    (
        "training",
        &[
            "attention_dropout",
            "attn_pdrop",
            "classifier_dropout",
            "hidden_dropout",
            "embd_pdrop",
            "resid_pdrop",
            "gradient_checkpointing",
            "initializer_range",
            "init_std",
            "initializer_factor",
            "output_router_logits",
            "router_aux_loss_coef",
            "router_jitter_noise",
        ],
    ),
    (
        "other tasks than language",
        &[
            "id2label",
            "label2id",
            "num_labels",
            "problem_type",
            "summary_activation",
            "summary_first_dropout",
            "summary_last_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        ],
    ),
    (
        "what is returned",
        &["output_attentions", "output_hidden_states", "return_dict", "tie_last_hidden_states", "use_cache"],
    ),
    (
        "which code computes the same",
        &[
            "attn_implementation",
            "chunk_size_feed_forward",
            "distributed_config",
            "experts_implementation",
            "fusion_config",
            "pretraining_tp",
            "reorder_and_upcast_attn",
        ],
    ),
    (
        "bookkeeping",
        &["architectures", "model_type", "name_or_path", "transformers_version", "transformers_weights"],
    ),
    ("padding, which is never computed with here", &["pad_token_id", "sep_token_id"]),
    (
        "prediction layers beside the model",
        &[
            "mlp_layer_types",
            "mtp_layer_types",
            "mtp_mlp_layer_types",
            "mtp_per_layer_config",
            "num_mtp_layers",
        ],
    ),
    (
        "images and sound",
        &[
            "audio_config",
            "audio_token_id",
            "boa_token_id",
            "boi_token_id",
            "boi_token_index",
            "eoa_token_index",
            "eoi_token_id",
            "eoi_token_index",
            "image_token_id",
            "image_token_index",
            "mm_tokens_per_image",
            "video_token_id",
            "vision_config",
            "vision_end_token_id",
            "vision_start_token_id",
        ],
    ),
];

/// The same, for single architectures.
fn without_effect(architecture: &str) -> &'static [&'static str] {
    match architecture {
        // The attention layer stores the cap but does not use it; each kind of layer has its own rotation, of whole
        // heads.
        "Gemma3ForCausalLM" | "Gemma3ForConditionalGeneration" => {
            &["attn_logit_softcapping", "original_max_position_embeddings", "partial_rotary_factor"]
        }
        "Olmo3ForCausalLM" => &["original_max_position_embeddings", "partial_rotary_factor"],
        // Only the tables in `rope_parameters` count; clipped linear layers exist only in the towers.
        name if name.starts_with("Gemma4") => &[
            "original_max_position_embeddings",
            "partial_rotary_factor",
            "rope_scaling",
            "rope_theta",
            "use_clipped_linears",
        ],
        // No rotation; every query head has its own keys and values.
        "GPT2LMHeadModel" => &[
            "head_dim",
            "num_key_value_heads",
            "original_max_position_embeddings",
            "partial_rotary_factor",
            "rope_parameters",
            "rope_scaling",
            "rope_theta",
        ],
        // Rotary fields have other names (`rotary_pct`, `rotary_emb_base`); the model is a decoder regardless.
        "GPTNeoXForCausalLM" => &["is_decoder", "num_key_value_heads", "partial_rotary_factor", "rope_theta"],
        // A fraction of each head is rotated.
        "Phi3ForCausalLM" | "Qwen3_5ForCausalLM" | "Qwen3_5ForConditionalGeneration" => &[],
        // Whole heads are rotated.
        _ => &["partial_rotary_factor"],
    }
}

/// Fields that are read here for every architecture although transformers no longer has code for them: they affect
/// what its earlier versions computed, or indicate quantised weights.
const OURS: &[&str] = &[
    "add_cross_attention",
    "architectures",
    "cross_attention_hidden_size",
    "model_type",
    "pruned_heads",
    "quantization",
    "text_config",
    "tie_encoder_decoder",
    "use_sliding_window",
];

/// Fields that a family reads from the configs of its fixtures, by table prefix.
fn asked(architecture: &str, configs: &[Value]) -> BTreeMap<&'static str, BTreeSet<String>> {
    let family = FAMILIES.iter().find(|family| family.architecture == architecture).unwrap();
    let mut all: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for config in configs {
        let f = Fields::new(config, &[]).unwrap();
        super::quantized::quantization(&f).unwrap();
        (family.spec)(&f).unwrap();
        for name in f.asked() {
            match name.split_once('.') {
                None => all.entry("").or_default().insert(name),
                Some(("text_config", field)) if !field.contains('.') => {
                    all.entry("text_config.").or_default().insert(field.to_string())
                }
                Some(_) => continue,
            };
        }
    }
    all
}

#[test]
fn every_field_that_transformers_reads_is_read_or_known_to_have_no_effect() {
    let (reference, configs) = (reference(), configs());
    let mut needless: BTreeSet<&str> =
        WITHOUT_EFFECT.iter().flat_map(|(_, fields)| fields.iter().copied()).collect();
    let mut wrong = Vec::new();
    for family in &FAMILIES {
        let name = family.architecture;
        let asked = asked(name, &configs[name]);
        let tables = &reference.architectures[name];
        for (prefix, own) in tables {
            let is_language_model = prefix == "text_config." || tables.len() == 1;
            let shared = reference.shared.iter().filter(|_| is_language_model);
            let theirs: BTreeSet<&String> = own.iter().chain(shared).collect();
            let none = BTreeSet::new();
            let ours = asked.get(prefix.as_str()).unwrap_or(&none);
            for field in theirs.iter().filter(|field| !ours.contains(**field)) {
                let of_all = WITHOUT_EFFECT.iter().any(|(_, fields)| fields.contains(&field.as_str()));
                needless.remove(field.as_str());
                if !of_all && !without_effect(name).contains(&field.as_str()) {
                    wrong.push(format!("{name} does not read `{prefix}{field}`"));
                }
            }
            for field in ours.iter().filter(|field| is_language_model && !theirs.contains(field)) {
                if !OURS.contains(&field.as_str()) {
                    wrong.push(format!("{name} reads `{prefix}{field}`, transformers does not"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(needless.is_empty(), "not read by transformers: {needless:?}");
}

#[test]
fn every_rotary_setting_that_transformers_reads_is_read() {
    let reference = reference();
    let whole: Vec<f64> = (0..32).map(|i| 1.0 + f64::from(i)).collect();
    let mut kinds: Vec<&str> = reference.rope.keys().map(String::as_str).collect();
    kinds.retain(|kind| *kind != "all");
    assert_eq!(kinds, ["dynamic", "linear", "llama3", "longrope", "proportional", "yarn"]);
    for kind in kinds.into_iter().filter(|kind| *kind != "dynamic") {
        let mut table = json!({"rope_type": kind});
        for key in &reference.rope[kind] {
            table[key] = match key.as_str() {
                "rope_type" => json!(kind),
                "long_factor" | "short_factor" => json!(whole),
                "original_max_position_embeddings" => json!(1024),
                "truncate" => json!(true),
                "partial_rotary_factor" => json!(1.0),
                "low_freq_factor" => json!(1.0),
                "rope_theta" => json!(10_000.0),
                _ => json!(4.0),
            };
        }
        let mut config = configs()["LlamaForCausalLM"][0].clone();
        config["head_dim"] = json!(64);
        config["rope_scaling"] = Value::Null;
        config["rope_parameters"] = table;
        let unread = read(&config, &[]).unwrap().unread;
        let unread: Vec<_> = unread.iter().filter(|name| name.starts_with("rope_parameters")).collect();
        assert!(unread.is_empty(), "{kind}: {unread:?}");
    }
}

#[test]
fn what_transformers_does_not_read_is_accepted_and_listed() {
    for (name, configs) in configs() {
        let mut config = configs[0].clone();
        config["clip_qkv"] = json!(8.0);
        let reading = read(&config, &[]).unwrap();
        assert!(reading.unread.contains(&"clip_qkv".to_string()), "{name}: {:?}", reading.unread);
        assert_eq!(reading.spec, read(&configs[0], &[]).unwrap().spec);
        assert!(reading.ignored.is_empty());
    }
}

#[test]
fn what_is_read_and_not_computed_is_refused_unless_it_is_ignored() {
    for (name, configs) in configs() {
        let prefix = if has_field(&configs[0], "text_config") { "text_config." } else { "" };
        for (field, value) in [("is_causal", json!(false)), ("pruned_heads", json!({"0": [1]}))] {
            let mut config = configs[0].clone();
            let table = if prefix.is_empty() { &mut config } else { &mut config["text_config"] };
            table[field] = value;
            let full = format!("{prefix}{field}");
            let error = format!("{:#}", read(&config, &[]).expect_err(&name));
            assert!(error.contains(&format!("ignore_config = [\"{full}\"]")), "{name}: {error}");
            let reading = read(&config, std::slice::from_ref(&full)).unwrap();
            assert_eq!((reading.spec, reading.ignored), (read(&configs[0], &[]).unwrap().spec, vec![full]));
        }
    }
}
