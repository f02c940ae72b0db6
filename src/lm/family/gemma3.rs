//! Gemma 3, text-only or as the text part of a multimodal checkpoint: query and key norms; most layers have a window
//! and a rotation of their own.

use super::common::{DEFAULTS, Defaults, Turns, from_wrapper, plain, text_config, windows};
use super::config::Fields;
use super::gemma2::{GEMMA_NAMES, gemma};
use super::rotation::two_ropes;
use crate::lm::spec::{Activation, Names, QkNorm, Spec};
use anyhow::Result;

/// Tensor names of the text part in checkpoints with a vision tower: those on the hub, and those written by
/// transformers 5.
const WRAPPED: Names = Names {
    aliases: &[
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("model.language_model.", "model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
    ],
    towers: &["vision_tower.", "multi_modal_projector."],
    ..GEMMA_NAMES
};

/// Reads the `config.json` of a text-only checkpoint.
pub fn spec(f: &Fields) -> Result<Spec> {
    text(f)
}

/// Reads the `config.json` of a checkpoint with an image tower.
pub fn wrapped(f: &Fields) -> Result<Spec> {
    let inner = text_config(f)?;
    let mut spec = text(&inner)?;
    from_wrapper(f, &inner, &mut spec)?;
    spec.names = WRAPPED;
    Ok(spec)
}

/// Defaults are those of transformers' `Gemma3TextConfig`: configs on the hub omit most fields.
fn text(f: &Fields) -> Result<Spec> {
    let defaults = Defaults {
        n_heads: Some(8),
        n_kv_heads: Some(4),
        d_head: Some(256),
        d_vocab: Some(262_208),
        context: 131_072,
        tied: true,
        activation: Some(Activation::GeluTanh),
        turns: Turns::ByKind,
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    gemma(f, &mut spec)?;
    spec.qk_norm = QkNorm::Head;
    spec.logit_cap = f.positive("final_logit_softcapping")?;
    let every = f.size("sliding_window_pattern", 6)?;
    let sliding = f.sliding(spec.n_layers(), |layer| (layer + 1) % every != 0)?;
    windows(f, &mut spec, &sliding, Some(4096))?;
    let theta = f.positive_or("rope_theta", 1_000_000.0)?;
    let local_theta = f.positive_or("rope_local_base_freq", 10_000.0)?;
    two_ropes(f, &mut spec, &sliding, theta, local_theta)?;
    Ok(spec)
}
