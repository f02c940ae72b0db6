//! Model families: `config.json` to `Spec`. The only module that looks at an architecture's name.

mod bounds;
mod common;
mod config;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma4;
mod gpt;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod olmo2;
mod olmo3;
mod phi3;
#[cfg(test)]
mod published;
mod quantized;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
#[cfg(test)]
mod reads;
mod rotation;
mod smollm3;

use self::config::Fields;
pub use self::quantized::{Refused, shown_by_tensors};
use super::spec::Spec;
use anyhow::{Result, bail};
use serde_json::Value;

/// A supported architecture and its reader.
struct Family {
    /// The name in `architectures` of `config.json`.
    architecture: &'static str,
    /// The `model_type`, which decides where `architectures` is absent.
    model_type: &'static str,
    spec: fn(&Fields) -> Result<Spec>,
}

/// All supported architectures.
const FAMILIES: [Family; 23] = [
    family("LlamaForCausalLM", "llama", llama::spec),
    family("MistralForCausalLM", "mistral", mistral::spec),
    family("MixtralForCausalLM", "mixtral", mixtral::spec),
    family("Qwen2ForCausalLM", "qwen2", qwen2::spec),
    family("Qwen3ForCausalLM", "qwen3", qwen3::spec),
    family("Qwen3MoeForCausalLM", "qwen3_moe", qwen3_moe::spec),
    family("Qwen3_5ForCausalLM", "qwen3_5_text", qwen3_5::spec),
    family("Qwen3_5ForConditionalGeneration", "qwen3_5", qwen3_5::wrapped),
    family("GemmaForCausalLM", "gemma", gemma::spec),
    family("Gemma2ForCausalLM", "gemma2", gemma2::spec),
    family("Gemma3ForCausalLM", "gemma3_text", gemma3::spec),
    family("Gemma3ForConditionalGeneration", "gemma3", gemma3::wrapped),
    family("Gemma4ForCausalLM", "gemma4_text", gemma4::spec),
    family("Gemma4ForConditionalGeneration", "gemma4", gemma4::wrapped),
    family("Gemma4UnifiedForCausalLM", "gemma4_unified_text", gemma4::unified_text),
    family("Gemma4UnifiedForConditionalGeneration", "gemma4_unified", gemma4::unified),
    family("Phi3ForCausalLM", "phi3", phi3::spec),
    family("Olmo2ForCausalLM", "olmo2", olmo2::spec),
    family("Olmo3ForCausalLM", "olmo3", olmo3::spec),
    family("SmolLM3ForCausalLM", "smollm3", smollm3::spec),
    family("GraniteForCausalLM", "granite", granite::spec),
    family("GPT2LMHeadModel", "gpt2", gpt2::spec),
    family("GPTNeoXForCausalLM", "gpt_neox", gpt_neox::spec),
];

const fn family(
    architecture: &'static str,
    model_type: &'static str,
    spec: fn(&Fields) -> Result<Spec>,
) -> Family {
    Family { architecture, model_type, spec }
}

/// Supported architectures, by their names in `config.json`.
pub fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.architecture)
}

/// The `model_type` of an architecture, as in `config.json`.
pub fn model_type(architecture: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|family| family.architecture == architecture).map(|family| family.model_type)
}

/// Token ids in the field `key` of a settings file; see [`Fields::token_ids`].
///
/// # Errors
/// The file is not a table, or the field holds something other than token ids.
pub fn token_ids(settings: &Value, key: &str) -> Result<Vec<i64>> {
    Fields::new(settings, &[])?.token_ids(key)
}

/// The result of reading a `config.json`.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The model's sizes and switches.
    pub spec: Spec,
    /// Fields that do not affect what the model computes, as `field` or `table.field`.
    pub unread: Vec<String>,
    /// Ignored fields that, if read, would change the model or be refused.
    pub ignored: Vec<String>,
}

/// Reads a parsed `config.json`, treating the fields named in `ignore` (`field` or `table.field`) as absent.
///
/// A field counts if transformers reads it for the same architecture: an unsupported value is then an error. Fields
/// that transformers does not read cannot change the computation.
///
/// # Errors
/// An unsupported architecture; a field that is missing, out of range, or whose value changes the computation in an
/// unsupported way; [`Refused`] for weights with an unsupported quantisation.
pub fn read(config: &Value, ignore: &[String]) -> Result<Reading> {
    let f = Fields::new(config, ignore)?;
    let architecture = f.get("architectures").and_then(|all| all[0].as_str());
    let model_type = f.get("model_type").and_then(Value::as_str);
    let family = FAMILIES.iter().find(|family| match (architecture, model_type) {
        (Some(architecture), _) => family.architecture == architecture,
        (None, model_type) => model_type == Some(family.model_type),
    });
    let Some(family) = family else {
        let Some(other) = architecture.or(model_type) else {
            bail!(
                "config.json names no architecture: `architectures` must hold one, such as \"LlamaForCausalLM\""
            );
        };
        bail!(
            "architecture `{other}` is not supported yet. Supported: {}. CONTRIBUTING.md says how to add one",
            supported().collect::<Vec<_>>().join(", ")
        );
    };
    let quantization = quantized::quantization(&f)?;
    let spec = Spec { architecture: family.architecture.into(), quantization, ..(family.spec)(&f)? };
    bounds::check(&spec)?;
    Ok(Reading { spec, unread: f.unread(), ignored: f.ignored() })
}

/// Whether `config` has the field `name` (`field` or `table.field`).
pub fn has_field(config: &Value, name: &str) -> bool {
    config.get(name).is_some()
        || name
            .split_once('.')
            .is_some_and(|(table, rest)| config.get(table).is_some_and(|inner| has_field(inner, rest)))
}

#[cfg(test)]
mod tests {
    use crate::lm::spec::Spec;
    use serde_json::{Value, json};

    /// Configs as on the hub, with the sizes of published models and the parameter counts of their model cards.
    fn published() -> Vec<(Value, u64)> {
        let model = |architecture: &str, sizes: [u64; 6], more: Value| {
            let [d_model, d_mlp, n_layers, heads, kv, vocab] = sizes;
            let mut config = json!({
                "architectures": [architecture], "hidden_size": d_model, "intermediate_size": d_mlp,
                "num_hidden_layers": n_layers, "num_attention_heads": heads, "num_key_value_heads": kv,
                "vocab_size": vocab, "torch_dtype": "bfloat16", "use_cache": true, "initializer_range": 0.02,
                "attention_dropout": 0.0, "transformers_version": "4.40.0", "hidden_act": "silu"
            });
            for (key, value) in more.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
            config
        };
        let gelu = "gelu_pytorch_tanh";
        let sliding = json!({"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28});
        let mut qwen3 = sliding.clone();
        qwen3["head_dim"] = 128.into();
        let experts = json!({
            "head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
            "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
            "router_aux_loss_coef": 0.001, "output_router_logits": false
        });
        let qwen3_5 = |sizes: [u64; 6], v_heads: u64, tied: bool| {
            let text = json!({
                "head_dim": 256, "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": v_heads,
                "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
                "attn_output_gate": true, "mamba_ssm_dtype": "float32", "mtp_num_hidden_layers": 1,
                "mtp_use_dedicated_embeddings": false, "partial_rotary_factor": 0.25, "rope_parameters": {
                    "mrope_interleaved": true, "mrope_section": [11, 11, 10], "rope_type": "default",
                    "rope_theta": 10_000_000, "partial_rotary_factor": 0.25
                }
            });
            let text = model("Qwen3_5ForCausalLM", sizes, text);
            json!({
                "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": text,
                "tie_word_embeddings": tied, "image_token_id": 248_056, "video_token_id": 248_057,
                "vision_start_token_id": 248_053, "vision_end_token_id": 248_054, "vision_config": {"depth": 12}
            })
        };
        vec![
            // Mistral-7B-v0.1, Mixtral-8x7B-v0.1
            (
                model(
                    "MistralForCausalLM",
                    [4096, 14336, 32, 32, 8, 32_000],
                    json!({"sliding_window": 4096, "tie_word_embeddings": false}),
                ),
                7_241_732_096,
            ),
            (
                model(
                    "MixtralForCausalLM",
                    [4096, 14336, 32, 32, 8, 32_000],
                    json!({"sliding_window": null, "num_local_experts": 8, "num_experts_per_tok": 2}),
                ),
                46_702_792_704,
            ),
            // Qwen2.5-7B, Qwen3-8B, Qwen3-30B-A3B
            (model("Qwen2ForCausalLM", [3584, 18944, 28, 28, 4, 152_064], sliding), 7_615_616_512),
            (model("Qwen3ForCausalLM", [4096, 12288, 36, 32, 8, 151_936], qwen3), 8_190_735_360),
            (model("Qwen3MoeForCausalLM", [2048, 6144, 48, 32, 4, 151_936], experts), 30_532_122_624),
            // Qwen3.5-27B and -0.8B: the model cards give 27B and 0.8B; these numbers are those of transformers'
            // `Qwen3_5ForCausalLM` with their configs, without the towers.
            (qwen3_5([5120, 17408, 64, 24, 4, 248_320], 48, false), 26_895_998_464),
            (qwen3_5([1024, 3584, 24, 8, 2, 248_320], 16, true), 752_393_024),
            // gemma-2b, gemma-2-2b, gemma-3-1b-it
            (
                model(
                    "GemmaForCausalLM",
                    [2048, 16384, 18, 8, 1, 256_000],
                    json!({"head_dim": 256, "hidden_act": "gelu", "hidden_activation": null}),
                ),
                2_506_172_416,
            ),
            (
                model(
                    "Gemma2ForCausalLM",
                    [2304, 9216, 26, 8, 4, 256_000],
                    json!({
                        "head_dim": 256, "hidden_act": gelu, "hidden_activation": gelu,
                        "cache_implementation": "hybrid", "attn_logit_softcapping": 50.0,
                        "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256, "sliding_window": 4096
                    }),
                ),
                2_614_341_888,
            ),
            (
                model(
                    "Gemma3ForCausalLM",
                    [1152, 6912, 26, 4, 1, 262_144],
                    json!({
                        "head_dim": 256, "hidden_activation": gelu, "sliding_window": 512,
                        "sliding_window_pattern": 6, "rope_theta": 1_000_000, "rope_local_base_freq": 10_000,
                        "query_pre_attn_scalar": 256, "cache_implementation": "hybrid"
                    }),
                ),
                999_885_952,
            ),
            // Phi-3-mini-4k-instruct
            (
                model(
                    "Phi3ForCausalLM",
                    [3072, 8192, 32, 32, 32, 32_064],
                    json!({
                        "sliding_window": 2047, "original_max_position_embeddings": 4096, "embd_pdrop": 0.0,
                        "attention_bias": false,
                        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"}
                    }),
                ),
                3_821_079_552,
            ),
            // OLMo-2-1124-7B, Olmo-3-7B, SmolLM3-3B, granite-3.1-2b-base
            (model("Olmo2ForCausalLM", [4096, 11008, 32, 32, 32, 100_352], json!({})), 7_298_617_344),
            (
                model(
                    "Olmo3ForCausalLM",
                    [4096, 11008, 32, 32, 32, 100_278],
                    json!({"sliding_window": 4096, "rope_theta": 500_000, "rope_scaling": {
                        "rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                        "attention_factor": 1.2079441541679836, "original_max_position_embeddings": 8192
                    }}),
                ),
                7_298_011_136,
            ),
            (
                model(
                    "SmolLM3ForCausalLM",
                    [2048, 11008, 36, 16, 4, 128_256],
                    json!({"no_rope_layer_interval": 4, "max_window_layers": 28, "pretraining_tp": 2}),
                ),
                3_075_098_624,
            ),
            (
                model(
                    "GraniteForCausalLM",
                    [2048, 8192, 40, 32, 8, 49_155],
                    json!({
                        "tie_word_embeddings": true, "attention_multiplier": 0.015625,
                        "embedding_multiplier": 12.0, "residual_multiplier": 0.22, "logits_scaling": 8.0
                    }),
                ),
                2_533_531_648,
            ),
        ]
        .into_iter()
        .chain(gpt2s())
        .chain(pythias())
        .collect()
    }

    /// gpt2, gpt2-medium, gpt2-large, gpt2-xl
    fn gpt2s() -> impl Iterator<Item = (Value, u64)> {
        let sizes = [
            (768, 12, 12, 124_439_808),
            (1024, 24, 16, 354_823_168),
            (1280, 36, 20, 774_030_080),
            (1600, 48, 25, 1_557_611_200),
        ];
        sizes.into_iter().map(|(d_model, n_layers, heads, n_params)| {
            let config = json!({
                "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
                "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
                "layer_norm_epsilon": 1e-5, "model_type": "gpt2", "n_ctx": 1024, "n_embd": d_model, "n_head": heads,
                "n_layer": n_layers, "n_positions": 1024, "n_special": 0, "predict_special_tokens": true,
                "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout": 0.1,
                "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
                "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
                "vocab_size": 50257
            });
            (config, n_params)
        })
    }

    /// pythia-70m to pythia-12b; the deduped versions have the same sizes.
    fn pythias() -> impl Iterator<Item = (Value, u64)> {
        let sizes = [
            (512, 6, 8, 50_304, 70_426_624),
            (768, 12, 12, 50_304, 162_322_944),
            (1024, 24, 16, 50_304, 405_334_016),
            (2048, 16, 8, 50_304, 1_011_781_632),
            (2048, 24, 16, 50_304, 1_414_647_808),
            (2560, 32, 32, 50_304, 2_775_208_960),
            (4096, 32, 32, 50_432, 6_857_302_016),
            (5120, 36, 40, 50_688, 11_846_072_320u64),
        ];
        sizes.into_iter().map(|(d_model, n_layers, heads, vocab, n_params)| {
            let config = json!({
                "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
                "hidden_size": d_model, "initializer_range": 0.02, "intermediate_size": 4 * d_model,
                "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "model_type": "gpt_neox",
                "num_attention_heads": heads, "num_hidden_layers": n_layers, "rotary_emb_base": 10000,
                "rotary_pct": 0.25, "tie_word_embeddings": false, "torch_dtype": "float16",
                "transformers_version": "4.24.0", "use_cache": true, "use_parallel_residual": true,
                "vocab_size": vocab
            });
            (config, n_params)
        })
    }

    #[test]
    fn published_models_have_their_published_sizes() {
        for (config, n_params) in published() {
            let spec = Spec::from_config(&config).unwrap();
            assert_eq!(spec.n_params(), n_params, "{}", spec.architecture);
        }
    }
}
