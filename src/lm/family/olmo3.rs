//! OLMo 3: an OLMo 2 with a window in three of four layers, and rotary scaling only in the others.

use super::common::{DEFAULTS, Defaults, Turns, windows};
use super::config::Fields;
use super::olmo2::olmo;
use super::rotation::two_ropes;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Rotary base of all published checkpoints.
const THETA: f64 = 500_000.0;

/// Reads the `config.json` of an OLMo 3 checkpoint. Defaults are those of transformers' `Olmo3Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = olmo(f, &Defaults { norm_eps: 1e-5, turns: Turns::ByKind, ..DEFAULTS })?;
    f.off("per_layer_config")?;
    let sliding = f.sliding(spec.n_layers(), |layer| (layer + 1) % 4 != 0)?;
    windows(f, &mut spec, &sliding, Some(4096))?;
    let theta = f.positive_or("rope_theta", THETA)?;
    // As in transformers, `rope_theta` applies only to the layers without a window.
    two_ropes(f, &mut spec, &sliding, theta, THETA)?;
    Ok(spec)
}
