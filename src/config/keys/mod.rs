//! Every key of an experiment file, once: type, default, meaning. Reader, document and tests are loops over it.

use std::fmt::Write;

use super::presets::Preset;

mod across;
mod analyses;
mod list;
mod sources;

pub use analyses::ANALYSES;
pub use list::ROOT;
pub use sources::{NEUTRAL, STORIES};

/// A table and all the keys it may have.
pub struct Table {
    /// As in a header, with `<...>` for what the user names: `stories.<name>.generate`.
    pub path: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// One key.
pub struct Key {
    pub name: &'static str,
    pub of: Type,
    pub default: Default,
    pub about: &'static str,
}

/// What a value may be.
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
    /// One of a few words, or (where `layers`) a list of layers, or a table of these keys.
    Forms {
        words: &'static [&'static str],
        layers: bool,
        table: Option<&'static Table>,
    },
    Table(&'static Table),
    /// Tables under names of the user's.
    Named(&'static Table),
    /// Exactly one of these tables.
    Kinds(&'static [Kind]),
    /// Under names of the user's, exactly one of these tables each.
    NamedKinds(&'static [Kind]),
    /// Lists of values under the keys of the file: `activations.from_token = [0, 50]`.
    Sweep,
}

/// What holds when a key is not written.
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
pub struct Kind {
    pub name: &'static str,
    pub table: &'static Table,
}

/// An enum whose values are words in the file.
pub trait Words: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// The words of an enum.
pub fn words<T: Words>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}
const fn key(name: &'static str, of: Type, default: Default, about: &'static str) -> Key {
    Key { name, of, default, about }
}

const fn at_least(min: i64) -> Type {
    Type::Integer { min, max: i64::MAX }
}

impl Table {
    /// A key by its name.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// This table in Markdown: what it is for, and its keys.
    pub fn markdown(&self) -> String {
        let header = if self.path.is_empty() { String::new() } else { format!("`[{}]`: ", self.path) };
        let mut text =
            format!("\n{header}{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", self.about);
        for key in self.keys {
            let default = match key.default {
                Default::Required => "required".to_string(),
                Default::Is(value) => format!("`{value}`"),
                Default::Said(said) | Default::Ships(said, _) => said.to_string(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} |",
                key.name,
                key.of,
                key.about.replace('|', "\\|")
            );
        }
        text.push('\n');
        text
    }

    /// The tables right below this one.
    fn inner(&self) -> Vec<&'static Table> {
        let tables = |of: &Type| match of {
            Type::Table(table) | Type::Named(table) | Type::Forms { table: Some(table), .. } => vec![*table],
            Type::Kinds(kinds) | Type::NamedKinds(kinds) => kinds.iter().map(|kind| kind.table).collect(),
            _ => Vec::new(),
        };
        self.keys.iter().flat_map(|key| tables(&key.of)).collect()
    }
}

/// Every table there is, each once, in the order of the file.
pub fn tables() -> Vec<&'static Table> {
    fn add(table: &'static Table, all: &mut Vec<&'static Table>) {
        if all.iter().all(|other| other.path != table.path) {
            all.push(table);
            table.inner().into_iter().for_each(|inner| add(inner, all));
        }
    }
    let mut all = Vec::new();
    add(&ROOT, &mut all);
    all
}

/// The type in words, for a table of the document and for messages.
impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codes =
            |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        let names = |presets: &[Preset]| codes(&presets.iter().map(|preset| preset.name).collect::<Vec<_>>());
        match self {
            Type::Text => write!(f, "string"),
            Type::Name => write!(f, "name"),
            Type::Bool => write!(f, "`true` or `false`"),
            Type::Integer { min, max: i64::MAX } => write!(f, "integer, at least {min}"),
            Type::Integer { min, max } => write!(f, "integer, {min} to {max}"),
            Type::Number { from, above: true, to } => write!(f, "number, above {from}, at most {to}"),
            Type::Number { from, above: false, to } => write!(f, "number, {from} to {to}"),
            Type::Choice(words) => write!(f, "one of {}", codes(&words())),
            Type::Preset(presets) => write!(f, "one of {}", names(presets)),
            Type::PresetOrTexts(presets) => write!(f, "{}, or list of strings", names(presets)),
            Type::Texts => write!(f, "list of strings"),
            Type::Numbers => write!(f, "list of numbers"),
            Type::Pairs => write!(f, "list of pairs of strings"),
            Type::NamedTexts => write!(f, "table of lists of strings"),
            Type::TextByName => write!(f, "table of strings"),
            Type::Fields => write!(f, "table"),
            Type::Forms { words, layers, table } => {
                write!(f, "{}", codes(words))?;
                if *layers {
                    write!(f, ", list of block numbers and `\"embed\"`")?;
                }
                if let Some(table) = table {
                    write!(f, ", or table")?;
                    let keys: Vec<_> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                    write!(f, " ({})", keys.join(", "))?;
                }
                Ok(())
            }
            Type::Table(_) => write!(f, "table"),
            Type::Sweep => write!(f, "lists of values under keys of the file"),
            Type::Named(_) => write!(f, "tables by name"),
            Type::Kinds(kinds) | Type::NamedKinds(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
                let by_name =
                    if matches!(self, Type::NamedKinds(_)) { "tables by name, each" } else { "table," };
                write!(f, "{by_name} one of {}", kinds.join(", "))
            }
        }
    }
}
