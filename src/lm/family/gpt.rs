//! What the early families share: LayerNorm, biases everywhere, an MLP without a gate, as many key heads as query
//! heads.

use super::common::{MOST, everywhere, no_window, one_kind};
use super::config::Fields;
use crate::lm::spec::{
    Activation, Attention, Dtype, KeyValues, Layer, Mixer, Names, Norm, QkNorm, Residual, Rope, Spec,
};
use anyhow::{Result, ensure};

/// Settings that each family reads under different field names.
pub struct Parts {
    pub d_model: usize,
    pub d_vocab: usize,
    pub n_heads: usize,
    pub n_layers: usize,
    pub d_mlp: usize,
    pub context: usize,
    pub norm_eps: f64,
    pub activation: Activation,
    pub rope: Option<Rope>,
    pub tied: bool,
    /// Ids of the tokens that begin and end a text, for configs without these fields; a null field means none.
    pub ends: (i64, i64),
    pub names: Names,
}

/// The token ids in the field `key`, or `default` where it is absent.
fn token_ids(f: &Fields, key: &str, default: i64) -> Result<Vec<i64>> {
    if f.has(key) { f.token_ids(key) } else { Ok(vec![default]) }
}

/// The width of a head: the width of the residual stream divided by the number of heads.
///
/// # Errors
/// The width is not a multiple of the number of heads.
pub fn d_head(d_model: usize, n_heads: usize) -> Result<usize> {
    ensure!(
        d_model.is_multiple_of(n_heads),
        "config.json: {n_heads} attention heads cannot share a width of {d_model} evenly"
    );
    Ok(d_model / n_heads)
}

/// The decoder described by `of`.
///
/// # Errors
/// More layers than any real model has; a width that is not a multiple of the number of heads; an unsupported value of
/// a field that all families share.
pub fn decoder(f: &Fields, of: Parts) -> Result<Spec> {
    everywhere(f)?;
    ensure!(of.n_layers <= MOST, "config.json: {} layers", of.n_layers);
    let d_head = d_head(of.d_model, of.n_heads)?;
    let attention = Attention {
        d_head,
        n_kv_heads: of.n_heads,
        window: None,
        rope: of.rope,
        gate: false,
        kv: KeyValues::Own,
        scale: (d_head as f64).sqrt().recip(),
    };
    let layer = Layer { mixer: Mixer::Attention(attention), d_mlp: Some(of.d_mlp), experts: None };
    let spec = Spec {
        architecture: String::new(),
        d_model: of.d_model,
        d_vocab: of.d_vocab,
        n_heads: of.n_heads,
        embed_scale: 1.0,
        norm: Norm::Layer,
        norm_eps: of.norm_eps,
        attention_cap: None,
        qk_norm: QkNorm::None,
        v_norm: false,
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        activation: of.activation,
        residual: Residual::Sequential,
        residual_scale: 1.0,
        per_layer_embed: None,
        layer_scalars: false,
        tied: of.tied,
        logit_divisor: 1.0,
        logit_cap: None,
        layers: vec![layer; of.n_layers],
        dtype: f.dtype()?.unwrap_or(Dtype::F32),
        quantization: None,
        context: of.context,
        bos: token_ids(f, "bos_token_id", of.ends.0)?.first().copied(),
        eos: token_ids(f, "eos_token_id", of.ends.1)?,
        names: of.names,
    };
    no_window(f, &spec)?;
    one_kind(f, &spec)?;
    Ok(spec)
}
