//! The Llama family (Llama 2, 3, 3.1, 3.2, TinyLlama, SmolLM2): `config.json` to `Spec`, and what
//! its checkpoints call their tensors. Knows nothing of how they are computed with.

use super::config::{dtype, field, only, positive_or, rope, size, size_or, switch, token_ids};
use crate::lm::spec::{Names, Spec};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

const NAMES: Names = Names {
    embed: "model.embed_tokens",
    final_norm: "model.norm",
    unembed: "lm_head",
    block: "model.layers.{}.",
    attn_norm: "input_layernorm",
    q: "self_attn.q_proj",
    k: "self_attn.k_proj",
    v: "self_attn.v_proj",
    o: "self_attn.o_proj",
    mlp_norm: "post_attention_layernorm",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    ignorable: &["rotary_emb.inv_freq"],
};

/// Reads the `config.json` of a Llama checkpoint. Defaults are those of transformers' `LlamaConfig`.
pub fn spec(config: &Value) -> Result<Spec> {
    refuse_what_changes_the_maths(config)?;
    let d_model = size(config, "hidden_size")?;
    let n_heads = size(config, "num_attention_heads")?;
    let n_kv_heads = size_or(config, "num_key_value_heads", Some(n_heads))?;
    ensure!(
        n_heads % n_kv_heads == 0,
        "config.json: {n_heads} attention heads cannot share {n_kv_heads} key and value heads evenly"
    );
    if field(config, "head_dim").is_none() {
        ensure!(
            d_model % n_heads == 0,
            "config.json: hidden_size {d_model} is no multiple of num_attention_heads {n_heads}, and no \
             head_dim is given"
        );
    }
    let d_head = size_or(config, "head_dim", Some((d_model / n_heads).max(1)))?;
    ensure!(d_head % 2 == 0, "config.json: a head of width {d_head} cannot be rotated in pairs");
    let n_layers = size(config, "num_hidden_layers")?;
    ensure!(n_layers <= 10_000, "config.json: num_hidden_layers is {n_layers}");
    let context = size_or(config, "max_position_embeddings", Some(2048))?;
    Ok(Spec {
        architecture: "LlamaForCausalLM".into(),
        n_layers,
        d_model,
        d_head,
        d_mlp: size(config, "intermediate_size")?,
        d_vocab: size(config, "vocab_size")?,
        n_heads,
        n_kv_heads,
        norm_eps: positive_or(config, "rms_norm_eps", Some(1e-6))?,
        rope: rope(config, 10_000.0, context)?,
        tied: switch(config, "tie_word_embeddings", false)?,
        attention_bias: switch(config, "attention_bias", false)?,
        mlp_bias: switch(config, "mlp_bias", false)?,
        dtype: dtype(config)?,
        context,
        bos: token_ids(config, "bos_token_id")?.first().copied(),
        eos: token_ids(config, "eos_token_id")?,
        names: NAMES,
    })
}

/// Fields that turn a Llama into something else: each may only have the value at which it does
/// nothing. The names are those found in forks that kept the architecture's name, and in sibling
/// families of transformers.
fn refuse_what_changes_the_maths(config: &Value) -> Result<()> {
    only(config, "model_type", &[json!("llama")])?;
    only(config, "hidden_act", &[json!("silu"), json!("swish")])?;
    only(config, "pretraining_tp", &[json!(1)])?;
    for key in ["partial_rotary_factor", "embedding_multiplier", "residual_multiplier", "logits_scaling"] {
        only(config, key, &[json!(1), json!(1.0)])?;
    }
    for key in ["qk_norm", "use_qk_norm", "rope_interleaved", "alibi", "quantization_config"] {
        only(config, key, &[json!(false)])?;
    }
    for key in
        ["attention_multiplier", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"]
    {
        only(config, key, &[])?;
    }
    if config.get("use_sliding_window") != Some(&json!(false)) {
        only(config, "sliding_window", &[])?;
    }
    for kind in field(config, "layer_types").and_then(Value::as_array).into_iter().flatten() {
        ensure!(
            kind == "full_attention",
            "config.json: `layer_types` holds {kind}, which is not supported yet"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::spec::{Dtype, Rope, RopeScaling};

    /// The published config.json of Llama-3.2-1B, as the hub has it.
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
        assert_eq!((spec.n_layers, spec.d_head, spec.n_kv_heads), (16, 64, 8));
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
        assert_eq!(spec(&new).unwrap().rope, spec(&llama_32_1b()).unwrap().rope);
        let plain = with(json!({"rope_scaling": null}));
        assert_eq!(spec(&plain).unwrap().rope, Rope { theta: 500_000.0, scaling: RopeScaling::None });
        let linear = with(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
        assert_eq!(spec(&linear).unwrap().rope.scaling, RopeScaling::Linear { factor: 4.0 });
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (change, named) in [
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "yarn"),
            (json!({"rope_scaling": {"rope_type": "linear"}}), "rotary"),
            (json!({"sliding_window": 4096}), "sliding_window"),
            (json!({"pretraining_tp": 2}), "pretraining_tp"),
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
