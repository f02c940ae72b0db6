//! Takes values out of a TOML table as the list of keys declares them, and notes whatever is wrong.
//! Knows types and defaults, but no key's meaning.

use std::collections::HashSet;
use std::rc::Rc;

use super::Span;
use super::keys::{self, Default, Key, Kind, Table, Type, Words};
use super::presets::Preset;
use super::problem::{Problem, closest, quoted, suggestion};
use super::tree::{Entry, Node, Sink, Value, literal};

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
    Integers(Vec<usize>),
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
        for entry in reader.node.entries() {
            if table.key(&entry.key).is_none() {
                reader.unknown_key(entry);
            }
        }
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
            Default::Is(text) => Ok(Some(Rc::new(literal(text, &self.span())))),
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
                        .hint(format!("add a table `{header}`; {}", lower(key.about))),
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

    /// One of an enum's words.
    pub fn maybe_choice<T: Words>(&self, name: &str) -> Read<Option<T>> {
        let Some(node) = self.value(name)? else { return Ok(None) };
        let text = self.as_text(name, &node)?;
        match T::WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => self.no_such(name, &node, &text, &keys::words::<T>()),
        }
    }

    pub fn choice<T: Words>(&self, name: &str) -> Read<T> {
        self.maybe_choice(name)?.ok_or(Reported)
    }

    fn no_such<T>(&self, name: &str, node: &Node, written: &str, words: &[&str]) -> Read<T> {
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

    /// The entries of the preset that is named.
    pub fn maybe_preset(&self, name: &str) -> Read<Option<Vec<String>>> {
        let Type::Preset(presets) = self.declared(name).of else { panic!("`{name}` is no preset") };
        let Some(node) = self.value(name)? else { return Ok(None) };
        let text = self.as_text(name, &node)?;
        Ok(Some(self.preset(&node, &text, presets)?.entries()))
    }

    /// A preset's entries, or the strings that are listed.
    pub fn preset_or_texts(&self, name: &str) -> Read<Vec<String>> {
        let Type::PresetOrTexts(presets) = self.declared(name).of else { panic!("`{name}` is no preset") };
        match self.value(name)? {
            None => Err(Reported),
            Some(node) => match &node.value {
                Value::Text(text) => Ok(self.preset(&node, text, presets)?.entries()),
                _ => Ok(self.strings(name, &node)?.into_iter().map(|(text, _)| text).collect()),
            },
        }
    }

    /// Strings, each with its place: at least one, none empty, none twice.
    pub fn texts(&self, name: &str) -> Read<Option<Vec<(String, Span)>>> {
        self.value(name)?.map(|node| self.strings(name, &node)).transpose()
    }

    fn strings(&self, name: &str, node: &Node) -> Read<Vec<(String, Span)>> {
        let items = self.as_list(name, node, "strings")?;
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(lower(self.declared(name).about)));
        }
        let mut seen = HashSet::new();
        let mut texts = Vec::new();
        for item in items {
            let Ok(text) = self.as_text(name, item) else { continue };
            let problem = if text.trim().is_empty() {
                format!("an empty string in `{name}`")
            } else if !seen.insert(text.to_lowercase()) {
                format!("{} stands twice in `{name}`", quoted(&text))
            } else {
                texts.push((text, item.span.clone()));
                continue;
            };
            self.note(Problem::at(item.span.clone(), problem).hint("take it out"));
        }
        if texts.len() == items.len() { Ok(texts) } else { Err(Reported) }
    }

    /// Finite numbers, each with its place: at least one, none twice.
    pub fn numbers(&self, name: &str) -> Read<Vec<(f64, Span)>> {
        let Some(node) = self.value(name)? else { return Err(Reported) };
        let items = self.as_list(name, &node, "numbers")?;
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(lower(self.declared(name).about)));
        }
        let mut numbers: Vec<(f64, Span)> = Vec::new();
        let mut seen = HashSet::new();
        for item in items {
            let Ok(number) = self.as_number(name, item) else { continue };
            if seen.insert(number.to_bits()) {
                numbers.push((number, item.span.clone()));
            } else {
                let problem = Problem::at(item.span.clone(), format!("{number} stands twice in `{name}`"));
                self.note(problem.hint("take it out"));
            }
        }
        if numbers.len() == items.len() { Ok(numbers) } else { Err(Reported) }
    }

    /// Pairs of strings, each string with its place.
    pub fn pairs(&self, name: &str) -> Read<Vec<[(String, Span); 2]>> {
        let Some(node) = self.value(name)? else { return Err(Reported) };
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

    /// A value in one of several forms.
    pub fn forms(&self, name: &str) -> Read<Option<Form<'s>>> {
        let Type::Forms { words, integers, table } = &self.declared(name).of else {
            panic!("`{name}` has no forms")
        };
        let Some(node) = self.value(name)? else { return Ok(None) };
        match (&node.value, table) {
            (Value::Text(text), _) => match words.iter().find(|word| *word == text) {
                Some(word) => Ok(Some(Form::Word(word))),
                None if closest(text, words.iter().copied()).is_some() => {
                    self.no_such(name, &node, text, words)
                }
                None => {
                    let message = format!("`{name}` cannot be {}", quoted(text));
                    self.wrong(Problem::at(node.span.clone(), message).hint(self.expected(name)))
                }
            },
            (Value::List(items), _) if *integers => {
                Ok(Some(Form::Integers(self.indices(name, &node, items)?)))
            }
            (Value::Table(_), Some(table)) => {
                Ok(Some(Form::Table(Reader::new(node, self.path(name), table, self.sink))))
            }
            (Value::Integer(_), _) if *integers => {
                self.mismatch(name, &node, "a list", "write it in brackets: `[...]`".into())
            }
            _ => {
                let message = format!("`{name}` cannot be {}", node.value.kind());
                self.wrong(Problem::at(node.span.clone(), message).hint(self.expected(name)))
            }
        }
    }

    /// Integers from 0: at least one, none twice; sorted.
    fn indices(&self, name: &str, node: &Node, items: &[Rc<Node>]) -> Read<Vec<usize>> {
        if items.is_empty() {
            let problem = Problem::at(node.span.clone(), format!("`{name}` is an empty list"));
            return self.wrong(problem.hint(self.expected(name)));
        }
        let mut indices = std::collections::BTreeSet::new();
        for item in items {
            let Ok(index) = self.as_integer(name, item, 0, i64::MAX) else { continue };
            if !indices.insert(index) {
                let problem = Problem::at(item.span.clone(), format!("{index} stands twice in `{name}`"));
                self.note(problem.hint("take it out"));
            }
        }
        if indices.len() == items.len() { Ok(indices.into_iter().collect()) } else { Err(Reported) }
    }

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
