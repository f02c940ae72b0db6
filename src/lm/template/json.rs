//! Python's `json.dumps`, which Hugging Face provides to templates as `tojson`. Independent of any other format.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Deepest nesting that is written: a value must not exhaust the stack.
const DEEPEST: usize = 100;
/// Widest indent per level, in characters, and longest output, in bytes: a list may contain the same value many times.
const WIDEST: usize = 64;
const LONGEST: usize = super::LARGEST_OUTPUT;

/// The filter: `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
///
/// # Errors
/// A value that JSON cannot represent; an invalid argument.
pub fn to_json(value: &Value, positional: Option<bool>, options: Kwargs) -> Result<String, Error> {
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = match indent {
        Some(indent) if indent.as_str().is_some() => indent.as_str().map(String::from),
        Some(indent) if !indent.is_none() => {
            Some(" ".repeat(i64::try_from(indent)?.clamp(0, WIDEST as i64 + 1) as usize))
        }
        _ => None,
    };
    if indent.as_ref().is_some_and(|indent| indent.len() > WIDEST) {
        return Err(wrong(format!("an indent of more than {WIDEST}")));
    }
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(wrong("`separators` must be two strings".into())),
        None => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
    };
    let layout = Layout {
        ascii: positional.or(ascii).unwrap_or(false),
        indent,
        item,
        key,
        sort_keys: sort_keys.unwrap_or(false),
    };
    let mut out = String::new();
    layout.write(value, 0, &mut out)?;
    Ok(out)
}

struct Layout {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

impl Layout {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(wrong(format!("more than {DEEPEST} levels deep")));
        }
        if out.len() > LONGEST {
            return Err(wrong(format!("more than {LONGEST} bytes")));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.wrap(('[', ']'), items.len(), depth, out, |i, out| {
                    self.write(&items[i], depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    entries.push((self.name(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.wrap(('{', '}'), entries.len(), depth, out, |i, out| {
                    self.quote(&entries[i].0, out);
                    out.push_str(&self.key);
                    self.write(&entries[i].1, depth + 1, out)
                })?;
            }
            other => return Err(wrong(format!("a value of type {other}"))),
        }
        Ok(())
    }

    /// `n` items between brackets, each on its own line if there is an indent.
    fn wrap(
        &self,
        (open, close): (char, char),
        n: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| n > 0) {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for i in 0..n {
            if i > 0 {
                out.push_str(&self.item);
            }
            line(depth + 1, out);
            item(i, out)?;
        }
        line(depth, out);
        out.push(close);
        Ok(())
    }

    /// A key as a string, converted as in Python.
    fn name(&self, key: &Value) -> Result<String, Error> {
        Ok(match key.kind() {
            ValueKind::String => key.as_str().unwrap_or_default().to_string(),
            ValueKind::None => "null".into(),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
            ValueKind::Number => number(key),
            other => return Err(wrong(format!("a key of type {other}"))),
        })
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A number as Python's `repr` writes it: the shortest digits that parse to the same number, with an exponent if it is
/// below -4 or above 15.
fn number(value: &Value) -> String {
    let text = value.to_string();
    let Some(float) = f64::try_from(value.clone()).ok().filter(|_| text.contains(['.', 'e', 'E', 'n', 'N']))
    else {
        return text;
    };
    if float.is_nan() {
        return "NaN".into();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let short = format!("{float:e}");
    let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        -4..=15 => format!("{float:?}"),
        exponent => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

fn wrong(problem: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"))
}
