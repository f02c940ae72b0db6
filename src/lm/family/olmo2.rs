//! OLMo 2: norms only after attention and MLP; query and key norms span all heads together.

use super::common::{DEFAULTS, Defaults, NAMES, attention_biases, no_window, one_kind, plain};
use super::config::Fields;
use crate::lm::spec::{Names, QkNorm, Spec};
use anyhow::Result;

const POST_NORM: Names = Names {
    attn_norm: None,
    attn_post_norm: Some("post_attention_layernorm"),
    mlp_norm: None,
    mlp_post_norm: Some("post_feedforward_layernorm"),
    ..NAMES
};

/// Reads the `config.json` of an OLMo 2 checkpoint. Defaults are those of transformers' `Olmo2Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let spec = olmo(f, &Defaults { norm_eps: 1e-5, ..DEFAULTS })?;
    no_window(f, &spec)?;
    one_kind(f, &spec)?;
    Ok(spec)
}

/// What OLMo 2 and OLMo 3 share.
pub fn olmo(f: &Fields, defaults: &Defaults) -> Result<Spec> {
    let mut spec = plain(f, defaults)?;
    spec.names = POST_NORM;
    spec.qk_norm = QkNorm::Whole;
    attention_biases(f, &mut spec)?;
    Ok(spec)
}
