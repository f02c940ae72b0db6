//! `stories/`: the texts of every source as files to read, and what was rejected. Knows nothing of how they came to be.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Shown, metadata, write_table};
use crate::plan::Node;
use crate::stages::stories::REJECTED;
use crate::store::Store;

/// The stage of story sources and of neutral text, and the table that each of their units has.
pub const STAGE: &str = "stories";

/// The source as in the node's name: with the model that wrote for itself after an `@`, and settings of a sweep.
pub fn source(node: &Node) -> String {
    format!("{}{}", node.id.subject.rest(), node.id.settings())
}

/// The source without its writer and settings, and the model that wrote it for itself.
pub fn source_and_own(node: &Node) -> (&str, Option<&str>) {
    let subject = &node.id.subject;
    (subject.source().unwrap_or_default(), subject.model())
}

/// `stories/<source>.parquet` and `.csv` of each source that is whole, and `<source>.rejected.*` where something was
/// rejected; of those that are `wanted`.
pub fn write(shown: &Shown, dir: &Path, wanted: &dyn Fn(&Node) -> bool) -> Result<()> {
    for node in shown.plan.nodes.iter().filter(|node| node.work.stage() == STAGE && wanted(node)) {
        let metadata = metadata(shown.resolved, [node]);
        let Some(stories) = shown.whole(node)? else { continue };
        write_table(&stories, &stem(dir, node, ""), &metadata)?;
        if let Some(rejected) = shown.whole_of(node, REJECTED)?.filter(|table| table.rows() > 0) {
            write_table(&rejected, &stem(dir, node, ".rejected"), &metadata)?;
        }
    }
    Ok(())
}

/// Whether [`write`] left the files of a node that is whole.
pub fn written(node: &Node, store: &Store, dir: &Path) -> bool {
    let there =
        |kind| ["parquet", "csv"].iter().all(|end| stem(dir, node, &format!("{kind}.{end}")).is_file());
    // Where the first unit has no such table, no other has: manifests take time to read.
    let rows = |key| store.manifest(STAGE, key)?.file(REJECTED).ok().map(|file| file.rows);
    let rejected = node.units.iter().map_while(|unit| rows(&unit.key)).any(|rows| rows > 0);
    there("") && (!rejected || there(".rejected"))
}

/// A source may have dots in its name: what stands after them is no file ending.
fn stem(dir: &Path, node: &Node, ending: &str) -> PathBuf {
    dir.join("stories").join(format!("{}{ending}", source(node)))
}
