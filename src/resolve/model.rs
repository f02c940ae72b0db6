//! A pinned model of an experiment: its identity, origin and precision. Reads no configuration.

use anyhow::Result;

use super::adapter::Adapter;
use super::digested::Digested;
use super::hub::Snapshot;
use super::tokenizer::OtherTokenizer;
use crate::config::Offload;
use crate::lm::{Checkpoint, Dtype, DtypePolicy, Layer, Spec};
use crate::plan::key::Digest;
use crate::progress::Progress;
use crate::store::Store;

/// A model with known content; its weights may still be on the hub.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    /// The index in [`Resolved::models`] of the model that this one checks: the same model in another precision, at
    /// one layer. `None`: one of the experiment's own models.
    pub checks: Option<usize>,
    /// The repository, or the folder as written in the experiment file.
    pub origin: String,
    /// The hub's commit; `None` for a folder.
    pub commit: Option<String>,
    /// Its weights are on this machine after [`Model::fetch`].
    pub checkpoint: Checkpoint,
    /// Where its remaining files are; `None` for a folder.
    pub(super) snapshot: Option<Snapshot>,
    /// Merged into its weights when they are read.
    pub adapter: Option<Adapter>,
    /// The origin of its tokenizer, if that is not its own.
    pub tokenizer: Option<OtherTokenizer>,
    /// Display text: what is unusual about its tokenizer.
    pub tokenizer_note: Option<String>,
    pub spec: Spec,
    /// Fields of its config that do not affect what it computes.
    pub unread: Vec<String>,
    /// Fields of its config that would affect it, but are ignored because the experiment file says so.
    pub ignored: Vec<String>,
    pub dtype: Dtype,
    /// The type of activations and arithmetic.
    pub compute_dtype: Dtype,
    pub offload: Offload,
    /// Why this dtype was chosen.
    pub dtype_reason: &'static str,
    /// Whether its chat template is told that it may reason before it answers.
    pub thinking: bool,
    /// The kept layers, ascending.
    pub layers: Vec<Layer>,
    /// Digest of the digests of all files that define the model, and of its ignored config fields.
    pub identity: Digest,
    /// The files that were digested on this machine, not by the hub.
    pub(super) files: Vec<Digested>,
}

impl Model {
    /// An error ([`Changed`]) if one of its files is no longer as it was when the run began, or was changed in
    /// between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.files.iter().try_for_each(|file| file.ensure_unchanged(store))
    }

    /// Makes the weights available on this machine: fetches what is missing.
    ///
    /// # Errors
    /// Failures of the hub, the network or the disk, with a hint.
    pub fn fetch(&self, progress: &dyn Progress) -> Result<()> {
        if let Some(snapshot) = &self.snapshot {
            snapshot.fetch_weights(self.checkpoint.weights(), progress)?;
        }
        let adapter = self.adapter.as_ref().and_then(|adapter| adapter.snapshot.as_ref());
        if let (Some(snapshot), Some(files)) = (adapter, self.checkpoint.adapter()) {
            snapshot.fetch_weights(std::slice::from_ref(&files.weights), progress)?;
        }
        Ok(())
    }

    /// Its precision and offloading.
    pub fn dtype_policy(&self) -> DtypePolicy {
        let streamed = self.offload == Offload::Layers;
        DtypePolicy { weights: self.dtype, compute: self.compute_dtype, streamed }
    }

    /// Display text: the storage format of its weights, if they are dequantised from it.
    pub fn dequantised_from(&self) -> Option<String> {
        self.checkpoint.dequantised_from(&self.spec)
    }

    /// Display text: its origin and commit.
    pub fn shown(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at {}", self.origin, &commit[..commit.len().min(7)]),
            None => self.origin.clone(),
        }
    }
}
