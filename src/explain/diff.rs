//! Field-by-field differences between two JSON values, and their text form. Independent of plans and stores.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// Maximum number of characters shown of a value.
const SHOWN: usize = 40;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Path of the field: `params.reject.attempts`, `params.stories[3].topic`; `params.emotions[]` for an element that
    /// only one of two lists has.
    pub path: String,
    /// `None` if absent.
    pub before: Option<Value>,
    /// `None` if removed.
    pub after: Option<Value>,
}

/// The fields that differ between `before` and `after`, both at `path`, in order.
///
/// Lists of equal length are compared element by element; for other lists, added and removed elements are reported.
pub fn differences(path: &str, before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(path, before, after, &mut found);
    found
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let below = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, value) in after {
                match before.get(name) {
                    Some(old) => compare(&below(name), old, value, found),
                    None => {
                        found.push(Difference { path: below(name), before: None, after: Some(value.clone()) })
                    }
                }
            }
            for (name, value) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
                found.push(Difference { path: below(name), before: Some(value.clone()), after: None });
            }
        }
        (Value::Array(old), Value::Array(new)) if same_elements(old, new) => {
            let (path, before, after) = (path.to_string(), Some(before.clone()), Some(after.clone()));
            found.push(Difference { path, before, after });
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}[{index}]"), old, new, found);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let path = format!("{path}[]");
            for value in only_in(before, after) {
                found.push(Difference { path: path.clone(), before: Some(value), after: None });
            }
            for value in only_in(after, before) {
                found.push(Difference { path: path.clone(), before: None, after: Some(value) });
            }
        }
        _ => found.push(Difference {
            path: path.to_string(),
            before: Some(before.clone()),
            after: Some(after.clone()),
        }),
    }
}

/// Whether two lists hold the same elements in any order.
fn same_elements(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && only_in(a, b).is_empty()
}

/// Elements of `list` that `other` lacks, counting repetitions.
fn only_in(list: &[Value], other: &[Value]) -> Vec<Value> {
    let mut left = std::collections::HashMap::<String, usize>::new();
    for value in other {
        *left.entry(value.to_string()).or_default() += 1;
    }
    let mut only = Vec::new();
    for value in list {
        match left.get_mut(&value.to_string()) {
            Some(n) if *n > 0 => *n -= 1,
            _ => only.push(value.clone()),
        }
    }
    only
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { path, before, after } = self;
        match (path.strip_suffix("[]"), before, after) {
            (Some(list), Some(gone), None) => write!(f, "{list}: {} was removed", shown(gone)),
            (Some(list), None, Some(new)) => write!(f, "{list}: {} is new", shown(new)),
            (None, Some(Value::Array(old)), Some(Value::Array(new))) if same_elements(old, new) => {
                write!(f, "{path}: in another order")
            }
            _ => {
                let (before, after) = match (before, after) {
                    (Some(Value::String(before)), Some(Value::String(after))) => texts(before, after),
                    _ => {
                        let side = |value: &Option<Value>| value.as_ref().map_or("absent".to_string(), shown);
                        (side(before), side(after))
                    }
                };
                if path == "model" {
                    return write!(f, "model changed ({before} -> {after})");
                }
                write!(f, "{path} {before} -> {after}")
            }
        }
    }
}

/// A value, abbreviated: a digest by its first digits, a single word in full.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => one_text(text, 0),
        value => cut(&value.to_string(), 0),
    }
}

/// Two texts, abbreviated to start a little before their first difference.
fn texts(before: &str, after: &str) -> (String, String) {
    let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b).count();
    let long = before.chars().count().max(after.chars().count()) > SHOWN;
    let from = if long && same > 10 { same - 10 } else { 0 };
    (one_text(before, from), one_text(after, from))
}

fn one_text(text: &str, from: usize) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return text[..10].to_string();
    }
    if !text.is_empty() && text.len() <= SHOWN && text.chars().all(plain) {
        return text.to_string();
    }
    // As a JSON string, so that line breaks are escaped.
    let cut = cut(text, from);
    serde_json::to_string(&cut).unwrap_or(cut)
}

fn cut(text: &str, from: usize) -> String {
    let kept: String = text.chars().skip(from).take(SHOWN).collect();
    let (before, after) = (from > 0, text.chars().count() > from + SHOWN);
    format!("{}{kept}{}", if before { "…" } else { "" }, if after { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(before: Value, after: Value) -> Vec<String> {
        differences("", &before, &after).iter().map(Difference::to_string).collect()
    }

    #[test]
    fn each_field_is_named_with_both_values() {
        let before =
            json!({"version": 3, "params": {"temperature": 0.7, "top_k": 0, "reject": {"attempts": 4}}});
        let after =
            json!({"version": 4, "params": {"temperature": 1.0, "top_k": 0, "reject": {"attempts": 8}}});
        assert_eq!(
            said(before.clone(), after),
            ["version 3 -> 4", "params.temperature 0.7 -> 1.0", "params.reject.attempts 4 -> 8"]
        );
        assert!(said(before.clone(), before).is_empty());
    }

    #[test]
    fn fields_that_come_and_go_are_absent_before_or_after() {
        assert_eq!(said(json!({"a": 1}), json!({"a": 1, "b": "x"})), ["b absent -> x"]);
        assert_eq!(said(json!({"a": null, "b": 2}), json!({"a": null})), ["b 2 -> absent"]);
        assert_eq!(said(json!({"a": null}), json!({"a": {"b": 1}})), [r#"a null -> {"b":1}"#]);
    }

    #[test]
    fn lists_are_compared_by_place_or_by_what_came_and_went() {
        let list = |words: &[&str]| json!({ "params": { "emotions": words } });
        assert_eq!(said(list(&["a", "b"]), list(&["a", "c"])), ["params.emotions[1] b -> c"]);
        assert_eq!(
            said(list(&["a", "b"]), list(&["b", "c", "d"])),
            ["params.emotions: a was removed", "params.emotions: c is new", "params.emotions: d is new"]
        );
        assert_eq!(
            said(list(&["a", "b", "c"]), list(&["c", "a", "b"])),
            ["params.emotions: in another order"]
        );
        // Repetitions count: the same element twice is one more.
        assert_eq!(said(list(&["a"]), list(&["a", "a"])), ["params.emotions: a is new"]);
    }

    #[test]
    fn long_texts_are_shown_where_they_part() {
        let (digest, other) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(
            said(json!({"model": digest}), json!({"model": other})),
            ["model changed (aaaaaaaaaa -> bbbbbbbbbb)"]
        );
        let story = |word: &str| format!("{} the end is {word}.", "Once upon a time. ".repeat(10));
        assert_eq!(
            said(json!({"p": story("good")}), json!({"p": story("bad")})),
            [r#"p "…he end is good." -> "…he end is bad.""#]
        );
        assert_eq!(said(json!({"p": "a\nb"}), json!({"p": ""})), [r#"p "a\nb" -> """#]);
    }
}
