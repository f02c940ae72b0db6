//! A checkpoint's chat template, rendered as Hugging Face renders it but with bounded work. Knows no
//! tokenizer. What stays unbounded: a template may build one long string out of shorter ones, up to
//! 100 MB by repetition and more by joining.

use anyhow::{Context, Result, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
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
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| date(&format));
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", without_generation_marks(source))
            .context("the chat template cannot be parsed")?;
        Ok(ChatTemplate { environment, special_tokens })
    }

    /// The conversation as text. No tools, no documents, thinking off.
    ///
    /// # Errors
    /// What the template raises; a rendering that takes too much work or grows too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut variables: std::collections::BTreeMap<&str, Value> = self
            .special_tokens
            .iter()
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        variables.insert("messages", messages.iter().map(Message::value).collect());
        variables.insert("add_generation_prompt", Value::from(add_generation_prompt));
        variables.insert("enable_thinking", Value::from(false));
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

/// Hugging Face's `{% generation %}` marks what a model is trained on; it writes nothing itself.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start..].find("%}").map(|n| start + n) else { break };
        let inner = &rest[start + 2..end];
        let word = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        let replaced = match word {
            "generation" => inner.replace("generation", "if true"),
            "endgeneration" => inner.replace("endgeneration", "endif"),
            _ => inner.to_string(),
        };
        out.push_str(&rest[..start + 2]);
        out.push_str(&replaced);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// `strftime_now` on a fixed day, so that results do not change with the date: 26 July 2024, which
/// Llama 3.2's template falls back to where there is no clock.
fn date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match chars.next() {
            Some('d') => "26",
            Some('b') => "Jul",
            Some('B') => "July",
            Some('m') => "07",
            Some('Y') => "2024",
            Some('y') => "24",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('j') => "208",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            other => {
                let message =
                    format!("strftime_now: %{} is not supported", other.map_or(String::new(), String::from));
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        });
    }
    Ok(out)
}

/// Python's `json.dumps(x, ensure_ascii=False, indent=...)`, which is what Hugging Face gives
/// templates: minijinja's own filter without its escapes for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let json = minijinja::filters::tojson(&value, indent, Kwargs::from_iter(Vec::<(String, Value)>::new()))?;
    let json = json.as_str().unwrap_or_default();
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let plain = [("u003c", '<'), ("u003e", '>'), ("u0026", '&'), ("u0027", '\'')]
            .into_iter()
            .find(|(code, _)| rest[at + 1..].starts_with(code));
        out.push_str(&rest[..at]);
        match plain {
            Some((code, c)) => {
                out.push(c);
                rest = &rest[at + 1 + code.len()..];
            }
            // Every other escape is two or more ASCII characters, of which the first two decide.
            None => {
                let end = (at + 2).min(rest.len());
                out.push_str(&rest[at..end]);
                rest = &rest[end..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String> {
        let template = ChatTemplate::new(source, vec![("bos_token".into(), "<s>".into())])?;
        template.render(&[Message::new(Role::User, " hi ")], true)
    }

    #[track_caller]
    fn fails(source: &str, with: &str) {
        let error = format!("{:#}", render(source).expect_err(source));
        assert!(error.contains(with), "{error}");
    }

    #[test]
    fn follows_hugging_face() {
        // Each right side is what transformers' own environment gives.
        let same = |source: &str, want: &str| assert_eq!(render(source).unwrap(), want, "{source}");
        same(
            "{{ bos_token }}{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}x\n",
            "<s>user\nx",
        );
        same(
            "{{ messages[0]['content'].strip() }}|{{ 'a b'.split(' ')[1] }}|{{ messages[1:] | length }}",
            "hi|b|0",
        );
        same("{{ {'a': [1, 'é<'], 'b': none} | tojson }}", r#"{"a": [1, "é<"], "b": null}"#);
        same(r"{{ 'a\\u003c' | tojson }}", r#""a\\u003c""#);
        same(r#"{{ 'q"\n<&\'' | tojson }}"#, r#""q\"\n<&'""#);
        same("{{ {'a': 1} | tojson(indent=2) }}", "{\n  \"a\": 1\n}");
        same("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024");
        same("{%- generation -%} a {%- endgeneration %}b{{ 'x' if tools is none else 'y' }}", "abx");
        same("{{ undefined_thing }}{{ 'y' if enable_thinking else 'n' }}", "n");
    }

    #[test]
    fn work_and_size_are_bounded() {
        fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel");
        fails("{% for a in range(9999) %}{{ 'abcdefgh' * 9999 }}{% endfor %}", "bytes of output");
        fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion");
        fails(&"x".repeat(LARGEST_TEMPLATE + 1), "bytes");
        fails("{% if %}", "parsed");
        fails("{{ raise_exception('roles must alternate') }}", "roles must alternate");
        fails(&"{% if true %}".repeat(2000), "parsed");
    }
}
