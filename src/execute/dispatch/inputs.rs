//! Reads the inputs of units from the store.

use anyhow::{Context, Result, bail};

use super::checks::Passing;
use crate::plan::key::Key;
use crate::plan::{Plan, Unit, UnitId};
use crate::store::table::Table;
use crate::store::{Lookup, Store};

/// Indices of a unit's inputs of a stage.
pub fn of_stage(plan: &Plan, unit: &Unit, stage: &str) -> Vec<usize> {
    let inputs = unit.inputs.iter().enumerate();
    inputs.filter(|(_, id)| plan.nodes[id.node].work.stage() == stage).map(|(at, _)| at).collect()
}

/// The last input of a unit; for readings, the texts.
pub fn last_input(plan: &Plan, id: UnitId) -> UnitId {
    *plan.unit(id).inputs.last().expect("readings are of texts")
}

/// The tables of all inputs of a unit.
pub fn inputs(plan: &Plan, store: &Store, unit: &Unit) -> Result<Vec<Table>> {
    (0..unit.inputs.len()).map(|i| input(plan, store, unit, i)).collect()
}

/// The table of an input of a unit.
pub fn input(plan: &Plan, store: &Store, unit: &Unit, index: usize) -> Result<Table> {
    let (stage, key) = stored(plan, unit, index);
    let name = || plan.nodes[unit.inputs[index].node].name();
    let read = || match store.lookup(stage, &key)? {
        Lookup::Hit(entry) => entry.read(stage),
        Lookup::Miss(_) => bail!("{} is not in the cache any more", name()),
    };
    read().with_context(|| Passing(format!("read {}", name())))
}

/// The stage and key of an input of a unit.
pub fn stored(plan: &Plan, unit: &Unit, index: usize) -> (&'static str, Key) {
    let id = unit.inputs[index];
    (plan.nodes[id.node].work.stage(), plan.unit(id).key)
}
