//! The stories that are likely to be read next, read while a device computes. Knows no order of nodes.

use std::thread::JoinHandle;

use anyhow::Result;

use crate::plan::Node;
use crate::plan::key::Key;
use crate::stages::activations;
use crate::store::table::Table;
use crate::store::{Lookup, Store};

/// The stories of the shard that is likely to be next, read and made tokens on other threads while a device computes.
pub(super) struct Ahead {
    /// The node that is to read them, which says how, by name.
    node: String,
    shard: (&'static str, Key),
    thread: JoinHandle<Result<(Table, activations::Read)>>,
}

impl Ahead {
    /// Begins `reading` the shard, if it is there.
    pub(super) fn start(
        store: &Store,
        node: &Node,
        shard: (&'static str, Key),
        reading: impl FnOnce(&Table) -> Result<activations::Read> + Send + 'static,
    ) -> Option<Ahead> {
        let (stage, key) = (shard.0, &shard.1);
        // What is wrong with it is told when its turn has come.
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
