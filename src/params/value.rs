//! The types that can be values in the file, and how each is read.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::macros::words;
use super::reader::{Read, Reader};
use super::table::{self, Key, Table, Type, Words};
use super::tree::{Node, Value as Written};
use crate::lm::{Dtype, LensNorm, Positions, Wrap};

/// A struct that a table of the file is parsed into. Implemented by `params!`.
pub trait Params: Sized {
    /// Its values, as far as they could be read.
    type Parts;
    const TABLE: &'static Table;

    /// Reads every value, even after problems in earlier ones.
    fn parts(reader: &Reader<'_>) -> Self::Parts;

    /// Reports problems across values that are each valid on their own.
    fn check(_reader: &Reader<'_>, _parts: &Self::Parts) -> Read<()> {
        Ok(())
    }

    /// The struct, if there were no problems.
    fn whole(parts: Self::Parts) -> Read<Self>;

    /// Reads the table and reports every problem.
    fn read(reader: &Reader<'_>) -> Read<Self> {
        let parts = Self::parts(reader);
        let checked = Self::check(reader, &parts);
        let whole = Self::whole(parts)?;
        checked.map(|()| whole)
    }
}

/// The values of a table, as far as they could be read.
pub type Parts<T> = <T as Params>::Parts;

/// A type that can be the value of a key.
pub trait Value: Sized {
    const OF: Type;

    /// Parses a value from the file, or the default.
    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self>;

    /// The value if nothing is written and there is no default, or if there is no such key.
    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const OF: Type = T::OF;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        T::parse(reader, key, node).map(Some)
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(None)
    }
}

impl<T: Words> Value for T {
    const OF: Type = Type::Choice(table::words::<T>);

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        let text = reader.as_text(key.name, node)?;
        match T::WORDS.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => reader.no_such(key.name, node, &text, &table::words::<T>()),
        }
    }
}

impl Value for bool {
    const OF: Type = Type::Bool;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        match node.value {
            Written::Bool(truth) => Ok(truth),
            _ => {
                let hint = "write `true` or `false`, without quotes";
                reader.mismatch(key.name, node, "true or false", hint.into())
            }
        }
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(false)
    }
}

impl Value for usize {
    const OF: Type = Type::Integer { min: 0, max: i64::MAX };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_integer(key, node)
    }
}

impl Value for u64 {
    const OF: Type = usize::OF;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_integer(key, node).map(|integer| integer as u64)
    }
}

impl Value for f64 {
    const OF: Type = Type::Number { from: f64::MIN, above: false, to: f64::MAX };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_bounded(key, node)
    }
}

impl Value for String {
    const OF: Type = Type::Text;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_text(key.name, node)
    }
}

/// Strings: at least one, none empty, no duplicates; or those of a preset, if the key has presets.
impl Value for Vec<String> {
    const OF: Type = Type::Texts;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_entries(key, node)
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(Vec::new())
    }
}

/// Strings by name. None is empty.
impl Value for BTreeMap<String, String> {
    const OF: Type = Type::TextByName;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_text_by_name(key, node)
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(BTreeMap::new())
    }
}

/// A table of arbitrary values.
impl Value for serde_json::Map<String, serde_json::Value> {
    const OF: Type = Type::Fields;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        match reader.as_json(key.name, node)? {
            serde_json::Value::Object(fields) => Ok(fields),
            _ => reader.mismatch(key.name, node, "a table", reader.expected(key.name)),
        }
    }
}

/// A string, or a table of arbitrary values.
pub enum TextOrFields {
    Text(String),
    Fields(serde_json::Value),
}

impl Value for TextOrFields {
    const OF: Type = Type::TextOrFields;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        match &node.value {
            Written::Text(text) => Ok(TextOrFields::Text(text.clone())),
            Written::Table(_) => reader.as_json(key.name, node).map(TextOrFields::Fields),
            _ => reader.mismatch(key.name, node, "a string or a table", reader.expected(key.name)),
        }
    }
}

/// Reads the keys of a struct that are part of another table.
pub fn inline<T: Params>(reader: &Reader<'_>, _name: &str) -> Read<T> {
    T::read(reader)
}

/// A non-empty string.
pub fn filled(reader: &Reader<'_>, name: &str) -> Read<String> {
    reader.filled(name)
}

/// The same for an optional key or one with a default.
pub fn maybe_filled(reader: &Reader<'_>, name: &str) -> Read<Option<String>> {
    reader.get::<Option<String>>(name)?.map(|text| reader.with_something_in_it(name, text)).transpose()
}

words!(Dtype { F32 = "f32", Bf16 = "bf16", F16 = "f16" });
words!(Wrap { Raw = "raw", User = "user", Assistant = "assistant" });
words!(LensNorm { None = "none", Gain = "gain", Full = "full" });
words!(Positions { All = "all", Prompt = "prompt", Generated = "generated" });

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the words of an enum of `lm`, which serialises itself in keys.
    fn check<T: Words + serde::Serialize>() {
        for (word, value) in T::WORDS {
            assert_eq!(serde_json::to_value(value).unwrap(), **word);
        }
    }

    #[test]
    fn words_of_the_file_are_those_of_keys() {
        check::<Dtype>();
        check::<Wrap>();
        check::<LensNorm>();
        check::<Positions>();
    }
}
