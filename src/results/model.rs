//! A model as `run.json` describes it. Knows no run.

use serde::Serialize;

use crate::lm::{Dtype, Layer};
use crate::plan::key::Digest;
use crate::resolve::{Adapter, Model, OtherTokenizer};

/// One model of a run.
#[derive(Serialize)]
pub struct RunModel<'a> {
    name: &'a str,
    repo: &'a str,
    commit: Option<&'a str>,
    digest: Digest,
    dtype: Dtype,
    compute_dtype: Dtype,
    dtype_reason: &'a str,
    /// How the checkpoint's weights are quantised, from which those of `dtype` are computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    dequantised_from: Option<String>,
    /// What was merged into the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a Adapter>,
    /// The repository or folder of a tokenizer that is not the checkpoint's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<&'a OtherTokenizer>,
    /// What is odd about the tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer_note: Option<&'a str>,
    n_layers: usize,
    d_model: usize,
    n_params: u64,
    layers: &'a [Layer],
    /// Prefixes of the checkpoint's tensors that are no part of the language model, and are not read.
    not_read: &'a [&'a str],
    /// Fields of `config.json` that have no part in what the model computes.
    config_unread: &'a [String],
    /// Fields of `config.json` that would have one, but are ignored because the experiment file says so.
    config_ignored: &'a [String],
}

impl RunModel<'_> {
    pub fn of(m: &Model) -> RunModel<'_> {
        RunModel {
            name: &m.name,
            repo: &m.origin,
            commit: m.commit.as_deref(),
            digest: m.identity,
            dtype: m.dtype,
            compute_dtype: m.compute_dtype,
            dtype_reason: m.dtype_reason,
            dequantised_from: m.dequantised_from(),
            adapter: m.adapter.as_ref(),
            tokenizer: m.tokenizer.as_ref(),
            tokenizer_note: m.tokenizer_note.as_deref(),
            n_layers: m.spec.n_layers(),
            d_model: m.spec.d_model,
            n_params: m.spec.n_params(),
            layers: &m.layers,
            not_read: m.spec.names.towers,
            config_unread: &m.unread,
            config_ignored: &m.ignored,
        }
    }
}
