//! Tables: of fixed keys, under names of the user's, of one kind out of several.

use std::rc::Rc;

use super::{Chosen, Read, Reader, Reported};
use crate::config::Span;
use crate::config::keys::{Default, Kind, Table, Type};
use crate::config::problem::{Problem, closest, quoted, suggestion};
use crate::config::tree::{Entry, Node, Value};

impl<'s> Reader<'s> {
    fn table(&self, name: &str, node: Rc<Node>, table: &'static Table) -> Read<Reader<'s>> {
        match &node.value {
            Value::Table(_) => Ok(Reader::new(node, self.path(name), table, self.sink)),
            _ => {
                let keys: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
                let hint = format!("its keys are: {}", keys.join(", "));
                let message = format!("`{}` must be a table, not {}", self.path(name), node.value.kind());
                self.wrong(Problem::at(node.span.clone(), message).hint(hint))
            }
        }
    }

    /// A table of fixed keys.
    pub fn inner(&self, name: &str) -> Read<Reader<'s>> {
        let Type::Table(table) = self.declared(name).of else { panic!("`{name}` is no table") };
        let Some(node) = self.value(name)? else { return Err(Reported) };
        self.table(name, node, table)
    }

    /// The entries of a table of names; names that are none are noted.
    fn named_entries(&self, name: &str) -> Read<(Vec<Entry>, Reader<'s>)> {
        let Some(node) = self.value(name)? else { return Err(Reported) };
        let Value::Table(entries) = &node.value else {
            let message = format!("`{name}` must be tables by name, not {}", node.value.kind());
            return self
                .wrong(Problem::at(node.span.clone(), message).hint(format!("write `[{name}.<name>]`")));
        };
        let entries = entries.clone();
        for entry in &entries {
            self.check_name(&entry.key, &entry.key_span);
        }
        // No key of such a table is known beforehand.
        let reader = Reader { node, label: self.path(name), table: self.table, sink: self.sink };
        Ok((entries, reader))
    }

    /// Notes a name that is none.
    pub fn check_name(&self, name: &str, span: &Span) {
        let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if name.is_empty() || name == "." || name == ".." || name.len() > 100 || !name.chars().all(fits) {
            let message = format!("{} cannot be a name", quoted(name));
            let hint = "a name is 1 to 100 letters, digits, `.`, `_` and `-` (but not `.` or `..`)";
            self.note(Problem::at(span.clone(), message).hint(hint));
        }
    }

    /// Tables by name, in the order of the file.
    pub fn named(&self, name: &str) -> Read<Vec<(Entry, Reader<'s>)>> {
        let Type::Named(table) = self.declared(name).of else { panic!("`{name}` has no names") };
        let (entries, group) = self.named_entries(name)?;
        if entries.is_empty() {
            let problem = Problem::at(self.span_of(name), format!("`[{name}]` is empty"));
            return self.wrong(problem.hint(format!("add a table `[{name}.<name>]`")));
        }
        let count = entries.len();
        let open = |entry: Entry| Some((entry.clone(), group.table(&entry.key, entry.node, table).ok()?));
        let tables: Vec<_> = entries.into_iter().filter_map(open).collect();
        if tables.len() == count { Ok(tables) } else { Err(Reported) }
    }

    /// Tables by name, each of one kind, in the order of the file. Those with problems of their own are left out.
    pub fn named_kinds(&self, name: &str) -> Read<Vec<Chosen<'s>>> {
        let Type::NamedKinds(kinds) = self.declared(name).of else { panic!("`{name}` has no kinds") };
        let required = matches!(self.declared(name).default, Default::Required);
        let (entries, group) = self.named_entries(name)?;
        if entries.is_empty() && required {
            let problem = Problem::at(self.span_of(name), format!("`[{name}]` is empty"));
            return self.wrong(problem.hint(format!("add a table `[{name}.<name>.{}]`", kinds[0].name)));
        }
        let choose = |entry: &Entry| group.choose(&entry.key, &entry.key_span, &entry.node, kinds).ok();
        Ok(entries.iter().filter_map(choose).collect())
    }

    /// One table of one kind, where there is one.
    pub fn kinds(&self, name: &str) -> Read<Option<Chosen<'s>>> {
        let Type::Kinds(kinds) = self.declared(name).of else { panic!("`{name}` has no kinds") };
        let Some(entry) = self.entry(name) else { return Ok(None) };
        self.choose(name, &entry.key_span, &entry.node, kinds).map(Some)
    }

    fn choose(&self, name: &str, name_span: &Span, node: &Node, kinds: &'static [Kind]) -> Read<Chosen<'s>> {
        let label = self.path(name);
        let names = kinds.iter().map(|kind| kind.name);
        let Value::Table(entries) = &node.value else {
            let message = format!("`{label}` must be a table, not {}", node.value.kind());
            let hint = format!("write `[{label}.<kind>]`; kinds: {}", names.collect::<Vec<_>>().join(", "));
            return self.wrong(Problem::at(node.span.clone(), message).hint(hint));
        };
        let [entry] = entries.as_slice() else {
            let Some(second) = entries.get(1) else {
                let hint =
                    format!("write `[{label}.<kind>]`; kinds: {}", names.collect::<Vec<_>>().join(", "));
                return self
                    .wrong(Problem::at(name_span.clone(), format!("`[{label}]` has no kind")).hint(hint));
            };
            let unknown: Vec<_> =
                entries.iter().filter(|entry| names.clone().all(|name| name != entry.key)).collect();
            if unknown.is_empty() {
                let message = format!("`{label}` has two kinds, `{}` and `{}`", entries[0].key, second.key);
                let hint = match self.label.as_str() {
                    "" => "keep one of the two".to_string(),
                    group => format!("give each a name of its own: `[{group}.<name>.{}]`", second.key),
                };
                return self.wrong(Problem::at(second.key_span.clone(), message).hint(hint));
            }
            for entry in unknown {
                self.unknown_kind(&label, entry, kinds);
            }
            return Err(Reported);
        };
        let Some(kind) = kinds.iter().find(|kind| kind.name == entry.key) else {
            self.unknown_kind(&label, entry, kinds);
            return Err(Reported);
        };
        let group = Reader { node: Rc::new(node.clone()), label, table: self.table, sink: self.sink };
        let reader = group.table(kind.name, entry.node.clone(), kind.table)?;
        Ok(Chosen { name: name.to_string(), kind, span: entry.node.span.clone(), reader })
    }

    fn unknown_kind(&self, label: &str, entry: &Entry, kinds: &'static [Kind]) {
        let names = kinds.iter().map(|kind| kind.name);
        let written = &entry.key;
        let forgotten = kinds.iter().find(|kind| kind.table.key(written).is_some());
        let hint = match (closest(written, names.clone()), forgotten) {
            (None, Some(kind)) => format!("`{written}` is a key of a kind, as in `[{label}.{}]`", kind.name),
            _ => suggestion(written, "kinds", names),
        };
        let message = format!("unknown kind {} in `[{label}]`", quoted(written));
        self.note(Problem::at(entry.key_span.clone(), message).hint(hint));
    }
}
