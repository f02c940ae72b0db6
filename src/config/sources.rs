//! `[stories]` and `[neutral]`: where texts come from. Opens no file and asks no model.

use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

use super::{Dataset, FileRows, Source, SourceKind, Writer, models};
use crate::params::problem::{Problem, closest, quoted, suggestion};
use crate::params::{Chosen, Read, Reader, Reported};
use crate::stages::stories::{Columns, Generate, Protocol, Reject, Server, Several, Template, file};

/// What texts a source is for.
#[derive(Clone, Copy, PartialEq)]
enum For {
    Stories,
    Neutral,
}

/// Every story source that is right in itself, in the order of the file. `models`: the names that may write.
pub(super) fn stories(root: &Reader<'_>, project: &Path, models: &[String]) -> Read<Vec<Source>> {
    let mut sources = Vec::new();
    for chosen in root.named_kinds("stories")? {
        if chosen.name == "neutral" {
            let problem = Problem::at(chosen.span.clone(), "a story source cannot be named `neutral`");
            chosen.reader.note(problem.hint("neutral text has a table of its own, `[neutral.<kind>]`"));
        }
        if let Ok((kind, span)) = kind(&chosen, project, models, For::Stories) {
            sources.push(Source { name: chosen.name, kind, span });
        }
    }
    Ok(sources)
}

/// The neutral text, where there is any.
pub(super) fn neutral(root: &Reader<'_>, project: &Path, models: &[String]) -> Read<Option<Source>> {
    let Some(chosen) = root.kinds("neutral")? else { return Ok(None) };
    let (kind, span) = kind(&chosen, project, models, For::Neutral)?;
    Ok(Some(Source { name: chosen.name, kind, span }))
}

fn kind(
    chosen: &Chosen<'_>,
    project: &Path,
    models: &[String],
    purpose: For,
) -> Read<(SourceKind, super::Span)> {
    let reader = &chosen.reader;
    let kind = match chosen.kind.name {
        "template" => template(reader, purpose).map(SourceKind::Template),
        "generate" => {
            let (writer, params) = (writer(reader, models), generate(reader, purpose));
            writer.and_then(|writer| Ok(SourceKind::Generate { writer, params: params? }))
        }
        "file" => {
            let (path, rows) = (path(reader, project), rows(reader, purpose));
            let kind = path.and_then(|path| Ok(SourceKind::File { path, rows: rows? }));
            return Ok((kind?, reader.span_of("path")));
        }
        "ollama" | "openai" => {
            let protocol = if chosen.kind.name == "ollama" { Protocol::Ollama } else { Protocol::OpenAi };
            let (server, params) = (server(reader, protocol), generate(reader, purpose));
            let kind = server.and_then(|server| Ok(SourceKind::Served { server, params: params? }));
            // What is wrong with the model at the server is wrong there.
            return Ok((kind?, reader.span_of("model")));
        }
        _ => return Ok((dataset(reader, purpose)?, reader.span_of("repo"))),
    };
    Ok((kind?, chosen.span.clone()))
}

fn template(reader: &Reader<'_>, purpose: For) -> Read<Template> {
    let both = || format!("`[{}]` has both `set` and `passages`", reader.label);
    match (reader.has("set"), reader.has("passages")) {
        (true, true) => {
            let problem = Problem::at(reader.key_span("passages"), both());
            reader.wrong(problem.hint("keep one; two sources may stand side by side under two names"))
        }
        (true, false) => Ok(Template { passages: reader.get("set")? }),
        (false, false) if purpose == For::Neutral => Ok(Template {
            passages: super::presets::NEUTRAL.iter().take(1).flat_map(|set| set.entries()).collect(),
        }),
        (false, false) => {
            let problem =
                Problem::at(reader.span(), format!("`[{}]` has neither `set` nor `passages`", reader.label));
            reader.wrong(problem.hint("add `set = \"passages-10\"` or `passages = [\"... {emotion} ...\"]`"))
        }
        (false, true) => {
            let passages = reader.texts("passages")?.unwrap_or_default();
            let mut wrong = false;
            for (passage, span) in &passages {
                let problem = placeholder_problem("a passage", passage, span, &["emotion"], purpose);
                wrong |= problem.is_some();
                problem.into_iter().for_each(|problem| reader.note(problem));
            }
            if wrong {
                Err(Reported)
            } else {
                Ok(Template { passages: passages.into_iter().map(|(text, _)| text).collect() })
            }
        }
    }
}

/// Whether a text's `{placeholders}` are those that will be filled in.
fn placeholder_problem(
    what: &str,
    text: &str,
    span: &super::Span,
    known: &[&str],
    purpose: For,
) -> Option<Problem> {
    let names: Vec<&str> = placeholders(text).collect();
    if purpose == For::Neutral && names.contains(&"emotion") {
        let problem = Problem::at(span.clone(), format!("{what} of neutral text contains `{{emotion}}`"));
        return Some(problem.hint("neutral text is the same for all emotions: take the placeholder out"));
    }
    let known: Vec<&str> =
        known.iter().copied().filter(|name| purpose != For::Neutral || *name != "emotion").collect();
    if let Some(name) = names.iter().find(|name| !known.is_empty() && !known.contains(name)) {
        let problem = Problem::at(
            span.clone(),
            format!("{what} contains {}, which nothing fills in", quoted(&format!("{{{name}}}"))),
        );
        return Some(problem.hint(match closest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{{{meant}}}`?"),
            None => {
                "placeholders: ".to_string()
                    + &known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
            }
        }));
    }
    if purpose != For::Neutral && !names.contains(&"emotion") {
        let problem = Problem::at(span.clone(), format!("{what} does not contain `{{emotion}}`"));
        return Some(problem.hint("without it, the text is the same for all emotions"));
    }
    None
}

/// The words that stand in braces: `{emotion}`.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(inner, _)| inner);
    inner.filter(|inner| !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn writer(reader: &Reader<'_>, models: &[String]) -> Read<Writer> {
    let name = reader.filled("model")?;
    if name == "self" {
        return Ok(Writer::Own);
    }
    // Models that are wrong themselves are named too, so that one mistake is one problem.
    if models.contains(&name) {
        return Ok(Writer::Model(name));
    }
    let names = models.iter().map(String::as_str).chain(["self"]);
    let problem = Problem::at(reader.span_of("model"), format!("no model {} writes here", quoted(&name)));
    reader.wrong(problem.hint(suggestion(&name, "it is `self` (each model its own) or one of", names)))
}

fn generate(reader: &Reader<'_>, purpose: For) -> Read<Generate> {
    let (topics, per_topic) = (reader.get("topics"), reader.get("per_topic"));
    let (max_new_tokens, temperature) = (reader.get("max_new_tokens"), reader.get("temperature"));
    let (top_p, top_k) = (reader.get("top_p"), reader.get("top_k"));
    let prompt = reader.filled("prompt").and_then(|prompt| {
        match placeholder_problem(
            "the prompt",
            &prompt,
            &reader.span_of("prompt"),
            &["emotion", "topic", "person", "count"],
            purpose,
        ) {
            Some(problem) => reader.wrong(problem),
            None => Ok(prompt),
        }
    });
    let system = reader.get::<String>("system").and_then(|system| {
        match placeholders(&system).find(|name| ["emotion", "topic", "person", "count"].contains(name)) {
            None => Ok(system.clone()),
            Some(name) => {
                let message = format!("`{{{name}}}` is not filled in in `system`");
                reader.wrong(Problem::at(reader.span_of("system"), message).hint("put it into `prompt`"))
            }
        }
    });
    let several = several(reader, per_topic, &prompt);
    let reject = reader.inner("reject").and_then(|table| {
        let names_emotion = if purpose == For::Neutral { Ok(false) } else { table.get("names_emotion") };
        let (min_tokens, attempts) = (table.get("min_tokens"), table.get("attempts"));
        if let (Ok(min), Ok(max)) = (min_tokens, max_new_tokens)
            && min > max
        {
            let message = format!("no text has {min} tokens when `max_new_tokens` is {max}");
            table.note(
                Problem::at(table.span_of("min_tokens"), message)
                    .hint("lower `min_tokens` or raise `max_new_tokens`"),
            );
        }
        let (refusals, near_duplicate) = (table.get("refusals"), table.get("near_duplicate"));
        let cut = table.get("cut");
        Ok(Reject {
            names_emotion: names_emotion?,
            min_tokens: min_tokens?,
            attempts: attempts?,
            refusals: refusals?,
            cut: cut?,
            near_duplicate: near_duplicate?,
        })
    });
    Ok(Generate {
        topics: topics?,
        per_topic: per_topic?,
        max_new_tokens: max_new_tokens?,
        temperature: temperature?,
        top_p: top_p?,
        top_k: top_k?,
        prompt: prompt?,
        system: system?,
        several: several?,
        reject: reject?,
    })
}

/// Several texts in a reply; `None`: one.
fn several(reader: &Reader<'_>, per_topic: Read<usize>, prompt: &Read<String>) -> Read<Option<Several>> {
    let (per_reply, separator) = (reader.get("per_reply"), separator(reader));
    let per_reply = per_reply?;
    if let Ok(per_topic) = per_topic
        && per_reply > per_topic
    {
        let message = format!("a reply cannot hold {per_reply} texts when `per_topic` is {per_topic}");
        let hint = "lower `per_reply` or raise `per_topic`: a reply is about one emotion and topic";
        return reader.wrong(Problem::at(reader.span_of("per_reply"), message).hint(hint));
    }
    if let Ok(prompt) = prompt
        && per_reply > 1
        && placeholders(prompt).all(|name| name != "count")
    {
        let message = format!("`per_reply` = {per_reply}, but the prompt does not contain `{{count}}`");
        let hint = "ask for \"{count} stories\" and for the separator, such as \"put --- on a line of its own \
                    between two stories\"";
        return reader.wrong(Problem::at(reader.span_of("prompt"), message).hint(hint));
    }
    Ok((per_reply > 1).then_some(Several { per_reply, separator: separator? }))
}

fn separator(reader: &Reader<'_>) -> Read<String> {
    let separator = reader.filled("separator")?;
    if separator.trim().lines().count() == 1 {
        return Ok(separator.trim().to_string());
    }
    let message = format!("`separator` is {}, which is no line of text", quoted(&separator));
    let problem = Problem::at(reader.span_of("separator"), message);
    reader.wrong(problem.hint("it stands on one line of its own between two texts, such as \"---\""))
}

fn path(reader: &Reader<'_>, project: &Path) -> Read<std::path::PathBuf> {
    let written = reader.filled("path")?;
    match file::refused(&written).filter(|_| is_plain(&written)) {
        None => Ok(project.join(&written)),
        Some(why) => {
            let problem = Problem::at(reader.span_of("path"), format!("{} {why}", quoted(&written)));
            reader.wrong(problem.hint(file::KNOWN))
        }
    }
}

/// How the rows of files are read.
fn rows(reader: &Reader<'_>, purpose: For) -> Read<FileRows> {
    let (columns, empty) = (columns(reader, purpose), reader.get("empty"));
    let labels = if purpose == For::Neutral { Ok(Vec::new()) } else { reader.text_by_name("labels") };
    Ok(FileRows { columns: columns?, labels: labels?.into_iter().collect(), empty: empty? })
}

fn columns(reader: &Reader<'_>, purpose: For) -> Read<Columns> {
    let table = reader.inner("columns")?;
    let emotion = if purpose == For::Neutral { Ok(None) } else { table.filled("emotion").map(Some) };
    let (text, topic) = (table.filled("text"), table.get("topic"));
    Ok(Columns { emotion: emotion?, text: text?, topic: topic? })
}

/// Who is asked, and how.
fn server(reader: &Reader<'_>, protocol: Protocol) -> Read<Server> {
    let (url, model) = (url(reader), reader.filled("model"));
    let (parallel, timeout) = (reader.get("parallel"), reader.get("timeout"));
    let patience = reader.get("patience");
    let (api_key_env, identity) = match protocol {
        Protocol::Ollama => (Ok(None), Ok(None)),
        Protocol::OpenAi => (variable(reader, "api_key_env"), identity(reader)),
    };
    let body = body(reader);
    Ok(Server {
        protocol,
        url: url?,
        model: model?,
        api_key_env: api_key_env?,
        parallel: parallel?,
        timeout: timeout?,
        patience: patience?,
        identity: identity?,
        body: body?,
    })
}

/// Fields of requests that have a key of their own, or that are ours to say.
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

/// Further fields of requests.
fn body(reader: &Reader<'_>) -> Read<serde_json::Map<String, serde_json::Value>> {
    let body = reader.fields("body")?;
    let Some((field, key)) = OURS.iter().find(|(field, _)| body.contains_key(*field)) else {
        return Ok(body);
    };
    let problem = Problem::at(reader.span_of("body"), format!("`{field}` cannot be in `body`"));
    reader.wrong(problem.hint(match key.is_empty() {
        true => "replies are read whole, one to a request: take it out".to_string(),
        false => format!("it is said by `{key}`"),
    }))
}

/// The address of a server, without a slash at its end.
fn url(reader: &Reader<'_>) -> Read<String> {
    let written = reader.filled("url")?;
    let url = written.trim_end_matches('/');
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let Some(rest) = rest.filter(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) else {
        let problem = Problem::at(reader.span_of("url"), format!("{} is no address", quoted(&written)));
        return reader.wrong(problem.hint("an address starts with http:// or https://"));
    };
    // These may hold a key: not even their line is shown.
    let secret = |message: &str| {
        let hint = "keys are written nowhere: name the variable that holds the key in `api_key_env`";
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

/// What stands for a model in keys.
fn identity(reader: &Reader<'_>) -> Read<Option<String>> {
    match reader.has("identity") {
        true => reader.filled("identity").map(Some),
        false => Ok(None),
    }
}

/// The name of an environment variable that holds a key.
fn variable(reader: &Reader<'_>, key: &str) -> Read<Option<String>> {
    let name: Option<String> = reader.get(key)?;
    if name.as_ref().is_none_or(|name| is_variable(name)) {
        return Ok(name);
    }
    // The text may be a key: not even its line is shown.
    let problem = Problem::at(reader.span(), format!("`{key}` is no name of an environment variable"));
    reader.wrong(problem.hint("give the variable's name, such as \"OPENAI_API_KEY\", never the key itself"))
}

/// Files of a repository on the hub.
fn dataset(reader: &Reader<'_>, purpose: For) -> Read<SourceKind> {
    let (repo, revision) = (models::repo(reader), models::revision(reader));
    let (files, rows) = (reader.filled("files").and_then(|files| glob(reader, files)), rows(reader, purpose));
    let limit = if purpose == For::Neutral { Ok(None) } else { reader.get("limit_per_emotion") };
    Ok(SourceKind::Dataset(Dataset {
        repo: repo?,
        revision: revision?.unwrap_or_else(|| "main".into()),
        files: files?,
        rows: rows?,
        limit_per_emotion: limit?,
        files_span: reader.span_of("files"),
    }))
}

/// A glob of files of a repository, if it is one and does not ask for what cannot be read.
fn glob(reader: &Reader<'_>, files: String) -> Read<String> {
    let at = |message: String| Problem::at(reader.span_of("files"), message);
    if let Err(error) = matcher(&files) {
        let problem = at(format!("{} is no glob: {}", quoted(&files), error.kind()));
        return reader
            .wrong(problem.hint("such as \"data/*.parquet\"; `**` crosses folders, `*` and `?` do not"));
    }
    if files.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        let problem = at(format!("{} leads out of the repository", quoted(&files)));
        return reader
            .wrong(problem.hint("files are named from the repository's top, such as \"data/*.parquet\""));
    }
    match file::refused(&files).filter(|_| is_plain(&files)) {
        Some(why) => reader.wrong(at(format!("{} {why}", quoted(&files))).hint(CONVERTED)),
        None => Ok(files),
    }
}

/// Whether the end of a glob says by itself which format the files have that it means.
fn is_plain(files: &str) -> bool {
    let ending = files.rsplit(['/', '.']).next().unwrap_or_default();
    files.rsplit('/').next().is_some_and(|name| name.contains('.'))
        && ending.chars().all(|character| character.is_ascii_alphanumeric())
}

/// What to do about files of a dataset that cannot be read.
pub const CONVERTED: &str = "name .parquet, .jsonl, .json, .csv, .tsv or .txt files; of many datasets the hub itself keeps a Parquet copy: \
                             `revision = \"refs/convert/parquet\"`";

/// Whether a glob means a file, by the names of both: `*` and `?` stay within a folder, `**` does not.
pub fn matcher(files: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(files).literal_separator(true).build()?.compile_matcher())
}

fn is_variable(name: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || character == '_';
    !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_stays_within_a_folder_unless_it_says_otherwise() {
        for (files, yes, no) in [
            ("data/*.csv", "data/a.csv", "data/more/a.csv"),
            ("*.csv", "a.csv", "data/a.csv"),
            ("data/?.csv", "data/a.csv", "data/ab.csv"),
            ("a?b.csv", "a-b.csv", "a/b.csv"),
            ("**/*.csv", "data/more/a.csv", "data/a.jsonl"),
            ("data/**", "data/more/a.csv", "other/a.csv"),
            ("data/**/a.csv", "data/a.csv", "data/b.csv"),
            ("{train,test}-[0-9].csv", "test-1.csv", "test-a.csv"),
            ("A.csv", "A.csv", "a.csv"),
        ] {
            let matcher = matcher(files).unwrap();
            assert!(matcher.is_match(yes), "{files} {yes}");
            assert!(!matcher.is_match(no), "{files} {no}");
        }
    }
}
