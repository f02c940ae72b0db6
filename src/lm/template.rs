//! A checkpoint's chat template, rendered as Hugging Face renders it but with bounded work. Knows no
//! tokenizer. What stays unbounded: a template may build one long string out of shorter ones, up to
//! 100 MB by repetition and more by joining.

mod date;
mod json;
mod python;

pub use date::Date;
pub(super) use python::is_space;

use anyhow::{Context, Result, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};

/// Longest template that is read, in bytes; the longest of popular checkpoints are near 20 kB.
pub const LARGEST_TEMPLATE: usize = 256 << 10;
/// Longest rendered conversation, in bytes.
const LARGEST_OUTPUT: usize = 16 << 20;
/// Instructions a rendering may take; a two-turn conversation takes a few hundred.
const FUEL: u64 = 2_000_000;
/// Depth of nested macro calls and loops, low enough for the stack of a thread.
const RECURSION: usize = 120;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions ahead of the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Role {
    /// As templates write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into() }
    }

    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.name()), ("content", self.content.as_str())])
    }
}

/// What a template is told besides the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Chat {
    /// The day that `strftime_now` writes, so that results do not change with the clock.
    pub date: Date,
    /// `enable_thinking` and `thinking`: the two names under which templates ask whether the model may think first.
    pub thinking: bool,
}

impl Default for Chat {
    fn default() -> Chat {
        Chat { date: Date::DEFAULT, thinking: false }
    }
}

/// A template that has been parsed.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Parses a template. `special_tokens` are its variables such as `bos_token`.
    ///
    /// # Errors
    /// A template that is too long or is not Jinja.
    pub fn new(source: &str, special_tokens: Vec<(String, String)>) -> Result<ChatTemplate> {
        ensure!(
            source.len() <= LARGEST_TEMPLATE,
            "the chat template has {} bytes; at most {LARGEST_TEMPLATE} are read",
            source.len()
        );
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        python::add_to(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        // As Jinja reads it, on every system.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        environment
            .add_template_owned("chat", without_generation_marks(&source))
            .context("the chat template cannot be parsed")?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// The conversation as text. No tools, no documents.
    ///
    /// # Errors
    /// What the template raises; a rendering that takes too much work or grows too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, chat: Chat) -> Result<String> {
        let mut variables: std::collections::BTreeMap<&str, Value> = self
            .special_tokens
            .iter()
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        variables.insert("messages", messages.iter().map(Message::value).collect());
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        variables.insert("enable_thinking", Value::from(chat.thinking));
        variables.insert("thinking", Value::from(chat.thinking));
        let write_date = move |format: String| {
            chat.date.strftime(&format).map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))
        };
        variables.insert("strftime_now", Value::from_function(write_date));
        variables.insert("tools", Value::from(()));
        variables.insert("documents", Value::from(()));
        let mut out = Bounded(Vec::new());
        self.environment
            .get_template("chat")
            .and_then(|template| template.render_captured_to(Value::from_pairs(variables), &mut out))
            .context("render the chat template")?;
        String::from_utf8(out.0).context("the chat template wrote what is not UTF-8")
    }
}

/// Collects output up to [`LARGEST_OUTPUT`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_OUTPUT {
            return Err(io::Error::other(format!("more than {LARGEST_OUTPUT} bytes of output")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hugging Face's `{% generation %}` marks what a model is trained on. It writes nothing itself, but what is set in it
/// does not hold outside.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%").into_iter().chain(rest.find("{{")).chain(rest.find("{#")).min() {
        let close = match &rest[start..start + 2] {
            "{%" => "%}",
            "{{" => "}}",
            _ => "#}",
        };
        let end = tag_end(&rest[start + 2..], close).map_or(rest.len(), |end| start + 2 + end);
        let inner = &rest[start + 2..end];
        out.push_str(&rest[..start + 2]);
        match inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim() {
            "generation" if close == "%}" => out.push_str(&inner.replace("generation", "with")),
            "endgeneration" if close == "%}" => out.push_str(&inner.replace("generation", "with")),
            _ => out.push_str(inner),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Where `close` stands outside of string literals (a comment has none).
fn tag_end(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match quote {
            Some(_) if c == '\\' => drop(characters.next()),
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return Some(at),
            None if (c == '"' || c == '\'') && close != "#}" => quote = Some(c),
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let template = ChatTemplate::new(source, vec![("bos_token".into(), "<s>".into())])?;
        template.render(&[Message::new(Role::User, " hi ")], true, Chat::default())
    }

    #[track_caller]
    fn fails(source: &str, with: &str) {
        let error = format!("{:#}", render(source).expect_err(source));
        assert!(error.contains(with), "{error}");
    }

    #[test]
    fn work_and_size_are_bounded() {
        fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel");
        fails("{% for a in range(9999) %}{{ 'abcdefgh' * 9999 }}{% endfor %}", "bytes of output");
        fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion");
        fails(&"x".repeat(LARGEST_TEMPLATE + 1), "bytes");
        let doubled = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
        fails(&format!("{doubled}{{{{ ns.x | tojson }}}}"), "bytes");
        fails("{{ [1] | tojson(indent=99999999999) }}", "indent");
        fails("{% if %}", "parsed");
        fails("{{ raise_exception('roles must alternate') }}", "roles must alternate");
        fails(&"{% if true %}".repeat(2000), "parsed");
    }
}
