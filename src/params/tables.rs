//! Nested tables: with fixed keys, with user-defined names, or of one of several kinds.

use std::rc::Rc;

use super::Span;
use super::problem::{Problem, closest, quoted, suggestion};
use super::reader::{Chosen, Read, Reader, Reported};
use super::table::{Default, Kind, Place, Table, Type};
use super::tree::{Entry, Node, Value};

/// The table for user-defined names.
static UNKNOWN: Table = Table { about: "", abouts: &[], keys: &[] };

impl<'s> Reader<'s> {
    /// The table at a key or name.
    pub fn table(&self, name: &str, node: Rc<Node>, table: &'static Table) -> Read<Reader<'s>> {
        self.table_at(name, node, table, self.place)
    }

    /// The table at a key.
    pub fn inner(&self, name: &str) -> Read<Reader<'s>> {
        let Some(Type::Table(table)) = self.declared(name).map(|key| key.of) else {
            panic!("`{name}` is no table")
        };
        let Some(node) = self.written(name)? else { return Err(Reported) };
        self.table(name, node, table)
    }

    /// The table of a kind at a key, if present.
    pub fn of_kind(&self, name: &str) -> Read<Option<Reader<'s>>> {
        let Some(Type::Kind(kind)) = self.declared(name).map(|key| key.of) else {
            panic!("`{name}` is of no kind")
        };
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let place = Place { kind: kind.name, ..self.place };
        self.table_at(name, entry.node.clone(), kind.table, place).map(Some)
    }

    fn table_at(&self, name: &str, node: Rc<Node>, table: &'static Table, place: Place) -> Read<Reader<'s>> {
        let inner = Reader::new(node, self.path(name), table, place, self.scope);
        match &inner.node.value {
            Value::Table(_) => {
                inner.note_unknown_keys();
                Ok(inner)
            }
            other => {
                let keys: Vec<&str> = table.keys(place).iter().map(|key| key.name).collect();
                let hint = format!("its keys are: {}", keys.join(", "));
                let message = format!("`{}` must be a table, not {}", inner.label, other.kind());
                self.wrong(Problem::at(inner.span(), message).hint(hint))
            }
        }
    }

    /// The entries of a table of user-defined names; invalid names are reported.
    fn named_entries(&self, name: &str) -> Read<(Vec<Entry>, Reader<'s>)> {
        let Some(node) = self.written(name)? else { return Err(Reported) };
        let Value::Table(entries) = &node.value else {
            let message = format!("`{name}` must be tables by name, not {}", node.value.kind());
            return self
                .wrong(Problem::at(node.span.clone(), message).hint(format!("write `[{name}.<name>]`")));
        };
        let entries = entries.clone();
        for entry in &entries {
            let _ = self.check_name(&entry.key, &entry.key_span); // already reported
        }
        Ok((entries, self.group(self.path(name), node)))
    }

    /// A table without known keys.
    fn group(&self, label: String, node: Rc<Node>) -> Reader<'s> {
        Reader::new(node, label, &UNKNOWN, self.place, self.scope)
    }

    /// Reports an invalid name.
    pub fn check_name(&self, name: &str, span: &Span) -> Read<()> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        if name.is_empty() || name == "." || name == ".." || name.len() > 100 || !name.chars().all(fits) {
            let message = format!("{} cannot be a name", quoted(name));
            let hint = "a name is 1 to 100 letters, digits, `.`, `_` and `-` (but not `.` or `..`)";
            return self.wrong(Problem::at(span.clone(), message).hint(hint));
        }
        Ok(())
    }

    /// Tables by name, in the order of the file.
    pub fn named(&self, name: &str) -> Read<Vec<(Entry, Reader<'s>)>> {
        let Some(Type::Named(table)) = self.declared(name).map(|key| key.of) else {
            panic!("`{name}` has no names")
        };
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

    /// The tables next to the keys of this one, in the order of the file. Tables with problems are skipped.
    pub fn others(&self, table: &'static Table) -> Read<Vec<(Entry, Reader<'s>)>> {
        let entries = self.node.entries().iter().filter(|entry| self.is_other(entry)).cloned();
        let named = entries.filter(|entry| self.check_name(&entry.key, &entry.key_span).is_ok());
        Ok(named
            .filter_map(|entry| Some((entry.clone(), self.table(&entry.key, entry.node, table).ok()?)))
            .collect())
    }

    /// Tables by name, each of one kind, in the order of the file. Tables with problems are skipped.
    pub fn named_kinds(&self, name: &str) -> Read<Vec<Chosen<'s>>> {
        let declared = self.declared(name);
        let Some((Type::NamedKinds(kinds), default)) = declared.map(|key| (key.of, key.default)) else {
            panic!("`{name}` has no kinds")
        };
        let (kinds, required) = (kinds(), matches!(default, Default::Required));
        let (entries, group) = self.named_entries(name)?;
        if entries.is_empty() && required {
            let problem = Problem::at(self.span_of(name), format!("`[{name}]` is empty"));
            return self.wrong(problem.hint(format!("add a table `[{name}.<name>.{}]`", kinds[0].name)));
        }
        let choose = |entry: &Entry| group.choose(&entry.key, &entry.key_span, &entry.node, &kinds).ok();
        Ok(entries.iter().filter_map(choose).collect())
    }

    /// The one table of one kind, if present.
    pub fn kinds(&self, name: &str) -> Read<Option<Chosen<'s>>> {
        let Some(Type::Kinds(kinds)) = self.declared(name).map(|key| key.of) else {
            panic!("`{name}` has no kinds")
        };
        let Some(entry) = self.entry(name) else { return Ok(None) };
        self.choose(name, &entry.key_span, &entry.node, &kinds()).map(Some)
    }

    fn choose(&self, name: &str, name_span: &Span, node: &Node, kinds: &[Kind]) -> Read<Chosen<'s>> {
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
                    group => format!("give each its own name: `[{group}.<name>.{}]`", second.key),
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
        let group = self.group(label, Rc::new(node.clone()));
        let place = Place { texts: kind.texts, kind: kind.name };
        let reader = group.table_at(kind.name, entry.node.clone(), kind.table, place)?;
        Ok(Chosen { name: name.to_string(), kind: *kind, span: entry.node.span.clone(), reader })
    }

    fn unknown_kind(&self, label: &str, entry: &Entry, kinds: &[Kind]) {
        let names = kinds.iter().map(|kind| kind.name);
        let written = &entry.key;
        let forgotten = kinds.iter().find(|kind| kind.table.knows(written));
        let hint = match (closest(written, names.clone()), forgotten) {
            (None, Some(kind)) => format!("`{written}` is a key of a kind, as in `[{label}.{}]`", kind.name),
            _ => suggestion(written, "kinds", names),
        };
        let message = format!("unknown kind {} in `[{label}]`", quoted(written));
        self.note(Problem::at(entry.key_span.clone(), message).hint(hint));
    }
}
