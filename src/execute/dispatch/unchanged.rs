//! Checks that the files that a node reads still match its keys.

use anyhow::Result;

use crate::plan::{Node, Work};
use crate::resolve::Resolved;
use crate::store::Store;

/// Fails if a file that the node reads, including its model's files, does not match its keys.
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
