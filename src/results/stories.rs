//! `stories/`: the texts of every source as files to read, and the rejected ones. Independent of how they were
//! generated.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Shown, metadata, write_table};
use crate::plan::Node;
use crate::stages::stories::REJECTED;
use crate::store::Store;

/// The stage of story sources and of neutral text, and the table in each of their units.
pub const STAGE: &str = "stories";

/// The source as in the node's name: followed by `@` and the model for self-written stories, and by settings of a
/// sweep.
pub fn source(node: &Node) -> String {
    format!("{}{}", node.id.subject.rest(), node.id.settings())
}

/// The source without model and settings, and the model that wrote the stories for itself, if any.
pub fn source_and_own(node: &Node) -> (&str, Option<&str>) {
    let subject = &node.id.subject;
    (subject.source().unwrap_or_default(), subject.model())
}

/// Writes `stories/<source>.parquet` and `.csv` for each complete source that is `wanted`, and `<source>.rejected.*`
/// if texts were rejected.
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

/// Whether [`write`] has written the files of a complete node.
pub fn written(node: &Node, store: &Store, dir: &Path) -> bool {
    let there =
        |kind| ["parquet", "csv"].iter().all(|end| stem(dir, node, &format!("{kind}.{end}")).is_file());
    // If the first unit lacks the table, so do all others: reading manifests takes time.
    let rows = |key| store.manifest(STAGE, key)?.file(REJECTED).ok().map(|file| file.rows);
    let rejected = node.units.iter().map_while(|unit| rows(&unit.key)).any(|rows| rows > 0);
    there("") && (!rejected || there(".rejected"))
}

/// A source name may contain dots, so the ending is appended instead of replacing an extension.
fn stem(dir: &Path, node: &Node, ending: &str) -> PathBuf {
    dir.join("stories").join(format!("{}{ending}", source(node)))
}
