//! Reads values from a TOML table according to the declaration of its keys, and reports all problems. Independent of
//! the meaning of keys.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::Span;
use super::problem::{Problem, closest, quoted, suggestion};
use super::table::{Default, Key, Kind, Place, Placed, Table, Type};
use super::tree::{Entry, Node, Sink, Value as Written, literal};
use super::value::Value;
use crate::lm::Layer;

/// Unknown keys of one table beyond this number are not reported individually.
const MANY: usize = 200;

/// The problem has already been reported.
#[derive(Clone, Copy, Debug)]
pub struct Reported;

/// A value, or a problem that has already been reported.
pub type Read<T> = Result<T, Reported>;

/// What all tables of a file share.
pub struct Scope {
    /// The problems so far.
    pub problems: Sink,
    /// The top level of the file, from which every table can be reached.
    pub top: Placed,
    /// The folder that relative paths start from.
    pub project: PathBuf,
    /// The whole file.
    pub file: Rc<Node>,
    /// The experiment's emotions, set once they have been read without problems.
    pub emotions: OnceCell<Vec<String>>,
    /// The kept layers, set once they have been read, if they are listed explicitly.
    pub kept: OnceCell<Vec<Layer>>,
}

impl Scope {
    /// Whether the file has a top-level table or key with this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.find(&[name]).is_some()
    }

    /// The names in a top-level table, including tables with problems.
    pub fn names(&self, table: &str) -> impl Iterator<Item = &str> {
        let entries = self.file.find(&[table]).map(Node::entries).unwrap_or_default();
        entries.iter().map(|entry| entry.key.as_str())
    }
}

/// One table of the file.
pub struct Reader<'s> {
    pub(super) node: Rc<Node>,
    /// Its header, as in `[stories.own.generate]`; empty for the top level.
    pub label: String,
    pub place: Place,
    table: &'static Table,
    keys: Vec<Key>,
    pub scope: &'s Scope,
}

/// A value of [`Type::Forms`].
pub enum Form<'s> {
    Word(&'static str),
    /// In ascending order.
    Layers(Vec<Layer>),
    Table(Reader<'s>),
}

/// A table with a user-defined name, and its kind.
pub struct Chosen<'s> {
    pub name: String,
    pub kind: Kind,
    pub span: Span,
    pub reader: Reader<'s>,
}

impl<'s> Reader<'s> {
    /// Opens the file's top level and reports unknown keys.
    pub fn top(node: Rc<Node>, scope: &'s Scope) -> Reader<'s> {
        let reader = Reader::new(node, String::new(), scope.top.table, Place::TOP, scope);
        reader.note_unknown_keys();
        reader
    }

    /// A table whose keys are not checked yet.
    pub(super) fn new(
        node: Rc<Node>,
        label: String,
        table: &'static Table,
        place: Place,
        scope: &'s Scope,
    ) -> Reader<'s> {
        Reader { node, label, place, table, keys: table.keys(place), scope }
    }

    pub(super) fn note_unknown_keys(&self) {
        let known = |entry: &&Entry| self.is_key(&entry.key) || self.is_other(entry);
        let unknown = self.node.entries().iter().filter(|entry| !known(entry));
        unknown.take(MANY).for_each(|entry| self.unknown_key(entry));
    }

    pub(super) fn is_key(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name && !key.is_others())
    }

    /// Whether an entry belongs to [`Type::Others`]: a table that is empty or has a key of such a table.
    pub(super) fn is_other(&self, entry: &Entry) -> bool {
        let table = self.keys.iter().find_map(|key| match key.of {
            Type::Others(table) => Some(table),
            _ => None,
        });
        let inner = entry.node.entries();
        !self.is_key(&entry.key)
            && table.is_some_and(|table| {
                inner.iter().any(|inner| table.knows(&inner.key))
                    || inner.is_empty() && matches!(entry.node.value, Written::Table(_))
            })
    }

    fn unknown_key(&self, entry: &Entry) {
        let place = if self.label.is_empty() {
            "at the top of the file".into()
        } else {
            format!("in `[{}]`", self.label)
        };
        let known = self.keys.iter().filter(|key| !key.is_others()).map(|key| key.name);
        let elsewhere = self.scope.top.clone().all().into_iter().find(|table| table.has(&entry.key));
        let hint = match (closest(&entry.key, known.clone()), elsewhere) {
            (None, Some(table)) if table.path.is_empty() => {
                format!("`{}` belongs at the top of the file, before the first `[table]`", entry.key)
            }
            (None, Some(table)) => format!("`{}` belongs in `[{}]`", entry.key, table.path),
            _ => suggestion(&entry.key, "known keys", known),
        };
        let message = format!("unknown key {} {place}", quoted(&entry.key));
        self.note(Problem::at(entry.key_span.clone(), message).hint(hint));
    }

    /// Reports a problem.
    pub fn note(&self, problem: Problem) {
        self.scope.problems.borrow_mut().push(problem);
    }

    /// Reports a problem instead of returning a value.
    pub fn wrong<T>(&self, problem: Problem) -> Read<T> {
        self.note(problem);
        Err(Reported)
    }

    /// The location of the table itself.
    pub fn span(&self) -> Span {
        self.node.span.clone()
    }

    /// The declaration of a key in this case; `None` if it only exists in other cases.
    pub(super) fn declared(&self, name: &str) -> Option<Key> {
        let key = self.keys.iter().find(|key| key.name == name);
        // Reading an undeclared key is a bug.
        assert!(key.is_some() || self.table.knows(name), "`{name}` is not declared in `{}`", self.label);
        key.copied()
    }

    /// The key's description, as part of a sentence.
    pub(super) fn meaning(&self, name: &str) -> String {
        self.declared(name).map_or_else(String::new, |key| lower(key.about))
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.node.entries().iter().find(|entry| entry.key == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The location of a key's value, or of the table if the key is absent.
    pub fn span_of(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.node.span.clone())
    }

    /// The location of a value in a nested table, or of this table if it is absent.
    pub fn place_of(&self, path: &[&str]) -> Span {
        self.node.find(path).map_or(self.span(), |node| node.span.clone())
    }

    /// The locations of a list's items.
    pub fn spans_in(&self, name: &str) -> Vec<Span> {
        match self.entry(name).map(|entry| &entry.node.value) {
            Some(Written::List(items)) => items.iter().map(|item| item.span.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// The location of a key, or of the table if the key is absent.
    pub fn key_span(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.key_span.clone())
    }

    pub(super) fn path(&self, name: &str) -> String {
        if self.label.is_empty() { name.to_string() } else { format!("{}.{name}", self.label) }
    }

    /// A key's value or default.
    pub fn get<T: Value>(&self, name: &str) -> Read<T> {
        let written = self.declared(name).map(|key| Ok((key, self.value(&key)?))).transpose()?;
        match written {
            Some((key, Some(node))) => T::parse(self, &key, &node),
            _ => {
                Ok(T::absent(self).unwrap_or_else(|| panic!("`{name}` needs a default in `{}`", self.label)))
            }
        }
    }

    /// A key's value or default as a TOML node; `None` if it has neither.
    pub(super) fn value(&self, key: &Key) -> Read<Option<Rc<Node>>> {
        let name = key.name;
        if let Some(entry) = self.entry(name) {
            return Ok(Some(entry.node.clone()));
        }
        match key.default {
            Default::Is(text) | Default::Ships(_, text) => Ok(Some(Rc::new(literal(text, &self.span())))),
            Default::Said(_) => Ok(None),
            Default::Required if matches!(key.of, Type::Named(_) | Type::Table(_) | Type::NamedKinds(_)) => {
                let header = match key.of {
                    Type::Named(_) => format!("[{name}.<name>]"),
                    Type::NamedKinds(kinds) => format!("[{name}.<name>.{}]", kinds()[0].name),
                    _ => format!("[{name}]"),
                };
                let message = format!("the experiment has no `[{}]`", self.path(name));
                self.wrong(
                    Problem::at(self.span(), message)
                        .hint(format!("add a table `{header}`: {}", lower(key.about))),
                )
            }
            Default::Required => {
                let message = format!("`[{}]` has no `{name}`", self.label);
                self.wrong(
                    Problem::at(self.span(), message).hint(format!("add `{name}`: {}", lower(key.about))),
                )
            }
        }
    }

    pub(super) fn mismatch<T>(&self, name: &str, node: &Node, wanted: &str, hint: String) -> Read<T> {
        let message = format!("`{name}` must be {wanted}, not {}", node.value.kind());
        self.wrong(Problem::at(node.span.clone(), message).hint(hint))
    }

    /// A hint with the allowed values of the key.
    pub(super) fn expected(&self, name: &str) -> String {
        self.declared(name).map_or_else(String::new, |key| format!("`{name}` is: {}", key.of))
    }

    pub(super) fn as_text(&self, name: &str, node: &Node) -> Read<String> {
        match &node.value {
            Written::Text(text) => Ok(text.clone()),
            _ => self.mismatch(name, node, "a string", "write it in double quotes".into()),
        }
    }

    /// An integer within the key's bounds.
    pub(super) fn as_integer(&self, key: &Key, node: &Node) -> Read<usize> {
        let Type::Integer { min, max } = key.of else { panic!("`{}` is not an integer", key.name) };
        self.as_between(key.name, node, min, max)
    }

    pub(super) fn as_between(&self, name: &str, node: &Node, min: i64, max: i64) -> Read<usize> {
        let integer = match &node.value {
            Written::Integer(integer) => *integer,
            Written::Text(text) if text.trim().parse::<i64>().is_ok() => {
                return self.mismatch(
                    name,
                    node,
                    "an integer",
                    format!("write {} without quotes", text.trim()),
                );
            }
            _ => return self.mismatch(name, node, "an integer", self.expected(name)),
        };
        let fits = integer
            .filter(|integer| (min..=max).contains(integer))
            .and_then(|integer| usize::try_from(integer).ok());
        match fits {
            Some(integer) => Ok(integer),
            None => {
                let bound = if integer.is_some_and(|integer| integer < min) {
                    format!("at least {min}")
                } else if max == i64::MAX {
                    "a 64-bit integer".to_string()
                } else {
                    format!("at most {max}")
                };
                let message = format!("`{name}` must be {bound}");
                self.wrong(Problem::at(node.span.clone(), message).hint(self.expected(name)))
            }
        }
    }

    /// A finite number.
    pub(super) fn as_number(&self, name: &str, node: &Node) -> Read<f64> {
        let number = match &node.value {
            Written::Integer(Some(integer)) => *integer as f64,
            Written::Number(number) => *number,
            Written::Text(text) if text.trim().parse::<f64>().is_ok() => {
                return self.mismatch(
                    name,
                    node,
                    "a number",
                    format!("write {} without quotes", text.trim()),
                );
            }
            _ => return self.mismatch(name, node, "a number", self.expected(name)),
        };
        if number.is_finite() {
            return Ok(number);
        }
        let message = format!("`{name}` must be a finite number");
        self.wrong(Problem::at(node.span.clone(), message).hint("NaN and infinities are not allowed"))
    }

    pub(super) fn as_list<'n>(&self, name: &str, node: &'n Node, of: &str) -> Read<&'n [Rc<Node>]> {
        match &node.value {
            Written::List(items) => Ok(items),
            Written::Table(_) => self.mismatch(name, node, &format!("a list of {of}"), self.expected(name)),
            _ => {
                self.mismatch(name, node, &format!("a list of {of}"), "write it in brackets: `[...]`".into())
            }
        }
    }

    /// A finite number within the key's bounds.
    pub(super) fn as_bounded(&self, key: &Key, node: &Node) -> Read<f64> {
        let Type::Number { from, above, to } = key.of else { panic!("`{}` is not a number", key.name) };
        let number = self.as_number(key.name, node)?;
        if number > to || number < from || (above && number == from) {
            let low = if above { format!("above {from}") } else { format!("at least {from}") };
            let message = format!("`{}` must be {low} and at most {to}", key.name);
            return self.wrong(Problem::at(node.span.clone(), message).hint(lower(key.about)));
        }
        Ok(number)
    }

    /// A non-empty string.
    pub fn filled(&self, name: &str) -> Read<String> {
        let text: String = self.get(name)?;
        self.with_something_in_it(name, text)
    }

    pub fn with_something_in_it(&self, name: &str, text: String) -> Read<String> {
        if text.trim().is_empty() {
            let problem = Problem::at(self.span_of(name), format!("`{name}` is empty"));
            return self.wrong(problem.hint(self.meaning(name)));
        }
        Ok(text)
    }
}

/// A sentence as part of another: first letter in lower case (unless it starts a name), no full stop.
pub(super) fn lower(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut characters = sentence.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(sentence.chars().skip(1)).collect()
        }
        _ => sentence.to_string(),
    }
}
