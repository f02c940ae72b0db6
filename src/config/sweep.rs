//! `[sweep]`: keys with several values each. Every combination is a variant of the experiment, applied to the file
//! before it is checked. Independent of the meaning of keys.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::Serialize;

use super::{Experiment, Span};
use crate::params::problem::{Problem, quoted};
use crate::params::tree::{self, Node, Path, Sink, Value};

/// One combination of a sweep's values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Variant {
    pub settings: Vec<Setting>,
    /// The experiment with these values, without a sweep of its own.
    #[serde(skip)]
    pub experiment: Experiment,
}

/// One key of a sweep with one of its values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Setting {
    /// The key in the file: `activations.from_token`.
    pub key: String,
    /// The last part of the key, or as many parts as distinguish it from the other keys: `from_token`.
    pub axis: String,
    /// The value as it appears in names: `50`, `none`, `components-3`.
    pub value: String,
}

/// More variants than this are rejected.
const MOST: usize = 1000;
/// The most characters of a value in a name.
const LONGEST: usize = 40;
/// The keys and tables that a variant may change.
const GROUPS: [&str; 9] = [
    "seed",
    "emotions",
    "stories",
    "neutral",
    "transcripts",
    "dialogues",
    "activations",
    "vectors",
    "analysis",
];

/// A key with its values.
struct Axis {
    path: Path,
    values: Vec<Rc<Node>>,
}

/// A tree with one combination of values applied to it.
pub(super) struct Combination {
    pub settings: Vec<Setting>,
    pub tree: Node,
}

/// Every combination of the values under `[sweep]`, with the first key's values changing slowest; without a sweep, the
/// tree itself without settings. `fixed`: keys set on the command line, which are then not axes.
pub(super) fn combinations(mut tree: Node, fixed: &[Path], sink: &Sink) -> Vec<Combination> {
    let Some(sweep) = tree.take("sweep") else { return vec![Combination { settings: Vec::new(), tree }] };
    let mut axes = Vec::new();
    let before = sink.borrow().len();
    collect(&sweep, &mut Vec::new(), &mut axes, sink);
    if axes.is_empty() && sink.borrow().len() == before {
        let problem = Problem::at(sweep.span.clone(), "`[sweep]` sweeps nothing");
        sink.borrow_mut()
            .push(problem.hint("add a key with a list of values: `activations.from_token = [0, 50]`"));
    }
    axes.retain(|axis| !fixed.iter().any(|path| is_about(path, &axis.path)));
    let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
    if count.is_none_or(|count| count > MOST) {
        let problem = Problem::at(sweep.span.clone(), format!("more than {MOST} variants"));
        sink.borrow_mut().push(problem.hint("each combination of values is a variant: remove some values"));
        axes.clear();
    }
    let names = names(&axes);
    let mut combinations = vec![Combination { settings: Vec::new(), tree }];
    for (axis, name) in axes.iter().zip(names) {
        let labels = labels(&axis.values);
        let mut next = Vec::new();
        for Combination { settings, tree } in &combinations {
            for (value, label) in axis.values.iter().zip(&labels) {
                let (mut settings, mut tree) = (settings.clone(), tree.clone());
                if let Err(problem) = tree::lay(&mut tree, &axis.path, Node::clone(value), 0) {
                    sink.borrow_mut().push(problem);
                }
                settings.push(Setting { key: dotted(&axis.path), axis: name.clone(), value: label.clone() });
                next.push(Combination { settings, tree });
            }
        }
        combinations = next;
    }
    combinations
}

/// Collects the axes below `node`: tables are descended into, lists are values.
fn collect(node: &Node, path: &mut Path, axes: &mut Vec<Axis>, sink: &Sink) {
    let wrong = |span: &Span, message: String, hint: &str| {
        sink.borrow_mut().push(Problem::at(span.clone(), message).hint(hint));
    };
    let Value::Table(entries) = &node.value else {
        let hint = "write the values as a list: `activations.from_token = [0, 50]`";
        let what = if path.is_empty() { "`sweep`".to_string() } else { format!("`sweep.{}`", dotted(path)) };
        return wrong(
            &node.span,
            format!("{what} must be a list of values, not {}", node.value.kind()),
            hint,
        );
    };
    for entry in entries {
        if path.is_empty() && !GROUPS.contains(&entry.key.as_str()) {
            let hint = match entry.key.as_str() {
                "models" => "several models are several `[models.<name>]` tables",
                "layers" => "keep several layers, `layers = [...]`: the report has a selector",
                _ => {
                    "a sweep may go over seed, emotions, stories, neutral, transcripts, dialogues, activations, vectors and analysis"
                }
            };
            wrong(&entry.key_span, format!("{} cannot be swept", quoted(&entry.key)), hint);
            continue;
        }
        path.push((entry.key.clone(), entry.key_span.clone()));
        match &entry.node.value {
            Value::List(values) if values.is_empty() => {
                let message = format!("`sweep.{}` has no value", dotted(path));
                wrong(&entry.node.span, message, "remove the key, or give it values");
            }
            Value::List(values) => {
                let twice =
                    (1..values.len()).find(|&i| values[..i].iter().any(|v| v.value == values[i].value));
                if let Some(at) = twice {
                    let message = format!("`sweep.{}` lists a value twice", dotted(path));
                    wrong(&values[at].span, message, "remove it");
                } else {
                    axes.push(Axis { path: path.clone(), values: values.clone() });
                }
            }
            _ => collect(&entry.node, path, axes, sink),
        }
        path.pop();
    }
}

/// Whether setting `path` fixes the axis: one is a prefix of the other.
fn is_about(path: &Path, axis: &Path) -> bool {
    path.iter().zip(axis).all(|((a, _), (b, _))| a == b)
}

fn dotted(path: &Path) -> String {
    path.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(".")
}

/// For each axis, the shortest tail of its path that distinguishes it from all others.
fn names(axes: &[Axis]) -> Vec<String> {
    let tail = |axis: &Axis, parts: usize| {
        let keys: Vec<&str> = axis.path.iter().map(|(key, _)| key.as_str()).collect();
        keys[keys.len().saturating_sub(parts)..].join(".")
    };
    let name = |axis: &Axis| {
        let alone = |parts: &usize| {
            let same = axes.iter().filter(|other| tail(other, *parts) == tail(axis, *parts));
            same.count() == 1
        };
        let parts = (1..axis.path.len()).find(alone).unwrap_or(axis.path.len());
        tail(axis, parts)
    };
    axes.iter().map(name).collect()
}

/// The values as they appear in names, all distinct.
fn labels(values: &[Rc<Node>]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let label = |node: &Rc<Node>| {
        let whole = text(node);
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let short: String = whole.chars().map(plain).take(LONGEST).collect();
        let short = if short.is_empty() { "empty".to_string() } else { short };
        let mut label = short.clone();
        for number in 2.. {
            if taken.insert(label.clone()) {
                break;
            }
            label = format!("{short}-{number}");
        }
        label
    };
    values.iter().map(label).collect()
}

fn text(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => text.clone(),
        Value::Integer(integer) => integer.map_or_else(String::new, |integer| integer.to_string()),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Date => "date".to_string(),
        Value::List(items) => items.iter().map(|item| text(item)).collect::<Vec<_>>().join("-"),
        Value::Table(entries) => {
            let pairs = entries.iter().map(|entry| format!("{}-{}", entry.key, text(&entry.node)));
            pairs.collect::<Vec<_>>().join("-")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Axes and values of every combination, as they appear in names.
    fn swept(sweep: &str, fixed: &[&str]) -> Vec<String> {
        let sink = Sink::default();
        let text = format!("[stories.own.generate]\n[stories.other.generate]\n[vectors]\n{sweep}");
        let tree = tree::parse(&text, &sink).unwrap();
        let path = |dotted: &&str| dotted.split('.').map(|key| (key.to_string(), 0..0)).collect();
        let fixed: Vec<Path> = fixed.iter().map(path).collect();
        let combinations = combinations(tree, &fixed, &sink);
        assert!(sink.borrow().is_empty(), "{:?}", sink.borrow());
        let name = |c: &Combination| {
            let settings = c.settings.iter().map(|s| format!("{}={}", s.axis, s.value));
            settings.collect::<Vec<_>>().join(" ")
        };
        combinations.iter().map(name).collect()
    }

    #[test]
    fn the_last_key_changes_fastest() {
        let both = swept("[sweep]\nseed = [1, 2]\nactivations.wrap = [\"raw\", \"user\"]", &[]);
        assert_eq!(both, ["seed=1 wrap=raw", "seed=1 wrap=user", "seed=2 wrap=raw", "seed=2 wrap=user"]);
        assert_eq!(swept("", &[]), [""]);
    }

    #[test]
    fn an_axis_is_called_by_as_little_as_tells_it_from_the_others() {
        let two = "[sweep]\nstories.own.generate.top_k = [1]\nstories.other.generate.top_k = [2]\nseed = [3]";
        assert_eq!(swept(two, &[]), ["own.generate.top_k=1 other.generate.top_k=2 seed=3"]);
    }

    #[test]
    fn values_become_names_each_another() {
        let values = "[sweep]\nvectors.denoise = [\"none\", { components = 3 }, { variance = 0.5 }]\n";
        let long = "stories.own.generate.prompt = [\"A {topic}/x\", \"A {topic} x\", \"\"]";
        let names = swept(&format!("{values}{long}"), &[]);
        assert_eq!(
            names[..4],
            [
                "denoise=none prompt=A--topic--x",
                "denoise=none prompt=A--topic--x-2",
                "denoise=none prompt=empty",
                "denoise=components-3 prompt=A--topic--x"
            ]
        );
        assert_eq!(names.last().unwrap(), "denoise=variance-0.5 prompt=empty");
    }

    #[test]
    fn what_the_command_line_sets_is_no_axis() {
        let sweep = "[sweep]\nseed = [1, 2]\nvectors.denoise.components = [1, 2]";
        assert_eq!(swept(sweep, &["vectors.denoise"]), ["seed=1", "seed=2"]);
        assert_eq!(swept(sweep, &["seed", "vectors.denoise.components"]), [""]);
        assert_eq!(swept(sweep, &["vectors.center"]).len(), 4);
    }
}
