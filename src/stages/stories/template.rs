//! Fixed passages with the emotion's word inserted. Does not depend on any model.

use anyhow::{Context, Result};

use super::{Item, Story, Template, story_id, table};
use crate::store::table::Table;

/// Increased when the same passages and words would give different texts.
pub const VERSION: u32 = 1;

/// Every story of the source in order: by emotion, then by passage; `None`: neutral text.
pub fn items(params: &Template, emotions: Option<&[String]>) -> Vec<Item> {
    let passages = || 0..params.passages.len();
    let item =
        |emotion: Option<&String>, index| Item { emotion: emotion.cloned(), other: None, topic: None, index };
    match emotions {
        None => passages().map(|index| item(None, index)).collect(),
        Some(words) => {
            words.iter().flat_map(|word| passages().map(|index| item(Some(word), index))).collect()
        }
    }
}

/// The stories of `items`, in their order.
pub fn run(params: &Template, items: &[Item]) -> Result<Table> {
    let stories = items.iter().map(|item| {
        let passage = params.passages.get(item.index);
        let passage = passage.with_context(|| format!("there is no passage {}", item.index))?;
        let text = match &item.emotion {
            Some(word) => filled(passage, word, item.other.as_deref()),
            None => passage.clone(),
        };
        Ok(Story {
            story_id: story_id(item.emotion.as_deref(), None, item.index, &text),
            emotion: item.emotion.clone(),
            other: item.other.clone(),
            topic: None,
            index: item.index,
            text,
            writer: "template".into(),
            prompt: None,
            seed: None,
            rejected: 0,
        })
    });
    Ok(table(&stories.collect::<Result<Vec<_>>>()?))
}

/// `text` with both emotions of a dialogue inserted, or the one of a story.
pub fn filled(text: &str, emotion: &str, other: Option<&str>) -> String {
    let text = fill(text, emotion);
    other.map_or(text.clone(), |other| fill_as(&text, "other", other))
}

/// `text` with `{emotion}` replaced by `word`, and `{Emotion}` by `word` with a capital.
///
/// An article directly before a placeholder is adapted to the word: "a {emotion}" becomes "an angry" and "an
/// {emotion}" becomes "a sad". See [`takes_an`] for the rule.
pub fn fill(text: &str, word: &str) -> String {
    fill_as(text, "emotion", word)
}

/// The same for a placeholder with another name.
fn fill_as(text: &str, name: &str, word: &str) -> String {
    let with_capital = |word: &str| -> String {
        let mut capital = word.chars();
        capital.next().into_iter().flat_map(char::to_uppercase).chain(capital).collect()
    };
    let (capital, small, large) =
        (with_capital(word), format!("{{{name}}}"), format!("{{{}}}", with_capital(name)));
    let mut out = String::with_capacity(text.len() + word.len());
    let mut rest = text;
    while let Some(at) = rest.find(&small).into_iter().chain(rest.find(&large)).min() {
        out.push_str(&rest[..at]);
        fit_article(&mut out, takes_an(word));
        out.push_str(if rest[at..].starts_with(&small) { word } else { &capital });
        rest = &rest[at + small.len()..];
    }
    out + rest
}

/// If `text` ends in the word "a" or "an" and a space, replaces it by the right article.
fn fit_article(text: &mut String, an: bool) {
    let Some(before) = text.strip_suffix(' ') else { return };
    let (stem, article) = match before.rsplit_once(|c: char| !c.is_alphanumeric()) {
        Some((_, article)) => (before.len() - article.len(), article),
        None => (0, before),
    };
    if ["a", "an", "A", "An"].contains(&article) {
        let letter = article[..1].to_string();
        text.truncate(stem);
        text.push_str(&letter);
        text.push_str(if an { "n " } else { " " });
    }
}

/// Whether `word` takes "an": it starts with a vowel letter, but not with the sound of "you" as in "euphoric" or
/// "united"; or it starts with a silent h as in "honest" or "hour".
fn takes_an(word: &str) -> bool {
    let word = word.to_lowercase();
    let starts = |list: &[&str]| list.iter().any(|start| word.starts_with(start));
    let you = starts(&["eu", "uni", "use", "usu"]) && !starts(&["unin", "unim", "unid"]);
    (starts(&["a", "e", "i", "o", "u"]) && !you) || starts(&["honest", "honor", "honour", "hour", "heir"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_articles_and_capitals() {
        let check = |text: &str, word: &str, want: &str| assert_eq!(fill(text, word), want);
        check("He was {emotion}, so {emotion}.", "sad", "He was sad, so sad.");
        check("{Emotion} and {emotion}.", "at ease", "At ease and at ease.");
        check("What a {emotion} day. A {emotion} one.", "angry", "What an angry day. An angry one.");
        check("What an {emotion} day.", "sad", "What a sad day.");
        check("a {emotion} sea {emotion}", "euphoric", "a euphoric sea euphoric");
        check("an {emotion} x", "unhappy", "an unhappy x");
        check("(a {Emotion})", "uneasy", "(an Uneasy)");
        check("no placeholder { here }", "sad", "no placeholder { here }");
    }

    #[test]
    fn emotions_then_passages() {
        let params = Template { passages: vec!["I am {emotion}.".into(), "So {emotion}!".into()] };
        let items = items(&params, Some(&["sad".to_string(), "happy".to_string()]));
        let table = run(&params, &items[1..]).unwrap();
        assert_eq!(table.str("text").unwrap(), ["So sad!", "I am happy.", "So happy!"]);
        assert_eq!(table.i32("index").unwrap(), [1, 0, 1]);
        let neutral = super::items(&params, None);
        assert_eq!(run(&params, &neutral).unwrap().opt_str("emotion").unwrap(), [None, None]);
    }
}
