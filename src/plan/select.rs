//! Selects units of a plan by name. Independent of what is stored.

use std::collections::BTreeSet;

use super::{Node, Plan, Set, Subject, UnitId, Work};
use crate::lm::Layer;

/// The selection made by `--only`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The selected units, in the plan's order.
    pub units: Vec<UnitId>,
    /// Indices in [`Plan::absent`] of missing parts whose nodes would be selected.
    pub absent: Vec<usize>,
    /// Whether the report is selected; everything else is then selected too.
    pub report: bool,
}

impl Selection {
    /// Its nodes, in the plan's order.
    pub fn nodes(&self) -> Vec<usize> {
        let mut nodes: Vec<usize> = self.units.iter().map(|id| id.node).collect();
        nodes.dedup();
        nodes
    }
}

/// The error that nothing is selected.
#[derive(Clone, Debug, PartialEq)]
pub struct Nothing {
    /// What is wrong, with the nearest names.
    pub message: String,
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Nothing {}

/// The values of a node of this name and stage for a key; the name contains neither layers nor emotions.
fn named_values(subject: &Subject, stage: &str, key: Key) -> Vec<String> {
    let found = match key {
        Key::Layer | Key::Emotion | Key::Variant => None,
        // An analysis matches by its kind and by its name.
        Key::Stage => return vec![stage.to_string(), subject.head().to_string()],
        Key::Source => subject.source(),
        Key::Model => subject.model(),
    };
    found.into_iter().map(String::from).collect()
}

/// Whether a term would match a node that is missing from the plan; any layer, emotion or variant matches.
fn would_hold(subject: &Subject, stage: &str, term: &Term) -> bool {
    match term {
        Term::Name(pattern) => matches(pattern, &subject.to_string()),
        Term::Key(Key::Layer | Key::Emotion | Key::Variant, _) => true,
        Term::Key(key, pattern) => {
            named_values(subject, stage, *key).iter().any(|value| matches(pattern, value))
        }
    }
}

/// The kind of a key, as in `model:demo`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Key {
    Stage,
    Model,
    Source,
    Emotion,
    Layer,
    Variant,
}

const KEYS: [(&str, Key); 6] = [
    ("stage", Key::Stage),
    ("model", Key::Model),
    ("source", Key::Source),
    ("emotion", Key::Emotion),
    ("layer", Key::Layer),
    ("variant", Key::Variant),
];

/// One condition, with a pattern.
enum Term<'a> {
    Name(&'a str),
    Key(Key, &'a str),
}

/// The name of the report, which has no units.
const REPORT: &str = "report";

impl Plan {
    /// The units that match one of `patterns`; all units if there are no patterns.
    ///
    /// A pattern is a node's name, or `key:value` with a key of `stage`, `model`, `source`, `emotion`, `layer` or
    /// `variant` (`variant:from_token=50`); or several of these separated by commas, all of which must match. `*`
    /// stands for any text. Selecting the report, or an analysis that is computed with it, selects everything.
    ///
    /// # Errors
    /// Nothing is selected; the message gives the nearest names.
    pub fn select(&self, patterns: &[String]) -> Result<Selection, Nothing> {
        let all = || self.nodes.iter().enumerate();
        let mut wanted: Vec<Vec<Term>> = Vec::new();
        for pattern in patterns {
            wanted.push(pattern.split(',').map(|term| parse(term.trim())).collect::<Result<_, _>>()?);
        }
        let report = wanted.is_empty()
            || wanted.iter().any(|terms| {
                terms.iter().all(|term| matches!(term, Term::Name(pattern) if self.with_report(pattern)))
            });
        let units = all().flat_map(|(node, it)| (0..it.units.len()).map(move |unit| UnitId { node, unit }));
        let holds = |id: &UnitId| wanted.iter().any(|terms| terms.iter().all(|term| self.holds(*id, term)));
        let units: Vec<UnitId> = units.filter(|id| report || holds(id)).collect();
        let would = |(subject, stage): &(Subject, String)| {
            wanted.iter().any(|terms| terms.iter().all(|term| would_hold(subject, stage, term)))
        };
        let absent = self.absent.iter().enumerate();
        let absent: Vec<usize> =
            absent.filter(|(_, it)| report || it.nodes.iter().any(would)).map(|(place, _)| place).collect();
        if units.is_empty() && absent.is_empty() {
            return Err(self.nothing(patterns, &wanted));
        }
        Ok(Selection { units, absent, report })
    }

    /// Whether `pattern` names the report or an analysis that is computed with it.
    fn with_report(&self, pattern: &str) -> bool {
        matches(pattern, REPORT) || self.scale.iter().any(|name| matches(pattern, name))
    }

    fn holds(&self, id: UnitId, term: &Term) -> bool {
        match term {
            Term::Name(pattern) => matches(pattern, &self.nodes[id.node].name()),
            Term::Key(key, pattern) => self.values(id, *key).iter().any(|value| matches(pattern, value)),
        }
    }

    /// The values of a unit for a key.
    fn values(&self, id: UnitId, key: Key) -> Vec<String> {
        let (node, unit) = (&self.nodes[id.node], self.unit(id));
        match key {
            Key::Variant => node.id.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect(),
            Key::Layer => unit.layer.iter().map(Layer::to_string).collect(),
            Key::Emotion => self.emotions(id).into_iter().map(String::from).collect(),
            Key::Model | Key::Source if let Work::Across { pairs, .. } = &node.work => {
                let of = |set: &Set| if key == Key::Model { set.model.clone() } else { set.stories.clone() };
                pairs[id.unit].sets.iter().map(of).collect()
            }
            _ => named_values(&node.id.subject, node.work.stage(), key),
        }
    }

    /// The emotions that a unit covers; none for neutral text.
    fn emotions(&self, id: UnitId) -> BTreeSet<&str> {
        let unit = self.unit(id);
        match &self.nodes[id.node].work {
            Work::Template { items, .. } | Work::Generate { items, .. } | Work::Served { items, .. } => {
                items[unit.stories.clone()].iter().filter_map(|item| item.emotion.as_deref()).collect()
            }
            // Only the files tell which emotions are in which shard.
            Work::File(files) => files.emotions.iter().flatten().map(String::as_str).collect(),
            Work::Vectors { emotions, .. } => emotions.iter().map(String::as_str).collect(),
            Work::Texts(_) | Work::Written(_) | Work::Prompts(_) => BTreeSet::new(),
            Work::Readings { .. }
            | Work::Dialogues
            | Work::Spans(_)
            | Work::Rollouts { .. }
            | Work::Samples { .. }
            | Work::Scores { .. }
            | Work::Activations { .. }
            | Work::Neutral(_)
            | Work::Analysis { .. }
            | Work::Across { .. } => {
                // All inputs of an analysis are about the same emotions.
                unit.inputs.first().map_or_else(BTreeSet::new, |input| self.emotions(*input))
            }
        }
    }

    /// The error that nothing is selected: the first term that matches nothing, with the nearest names.
    fn nothing(&self, patterns: &[String], wanted: &[Vec<Term>]) -> Nothing {
        let ids = || {
            let nodes = self.nodes.iter().enumerate();
            nodes.flat_map(|(node, it)| (0..it.units.len()).map(move |unit| UnitId { node, unit }))
        };
        let said = format!("nothing matches {}", quoted(patterns));
        for term in wanted.iter().flatten() {
            if ids().any(|id| self.holds(id, term)) {
                continue;
            }
            let (pattern, mut known): (&str, Vec<String>) = match term {
                Term::Name(pattern) => {
                    (pattern, self.nodes.iter().map(Node::name).chain([REPORT.into()]).collect())
                }
                Term::Key(key, pattern) => {
                    let values: BTreeSet<String> = ids().flat_map(|id| self.values(id, *key)).collect();
                    (pattern, values.into_iter().collect())
                }
            };
            let prefix = match term {
                Term::Name(_) => String::new(),
                Term::Key(key, _) => format!("{}:", name(*key)),
            };
            nearest_first(pattern, &mut known);
            let shown: Vec<String> = known.iter().take(5).map(|known| format!("{prefix}{known}")).collect();
            return Nothing { message: format!("{said}; nearest: {}", shown.join(", ")) };
        }
        let hint = "each part matches something, but nothing matches all parts of one pattern";
        Nothing { message: format!("{said}: {hint}") }
    }
}

fn name(key: Key) -> &'static str {
    KEYS.iter().find(|(_, known)| *known == key).map_or("", |(name, _)| name)
}

fn quoted(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

fn parse(term: &str) -> Result<Term<'_>, Nothing> {
    let Some((written, pattern)) = term.split_once(':') else { return Ok(Term::Name(term)) };
    match KEYS.iter().find(|(name, _)| *name == written) {
        Some((_, key)) => Ok(Term::Key(*key, pattern)),
        None => {
            let mut known: Vec<String> = KEYS.iter().map(|(name, _)| format!("{name}:")).collect();
            nearest_first(written, &mut known);
            Err(Nothing { message: format!("nothing matches `{term}`; nearest: {}", known.join(", ")) })
        }
    }
}

/// Sorts names by similarity to `pattern`.
fn nearest_first(pattern: &str, names: &mut [String]) {
    let plain = pattern.replace('*', "");
    let score = |name: &str| {
        let part = if !plain.is_empty() && name.contains(&plain) { 1.0 } else { 0.0 };
        part + strsim::normalized_damerau_levenshtein(&plain, name)
    };
    // Numbers are sorted by their distance.
    let number = |text: &str| text.parse::<f64>().ok();
    let distance = |name: &str| match (number(&plain), number(name)) {
        (Some(wanted), Some(is)) => (wanted - is).abs(),
        _ => 1.0 - score(name),
    };
    names.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
}

/// Whether `name` matches `pattern`, in which `*` stands for any text, including none.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("vectors/demo/own", "vectors/demo/own", true),
            ("vectors/demo", "vectors/demo/own", false),
            ("vectors/*", "vectors/demo/own", true),
            ("*/own", "vectors/demo/own", true),
            ("*demo*", "vectors/demo/own", true),
            ("v*s/*n", "vectors/demo/own", true),
            ("v*x*n", "vectors/demo/own", false),
            ("*", "report", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} against {name}");
        }
    }

    #[test]
    fn the_nearest_name_comes_first() {
        let nearest = |pattern: &str, names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            nearest_first(pattern, &mut names);
            names.remove(0)
        };
        let nodes = ["stories/own", "activations/demo/own", "vectors/demo/own", "space/demo/own", "report"];
        assert_eq!(nearest("vector/demo/own", &nodes), "vectors/demo/own");
        assert_eq!(nearest("activation/*", &nodes), "activations/demo/own");
        assert_eq!(nearest("rapport", &nodes), "report");
        assert_eq!(nearest("space", &nodes), "space/demo/own");
        assert_eq!(nearest("13", &["1", "3", "12", "30"]), "12");
    }
}
