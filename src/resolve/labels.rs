//! Notes about the rows of story files: skipped rows, labels that match no emotion, emotions without stories.

use std::cmp::Reverse;

use crate::config::problem::closest;
use crate::stages::stories::file::{Files, Survey};
use crate::stages::stories::words::folded;

/// The most labels and emotions that are listed by name.
const NAMED: usize = 8;

/// The problem and a hint if an emotion has no story.
pub fn lacking(files: &Files, survey: &Survey) -> Option<(String, String)> {
    let emotions = files.emotions.as_ref()?;
    let lacking = emotions.iter().zip(&survey.of_emotion).filter(|(_, stories)| **stories == 0);
    let lacking: Vec<&str> = lacking.map(|(emotion, _)| emotion.as_str()).collect();
    let first = *lacking.first()?;
    let which = match lacking.len() == emotions.len() {
        true => "no row has one of the experiment's emotions".to_string(),
        false => format!("no row has the emotion {}", some(lacking.iter().map(|name| format!("`{name}`")))),
    };
    let mut there: Vec<(&String, &usize)> = survey.others.iter().collect();
    there.sort_by_key(|(label, rows)| (nearest(label, &lacking).is_none(), Reverse(**rows), label.as_str()));
    let others = there.iter().map(|(label, rows)| format!("`{label}` ({rows})"));
    let mut have = match there.is_empty() {
        true => "every other row is of another of its emotions".to_string(),
        false => format!("its other labels are {}", some(others)),
    };
    for (count, what) in [
        (survey.unlabelled, "rows have no label"),
        (survey.several, "rows have several labels, which are the story of none alone"),
        (survey.empty, "rows of its emotions have no text"),
    ] {
        if count > 0 {
            have.push_str(&format!("; {count} {what}"));
        }
    }
    let are_numbers = there.iter().all(|(label, _)| label.parse::<i64>().is_ok()) && !there.is_empty();
    let guess = there.iter().find_map(|(label, _)| Some((label.as_str(), nearest(label, &lacking)?)));
    let hint = match (guess, there.first()) {
        (Some((label, meant)), _) => {
            format!("if `{label}` means `{meant}`, write `labels = {{ {} = \"{meant}\" }}`", key(label))
        }
        (None, Some((label, _))) if are_numbers => {
            format!("map the numbers to emotions: `labels = {{ {label} = \"{first}\", ... }}`")
        }
        _ => "remove it from `[emotions]`, or map a label to it: `labels = { \"label\" = \"emotion\" }`"
            .to_string(),
    };
    Some((format!("{}: {which}; {have}", files.shown()), hint))
}

/// Notes on what was skipped, and why; empty if there is nothing to report. `name`: the source's.
pub fn notes(name: &str, files: &Files, survey: &Survey) -> Vec<String> {
    let mut notes = Vec::new();
    if survey.empty > 0 {
        let more = if survey.empty > survey.empty_at.len() { ", ..." } else { "" };
        let (at, rows) = (survey.empty_at.join("; "), rows(survey.empty));
        notes.push(format!("{rows} without a text skipped ({at}{more})"));
    }
    if survey.several > 0 {
        notes.push(format!("{} with several labels skipped", rows(survey.several)));
    }
    if survey.unlabelled > 0 {
        notes.push(format!("{} without a label skipped", rows(survey.unlabelled)));
    }
    if let (Some(emotions), false) = (&files.emotions, survey.others.is_empty()) {
        let emotions: Vec<&str> = emotions.iter().map(String::as_str).collect();
        let mut others: Vec<(&String, &usize, Option<&str>)> =
            survey.others.iter().map(|(label, rows)| (label, rows, nearest(label, &emotions))).collect();
        others.sort_by_key(|(label, rows, near)| (near.is_none(), Reverse(**rows), label.as_str()));
        let shown = others.iter().map(|(label, rows, near)| match near {
            Some(near) => format!("`{label}` ({rows}; did you mean `{near}`?)"),
            None => format!("`{label}` ({rows})"),
        });
        let total = survey.others.values().sum::<usize>() + survey.more;
        notes.push(format!(
            "{} skipped, since their labels are not emotions of the experiment: {}",
            rows(total),
            some(shown)
        ));
    }
    let mut named: Vec<&str> = survey.by_name.iter().flatten().map(String::as_str).collect();
    named.dedup();
    if !named.is_empty() {
        notes.push(format!(
            "the file's name is the emotion: {}",
            some(named.iter().map(|name| format!("`{name}`")))
        ));
    }
    notes.into_iter().map(|note| format!("stories/{name}: {note}")).collect()
}

fn rows(count: usize) -> String {
    format!("{count} row{}", if count == 1 { "" } else { "s" })
}

/// The emotion that a label may be a misspelling of.
fn nearest<'a>(label: &str, emotions: &[&'a str]) -> Option<&'a str> {
    let spelled: Vec<String> = emotions.iter().map(|emotion| folded(emotion)).collect();
    let label = folded(label);
    // Short words are all close to each other.
    let near =
        (label.chars().count() >= 4).then(|| closest(&label, spelled.iter().map(String::as_str)))??;
    spelled.iter().position(|emotion| emotion == near).map(|at| emotions[at])
}

/// The first items of a list, and the number of further ones.
fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// A label as a key of TOML.
fn key(label: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !label.is_empty() && label.chars().all(bare) {
        true => label.to_string(),
        false => format!("\"{}\"", label.escape_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::stories::Columns;
    use crate::stages::stories::file::Empty;

    fn files(emotions: &[&str]) -> Files {
        Files {
            paths: vec!["s.csv".into()],
            columns: Columns { emotion: Some("emotion".into()), text: "text".into(), topic: None },
            emotions: Some(emotions.iter().map(ToString::to_string).collect()),
            labels: Default::default(),
            empty: Empty::Skip,
            limit_per_emotion: None,
        }
    }

    fn survey(of_emotion: &[usize], others: &[(&str, usize)]) -> Survey {
        let others = others.iter().map(|(label, rows)| (label.to_string(), *rows)).collect();
        Survey { of_emotion: of_emotion.to_vec(), others, by_name: vec![None], ..Survey::default() }
    }

    #[test]
    fn an_emotion_without_a_story_is_told_with_the_labels_there_are() {
        let files = files(&["afraid", "sad"]);
        let (said, hint) = lacking(&files, &survey(&[0, 4], &[("bored", 9), ("affraid", 3)])).unwrap();
        assert_eq!(
            said,
            "s.csv: no row has the emotion `afraid`; its other labels are `affraid` (3), `bored` (9)"
        );
        assert_eq!(hint, "if `affraid` means `afraid`, write `labels = { affraid = \"afraid\" }`");
        let (said, hint) = lacking(&files, &survey(&[0, 0], &[("0", 2), ("1", 2)])).unwrap();
        assert!(said.contains("no row has one of the experiment's emotions"), "{said}");
        assert!(hint.contains("labels = { 0 = \"afraid\", ... }"), "{hint}");
        assert_eq!(lacking(&files, &survey(&[1, 1], &[("affraid", 3)])), None);
    }

    #[test]
    fn what_is_skipped_is_counted_and_misspellings_come_first() {
        let files = files(&["afraid", "grief-stricken"]);
        let mut survey = survey(&[3, 1], &[("bored", 40), ("affraid", 2)]);
        (survey.empty, survey.empty_at) = (1, vec!["s.csv, line 7".into()]);
        (survey.several, survey.unlabelled, survey.more) = (2, 1, 5);
        let notes = notes("mine", &files, &survey);
        assert_eq!(
            notes,
            [
                "stories/mine: 1 row without a text skipped (s.csv, line 7)",
                "stories/mine: 2 rows with several labels skipped",
                "stories/mine: 1 row without a label skipped",
                "stories/mine: 47 rows skipped, since their labels are not emotions of the experiment: `affraid` (2; did you mean \
                 `afraid`?), `bored` (40)",
            ]
        );
        assert!(super::notes("mine", &files, &self::survey(&[1, 1], &[])).is_empty());
    }

    #[test]
    fn labels_are_written_as_keys_of_toml() {
        for (label, want) in [("0", "0"), ("a_b-c", "a_b-c"), ("a b", "\"a b\""), ("", "\"\"")] {
            assert_eq!(key(label), want);
        }
    }
}
