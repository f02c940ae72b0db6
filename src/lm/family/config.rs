//! Typed access to the fields of an untrusted `config.json`: types, ranges, fields whose value must be understood, and
//! a record of which fields were read. Independent of any family.

use crate::lm::spec::Dtype;
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Far above any size in a real checkpoint; products of four sizes fit in 128 bits, and products of two in 64.
const LARGEST: u64 = 1 << 28;

/// One table of a `config.json`. All tables of a config share one log of the fields that were read: a field that was
/// never read does not affect what the model computes.
pub struct Fields<'a> {
    /// Prefix of field names: empty, or `text_config.`
    prefix: String,
    table: &'a Map<String, Value>,
    log: Rc<Log<'a>>,
}

/// Which fields of a config were read, by full name (with the table's prefix).
struct Log<'a> {
    /// Fields treated as absent.
    ignore: &'a [String],
    asked: RefCell<BTreeSet<String>>,
    /// Tables whose fields were read one by one.
    opened: RefCell<BTreeSet<String>>,
    /// Fields of `ignore` that were present and read.
    ignored: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// A whole `config.json`, without the fields named in `ignore` (`field`, or `table.field`).
    ///
    /// # Errors
    /// The value is not a table.
    pub fn new(config: &'a Value, ignore: &'a [String]) -> Result<Fields<'a>> {
        let table =
            config.as_object().with_context(|| format!("config.json is {config}; a table is needed"))?;
        let log = Log {
            ignore,
            asked: RefCell::default(),
            opened: RefCell::default(),
            ignored: RefCell::default(),
        };
        Ok(Fields { prefix: String::new(), table, log: Rc::new(log) })
    }

    /// The field `key` unless it is ignored; may be null.
    fn entry(&self, key: &str) -> Option<&'a Value> {
        let name = format!("{}{key}", self.prefix);
        let value = self.table.get(key);
        self.log.asked.borrow_mut().insert(name.clone());
        if value.is_some() && self.log.ignore.contains(&name) {
            self.log.ignored.borrow_mut().insert(name);
            return None;
        }
        value
    }

    /// The field `key`, if it is present and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.entry(key).filter(|v| !v.is_null())
    }

    /// Whether the field is present, possibly null.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The names of all fields.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.table.keys().map(String::as_str)
    }

    /// The table under `key`, if present.
    pub fn table(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let table = value.as_object();
        let table = table.with_context(|| format!("{} is {value}; a table is needed", self.name(key)))?;
        self.log.opened.borrow_mut().insert(format!("{}{key}", self.prefix));
        Ok(Some(Fields { prefix: format!("{}{key}.", self.prefix), table, log: self.log.clone() }))
    }

    /// Names of fields of this table and its subtables that were never read, sorted.
    pub fn unread(&self) -> Vec<String> {
        let (asked, opened) = (self.log.asked.borrow(), self.log.opened.borrow());
        let mut unread = Vec::new();
        let mut open = vec![(self.prefix.clone(), self.table)];
        while let Some((prefix, table)) = open.pop() {
            for (key, value) in table.iter().filter(|(_, value)| !value.is_null()) {
                let name = format!("{prefix}{key}");
                match value.as_object() {
                    _ if !asked.contains(&name) => unread.push(name),
                    Some(inner) if opened.contains(&name) => open.push((format!("{name}."), inner)),
                    _ => {}
                }
            }
        }
        unread.sort_unstable();
        unread
    }

    /// Names of ignored fields that were present and would have been read.
    pub fn ignored(&self) -> Vec<String> {
        self.log.ignored.borrow().iter().cloned().collect()
    }

    /// Names of all fields that were read.
    #[cfg(test)]
    pub fn asked(&self) -> BTreeSet<String> {
        self.log.asked.borrow().clone()
    }

    /// An error for an unsupported value of `key`; `why` is the reason.
    pub fn refused(&self, key: &str, why: &str) -> Error {
        let value = self.table.get(key).map(shortened).unwrap_or_default();
        anyhow!(
            "{} = {value}: {why}. With `ignore_config = [\"{}{key}\"]` in the model's table of the experiment file it is \
             read as if the field were not there",
            self.name(key),
            self.prefix
        )
    }

    /// A field's name for error messages.
    pub fn name(&self, key: &str) -> String {
        format!("config.json: `{}{key}`", self.prefix)
    }

    /// A size in `1..=2^28`, or `default` where it is absent.
    pub fn size(&self, key: &str, default: impl Into<Option<usize>>) -> Result<usize> {
        let Some(value) = self.get(key) else {
            return default.into().with_context(|| format!("{} is missing", self.name(key)));
        };
        let size = value.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
        size.with_context(|| {
            format!("{} is {value}; a whole number from 1 to {LARGEST} is needed", self.name(key))
        })
    }

    /// Sizes in `1..=2^28`.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let value = self.get(key).with_context(|| format!("{} is missing", self.name(key)))?;
        let one = |v: &Value| v.as_u64().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
        let sizes: Option<Vec<usize>> = value.as_array().and_then(|all| all.iter().map(one).collect());
        sizes.with_context(|| format!("{} is {value}; whole numbers from 1 are needed", self.name(key)))
    }

    /// A count in `0..=2^28`, 0 where it is absent.
    pub fn count(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => self.size(key, 0),
        }
    }

    /// A count in `0..=2^28`, or `default` where it is absent.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_some() { self.count(key) } else { Ok(default) }
    }

    /// A positive finite number: `default` where the field is absent, `None` where it is null.
    pub fn positive_unless_null(&self, key: &str, default: f64) -> Result<Option<f64>> {
        if self.has(key) { self.positive(key) } else { Ok(Some(default)) }
    }

    /// A positive finite number, if present.
    pub fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let number =
            number.with_context(|| format!("{} is {value}; a positive number is needed", self.name(key)));
        number.map(Some)
    }

    /// A finite number, if present.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_f64().filter(|x| x.is_finite());
        number.map(Some).with_context(|| format!("{} is {value}; a number is needed", self.name(key)))
    }

    /// A positive finite number, or `default` where it is absent.
    pub fn positive_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.positive(key)?.unwrap_or(default))
    }

    /// A positive finite number that must be present.
    pub fn needed(&self, key: &str) -> Result<f64> {
        self.positive(key)?.with_context(|| format!("{} is missing", self.name(key)))
    }

    /// A list of `count` positive finite numbers.
    pub fn numbers(&self, key: &str, count: usize) -> Result<Vec<f64>> {
        let value = self.get(key).with_context(|| format!("{} is missing", self.name(key)))?;
        let one = |v: &Value| v.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|all| all.iter().map(one).collect());
        numbers
            .filter(|all| all.len() == count)
            .with_context(|| format!("{}: {count} positive numbers are needed", self.name(key)))
    }

    /// A boolean, or `default` where it is absent.
    pub fn switch(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().with_context(|| format!("{} is {value}; true or false is needed", self.name(key)))
    }

    /// A string, if present.
    pub fn word(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).with_context(|| format!("{} is {value}; a text is needed", self.name(key)))
    }

    /// Refuses `key` unless it is absent, false, 0 or empty.
    pub fn off(&self, key: &str) -> Result<()> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Number(n)) if n.as_f64() == Some(0.0) => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(Value::Object(table)) if table.is_empty() => Ok(()),
            Some(_) => {
                Err(self.refused(key, "this changes what the model computes, and is not supported yet"))
            }
        }
    }

    /// Refuses `key` unless it is absent or one of `understood`.
    pub fn only(&self, key: &str, understood: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(value) if !understood.contains(value) => {
                bail!(self.refused(key, "this changes what the model computes, and is not supported yet"))
            }
            _ => Ok(()),
        }
    }

    /// Token ids, written as a number or as a list of numbers; empty where absent.
    pub fn token_ids(&self, key: &str) -> Result<Vec<i64>> {
        let one = |v: &Value| {
            v.as_i64()
                .filter(|id| (0..LARGEST as i64).contains(id))
                .with_context(|| format!("`{key}` holds {v}, which is no token id"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(one).collect(),
            Some(id) => Ok(vec![one(id)?]),
        }
    }

    /// The declared dtype: `dtype` (transformers 5) or `torch_dtype`.
    pub fn dtype(&self) -> Result<Option<Dtype>> {
        let (new, old) = (self.get("dtype"), self.get("torch_dtype"));
        let Some(value) = new.or(old) else { return Ok(None) };
        match value.as_str().map(|s| s.trim_start_matches("torch.")) {
            Some("float32") => Ok(Some(Dtype::F32)),
            Some("bfloat16") => Ok(Some(Dtype::Bf16)),
            Some("float16") => Ok(Some(Dtype::F16)),
            _ => bail!("config.json: dtype {value} is not supported (float32, bfloat16, float16)"),
        }
    }

    /// For each layer whether `layer_types` marks it as sliding, or `default` where that field is absent.
    pub fn sliding(&self, n_layers: usize, default: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        let Some(value) = self.get("layer_types") else { return Ok((0..n_layers).map(default).collect()) };
        let kinds = value.as_array().with_context(|| format!("{} is no list", self.name("layer_types")))?;
        let kinds = kinds.iter().map(|kind| match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention" | "attention") => Ok(false),
            _ => bail!(
                self.refused("layer_types", &format!("layers of the kind {kind} are not supported yet"))
            ),
        });
        let kinds = kinds.collect::<Result<Vec<bool>>>()?;
        ensure!(
            kinds.len() == n_layers,
            "{} has {} entries for {n_layers} layers",
            self.name("layer_types"),
            kinds.len()
        );
        Ok(kinds)
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let cut: String = text.chars().take(40).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}
