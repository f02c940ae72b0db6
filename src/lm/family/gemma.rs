//! Gemma, the first generation: a Llama with Gemma's embedding scale, norms and activation.

use super::common::{DEFAULTS, Defaults, attention_biases, causal, no_window, one_kind, plain};
use super::config::Fields;
use crate::lm::spec::{Activation, Gain, Norm, Spec};
use anyhow::Result;

/// Reads the `config.json` of a Gemma checkpoint. Defaults are those of transformers' `GemmaConfig`.
pub fn spec(f: &Fields) -> Result<Spec> {
    let defaults = Defaults {
        n_heads: Some(16),
        n_kv_heads: Some(16),
        d_head: Some(256),
        d_vocab: Some(256_000),
        context: 8192,
        tied: true,
        activation: Some(Activation::GeluTanh),
        ..DEFAULTS
    };
    let mut spec = plain(f, &defaults)?;
    attention_biases(f, &mut spec)?;
    spec.norm = Norm::Rms { gain: Gain::OnePlus };
    spec.embed_scale = (spec.d_model as f64).sqrt();
    // The first checkpoints state `gelu` but mean the tanh approximation; transformers reads it so too.
    f.only("hidden_act", &["gelu".into(), "gelu_pytorch_tanh".into()])?;
    causal(f, "use_bidirectional_attention", |value| *value == false)?;
    no_window(f, &spec)?;
    one_kind(f, &spec)?;
    Ok(spec)
}
