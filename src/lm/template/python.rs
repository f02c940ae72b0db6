//! Features of Jinja on Python that chat templates use and minijinja implements differently: filters, tests and
//! methods. A feature that is neither here nor in minijinja is an error that names it. Independent of chats.

use minijinja::value::{Kwargs, StringInput, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Adds all of them to an environment.
pub fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", super::json::to_json);
    environment.add_filter("trim", |text: StringInput, characters: Option<String>| {
        trim(text.as_str(), characters.as_deref(), true, true).to_string()
    });
    environment.add_filter("replace", |text: String, old: String, new: String, count: Option<i64>| {
        replace(&text, &old, &new, count)
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("iterable", |value: Value| {
        !value.is_none() && (value.is_undefined() || value.try_iter().is_ok())
    });
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
}

/// White space in Python: Unicode's, and four separators of ASCII.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text` without leading (`start`) and trailing (`end`) `characters`, by default white space.
fn trim<'t>(text: &'t str, characters: Option<&str>, start: bool, end: bool) -> &'t str {
    let goes = |c: char| characters.map_or_else(|| is_space(c), |characters| characters.contains(c));
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

fn replace(text: &str, old: &str, new: &str, count: Option<i64>) -> String {
    match count.map(usize::try_from) {
        Some(Ok(count)) => text.replacen(old, new, count),
        _ => text.replace(old, new),
    }
}

/// `default(value, default_value='', boolean=False)`
fn default(
    value: Value,
    other: Option<Value>,
    boolean: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let (named, named_boolean): (Option<Value>, Option<bool>) =
        (options.get("default_value")?, options.get("boolean")?);
    options.assert_all_used()?;
    let falls_back = value.is_undefined() || (boolean.or(named_boolean).unwrap_or(false) && !value.is_true());
    Ok(if falls_back { other.or(named).unwrap_or_else(|| Value::from("")) } else { value })
}

/// An undefined value has length 0.
fn length(value: Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    let none = || Error::new(ErrorKind::InvalidOperation, format!("a {} has no length", value.kind()));
    value.len().ok_or_else(none)
}

/// Python's methods: those of minijinja-contrib, and those missing or different there.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<String>,) = from_args(args)?;
            Ok(Value::from(trim(text, characters.as_deref(), name != "rstrip", name != "lstrip")))
        }
        "split" | "rsplit" => {
            let (separator, most, options): (Option<String>, Option<i64>, Kwargs) = from_args(args)?;
            let (named, named_most): (Option<String>, Option<i64>) =
                (options.get("sep")?, options.get("maxsplit")?);
            options.assert_all_used()?;
            let most = most.or(named_most).and_then(|most| usize::try_from(most).ok());
            split(text, separator.or(named).as_deref(), most, name == "rsplit")
        }
        "partition" | "rpartition" => {
            let (separator,): (String,) = from_args(args)?;
            let (found, rest) = match name {
                "partition" => (text.split_once(&separator), [text, "", ""]),
                _ => (text.rsplit_once(&separator), ["", "", text]),
            };
            let parts = found.map_or(rest, |(before, after)| [before, &separator, after]);
            Ok(Value::from(Tuple::from(parts.map(Value::from))))
        }
        "removeprefix" => {
            let (prefix,): (String,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(&prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (String,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(&suffix).unwrap_or(text)))
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// Python's `split` and (`from_right`) `rsplit`.
fn split(text: &str, separator: Option<&str>, most: Option<usize>, from_right: bool) -> Result<Value, Error> {
    let mut parts = Vec::new();
    let mut rest = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "split: empty separator")),
        Some(_) => text,
        None => trim(text, None, !from_right, from_right),
    };
    while most.is_none_or(|most| parts.len() < most) {
        let cut = match (separator, from_right) {
            (Some(separator), false) => rest.split_once(separator),
            (Some(separator), true) => rest.rsplit_once(separator),
            (None, false) => rest.split_once(is_space),
            (None, true) => rest.rsplit_once(is_space),
        };
        let Some((before, after)) = cut else { break };
        let (part, left) = if from_right { (after, before) } else { (before, after) };
        parts.push(part);
        // A run of white space counts as one separator.
        rest = if separator.is_none() { trim(left, None, !from_right, from_right) } else { left };
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest);
    }
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}
