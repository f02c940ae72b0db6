//! Which types can stand as a value in the file, and how each is read.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::macros::words;
use super::reader::{Read, Reader};
use super::table::{self, Key, Table, Type, Words};
use super::tree::{Node, Value as Written};
use crate::lm::{Dtype, LensNorm, Positions, Wrap};

/// What a table of the file becomes. Implemented by `params!`.
pub trait Params: Sized {
    /// Its values as far as they could be read.
    type Parts;
    const TABLE: &'static Table;

    /// Every value, whatever is wrong with those before it.
    fn parts(reader: &Reader<'_>) -> Self::Parts;

    /// Notes what is wrong with values that are each right in themselves.
    fn check(_reader: &Reader<'_>, _parts: &Self::Parts) -> Read<()> {
        Ok(())
    }

    /// Itself, if nothing was wrong.
    fn whole(parts: Self::Parts) -> Read<Self>;

    /// Reads it, and notes every problem.
    fn read(reader: &Reader<'_>) -> Read<Self> {
        let parts = Self::parts(reader);
        let checked = Self::check(reader, &parts);
        let whole = Self::whole(parts)?;
        checked.map(|()| whole)
    }
}

/// The values of a table as far as they could be read.
pub type Parts<T> = <T as Params>::Parts;

/// Something that is the value of a key.
pub trait Value: Sized {
    const OF: Type;

    /// From what is written, or from the default.
    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self>;

    /// Where nothing is written and there is no default, or where there is no such key.
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

/// Strings: at least one, none empty, none twice; or a preset's, where the key says so.
impl Value for Vec<String> {
    const OF: Type = Type::Texts;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_entries(key, node)
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(Vec::new())
    }
}

/// Strings under names. None is empty.
impl Value for BTreeMap<String, String> {
    const OF: Type = Type::TextByName;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        reader.as_text_by_name(key, node)
    }

    fn absent(_reader: &Reader<'_>) -> Option<Self> {
        Some(BTreeMap::new())
    }
}

/// A table of any values.
impl Value for serde_json::Map<String, serde_json::Value> {
    const OF: Type = Type::Fields;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Self> {
        match reader.as_json(key.name, node)? {
            serde_json::Value::Object(fields) => Ok(fields),
            _ => reader.mismatch(key.name, node, "a table", reader.expected(key.name)),
        }
    }
}

/// A string, or a table of any values.
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

/// The keys of a table that stand in another one's.
pub fn inline<T: Params>(reader: &Reader<'_>, _name: &str) -> Read<T> {
    T::read(reader)
}

/// A string with something in it.
pub fn filled(reader: &Reader<'_>, name: &str) -> Read<String> {
    reader.filled(name)
}

/// The same, where one is written or a default.
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

    /// The words of an enum of `lm`, which says itself how it stands in keys.
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
