//! Mixtral: a Mistral with eight experts in place of each MLP.

use super::common::{DEFAULTS, Defaults, NAMES, mixture, one_kind, plain, windows};
use super::config::Fields;
use crate::lm::spec::{EachExpertNames, ExpertNames, Names, Spec};
use anyhow::Result;

const EXPERTS: Names = Names {
    experts: ExpertNames {
        router: "block_sparse_moe.gate",
        each: EachExpertNames::Split(
            "block_sparse_moe.experts.{}.w1",
            "block_sparse_moe.experts.{}.w3",
            "block_sparse_moe.experts.{}.w2",
        ),
        beside: None,
    },
    ..NAMES
};

/// Reads the `config.json` of a Mixtral checkpoint. Defaults are those of transformers' `MixtralConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults { n_kv_heads: Some(8), norm_eps: 1e-5, context: 131_072, ..DEFAULTS };
    let mut spec = plain(f, &defaults)?;
    spec.names = EXPERTS;
    let all = vec![true; spec.n_layers()];
    windows(f, &mut spec, &all, None)?;
    let count = f.size("num_local_experts", f.size("num_experts", 8)?)?;
    let active = f.size("num_experts_per_tok", 2)?;
    for layer in &mut spec.layers {
        if let Some(d_mlp) = layer.d_mlp.take() {
            layer.experts = Some(mixture(count, active, d_mlp, true)?);
        }
    }
    one_kind(f, &spec)?;
    Ok(spec)
}
