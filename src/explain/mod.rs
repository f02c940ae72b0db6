//! Explains why a unit has to be computed: the differences between its pre-image and that of the artifact it replaces,
//! followed back through its inputs to the root cause. Read-only: writes nothing, moves nothing, takes no lock.

mod diff;
mod past;
mod reason;

use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::Value;

pub use diff::{Difference, differences};
pub use past::{Past, layers};
pub use reason::{Cause, Reason, place, summary};

use crate::lm::Layer;
use crate::plan::key::Key;
use crate::plan::{Plan, UnitId};
use crate::store::{Condition, Store};

type Causes = Rc<Vec<Cause>>;

/// Finds reasons. The store is read once, on first use.
pub struct Explainer<'a> {
    plan: &'a Plan,
    store: &'a Store,
    past: &'a Past,
    quarantine: OnceCell<Vec<String>>,
    /// Keys of an earlier run, by node and unit of this plan.
    earlier: RefCell<HashMap<usize, Rc<Vec<Option<Key>>>>>,
    preimages: RefCell<HashMap<Key, Option<Rc<Value>>>>,
    /// Cached differences between units and artifacts, as many units share their inputs.
    compared: RefCell<HashMap<(UnitId, Key), Causes>>,
}

impl<'a> Explainer<'a> {
    /// An explainer for the units of `plan`, given what is in `store` and what was computed in the past.
    pub fn new(plan: &'a Plan, store: &'a Store, past: &'a Past) -> Explainer<'a> {
        Explainer {
            plan,
            store,
            past,
            quarantine: OnceCell::new(),
            earlier: RefCell::default(),
            preimages: RefCell::default(),
            compared: RefCell::default(),
        }
    }

    /// Why the unit at `id`, which is not complete in the store, has to be computed.
    ///
    /// It is compared with the unit that was at its position when its node was last complete in *this* experiment;
    /// artifacts that other experiments left in the same cache are not considered.
    pub fn reason(&self, id: UnitId) -> Reason {
        let (node, unit) = (&self.plan.nodes[id.node], self.plan.unit(id));
        let stage = node.work.stage();
        match self.store.condition(stage, &unit.key) {
            Condition::Damaged(why) => return Reason::Damaged { why },
            Condition::Unreadable(why) => return Reason::Unreadable { why },
            Condition::Whole(_) | Condition::Absent => {}
        }
        let name = format!("{stage}-{}-", unit.key);
        let quarantine = self.quarantine.get_or_init(|| self.store.quarantined());
        // The last one, as they are numbered.
        if let Some(place) = quarantine.iter().rfind(|place| place.starts_with(&name)) {
            return Reason::Damaged { why: format!("set aside as quarantine/{place}") };
        }
        if self.past.node(&node.name()).is_none() {
            return Reason::New { what: None };
        }
        match self.earlier(id) {
            None => Reason::New { what: Some(place(node, id.unit)) },
            Some(key) if key == unit.key => Reason::Missing,
            Some(against) => {
                let causes = self.compare(id, &against).to_vec();
                Reason::Changed { against, causes }
            }
        }
    }

    /// The key at the position of the unit at `id` (the same shard and layer) when its node was last complete.
    fn earlier(&self, id: UnitId) -> Option<Key> {
        let known = self.earlier.borrow().get(&id.node).cloned();
        let keys = known.unwrap_or_else(|| {
            let node = &self.plan.nodes[id.node];
            let made = self.past.node(&node.name()).unwrap_or_default();
            let made: HashMap<_, _> = made.iter().map(|made| ((made.shard, made.layer), made.key)).collect();
            let keys: Vec<Key> = node.units.iter().map(|unit| unit.key).collect();
            let layers: Vec<Option<Layer>> = node.units.iter().map(|unit| unit.layer).collect();
            let places = past::places(&keys, &layers).into_iter();
            let keys = places.map(|place| made.get(&(place.shard, place.layer)).copied());
            let keys: Rc<Vec<Option<Key>>> = Rc::new(keys.collect());
            self.earlier.borrow_mut().insert(id.node, keys.clone());
            keys
        });
        keys[id.unit]
    }

    fn wanted(&self, id: UnitId) -> Option<Value> {
        serde_json::from_str(&self.plan.unit(id).preimage).ok()
    }

    /// The pre-image of a stored artifact.
    fn preimage(&self, stage: &str, key: &Key) -> Option<Rc<Value>> {
        if let Some(known) = self.preimages.borrow().get(key) {
            return known.clone();
        }
        let manifest = self.store.manifest(stage, key);
        let preimage = manifest.and_then(|m| serde_json::from_str(&m.preimage).ok()).map(Rc::new);
        self.preimages.borrow_mut().insert(*key, preimage.clone());
        preimage
    }

    /// The differences between the unit at `id` and the artifact `against`, its predecessor; as far as they can be
    /// determined if that is no longer stored.
    fn compare(&self, id: UnitId, against: &Key) -> Causes {
        if let Some(known) = self.compared.borrow().get(&(id, *against)) {
            return known.clone();
        }
        let before = self.preimage(self.plan.nodes[id.node].work.stage(), against);
        let causes = match before {
            Some(before) => self.compare_preimages(id, &before),
            None => self.compare_places(id),
        };
        let causes = Rc::new(causes);
        self.compared.borrow_mut().insert((id, *against), causes.clone());
        causes
    }

    fn compare_preimages(&self, id: UnitId, before: &Value) -> Vec<Cause> {
        let after = self.wanted(id).unwrap_or_default();
        let mut causes = Vec::new();
        for (field, value) in after.as_object().into_iter().flatten() {
            if field != "inputs" {
                let found = diff::differences(field, before.get(field).unwrap_or(&Value::Null), value);
                causes.extend(found.into_iter().map(Cause::Field));
            }
            if field == "stage" && !causes.is_empty() {
                break; // another stage: the other fields are not comparable
            }
        }
        if before["stage"] == after["stage"] {
            self.compare_inputs(id, &before["inputs"], &mut causes);
        }
        causes
    }

    /// The inputs that differ from their predecessors.
    fn compare_places(&self, id: UnitId) -> Vec<Cause> {
        let mut causes = Vec::new();
        for &input in &self.plan.unit(id).inputs {
            let node = &self.plan.nodes[input.node];
            match self.earlier(input) {
                None => causes.push(Cause::Added { node: node.name(), place: place(node, input.unit) }),
                Some(key) if key == self.plan.unit(input).key => {}
                Some(key) => Cause::add_input(&mut causes, &node.name(), self.compare(input, &key).to_vec()),
            }
        }
        causes
    }

    /// Pairs the inputs that only one side has, and compares each pair.
    fn compare_inputs(&self, id: UnitId, before: &Value, causes: &mut Vec<Cause>) {
        let inputs = &self.plan.unit(id).inputs;
        let mine: HashSet<Key> = inputs.iter().map(|input| self.plan.unit(*input).key).collect();
        let old: Vec<(String, Key)> = serde_json::from_value(before.clone()).unwrap_or_default();
        let known: HashSet<Key> = old.iter().map(|(_, key)| *key).collect();
        let mut old: Vec<(String, Key)> = old.into_iter().filter(|(_, key)| !mine.contains(key)).collect();
        let mut new: Vec<UnitId> = inputs.to_vec();
        new.retain(|input| !known.contains(&self.plan.unit(*input).key));
        let role = |input: &UnitId| self.plan.nodes[input.node].work.stage();

        let mut pairs: Vec<(UnitId, Key)> = Vec::new();
        // First, each input with its predecessor from when its node was last complete.
        let mut left: HashSet<Key> = old.iter().map(|(_, key)| *key).collect();
        new.retain(|input| match self.earlier(*input).filter(|key| left.remove(key)) {
            Some(key) => {
                pairs.push((*input, key));
                false
            }
            None => true,
        });
        old.retain(|(_, key)| left.contains(key));
        // Then the others in order, if both sides have equally many of a stage.
        let roles: HashSet<&str> = new.iter().map(role).collect();
        for role_of in roles {
            let mine: Vec<UnitId> = new.iter().copied().filter(|input| role(input) == role_of).collect();
            let theirs: Vec<Key> = old.iter().filter(|(r, _)| r == role_of).map(|(_, key)| *key).collect();
            if mine.len() == theirs.len() {
                pairs.extend(mine.into_iter().zip(theirs));
                new.retain(|input| role(input) != role_of);
                old.retain(|(r, _)| r != role_of);
            }
        }
        let order: HashMap<UnitId, usize> =
            inputs.iter().enumerate().map(|(at, input)| (*input, at)).collect();
        pairs.sort_unstable_by_key(|(input, _)| order[input]);
        for (input, key) in pairs {
            let found = self.compare(input, &key).to_vec();
            Cause::add_input(causes, &self.plan.nodes[input.node].name(), found);
        }
        for input in new {
            let node = &self.plan.nodes[input.node];
            causes.push(Cause::Added { node: node.name(), place: place(node, input.unit) });
        }
        for (stage, key) in old {
            causes.push(Cause::Gone { stage, key });
        }
    }
}
