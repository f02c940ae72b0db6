//! What a run would do, for the commands that run nothing. Writes nothing, takes no lock.

use std::collections::{HashMap, HashSet};

use super::Prepared;
use crate::execute;
use crate::lm::free_memory::FreeMemory;
use crate::lm::memory::{self, Work as Memory};
use crate::plan::{Node, Plan, Selection, UnitId, Work};
use crate::resolve::Resolved;
use crate::stages::rollouts;
use crate::stages::stories::generate;

/// The state of all units of a plan.
pub struct Survey {
    /// Complete in the store.
    pub present: HashSet<UnitId>,
    /// What a run would compute.
    pub needed: HashSet<UnitId>,
    /// Those of `needed` that cannot be computed, with the reason.
    pub blocked: HashMap<UnitId, String>,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Cached,
    /// Some of its units are cached.
    Partial,
    ToRun,
    /// At least part of it cannot be computed.
    Blocked,
    /// It is not cached and not requested.
    NotNeeded,
}

impl Standing {
    /// The printed name.
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
    /// Looks up every unit; `selected`: what a run would compute.
    pub fn new(prepared: &Prepared, selected: &Selection) -> Survey {
        Survey::within(prepared, selected, OnceFreeMemory::default())
    }

    /// The same for a device elsewhere with free memory `room`; if that is unknown, no unit is blocked by it.
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

    /// The state of `node` of `plan`, and the number of its units that a run would compute.
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

/// The `needed` units that cannot be computed: their model does not fit into memory, or an input cannot be computed.
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

/// The free memory of the device, queried once.
#[derive(Default)]
struct OnceFreeMemory(std::cell::OnceCell<Option<FreeMemory>>);

/// What prevents a node itself from being computed.
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
        // The lengths of stories are unknown until they are read.
        _ => Memory::Little,
    };
    let device = resolved.device.device;
    let room = room.0.get_or_init(|| FreeMemory::of(device));
    // If the system does not report free memory, nothing is refused.
    let refused = memory::fits(&model.spec, model.dtype_policy(), work, device, room.as_ref()?).err()?;
    Some(format!("load {}: {refused}", model.shown()))
}
