//! What the last runs of an experiment computed, node by node, from `run.json`. Does not access the cache.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::lm::Layer;
use crate::plan::key::Key;
use crate::plan::{Node, Plan};
use crate::record::{Made, NodeOutcome, Run, State};

/// The units of each node when they were last computed.
#[derive(Clone, Debug, Default)]
pub struct Past {
    made: HashMap<String, Vec<Made>>,
}

impl Past {
    /// Reads the past of the experiment whose results are in `dir`. Empty if there is none or if it cannot be read, as
    /// it is only used to improve reasons.
    pub fn read(dir: &Path) -> Past {
        Run::read(dir).ok().flatten().map_or_else(Past::default, Past::of)
    }

    fn of(run: Run) -> Past {
        let ended = run.nodes.iter();
        // A failed node with no absent units is impossible: the record is from a version that did not count them.
        let whole = |node: &&NodeOutcome| matches!(node.state, State::Ran | State::Cached);
        let ended = ended.filter(|node| whole(node) || !node.absent.is_empty());
        let ended: HashMap<&str, &[usize]> =
            ended.map(|node| (node.name.as_str(), node.absent.as_slice())).collect();
        let mut before: HashMap<String, Option<Vec<Made>>> = run.before.into_iter().collect();
        let mut made = HashMap::new();
        let layers = run.layers.into_iter().chain(std::iter::repeat_with(Vec::new));
        for ((name, keys), layers) in run.plan.into_iter().zip(layers) {
            let earlier = before.remove(&name);
            let planned = places(&keys, &layers);
            // Units that the run did not compute keep their earlier state.
            let units = match (earlier, ended.get(name.as_str())) {
                (_, Some([])) => planned,
                (Some(None), _) => planned,
                (earlier, absent) => {
                    let mut units = earlier.flatten().unwrap_or_default();
                    if let Some(absent) = absent {
                        let is_made = |(unit, _): &(usize, Made)| !absent.contains(unit);
                        for (_, new) in planned.into_iter().enumerate().filter(is_made) {
                            units.retain(|old| (old.shard, old.layer) != (new.shard, new.layer));
                            units.push(new);
                        }
                    }
                    units
                }
            };
            if !units.is_empty() {
                made.insert(name, units);
            }
        }
        made.extend(before.into_iter().filter_map(|(name, units)| Some((name, units?))));
        Past { made }
    }

    /// The units of the node `name` when they were last computed.
    pub fn node(&self, name: &str) -> Option<&[Made]> {
        self.made.get(name).map(Vec::as_slice)
    }

    /// For `run.json`: the earlier units of all nodes except those of `ended`, which a run of `plan` completed; `None`
    /// if they are the same as in the plan.
    pub fn before(&self, plan: &Plan, ended: &HashSet<String>) -> Vec<(String, Option<Vec<Made>>)> {
        let planned: HashMap<String, usize> =
            plan.nodes.iter().enumerate().map(|(index, node)| (node.name(), index)).collect();
        let left = self.made.iter().filter(|(name, _)| !ended.contains(*name));
        let left = left.map(|(name, units)| {
            let same = planned.get(name.as_str()).is_some_and(|&node| {
                plan.nodes[node].units.iter().map(|unit| unit.key).eq(units.iter().map(|unit| unit.key))
            });
            (name.clone(), (!same).then(|| units.clone()))
        });
        let mut left: Vec<_> = left.collect();
        left.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        left
    }
}

/// The units of a node with their positions. A unit's shard is the number of earlier units at the same layer.
pub fn places(keys: &[Key], layers: &[Option<Layer>]) -> Vec<Made> {
    let layers = layers.iter().copied().chain(std::iter::repeat(None));
    let mut before: HashMap<Option<Layer>, usize> = HashMap::new();
    let place = |(&key, layer): (&Key, Option<Layer>)| {
        let shards = before.entry(layer).or_default();
        *shards += 1;
        Made { key, shard: *shards - 1, layer }
    };
    keys.iter().zip(layers).map(place).collect()
}

/// The layers of the units of each node of `plan`, for `run.json`.
pub fn layers(plan: &Plan) -> Vec<Vec<Option<Layer>>> {
    let of = |node: &Node| match node.units.iter().any(|unit| unit.layer.is_some()) {
        true => node.units.iter().map(|unit| unit.layer).collect(),
        false => Vec::new(),
    };
    plan.nodes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::key::Digest;
    use serde_json::json;

    fn key(n: u8) -> Key {
        Digest::of(&[n])
    }

    fn past(nodes: serde_json::Value, before: serde_json::Value) -> Past {
        let run = json!({
            "plan": [
                ["stories/s", [key(1), key(2)]],
                ["activations/m/s", [key(3), key(4), key(5), key(6)]],
                ["space/m/s", [key(7)]],
            ],
            "layers": [[], [2, 5, 2, 5], []],
            "nodes": nodes,
            "before": before,
        });
        Past::of(serde_json::from_value(run).unwrap())
    }

    fn number(layer: Option<Layer>) -> Option<i32> {
        layer.map(Layer::number)
    }

    #[test]
    fn units_have_their_places() {
        let ran = |name: &str| json!({"name": name, "state": "ran"});
        let past = past(json!([ran("stories/s"), ran("activations/m/s"), ran("space/m/s")]), json!([]));
        let places = |name: &str| -> Vec<_> {
            past.node(name).unwrap().iter().map(|unit| (unit.shard, number(unit.layer))).collect()
        };
        assert_eq!(places("stories/s"), [(0, None), (1, None)]);
        assert_eq!(places("activations/m/s"), [(0, Some(2)), (0, Some(5)), (1, Some(2)), (1, Some(5))]);
        assert_eq!(places("space/m/s"), [(0, None)]);
    }

    #[test]
    fn what_a_run_did_not_make_is_as_it_was_before() {
        let old = json!([{"key": key(9), "shard": 0, "layer": null}]);
        let before = json!([["stories/s", old], ["space/m/s", null], ["gone/m/s", old]]);
        let failed = json!([{"name": "stories/s", "state": "failed"}]);
        let past = past(failed, before);
        assert_eq!(past.node("stories/s").unwrap()[0].key, key(9));
        assert_eq!(past.node("space/m/s").unwrap()[0].key, key(7), "as the plan has it");
        assert_eq!(past.node("gone/m/s").unwrap()[0].key, key(9));
        assert!(past.node("activations/m/s").is_none(), "never made");
        // It is unchanged by a round trip.
        let written = json!(past.before(
            &Plan { nodes: Vec::new(), absent: Vec::new(), scale: Vec::new() },
            &HashSet::from(["stories/s".to_string()])
        ));
        assert_eq!(written.as_array().unwrap().len(), 2);
        assert_eq!(written[0][0], "gone/m/s");
    }

    #[test]
    fn a_node_that_was_made_in_part_has_the_rest_from_before() {
        let old = json!([
            {"key": key(20), "shard": 0, "layer": 2},
            {"key": key(21), "shard": 1, "layer": 5},
        ]);
        let failed = json!([
            {"name": "activations/m/s", "state": "failed", "absent": [1, 3]},
            {"name": "space/m/s", "state": "blocked", "absent": [0]},
        ]);
        let past = past(failed, json!([["activations/m/s", old]]));
        let mut found: Vec<_> = past
            .node("activations/m/s")
            .unwrap()
            .iter()
            .map(|unit| (unit.shard, number(unit.layer), unit.key))
            .collect();
        found.sort();
        assert_eq!(found, [(0, Some(2), key(3)), (1, Some(2), key(5)), (1, Some(5), key(21))]);
        assert!(past.node("space/m/s").is_none());
    }

    #[test]
    fn what_cannot_be_read_is_no_past() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["{\"plan\": 3", ""] {
            fs_err::write(dir.path().join("run.json"), text).unwrap();
            assert!(Past::read(dir.path()).made.is_empty());
        }
        assert!(Past::default().node("x").is_none());
    }
}
