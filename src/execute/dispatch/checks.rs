//! Checks of the arithmetic of which nothing can be computed, as from too few stories: what is stored of one says why,
//! so that no run fails for it. Knows nothing of what is computed.

use std::fmt;

use anyhow::Result;

use super::Tables;
use super::inputs::stored;
use crate::interrupt::Interrupted;
use crate::plan::{Node, Plan, Unit, Work};
use crate::store::table::{Column, Table};
use crate::store::{Lookup, Store};

/// The table of a check that could not be made: one row, with the reason.
pub const NOT_CHECKED: &str = "not_checked";

/// What was at hand when an error came that lies in no data: of a disk, of memory. Another run may not have it.
#[derive(Debug)]
pub struct Passing(pub String);

impl fmt::Display for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a unit is there only to check the arithmetic of another one. The key of its vectors says so, and by them
/// that of all that is made of them.
fn is_check(node: &Node, unit: &Unit) -> bool {
    match &node.work {
        Work::Vectors { set, .. } | Work::Analysis { set, .. } => set.is_check,
        Work::Across { pairs, .. } => {
            let mut units = node.units.iter().zip(pairs);
            units.any(|(other, pair)| other.key == unit.key && pair.is_check())
        }
        _ => false,
    }
}

/// What `make` makes of a unit; where it is a check, and nothing can be computed of what it reads, why.
pub fn or_why(
    (plan, store): (&Plan, &Store),
    node: &Node,
    unit: &Unit,
    make: impl FnOnce() -> Result<Vec<Tables>>,
) -> Result<Vec<Tables>> {
    if !is_check(node, unit) {
        return make();
    }
    for at in 0..unit.inputs.len() {
        let (stage, key) = stored(plan, unit, at);
        if stage == "vectors"
            && let Lookup::Hit(entry) = store.lookup(stage, &key)?
            && entry.manifest.file(NOT_CHECKED).is_ok()
        {
            return Ok(vec![vec![(NOT_CHECKED.to_string(), entry.read(NOT_CHECKED)?)]]);
        }
    }
    make().or_else(|error| {
        if error.is::<Passing>() || error.is::<Interrupted>() {
            return Err(error);
        }
        let reason = Column::Str(vec![format!("{error:#}")]);
        Ok(vec![vec![(NOT_CHECKED.to_string(), Table::new("not_checked/1", vec![("reason", reason)]))]])
    })
}

/// The reason, where that is all there is.
pub fn why(produced: &[Tables]) -> Option<&str> {
    let (name, table) = produced.first()?.first()?;
    table.str("reason").ok().filter(|_| name == NOT_CHECKED)?.first().map(String::as_str)
}
