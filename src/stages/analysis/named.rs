//! Emotions named in an analysis' table: each must be one of the experiment's.

use crate::params::problem::{quoted, suggestion};
use crate::params::{Problem, Read, Reader, Reported, Span};

/// Pairs of two emotions.
pub fn pairs(reader: &Reader<'_>, name: &str) -> Read<Vec<(String, String)>> {
    let pairs = reader.pairs(name)?;
    let mut wrong = false;
    for pair in &pairs {
        for (word, span) in pair {
            wrong |= unknown(reader, word, span);
        }
        let [(a, _), (b, span)] = pair;
        if a == b {
            let problem = Problem::at(span.clone(), format!("{} is paired with itself", quoted(a)));
            reader.note(problem.hint("that cosine is 1; name two emotions"));
            wrong = true;
        }
    }
    if wrong { Err(Reported) } else { Ok(pairs.into_iter().map(|[(a, _), (b, _)]| (a, b)).collect()) }
}

/// Reports a word that is not an emotion of the experiment; if the experiment's emotions are themselves invalid,
/// reports nothing.
pub fn unknown(reader: &Reader<'_>, word: &str, span: &Span) -> bool {
    let Some(emotions) = reader.scope.emotions.get() else { return false };
    if emotions.iter().any(|emotion| emotion == word) {
        return false;
    }
    let hint = match suggestion(word, "", emotions.iter().map(String::as_str)) {
        hint if hint.starts_with("did") => hint,
        _ => format!("add it to `emotions.words`, or name one of the {} emotions", emotions.len()),
    };
    let message = format!("{} is not an emotion of this experiment", quoted(word));
    reader.note(Problem::at(span.clone(), message).hint(hint));
    true
}

/// Text prefixes, each of which is followed by an emotion's word.
pub fn prompts(reader: &Reader<'_>, name: &str) -> Read<Vec<String>> {
    let check = |(prompt, span): (String, Span)| {
        if !prompt.ends_with(char::is_whitespace) {
            return Ok(prompt);
        }
        let problem = Problem::at(span, "a prompt must not end in white space");
        reader.wrong(problem.hint("each emotion's word is put behind it with a space of its own"))
    };
    let prompts: Vec<Read<String>> = reader.texts(name)?.into_iter().flatten().map(check).collect();
    prompts.into_iter().collect()
}
