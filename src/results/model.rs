//! A model as `run.json` describes it.

use crate::record;
use crate::resolve::Model;

/// The record of a model.
pub fn described(m: &Model) -> record::Model {
    let adapter = m.adapter.as_ref().map(|adapter| record::Origin {
        name: adapter.name.clone(),
        commit: adapter.commit.clone(),
        made_for: adapter.made_for.clone(),
    });
    let tokenizer = m.tokenizer.as_ref().map(|other| record::Origin {
        name: other.name.clone(),
        commit: other.commit.clone(),
        made_for: None,
    });
    record::Model {
        name: m.name.clone(),
        repo: m.origin.clone(),
        commit: m.commit.clone(),
        digest: m.identity,
        dtype: m.dtype,
        compute_dtype: m.compute_dtype,
        dtype_reason: m.dtype_reason.to_string(),
        dequantised_from: m.dequantised_from(),
        adapter,
        tokenizer,
        tokenizer_note: m.tokenizer_note.clone(),
        n_layers: m.spec.n_layers(),
        d_model: m.spec.d_model,
        n_params: m.spec.n_params(),
        layers: m.layers.clone(),
        not_read: m.spec.names.towers.iter().map(|tower| tower.to_string()).collect(),
        config_unread: m.unread.clone(),
        config_ignored: m.ignored.clone(),
    }
}
