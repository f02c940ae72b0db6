//! A model of an experiment, pinned: what it is, where it is from, and how it is held. Reads no configuration.

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

/// A model whose content is known; its weights may still be on the hub.
#[derive(Clone, Debug)]
pub struct Model {
    pub name: String,
    /// Of which of [`Resolved::models`] it is a check: the same, with other arithmetic, at one layer. `None`: it is one of
    /// the experiment's.
    pub checks: Option<usize>,
    /// The repository, or the folder as the experiment file has it.
    pub origin: String,
    /// The hub's commit; `None` for a folder.
    pub commit: Option<String>,
    /// Its weights are on this machine after [`Model::fetch`].
    pub checkpoint: Checkpoint,
    /// Where the rest of it is; `None` for a folder.
    pub(super) snapshot: Option<Snapshot>,
    /// What is merged into its weights when they are read.
    pub adapter: Option<Adapter>,
    /// Where its tokenizer is from, if that is not its own.
    pub tokenizer: Option<OtherTokenizer>,
    /// For people: what is odd about its tokenizer.
    pub tokenizer_note: Option<String>,
    pub spec: Spec,
    /// Fields of its config that have no part in what it computes.
    pub unread: Vec<String>,
    /// Fields of its config that would have a part, but are ignored because the experiment file says so.
    pub ignored: Vec<String>,
    pub dtype: Dtype,
    /// The type of activations and arithmetic.
    pub compute_dtype: Dtype,
    pub offload: Offload,
    /// Why that dtype.
    pub dtype_reason: &'static str,
    /// Whether its chat template is told that it may think first.
    pub thinking: bool,
    /// The kept layers, ascending.
    pub layers: Vec<Layer>,
    /// Digest of the digests of every file that makes the model what it is, and of what of its config is ignored.
    pub identity: Digest,
    /// The files that were digested here, not by the hub.
    pub(super) files: Vec<Digested>,
}

impl Model {
    /// An error ([`Changed`]) if a file of it is not what it was when the run began, or was changed in between.
    pub fn ensure_unchanged(&self, store: &Store) -> Result<()> {
        self.files.iter().try_for_each(|file| file.ensure_unchanged(store))
    }

    /// Has the weights be on this machine: what is missing of them is fetched.
    ///
    /// # Errors
    /// What the hub, the network or the disk says, with what to do.
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

    /// How it is held and computed.
    pub fn dtype_policy(&self) -> DtypePolicy {
        let streamed = self.offload == Offload::Layers;
        DtypePolicy { weights: self.dtype, compute: self.compute_dtype, streamed }
    }

    /// For people: how its weights are stored, where they are computed from that.
    pub fn dequantised_from(&self) -> Option<String> {
        self.checkpoint.dequantised_from(&self.spec)
    }

    /// For people: where it is from, and at which commit.
    pub fn shown(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} at {}", self.origin, &commit[..commit.len().min(7)]),
            None => self.origin.clone(),
        }
    }
}
