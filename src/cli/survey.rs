//! What a run would do, found by looking: for the commands that run nothing. Writes nothing, takes no lock.

use std::collections::{HashMap, HashSet};

use super::Prepared;
use crate::execute;
use crate::lm::free_memory::FreeMemory;
use crate::lm::memory::{self, Work as Memory};
use crate::plan::{Node, Plan, Selection, UnitId, Work};
use crate::resolve::Resolved;
use crate::stages::rollouts;
use crate::stages::stories::generate;

/// How the units of a plan stand.
pub struct Survey {
    /// Whole in the store.
    pub present: HashSet<UnitId>,
    /// What a run would make.
    pub needed: HashSet<UnitId>,
    /// Of these, what cannot be made, and why.
    pub blocked: HashMap<UnitId, String>,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Cached,
    /// Some of its units are there.
    Partial,
    ToRun,
    /// It cannot be made, or not all of it.
    Blocked,
    /// It is not there, and nothing asks for it.
    NotNeeded,
}

impl Standing {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Cached => "cached",
            Standing::Partial => "partial",
            Standing::ToRun => "to run",
            Standing::Blocked => "blocked",
            Standing::NotNeeded => "not needed",
        }
    }
}

impl Survey {
    /// Looks every unit up; a run would make what is `selected`.
    pub fn new(prepared: &Prepared, selected: &Selection) -> Survey {
        Survey::within(prepared, selected, OnceFreeMemory::default())
    }

    /// The same for a device elsewhere that has so much memory; where that is not known, nothing is blocked for it.
    pub fn elsewhere(prepared: &Prepared, selected: &Selection, room: Option<FreeMemory>) -> Survey {
        Survey::within(prepared, selected, OnceFreeMemory(room.into()))
    }

    fn within(prepared: &Prepared, selected: &Selection, room: OnceFreeMemory) -> Survey {
        let Prepared { resolved, plan, store, .. } = prepared;
        let present = plan.units_where(|node, unit| store.contains(node.work.stage(), &unit.key));
        let needed = execute::needed(plan, selected, &present);
        let blocked = blocked(resolved, plan, &needed, &room);
        Survey { present, needed, blocked }
    }

    /// How `node` of `plan` stands, and how many of its units a run would make.
    pub fn node(&self, plan: &Plan, node: usize) -> (Standing, usize) {
        let ids = || (0..plan.nodes[node].units.len()).map(|unit| UnitId { node, unit });
        let missing = ids().filter(|id| self.needed.contains(id)).count();
        let standing = match missing {
            0 if ids().all(|id| self.present.contains(&id)) => Standing::Cached,
            0 => Standing::NotNeeded,
            _ if ids().any(|id| self.blocked.contains_key(&id)) => Standing::Blocked,
            _ if ids().any(|id| self.present.contains(&id)) => Standing::Partial,
            _ => Standing::ToRun,
        };
        (standing, missing)
    }

    /// Why `node` of `plan` is blocked.
    pub fn obstacle(&self, plan: &Plan, node: usize) -> Option<&str> {
        let ids = (0..plan.nodes[node].units.len()).map(|unit| UnitId { node, unit });
        ids.filter_map(|id| self.blocked.get(&id)).map(String::as_str).next()
    }
}

/// Those of the `needed` units that cannot be made: their model does not fit into memory, or an input cannot be made.
fn blocked(
    resolved: &Resolved,
    plan: &Plan,
    needed: &HashSet<UnitId>,
    room: &OnceFreeMemory,
) -> HashMap<UnitId, String> {
    let mut blocked: HashMap<UnitId, String> = HashMap::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let ids = (0..node.units.len()).map(|unit| UnitId { node: index, unit });
        let ids: Vec<UnitId> = ids.filter(|id| needed.contains(id)).collect();
        if ids.is_empty() {
            continue;
        }
        let own = obstacle(resolved, node, room);
        for id in ids {
            let through = || {
                let input = plan.unit(id).inputs.iter().find(|input| blocked.contains_key(input))?;
                Some(format!("needs {}", plan.nodes[input.node].name()))
            };
            if let Some(why) = own.clone().or_else(through) {
                blocked.insert(id, why);
            }
        }
    }
    blocked
}

/// The room of the device, asked once.
#[derive(Default)]
struct OnceFreeMemory(std::cell::OnceCell<Option<FreeMemory>>);

/// What stands in the way of a node itself.
fn obstacle(resolved: &Resolved, node: &Node, room: &OnceFreeMemory) -> Option<String> {
    if let (Work::Served { .. }, true) = (&node.work, resolved.offline) {
        return Some(execute::NOT_OFFLINE.to_string());
    }
    if let (Work::Scores { identity: Some(_), .. }, true) = (&node.work, resolved.offline) {
        return Some(execute::NOT_JUDGED_OFFLINE.to_string());
    }
    let model = &resolved.models[node.model?];
    let work = match &node.work {
        Work::Rollouts { writing, .. } => Memory::Generation {
            rows: node.units.iter().map(|unit| unit.stories.len()).max()?.min(rollouts::write::BATCH),
            max_new_tokens: writing.texts.max_new_tokens,
        },
        Work::Generate { source, .. } => Memory::Generation {
            rows: node.units.iter().map(|unit| unit.stories.len()).max()?.min(generate::BATCH),
            max_new_tokens: source.max_new_tokens,
        },
        // The lengths of stories are not known before they are read.
        _ => Memory::Little,
    };
    let device = resolved.device.device;
    let room = room.0.get_or_init(|| FreeMemory::of(device));
    // Where the system does not tell, nothing is refused.
    let refused = memory::fits(&model.spec, model.dtype_policy(), work, device, room.as_ref()?).err()?;
    Some(format!("load {}: {refused}", model.shown()))
}
