//! Splits a reply into its stories. Independent of how stories are judged.

/// The longest line, in characters, that may introduce stories or be a heading.
const SHORT_LINE: usize = 100;

/// The stories of a reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Pieces {
    /// None of them is empty.
    pub texts: Vec<String>,
    /// A separator follows the last of them, so that it is complete wherever the reply ended.
    pub ended: bool,
}

/// The stories of an answer for which `separator` was requested on a line of its own between two stories.
///
/// An answer without that line is split at Markdown rules (`***`, `---`, `___`), and one without those at its headings
/// ("Story 3:", "3."), since writers do not always follow the instruction. Headings are removed from the stories, and
/// so is a line before the first story that only introduces them ("Here are three stories:").
pub fn split(answer: &str, separator: &str) -> Pieces {
    let answer = introduced(answer);
    let at: &dyn Fn(&str) -> bool = &|line| line.trim() == separator.trim();
    let mut pieces = cut(answer, at, false);
    if !answer.lines().any(at) {
        pieces = match answer.lines().any(is_rule) {
            true => cut(answer, &is_rule, false),
            false => cut(answer, &is_heading, true),
        };
    }
    let introduction = |text: &String| text.lines().count() == 1 && text.ends_with(':') && is_short(text);
    if pieces.texts.len() > 1 && introduction(&pieces.texts[0]) {
        pieces.texts.remove(0);
    }
    for text in &mut pieces.texts {
        *text = without_heading(text).to_string();
    }
    pieces.texts.retain(|text| !text.is_empty());
    pieces
}

/// The texts between the border lines that `at` accepts; if `keeps`, a border line belongs to the text after it.
fn cut(answer: &str, at: &dyn Fn(&str) -> bool, keeps: bool) -> Pieces {
    let mut texts = vec![String::new()];
    let mut ended = false;
    for line in answer.lines() {
        let border = at(line);
        if border {
            texts.push(String::new());
        }
        if let (Some(text), true) = (texts.last_mut(), keeps || !border) {
            text.push_str(line);
            text.push('\n');
        }
        if !line.trim().is_empty() {
            ended = border && !keeps;
        }
    }
    let texts = texts.iter().map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    Pieces { texts: texts.collect(), ended }
}

/// An answer without a first line that only introduces what follows ("Sure! Here are two stories about rain:").
pub fn introduced(answer: &str) -> &str {
    let (first, rest) = answer.split_once('\n').unwrap_or((answer, ""));
    let line = first.trim().trim_end_matches(['*', '_']).to_lowercase().replace('’', "'");
    let introduces = ["here are ", "here is ", "here's "].iter().any(|words| line.contains(words))
        && ["stor", "dialogue", "conversation"].iter().any(|what| line.contains(what))
        && line.ends_with(':')
        && is_short(&line);
    if introduces { rest.trim() } else { answer }
}

fn is_short(line: &str) -> bool {
    line.chars().count() <= SHORT_LINE
}

/// Whether a line is a Markdown rule: three or more of one of `-*_`, possibly with spaces between.
fn is_rule(line: &str) -> bool {
    let marks: Vec<char> = line.chars().filter(|c| !c.is_whitespace()).collect();
    marks.len() >= 3 && ['-', '*', '_'].contains(&marks[0]) && marks.iter().all(|mark| *mark == marks[0])
}

/// Whether a line is only a story's heading, "Story 3:", "**Story 3**", "### Story 3: The Bus", "3."; a line with a
/// title after the number is a heading only if the whole line is marked up as one.
fn is_heading(line: &str) -> bool {
    let line = line.trim();
    let text = line.trim_start_matches(['#', '*', '_', ' ']);
    let marked = text.len() < line.len();
    let text = text.trim_end_matches(['*', '_', ' ']);
    let lower = text.to_lowercase();
    let told = lower.strip_prefix("story");
    let number = told.unwrap_or(&lower).trim_start_matches(['#', ' ']);
    let after = number.trim_start_matches(|c: char| c.is_ascii_digit());
    if !(1..=3).contains(&(number.len() - after.len())) {
        return false;
    }
    match after.trim_start() {
        "" => told.is_some() || marked,
        ":" | "." | ")" => true,
        title => {
            let whole = line.starts_with('#') || (marked && line.ends_with(['*', '_']));
            let joined = title.starts_with([':', '.', '-', '–', '—']) && !title.contains('*');
            whole && told.is_some() && joined && is_short(text)
        }
    }
}

/// A story without its heading: a line of its own, or "Story 3:" at the beginning of its first line.
fn without_heading(text: &str) -> &str {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if is_heading(first) {
        return rest.trim();
    }
    if let Some((before, story)) = first.split_once(':')
        && before.trim_start_matches(['*', '_', ' ']).to_lowercase().starts_with("story")
        && is_heading(before)
    {
        let story = &text[first.len() - story.len()..];
        return story.strip_prefix("**").unwrap_or(story).trim();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, separator: &str, texts: &[&str], ended: bool) {
        let found = split(answer, separator);
        assert_eq!(found.texts, texts, "{answer:?}");
        assert_eq!(found.ended, ended, "{answer:?}");
    }

    #[test]
    fn awkward_replies() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], bool); 31] = [
            ("It rained.\n---\nIt snowed.", &["It rained.", "It snowed."], false),
            ("It rained.", &["It rained."], false),
            ("", &[], false),
            ("---\nIt rained.\n---\nIt snowed.\n---\n", &["It rained.", "It snowed."], true),
            ("It rained.\n\n  ---  \n\nIt snowed.", &["It rained.", "It snowed."], false),
            ("It rained.\n---\n\n---\n---\nIt snowed.", &["It rained.", "It snowed."], false),
            ("It rained.\r\n---\r\nIt snowed.\r\n", &["It rained.", "It snowed."], false),
            ("It rained.\n***\nIt snowed.", &["It rained.", "It snowed."], false),
            ("It rained.\n* * *\nIt snowed.\n***", &["It rained.", "It snowed."], true),
            ("It rained.\n-----\nIt snowed.", &["It rained.", "It snowed."], false),
            // If the separator itself occurs, a rule of another kind is a break within a story.
            ("It rained.\n***\nLater it did not.\n---\nIt snowed.", &["It rained.\n***\nLater it did not.", "It snowed."], false),
            ("Story 1:\nIt rained.\n---\nStory 2:\nIt snowed.", &["It rained.", "It snowed."], false),
            ("**Story 1**\n\nIt rained.\n---\n**Story 2:**\n\nIt snowed.", &["It rained.", "It snowed."], false),
            ("### Story 1\nIt rained.\n---\n### Story 2: The Flake\nIt snowed.", &["It rained.", "It snowed."], false),
            ("1.\nIt rained.\n---\n**2**\nIt snowed.\n---\n3)\nIt thawed.", &["It rained.", "It snowed.", "It thawed."], false),
            ("Story 1: It rained.\nFor days.\n---\n**Story 2:** It snowed.", &["It rained.\nFor days.", "It snowed."], false),
            ("**Story 1: The Drop**\nIt rained.\n---\n**Story 2:** *It* snowed.", &["It rained.", "*It* snowed."], false),
            ("STORY #1\nIt rained.\n---\nStory 12.\nIt snowed.", &["It rained.", "It snowed."], false),
            ("**Story 1**\nIt rained.\n\n**Story 2**\nIt snowed.", &["It rained.", "It snowed."], false),
            ("Here are two stories:\n\n1.\nIt rained.\n\n2.\nIt snowed.", &["It rained.", "It snowed."], false),
            ("Here are two stories:\n---\nIt rained.\n---\nIt snowed.", &["It rained.", "It snowed."], false),
            ("Sure! Here are two stories about the weather:\n\nIt rained.\n---\nIt snowed.", &["It rained.", "It snowed."], false),
            ("Of course:\n***\nIt rained.\n***\nIt snowed.", &["It rained.", "It snowed."], false),
            ("Here are two stories:", &[], false),
            // Neither introductions nor headings.
            ("He called out:\n\"Rain!\"\n---\nIt snowed.", &["He called out:\n\"Rain!\"", "It snowed."], false),
            ("I remember this.\n---\nIt snowed.", &["I remember this.", "It snowed."], false),
            ("3 buses passed.\n---\nStory 7 was empty by then.", &["3 buses passed.", "Story 7 was empty by then."], false),
            ("1984\nwas a wet year.\n---\nIt snowed.", &["1984\nwas a wet year.", "It snowed."], false),
            ("Storytelling: an art.\n---\nIt snowed.", &["Storytelling: an art.", "It snowed."], false),
            ("It rained --- hard.\n---\n- a list\n--\nIt snowed.", &["It rained --- hard.", "- a list\n--\nIt snowed."], false),
            ("Story 1:\n---\nStory 2:\nIt snowed.", &["It snowed."], false),
        ];
        for (answer, texts, ended) in cases {
            check(answer, "---", texts, ended);
        }
        check(
            "It rained.\n<next>\nIt snowed.\n---\nMuch.",
            " <next>",
            &["It rained.", "It snowed.\n---\nMuch."],
            false,
        );
        check("It rained.\n---\nIt snowed.", "<next>", &["It rained.", "It snowed."], false);
    }
}
