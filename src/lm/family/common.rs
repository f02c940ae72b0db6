//! What most families share: sizes, rotary settings, and Hugging Face's tensor names for a plain decoder. Each family
//! starts from these and overrides what differs.

use super::config::Fields;
use super::rotation::rope;
use crate::lm::spec::{
    Activation, Attention, Dtype, EachExpertNames, ExpertNames, Experts, Gain, KeyValues, Layer, Layout,
    Mixer, MlpNames, Names, Norm, QkNorm, QkvNames, Residual, Spec,
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Tensor names of a plain decoder.
pub const NAMES: Names = Names {
    embed: "model.embed_tokens",
    position_embed: None,
    final_norm: "model.norm",
    unembed: "lm_head",
    block: "model.layers.{}.",
    layout: Layout::OutIn,
    attn_norm: Some("input_layernorm"),
    qkv: QkvNames::Split("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    qk_norm: ("self_attn.q_norm", "self_attn.k_norm"),
    o: "self_attn.o_proj",
    attn_post_norm: None,
    mlp_norm: Some("post_attention_layernorm"),
    mlp: MlpNames::Split("mlp.gate_proj", "mlp.up_proj"),
    down: "mlp.down_proj",
    mlp_post_norm: None,
    experts: ExpertNames {
        router: "mlp.gate",
        each: EachExpertNames::Split(
            "mlp.experts.{}.gate_proj",
            "mlp.experts.{}.up_proj",
            "mlp.experts.{}.down_proj",
        ),
        beside: None,
    },
    aliases: &[],
    towers: &[],
    buffers: &["rotary_emb.inv_freq"],
};

/// Upper bound on layers, and on experts per layer, far above any real model: an untrusted config must not allocate
/// lists that fill the memory.
pub const MOST: usize = 1000;

/// Values for fields absent from a `config.json`: transformers' defaults for the family.
pub struct Defaults {
    pub d_vocab: Option<usize>,
    pub n_heads: Option<usize>,
    /// `None`: same as the number of query heads.
    pub n_kv_heads: Option<usize>,
    /// `None`: the width of the residual stream divided by the number of query heads.
    pub d_head: Option<usize>,
    pub norm_eps: f64,
    pub theta: f64,
    pub context: usize,
    pub tied: bool,
    /// `None`: read from `hidden_act`. `Some`: the family reads that field itself.
    pub activation: Option<Activation>,
    /// Which rotary settings are read.
    pub turns: Turns,
}

/// Which rotary settings a family reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// One table for all layers; the whole head is rotated.
    Whole,
    /// One table for all layers; the rotated fraction of a head is `partial_rotary_factor`.
    Part,
    /// The family itself reads one table per kind of layer.
    ByKind,
}

/// The most common defaults; each family overrides those that differ.
pub const DEFAULTS: Defaults = Defaults {
    d_vocab: None,
    n_heads: None,
    n_kv_heads: None,
    d_head: None,
    norm_eps: 1e-6,
    theta: 10_000.0,
    context: 2048,
    tied: false,
    activation: None,
    turns: Turns::Whole,
};

/// A decoder with plain blocks: norms before attention and MLP, causal attention without a window, the same rotation
/// in all layers, no biases, SiLU.
pub fn plain(f: &Fields, defaults: &Defaults) -> Result<Spec> {
    everywhere(f)?;
    let d_model = f.size("hidden_size", None)?;
    let n_heads = f.size("num_attention_heads", defaults.n_heads)?;
    let n_kv_heads = f.size("num_key_value_heads", defaults.n_kv_heads.unwrap_or(n_heads))?;
    share_evenly(n_heads, n_kv_heads)?;
    let d_head = match f.get("head_dim") {
        None if defaults.d_head.is_none() => {
            ensure!(
                d_model % n_heads == 0,
                "config.json: hidden_size {d_model} is no multiple of num_attention_heads {n_heads}, and no \
                 head_dim is given"
            );
            d_model / n_heads
        }
        _ => f.size("head_dim", defaults.d_head)?,
    };
    let n_layers = f.size("num_hidden_layers", None)?;
    ensure!(n_layers <= MOST, "{} is {n_layers}", f.name("num_hidden_layers"));
    let context = f.size("max_position_embeddings", defaults.context)?;
    let attention = Attention {
        d_head,
        n_kv_heads,
        window: None,
        rope: match defaults.turns {
            Turns::ByKind => None,
            turns => Some(rope(f, d_head, defaults.theta, context, turns == Turns::Part)?),
        },
        kv: KeyValues::Own,
        scale: (d_head as f64).sqrt().recip(),
        gate: false,
    };
    let layer = Layer {
        mixer: Mixer::Attention(attention),
        d_mlp: Some(f.size("intermediate_size", None)?),
        experts: None,
    };
    Ok(Spec {
        architecture: String::new(),
        d_model,
        d_vocab: f.size("vocab_size", defaults.d_vocab)?,
        n_heads,
        embed_scale: 1.0,
        norm: Norm::Rms { gain: Gain::Times },
        norm_eps: f.positive_or("rms_norm_eps", defaults.norm_eps)?,
        attention_cap: None,
        qk_norm: QkNorm::None,
        v_norm: false,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        activation: defaults.activation.map_or_else(|| activation(f), Ok)?,
        residual: Residual::Sequential,
        residual_scale: 1.0,
        per_layer_embed: None,
        layer_scalars: false,
        tied: f.switch("tie_word_embeddings", defaults.tied)?,
        logit_divisor: 1.0,
        logit_cap: None,
        layers: vec![layer; n_layers],
        dtype: f.dtype()?.unwrap_or(Dtype::F32),
        quantization: None,
        context,
        bos: f.token_ids("bos_token_id")?.first().copied(),
        eos: f.token_ids("eos_token_id")?,
        names: NAMES,
    })
}

/// Refuses fields that change the computation of every architecture, through code that all of them share in
/// transformers (or shared in an earlier version), and that are not implemented here.
pub fn everywhere(f: &Fields) -> Result<()> {
    causal(f, "is_causal", |value| value != &Value::Bool(false))?;
    for key in [
        "add_cross_attention",
        "attention_chunk_size",
        "cross_attention_hidden_size",
        "is_encoder_decoder",
        "pruned_heads",
        "tie_encoder_decoder",
    ] {
        f.off(key)?;
    }
    Ok(())
}

/// Refuses a model with bidirectional attention: `key` must be absent or `causal`.
pub fn causal(f: &Fields, key: &str, causal: impl Fn(&Value) -> bool) -> Result<()> {
    match f.get(key) {
        Some(value) if !causal(value) => Err(f.refused(
            key,
            "this is a bidirectional model, an encoder as embedding models are: its tokens see those after them. \
             Only models that read from left to right are supported",
        )),
        _ => Ok(()),
    }
}

/// For a family whose layers are all of one kind: refuses fields that would give layers different sizes
/// (`per_layer_config`), or windows to only some of them (`layer_types`). The reference allocates its key/value cache
/// by these fields.
pub fn one_kind(f: &Fields, spec: &Spec) -> Result<()> {
    f.off("per_layer_config")?;
    let windows = spec.layers.iter().any(|layer| layer.attention().is_some_and(|of| of.window.is_some()));
    let sliding = f.sliding(spec.n_layers(), |_| windows)?;
    if sliding.iter().any(|&kind| kind != sliding[0]) || (sliding[0] && !windows) {
        bail!(
            f.refused("layer_types", "a window in some of the layers is not supported in this architecture")
        );
    }
    Ok(())
}

/// For a family without windows: refuses a window unless it is switched off or at least as long as the context. The
/// reference would drop keys and values outside it during generation.
pub fn no_window(f: &Fields, spec: &Spec) -> Result<()> {
    let switched_off = !f.switch("use_sliding_window", true)?;
    let window = f.count("sliding_window")?;
    if window > 0 && window < spec.context && !switched_off {
        bail!(f.refused("sliding_window", "a window is not supported in this architecture"));
    }
    Ok(())
}

/// # Errors
/// The number of query heads is not a multiple of the number of key/value heads.
pub fn share_evenly(n_heads: usize, n_kv_heads: usize) -> Result<()> {
    ensure!(
        n_heads.is_multiple_of(n_kv_heads),
        "config.json: {n_heads} attention heads cannot share {n_kv_heads} key and value heads evenly"
    );
    Ok(())
}

/// A mixture of `count` experts, of which `active` are used per token.
///
/// # Errors
/// Sizes that are 0, or more active experts than `count`.
pub fn mixture(count: usize, active: usize, d_mlp: usize, normalized: bool) -> Result<Experts> {
    ensure!(
        d_mlp > 0 && (1..=count).contains(&active) && count <= MOST,
        "config.json: {active} active of {count} experts of width {d_mlp}"
    );
    Ok(Experts { count, active, d_mlp, normalized })
}

fn activation(f: &Fields) -> Result<Activation> {
    named_activation(f, "hidden_act", "silu")
}

/// The activation that `key` names, as in transformers' `ACT2FN`, or `default` where it is absent.
///
/// # Errors
/// An unsupported activation.
pub fn named_activation(f: &Fields, key: &str, default: &str) -> Result<Activation> {
    Ok(match f.word(key)?.unwrap_or(default) {
        "silu" | "swish" => Activation::Silu,
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh" => {
            Activation::GeluTanh
        }
        "quick_gelu" => Activation::GeluSigmoid,
        "relu" => Activation::Relu,
        other => bail!(
            "{} {other:?} is not supported yet (silu, gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu)",
            f.name(key)
        ),
    })
}

/// Biases of attention, controlled by `attention_bias`.
pub fn attention_biases(f: &Fields, spec: &mut Spec) -> Result<()> {
    spec.qkv_bias = f.switch("attention_bias", false)?;
    spec.o_bias = spec.qkv_bias;
    Ok(())
}

/// Biases controlled by `attention_bias` and `mlp_bias`.
pub fn biases(f: &Fields, spec: &mut Spec) -> Result<()> {
    spec.mlp_bias = f.switch("mlp_bias", false)?;
    attention_biases(f, spec)
}

/// Gives the layers marked in `sliding` a window of `sliding_window` tokens.
pub fn windows(f: &Fields, spec: &mut Spec, sliding: &[bool], default: Option<usize>) -> Result<()> {
    let window = match f.get("sliding_window") {
        None if default.is_none() => None,
        _ => Some(f.size("sliding_window", default)?),
    };
    for (_, attention) in spec.attentions().filter(|(layer, _)| sliding[*layer]) {
        attention.window = window;
    }
    Ok(())
}

/// Windows of Qwen and SmolLM: only with `use_sliding_window`, in the sliding layers of `layer_types`, or, without
/// that field, in the layers selected by `default`.
pub fn optional_windows(f: &Fields, spec: &mut Spec, default: impl Fn(usize) -> bool) -> Result<()> {
    let used = f.switch("use_sliding_window", false)? && f.get("sliding_window").is_some();
    let sliding = f.sliding(spec.n_layers(), |layer| used && default(layer))?;
    ensure!(
        used || !sliding.contains(&true),
        "{} has sliding layers, but `use_sliding_window` is off",
        f.name("layer_types")
    );
    windows(f, spec, &sliding, None)
}

/// The text part of a checkpoint with image or audio towers.
///
/// # Errors
/// `text_config` is missing.
pub fn text_config<'a>(f: &Fields<'a>) -> Result<Fields<'a>> {
    f.table("text_config")?.context("config.json: `text_config` is missing")
}

/// Settings of the wrapping config that apply to its text part: dtype, end tokens, tied embeddings.
pub fn from_wrapper(f: &Fields, text: &Fields, spec: &mut Spec) -> Result<()> {
    if let Some(dtype) = f.dtype()?.or(text.dtype()?) {
        spec.dtype = dtype;
    }
    spec.tied = f.switch("tie_word_embeddings", true)?;
    spec.eos.extend(f.token_ids("eos_token_id")?);
    spec.eos.sort_unstable();
    spec.eos.dedup();
    spec.bos = spec.bos.or(f.token_ids("bos_token_id")?.first().copied());
    Ok(())
}
