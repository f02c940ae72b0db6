//! The metadata of a GGUF file: values by key, each read as the requested type. Independent of specific keys.

use anamnesis::{GgufMetadataArray as Array, GgufMetadataValue as Stored};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;

/// Values by key.
pub struct Metadata(HashMap<String, Stored>);

impl Metadata {
    /// The values found by the container's parser.
    pub(super) fn new(values: HashMap<String, Stored>) -> Metadata {
        Metadata(values)
    }

    /// All keys, in arbitrary order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether the key is present.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A string, if present.
    ///
    /// # Errors
    /// A value of another type; this holds for all methods below.
    pub fn word(&self, key: &str) -> Result<Option<&str>> {
        self.read(key, "a text", |value| value.as_string())
    }

    /// A non-negative integer, stored in any width.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.read(key, "a whole number", whole)
    }

    /// A number. A 32-bit number is read as the shortest decimal that identifies it, which is what was written: 1e-5,
    /// not 9.999999747378752e-6.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| match value {
            Stored::F32(number) => Some(decimal(*number)),
            Stored::F64(number) => Some(*number),
            _ => whole(value).map(|number| number as f64),
        })
    }

    /// A boolean.
    pub fn switch(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| value.as_bool())
    }

    /// A list of strings.
    pub fn words(&self, key: &str) -> Result<Option<&[String]>> {
        self.read(key, "a list of texts", |value| value.as_array()?.as_string_slice())
    }

    /// A list of 32-bit floats.
    pub fn numbers(&self, key: &str) -> Result<Option<&[f32]>> {
        self.read(key, "a list of numbers", |value| value.as_array()?.as_f32_slice())
    }

    /// A list of integers that fit `i64`.
    pub fn wholes(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.read(key, "a list of whole numbers", |value| match value.as_array()? {
            Array::U8(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::I8(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::U16(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::I16(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::U32(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::I32(all) => Some(all.iter().map(|&n| n.into()).collect()),
            Array::U64(all) => all.iter().map(|&n| n.try_into().ok()).collect(),
            Array::I64(all) => Some(all.clone()),
            _ => None,
        })
    }

    /// A list of booleans.
    pub fn switches(&self, key: &str) -> Result<Option<&[bool]>> {
        self.read(key, "a list of true and false", |value| value.as_array()?.as_bool_slice())
    }

    fn read<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a Stored) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => bail!("`{key}` is {}; {wanted} is needed", shown(value)),
        }
    }
}

fn whole(value: &Stored) -> Option<u64> {
    match *value {
        Stored::U8(n) => Some(n.into()),
        Stored::U16(n) => Some(n.into()),
        Stored::U32(n) => Some(n.into()),
        Stored::U64(n) => Some(n),
        Stored::I8(n) => n.try_into().ok(),
        Stored::I16(n) => n.try_into().ok(),
        Stored::I32(n) => n.try_into().ok(),
        Stored::I64(n) => n.try_into().ok(),
        _ => None,
    }
}

/// The number with the shortest decimal that identifies `number`.
pub(super) fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::NAN)
}

fn shown(value: &Stored) -> String {
    match value {
        Stored::Array(array) => format!("a list of {}", array.len()),
        other => {
            let text = format!("{other:?}");
            let cut: String = text.chars().take(60).collect();
            if cut.len() < text.len() { format!("{cut}...") } else { text }
        }
    }
}

/// The value, or an error that `key` is missing.
pub(super) fn needed<T>(key: &str, value: Option<T>) -> Result<T> {
    value.with_context(|| format!("`{key}` is missing"))
}
