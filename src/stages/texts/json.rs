//! Conversations as JSON: messages in the form of OpenAI's API, and ShareGPT.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{Said, Speaker};

/// The turns of one conversation: an object with `messages` (each with `role` and `content`) or with `conversations`
/// (each with `from` and `value`), or the list of either. `resolve`: returns the text that an attachment's name refers
/// to.
pub fn turns(value: &Value, resolve: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Said>> {
    let (field, list) = match value {
        Value::Array(list) => ("", list),
        Value::Object(object) => {
            let field =
                ["messages", "conversations", "conversation"].into_iter().find(|f| object.contains_key(*f));
            let Some(field) = field else {
                let keys: Vec<_> = object.keys().take(8).map(|key| format!("`{key}`")).collect();
                bail!("there is no `messages` or `conversations`; there is {}", keys.join(", "));
            };
            (field, object[field].as_array().with_context(|| format!("`{field}` is no list"))?)
        }
        _ => bail!("it is no object with `messages` or `conversations`"),
    };
    ensure!(!list.is_empty(), "`{field}` is empty");
    list.iter()
        .enumerate()
        .map(|(at, message)| turn(message, resolve).with_context(|| format!("`{field}[{at}]`")))
        .collect()
}

fn turn(message: &Value, resolve: &dyn Fn(&str) -> Option<String>) -> Result<Said> {
    let message = message.as_object().context("it is no object")?;
    let text = |field: &str| match message.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => bail!("`{field}` is no string"),
        None => bail!("`{field}` is missing"),
    };
    let field = if message.contains_key("role") { "role" } else { "from" };
    let role = Speaker::of(text(field)?).with_context(|| format!("`{field}`"))?;
    let field = if message.contains_key("value") { "value" } else { "content" };
    let mut parts = match message.get(field) {
        None | Some(Value::Null) => Vec::new(),
        Some(content) => self::content(content, resolve).with_context(|| format!("`{field}`"))?,
    };
    parts.extend(calls(message)?);
    Ok(Said { role, content: parts.join("\n") })
}

/// The texts of a content: a string, or a list of parts. A part that is not text (a picture) becomes its type in
/// brackets.
fn content(content: &Value, resolve: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let resolved = |text: &str| match text.strip_prefix("attachment://") {
        Some(name) => resolve(name).with_context(|| format!("no attachment {name:?}")),
        None => Ok(text.to_string()),
    };
    let part = |part: &Value| match part {
        Value::String(text) => resolved(text),
        Value::Object(part) => {
            let kind = part.get("type").and_then(Value::as_str).context("a part without `type`")?;
            let written = ["text", "refusal", "reasoning"]
                .into_iter()
                .find_map(|f| part.get(f).and_then(Value::as_str));
            match written {
                Some(text) => resolved(text),
                None => Ok(format!("[{kind}]")),
            }
        }
        _ => bail!("a part that is neither a string nor an object"),
    };
    match content {
        Value::String(text) => Ok(vec![resolved(text)?]),
        Value::Array(parts) => {
            parts.iter().enumerate().map(|(at, p)| part(p).with_context(|| format!("part {at}"))).collect()
        }
        _ => bail!("it is neither a string nor a list of parts"),
    }
}

/// Tool calls as text: `name(arguments)`, one per line.
fn calls(message: &Map<String, Value>) -> Result<Vec<String>> {
    let mut calls: Vec<&Value> = match message.get("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(calls)) => calls.iter().collect(),
        Some(_) => bail!("`tool_calls` is no list"),
    };
    calls.extend(message.get("function_call").filter(|call| call.is_object()));
    let shown = |call: &Value| {
        // OpenAI has an object in `function`, Inspect the function's name.
        let own = call.get("function").filter(|function| function.is_object()).unwrap_or(call);
        let name = own.get("name").or(own.get("function")).and_then(Value::as_str);
        let arguments = match own.get("arguments") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(arguments)) => arguments.clone(),
            Some(arguments) => arguments.to_string(),
        };
        Ok(format!("{}({arguments})", name.context("a call in `tool_calls` without a name")?))
    };
    calls.into_iter().map(shown).collect()
}

/// The value at a dotted path in `value`, as text; `None` if it is absent or null.
pub fn field(value: &Value, path: &str) -> Result<Option<String>> {
    let mut here = value;
    for name in path.split('.') {
        match here.get(name) {
            Some(inner) => here = inner,
            None => return Ok(None),
        }
    }
    match here {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(here.to_string())),
        _ => bail!("`{path}` is neither a text nor a number"),
    }
}
