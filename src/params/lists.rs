//! Values with an inner structure: choices of words, presets, lists, values of several forms.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use super::Span;
use super::presets::Preset;
use super::problem::{Problem, closest, quoted, suggestion};
use super::reader::{Form, Read, Reader, Reported};
use super::table::{Key, Type};
use super::tree::{Entry, Node, Value};
use crate::lm::layer::{EMBED, Layer};

/// A name with its location, and strings with theirs.
pub type NamedTexts = (String, Span, Vec<(String, Span)>);

impl<'s> Reader<'s> {
    /// The value of a key, or its default; `None` if it has neither or does not exist in this case.
    pub(super) fn written(&self, name: &str) -> Read<Option<Rc<Node>>> {
        self.declared(name).map_or(Ok(None), |key| self.value(&key))
    }

    pub(super) fn no_such<T>(&self, name: &str, node: &Node, written: &str, words: &[&str]) -> Read<T> {
        let message = format!("`{name}` cannot be {}", quoted(written));
        let hint = suggestion(written, "it is one of", words.iter().copied());
        self.wrong(Problem::at(node.span.clone(), message).hint(hint))
    }

    fn preset(&self, node: &Node, written: &str, presets: &'static [Preset]) -> Read<&'static Preset> {
        if let Some(preset) = presets.iter().find(|preset| preset.name == written) {
            return Ok(preset);
        }
        let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
        let mut hint = format!("presets: {}", names.join(", "));
        if let Some(meant) = closest(written, names) {
            hint = format!("did you mean `{meant}`? ({hint})");
        }
        self.wrong(
            Problem::at(node.span.clone(), format!("there is no preset {}", quoted(written))).hint(hint),
        )
    }

    /// The listed strings, or those of a preset if the key has presets.
    pub(super) fn as_entries(&self, key: &Key, node: &Node) -> Read<Vec<String>> {
        match (key.of, &node.value) {
            (Type::Preset(presets), _) => {
                Ok(self.preset(node, &self.as_text(key.name, node)?, presets)?.entries())
            }
            (Type::PresetOrTexts(presets), Value::Text(text)) => {
                Ok(self.preset(node, text, presets)?.entries())
            }
            _ => Ok(self.strings(key.name, key.name, node)?.into_iter().map(|(text, _)| text).collect()),
        }
    }

    /// Strings, each with its location: at least one, none empty, no duplicates.
    pub fn texts(&self, name: &str) -> Read<Option<Vec<(String, Span)>>> {
        self.written(name)?.map(|node| self.strings(name, name, &node)).transpose()
    }

    /// `name`: used in messages; `key`: the key that describes the values.
    fn strings(&self, name: &str, key: &str, node: &Node) -> Read<Vec<(String, Span)>> {
        let items = self.as_list(key, node, "strings")?;
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(self.meaning(key)));
        }
        let mut seen = HashSet::new();
        let mut texts = Vec::new();
        for item in items {
            let Ok(text) = self.as_text(name, item) else { continue };
            let problem = if text.trim().is_empty() {
                format!("an empty string in `{name}`")
            } else if !seen.insert(text.to_lowercase()) {
                format!("{} occurs twice in `{name}`", quoted(&text))
            } else {
                texts.push((text, item.span.clone()));
                continue;
            };
            self.note(Problem::at(item.span.clone(), problem).hint("remove it"));
        }
        if texts.len() == items.len() { Ok(texts) } else { Err(Reported) }
    }

    /// Finite numbers, each with its location: at least one, no duplicates.
    pub fn numbers(&self, name: &str) -> Read<Vec<(f64, Span)>> {
        let Some(node) = self.written(name)? else { return Err(Reported) };
        let items = self.as_list(name, &node, "numbers")?;
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(self.meaning(name)));
        }
        let mut numbers: Vec<(f64, Span)> = Vec::new();
        let mut seen = HashSet::new();
        for item in items {
            let Ok(number) = self.as_number(name, item) else { continue };
            if seen.insert(number.to_bits()) {
                numbers.push((number, item.span.clone()));
            } else {
                let problem = Problem::at(item.span.clone(), format!("{number} occurs twice in `{name}`"));
                self.note(problem.hint("remove it"));
            }
        }
        if numbers.len() == items.len() { Ok(numbers) } else { Err(Reported) }
    }

    /// Pairs of strings, each string with its location.
    pub fn pairs(&self, name: &str) -> Read<Vec<[(String, Span); 2]>> {
        let Some(node) = self.written(name)? else { return Err(Reported) };
        let mut pairs = Vec::new();
        let items = self.as_list(name, &node, "pairs")?;
        for item in items {
            let texts = match &item.value {
                Value::List(two) if two.len() == 2 => two,
                _ => {
                    let message = format!("`{name}` must be a list of pairs of strings");
                    self.note(
                        Problem::at(item.span.clone(), message).hint("a pair is `[\"happy\", \"sad\"]`"),
                    );
                    continue;
                }
            };
            if let (Ok(a), Ok(b)) = (self.as_text(name, &texts[0]), self.as_text(name, &texts[1])) {
                pairs.push([(a, texts[0].span.clone()), (b, texts[1].span.clone())]);
            }
        }
        if pairs.len() == items.len() { Ok(pairs) } else { Err(Reported) }
    }

    /// Lists of strings by name, in the order of the file, each name and string with its location. None is empty.
    pub fn named_texts(&self, name: &str) -> Read<Vec<NamedTexts>> {
        let Some(node) = self.written(name)? else { return Err(Reported) };
        let Value::Table(entries) = &node.value else {
            return self.mismatch(name, &node, "a table of lists of strings", self.expected(name));
        };
        let read = |entry: &Entry| {
            let texts = self.strings(&format!("{name}.{}", entry.key), name, &entry.node).ok()?;
            Some((entry.key.clone(), entry.key_span.clone(), texts))
        };
        let read: Vec<_> = entries.iter().filter_map(read).collect();
        if read.len() == entries.len() { Ok(read) } else { Err(Reported) }
    }

    pub(super) fn as_json(&self, name: &str, node: &Node) -> Read<serde_json::Value> {
        Ok(match &node.value {
            Value::Text(text) => text.clone().into(),
            Value::Bool(truth) => (*truth).into(),
            Value::Integer(Some(integer)) => (*integer).into(),
            Value::Number(_) => self.as_number(name, node)?.into(),
            Value::List(items) => {
                items.iter().map(|item| self.as_json(name, item)).collect::<Read<Vec<_>>>()?.into()
            }
            Value::Table(entries) => {
                let field = |entry: &Entry| Ok((entry.key.clone(), self.as_json(name, &entry.node)?));
                serde_json::Value::Object(entries.iter().map(field).collect::<Read<_>>()?)
            }
            Value::Integer(None) | Value::Date => {
                return self.mismatch(name, node, "what JSON can hold", self.expected(name));
            }
        })
    }

    /// Strings by name. None is empty.
    pub(super) fn as_text_by_name(&self, key: &Key, node: &Node) -> Read<BTreeMap<String, String>> {
        let name = key.name;
        let Value::Table(entries) = &node.value else {
            return self.mismatch(name, node, "a table of strings", self.expected(name));
        };
        let read = |entry: &Entry| {
            let label = format!("{name}.{}", entry.key);
            let text = self.as_text(&label, &entry.node).ok()?;
            if text.trim().is_empty() {
                let problem = Problem::at(entry.node.span.clone(), format!("`{label}` is empty"));
                self.note(problem.hint("remove it"));
                return None;
            }
            Some((entry.key.clone(), text))
        };
        let read: BTreeMap<_, _> = entries.iter().filter_map(read).collect();
        if read.len() == entries.len() { Ok(read) } else { Err(Reported) }
    }

    /// The same by the key's name; `None` if there is neither a value nor a default.
    pub fn forms(&self, name: &str) -> Read<Option<Form<'s>>> {
        let Some(key) = self.declared(name) else { return Ok(None) };
        self.value(&key)?.map(|node| self.form(&key, &node)).transpose()
    }

    /// A value in one of several forms.
    pub fn form(&self, key: &Key, node: &Rc<Node>) -> Read<Form<'s>> {
        let Type::Forms { words, layers, table } = key.of else { panic!("`{}` has no forms", key.name) };
        let name = key.name;
        match (&node.value, table) {
            (Value::Text(text), _) => match words.iter().find(|word| *word == text) {
                Some(word) => Ok(Form::Word(word)),
                None if closest(text, words.iter().copied()).is_some() => {
                    self.no_such(name, node, text, words)
                }
                None => {
                    let message = format!("`{name}` cannot be {}", quoted(text));
                    self.wrong(Problem::at(node.span.clone(), message).hint(self.expected(name)))
                }
            },
            (Value::List(items), _) if layers => Ok(Form::Layers(self.layers(name, node, items)?)),
            (Value::Table(_), Some(table)) => Ok(Form::Table(self.table(name, node.clone(), table)?)),
            (Value::Integer(_), _) if layers => {
                self.mismatch(name, node, "a list", "write it in brackets: `[...]`".into())
            }
            _ => {
                let message = format!("`{name}` cannot be {}", node.value.kind());
                self.wrong(Problem::at(node.span.clone(), message).hint(self.expected(name)))
            }
        }
    }

    /// Block numbers, and the word for the embedding: at least one, no duplicates; sorted.
    fn layers(&self, name: &str, node: &Node, items: &[Rc<Node>]) -> Read<Vec<Layer>> {
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(self.expected(name)));
        }
        let mut layers = BTreeSet::new();
        for item in items {
            let layer = match &item.value {
                Value::Text(text) if text == EMBED => Ok(Layer::Embed),
                Value::Text(text) if closest(text, [EMBED]).is_some() => {
                    self.no_such(name, item, text, &[EMBED])
                }
                _ => self.as_between(name, item, 0, i64::MAX).map(Layer::Block),
            };
            let Ok(layer) = layer else { continue };
            if !layers.insert(layer) {
                let problem = Problem::at(item.span.clone(), format!("{layer} occurs twice in `{name}`"));
                self.note(problem.hint("remove it"));
            }
        }
        if layers.len() == items.len() { Ok(layers.into_iter().collect()) } else { Err(Reported) }
    }
}
