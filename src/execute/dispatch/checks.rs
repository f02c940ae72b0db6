//! Numerics checks that cannot be computed, for example because of too few stories: the reason is stored as their
//! result, so that no run fails because of them. Independent of what is computed.

use std::fmt;

use anyhow::Result;

use super::Tables;
use super::inputs::stored;
use crate::interrupt::Interrupted;
use crate::plan::{Node, Plan, Unit, Work};
use crate::store::table::{Column, Table};
use crate::store::{Lookup, Store};

/// The table of a check that could not be computed: one row, with the reason.
pub const NOT_CHECKED: &str = "not_checked";

/// Context of an error that does not come from the data but from the disk or memory; another run may not have it.
#[derive(Debug)]
pub struct Passing(pub String);

impl fmt::Display for Passing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a unit only checks the numerics of another one. This is part of the key of its vectors, and through them of
/// everything computed from them.
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

/// Returns the result of `make`. If the unit is a check that cannot be computed from its inputs, returns the reason
/// instead.
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

/// The reason, if `produced` holds only that.
pub fn why(produced: &[Tables]) -> Option<&str> {
    let (name, table) = produced.first()?.first()?;
    table.str("reason").ok().filter(|_| name == NOT_CHECKED)?.first().map(String::as_str)
}
