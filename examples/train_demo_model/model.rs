//! The model: its size, initial weights, loss, and the folder it is saved to. Independent of the corpus.

use crate::tokens::{BOS, CHAT_TEMPLATE, EOS, PAD};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use emoflow::lm::{Decoder, Spec, weights};
use fs_err as fs;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};
use tokenizers::Tokenizer;

/// Size of the vocabulary.
pub const D_VOCAB: usize = 2560;
/// Width of a head. Two query heads share a key-value head, so `d_model` is a multiple of twice this.
const D_HEAD: usize = 32;
/// Standard deviation of initial weights, as in transformers for Llama.
const INIT_STD: f64 = 0.02;
/// Targets with this value are ignored, as in torch.
const IGNORED: i64 = -100;

/// How large a model is; all other sizes follow.
#[derive(Args, Clone, Copy)]
pub struct Size {
    /// Blocks.
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Width of the residual stream, a multiple of 64.
    #[arg(long, default_value_t = 192)]
    d_model: usize,
}

/// The model's `config.json`, readable by transformers both before and since version 5.
///
/// # Errors
/// A width that is not a whole number of heads, or a size without a block.
pub fn config(size: Size) -> Result<Value> {
    let Size { layers, d_model } = size;
    ensure!(layers > 0, "a model has at least one block: --layers 1");
    ensure!(
        d_model > 0 && d_model.is_multiple_of(2 * D_HEAD),
        "a width of {d_model} has no whole pairs of heads: --d-model takes multiples of {}",
        2 * D_HEAD
    );
    // Three matrices of this width have as many weights as the usual two of 4 d_model.
    let d_mlp = (8 * d_model / 3).next_multiple_of(D_HEAD);
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": D_VOCAB,
        "hidden_size": d_model,
        "intermediate_size": d_mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": d_model / D_HEAD,
        "num_key_value_heads": d_model / D_HEAD / 2,
        "head_dim": D_HEAD,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": null,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "tie_word_embeddings": true,
        "initializer_range": INIT_STD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "torch_dtype": "bfloat16",
        "use_cache": true
    }))
}

/// A model in training.
pub struct Model {
    pub spec: Spec,
    pub decoder: Decoder,
    config: Value,
    names: Vec<String>,
    weights: Vec<Tensor>,
}

impl Model {
    /// Initial fp32 weights on `device`, drawn from torch's generator: normal; matrices that write to the residual
    /// stream are scaled down by the root of their number; norm gains are one.
    ///
    /// # Errors
    /// An invalid size.
    pub fn fresh(size: Size, device: Device) -> Result<Model> {
        let config = config(size)?;
        let spec = Spec::from_config(&config)?;
        let (mut names, mut weights) = (Vec::new(), Vec::new());
        for (name, shape) in spec.tensors() {
            let out = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let std = if out { INIT_STD / (2.0 * spec.n_layers() as f64).sqrt() } else { INIT_STD };
            let weight = match shape.len() {
                1 => Tensor::ones(&shape, (Kind::Float, Device::Cpu)),
                _ => Tensor::randn(&shape, (Kind::Float, Device::Cpu)) * std,
            };
            weights.push(weight.to_device(device).set_requires_grad(true));
            names.push(name);
        }
        Model::over(spec, config, names, weights)
    }

    /// Loads the model in `folder`, in fp32 on `device`, for further training.
    ///
    /// # Errors
    /// The folder has no model of this family, or a tensor is missing.
    pub fn of(folder: &Path, device: Device) -> Result<Model> {
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json"))?)?;
        let spec = Spec::from_config(&config)?;
        let mut stored: HashMap<String, Tensor> =
            Tensor::read_safetensors(folder.join("model.safetensors"))?.into_iter().collect();
        let (mut names, mut weights) = (Vec::new(), Vec::new());
        for (name, _) in spec.tensors() {
            let weight = stored.remove(&name);
            let weight = weight.with_context(|| format!("{} lacks {name}", folder.display()))?;
            weights.push(weight.to_kind(Kind::Float).to_device(device).set_requires_grad(true));
            names.push(name);
        }
        Model::over(spec, config, names, weights)
    }

    /// The same model with its own leaf tensors over shared storage.
    ///
    /// # Errors
    /// The weights do not match the spec.
    pub fn sharing_weights(&self) -> Result<Model> {
        let leaf = |w: &Tensor| w.detach().set_requires_grad(true);
        let weights = self.weights.iter().map(leaf).collect();
        Model::over(self.spec.clone(), self.config.clone(), self.names.clone(), weights)
    }

    fn over(spec: Spec, config: Value, names: Vec<String>, weights: Vec<Tensor>) -> Result<Model> {
        let mut tensors: HashMap<String, Tensor> =
            names.iter().cloned().zip(weights.iter().map(Tensor::shallow_clone)).collect();
        let decoder = Decoder::from_tensors(&spec, &mut tensors)?;
        Ok(Model { spec, decoder, config, names, weights })
    }

    /// The weights, in the order of the forward pass.
    pub fn weights(&self) -> &[Tensor] {
        &self.weights
    }

    /// Mean cross-entropy in nats over all tokens except the first of each row and padding.
    pub fn loss(&self, ids: &Tensor) -> Tensor {
        let pos = ids.size()[1];
        let logits = self.decoder.unembed(&self.decoder.forward(&ids.narrow(1, 0, pos - 1)));
        let targets = ids.narrow(1, 1, pos - 1);
        let targets = targets.masked_fill(&targets.eq(i64::from(PAD)), IGNORED).reshape([-1]);
        logits.view([-1, self.spec.d_vocab as i64]).cross_entropy_loss::<&Tensor>(
            &targets,
            None,
            tch::Reduction::Mean,
            IGNORED,
            0.0,
        )
    }

    /// Writes the whole folder, which transformers and emoflow can load directly; weights in bf16.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self, folder: &Path, tokenizer: &Tokenizer) -> Result<()> {
        fs::create_dir_all(folder)?;
        let tensors: Vec<(String, Tensor)> = no_grad(|| {
            self.names.iter().cloned().zip(self.weights.iter().map(|w| w.to_kind(Kind::BFloat16))).collect()
        });
        let unfinished = folder.join("model.safetensors.unfinished");
        weights::save(&unfinished, &tensors)?;
        fs::rename(&unfinished, folder.join("model.safetensors"))?;
        tokenizer
            .save(folder.join("tokenizer.json"), true)
            .map_err(|e| anyhow!("{e}"))
            .with_context(|| format!("save the tokenizer to {}", folder.display()))?;
        let files = [
            ("config.json", self.config.clone()),
            (
                "generation_config.json",
                json!({"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}),
            ),
            (
                "tokenizer_config.json",
                json!({
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "bos_token": "<s>",
                    "eos_token": "</s>",
                    "pad_token": "<pad>",
                    "model_max_length": 512,
                    "clean_up_tokenization_spaces": false,
                    "chat_template": CHAT_TEMPLATE
                }),
            ),
            (
                "special_tokens_map.json",
                json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}),
            ),
        ];
        for (name, value) in files {
            fs::write(folder.join(name), serde_json::to_string_pretty(&value)? + "\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_that_ship_have_their_sizes() {
        for (name, layers, d_model) in [("demo", 4, 192), ("demo-small", 4, 128), ("demo-seed1", 4, 128)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).join("config.json");
            let stored: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(config(Size { layers, d_model }).unwrap(), stored, "{name}");
        }
    }

    #[test]
    fn a_size_has_whole_pairs_of_heads() {
        for (layers, d_model) in [(0, 64), (1, 0), (1, 96), (1, 100)] {
            assert!(config(Size { layers, d_model }).is_err(), "{layers} blocks of {d_model}");
        }
        let config = config(Size { layers: 1, d_model: 64 }).unwrap();
        assert_eq!((&config["num_attention_heads"], &config["num_key_value_heads"]), (&json!(2), &json!(1)));
    }
}
