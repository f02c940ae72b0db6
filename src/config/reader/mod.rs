//! Takes values out of a TOML table as the list of keys declares them, and notes whatever is wrong.
//! Knows types and defaults, but no key's meaning.

mod lists;
mod tables;

use std::rc::Rc;

use super::Span;
use super::keys::{self, Default, Key, Kind, Table, Type};
use super::problem::{Problem, closest, quoted, suggestion};
use super::tree::{Entry, Node, Sink, Value, literal};
use crate::lm::Layer;

/// Unknown keys of one table beyond so many are passed over: such a file is no experiment.
const MANY: usize = 200;

/// The problem is noted already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// A value, or a problem that is noted already.
pub(super) type Read<T> = Result<T, Reported>;

/// One table of the file.
pub(super) struct Reader<'s> {
    node: Rc<Node>,
    /// Its header, as in `[stories.own.generate]`; of the top, empty.
    pub label: String,
    table: &'static Table,
    pub sink: &'s Sink,
}

/// A value of [`Type::Forms`].
pub(super) enum Form<'s> {
    Word(&'static str),
    /// In rising order.
    Layers(Vec<Layer>),
    Table(Reader<'s>),
}

/// A table under a name of the user's, and which kind of table it is.
pub(super) struct Chosen<'s> {
    pub name: String,
    pub kind: &'static Kind,
    pub span: Span,
    pub reader: Reader<'s>,
}

impl<'s> Reader<'s> {
    /// Opens a table and notes the keys it must not have.
    pub fn new(node: Rc<Node>, label: String, table: &'static Table, sink: &'s Sink) -> Reader<'s> {
        let reader = Reader { node, label, table, sink };
        let unknown = reader.node.entries().iter().filter(|entry| table.key(&entry.key).is_none());
        unknown.take(MANY).for_each(|entry| reader.unknown_key(entry));
        reader
    }

    fn unknown_key(&self, entry: &Entry) {
        let place = if self.label.is_empty() {
            "at the top of the file".into()
        } else {
            format!("in `[{}]`", self.label)
        };
        let known = self.table.keys.iter().map(|key| key.name);
        let elsewhere = keys::tables().into_iter().find(|table| table.key(&entry.key).is_some());
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

    /// Notes a problem.
    pub fn note(&self, problem: Problem) {
        self.sink.borrow_mut().push(problem);
    }

    /// Notes a problem in place of a value.
    pub fn wrong<T>(&self, problem: Problem) -> Read<T> {
        self.note(problem);
        Err(Reported)
    }

    /// The table itself.
    pub fn span(&self) -> Span {
        self.node.span.clone()
    }

    fn declared(&self, name: &str) -> &'static Key {
        self.table.key(name).unwrap_or_else(|| panic!("`{name}` is not declared in `{}`", self.table.path))
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.node.entries().iter().find(|entry| entry.key == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Where a key's value stands; if it is not written, the table.
    pub fn span_of(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.node.span.clone())
    }

    /// Where a key stands; if it is not written, the table.
    pub fn key_span(&self, name: &str) -> Span {
        self.entry(name).map_or(self.span(), |entry| entry.key_span.clone())
    }

    fn path(&self, name: &str) -> String {
        if self.label.is_empty() { name.to_string() } else { format!("{}.{name}", self.label) }
    }

    /// A key's value or default; `None` where it has neither.
    fn value(&self, name: &str) -> Read<Option<Rc<Node>>> {
        let key = self.declared(name);
        if let Some(entry) = self.entry(name) {
            return Ok(Some(entry.node.clone()));
        }
        match key.default {
            Default::Is(text) | Default::Ships(_, text) => Ok(Some(Rc::new(literal(text, &self.span())))),
            Default::Said(_) => Ok(None),
            Default::Required if matches!(key.of, Type::Named(_) | Type::Table(_) | Type::NamedKinds(_)) => {
                let header = match key.of {
                    Type::Named(_) => format!("[{name}.<name>]"),
                    Type::NamedKinds(kinds) => format!("[{name}.<name>.{}]", kinds[0].name),
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

    fn mismatch<T>(&self, name: &str, node: &Node, wanted: &str, hint: String) -> Read<T> {
        let message = format!("`{name}` must be {wanted}, not {}", node.value.kind());
        self.wrong(Problem::at(node.span.clone(), message).hint(hint))
    }

    /// A hint that says what the key may be, or how the written text becomes that.
    fn expected(&self, name: &str) -> String {
        format!("`{name}` is: {}", self.declared(name).of)
    }

    fn as_text(&self, name: &str, node: &Node) -> Read<String> {
        match &node.value {
            Value::Text(text) => Ok(text.clone()),
            _ => self.mismatch(name, node, "a string", "write it in double quotes".into()),
        }
    }

    fn as_integer(&self, name: &str, node: &Node, min: i64, max: i64) -> Read<usize> {
        let integer = match &node.value {
            Value::Integer(integer) => *integer,
            Value::Text(text) if text.trim().parse::<i64>().is_ok() => {
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
    fn as_number(&self, name: &str, node: &Node) -> Read<f64> {
        let number = match &node.value {
            Value::Integer(Some(integer)) => *integer as f64,
            Value::Number(number) => *number,
            Value::Text(text) if text.trim().parse::<f64>().is_ok() => {
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
        self.wrong(Problem::at(node.span.clone(), message).hint("NaN and infinities are refused everywhere"))
    }

    fn as_list<'n>(&self, name: &str, node: &'n Node, of: &str) -> Read<&'n [Rc<Node>]> {
        match &node.value {
            Value::List(items) => Ok(items),
            Value::Table(_) => self.mismatch(name, node, &format!("a list of {of}"), self.expected(name)),
            _ => {
                self.mismatch(name, node, &format!("a list of {of}"), "write it in brackets: `[...]`".into())
            }
        }
    }

    /// A string where one is written or the default.
    pub fn maybe_text(&self, name: &str) -> Read<Option<String>> {
        self.value(name)?.map(|node| self.as_text(name, &node)).transpose()
    }

    pub fn text(&self, name: &str) -> Read<String> {
        self.maybe_text(name)?.ok_or(Reported)
    }

    /// A string with something in it.
    pub fn filled(&self, name: &str) -> Read<String> {
        let text = self.text(name)?;
        if text.trim().is_empty() {
            let problem = Problem::at(self.span_of(name), format!("`{name}` is empty"));
            return self.wrong(problem.hint(lower(self.declared(name).about)));
        }
        Ok(text)
    }

    pub fn boolean(&self, name: &str) -> Read<bool> {
        let Some(node) = self.value(name)? else { return Err(Reported) };
        match &node.value {
            Value::Bool(truth) => Ok(*truth),
            _ => {
                self.mismatch(name, &node, "true or false", "write `true` or `false`, without quotes".into())
            }
        }
    }

    pub fn maybe_integer(&self, name: &str) -> Read<Option<usize>> {
        let Type::Integer { min, max } = self.declared(name).of else { panic!("`{name}` is no integer") };
        self.value(name)?.map(|node| self.as_integer(name, &node, min, max)).transpose()
    }

    pub fn integer(&self, name: &str) -> Read<usize> {
        self.maybe_integer(name)?.ok_or(Reported)
    }

    pub fn maybe_number(&self, name: &str) -> Read<Option<f64>> {
        let Type::Number { from, above, to } = self.declared(name).of else {
            panic!("`{name}` is no number")
        };
        let Some(node) = self.value(name)? else { return Ok(None) };
        let number = self.as_number(name, &node)?;
        if number > to || number < from || (above && number == from) {
            let low = if above { format!("above {from}") } else { format!("at least {from}") };
            let message = format!("`{name}` must be {low} and at most {to}");
            return self
                .wrong(Problem::at(node.span.clone(), message).hint(lower(self.declared(name).about)));
        }
        Ok(Some(number))
    }

    pub fn number(&self, name: &str) -> Read<f64> {
        self.maybe_number(name)?.ok_or(Reported)
    }
}

/// A sentence as a part of another: first letter small (unless a name follows), no full stop.
fn lower(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut characters = sentence.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(sentence.chars().skip(1)).collect()
        }
        _ => sentence.to_string(),
    }
}
