//! Rows of JSON files: one object per line, or one document in any of the common layouts for texts.

use std::ops::ControlFlow;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{Label, Row, Rows, Visit, missing};

/// Limit on a document, which is held in memory; in bytes.
const LARGEST: usize = 2 << 30;

/// Calls `visit` with each row of a file with one object per line. A file that begins with a bracket is a document.
pub fn lines(rows: &Rows, visit: &mut Visit) -> Result<()> {
    let mut lines = rows.lines()?;
    let mut first = true;
    while let Some(line) = lines.next()? {
        let line = line.trim().to_string();
        if line.is_empty() {
            continue;
        }
        if std::mem::take(&mut first) && line.starts_with('[') {
            return document(rows, visit);
        }
        let place = format!("line {}", lines.number);
        let value: Value =
            serde_json::from_str(&line).with_context(|| format!("{place}: {}", not_json(&line)))?;
        if object(rows, &place, &value, &Own::default(), visit)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The message for a text that is not JSON: it names what other programs write in its place.
pub fn not_json(text: &str) -> &'static str {
    let text = text.trim();
    // In a text these are words.
    let is_value =
        |word: &str| [":", ": ", "[", "[ "].iter().any(|before| text.contains(&format!("{before}{word}")));
    if text.starts_with("{'") || text.starts_with("[{'") {
        "not JSON but as Python prints it: write it with `json.dumps`"
    } else if text.starts_with('{') && text.ends_with("},") {
        "not JSON: no comma stands between the objects of a file of one a line"
    } else if ["NaN", "Infinity", "-Infinity"].into_iter().any(is_value) {
        "not JSON, which has no NaN and no Infinity: write null"
    } else {
        "not JSON"
    }
}

/// Calls `visit` with each row of a document:
///
/// - an array of objects, or of texts; or objects one after the other;
/// - an object that holds such an array under one of its keys;
/// - an object with an array for each emotion, or for each emotion an object with an array for each topic;
/// - an object of columns, `{"text": [...], "emotion": [...]}`, including the form that pandas writes.
pub fn document(rows: &Rows, visit: &mut Visit) -> Result<()> {
    let text = rows.lines()?.rest(LARGEST)?;
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let read = values.by_ref().collect::<Result<Vec<_>, _>>();
    let mut read = read.with_context(|| not_json(&text))?;
    if read.len() == 1 {
        whole(rows, read.remove(0), visit).map(|_| ())
    } else {
        items(rows, "", &read, &Own::default(), visit).map(|_| ())
    }
}

/// Values that apply to a row unless it has its own.
#[derive(Clone, Default)]
struct Own {
    emotion: Option<String>,
    topic: Option<String>,
}

fn whole(rows: &Rows, value: Value, visit: &mut Visit) -> Result<ControlFlow<()>> {
    let object = match value {
        Value::Array(list) => return items(rows, "", &list, &Own::default(), visit),
        Value::Object(object) => object,
        other => bail!("it is {}, not an array of objects", kind(&other)),
    };
    let holds_many = |name: &str| matches!(object.get(name), Some(Value::Array(_) | Value::Object(_)));
    let told = rows.columns.emotion.as_deref();
    if object.contains_key(&rows.columns.text) {
        return match holds_many(&rows.columns.text) && told.is_none_or(holds_many) {
            true => self::columns(rows, &object, visit),
            false => self::object(rows, "item 1", &Value::Object(object), &Own::default(), visit),
        };
    }
    let lists: Vec<(&String, &Vec<Value>)> =
        object.iter().filter_map(|(key, value)| Some((key, value.as_array()?))).collect();
    let has_rows = |list: &&Vec<Value>| {
        list.first()
            .and_then(Value::as_object)
            .is_some_and(|first| told.is_none_or(|n| first.contains_key(n)))
    };
    if let [(key, list)] = lists.iter().filter(|(_, list)| has_rows(list)).collect::<Vec<_>>()[..] {
        return items(rows, key, list, &Own::default(), visit);
    }
    // One array per emotion, or one per emotion and topic.
    let is_list = |value: &Value| value.is_array();
    let by_topic =
        |value: &Value| value.as_object().is_some_and(|o| !o.is_empty() && o.values().all(is_list));
    if !object.is_empty() && object.values().all(|value| is_list(value) || by_topic(value)) {
        for (emotion, value) in &object {
            let own = |topic: Option<&String>| Own { emotion: Some(emotion.clone()), topic: topic.cloned() };
            let parts: Vec<(String, Own, &Value)> = match value {
                Value::Object(topics) => {
                    let part = |(topic, list)| (format!("{emotion}.{topic}"), own(Some(topic)), list);
                    topics.iter().map(part).collect()
                }
                list => vec![(emotion.clone(), own(None), list)],
            };
            for (key, own, list) in parts {
                if items(rows, &key, list.as_array().expect("looked at"), &own, visit)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        return Ok(ControlFlow::Continue(()));
    }
    let keys: Vec<_> = object.keys().take(8).map(|key| format!("`{key}`")).collect();
    bail!(
        "it is an object with the keys {}, which is no layout of texts that is known; a file of one object a line, with \
         `{}` in each, is: jq -c '.KEY[]' in.json > out.jsonl",
        keys.join(", "),
        rows.columns.text
    )
}

/// Parallel columns: arrays, or objects with one entry per row.
fn columns(rows: &Rows, object: &Map<String, Value>, visit: &mut Visit) -> Result<ControlFlow<()>> {
    let cells = |value: &Value| match value {
        Value::Array(list) => list.clone(),
        Value::Object(entries) => entries.values().cloned().collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for name in rows.names().flatten() {
        let column = object.get(name).with_context(|| missing("key", name, object.keys()).to_string())?;
        found.push((name, cells(column)));
    }
    let count = found[0].1.len();
    for (name, cells) in &found {
        ensure!(cells.len() == count, "`{name}` has {} entries, `{}` has {count}", cells.len(), found[0].0);
    }
    for at in 0..count {
        let row = found.iter().map(|(name, cells)| (name.to_string(), cells[at].clone())).collect();
        let place = format!("item {}", at + 1);
        if self::object(rows, &place, &Value::Object(row), &Own::default(), visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// An array's items, objects or texts. `key`: the key of the array; empty at the top level.
fn items(rows: &Rows, key: &str, list: &[Value], own: &Own, visit: &mut Visit) -> Result<ControlFlow<()>> {
    for (at, value) in list.iter().enumerate() {
        let place = match key {
            "" => format!("item {}", at + 1),
            key => format!("item {} of `{key}`", at + 1),
        };
        if object(rows, &place, value, own, visit)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The rows of one object: one for each of its texts.
fn object(rows: &Rows, place: &str, value: &Value, own: &Own, visit: &mut Visit) -> Result<ControlFlow<()>> {
    let empty = Map::new();
    let (object, text) = match value {
        Value::Object(object) => {
            let name = &rows.columns.text;
            let text = object
                .get(name)
                .with_context(|| format!("{place}: {}", missing("key", name, object.keys())))?;
            (object, text)
        }
        // A bare text in a list of texts.
        Value::String(_) | Value::Null
            if own.emotion.is_some() || rows.columns.emotion.is_none() || rows.stem.is_some() =>
        {
            (&empty, value)
        }
        other => bail!("{place}: {}, not a JSON object", kind(other)),
    };
    let (mut emotion, mut by_name) = (Label::of(own.emotion.clone()), false);
    if let Some(name) = &rows.columns.emotion {
        match object.get(name) {
            Some(value) => emotion = label(value).with_context(|| format!("{place}: `{name}`"))?,
            None if own.emotion.is_some() => {}
            None if rows.stem.is_some() => (emotion, by_name) = (rows.by_name(), true),
            None => bail!("{place}: {}", missing("key", name, object.keys())),
        }
    }
    let named = rows.columns.topic.as_deref().and_then(|name| Some((name, object.get(name)?)));
    let topic = match named {
        None => own.topic.clone(),
        Some((_, Value::Null)) => None,
        Some((_, Value::String(text))) => Some(text.clone()),
        Some((_, value @ (Value::Number(_) | Value::Bool(_)))) => Some(value.to_string()),
        Some((name, other)) => bail!("{place}: `{name}` is {}, not text", kind(other)),
    };
    let name = &rows.columns.text;
    let texts = match text {
        Value::Array(texts) => texts.as_slice(),
        one => std::slice::from_ref(one),
    };
    for (at, text) in texts.iter().enumerate() {
        let place = if texts.len() == 1 { place.to_string() } else { format!("{place}, text {}", at + 1) };
        let text = match text {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => bail!("{place}: `{name}` is {}, not text", kind(other)),
        };
        let row = Row { place, emotion: emotion.clone(), by_name, text, topic: topic.clone() };
        if visit(row)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn label(value: &Value) -> Result<Label> {
    Ok(match value {
        Value::Null => Label::Missing,
        Value::String(text) => Label::of(Some(text.clone())),
        Value::Number(number) => Label::of(Some(number.to_string())),
        Value::Array(list) => match list.as_slice() {
            [] => Label::Missing,
            [one] => label(one)?,
            _ => Label::Several,
        },
        other => bail!("is {}, not text", kind(other)),
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
