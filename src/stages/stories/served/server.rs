//! The configuration of a server: where it is and how requests are sent.

use crate::params::problem::quoted;
use crate::params::{Case, Problem, Read, Reader, Type, filled, maybe_filled, params};

use super::Protocol;

params! {
    /// Who is asked, and how.
    pub struct Server {
        /// As the kind says.
        #[of(Type::NONE)]
        #[with(protocol)]
        pub protocol: Protocol;
        /// The endpoint, up to and with `/v1`: `/chat/completions` is asked below it.
        #[with(url)]
        #[when(
            Case::Kind("ollama"),
            default = "http://127.0.0.1:11434",
            about = "Where the Ollama server listens."
        )]
        pub url: String;
        /// The model's name at that server.
        #[with(filled)]
        pub model: String;
        /// What stands for the model in keys, as an endpoint tells no digest: with it, the same model at another address makes no
        /// story stale. Change it when the model changes.
        #[unset("`url` and `model`")]
        #[with(maybe_filled)]
        #[only(Case::Kind("openai"))]
        pub identity: Option<String>;
        /// The environment variable that holds the key.
        #[unset("no key is sent")]
        #[with(variable)]
        #[only(Case::Kind("openai"))]
        pub api_key_env: Option<String>;
        /// Requests at a time. Not part of any key.
        pub parallel: usize = 4, 1..=256;
        /// Timeout of a request in seconds, after which it is repeated. Not part of any key.
        pub timeout: u64 = 300, 1..=86_400;
        /// How long, in seconds, requests are repeated while the server is busy or loading (status 429, 503) or
        /// connections break; after other failures a request is tried six times. Not part of any key.
        pub patience: u64 = 600, 0..=604_800;
        /// Further fields of each request's body: `{ enable_thinking = false }`. Not for fields that have their own
        /// key, and not for secrets.
        #[with(body)]
        pub body: serde_json::Map<String, serde_json::Value> = {};
    }
}

fn protocol(reader: &Reader<'_>, _: &str) -> Read<Protocol> {
    Ok(if reader.place.kind == "ollama" { Protocol::Ollama } else { Protocol::OpenAi })
}

/// The address of a server, without a trailing slash.
fn url(reader: &Reader<'_>, name: &str) -> Read<String> {
    let written = reader.filled(name)?;
    let url = written.trim_end_matches('/');
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) else {
        let problem = Problem::at(reader.span_of(name), format!("{} is not an address", quoted(&written)));
        return reader.wrong(problem.hint("an address starts with http:// or https://"));
    };
    // The address may contain a key: not even its line is shown.
    let secret = |message: &str| {
        let hint = "keys do not belong in the file: name the environment variable that holds the key in `api_key_env`";
        reader.wrong(Problem::at(reader.span(), message).hint(hint))
    };
    if rest.split('/').next().is_some_and(|host| host.contains('@')) {
        return secret("`url` has a name or a password in it");
    }
    if rest.contains(['?', '#']) {
        return secret("`url` goes on behind the path, with a `?` or `#`");
    }
    Ok(url.to_string())
}

/// The name of an environment variable that holds a key.
fn variable(reader: &Reader<'_>, key: &str) -> Read<Option<String>> {
    let name: Option<String> = reader.get(key)?;
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let is_variable = |name: &String| {
        !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.chars().all(fits)
    };
    if name.as_ref().is_none_or(is_variable) {
        return Ok(name);
    }
    // The text may be a key: not even its line is shown.
    let problem = Problem::at(reader.span(), format!("`{key}` is not the name of an environment variable"));
    reader.wrong(problem.hint("give the variable's name, such as \"OPENAI_API_KEY\", never the key itself"))
}

/// Request fields that have a key of their own, or that emoflow sets itself.
const OURS: [(&str, &str); 13] = [
    ("model", "model"),
    ("messages", "prompt` and `system"),
    ("system", "system"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("max_tokens", "max_new_tokens"),
    ("max_completion_tokens", "max_new_tokens"),
    ("seed", "seed` at the top of the file, `seed"),
    ("options", "temperature`, `top_p`, `top_k` and `max_new_tokens"),
    ("stream", ""),
    ("n", ""),
    ("stop", ""),
];

/// Additional request fields.
fn body(reader: &Reader<'_>, name: &str) -> Read<serde_json::Map<String, serde_json::Value>> {
    let body: serde_json::Map<_, _> = reader.get(name)?;
    let Some((field, key)) = OURS.iter().find(|(field, _)| body.contains_key(*field)) else {
        return Ok(body);
    };
    let problem = Problem::at(reader.span_of(name), format!("`{field}` cannot be in `body`"));
    reader.wrong(problem.hint(match key.is_empty() {
        true => "replies are read completely, one per request: remove it".to_string(),
        false => format!("it is set by `{key}`"),
    }))
}
