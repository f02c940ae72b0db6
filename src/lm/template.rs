//! A checkpoint's chat template, rendered as in Hugging Face but with bounded work, time and memory. Independent of
//! tokenizers.

mod date;
mod json;
mod python;

pub use date::Date;
pub(super) use python::is_space;

use super::bounded::{Bounds, ThreadPool, Wary};
use anyhow::{Context, Result, ensure};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;

/// Maximum template size in bytes; the longest templates of popular checkpoints are near 20 kB.
pub const LARGEST_TEMPLATE: usize = 256 << 10;
/// Maximum size of a rendered conversation in bytes.
const LARGEST_OUTPUT: usize = 16 << 20;
/// Maximum number of instructions per rendering; a two-turn conversation takes a few hundred.
const FUEL: u64 = 500_000;
/// Maximum depth of nested macro calls and loops, low enough for a thread's stack.
const RECURSION: usize = 120;
/// Limits for parsing or rendering, either of which normally takes milliseconds and kilobytes.
const BOUNDS: Bounds = Bounds { seconds: 20, bytes: 256 << 20 };
/// Templates run on a stack of 1 GB: values that gain a nesting level with each instruction are written and dropped
/// recursively, and 256 kB of operators are parsed recursively.
static POOL: ThreadPool = ThreadPool::new(1 << 30);

/// Speaker of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Role {
    /// The name used in templates.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl Message {
    /// Creates a turn.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into() }
    }

    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.name()), ("content", self.content.as_str())])
    }
}

/// Template variables in addition to the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Chat {
    /// The date for `strftime_now`, fixed so that results do not change with the clock.
    pub date: Date,
    /// Value of `enable_thinking` and `thinking`, the two variables by which templates decide whether the model may
    /// think first.
    pub thinking: bool,
}

impl Default for Chat {
    fn default() -> Chat {
        Chat { date: Date::DEFAULT, thinking: false }
    }
}

/// A parsed template.
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    special_tokens: Arc<Vec<(String, String)>>,
    bounds: Bounds,
    wary: Wary,
}

impl ChatTemplate {
    /// Parses a template. `special_tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// A template that is too long, exceeds the limits for parsing or is not valid Jinja.
    pub fn new(source: &str, special_tokens: Vec<(String, String)>) -> Result<ChatTemplate> {
        ChatTemplate::within(BOUNDS, source, special_tokens)
    }

    fn within(bounds: Bounds, source: &str, special_tokens: Vec<(String, String)>) -> Result<ChatTemplate> {
        ensure!(
            source.len() <= LARGEST_TEMPLATE,
            "the chat template has {} bytes; at most {LARGEST_TEMPLATE} are read",
            source.len()
        );
        let wary = Wary::default();
        // Line ends are normalised as in Jinja, on every system.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let parsed = wary.run(&POOL, bounds, move || parse(&source));
        let environment = Arc::new(parsed.context("the chat template cannot be parsed")?);
        Ok(ChatTemplate { environment, special_tokens: Arc::new(special_tokens), bounds, wary })
    }

    /// Renders the conversation as text, without tools or documents.
    ///
    /// # Errors
    /// An error raised by the template; a rendering that takes too much work, time or memory, or grows too long.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool, chat: Chat) -> Result<String> {
        let (environment, tokens) = (Arc::clone(&self.environment), Arc::clone(&self.special_tokens));
        let messages = messages.to_vec();
        let rendered = self.wary.run(&POOL, self.bounds, move || {
            render(&environment, &tokens, &messages, add_generation_prompt, chat)
        });
        rendered.context("render the chat template")
    }
}

fn parse(source: &str) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax?);
    environment.set_debug(false); // an error would hold the template's values, which only its thread's stack can drop
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION);
    python::add_to(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_template_owned("chat", without_generation_marks(source))?;
    Ok(environment)
}

fn render(
    environment: &Environment<'static>,
    special_tokens: &[(String, String)],
    messages: &[Message],
    add_generation_prompt: bool,
    chat: Chat,
) -> Result<String> {
    let tokens = special_tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str())));
    let mut variables: std::collections::BTreeMap<&str, Value> = tokens.collect();
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
    environment.get_template("chat")?.render_captured_to(Value::from_pairs(variables), &mut out)?;
    String::from_utf8(out.0).context("the chat template wrote what is not UTF-8")
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

/// Rewrites Hugging Face's `{% generation %}`, which marks what a model is trained on. It writes nothing itself, but
/// variables set inside it are not visible outside.
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

/// Position of `close` outside of string literals (a comment has none).
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

    /// Less memory than a template may use, so that the test finishes sooner, and more time, so that it never depends
    /// on the time limit.
    const LITTLE: Bounds = Bounds { seconds: 600, bytes: 64 << 20 };

    fn render(source: &str) -> Result<String> {
        render_within(LITTLE, source)
    }

    fn render_within(bounds: Bounds, source: &str) -> Result<String> {
        let template = ChatTemplate::within(bounds, source, vec![("bos_token".into(), "<s>".into())])?;
        template.render(&[Message::new(Role::User, " hi ")], true, Chat::default())
    }

    #[track_caller]
    fn fails(source: &str, with: &str) {
        let error = format!("{:#}", render(source).expect_err(source));
        assert!(error.contains(with), "{error}");
    }

    /// Repeats `step` sixty times, each on the value of `x` left by the previous one.
    fn repeated(start: &str, step: &str, end: &str) -> String {
        format!("{{% set ns = namespace(x={start}) %}}{{% for i in range(60) %}}{step}{{% endfor %}}{end}")
    }

    #[test]
    fn work_and_size_are_bounded() {
        fails("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel");
        fails("{% for a in range(9999) %}{{ 'abcdefgh' * 9999 }}{% endfor %}", "bytes of output");
        fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion");
        fails(&"x".repeat(LARGEST_TEMPLATE + 1), "bytes");
        fails(&repeated("[1]", "{% set ns.x = [ns.x, ns.x] %}", "{{ ns.x | tojson }}"), "bytes");
        fails("{{ [1] | tojson(indent=99999999999) }}", "indent");
        fails("{% if %}", "parsed");
        fails("{{ raise_exception('roles must alternate') }}", "roles must alternate");
        fails(&"{% if true %}".repeat(2000), "parsed");
    }

    #[test]
    fn strings_that_double_end_in_an_error() {
        for double in [
            "{% set ns.x = ns.x ~ ns.x %}",
            "{% set ns.x = ns.x + ns.x %}",
            "{% set ns.x = ns.x * 2 %}",
            "{% set ns.x = [ns.x, ns.x] | join %}",
            "{% set ns.x = ns.x | replace('x', 'xx') %}",
            "{% set ns.x = ns.x.replace('x', 'xx') %}",
            "{% set ns.x = '%s%s' | format(ns.x, ns.x) %}",
            "{% set x %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = x %}",
            "{% set ns.x = ns.x.split('') | join('xx') %}",
        ] {
            let error = render(&repeated("'xx'", double, "{{ ns.x | length }}")).expect_err(double);
            let error = format!("{error:#}");
            assert!(
                ["MB of memory", "too large", "empty separator"].iter().any(|said| error.contains(said)),
                "{error}"
            );
        }
        fails("{{ ('x' * 99999999) | length }}", "MB of memory");
        fails("{% for a in range(9999) %}{% set ns = 'x' * 99999999 %}{% endfor %}", "MB of memory");
    }

    #[test]
    fn values_that_double_and_nest_end_in_an_error_or_in_time() {
        let soon = Bounds { seconds: 3, ..LITTLE };
        let pairs = "{% set ns.x = [ns.x, ns.x] %}";
        fails(&repeated("[1]", pairs, "{{ ns.x ~ '' }}"), "MB of memory");
        let same = repeated("[1]", pairs, "{% set a = ns.x %}") + &repeated("[1]", pairs, "{{ a == ns.x }}");
        let error = render_within(soon, &same).unwrap_err();
        assert!(format!("{error:#}").contains("more than 3 seconds"), "{error:#}");
        // As deep as the fuel allows: sixty levels with each step.
        let deep = format!("{}ns.x{}", "[".repeat(60), "]".repeat(60));
        let deepest = |end: &str| {
            let step = format!("{{% set ns.x = {deep} %}}");
            let loops = format!("{{% for i in range(7000) %}}{step}{{% endfor %}}{end}");
            format!("{{% set ns = namespace(x=1) %}}{loops}")
        };
        assert_eq!(render(&deepest("")).unwrap(), "");
        fails(&deepest("{{ ns.x | tojson }}"), "levels");
        // The following ends in an error or a text, but it ends.
        let _ = render_within(soon, &deepest("{{ ns.x }}"));
        let _ = render_within(soon, &deepest("{{ ns.x == [ns.x] }}"));
        // Operators that the parser handles in a loop.
        let names =
            |operator: &str| format!("{{{{ x{} }}}}", operator.repeat(LARGEST_TEMPLATE / operator.len() - 5));
        for operator in ["~x", ".x", "|trim", "+1", " and x", "[0]", " if x else x", "**x"] {
            let _ = render_within(soon, &names(operator));
        }
        let _ = render_within(soon, &format!("{{{{ {}x }}}}", "not ".repeat(LARGEST_TEMPLATE / 4 - 5)));
        let _ = render_within(soon, &format!("{{{{ {}x }}}}", "-".repeat(LARGEST_TEMPLATE - 10)));
        let _ = render_within(
            soon,
            &format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(LARGEST_TEMPLATE / 12 - 5)),
        );
    }
}
