//! Errors in the format of the OpenAI API, and strict parsing of request fields: an unknown field is rejected.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::config::problem::suggestion;
use crate::lm::shortage::Shortage;

/// The error reply to a request.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
    /// The invalid field.
    param: Option<String>,
    code: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// An invalid request (status 400).
    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal { status: 400, message: message.into(), param: None, code: "invalid_request" }
    }

    /// An invalid request with another status.
    pub fn with(status: u16, message: impl Into<String>) -> Refusal {
        Refusal { status, ..Refusal::bad(message) }
    }

    /// An invalid field.
    pub fn of(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { param: Some(param.into()), ..Refusal::bad(message) }
    }

    /// Something that does not exist (404).
    pub fn none(param: &str, message: impl Into<String>) -> Refusal {
        Refusal { status: 404, param: Some(param.into()), code: "not_found", ..Refusal::bad(message) }
    }

    /// Temporarily unavailable (503).
    pub fn busy(message: impl Into<String>) -> Refusal {
        Refusal { status: 503, code: "unavailable", ..Refusal::bad(message) }
    }

    /// The reply for an error.
    pub fn from(error: anyhow::Error) -> Refusal {
        match error.downcast::<Refusal>() {
            Ok(refusal) => refusal,
            Err(error) => {
                let code = if error.is::<Shortage>() { "out_of_memory" } else { "server_error" };
                Refusal { status: 500, code, ..Refusal::bad(format!("{error:#}")) }
            }
        }
    }

    /// The JSON body in the format of the API.
    pub fn json(&self) -> Value {
        let kind = if self.status < 500 { "invalid_request_error" } else { "server_error" };
        let Refusal { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

/// Marks an error as caused by the request, except for shortages of memory.
pub fn bad(error: anyhow::Error) -> anyhow::Error {
    match error.is::<Refusal>() || error.is::<Shortage>() {
        true => error,
        false => Refusal::bad(format!("{error:#}")).into(),
    }
}

/// The fields of a JSON object, taken one by one. [`Fields::end`] rejects those that were not taken.
pub struct Fields {
    /// Prefix of the fields' names, such as `steering[0].`; empty for the request itself.
    path: String,
    left: Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl Fields {
    /// The fields of a request's body.
    ///
    /// # Errors
    /// The body is not JSON, or not an object.
    pub fn body(body: &[u8]) -> Result<Fields, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad(format!("the body is not JSON: {error}")))?;
        Fields::within(String::new(), value)
    }

    /// The fields of a value at `path`.
    ///
    /// # Errors
    /// The value is not an object.
    pub fn within(path: String, value: Value) -> Result<Fields, Refusal> {
        match value {
            Value::Object(left) => Ok(Fields { path, left, known: BTreeSet::new() }),
            _ if path.is_empty() => Err(Refusal::bad("the body must be an object: {\"...\": ...}")),
            _ => Err(Refusal::of(path.trim_end_matches('.'), "this must be an object: {\"...\": ...}")),
        }
    }

    /// A field's full name, for messages.
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Takes a field; `None` if it is missing or null.
    ///
    /// # Errors
    /// A value of another type.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Refusal> {
        self.known.insert(name);
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|error| {
                let name = self.named(name);
                Refusal::of(name.clone(), format!("`{name}`: {error}"))
            }),
        }
    }

    /// Takes a required field.
    ///
    /// # Errors
    /// The field is missing, or has another type.
    pub fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Refusal> {
        let missing = || Refusal::of(self.named(name), format!("`{}` is missing", self.named(name)));
        let missing = missing();
        self.take(name)?.ok_or(missing)
    }

    /// Takes a number within bounds.
    ///
    /// # Errors
    /// A number out of bounds, or a value of another type.
    pub fn number(&mut self, name: &'static str, (low, high): (f64, f64)) -> Result<Option<f64>, Refusal> {
        let Some(number) = self.take::<f64>(name)? else { return Ok(None) };
        if number >= low && number <= high {
            return Ok(Some(number));
        }
        let name = self.named(name);
        Err(Refusal::of(name.clone(), format!("`{name}` must be from {low} to {high}, and is {number}")))
    }

    /// Takes an integer within bounds.
    ///
    /// # Errors
    /// A number out of bounds, or a value of another type.
    pub fn count(
        &mut self,
        name: &'static str,
        (low, high): (usize, usize),
    ) -> Result<Option<usize>, Refusal> {
        let Some(number) = self.take::<i64>(name)? else { return Ok(None) };
        match usize::try_from(number) {
            Ok(count) if (low..=high).contains(&count) => Ok(Some(count)),
            _ => {
                let name = self.named(name);
                Err(Refusal::of(
                    name.clone(),
                    format!("`{name}` must be from {low} to {high}, and is {number}"),
                ))
            }
        }
    }

    /// Takes an unsupported field, for which only the `neutral` values are accepted.
    ///
    /// # Errors
    /// Another value.
    pub fn only(&mut self, name: &'static str, neutral: &[Value]) -> Result<(), Refusal> {
        match self.take::<Value>(name)? {
            Some(value) if !neutral.contains(&value) => {
                let name = self.named(name);
                let shown: Vec<String> = neutral.iter().map(Value::to_string).collect();
                let message = format!(
                    "`{name}` = {value} is not supported here: omit it, or send {}",
                    shown.join(" or ")
                );
                Err(Refusal::of(name, message))
            }
            _ => Ok(()),
        }
    }

    /// Rejects the fields that were not taken.
    ///
    /// # Errors
    /// An unknown field.
    pub fn end(self) -> Result<(), Refusal> {
        let Some(unknown) = self.left.keys().next() else { return Ok(()) };
        let hint = suggestion(unknown, "known fields", self.known.iter().copied());
        let name = self.named(unknown);
        Err(Refusal::of(name.clone(), format!("unknown field `{name}`, which would have no effect; {hint}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_passed_over() {
        let fields = |text: &str| Fields::body(text.as_bytes());
        let said = |refused: Result<(), Refusal>| refused.unwrap_err().to_string();
        assert!(fields("[1]").is_err() && fields("{").is_err());
        let mut known = fields(r#"{"top_p": 0.5, "n": 3, "stop": null, "temprature": 1}"#).unwrap();
        assert_eq!(known.number("top_p", (0.0, 1.0)).unwrap(), Some(0.5));
        assert_eq!(known.count("n", (1, 4)).unwrap(), Some(3));
        assert_eq!(known.take::<String>("stop").unwrap(), None);
        assert_eq!(known.number("temperature", (0.0, 1.0)).unwrap(), None);
        let message = said(known.end());
        assert!(
            message.contains("`temprature`") && message.contains("did you mean `temperature`"),
            "{message}"
        );
        let mut wrong = fields(r#"{"n": 9, "top_p": "x", "penalty": 0.5}"#).unwrap();
        assert!(wrong.count("n", (1, 4)).is_err() && wrong.number("top_p", (0.0, 1.0)).is_err());
        assert!(said(wrong.only("penalty", &[json!(0)])).contains("not supported"));
        assert!(said(wrong.need::<String>("model").map(drop)).contains("`model` is missing"));
    }
}
