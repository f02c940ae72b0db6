//! The contents of a table of the file as declared with `params!`: keys, types, defaults, descriptions. Documentation,
//! schema and tests iterate over it. Independent of how tables are read.

use super::presets::Preset;

/// A table and all its keys.
pub struct Table {
    pub about: &'static str,
    /// Other descriptions in some cases.
    pub abouts: &'static [(Case, &'static str)],
    pub keys: &'static [Key],
}

/// One key.
#[derive(Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub of: Type,
    pub default: Default,
    pub about: &'static str,
    /// The case in which the key exists; `None`: always.
    pub only: Option<Case>,
    pub when: &'static [When],
}

/// What differs in one case.
pub struct When {
    pub case: Case,
    pub default: Option<Default>,
    pub of: Option<Type>,
    pub about: Option<&'static str>,
}

/// A case that can change a table's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// In `[stories]` and `[dialogues]`.
    Stories,
    /// In `[neutral]`.
    Neutral,
    /// In `[dialogues]`.
    Dialogues,
    /// Below a kind with this name.
    Kind(&'static str),
}

/// The texts that a table is about; tables that are not about texts count as stories.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    Stories,
    Neutral,
    Dialogues,
}

/// The context in which a table is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub texts: Texts,
    /// The selected kind; empty if none is selected yet.
    pub kind: &'static str,
}

impl Place {
    pub const TOP: Place = Place { texts: Texts::Stories, kind: "" };

    pub fn is_neutral(self) -> bool {
        self.texts == Texts::Neutral
    }

    pub fn is_dialogues(self) -> bool {
        self.texts == Texts::Dialogues
    }

    fn is(self, case: Case) -> bool {
        match case {
            Case::Stories => !self.is_neutral(),
            Case::Neutral => self.is_neutral(),
            Case::Dialogues => self.is_dialogues(),
            Case::Kind(kind) => self.kind == kind,
        }
    }
}

/// The type of a value.
#[derive(Clone, Copy)]
pub enum Type {
    Text,
    /// Letters, digits, `.`, `_`, `-`.
    Name,
    Bool,
    /// An integer from `min` to `max`.
    Integer {
        min: i64,
        max: i64,
    },
    /// A finite number from `from` (or only above it) to `to`.
    Number {
        from: f64,
        above: bool,
        to: f64,
    },
    /// One of a fixed set of words.
    Choice(fn() -> Vec<&'static str>),
    /// The name of a preset.
    Preset(&'static [Preset]),
    /// The name of a preset, or a list of strings.
    PresetOrTexts(&'static [Preset]),
    Texts,
    Numbers,
    /// A list of lists of two strings.
    Pairs,
    /// Lists of strings by user-defined names.
    NamedTexts,
    /// Strings by user-defined names.
    TextByName,
    /// Any values by user-defined names.
    Fields,
    /// A string, or any values by user-defined names.
    TextOrFields,
    /// One of a fixed set of words, or (if `layers`) a list of layers, or a table with these keys.
    Forms {
        words: &'static [&'static str],
        layers: bool,
        table: Option<&'static Table>,
    },
    Table(&'static Table),
    /// The keys of this table, in place of this one.
    Inline(&'static Table),
    /// Tables with user-defined names.
    Named(&'static Table),
    /// Such tables directly in this table, next to its keys: the key's own name is not used.
    Others(&'static Table),
    /// The table of a kind.
    Kind(Kind),
    /// Exactly one of these tables.
    Kinds(fn() -> Vec<Kind>),
    /// Exactly one of these tables for each user-defined name.
    NamedKinds(fn() -> Vec<Kind>),
    /// Lists of values under the keys of the file: `activations.from_token = [0, 50]`.
    Sweep,
}

/// The default of a key that is absent.
#[derive(Clone, Copy)]
pub enum Default {
    Required,
    /// This value, in TOML.
    Is(&'static str),
    /// No value, or one that depends on other things, described in words.
    Said(&'static str),
    /// A default that ships with the program: described in words, and in TOML.
    Ships(&'static str, &'static str),
}

/// A table that is selected by its name.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    pub table: &'static Table,
    pub texts: Texts,
}

/// An enum whose values are words in the file.
pub trait Words: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// The key's name for a field: the `r#` of a Rust keyword is removed.
pub const fn bare(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// The words of an enum.
pub fn words<T: Words>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Type {
    /// The type of a field that is not a key of the file.
    pub const NONE: Type = Type::Inline(&Table { about: "", abouts: &[], keys: &[] });

    /// Sets the inclusive lower bound.
    pub const fn at_least(self, least: f64) -> Type {
        match self {
            Type::Integer { max, .. } => Type::Integer { min: least as i64, max },
            Type::Number { to, .. } => Type::Number { from: least, above: false, to },
            _ => panic!("only numbers have bounds"),
        }
    }

    /// Sets the exclusive lower bound.
    pub const fn above(self, bound: f64) -> Type {
        match self {
            Type::Number { to, .. } => Type::Number { from: bound, above: true, to },
            _ => panic!("only numbers have a bound that they are above"),
        }
    }

    /// Sets the upper bound.
    pub const fn at_most(self, largest: f64) -> Type {
        match self {
            Type::Integer { min, .. } => Type::Integer { min, max: largest as i64 },
            Type::Number { from, above, .. } => Type::Number { from, above, to: largest },
            _ => panic!("only numbers have bounds"),
        }
    }
}

impl Key {
    /// Whether it stands for tables next to the keys.
    pub fn is_others(&self) -> bool {
        matches!(self.of, Type::Others(_))
    }

    /// The key at a place; `None` if it does not exist there.
    fn at(mut self, place: Place) -> Option<Key> {
        if self.only.is_some_and(|case| !place.is(case)) {
            return None;
        }
        for when in self.when.iter().filter(|when| place.is(when.case)) {
            self.default = when.default.unwrap_or(self.default);
            self.of = when.of.unwrap_or(self.of);
            self.about = when.about.unwrap_or(self.about);
        }
        Some(Key { about: self.about.trim_start(), ..self })
    }
}

impl Table {
    /// The keys of the table at a place.
    pub fn keys(&self, place: Place) -> Vec<Key> {
        let here = |key: &Key| match key.of {
            Type::Inline(table) => table.keys(place),
            _ => key.at(place).into_iter().collect(),
        };
        self.keys.iter().flat_map(here).collect()
    }

    /// Whether it has a key with this name, in any case.
    pub fn knows(&self, name: &str) -> bool {
        self.keys.iter().any(|key| match key.of {
            Type::Inline(table) => table.knows(name),
            _ => key.name == name,
        })
    }

    /// Its description at a place.
    pub fn about(&self, place: Place) -> &'static str {
        let other = self.abouts.iter().find(|(case, _)| place.is(*case)).map(|(_, about)| *about);
        other.unwrap_or(self.about).trim_start()
    }
}

/// A table and its place in the file.
#[derive(Clone)]
pub struct Placed {
    /// As in a header, with `<...>` for user-defined names: `stories.<name>.generate`.
    pub path: String,
    pub table: &'static Table,
    pub place: Place,
}

impl Placed {
    /// The top level of a file.
    pub fn top(table: &'static Table) -> Placed {
        Placed { path: String::new(), table, place: Place::TOP }
    }

    pub fn keys(&self) -> Vec<Key> {
        self.table.keys(self.place)
    }

    pub fn about(&self) -> &'static str {
        self.table.about(self.place)
    }

    /// Whether it has a key with this name.
    pub fn has(&self, name: &str) -> bool {
        self.keys().iter().any(|key| key.name == name && !key.is_others())
    }

    /// This table and every table below it, each once, in the order of the file.
    pub fn all(self) -> Vec<Placed> {
        let mut all: Vec<Placed> = Vec::new();
        self.add(&mut all);
        all
    }

    fn add(self, all: &mut Vec<Placed>) {
        // A table is the same below every kind, except the table of a kind itself.
        let same = |other: &Placed| {
            std::ptr::eq(other.table, self.table)
                && other.place.texts == self.place.texts
                && (other.place.kind == self.place.kind || !self.path.ends_with(self.place.kind))
        };
        if !all.iter().any(same) {
            let keys = self.keys();
            all.push(self.clone());
            keys.iter().flat_map(|key| self.below(key)).for_each(|inner| inner.add(all));
        }
    }

    /// The tables directly below one of its keys.
    pub fn below(&self, key: &Key) -> Vec<Placed> {
        let path =
            if self.path.is_empty() { key.name.to_string() } else { format!("{}.{}", self.path, key.name) };
        let (place, name) = (self.place, "<name>");
        let kinds = |path: &str, kinds: Vec<Kind>| {
            let placed = kinds.into_iter().map(|Kind { name, table, texts }| Placed {
                path: format!("{path}.{name}"),
                table,
                place: Place { texts, kind: name },
            });
            placed.collect()
        };
        match key.of {
            Type::Table(table) | Type::Forms { table: Some(table), .. } => {
                vec![Placed { path, table, place }]
            }
            Type::Kind(Kind { name, table, texts: _ }) => {
                vec![Placed { path, table, place: Place { kind: name, ..place } }]
            }
            Type::Named(table) => vec![Placed { path: format!("{path}.{name}"), table, place }],
            Type::Others(table) => vec![Placed { path: format!("{}.{name}", self.path), table, place }],
            Type::Kinds(list) => kinds(&path, list()),
            Type::NamedKinds(list) => kinds(&format!("{path}.{name}"), list()),
            _ => Vec::new(),
        }
    }
}
