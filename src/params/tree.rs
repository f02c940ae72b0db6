//! The TOML tree with the location of each value, and `--set` arguments applied to it. Independent of particular keys.

use std::cell::RefCell;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;
use super::problem::{Problem, quoted};

/// Where problems are collected.
pub type Sink = RefCell<Vec<Problem>>;

/// The keys that lead to a value, each with its location.
pub type Path = Vec<(String, Span)>;

/// A value and its location.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value; for a `[table]`, its header.
    pub span: Span,
    pub value: Value,
}

/// Values are equal if their contents are, regardless of location.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    /// `None`: does not fit into 64 bits.
    Integer(Option<i64>),
    Number(f64),
    Bool(bool),
    Date,
    List(Vec<Rc<Node>>),
    /// In the order of the file.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Rc<Node>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key == other.key && self.node == other.node
    }
}

impl Value {
    /// The type's name, as used in a sentence.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Number(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::Date => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

impl Node {
    /// The entries of a table; empty for other values.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The string, if the value is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Removes a key from a table.
    pub fn take(&mut self, key: &str) -> Option<Rc<Node>> {
        let Value::Table(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at).node)
    }

    /// The value at a path of keys.
    pub fn find(&self, path: &[&str]) -> Option<&Node> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        self.entries().iter().find(|entry| entry.key == *first)?.node.find(rest)
    }
}

/// Parses a document. `None`: not TOML, so that nothing further can be checked.
pub fn parse(text: &str, sink: &Sink) -> Option<Node> {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(first) if is_duplicate(&first) => {
            let (table, errors) = DeTable::parse_recoverable(text);
            if let Some(error) = errors.iter().find(|error| !is_duplicate(error)) {
                sink.borrow_mut().push(syntax(text, error));
                return None;
            }
            sink.borrow_mut().extend(duplicates(text, &errors));
            table
        }
        Err(error) => {
            sink.borrow_mut().push(syntax(text, &error));
            return None;
        }
    };
    Some(Node { span: 0..0, value: Value::Table(entries(table.get_ref(), 0)) })
}

/// Parses a value written in the program itself, such as a default.
pub fn literal(text: &str, span: &Span) -> Node {
    let value = DeValue::parse(text.trim()).unwrap_or_else(|error| panic!("default {text}: {error}"));
    let mut node = node(&value, 0);
    place(&mut node, span);
    node
}

/// Assigns one location to a whole tree.
fn place(node: &mut Node, span: &Span) {
    node.span = span.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| place(Rc::make_mut(item), span)),
        Value::Table(entries) => {
            for entry in entries {
                entry.key_span = span.clone();
                place(Rc::make_mut(&mut entry.node), span);
            }
        }
        _ => {}
    }
}

fn node(value: &Spanned<DeValue<'_>>, base: usize) -> Node {
    let span = value.span();
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(float) => Value::Number(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(array) => Value::List(array.iter().map(|item| Rc::new(node(item, base))).collect()),
        DeValue::Table(table) => Value::Table(entries(table, base)),
    };
    Node { span: span.start + base..span.end + base, value }
}

fn entries(table: &DeTable<'_>, base: usize) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        key_span: key.span().start + base..key.span().end + base,
        node: Rc::new(node(value, base)),
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

/// Whether the parser reports a key or table that occurs twice.
fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().starts_with("duplicate key")
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    // The end of the text is a valid location too; in an empty file it is byte 0, which means "the whole file".
    let span = error.span().unwrap_or(text.len()..text.len());
    Problem::at(span, format!("not valid TOML: {}", error.message()))
        .hint("strings need double quotes, and every line is `[table]` or `key = value`")
}

/// The start of a line, and the line itself.
fn line_at(text: &str, at: usize) -> (usize, &str) {
    let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
    (start, text[start..].lines().next().unwrap_or_default().trim())
}

/// Duplicates beyond this number are not reported.
const MANY: usize = 200;

/// One problem for each duplicate key and header, but not for the keys below such a header.
fn duplicates(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut below = 0..0;
    let mut problems = Vec::new();
    for error in errors.iter().take(MANY) {
        let span = error.span().unwrap_or(0..0);
        let (start, line) = line_at(text, span.start);
        if line.starts_with('[') {
            let end = text[span.end..].find("\n[").map_or(text.len(), |at| span.end + at);
            below = start..end;
            problems.push(duplicate_header(text, span, line));
        } else if !below.contains(&start) {
            let key = quoted(&text[span.clone()]);
            problems.push(
                Problem::at(span, format!("{key} occurs twice in one table")).hint("keep one of the two"),
            );
        }
    }
    problems
}

fn duplicate_header(text: &str, span: Span, line: &str) -> Problem {
    let header = line.split('#').next().unwrap_or_default().trim();
    let earlier = text.lines().position(|other| other.split('#').next().unwrap_or_default().trim() == header);
    let first = earlier.map(|index| format!(", first in line {}", index + 1)).unwrap_or_default();
    let inner = header.trim_matches(['[', ']']);
    let mut path = inner.split('.').map(str::trim);
    let hint = match (path.next(), path.next(), path.next()) {
        (Some(group @ ("stories" | "dialogues" | "analysis")), Some(name), Some(kind)) => {
            format!("give the second one another name, such as `[{group}.{name}-2.{kind}]`")
        }
        (Some("models"), Some(name), None) => {
            format!("give the second one another name, such as `[models.{name}-2]`")
        }
        _ => "keep one of the two".to_string(),
    };
    Problem::at(span, format!("{} stands twice{first}", quoted(&format!("[{inner}]")))).hint(hint)
}

/// Applies one `key.path=value` to the tree, and returns the path. `base`: where its text starts in the byte numbering
/// of spans.
///
/// The value is parsed as TOML (`0.5`, `[1, 2]`, `"text"`) and, if that fails, taken as a string.
pub fn set(root: &mut Node, text: &str, base: usize, sink: &Sink) -> Option<Path> {
    let whole = base..base + text.len();
    let wrong = |message: String| Problem::at(whole.clone(), message).hint("write `--set key.path=value`");
    let Some((key, written)) = text.split_once('=') else {
        sink.borrow_mut().push(wrong(format!("{} has no `=`", quoted(text))));
        return None;
    };
    let document = format!("{key}=0");
    let Some(path) = DeTable::parse(&document).ok().and_then(|table| key_path(table.get_ref(), base)) else {
        sink.borrow_mut().push(wrong(format!("{} is not a path of keys", quoted(key))));
        return None;
    };
    let value_base = base + key.len() + 1 + (written.len() - written.trim_start().len());
    let written = written.trim();
    let value = match DeValue::parse(written) {
        Ok(value) => node(&value, value_base),
        Err(_) => {
            Node { span: value_base..value_base + written.len(), value: Value::Text(written.to_string()) }
        }
    };
    if let Err(problem) = lay(root, &path, value, 0) {
        sink.borrow_mut().push(problem);
    }
    Some(path)
}

/// The keys of `a.b.c=0`, each with its location.
fn key_path(table: &DeTable<'_>, base: usize) -> Option<Path> {
    let entries = entries(table, base);
    let [entry] = entries.as_slice() else { return None };
    let mut path = vec![(entry.key.clone(), entry.key_span.clone())];
    let mut node = &entry.node;
    while let Value::Table(entries) = &node.value {
        let [entry] = entries.as_slice() else { return None };
        path.push((entry.key.clone(), entry.key_span.clone()));
        node = &entry.node;
    }
    Some(path)
}

/// Tables with user-defined names: here a misspelt name would silently add work.
const NAMED: [&str; 4] = ["models", "stories", "dialogues", "analysis"];

/// Sets `value` at `path`, which starts `depth` keys below the top level.
pub fn lay(node: &mut Node, path: &[(String, Span)], value: Node, depth: usize) -> Result<(), Problem> {
    let Some(((key, key_span), rest)) = path.split_first() else {
        *node = value;
        return Ok(());
    };
    let Value::Table(entries) = &mut node.value else {
        return Err(Problem::at(
            key_span.clone(),
            format!("no key {} here: its parent is not a table", quoted(key)),
        )
        .hint("set the key before it to a table instead"));
    };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) {
        if rest.is_empty() {
            entry.key_span = key_span.clone();
        }
        let named = depth == 0 && NAMED.contains(&key.as_str());
        if let (true, Some((name, span))) = (named, rest.first()) {
            let names: Vec<&str> = entry.node.entries().iter().map(|entry| entry.key.as_str()).collect();
            if !names.contains(&name.as_str()) {
                return Err(Problem::at(
                    span.clone(),
                    format!("the file has no `[{key}.{name}]` to set a key of"),
                )
                .hint(super::problem::suggestion(name, "it has", names.iter().copied())));
            }
        }
        return lay(Rc::make_mut(&mut entry.node), rest, value, depth + 1);
    }
    let mut inner = Node { span: key_span.clone(), value: Value::Table(Vec::new()) };
    lay(&mut inner, rest, value, depth + 1)?;
    entries.push(Entry { key: key.clone(), key_span: key_span.clone(), node: Rc::new(inner) });
    Ok(())
}
