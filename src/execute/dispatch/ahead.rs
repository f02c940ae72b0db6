//! Prefetches the stories that are likely to be read next while a device computes. Independent of the order of nodes.

use std::thread::JoinHandle;

use anyhow::Result;

use crate::plan::Node;
use crate::plan::key::Key;
use crate::stages::activations;
use crate::store::table::Table;
use crate::store::{Lookup, Store};

/// The stories of the shard that is likely to be next, being read and tokenized on another thread while a device
/// computes.
pub(super) struct Ahead {
    /// Name of the node that will read them, which determines how.
    node: String,
    shard: (&'static str, Key),
    thread: JoinHandle<Result<(Table, activations::Read)>>,
}

impl Ahead {
    /// Starts `reading` the shard, if it is stored.
    pub(super) fn start(
        store: &Store,
        node: &Node,
        shard: (&'static str, Key),
        reading: impl FnOnce(&Table) -> Result<activations::Read> + Send + 'static,
    ) -> Option<Ahead> {
        let (stage, key) = (shard.0, &shard.1);
        // Errors are reported when the shard is actually read.
        let Ok(Lookup::Hit(entry)) = store.lookup(stage, key) else { return None };
        let thread = std::thread::spawn(move || {
            let stories = entry.read(stage)?;
            let read = reading(&stories)?;
            Ok((stories, read))
        });
        Some(Ahead { node: node.name(), shard, thread })
    }

    pub(super) fn is_of(&self, node: &Node, shard: (&'static str, Key)) -> bool {
        self.node == node.name() && self.shard == shard
    }

    pub(super) fn wait(self) -> Result<(Table, activations::Read)> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
