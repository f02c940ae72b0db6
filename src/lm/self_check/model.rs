//! The small model of the self-check: its sizes, its weights from a fixed seed, and its results by definition, in
//! float64. Independent of devices and backends.

use crate::lm::sample::uniform;
use crate::lm::spec::{Attention, Spec};
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Sizes of one layer's attention.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Width of a head.
    pub d_head: usize,
    /// Key/value heads, shared by the four query heads.
    pub n_kv_heads: usize,
    /// Tokens that a token attends to, including itself; `None`: all before it.
    pub window: Option<usize>,
}

/// All head widths of real models, key/value heads shared by two, by four and not shared, with and without windows.
pub const LAYERS: [Heads; 5] = [
    Heads { d_head: 64, n_kv_heads: 2, window: None },
    Heads { d_head: 128, n_kv_heads: 1, window: Some(24) },
    Heads { d_head: 256, n_kv_heads: 2, window: None },
    Heads { d_head: 512, n_kv_heads: 1, window: None },
    Heads { d_head: 64, n_kv_heads: 4, window: Some(24) },
];

/// A model of Llama's form whose layers have different heads.
pub struct SmallModel {
    /// Its sizes.
    pub spec: Spec,
    /// By name, fp32 on the CPU; values are exactly representable in bf16 and f16.
    pub weights: HashMap<String, Tensor>,
}

impl SmallModel {
    /// With these `layers`, and with attention scores soft-capped to `cap`.
    ///
    /// # Errors
    /// Sizes that are not a valid model.
    pub fn new(layers: &[Heads], cap: Option<f64>) -> Result<SmallModel> {
        let mut spec = Spec::from_config(&json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": layers.len(), "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
            "vocab_size": 97, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "hidden_act": "silu",
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}, "tie_word_embeddings": false,
            "dtype": "float32", "bos_token_id": 0, "eos_token_id": 1
        }))?;
        spec.attention_cap = cap;
        for ((_, attention), of) in spec.attentions().zip(layers) {
            let rope = attention.rope.as_mut().context("a rotation")?;
            (rope.dims, rope.pairs) = (of.d_head, of.d_head / 2);
            (attention.d_head, attention.n_kv_heads, attention.window) =
                (of.d_head, of.n_kv_heads, of.window);
            attention.scale = (of.d_head as f64).powf(-0.5);
        }
        let weights = spec.tensors().into_iter().map(|(name, shape)| {
            let numbers = weights(&name, &shape);
            (name, numbers)
        });
        Ok(SmallModel { weights: weights.collect(), spec })
    }

    /// The residual stream after each layer, `[pos, d_model]`, and the logits, `[pos, d_vocab]`, of one text: as
    /// defined in the papers, head by head, in float64, without any of the engine's code.
    pub fn by_definition(&self, ids: &[i64]) -> Vec<Tensor> {
        let Spec { n_heads, attention_cap, ref layers, .. } = self.spec;
        let all = |name: &str| self.weights[&format!("{name}.weight")].to_kind(Kind::Double);
        let norm = |x: &Tensor, gain: Tensor| {
            let mean = (x * x).mean_dim([-1i64].as_slice(), true, Kind::Double);
            x / (mean + self.spec.norm_eps).sqrt() * gain
        };
        let mut resid = all("model.embed_tokens").index_select(0, &Tensor::from_slice(ids));
        let mut seen = Vec::with_capacity(layers.len() + 1);
        for (layer, of) in layers.iter().enumerate() {
            let Some(of) = of.attention() else { continue };
            let own = |name: &str| all(&format!("model.layers.{layer}.{name}"));
            let x = norm(&resid, own("input_layernorm"));
            let heads = |name: &str| x.matmul(&own(name).tr()).split(of.d_head as i64, -1);
            let [q, k, v] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(heads);
            let [q, k] = [q, k].map(|heads| heads.iter().map(|x| rotated(x, of)).collect::<Vec<_>>());
            let hidden = hidden(ids.len(), of.window);
            let read = (0..n_heads).map(|query| {
                let shared = query * of.n_kv_heads / n_heads;
                let scores = q[query].matmul(&k[shared].tr()) * of.scale;
                let scores =
                    attention_cap.map_or_else(|| scores.shallow_clone(), |cap| (&scores / cap).tanh() * cap);
                let weights = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
                weights.matmul(&v[shared])
            });
            let read = Tensor::cat(&read.collect::<Vec<_>>(), -1);
            // New tensors: those in `seen` share storage with the old ones.
            resid = &resid + read.matmul(&own("self_attn.o_proj").tr());
            let x = norm(&resid, own("post_attention_layernorm"));
            let [gate, up] = ["mlp.gate_proj", "mlp.up_proj"].map(|name| x.matmul(&own(name).tr()));
            resid = &resid + (gate.sigmoid() * &gate * up).matmul(&own("mlp.down_proj").tr());
            seen.push(resid.shallow_clone());
        }
        seen.push(norm(&resid, all("model.norm")).matmul(&all("lm_head").tr()));
        seen
    }
}

/// Positions hidden from each token: those after it, and those before its window. `[pos, pos]`
fn hidden(pos: usize, window: Option<usize>) -> Tensor {
    let hidden = |(at, of): (usize, usize)| of > at || window.is_some_and(|window| of + window <= at);
    let all: Vec<bool> = (0..pos * pos).map(|place| hidden((place / pos, place % pos))).collect();
    Tensor::from_slice(&all).view([pos as i64, pos as i64])
}

/// One head, `[pos, d_head]`, with entries `i` and `i + d_head / 2` rotated by the angle `pos theta^(-2i / d_head)`.
fn rotated(x: &Tensor, of: &Attention) -> Tensor {
    let Some(rope) = &of.rope else { return x.shallow_clone() };
    let (half, pos) = (of.d_head / 2, x.size()[0]);
    let angle =
        |(at, pair): (usize, usize)| at as f64 * rope.theta.powf(-2.0 * pair as f64 / of.d_head as f64);
    let angles: Vec<f64> =
        (0..pos as usize * half).map(|place| angle((place / half, place % half))).collect();
    let angles = Tensor::from_slice(&angles).view([pos, half as i64]);
    let [first, second] = [0, half].map(|from| x.narrow(1, from as i64, half as i64));
    let (cos, sin) = (angles.cos(), angles.sin());
    Tensor::cat(&[&first * &cos - &second * &sin, second * cos + first * sin], -1)
}

/// The weights of the tensor `name`: multiples of a power of two with seven bits. Linear maps preserve the size of
/// their input, so that scores are as large as those of real models and attention is far from uniform; gains are 0.5
/// to 1.5.
fn weights(name: &str, shape: &[i64]) -> Tensor {
    // FNV-1a (Fowler, Noll and Vo).
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let n: i64 = shape.iter().product();
    let spread = match shape {
        [_, inner] if !name.contains("embed") => (3.0 / *inner as f64).sqrt().log2().ceil().exp2(),
        _ => 1.0,
    };
    let number = |place: i64| {
        let whole = (f64::from(uniform(seed, place as u64, 0)) * 127.0).floor() - 63.0;
        (if shape.len() == 1 { 1.0 + whole / 128.0 } else { whole / 64.0 * spread }) as f32
    };
    let numbers: Vec<f32> = (0..n).map(number).collect();
    Tensor::from_slice(&numbers).view(shape).to_device(Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/fixtures/make_heads.py` computes each layer with transformers, as a model of its own.
    #[test]
    fn the_definition_is_that_of_transformers() {
        let fixture =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heads.safetensors");
        let want: HashMap<String, Tensor> = Tensor::read_safetensors(fixture).unwrap().into_iter().collect();
        let ids: Vec<i64> = Vec::try_from(&want["ids"]).unwrap();
        for layer in 0..LAYERS.len() {
            let small = SmallModel::new(&LAYERS[layer..=layer], None).unwrap();
            let got = small.by_definition(&ids);
            for (got, name) in got.iter().zip(["resid_post", "logits"]) {
                let want = &want[&format!("{name}/{layer}")];
                let got = got.slice(0, 3, None, 4);
                let error = (&got - want).abs().max().double_value(&[]) / want.abs().max().double_value(&[]);
                // transformers computes its norms and rotations in fp32.
                assert!(error < 2e-6, "{name} of layer {layer}: {error:.1e}");
            }
        }
    }
}
