//! Merges the nodes of all variants of a sweep into one plan: nodes that are the same for several variants appear once,
//! and those that differ are named by the settings that they depend on. Independent of stages.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Node, Subject, Work};
use crate::config::Setting;
use crate::plan::key::Key;

/// The node of each variant for a name, before settings are added to names.
#[derive(Default)]
pub struct Merged {
    nodes: HashMap<Subject, BTreeMap<usize, usize>>,
}

impl Merged {
    /// Adds `node` of `variant` to `nodes`, unless another variant has one of this name with the same keys; returns its
    /// index.
    pub fn push(&mut self, variant: usize, node: Node, nodes: &mut Vec<Node>) -> usize {
        let keys = |node: &Node| node.units.iter().map(|unit| unit.key).collect::<Vec<Key>>();
        let named = self.nodes.entry(node.id.subject.clone()).or_default();
        let same = named.values().copied().find(|&place| keys(&nodes[place]) == keys(&node));
        let place = same.unwrap_or_else(|| {
            nodes.push(node);
            nodes.len() - 1
        });
        named.insert(variant, place);
        place
    }

    /// The node of `variant` for `subject`.
    pub fn find(&self, variant: usize, subject: &Subject) -> Option<usize> {
        self.nodes.get(subject)?.get(&variant).copied()
    }

    /// Adds the settings that make the difference to the names of nodes that differ between variants, and to their sets
    /// of vectors: `vectors/demo/own~from_token=50`. `settings`: those of each variant, with the same axes in each.
    pub fn name(&self, nodes: &mut [Node], settings: &[&[Setting]]) {
        for variants in self.nodes.values() {
            let axes: Vec<usize> =
                (0..settings[0].len()).filter(|&a| matters(a, variants, settings)).collect();
            let mut named = HashSet::new();
            for (&variant, &place) in variants {
                if !named.insert(place) {
                    continue; // already named by its first variant
                }
                let of = |&axis: &usize| {
                    (settings[variant][axis].axis.clone(), settings[variant][axis].value.clone())
                };
                let chosen: Vec<(String, String)> = axes.iter().map(of).collect();
                let node = &mut nodes[place];
                node.id.axes = chosen.clone();
                match &mut node.work {
                    Work::Vectors { set, .. }
                    | Work::Readings { set, .. }
                    | Work::Rollouts { set, .. }
                    | Work::Analysis { set, .. } => set.axes = chosen,
                    Work::Across { pairs, .. } => {
                        let sets = pairs.iter_mut().flat_map(|pair| &mut pair.sets);
                        sets.for_each(|set| set.axes = chosen.clone());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Whether two variants that differ only in `axis` have different nodes. Variants without such a node (neutral text if
/// there is no denoising) do not count.
fn matters(axis: usize, variants: &BTreeMap<usize, usize>, settings: &[&[Setting]]) -> bool {
    let mut seen = HashMap::new();
    variants.iter().any(|(&variant, &place)| {
        let (before, after) = (&settings[variant][..axis], &settings[variant][axis + 1..]);
        *seen.entry((before, after)).or_insert(place) != place
    })
}
