//! What a table of the file may hold, as structs declare it with `params!`: keys, types, defaults, meanings. Document,
//! schema and tests are loops over it. Knows nothing of how it is read.

use super::presets::Preset;

/// A table and all the keys it may have.
pub struct Table {
    pub about: &'static str,
    /// What it is about in some cases.
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
    /// Where it is a key at all; `None`: everywhere.
    pub only: Option<Case>,
    pub when: &'static [When],
}

/// What is another in some tables.
pub struct When {
    pub case: Case,
    pub default: Option<Default>,
    pub of: Option<Type>,
    pub about: Option<&'static str>,
}

/// A circumstance in which a table is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// In `[stories]` and `[dialogues]`.
    Stories,
    /// In `[neutral]`.
    Neutral,
    /// In `[dialogues]`.
    Dialogues,
    /// Below a kind of this name.
    Kind(&'static str),
}

/// Which texts a table is about; of one that is about none, stories.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Texts {
    Stories,
    Neutral,
    Dialogues,
}

/// The circumstances in which a table is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub texts: Texts,
    /// The kind that was chosen; empty: none yet.
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

/// What a value may be.
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
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>),
    /// The name of a preset.
    Preset(&'static [Preset]),
    /// The name of a preset, or a list of strings.
    PresetOrTexts(&'static [Preset]),
    Texts,
    Numbers,
    /// A list of lists of two strings.
    Pairs,
    /// Lists of strings under names of the user's.
    NamedTexts,
    /// Strings under names of the user's.
    TextByName,
    /// Any values under names of the user's.
    Fields,
    /// A string, or any values under names of the user's.
    TextOrFields,
    /// One of a few words, or (where `layers`) a list of layers, or a table of these keys.
    Forms {
        words: &'static [&'static str],
        layers: bool,
        table: Option<&'static Table>,
    },
    Table(&'static Table),
    /// The keys of this table, in the place of this one.
    Inline(&'static Table),
    /// Tables under names of the user's.
    Named(&'static Table),
    /// The same in this table itself, beside its keys: the key's own name is none.
    Others(&'static Table),
    /// The table of a kind.
    Kind(Kind),
    /// Exactly one of these tables.
    Kinds(fn() -> Vec<Kind>),
    /// Under names of the user's, exactly one of these tables each.
    NamedKinds(fn() -> Vec<Kind>),
    /// Lists of values under the keys of the file: `activations.from_token = [0, 50]`.
    Sweep,
}

/// What holds when a key is not written.
#[derive(Clone, Copy)]
pub enum Default {
    Required,
    /// This value, in TOML.
    Is(&'static str),
    /// Nothing, or what depends on other things: said in words.
    Said(&'static str),
    /// What ships with the program: said in words, and in TOML.
    Ships(&'static str, &'static str),
}

/// A table that is chosen by its name.
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

/// A field's name as the key is called: a word of Rust's own has `r#` before it.
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
    /// Of a field that is no key of the file.
    pub const NONE: Type = Type::Inline(&Table { about: "", abouts: &[], keys: &[] });

    /// With a least value.
    pub const fn at_least(self, least: f64) -> Type {
        match self {
            Type::Integer { max, .. } => Type::Integer { min: least as i64, max },
            Type::Number { to, .. } => Type::Number { from: least, above: false, to },
            _ => panic!("only numbers have bounds"),
        }
    }

    /// With a value that is too small by nothing.
    pub const fn above(self, bound: f64) -> Type {
        match self {
            Type::Number { to, .. } => Type::Number { from: bound, above: true, to },
            _ => panic!("only numbers have a bound that they are above"),
        }
    }

    /// With a largest value.
    pub const fn at_most(self, largest: f64) -> Type {
        match self {
            Type::Integer { min, .. } => Type::Integer { min, max: largest as i64 },
            Type::Number { from, above, .. } => Type::Number { from, above, to: largest },
            _ => panic!("only numbers have bounds"),
        }
    }
}

impl Key {
    /// Whether it stands for tables beside the keys.
    pub fn is_others(&self) -> bool {
        matches!(self.of, Type::Others(_))
    }

    /// Itself as it is at a place; `None`: it is no key there.
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
    /// The keys that it has at a place.
    pub fn keys(&self, place: Place) -> Vec<Key> {
        let here = |key: &Key| match key.of {
            Type::Inline(table) => table.keys(place),
            _ => key.at(place).into_iter().collect(),
        };
        self.keys.iter().flat_map(here).collect()
    }

    /// Whether it has a key of this name, in whatever case.
    pub fn knows(&self, name: &str) -> bool {
        self.keys.iter().any(|key| match key.of {
            Type::Inline(table) => table.knows(name),
            _ => key.name == name,
        })
    }

    /// What it is about at a place.
    pub fn about(&self, place: Place) -> &'static str {
        let other = self.abouts.iter().find(|(case, _)| place.is(*case)).map(|(_, about)| *about);
        other.unwrap_or(self.about).trim_start()
    }
}

/// A table where it stands in the file.
#[derive(Clone)]
pub struct Placed {
    /// As in a header, with `<...>` for what the user names: `stories.<name>.generate`.
    pub path: String,
    pub table: &'static Table,
    pub place: Place,
}

impl Placed {
    /// The top of a file.
    pub fn top(table: &'static Table) -> Placed {
        Placed { path: String::new(), table, place: Place::TOP }
    }

    pub fn keys(&self) -> Vec<Key> {
        self.table.keys(self.place)
    }

    pub fn about(&self) -> &'static str {
        self.table.about(self.place)
    }

    /// Whether it has a key of this name.
    pub fn has(&self, name: &str) -> bool {
        self.keys().iter().any(|key| key.name == name && !key.is_others())
    }

    /// Itself and every table below it, each once, in the order of the file.
    pub fn all(self) -> Vec<Placed> {
        let mut all: Vec<Placed> = Vec::new();
        self.add(&mut all);
        all
    }

    fn add(self, all: &mut Vec<Placed>) {
        // Below one kind a table is as below another; the table of the kind itself may not be.
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

    /// The tables right below one of its keys.
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
