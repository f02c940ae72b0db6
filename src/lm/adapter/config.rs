//! `adapter_config.json` as written by PEFT. Which modules have an adapter follows from the tensors.

use anyhow::{Context, Result, bail, ensure};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// The settings that affect how a LoRA adapter is merged.
#[derive(Debug)]
pub struct AdapterConfig {
    /// The model that it was trained on, as named by its author: a repository, or a local folder of theirs.
    pub base: Option<String>,
    rank: u64,
    alpha: f64,
    /// Whether the scale is alpha divided by the square root of the rank (rank-stabilised) instead of the rank.
    stabilized: bool,
    /// Ranks and alphas for modules whose names match.
    ranks: Vec<(Regex, u64)>,
    alphas: Vec<(Regex, f64)>,
    /// Whether a learned magnitude per output replaces that of the weight (DoRA).
    pub magnitudes: bool,
}

/// Fields that do not affect what a merged adapter computes: how and where it was trained and initialised. The modules
/// that it applies to follow from its tensors.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "velora_config",
];

impl AdapterConfig {
    /// Reads a parsed `adapter_config.json`.
    ///
    /// # Errors
    /// An unsupported kind of adapter; a field that changes the computation in an unsupported way; a field that is
    /// missing or out of range.
    pub fn read(json: &Value) -> Result<AdapterConfig> {
        let fields = json.as_object().context("adapter_config.json is no table")?;
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        match text("peft_type") {
            Some("LORA") => {}
            Some(other) => bail!("it is an adapter of the kind {other}, which is not supported; LORA is"),
            None => bail!("adapter_config.json does not say which kind of adapter it is (`peft_type`)"),
        }
        ensure!(
            matches!(text("bias"), None | Some("none")),
            "it trains biases (`bias` is {}), which is not supported",
            fields["bias"]
        );
        initialized_plainly(fields.get("init_lora_weights"))?;
        const READ: &[&str] = &[
            "peft_type",
            "base_model_name_or_path",
            "bias",
            "init_lora_weights",
            "r",
            "lora_alpha",
            "use_rslora",
            "use_dora",
            "rank_pattern",
            "alpha_pattern",
        ];
        let unknown = fields.iter().find(|(key, value)| {
            !READ.contains(&key.as_str()) && !HARMLESS.contains(&key.as_str()) && !is_off(value)
        });
        if let Some((key, value)) = unknown {
            bail!("`{key}` of adapter_config.json, {}, is not supported", shortened(value));
        }
        let rank = |value: &Value| value.as_u64().filter(|&r| r > 0);
        let alpha = |value: &Value| value.as_f64().filter(|alpha| alpha.is_finite());
        let is_on = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
        Ok(AdapterConfig {
            base: text("base_model_name_or_path").filter(|base| !base.is_empty()).map(String::from),
            rank: fields.get("r").and_then(rank).context("`r` of adapter_config.json must be a rank")?,
            alpha: fields
                .get("lora_alpha")
                .and_then(alpha)
                .context("`lora_alpha` of adapter_config.json must be a number")?,
            stabilized: is_on("use_rslora"),
            ranks: patterns(fields, "rank_pattern", rank)?,
            alphas: patterns(fields, "alpha_pattern", alpha)?,
            magnitudes: is_on("use_dora"),
        })
    }

    /// The rank of the adapter of `module` (`model.layers.0.mlp.up_proj`), and the factor of its product.
    pub fn rank_and_scale(&self, module: &str) -> (u64, f64) {
        let rank = first(&self.ranks, module).unwrap_or(self.rank);
        let alpha = first(&self.alphas, module).unwrap_or(self.alpha);
        let divisor = if self.stabilized { (rank as f64).sqrt() } else { rank as f64 };
        (rank, alpha / divisor)
    }
}

/// The value of the first pattern that matches.
fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value)
}

/// A table of patterns; each matches the end of a module's name, starting at a dot or at the beginning.
fn patterns<T>(
    fields: &Map<String, Value>,
    key: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>> {
    let Some(table) = fields.get(key).filter(|table| !table.is_null()) else { return Ok(Vec::new()) };
    let table = table.as_object().with_context(|| format!("`{key}` of adapter_config.json is no table"))?;
    let read = table.iter().map(|(pattern, of)| {
        let regex = RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).size_limit(1 << 20).build();
        let regex =
            regex.map_err(|_| anyhow::anyhow!("`{key}`: {pattern:?} is no pattern that is read here"))?;
        Ok((regex, value(of).with_context(|| format!("`{key}`: {pattern:?} is {of}"))?))
    });
    read.collect()
}

/// Refuses initialisations that change the model's own weights: such an adapter would have to be added to weights
/// other than those in the model's files.
fn initialized_plainly(how: Option<&Value>) -> Result<()> {
    match how {
        None | Some(Value::Bool(_) | Value::Null) => Ok(()),
        Some(Value::String(how))
            if ["gaussian", "eva", "orthogonal"].contains(&how.to_lowercase().as_str()) =>
        {
            Ok(())
        }
        Some(how) => bail!(
            "it was initialised by {how}, which changes the model's own weights, and is not supported; PEFT converts \
             such an adapter to a plain one when it saves it (`path_initial_model_for_weight_conversion`)"
        ),
    }
}

/// Whether a field is switched off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

fn shortened(value: &Value) -> String {
    let text: String = value.to_string().chars().take(60).collect();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(more: Value) -> Result<AdapterConfig> {
        let mut fields =
            json!({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "target_modules": ["x"]});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        AdapterConfig::read(&fields)
    }

    /// Computed by hand from PEFT's `get_pattern_key` and `scaling`.
    #[test]
    fn ranks_and_scales_of_modules() {
        let up = "model.layers.0.mlp.up_proj";
        let plain = with(json!({})).unwrap();
        assert_eq!(plain.rank_and_scale(up), (8, 2.0));
        let stable = with(json!({"use_rslora": true, "rank_pattern": {"up_proj": 4}})).unwrap();
        assert_eq!(stable.rank_and_scale(up), (4, 8.0));
        let by_name = with(json!({
            "rank_pattern": {r"layers\.[12]\.mlp\.up_proj": 2, "p_proj": 3, "mlp.up_proj": 4, "up_proj": 5},
            "alpha_pattern": {"^model.layers.1.*": 1, r"model\.layers\.1\..*": 32}
        }))
        .unwrap();
        // A pattern matches whole components of a name: `p_proj` is not one.
        assert_eq!(by_name.rank_and_scale(up), (4, 4.0));
        assert_eq!(by_name.rank_and_scale("model.layers.1.mlp.up_proj"), (2, 0.5));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (more, says) in [
            (json!({"peft_type": "IA3"}), "of the kind IA3"),
            (json!({"bias": "all"}), "`bias` is \"all\""),
            (json!({"layer_replication": [[0, 2]]}), "`layer_replication`"),
            (json!({"trainable_token_indices": [1, 2]}), "`trainable_token_indices`"),
            (json!({"target_parameters": ["mlp.experts.down_proj"]}), "`target_parameters`"),
            (json!({"lora_bias": true}), "`lora_bias`"),
            (json!({"a_new_switch": "on"}), "`a_new_switch`"),
            (json!({"init_lora_weights": "pissa_niter_4"}), "pissa_niter_4"),
            (json!({"r": 0}), "`r`"),
            (json!({"lora_alpha": "much"}), "`lora_alpha`"),
            (json!({"rank_pattern": {"(?=x)": 4}}), "is no pattern that is read here"),
            (json!({"rank_pattern": {"x": -1}}), "is -1"),
        ] {
            let error = with(more.clone()).map(|_| ()).expect_err(says);
            assert!(format!("{error:#}").contains(says), "{more}: {error:#}");
        }
        assert!(with(json!({"layer_replication": null, "a_new_switch": false, "lora_bias": false})).is_ok());
    }
}
