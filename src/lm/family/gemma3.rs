//! Gemma 3, alone or as the text part of a checkpoint that sees images: norms of queries and keys, most
//! layers with a window and with a rotation of their own.

use super::common::{DEFAULTS, Defaults, RopeSettings, from_wrapper, plain, text_config, windows};
use super::config::Fields;
use super::gemma2::{GEMMA_NAMES, gemma};
use crate::lm::spec::{Names, QkNorm, Rope, Spec};
use anyhow::Result;

/// How the text part is called in checkpoints with a tower: those of the hub, and those that
/// transformers 5 writes.
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
    let spec = text(f)?;
    f.finish()?;
    Ok(spec)
}

/// Reads the `config.json` of a checkpoint with an image tower.
pub fn wrapped(f: &Fields) -> Result<Spec> {
    let inner = text_config(f)?;
    let mut spec = text(&inner)?;
    inner.finish()?;
    from_wrapper(f, &inner, &mut spec)?;
    spec.names = WRAPPED;
    Ok(spec)
}

/// Defaults are those of transformers' `Gemma3TextConfig`: the hub's configs leave most fields out.
fn text(f: &Fields) -> Result<Spec> {
    let defaults = Defaults {
        n_heads: Some(8),
        n_kv_heads: Some(4),
        d_head: Some(256),
        d_vocab: Some(262_208),
        theta: 1_000_000.0,
        context: 131_072,
        tied: true,
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    gemma(f, &mut spec)?;
    spec.qk_norm = QkNorm::Head;
    // transformers passes over this one; published checkpoints have null.
    f.only("attn_logit_softcapping", &[])?;
    spec.logit_cap = f.positive("final_logit_softcapping")?;
    let every = f.size("sliding_window_pattern", 6)?;
    let sliding = f.sliding(spec.n_layers(), |layer| (layer + 1) % every != 0)?;
    windows(f, &mut spec, &sliding, Some(4096))?;
    let [global, local] = ropes(f, &spec)?;
    for (layer, sliding) in spec.layers.iter_mut().zip(sliding) {
        layer.rope = Some(if sliding { local.clone() } else { global.clone() });
    }
    Ok(spec)
}

/// The rotations of layers without and with a window. On the hub `rope_theta` and `rope_scaling` are
/// those of the former, `rope_local_base_freq` is the base of the latter.
fn ropes(f: &Fields, spec: &Spec) -> Result<[Rope; 2]> {
    let settings = |theta: f64| RopeSettings {
        d_head: spec.layers[0].d_head,
        theta,
        fraction: 1.0,
        context: spec.context,
        original: None,
    };
    let global = settings(f.positive_or("rope_theta", 1_000_000.0)?);
    let local = settings(f.positive_or("rope_local_base_freq", 10_000.0)?);
    match f.table("rope_parameters")? {
        Some(p) => {
            let ropes = [
                global.rope(p.table("full_attention")?.as_ref())?,
                local.rope(p.table("sliding_attention")?.as_ref())?,
            ];
            p.finish()?;
            Ok(ropes)
        }
        None => Ok([global.rope(f.table("rope_scaling")?.as_ref())?, local.rope(None)?]),
    }
}
