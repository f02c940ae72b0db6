//! Writes a checkpoint with random weights and the shape of a published model, in Hugging Face's format, to measure
//! speed and memory without a download. Contains a table of shapes; independent of how a model computes.
//!
//! `cargo run --release --example random_checkpoint -- llama-3.1-8b DIR [--dtype bf16] [--seed 0]`
//!
//! Tensors are drawn and written one at a time, so little memory is needed for any shape; the folder takes two bytes
//! per parameter (four as f32): 16 GB for `llama-3.1-8b`. The weights are scaled like freshly initialised ones
//! (normal, 0.02; the gains of norms are 1), so activations stay finite. The tokenizer is that of a test fixture with
//! 320 tokens, so all its ids are below 320, regardless of the vocabulary of the shape.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use emoflow::lm::Spec;
use fs_err as fs;
use safetensors::View;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Writes a random checkpoint with the shape of a published model.
#[derive(Parser)]
struct Args {
    /// Which shape.
    #[arg(value_parser = SHAPES.map(|(name, _)| name))]
    shape: String,
    /// Folder of the checkpoint; it must not be there yet.
    dir: PathBuf,
    /// Type of the weights.
    #[arg(long, default_value = "bf16", value_parser = ["bf16", "f16", "f32"])]
    dtype: String,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0)]
    seed: i64,
}

/// Builds a `config.json`.
type Config = fn() -> Value;

/// Names of shapes, with the content of the hub's `config.json`.
const SHAPES: [(&str, Config); 5] = [
    ("smollm2-135m", smollm2_135m),
    ("llama-3.2-1b", llama_32_1b),
    ("llama-3.1-8b", llama_31_8b),
    ("gemma-4-e4b", gemma_4_e4b),
    ("qwen3.5-0.8b", qwen35_08b),
];

/// HuggingFaceTB/SmolLM2-135M
fn smollm2_135m() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
        "vocab_size": 49152
    })
}

/// meta-llama/Llama-3.2-1B
fn llama_32_1b() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0", "use_cache": true, "vocab_size": 128256
    })
}

/// meta-llama/Llama-3.1-8B
fn llama_31_8b() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0", "use_cache": true, "vocab_size": 128256
    })
}

/// google/gemma-4-E4B, without its image and audio towers.
fn gemma_4_e4b() -> Value {
    let layer_types: Vec<&str> =
        (1..=42).map(|layer| if layer % 6 == 0 { "full_attention" } else { "sliding_attention" }).collect();
    json!({
        "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "text_config": {
            "attention_bias": false, "attention_dropout": 0.0, "attention_k_eq_v": false, "bos_token_id": 2,
            "enable_moe_block": false, "eos_token_id": 1, "final_logit_softcapping": 30.0, "global_head_dim": 512,
            "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2560,
            "hidden_size_per_layer_input": 256, "intermediate_size": 10240, "layer_types": layer_types,
            "max_position_embeddings": 131072, "model_type": "gemma4_text", "num_attention_heads": 8,
            "num_hidden_layers": 42, "num_key_value_heads": 2, "num_kv_shared_layers": 18, "pad_token_id": 0,
            "rms_norm_eps": 1e-06,
            "rope_parameters": {
                "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
                "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}
            },
            "sliding_window": 512, "tie_word_embeddings": true, "use_cache": true, "use_double_wide_mlp": false,
            "vocab_size": 262144, "vocab_size_per_layer_input": 262144
        }
    })
}

/// Qwen/Qwen3.5-0.8B, the language model only.
fn qwen35_08b() -> Value {
    json!({
        "architectures": ["Qwen3_5ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "eos_token_id": 248044, "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 1024,
        "initializer_range": 0.02, "intermediate_size": 3584, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 16, "linear_value_head_dim": 128,
        "max_position_embeddings": 262144, "model_type": "qwen3_5_text", "num_attention_heads": 8,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_parameters": {"mrope_interleaved": true, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
                            "rope_theta": 10000000, "rope_type": "default"},
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 248320
    })
}

/// The hub's usual limit on the size of one file, in bytes.
const SHARD: usize = 5_000_000_000;

fn main() -> Result<()> {
    let args = Args::parse();
    let (_, config) = SHAPES.into_iter().find(|(name, _)| *name == args.shape).context("no such shape")?;
    let (kind, name) = match args.dtype.as_str() {
        "bf16" => (Kind::BFloat16, "bfloat16"),
        "f16" => (Kind::Half, "float16"),
        _ => (Kind::Float, "float32"),
    };
    let mut config = config();
    config["torch_dtype"] = name.into();
    let spec = Spec::from_config(&config)?;
    ensure!(!args.dir.exists(), "{} is there already", args.dir.display());
    fs::create_dir_all(&args.dir)?;
    write_small_files(&args.dir, &config)?;
    write(&args.dir, drawn(&spec, kind, args.seed), SHARD)?;
    println!("{}: {} parameters as {}", args.dir.display(), spec.n_params(), args.dtype);
    Ok(())
}

/// Writes all files except the weights.
fn write_small_files(dir: &Path, config: &Value) -> Result<()> {
    fs::write(dir.join("config.json"), serde_json::to_string_pretty(config)?)?;
    // Embedded in the program, so that it can be copied to another machine.
    macro_rules! fixture {
        ($file:literal) => {
            ($file, include_str!(concat!("../tests/fixtures/llama3-rope/", $file)))
        };
    }
    let files =
        [fixture!("tokenizer.json"), fixture!("tokenizer_config.json"), fixture!("chat_template.jinja")];
    for (file, text) in files {
        fs::write(dir.join(file), text).with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

/// Writes one file, or shards of at most `bound` bytes (but at least one tensor each) with their index.
fn write(dir: &Path, tensors: Vec<(String, Drawn)>, bound: usize) -> Result<()> {
    let total: usize = tensors.iter().map(|(_, tensor)| tensor.data_len()).sum();
    let mut shards: Vec<(usize, Vec<(String, Drawn)>)> = Vec::new();
    for (name, tensor) in tensors {
        let bytes = tensor.data_len();
        match shards.last_mut() {
            Some((held, shard)) if *held + bytes <= bound => {
                *held += bytes;
                shard.push((name, tensor));
            }
            _ => shards.push((bytes, vec![(name, tensor)])),
        }
    }
    let n = shards.len();
    let mut map = serde_json::Map::new();
    for (i, (_, shard)) in shards.into_iter().enumerate() {
        let file = match n {
            1 => "model.safetensors".to_string(),
            _ => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        map.extend(shard.iter().map(|(name, _)| (name.clone(), json!(file))));
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        safetensors::serialize_to_file(shard, Some(metadata), &dir.join(&file))
            .with_context(|| format!("write {file}"))?;
    }
    if n > 1 {
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        fs::write(dir.join("model.safetensors.index.json"), serde_json::to_string_pretty(&index)?)?;
    }
    Ok(())
}

/// A tensor that is drawn when its bytes are requested.
struct Drawn {
    shape: Vec<usize>,
    kind: Kind,
    seed: i64,
}

/// The tensors of `spec`, each with its own seed.
fn drawn(spec: &Spec, kind: Kind, seed: i64) -> Vec<(String, Drawn)> {
    let each = spec.tensors().into_iter().zip(seed..);
    each.map(|((name, shape), seed)| {
        (name, Drawn { shape: shape.into_iter().map(|n| n as usize).collect(), kind, seed })
    })
    .collect()
}

impl View for Drawn {
    fn dtype(&self) -> safetensors::Dtype {
        match self.kind {
            Kind::BFloat16 => safetensors::Dtype::BF16,
            Kind::Half => safetensors::Dtype::F16,
            _ => safetensors::Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        /// Numbers drawn at a time.
        const PART: usize = 1 << 22;
        let gain = self.shape.len() == 1;
        tch::manual_seed(self.seed);
        let mut bytes = vec![0; self.data_len()];
        for part in bytes.chunks_mut(PART * self.kind.elt_size_in_bytes()) {
            let n = part.len() / self.kind.elt_size_in_bytes();
            let numbers = match gain {
                true => Tensor::ones([n as i64], (self.kind, Device::Cpu)),
                false => (Tensor::randn([n as i64], (Kind::Float, Device::Cpu)) * 0.02).to_kind(self.kind),
            };
            numbers.copy_data_u8(part, n);
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emoflow::lm::{Batch, Checkpoint, Dtype, LanguageModel};

    #[test]
    fn shapes_have_their_published_sizes() {
        // From the hub's model cards; for the last two, transformers' text models, that of Gemma with one scalar per
        // layer.
        let published = [134_515_008, 1_235_814_400, 8_030_261_248, 7_463_013_376 + 42, 752_393_024];
        for ((name, config), n_params) in SHAPES.into_iter().zip(published) {
            assert_eq!(Spec::from_config(&config()).unwrap().n_params(), n_params, "{name}");
        }
    }

    /// The first residuals of a model with 64 instead of 4096 columns, written in files of at most `bound` bytes.
    fn resid(seed: i64, bound: usize, files: usize) -> Vec<f32> {
        let mut config = llama_31_8b();
        for (key, value) in [("hidden_size", 64), ("intermediate_size", 96), ("num_hidden_layers", 2)] {
            config[key] = value.into();
        }
        config["vocab_size"] = 320.into();
        let dir = tempfile::tempdir().unwrap();
        write_small_files(dir.path(), &config).unwrap();
        write(dir.path(), drawn(&Spec::from_config(&config).unwrap(), Kind::BFloat16, seed), bound).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.weights().len(), files);
        let model = LanguageModel::load(&checkpoint, Dtype::Bf16, Device::Cpu).unwrap();
        let ids = model.encode("The old map").unwrap().ids;
        let resid = model.forward(&Batch::new(&[ids]).unwrap(), &mut [], None).unwrap();
        resid.to_kind(Kind::Float).reshape(-1).try_into().unwrap()
    }

    #[test]
    fn what_is_written_is_a_model_that_the_seed_decides() {
        let one = resid(0, SHARD, 1);
        assert!(one.iter().all(|x| x.is_finite()) && one.iter().any(|x| *x != 0.0));
        assert_eq!(one, resid(0, 40_960, 6), "shards change nothing");
        assert_ne!(one, resid(1, SHARD, 1));
    }
}
