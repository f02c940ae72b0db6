//! Bounds on the total size of a model: an untrusted `config.json` must neither cause an overflow nor allocate huge
//! lists before any tensor is read.

use crate::lm::spec::Spec;
use anyhow::{Result, ensure};

/// Experts summed over all layers; the largest published models have about 25,000.
const MOST_EXPERTS: usize = 1 << 17;
/// Total width of all query heads in one layer; the largest published models have about 32,000.
const WIDEST: usize = 1 << 22;
/// Parameters; the largest published models have about 2^40.
const MOST_NUMBERS: u64 = 1 << 44;

/// # Errors
/// Total sizes larger than those of any existing model.
pub fn check(spec: &Spec) -> Result<()> {
    let experts: usize = spec.layers.iter().filter_map(|layer| layer.experts).map(|of| of.count).sum();
    ensure!(experts <= MOST_EXPERTS, "config.json: {experts} experts in all layers together");
    for attention in spec.layers.iter().filter_map(|layer| layer.attention()) {
        let width = spec.n_heads.saturating_mul(attention.d_head);
        ensure!(
            width <= WIDEST,
            "config.json: {} heads of {} entries in one layer",
            spec.n_heads,
            attention.d_head
        );
    }
    let numbers = spec.numbers();
    ensure!(numbers <= MOST_NUMBERS, "config.json: its sizes multiply to {numbers} learned numbers or more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::lm::Spec;
    use serde_json::{Value, json};

    #[test]
    fn sizes_are_bounded_in_their_products() {
        let largest = 1 << 28;
        let with = |changes: Value| {
            let mut config = json!({
                "architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 2048, "intermediate_size": 6144,
                "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
                "vocab_size": 151_936, "moe_intermediate_size": 768, "num_experts": 128,
                "num_experts_per_tok": 8
            });
            for (key, value) in changes.as_object().expect("changes are a table") {
                config[key] = value.clone();
            }
            Spec::from_config(&config).map(|_| ()).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(with(json!({})), Ok(()));
        for (change, said) in [
            (json!({"vocab_size": largest, "hidden_size": largest}), "learned numbers"),
            (
                json!({"intermediate_size": largest, "hidden_size": largest, "num_experts": 1,
                    "num_experts_per_tok": 1, "mlp_only_layers": [0], "vocab_size": 8}),
                "learned numbers",
            ),
            (json!({"num_attention_heads": largest, "head_dim": largest, "num_key_value_heads": 1}), "heads"),
            (json!({"num_hidden_layers": 1000, "num_experts": 1000}), "1000000 experts"),
            (json!({"moe_intermediate_size": largest, "hidden_size": largest}), "learned numbers"),
        ] {
            let error = with(change.clone()).expect_err(&change.to_string());
            assert!(error.contains(said), "{change}: {error}");
        }
    }
}
