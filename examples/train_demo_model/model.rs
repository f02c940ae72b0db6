//! The model: its size, fresh weights, loss, and the folder it is saved to. Knows nothing of the corpus.

use crate::tokens::{BOS, CHAT_TEMPLATE, EOS, PAD};
use anyhow::{Context, Result, anyhow};
use emoflow::lm::{Decoder, Spec, weights};
use fs_err as fs;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};
use tokenizers::Tokenizer;

/// Tokens in the vocabulary.
pub const D_VOCAB: usize = 2560;
/// Standard deviation of fresh weights, as transformers sets it for Llama.
const INIT_STD: f64 = 0.02;
/// Targets with this value do not count, as in torch.
const IGNORED: i64 = -100;

/// The model's `config.json`, readable by transformers before and after version 5.
pub fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": D_VOCAB,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 32,
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
    })
}

/// A model in training.
pub struct Model {
    pub spec: Spec,
    pub decoder: Decoder,
    names: Vec<String>,
    weights: Vec<Tensor>,
}

impl Model {
    /// Fresh fp32 weights on `device`, drawn from torch's generator: normal, those that write to the residual stream
    /// smaller by the root of their number; norm gains are one.
    ///
    /// # Errors
    /// A config that is no Llama.
    pub fn fresh(device: Device) -> Result<Model> {
        let spec = Spec::from_config(&config())?;
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
        Model::over(spec, names, weights)
    }

    /// The same model with leaf tensors of its own over the same storage.
    ///
    /// # Errors
    /// Weights that are not those of the spec.
    pub fn sharing_weights(&self) -> Result<Model> {
        let leaf = |w: &Tensor| w.detach().set_requires_grad(true);
        Model::over(self.spec.clone(), self.names.clone(), self.weights.iter().map(leaf).collect())
    }

    fn over(spec: Spec, names: Vec<String>, weights: Vec<Tensor>) -> Result<Model> {
        let mut tensors: HashMap<String, Tensor> =
            names.iter().cloned().zip(weights.iter().map(Tensor::shallow_clone)).collect();
        let decoder = Decoder::from_tensors(&spec, &mut tensors)?;
        Ok(Model { spec, decoder, names, weights })
    }

    /// The weights, in the order of the forward pass.
    pub fn weights(&self) -> &[Tensor] {
        &self.weights
    }

    /// Mean cross-entropy in nats of every token but the first of each row, padding aside.
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

    /// Writes the whole folder, so that transformers and emoflow load it as it is; weights as bf16.
    ///
    /// # Errors
    /// A file that cannot be written.
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
            ("config.json", config()),
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
