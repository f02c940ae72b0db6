//! Gemma 2: norms also after attention and MLP, soft-capped attention scores and logits, a window in every other
//! layer. Also holds what Gemma 3 shares with it.

use super::common::{DEFAULTS, Defaults, NAMES, attention_biases, causal, plain, windows};
use super::config::Fields;
use crate::lm::spec::{Activation, Gain, Names, Norm, Spec};
use anyhow::Result;

/// Tensor names of all Gemma checkpoints from the second generation on.
pub const GEMMA_NAMES: Names = Names {
    attn_post_norm: Some("post_attention_layernorm"),
    mlp_norm: Some("pre_feedforward_layernorm"),
    mlp_post_norm: Some("post_feedforward_layernorm"),
    ..NAMES
};

/// Reads the `config.json` of a Gemma 2 checkpoint. Defaults are those of transformers' `Gemma2Config`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults {
        n_heads: Some(8),
        n_kv_heads: Some(4),
        d_head: Some(256),
        d_vocab: Some(256_000),
        context: 8192,
        tied: true,
        activation: Some(Activation::GeluTanh),
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    gemma(f, &mut spec)?;
    spec.attention_cap = f.positive_unless_null("attn_logit_softcapping", 50.0)?;
    spec.logit_cap = f.positive_unless_null("final_logit_softcapping", 30.0)?;
    let sliding = f.sliding(spec.n_layers(), |layer| layer % 2 == 0)?;
    windows(f, &mut spec, &sliding, Some(4096))?;
    Ok(spec)
}

/// What Gemma 2 and Gemma 3 share.
pub fn gemma(f: &Fields, spec: &mut Spec) -> Result<()> {
    attention_biases(f, spec)?;
    spec.names = GEMMA_NAMES;
    spec.norm = Norm::Rms { gain: Gain::OnePlus };
    spec.embed_scale = (spec.d_model as f64).sqrt();
    let scale = f.positive_or("query_pre_attn_scalar", 256.0)?.sqrt().recip();
    spec.attentions().for_each(|(_, attention)| attention.scale = scale);
    only_gelu(f)?;
    f.off("per_layer_config")?;
    causal(f, "use_bidirectional_attention", |value| *value == false)
}

/// Checks that `hidden_activation`, Gemma's field for the activation, is absent or tanh GELU.
pub fn only_gelu(f: &Fields) -> Result<()> {
    f.only("hidden_activation", &["gelu_pytorch_tanh".into()])
}
