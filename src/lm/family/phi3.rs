//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: fused projections, optional partial rotation, two sets of rotary frequencies
//! chosen by sequence length.

use super::common::{DEFAULTS, Defaults, NAMES, Turns, one_kind, plain, windows};
use super::config::Fields;
use crate::lm::spec::{MlpNames, Names, QkvNames, Spec};
use anyhow::Result;

const FUSED: Names =
    Names { qkv: QkvNames::Fused("self_attn.qkv_proj"), mlp: MlpNames::Fused("mlp.gate_up_proj"), ..NAMES };

/// Reads the `config.json` of a Phi-3 checkpoint. Defaults are those of transformers' `Phi3Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults { norm_eps: 1e-5, context: 4096, turns: Turns::Part, ..DEFAULTS };
    let mut spec = plain(f, &defaults)?;
    spec.names = FUSED;
    let all = vec![true; spec.n_layers()];
    windows(f, &mut spec, &all, None)?;
    one_kind(f, &spec)?;
    Ok(spec)
}
