//! `[models]` and `[emotions]`. Knows no checkpoint: a folder or repository is looked at later.

use std::collections::HashSet;
use std::path::Path;

use super::{Adapter, Model, ModelSource, OtherTokenizer, layers};
use crate::params::problem::{Problem, quoted};
use crate::params::{Read, Reader, Reported};
use crate::stages::stories::words::{folded, is_letters};

/// Every model, in the order of the file.
pub(super) fn models(root: &Reader<'_>, project: &Path) -> Read<Vec<Model>> {
    let tables = root.named("models")?;
    let count = tables.len();
    let mut models = Vec::new();
    for (entry, reader) in tables {
        if entry.key == "self" {
            let problem = Problem::at(entry.key_span, "`self` cannot be a model's name");
            reader.note(problem.hint("`model = \"self\"` means that each model writes its own stories"));
            continue;
        }
        let source = source(&reader, project);
        let adapter = adapter(&reader, project);
        let (dtype, compute_dtype) = (reader.get("dtype"), reader.get("compute_dtype"));
        let (own, thinking) = (layers::read(&reader), reader.get("thinking"));
        let (offload, ignored) = (reader.get("offload"), reader.texts("ignore_config"));
        let Ok(tokenizer) = tokenizer(&reader, project) else { continue };
        let (Ok(source), Ok(dtype), Ok(compute_dtype)) = (source, dtype, compute_dtype) else { continue };
        let (Ok(own), Ok(thinking), Ok(offload), Ok(ignored)) = (own, thinking, offload, ignored) else {
            continue;
        };
        let Ok(adapter) = adapter else { continue };
        let (ignore_config, ignore_spans) = ignored.unwrap_or_default().into_iter().unzip();
        let written = if own.is_some() || !root.has("layers") { &reader } else { root };
        let layers_span = written.span_of("layers");
        let place = ["path", "ollama"].into_iter().find(|key| reader.has(key)).unwrap_or("repo");
        let source_span = reader.span_of(place);
        models.push(Model {
            name: entry.key,
            source,
            adapter,
            tokenizer,
            dtype,
            compute_dtype,
            offload,
            ignore_config,
            layers: own,
            thinking,
            span: reader.span(),
            source_span,
            layers_span,
            ignore_spans,
            thinking_span: reader.span_of("thinking"),
        });
    }
    if models.len() == count { Ok(models) } else { Err(Reported) }
}

/// `tokenizer`, which is looked for later.
fn tokenizer(reader: &Reader<'_>, project: &Path) -> Read<Option<OtherTokenizer>> {
    if !reader.has("tokenizer") {
        return Ok(None);
    }
    let written = reader.filled("tokenizer")?;
    Ok(Some(OtherTokenizer { path: project.join(&written), written, span: reader.span_of("tokenizer") }))
}

fn source(reader: &Reader<'_>, project: &Path) -> Read<ModelSource> {
    let revision = revision(reader);
    let given: Vec<&str> = ["repo", "path", "ollama"].into_iter().filter(|key| reader.has(key)).collect();
    if let (Some(key), true) = (given.first().filter(|key| **key != "repo"), reader.has("revision")) {
        let problem = Problem::at(
            reader.key_span("revision"),
            format!("`revision` belongs to a `repo`, not to a `{key}`"),
        );
        return reader.wrong(problem.hint("take it out; a folder's files are identified by their content"));
    }
    match given[..] {
        [first, second, ..] => {
            let problem = Problem::at(
                reader.key_span(second),
                format!("`[{}]` has both `{first}` and `{second}`", reader.label),
            );
            reader.wrong(problem.hint("keep the one that the model is to be taken from"))
        }
        [] => {
            let problem =
                Problem::at(reader.span(), format!("`[{}]` has neither `repo` nor `path`", reader.label));
            reader.wrong(problem.hint("add `repo = \"owner/name\"` of the hub, or `path = \"folder\"`"))
        }
        ["path"] => Ok(ModelSource::Path(project.join(reader.filled("path")?))),
        ["ollama"] => Ok(ModelSource::Ollama(reader.filled("ollama")?)),
        _ => {
            let repo = repo(reader);
            Ok(ModelSource::Repo { repo: repo?, revision: revision?.unwrap_or_else(|| "main".into()) })
        }
    }
}

/// `adapter`, which is looked for later, and its revision.
fn adapter(reader: &Reader<'_>, project: &Path) -> Read<Option<Adapter>> {
    let revision = revision_at(reader, "adapter_revision")?;
    if !reader.has("adapter") {
        if revision.is_some() {
            let problem = Problem::at(reader.key_span("adapter_revision"), "there is no `adapter`");
            return reader.wrong(problem.hint("take it out, or say which adapter with `adapter`"));
        }
        return Ok(None);
    }
    let written = reader.filled("adapter")?;
    Ok(Some(Adapter { path: project.join(&written), written, revision, span: reader.span_of("adapter") }))
}

/// Whether a text is `owner/name`, as repositories of the hub are called.
pub fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// `repo` as `owner/name`.
pub(super) fn repo(reader: &Reader<'_>) -> Read<String> {
    let repo = reader.filled("repo")?;
    if is_repo(&repo) {
        return Ok(repo);
    }
    let problem =
        Problem::at(reader.span_of("repo"), format!("{} is no repository of the hub", quoted(&repo)));
    reader.wrong(
        problem
            .hint("a repository is `owner/name`, as in the address of its page; a folder is given as `path`"),
    )
}

/// `revision`, where it is written or has a default.
pub(super) fn revision(reader: &Reader<'_>) -> Read<Option<String>> {
    revision_at(reader, "revision")
}

/// The revision that is written at `key`.
fn revision_at(reader: &Reader<'_>, key: &str) -> Read<Option<String>> {
    let Some(revision): Option<String> = reader.get(key)? else { return Ok(None) };
    let fits = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
    if !revision.is_empty() && !revision.contains("..") && revision.chars().all(fits) {
        return Ok(Some(revision));
    }
    let problem = Problem::at(reader.span_of(key), format!("{} is no revision", quoted(&revision)));
    reader.wrong(problem.hint("a revision is a branch, a tag or a commit"))
}

/// The preset's words and the file's own, each once.
pub(super) fn emotions(root: &Reader<'_>) -> Read<Vec<String>> {
    let reader = root.inner("emotions")?;
    let (preset, words) = (reader.get::<Option<Vec<String>>>("preset"), reader.texts("words"));
    let (preset, words) = (preset?, words?);
    if preset.is_none() && words.is_none() {
        let problem = Problem::at(reader.span(), "`[emotions]` names no emotion");
        return reader
            .wrong(problem.hint("add `preset = \"core-9\"`, or `words = [\"happy\", \"sad\"]`, or both"));
    }
    let mut emotions = preset.unwrap_or_default();
    let of_preset: HashSet<String> = emotions.iter().map(|word| folded(word)).collect();
    let mut seen = of_preset.clone();
    let mut wrong = false;
    for (word, span) in words.unwrap_or_default() {
        let problem = if !is_word(&word) {
            Problem::at(span, format!("{} cannot be an emotion", quoted(&word))).hint(
                "an emotion is letters, with single spaces, hyphens or apostrophes inside, such as `at ease`",
            )
        } else if !seen.insert(folded(&word)) {
            let where_else = if of_preset.contains(&folded(&word)) { "in the preset" } else { "in `words`" };
            Problem::at(span, format!("{} is {where_else} already", quoted(&word)))
                .hint("take it out of `words`: case, spaces, hyphens and apostrophes make no other emotion")
        } else {
            emotions.push(word);
            continue;
        };
        reader.note(problem);
        wrong = true;
    }
    if wrong { Err(Reported) } else { Ok(emotions) }
}

/// Letters of any script, with single spaces, hyphens or apostrophes between them.
fn is_word(word: &str) -> bool {
    let parts: Vec<&str> = word.split([' ', '-', '\'', '\u{2019}']).collect();
    word.chars().count() <= 40 && parts.iter().all(|part| is_letters(part))
}
