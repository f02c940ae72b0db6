//! Qwen3.5, dense, text-only or as the text part of a multimodal checkpoint: gated delta nets, interleaved with
//! attention layers whose output is gated.

use super::common::{
    DEFAULTS, Defaults, NAMES, Turns, attention_biases, from_wrapper, no_window, plain, text_config,
};
use super::config::Fields;
use super::rotation::{RopeSettings, chosen, optional_size};
use crate::lm::spec::{Activation, DeltaHeads, Gain, Mixer, Names, Norm, QkNorm, Rope, Spec};
use anyhow::{Context, Result, bail, ensure};

/// Tensor names of the text part in checkpoints with a tower, and prefixes to skip: the tower and the multi-token
/// prediction layers.
const WRAPPED: Names = Names {
    aliases: &[("model.language_model.", "model."), ("model.visual.", "visual.")],
    towers: &["visual.", "mtp."],
    ..NAMES
};

/// Reads the `config.json` of a text-only checkpoint, whose tensors may be named as in one with a tower.
pub fn spec(f: &Fields) -> Result<Spec> {
    text(f)
}

/// Reads the `config.json` of a checkpoint with an image tower.
pub fn wrapped(f: &Fields) -> Result<Spec> {
    let inner = text_config(f)?;
    let mut spec = text(&inner)?;
    from_wrapper(f, &inner, &mut spec)?;
    spec.tied = f.switch("tie_word_embeddings", false)?;
    Ok(spec)
}

/// Defaults are those of transformers' `Qwen3_5TextConfig`.
fn text(f: &Fields) -> Result<Spec> {
    let defaults = Defaults {
        d_vocab: Some(248_320),
        n_heads: Some(16),
        n_kv_heads: Some(4),
        d_head: Some(256),
        context: 32_768,
        turns: Turns::ByKind,
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    spec.names = WRAPPED;
    spec.norm = Norm::Rms { gain: Gain::OnePlus };
    spec.qk_norm = QkNorm::Head;
    attention_biases(f, &mut spec)?;
    f.off("per_layer_config")?;
    no_window(f, &spec)?;
    let rope = rope(f, &spec)?;
    for (_, attention) in spec.attentions() {
        attention.rope = Some(rope.clone());
        attention.gate = true;
    }
    let delta = delta_heads(f)?;
    let linear = linear_layers(f, spec.n_layers())?;
    for (layer, _) in spec.layers.iter_mut().zip(linear).filter(|(_, linear)| *linear) {
        layer.mixer = Mixer::GatedDelta(delta);
    }
    // transformers applies the MLP's activation, whichever it is, to the convolution's output.
    ensure!(
        spec.activation == Activation::Silu,
        "{}: gated delta nets are supported with silu alone",
        f.name("hidden_act")
    );
    Ok(spec)
}

/// Positions have three axes, and `mrope_section` assigns pairs to axes; for text all three are equal.
fn rope(f: &Fields, spec: &Spec) -> Result<Rope> {
    let settings = RopeSettings {
        d_head: f.size("head_dim", 256)?,
        theta: f.positive_or("rope_theta", DEFAULTS.theta)?,
        fraction: f.positive_or("partial_rotary_factor", 0.25)?,
        in_part: true,
        context: spec.context,
        original: optional_size(f, "original_max_position_embeddings")?,
    };
    settings.rope(chosen(f)?.as_ref())
}

fn delta_heads(f: &Fields) -> Result<DeltaHeads> {
    let heads = DeltaHeads {
        n_k_heads: f.size("linear_num_key_heads", 16)?,
        n_v_heads: f.size("linear_num_value_heads", 32)?,
        d_k: f.size("linear_key_head_dim", 128)?,
        d_v: f.size("linear_value_head_dim", 128)?,
        kernel: f.size("linear_conv_kernel_dim", 4)?,
    };
    let DeltaHeads { n_k_heads, n_v_heads, kernel, .. } = heads;
    ensure!(
        n_v_heads.is_multiple_of(n_k_heads),
        "config.json: {n_v_heads} linear value heads cannot share {n_k_heads} key heads evenly"
    );
    ensure!(
        (2..=64).contains(&kernel),
        "{} is {kernel}; 2 to 64 are supported",
        f.name("linear_conv_kernel_dim")
    );
    Ok(heads)
}

/// For each layer whether it is a gated delta net: by `layer_types`, or all but every fourth.
fn linear_layers(f: &Fields, n_layers: usize) -> Result<Vec<bool>> {
    let every = f.size("full_attention_interval", 4)?;
    let Some(kinds) = f.get("layer_types") else {
        return Ok((1..=n_layers).map(|layer| layer % every != 0).collect());
    };
    let name = || f.name("layer_types");
    let kinds = kinds.as_array().with_context(|| format!("{} is no list", name()))?;
    ensure!(kinds.len() == n_layers, "{} has {} entries for {n_layers} layers", name(), kinds.len());
    let linear = kinds.iter().map(|kind| match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => bail!("{} holds {kind}, which is not supported yet", name()),
    });
    linear.collect()
}
