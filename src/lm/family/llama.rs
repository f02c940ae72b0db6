//! Llama 2, 3, 3.1 and 3.2, TinyLlama, SmolLM2: the plain decoder.

use super::common::{DEFAULTS, Defaults, biases, no_window, one_kind, plain};
use super::config::Fields;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Reads the `config.json` of a Llama checkpoint. Defaults are those of transformers' `LlamaConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = plain(f, &Defaults { ..DEFAULTS })?;
    biases(f, &mut spec)?;
    no_window(f, &spec)?;
    one_kind(f, &spec)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use crate::lm::spec::{Dtype, Rope, RopeScaling, Spec};
    use anyhow::Result;
    use serde_json::{Value, json};

    fn spec(config: &Value) -> Result<Spec> {
        Ok(read(config, &[])?.spec)
    }

    /// The `config.json` of Llama-3.2-1B as published on the hub.
    fn llama_32_1b() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
            "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu",
            "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192,
            "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
            "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
            "rms_norm_eps": 1e-5,
            "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 8192, "rope_type": "llama3"},
            "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
        })
    }

    fn with(changes: Value) -> Value {
        let mut config = llama_32_1b();
        for (key, value) in changes.as_object().expect("changes are a table") {
            config[key] = value.clone();
        }
        config
    }

    #[test]
    fn llama_32_1b_has_its_published_size() {
        let spec = spec(&llama_32_1b()).unwrap();
        // The hub's model card: 1,235,814,400 parameters.
        assert_eq!(spec.n_params(), 1_235_814_400);
        let first = spec.layers[0].attention().unwrap();
        assert_eq!((spec.n_layers(), first.d_head, first.n_kv_heads), (16, 64, 8));
        assert_eq!(spec.eos, [128001, 128008, 128009]);
        assert_eq!((spec.dtype, spec.tied), (Dtype::Bf16, true));
    }

    #[test]
    fn rotary_settings_old_and_new_agree() {
        let new = with(json!({
            "rope_theta": null, "rope_scaling": null,
            "rope_parameters": {"rope_theta": 500000.0, "factor": 32.0, "high_freq_factor": 4.0,
                "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}
        }));
        let rope =
            |config: &Value| spec(config).unwrap().layers[0].attention().unwrap().rope.clone().unwrap();
        assert_eq!(rope(&new), rope(&llama_32_1b()));
        let plain = with(json!({"rope_scaling": null}));
        let want = Rope { theta: 500_000.0, dims: 64, pairs: 32, amplitude: 1.0, scaling: RopeScaling::None };
        assert_eq!(rope(&plain), want);
        let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
        assert_eq!(rope(&linear).scaling, RopeScaling::Linear { factor: 4.0 });
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (change, named) in [
            (json!({"hidden_act": "mish"}), "hidden_act"),
            (json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}), "dynamic"),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "rope_scaling.factor"),
            (json!({"rope_scaling": {"full_attention": {"rope_type": "linear"}}}), "kinds of layers"),
            (json!({"is_causal": false}), "bidirectional"),
            (json!({"is_encoder_decoder": true}), "is_encoder_decoder"),
            (json!({"sliding_window": 4096}), "sliding_window"),
            (json!({"per_layer_config": {"0": {"head_dim": 32}}}), "per_layer_config"),
            (json!({"layer_types": vec!["chunked_attention"; 16]}), "chunked_attention"),
            (json!({"quantization_config": {"bits": 4}}), "quantization_config"),
            (json!({"num_key_value_heads": 5}), "evenly"),
            (json!({"hidden_size": -1}), "hidden_size"),
            (json!({"num_hidden_layers": 1e9}), "num_hidden_layers"),
            (json!({"vocab_size": null}), "vocab_size"),
            (json!({"torch_dtype": "int8"}), "int8"),
            (json!({"rms_norm_eps": 0}), "rms_norm_eps"),
            (json!({"head_dim": 63}), "63"),
        ] {
            let error = format!("{:#}", spec(&with(change.clone())).expect_err(&change.to_string()));
            assert!(error.contains(named), "{change}: {error}");
        }
    }
}
