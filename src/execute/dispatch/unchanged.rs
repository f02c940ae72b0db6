//! Whether the files that a node reads are what its keys say.

use anyhow::Result;

use crate::plan::{Node, Work};
use crate::resolve::Resolved;
use crate::store::Store;

/// An error if a file that the node reads, its model's too, is not what its keys say.
pub fn ensure_unchanged(resolved: &Resolved, store: &Store, node: &Node) -> Result<()> {
    if let Work::File(read) = &node.work {
        let pinned = resolved.files.iter().flat_map(|files| files.values());
        let mut pinned = pinned.filter(|pinned| pinned.files.paths == read.paths);
        pinned.try_for_each(|pinned| pinned.ensure_unchanged(store))?;
    }
    if let Work::Texts(read) = &node.work {
        let pinned = resolved.transcripts.iter().flat_map(|files| files.values());
        let mut pinned = pinned.filter(|pinned| pinned.files == *read);
        pinned.try_for_each(|pinned| pinned.ensure_unchanged(store))?;
    }
    if let Work::Vectors { theirs: Some(read), .. } = &node.work {
        let pinned = resolved.vectors.iter().flat_map(|files| files.values());
        let mut pinned = pinned.filter(|pinned| pinned.files == *read);
        pinned.try_for_each(|pinned| pinned.ensure_unchanged(store))?;
    }
    node.model.map_or(Ok(()), |model| resolved.models[model].ensure_unchanged(store))
}
