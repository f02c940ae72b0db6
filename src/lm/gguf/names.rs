//! Maps the tensors of a GGUF file to those of a model, with the steps that undo the converter's changes. Independent
//! of families: the names of the model's tensors come from a `Spec`.

use super::architecture::Architecture;
use super::blocks::Rows;
use super::undo::{Reorder, Undo};
use super::{Gguf, Stored};
use crate::lm::spec::{
    DeltaHeads, EachExpertNames, Layout, Mixer, MlpNames, Names, QkvNames, Spec, delta_net, per_layer,
};
use anyhow::{Result, bail, ensure};

/// How to build one tensor of the model from a stored one.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Index in [`Gguf::tensors`].
    pub stored: usize,
    pub rows: Rows,
    pub shape: Vec<i64>,
    /// Steps that undo the converter's changes, in this order.
    pub undo: Vec<Undo>,
}

/// Name prefixes of tensors outside the language model: vision and audio towers, and their projections.
const TOWERS: [&str; 3] = ["v.", "a.", "mm."];
/// Factors of rotary frequencies, which the config already contains.
const ROTATIONS: [&str; 4] =
    ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", "attn_rot_embd.weight"];

/// Every tensor of the model, by its name in `spec`. An unknown tensor keeps its stored name, so that the comparison
/// with the model's tensors reports it.
///
/// # Errors
/// The number of experts differs from that in `spec`.
pub fn recipes(file: &Gguf, spec: &Spec, of: &Architecture) -> Result<Vec<(String, Recipe)>> {
    let mut recipes = Vec::new();
    for (at, stored) in file.tensors().iter().enumerate() {
        let apart = TOWERS.iter().any(|tower| stored.name.starts_with(tower))
            || ROTATIONS.iter().any(|rotation| stored.name.ends_with(rotation))
            || of.predicts_more && in_block(&stored.name).is_some_and(|(layer, ..)| layer >= spec.n_layers());
        if apart {
            continue;
        }
        match experts(spec, stored) {
            Some(pattern) => recipes.extend(split(at, stored, &pattern)?),
            None => recipes.push((name(spec, &stored.name), whole(at, stored, spec, of))),
        }
    }
    Ok(recipes)
}

/// A stored tensor as a whole.
fn whole(at: usize, stored: &Stored, spec: &Spec, of: &Architecture) -> Recipe {
    let block = in_block(&stored.name);
    let pairs = of.interleaved.then_some(block).flatten().and_then(|(layer, stem, _)| {
        let layer = spec.layers.get(layer)?;
        match stem {
            "attn_q" => Some(spec.n_heads),
            "attn_k" => Some(layer.attention()?.n_kv_heads),
            _ => None,
        }
    });
    let vector = stored.shape.len() == 1 && pairs.is_some();
    let rows = if vector { stored.shape[0] as usize } else { stored.rows() };
    let undo = undo(&stored.name, spec, of);
    let mut shape = stored.shape.clone();
    if undo.contains(&Undo::Transpose) {
        shape.reverse();
    }
    if let (Some((_, "ssm_conv1d", _)), &[channels, kernel]) = (block, shape.as_slice()) {
        shape = vec![channels, 1, kernel];
    }
    Recipe { stored: at, rows: Rows { range: 0..rows, interleaved: pairs }, shape, undo }
}

/// The steps that undo the converter's changes to the stored tensor `name`, except the order of pairs.
fn undo(name: &str, spec: &Spec, of: &Architecture) -> Vec<Undo> {
    let mut undo = Vec::new();
    if of.gains_plus_one && name.ends_with("norm.weight") && !name.ends_with("ssm_norm.weight") {
        undo.push(Undo::MinusOne);
    }
    let Some((layer, stem, end)) = in_block(name) else { return undo };
    if let Some(Mixer::GatedDelta(heads)) = spec.layers.get(layer).map(|layer| &layer.mixer) {
        undo.extend(of_delta_net(stem, *heads).map(Undo::Reorder));
        if stem == "ssm_a" {
            undo.push(Undo::LogOfMinus);
        }
    }
    let linear = matches!(stem, "attn_qkv" | "attn_output" | "ffn_up" | "ffn_down");
    if spec.names.layout == Layout::InOut && linear && end == "weight" {
        undo.push(Undo::Transpose);
    }
    // Stored order: queries of all heads, then keys of all heads, then values of all heads.
    if let (QkvNames::FusedPerHead(_), "attn_qkv") = (spec.names.qkv, stem) {
        undo.push(Undo::Reorder(Reorder { axis: 0, from: 0, outer: 3, inner: spec.n_heads as i64 }));
    }
    undo
}

/// The order of value heads in the tensor `stem` of a gated delta net: stored as the first one of each key head, then
/// the second one of each; needed key head by key head.
fn of_delta_net(stem: &str, heads: DeltaHeads) -> Option<Reorder> {
    let DeltaHeads { n_k_heads, n_v_heads, d_k, .. } = heads;
    let (axis, from) = match stem {
        "attn_qkv" | "ssm_conv1d" => (0, 2 * n_k_heads * d_k),
        "attn_gate" | "ssm_alpha" | "ssm_beta" | "ssm_a" | "ssm_dt" => (0, 0),
        "ssm_out" => (1, 0),
        _ => return None,
    };
    let (outer, inner) = ((n_v_heads / n_k_heads) as i64, n_k_heads as i64);
    Some(Reorder { axis, from: from as i64, outer, inner }).filter(|_| outer > 1)
}

/// The individual experts of a stored tensor that stacks all of them; `pattern` is their name with `{}` in place of
/// the expert's index.
fn split(at: usize, stored: &Stored, pattern: &str) -> Result<Vec<(String, Recipe)>> {
    let [count, out, columns] = stored.shape[..] else {
        bail!(
            "tensor `{}` has the shape {:?}; one axis for experts and two for each is needed",
            stored.name,
            stored.shape
        );
    };
    ensure!(count > 0, "tensor `{}` holds no expert", stored.name);
    let one = |expert: i64| {
        let rows = Rows { range: (expert * out) as usize..((expert + 1) * out) as usize, interleaved: None };
        let recipe = Recipe { stored: at, rows, shape: vec![out, columns], undo: Vec::new() };
        (pattern.replace("{}", &expert.to_string()), recipe)
    };
    Ok((0..count).map(one).collect())
}

/// The name pattern of the experts, if `stored` stacks experts that the model has as separate tensors.
fn experts(spec: &Spec, stored: &Stored) -> Option<String> {
    let (layer, stem, "weight") = in_block(&stored.name)? else { return None };
    let EachExpertNames::Split(gate, up, down) = spec.names.experts.each else { return None };
    let name = match stem {
        "ffn_gate_exps" => gate,
        "ffn_up_exps" => up,
        "ffn_down_exps" => down,
        _ => return None,
    };
    Some(format!("{}{name}.weight", spec.block(layer)))
}

/// The model's name of the stored tensor `stored`.
fn name(spec: &Spec, stored: &str) -> String {
    known(spec, stored).unwrap_or_else(|| stored.to_string())
}

fn known(spec: &Spec, stored: &str) -> Option<String> {
    let n = &spec.names;
    if let Some((layer, stem, end)) = in_block(stored) {
        let block = match spec.layers.get(layer).map(|layer| &layer.mixer) {
            Some(Mixer::GatedDelta(_)) => of_delta(stem, end).or_else(|| block(n, stem, end)),
            _ => block(n, stem, end),
        };
        return Some(format!("{}{}", spec.block(layer), block?));
    }
    let (stem, end) = stored.rsplit_once('.')?;
    let module = match stem {
        "token_embd" => n.embed,
        "position_embd" => n.position_embed?,
        "output_norm" => n.final_norm,
        "output" => n.unembed,
        "per_layer_token_embd" => per_layer::EMBED.strip_suffix(".weight")?,
        "per_layer_model_proj" => per_layer::PROJECTION.strip_suffix(".weight")?,
        "per_layer_proj_norm" => per_layer::NORM,
        _ => return None,
    };
    Some(format!("{module}.{end}"))
}

/// The name of a gated delta net's tensor, relative to its block.
fn of_delta(stem: &str, end: &str) -> Option<String> {
    let module = match (stem, end) {
        ("ssm_a", "") => return Some(delta_net::A_LOG.into()),
        ("ssm_dt", "bias") => return Some(delta_net::DT_BIAS.into()),
        ("ssm_conv1d", "weight") => return Some(delta_net::CONV.into()),
        ("ssm_norm", "weight") => return Some(delta_net::NORM.into()),
        ("attn_qkv", _) => delta_net::QKV,
        ("attn_gate", _) => delta_net::GATE,
        ("ssm_alpha", _) => delta_net::DECAY,
        ("ssm_beta", _) => delta_net::RATE,
        ("ssm_out", _) => delta_net::O,
        _ => return None,
    };
    Some(format!("{module}.{end}"))
}

/// The name of a block's tensor, relative to the block.
fn block(n: &Names, stem: &str, end: &str) -> Option<String> {
    let beside = n.experts.beside;
    let whole = match (stem, end, n.experts.each) {
        ("inp_gate", "weight", _) => Some(per_layer::GATE),
        ("proj", "weight", _) => Some(per_layer::OUT),
        ("layer_output_scale", "weight", _) => Some(per_layer::SCALAR),
        ("ffn_gate_inp", "scale", _) => Some(beside?.router_scale),
        ("ffn_down_exps", "scale", _) => Some(beside?.expert_scale),
        ("ffn_gate_up_exps", "weight", EachExpertNames::Stacked(gate_up, _)) => Some(gate_up),
        ("ffn_down_exps", "weight", EachExpertNames::Stacked(_, down)) => Some(down),
        _ => None,
    };
    if let Some(name) = whole {
        return Some(name.to_string());
    }
    let module = match (stem, n.qkv, n.mlp) {
        ("attn_norm", ..) => n.attn_norm?,
        ("attn_q", QkvNames::Split(q, ..), _) => q,
        ("attn_k", QkvNames::Split(_, k, _), _) => k,
        ("attn_v", QkvNames::Split(_, _, v), _) => v,
        ("attn_qkv", QkvNames::Fused(qkv) | QkvNames::FusedPerHead(qkv), _) => qkv,
        ("attn_q_norm", ..) => n.qk_norm.0,
        ("attn_k_norm", ..) => n.qk_norm.1,
        ("attn_output", ..) => n.o,
        // The norm after attention, or, in models without one, the norm before the MLP.
        ("post_attention_norm", ..) => n.attn_post_norm.or(n.mlp_norm)?,
        ("ffn_norm", ..) => n.mlp_norm?,
        ("ffn_gate", _, MlpNames::Split(gate, _)) => gate,
        ("ffn_up", _, MlpNames::Split(_, up) | MlpNames::Plain(up)) => up,
        ("ffn_up", _, MlpNames::Fused(gate_up)) => gate_up,
        ("ffn_down", ..) => n.down,
        ("post_ffw_norm", ..) => n.mlp_post_norm?,
        ("post_norm", ..) => per_layer::POST_NORM,
        ("ffn_gate_inp", ..) => n.experts.router,
        ("post_ffw_norm_1", ..) => beside?.mlp_post_norm,
        ("pre_ffw_norm_2", ..) => beside?.norm,
        ("post_ffw_norm_2", ..) => beside?.post_norm,
        _ => return None,
    };
    Some(format!("{module}.{end}"))
}

/// For `blk.7.attn_q.weight`: the layer, `attn_q` and `weight`; for `blk.7.ssm_a` the last part is empty.
fn in_block(stored: &str) -> Option<(usize, &str, &str)> {
    let (layer, rest) = stored.strip_prefix("blk.")?.split_once('.')?;
    let (stem, end) = rest.rsplit_once('.').unwrap_or((rest, ""));
    Some((layer.parse().ok()?, stem, end))
}
