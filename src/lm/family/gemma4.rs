//! Gemma 4, text-only or as the text part of a multimodal checkpoint: global layers with a head size of their own,
//! keys and values shared between layers or used as both, per-layer embeddings.

use super::common::{
    DEFAULTS, Defaults, Turns, attention_biases, causal, from_wrapper, mixture, plain, share_evenly,
    text_config, windows,
};
use super::config::Fields;
use super::gemma2::{GEMMA_NAMES, only_gelu};
use super::rotation::RopeSettings;
use crate::lm::spec::{
    Activation, BesideNames, EachExpertNames, ExpertNames, KeyValues, Names, PerLayerEmbed, QkNorm, Rope,
    Spec,
};
use anyhow::{Context, Result, ensure};

const NAMES_4: Names = Names {
    experts: ExpertNames {
        router: "router.proj",
        each: EachExpertNames::Stacked("experts.gate_up_proj", "experts.down_proj"),
        beside: Some(BesideNames {
            mlp_post_norm: "post_feedforward_layernorm_1",
            norm: "pre_feedforward_layernorm_2",
            post_norm: "post_feedforward_layernorm_2",
            router_scale: "router.scale",
            expert_scale: "router.per_expert_scale",
        }),
    },
    ..GEMMA_NAMES
};

const WRAPPED: Names = Names {
    aliases: &[
        ("model.language_model.", "model."),
        // As written by MLX.
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("vision_tower.", "model.vision_tower."),
        ("audio_tower.", "model.audio_tower."),
        ("embed_vision.", "model.embed_vision."),
        ("embed_audio.", "model.embed_audio."),
    ],
    towers: &[
        "model.vision_tower.",
        "model.audio_tower.",
        "model.embed_vision.",
        "model.embed_audio.",
        "model.vision_embedder.",
        "model.audio_embedder.",
    ],
    ..NAMES_4
};

/// Reads the `config.json` of a text-only checkpoint of E2B, E4B or 31B.
pub fn spec(f: &Fields) -> Result<Spec> {
    text(f, &DEFAULTS_4)
}

/// Reads the `config.json` of a checkpoint with towers: E2B, E4B, 31B.
pub fn wrapped(f: &Fields) -> Result<Spec> {
    with_towers(f, &DEFAULTS_4)
}

/// Reads the `config.json` of a text-only checkpoint of the 12B.
pub fn unified_text(f: &Fields) -> Result<Spec> {
    text(f, &DEFAULTS_UNIFIED)
}

/// Reads the `config.json` of the 12B, which takes images and audio without separate towers.
pub fn unified(f: &Fields) -> Result<Spec> {
    with_towers(f, &DEFAULTS_UNIFIED)
}

fn with_towers(f: &Fields, defaults: &Gemma4Defaults) -> Result<Spec> {
    let inner = text_config(f)?;
    let mut spec = text(&inner, defaults)?;
    from_wrapper(f, &inner, &mut spec)?;
    spec.names = WRAPPED;
    Ok(spec)
}

/// Defaults that differ between transformers' `Gemma4TextConfig` and `Gemma4UnifiedTextConfig`.
struct Gemma4Defaults {
    context: usize,
    window: usize,
    /// Width of the per-layer embeddings; `None`: the model has neither those nor experts.
    per_layer_width: Option<usize>,
}

const DEFAULTS_4: Gemma4Defaults =
    Gemma4Defaults { context: 131_072, window: 512, per_layer_width: Some(256) };
const DEFAULTS_UNIFIED: Gemma4Defaults =
    Gemma4Defaults { context: 262_144, window: 1024, per_layer_width: None };

fn text(f: &Fields, of: &Gemma4Defaults) -> Result<Spec> {
    let defaults = Defaults {
        n_heads: Some(8),
        n_kv_heads: Some(4),
        d_head: Some(256),
        d_vocab: Some(262_144),
        context: of.context,
        tied: true,
        activation: Some(Activation::GeluTanh),
        turns: Turns::ByKind,
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    attention_biases(f, &mut spec)?;
    spec.names = NAMES_4;
    only_gelu(f)?;
    spec.embed_scale = (spec.d_model as f64).sqrt();
    spec.attentions().for_each(|(_, attention)| attention.scale = 1.0);
    spec.qk_norm = QkNorm::Head;
    spec.v_norm = true;
    spec.layer_scalars = true;
    spec.logit_cap = f.positive("final_logit_softcapping")?;
    // With "vision", only image tokens attend to later positions.
    causal(f, "use_bidirectional_attention", |value| *value == false || value == "vision")?;
    let n_layers = spec.n_layers();
    let mut sliding = f.sliding(n_layers, |layer| (layer + 1) % 6 != 0)?;
    // transformers forces the last layer to be global.
    sliding[n_layers - 1] = false;
    windows(f, &mut spec, &sliding, Some(of.window))?;
    heads(f, &mut spec, &sliding)?;
    ropes(f, &mut spec, &sliding)?;
    shared_keys_values(f, &mut spec, &sliding)?;
    let Some(width) = of.per_layer_width else { return Ok(spec) };
    experts(f, &mut spec)?;
    let width = f.count_or("hidden_size_per_layer_input", width)?;
    let rows = f.size("vocab_size_per_layer_input", 262_144)?;
    if width > 0 {
        ensure!(rows >= spec.d_vocab, "{} is below vocab_size", f.name("vocab_size_per_layer_input"));
        spec.per_layer_embed = Some(PerLayerEmbed { width, d_vocab: rows });
    }
    Ok(spec)
}

/// With `enable_moe_block`: experts in every layer, in parallel with its MLP.
fn experts(f: &Fields, spec: &mut Spec) -> Result<()> {
    let count = f.count("num_experts")?;
    let (active, d_mlp) = (f.count("top_k_experts")?, f.count("moe_intermediate_size")?);
    if !f.switch("enable_moe_block", false)? {
        return Ok(());
    }
    let of = mixture(count, active, d_mlp, true)?;
    spec.layers.iter_mut().for_each(|layer| layer.experts = Some(of));
    Ok(())
}

/// Head sizes of the global layers: `per_layer_config` (transformers 5), or `global_head_dim` and
/// `num_global_key_value_heads` (the hub); the latter counts only with `attention_k_eq_v`.
fn heads(f: &Fields, spec: &mut Spec, sliding: &[bool]) -> Result<()> {
    let keys_as_values = f.switch("attention_k_eq_v", false)?;
    let d_head = f.size("global_head_dim", 512)?;
    let n_kv_heads = f.get("num_global_key_value_heads").is_some();
    let n_kv_heads = n_kv_heads.then(|| f.size("num_global_key_value_heads", None)).transpose()?;
    let each = f.table("per_layer_config")?;
    let n_heads = spec.n_heads;
    for (at, layer) in spec.attentions() {
        if let Some(each) = &each {
            if let Some(own) = each.table(&at.to_string())? {
                layer.d_head = own.size("head_dim", layer.d_head)?;
                layer.n_kv_heads = own.size("num_key_value_heads", layer.n_kv_heads)?;
            }
        } else if !sliding[at] {
            layer.d_head = d_head;
            if let Some(n) = n_kv_heads.filter(|_| keys_as_values) {
                layer.n_kv_heads = n;
            }
        }
        if keys_as_values && !sliding[at] {
            layer.kv = KeyValues::KeysAsValues;
        }
        share_evenly(n_heads, layer.n_kv_heads)?;
    }
    Ok(())
}

/// Each kind of layer has its own rotation; the global one rotates a quarter of the pairs.
fn ropes(f: &Fields, spec: &mut Spec, sliding: &[bool]) -> Result<()> {
    let parameters = f.table("rope_parameters")?;
    let (global, local) = match &parameters {
        Some(p) => (p.table("full_attention")?, p.table("sliding_attention")?),
        None => (None, None),
    };
    let context = spec.context;
    let settings = |d_head, theta| RopeSettings {
        d_head,
        theta,
        fraction: 1.0,
        in_part: false,
        context,
        original: None,
    };
    for (at, layer) in spec.attentions() {
        layer.rope = Some(match (sliding[at], &parameters) {
            (true, _) => settings(layer.d_head, 10_000.0).rope(local.as_ref())?,
            (false, Some(_)) => settings(layer.d_head, 1_000_000.0).rope(global.as_ref())?,
            (false, None) => {
                let mut rope: Rope = settings(layer.d_head, 1_000_000.0).rope(None)?;
                rope.pairs /= 4;
                rope
            }
        });
    }
    Ok(())
}

/// The last `num_kv_shared_layers` layers reuse the keys and values of the last earlier layer of the same kind; their
/// MLP may be twice as wide.
fn shared_keys_values(f: &Fields, spec: &mut Spec, sliding: &[bool]) -> Result<()> {
    let shared = f.count("num_kv_shared_layers")?;
    let wide = f.switch("use_double_wide_mlp", false)?;
    let n_layers = spec.n_layers();
    ensure!(shared < n_layers, "{} is {shared} of {n_layers} layers", f.name("num_kv_shared_layers"));
    let first = n_layers - shared;
    for layer in first..n_layers {
        let source = (0..first).rev().find(|&earlier| sliding[earlier] == sliding[layer]);
        let source = source.with_context(|| {
            format!("{}: layer {layer} has no earlier layer of its kind", f.name("num_kv_shared_layers"))
        })?;
        let sizes = |layer: usize| spec.layers[layer].attention().map(|of| (of.d_head, of.n_kv_heads));
        ensure!(
            sizes(source) == sizes(layer),
            "config.json: layer {layer} has heads of other sizes than layer {source}, whose keys and values it uses"
        );
        let of = &mut spec.layers[layer];
        of.attention_mut().into_iter().for_each(|of| of.kv = KeyValues::Of(source));
        if wide {
            of.d_mlp = of.d_mlp.map(|d_mlp| 2 * d_mlp);
        }
    }
    Ok(())
}
