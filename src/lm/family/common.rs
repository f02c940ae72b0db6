//! What nearly all families share: sizes, rotary settings, the names that Hugging Face gives to the
//! tensors of a plain decoder. A family starts from it and changes what is its own.

use super::config::Fields;
use crate::lm::spec::{
    Activation, Attention, Dtype, EachExpertNames, ExpertNames, Experts, Gain, KeyValues, Layer, Layout,
    Mixer, MlpNames, Names, Norm, QkNorm, QkvNames, Residual, Rope, RopeScaling, Spec,
};
use anyhow::{Context, Result, bail, ensure};
use std::f64::consts::PI;

/// The names of a plain decoder's tensors.
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

/// No model comes near so many layers, or experts in a layer: a stranger's config must not make lists
/// that fill the memory.
pub const MOST: usize = 1000;

/// What stands for a field that a `config.json` leaves out: transformers' defaults for the family.
pub struct Defaults {
    pub d_vocab: Option<usize>,
    pub n_heads: Option<usize>,
    /// `None`: as many as query heads.
    pub n_kv_heads: Option<usize>,
    /// `None`: the residual stream's width, divided among the query heads.
    pub d_head: Option<usize>,
    pub norm_eps: f64,
    pub theta: f64,
    pub context: usize,
    pub tied: bool,
    /// `None`: what `hidden_act` says. `Some`: the family looks at that field itself.
    pub activation: Option<Activation>,
}

/// The commonest ones; a family says which of its own differ.
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
};

/// A decoder with plain blocks: norms before attention and MLP, every token sees all before it, one
/// rotation for all layers, no biases, SiLU.
pub fn plain(f: &Fields, defaults: &Defaults) -> Result<Spec> {
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
        rope: Some(rope(f, d_head, defaults.theta, context)?),
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

/// # Errors
/// Key and value heads that the query heads cannot share evenly.
pub fn share_evenly(n_heads: usize, n_kv_heads: usize) -> Result<()> {
    ensure!(
        n_heads.is_multiple_of(n_kv_heads),
        "config.json: {n_heads} attention heads cannot share {n_kv_heads} key and value heads evenly"
    );
    Ok(())
}

/// A mixture of `count` experts of which each token goes through `active`.
///
/// # Errors
/// Sizes that are 0, or more active experts than there are.
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

/// The activation that `key` names, as transformers' `ACT2FN` has it, or `default` where it is absent.
///
/// # Errors
/// One that is not supported.
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

/// Biases as `attention_bias` and `mlp_bias` switch them.
pub fn biases(f: &Fields, spec: &mut Spec) -> Result<()> {
    spec.qkv_bias = f.switch("attention_bias", false)?;
    spec.o_bias = spec.qkv_bias;
    spec.mlp_bias = f.switch("mlp_bias", false)?;
    Ok(())
}

/// Gives the layers of `sliding` a window of `sliding_window` tokens.
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

/// Windows of Qwen and SmolLM: only with `use_sliding_window`, in the layers of `layer_types` or, where
/// there are none, in those that `default` says.
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

/// Rotary settings, from `rope_parameters` (transformers 5) or from `rope_theta` and `rope_scaling`
/// (hub checkpoints before it). `context` stands in for a missing original context.
pub fn rope(f: &Fields, d_head: usize, default_theta: f64, context: usize) -> Result<Rope> {
    let fraction = f.positive("partial_rotary_factor")?;
    let theta = f.positive_or("rope_theta", default_theta)?;
    let original = match f.get("original_max_position_embeddings") {
        Some(_) => Some(f.size("original_max_position_embeddings", None)?),
        None => None,
    };
    let (new, old) = (f.table("rope_parameters")?, f.table("rope_scaling")?);
    let plain = RopeSettings { d_head, theta, fraction: fraction.unwrap_or(1.0), context, original };
    match new.or(old) {
        // One table for each kind of layer: the family reads those.
        Some(p) if p.get("full_attention").is_some() => plain.rope(None),
        p => plain.rope(p.as_ref()),
    }
}

/// Gives layers of `sliding` one rotation and the others another. In the hub's configs `rope_theta` and
/// `rope_scaling` are those of the layers without a window; `local_theta` is the base of those with one.
pub fn two_ropes(f: &Fields, spec: &mut Spec, sliding: &[bool], theta: f64, local_theta: f64) -> Result<()> {
    let context = spec.context;
    let d_head = spec.attentions().next().map_or(0, |(_, of)| of.d_head);
    let settings = |theta: f64| RopeSettings { d_head, theta, fraction: 1.0, context, original: None };
    let (global, local) = (settings(theta), settings(local_theta));
    let (global, local) = match f.table("rope_parameters")? {
        Some(p) => {
            let ropes = (
                global.rope(p.table("full_attention")?.as_ref())?,
                local.rope(p.table("sliding_attention")?.as_ref())?,
            );
            p.finish()?;
            ropes
        }
        None => (global.rope(f.table("rope_scaling")?.as_ref())?, local.rope(None)?),
    };
    for (layer, attention) in spec.attentions() {
        attention.rope = Some(if sliding[layer] { local.clone() } else { global.clone() });
    }
    Ok(())
}

/// What rotary settings start from where a table of them says nothing else.
pub struct RopeSettings {
    pub d_head: usize,
    pub theta: f64,
    /// Share of the head that turns.
    pub fraction: f64,
    pub context: usize,
    /// Context of the first training.
    pub original: Option<usize>,
}

impl RopeSettings {
    /// The rotation with what the table `p` says.
    ///
    /// # Errors
    /// A kind that is not supported; a field that is missing, out of range or not understood.
    pub fn rope(&self, p: Option<&Fields>) -> Result<Rope> {
        let Some(p) = p else { return self.plain(self.theta, self.fraction) };
        let theta = p.positive_or("rope_theta", self.theta)?;
        let fraction = p.positive_or("partial_rotary_factor", self.fraction)?;
        let _ = ["mrope_section", "mrope_interleaved"].map(|key| p.get(key)); // until the new rule
        let (new, old) = (p.word("rope_type")?, p.word("type")?);
        let kind = new.or(old).unwrap_or("default");
        // All of a head is paired where only some of the pairs turn.
        let mut rope = self.plain(theta, if kind == "proportional" { 1.0 } else { fraction })?;
        let inner = match p.get("original_max_position_embeddings") {
            Some(_) => Some(p.size("original_max_position_embeddings", None)?),
            None => None,
        };
        // A field beside the table goes before the one in it, as in transformers.
        let original = self.original.or(inner);
        match kind {
            "default" => only_one(p, "factor")?,
            "linear" => rope.scaling = RopeScaling::Linear { factor: p.needed("factor")? },
            "proportional" => {
                rope.pairs = (fraction * self.d_head as f64 / 2.0) as usize;
                if let Some(factor) = p.positive("factor")? {
                    rope.scaling = RopeScaling::Linear { factor };
                }
            }
            "llama3" => {
                let low_freq_factor = p.needed("low_freq_factor")?;
                let high_freq_factor = p.needed("high_freq_factor")?;
                ensure!(
                    high_freq_factor > low_freq_factor,
                    "{} must be above `low_freq_factor`",
                    p.name("high_freq_factor")
                );
                rope.scaling = RopeScaling::Llama3 {
                    factor: p.needed("factor")?,
                    low_freq_factor,
                    high_freq_factor,
                    original_context: original.unwrap_or(self.context) as f64,
                };
            }
            // What Phi-3 was first published with; transformers reads both as longrope.
            "longrope" | "su" | "yarn" if p.get("long_factor").is_some() => {
                let original_context = original.unwrap_or(self.context);
                let factor = p.positive("factor")?;
                let factor = factor.unwrap_or(self.context as f64 / original_context as f64);
                let by_length = match factor > 1.0 {
                    true => (1.0 + factor.ln() / (original_context as f64).ln()).sqrt(),
                    false => 1.0,
                };
                rope.scaling = RopeScaling::LongRope {
                    short: p.numbers("short_factor", rope.pairs)?,
                    long: p.numbers("long_factor", rope.pairs)?,
                    original_context,
                };
                rope.amplitude = p.positive_or("attention_factor", by_length)?;
            }
            "yarn" => {
                let factor = p.needed("factor")?;
                let original = original.unwrap_or(self.context) as f64;
                // The pair that makes so many turns within the original context.
                let pair =
                    |turns: f64| rope.dims as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let (first, last) =
                    (pair(p.positive_or("beta_fast", 32.0)?), pair(p.positive_or("beta_slow", 1.0)?));
                let whole = p.switch("truncate", true)?;
                let (first, last) = if whole { (first.floor(), last.ceil()) } else { (first, last) };
                let (first, last) = (first.max(0.0), last.min(rope.dims as f64 - 1.0));
                let last = if first == last { last + 0.001 } else { last };
                rope.scaling = RopeScaling::Yarn { factor, first, last };
                rope.amplitude = p.positive_or("attention_factor", 1.0 + 0.1 * factor.max(1.0).ln())?;
            }
            other => bail!(
                "{}: rotary scaling `{other}` is not supported yet (default, linear, llama3, longrope, \
                 proportional, yarn)",
                p.name("rope_type")
            ),
        }
        if !matches!(rope.scaling, RopeScaling::LongRope { .. } | RopeScaling::Yarn { .. }) {
            only_one(p, "attention_factor")?;
        }
        p.finish()?;
        Ok(rope)
    }

    fn plain(&self, theta: f64, fraction: f64) -> Result<Rope> {
        let dims = (self.d_head as f64 * fraction) as usize;
        ensure!(
            dims > 0 && dims <= self.d_head && dims.is_multiple_of(2),
            "config.json: {dims} of {} entries of a head cannot be rotated in pairs",
            self.d_head
        );
        Ok(Rope { theta, dims, pairs: dims / 2, amplitude: 1.0, scaling: RopeScaling::None })
    }
}

fn only_one(p: &Fields, key: &str) -> Result<()> {
    let value = p.positive_or(key, 1.0)?;
    ensure!(value == 1.0, "{} = {value} changes the computation and is not supported yet", p.name(key));
    Ok(())
}

/// The text part of a checkpoint with towers for images or sound, and what stands beside it.
///
/// # Errors
/// No `text_config`.
pub fn text_config<'a>(f: &Fields<'a>) -> Result<Fields<'a>> {
    f.table("text_config")?.context("config.json: `text_config` is missing")
}

/// What a wrapper says for its text part: its dtype, its end tokens, whether embeddings are tied.
pub fn from_wrapper(f: &Fields, text: &Fields, spec: &mut Spec) -> Result<()> {
    if let Some(dtype) = f.dtype()?.or(text.dtype()?) {
        spec.dtype = dtype;
    }
    spec.tied = f.switch("tie_word_embeddings", true)?;
    spec.eos.extend(f.token_ids("eos_token_id")?);
    spec.eos.sort_unstable();
    spec.eos.dedup();
    spec.bos = spec.bos.or(f.token_ids("bos_token_id")?.first().copied());
    f.finish()
}
