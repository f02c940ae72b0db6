//! Reasons and their text form: the same in `run`, `explain` and `run.json`.

use std::fmt;

use serde::Serialize;

use super::diff::Difference;
use crate::plan::key::Key;
use crate::plan::{Node, Work};

/// Maximum number of causes on one line.
const SHOWN: usize = 3;

/// Why a unit has to be computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// It is new. `what`: the part of its node that is new.
    New { what: Option<String> },
    /// It was computed earlier and is no longer stored.
    Missing,
    /// The stored data differ from what was written.
    Damaged { why: String },
    /// It cannot be determined whether it is stored.
    Unreadable { why: String },
    /// Its key differs from that of the artifact `against`.
    Changed { against: Key, causes: Vec<Cause> },
}

/// Why two keys differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    Field(Difference),
    /// An input differs; `causes` is empty if its predecessor is no longer stored.
    Input {
        node: String,
        causes: Vec<Cause>,
    },
    /// A new input.
    Added {
        node: String,
        place: String,
    },
    /// A removed input.
    Gone {
        stage: String,
        key: Key,
    },
}

impl Cause {
    /// Adds the changed input `node` to `causes`; units of one node that changed for the same reason count once.
    pub(super) fn add_input(causes: &mut Vec<Cause>, node: &str, why: Vec<Cause>) {
        let known = causes.iter_mut().find_map(|cause| match cause {
            Cause::Input { node: other, causes } if other == node => Some(causes),
            _ => None,
        });
        match known {
            Some(known) => {
                for cause in why {
                    if !known.contains(&cause) {
                        known.push(cause);
                    }
                }
            }
            None => causes.push(Cause::Input { node: node.to_string(), causes: why }),
        }
    }

    /// Collects the root causes: those that have no causes themselves.
    pub fn roots<'a>(&'a self, found: &mut Vec<&'a Cause>) {
        match self {
            Cause::Input { causes, .. } if !causes.is_empty() => {
                causes.iter().for_each(|cause| cause.roots(found))
            }
            _ if found.contains(&self) => {}
            _ => found.push(self),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::New { what: None } => f.write_str("new"),
            Reason::New { what: Some(what) } => write!(f, "new: {what}"),
            Reason::Missing => f.write_str("blob missing"),
            Reason::Damaged { why } => write!(f, "damaged ({why})"),
            Reason::Unreadable { why } => write!(f, "cannot be read ({why})"),
            Reason::Changed { causes, .. } if causes.is_empty() => {
                f.write_str("changed; its earlier value is no longer stored")
            }
            Reason::Changed { causes, .. } => f.write_str(&line(causes)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Field(difference) => difference.fmt(f),
            Cause::Input { node, causes } => match causes.as_slice() {
                [] => write!(f, "input {node} changed"),
                [one] => write!(f, "input {node} changed: {one}"),
                several => write!(f, "input {node} changed ({})", line(several)),
            },
            Cause::Added { node, place } if place.is_empty() => write!(f, "input {node} is new"),
            Cause::Added { node, place } => write!(f, "input {node} is new: {place}"),
            Cause::Gone { stage, key } => write!(f, "input {stage} {} was removed", key.short()),
        }
    }
}

/// The first causes on one line, and the number of others. An input is omitted if it changed only for causes that are
/// listed for the unit itself.
fn line(causes: &[Cause]) -> String {
    let is_told = |cause: &&Cause| {
        let mut roots = Vec::new();
        cause.roots(&mut roots);
        matches!(cause, Cause::Input { .. })
            && !roots.is_empty()
            && roots.iter().all(|root| causes.contains(root))
    };
    let causes: Vec<&Cause> = causes.iter().filter(|cause| !is_told(cause)).collect();
    let mut said: Vec<String> = causes.iter().take(SHOWN).map(|cause| cause.to_string()).collect();
    if causes.len() > SHOWN {
        said.push(format!("and {} more", causes.len() - SHOWN));
    }
    said.join("; ")
}

/// A one-line summary of the reasons for those units of a node that have to be computed. `units`: the node's total
/// number of units.
pub fn summary(reasons: &[Reason], units: usize) -> String {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for reason in reasons {
        let text = reason.to_string();
        match counted.iter_mut().find(|(known, _)| *known == text) {
            Some((_, n)) => *n += 1,
            None => counted.push((text, 1)),
        }
    }
    match counted.as_slice() {
        [] => "nothing asks for it".to_string(),
        [(text, n)] if *n == units => text.clone(),
        [(text, n)] => format!("{n} of {units} units: {text}"),
        several => {
            let named = several.iter().take(SHOWN).map(|(text, n)| format!("{n} of {units} units: {text}"));
            let mut named: Vec<String> = named.collect();
            let rest: usize = several.iter().skip(SHOWN).map(|(_, n)| n).sum();
            if rest > 0 {
                named.push(format!("{rest} more for other reasons"));
            }
            named.join("; ")
        }
    }
}

/// A unit's position in its node, for display; empty if it is the only one.
pub fn place(node: &Node, unit: usize) -> String {
    let it = &node.units[unit];
    let stories = (!it.stories.is_empty() && it.stories.len() < total(node))
        .then(|| format!("stories {} to {}", it.stories.start, it.stories.end - 1));
    let layer = it.layer.map(|layer| format!("layer {layer}"));
    let pair = match &node.work {
        Work::Across { pairs, .. } if pairs.len() > 1 => {
            let [a, b] = pairs[unit].sets.each_ref().map(|set| format!("{}/{}", set.model, set.stories));
            Some(format!("{a} with {b}"))
        }
        _ => None,
    };
    stories.into_iter().chain(layer).chain(pair).collect::<Vec<_>>().join(", ")
}

fn total(node: &Node) -> usize {
    node.units.iter().map(|unit| unit.stories.end).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn field(path: &str, before: f64, after: f64) -> Cause {
        Cause::Field(Difference { path: path.into(), before: Some(json!(before)), after: Some(json!(after)) })
    }

    fn input(node: &str, causes: Vec<Cause>) -> Cause {
        Cause::Input { node: node.into(), causes }
    }

    fn changed(causes: Vec<Cause>) -> Reason {
        Reason::Changed { against: crate::plan::key::Digest::of(b""), causes }
    }

    #[test]
    fn a_chain_leads_back_to_its_root() {
        let root = field("params.temperature", 0.7, 1.0);
        let chain = input("activations/m/own", vec![input("stories/own", vec![root.clone()])]);
        assert_eq!(
            changed(vec![chain.clone()]).to_string(),
            "input activations/m/own changed: input stories/own changed: params.temperature 0.7 -> 1.0"
        );
        let mut roots = Vec::new();
        chain.roots(&mut roots);
        chain.roots(&mut roots);
        assert_eq!(roots, [&root]);
    }

    #[test]
    fn what_changed_in_the_unit_itself_is_not_said_again_of_its_inputs() {
        let field = field("params.emotions[0]", 1.0, 2.0);
        let chain = input("activations/m/own", vec![input("stories/own", vec![field.clone()])]);
        assert_eq!(changed(vec![field, chain]).to_string(), "params.emotions[0] 1.0 -> 2.0");
    }

    #[test]
    fn units_of_one_input_that_changed_for_one_reason_count_once() {
        let mut causes = Vec::new();
        for _ in 0..5 {
            Cause::add_input(&mut causes, "stories/own", vec![field("seed", 1.0, 2.0)]);
        }
        Cause::add_input(&mut causes, "stories/own", vec![field("version", 1.0, 2.0)]);
        assert_eq!(
            changed(causes).to_string(),
            "input stories/own changed (seed 1.0 -> 2.0; version 1.0 -> 2.0)"
        );
        let many = (0..5).map(|n| field(&format!("p{n}"), 0.0, 1.0)).collect();
        assert_eq!(changed(many).to_string(), "p0 0.0 -> 1.0; p1 0.0 -> 1.0; p2 0.0 -> 1.0; and 2 more");
    }

    #[test]
    fn reasons_of_units_are_counted() {
        let new = Reason::New { what: None };
        assert_eq!(summary(&[new.clone(), new.clone()], 2), "new");
        assert_eq!(summary(std::slice::from_ref(&new), 3), "1 of 3 units: new");
        assert_eq!(summary(&[new, Reason::Missing], 2), "1 of 2 units: new; 1 of 2 units: blob missing");
        let layers: Vec<_> = (0..5).map(|l| Reason::New { what: Some(format!("layer {l}")) }).collect();
        assert!(summary(&layers, 9).ends_with("new: layer 2; 2 more for other reasons"));
    }
}
