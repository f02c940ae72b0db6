//! Whether the disk has room for what a run would write. Reads no data.

use std::path::Path;

use super::Prepared;
use super::cache::shown_bytes;
use crate::plan::{Node, Unit, UnitId, Work};
use crate::resolve::Resolved;
use crate::stages::activations::StoreDtype;
use crate::store;

/// Bytes of an activation's row besides the vectors: names, counts, norms.
const BESIDE: u64 = 64;

/// Bytes of a unit of activations, which are nearly everything that a run writes; `None` for other units. zstd hardly
/// compresses them.
pub fn of_activations(resolved: &Resolved, node: &Node, unit: &Unit) -> Option<u64> {
    let Work::Activations { params, .. } = &node.work else { return None };
    let width = match params.store_dtype {
        StoreDtype::F32 => 4,
        StoreDtype::F16 => 2,
    };
    let d_model = resolved.models[node.model?].spec.d_model as u64;
    Some(unit.stories.len() as u64 * (width * d_model + BESIDE))
}

/// Bytes of the activations among `units`.
pub fn needed<'a>(prepared: &Prepared, units: impl IntoIterator<Item = &'a UnitId>) -> u64 {
    let Prepared { resolved, plan, .. } = prepared;
    let bytes = |id: &UnitId| of_activations(resolved, &plan.nodes[id.node], plan.unit(*id));
    units.into_iter().filter_map(bytes).sum()
}

/// Free bytes on the file system of a folder, which need not exist yet.
pub fn free(folder: &Path) -> Option<u64> {
    let absolute = std::path::absolute(folder).ok()?;
    let there = absolute.ancestors().find(|folder| folder.is_dir())?;
    store::free(there)
}

/// Why a run that writes `bytes` is not started; `None`: there is enough room, or the free space is unknown.
pub fn lacking(bytes: u64, free: Option<u64>, folder: &Path) -> Option<String> {
    let free = free.filter(|free| *free < bytes)?;
    Some(format!(
        "the activations take about {}, and the disk of `{}` has {} free: keep fewer layers, set `store_dtype = \
         \"f16\"` in `[activations]`, or choose another disk with --cache (`emoflow cache gc` lists what can be \
         removed); --ignore-disk starts the run anyway",
        shown_bytes(bytes),
        folder.display(),
        shown_bytes(free)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_numbers() {
        let folder = Path::new("cache");
        assert_eq!(lacking(5_000_000_000, Some(5_000_000_000), folder), None);
        assert_eq!(lacking(5_000_000_000, None, folder), None, "nobody says");
        let said = lacking(5_000_000_000, Some(2_100_000_000), folder).unwrap();
        assert!(
            said.starts_with("the activations take about 5.0 GB, and the disk of `cache` has 2.1 GB free"),
            "{said}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free(&dir.path().join("not/there")).is_some());
    }
}
