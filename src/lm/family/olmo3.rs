//! OLMo 3: an OLMo 2 with a window in three of four layers, and rotary scaling in the others alone.

use super::common::{DEFAULTS, Defaults, two_ropes, windows};
use super::config::Fields;
use super::olmo2::olmo;
use crate::lm::spec::Spec;
use anyhow::Result;

/// Reads the `config.json` of an OLMo 3 checkpoint. Defaults are those of transformers' `Olmo3Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let mut spec = olmo(f, &Defaults { norm_eps: 1e-5, theta: 500_000.0, ..DEFAULTS })?;
    let sliding = f.sliding(spec.n_layers(), |layer| (layer + 1) % 4 != 0)?;
    windows(f, &mut spec, &sliding, Some(4096))?;
    let theta = f.positive_or("rope_theta", 500_000.0)?;
    two_ropes(f, &mut spec, &sliding, theta, theta)?;
    f.finish()?;
    Ok(spec)
}
