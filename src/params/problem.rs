//! A problem in an experiment file, and how it is displayed. Independent of the file's keys.

use std::fmt;
use std::path::PathBuf;

use super::Span;

/// A problem, its location, and how to fix it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Bytes of the experiment's text, or of a `--set` after it (see [`Problems`]); `0..0`: the file as a whole.
    pub span: Span,
    pub message: String,
    /// How to fix it, as a sentence.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem at a location.
    pub fn at(span: Span, message: impl Into<String>) -> Problem {
        Problem { span, message: message.into(), hint: None }
    }

    /// A problem of the whole file, displayed without a line.
    pub fn whole(message: impl Into<String>) -> Problem {
        Problem::at(0..0, message)
    }

    /// Adds a hint on how to fix it.
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
}

/// All problems of one file, in the order of its lines.
///
/// Spans continue from the file's text into the `--set` texts: the first of those starts one byte after the end of the
/// text, each further one a byte after the end of the previous one.
#[derive(Clone, Debug, PartialEq)]
pub struct Problems {
    pub file: PathBuf,
    pub text: String,
    pub sets: Vec<String>,
    pub list: Vec<Problem>,
}

/// Problems beyond this number are counted, not displayed.
const SHOWN: usize = 100;
/// The most columns of a line that are displayed; longer lines are cut around the span.
const WIDTH: usize = 100;

impl Problems {
    /// The problems, sorted by location.
    pub fn new(file: PathBuf, text: String, sets: Vec<String>, mut list: Vec<Problem>) -> Problems {
        list.sort_by_key(|problem| (problem.span.start, problem.span.end));
        list.dedup();
        Problems { file, text, sets, list }
    }

    /// The problem of a file that could not be read.
    pub fn unreadable(file: PathBuf, problem: Problem) -> Problems {
        Problems::new(file, String::new(), Vec::new(), vec![problem])
    }
}

/// Where the `--set` texts start in the byte numbering of spans.
pub(crate) fn set_bases(text: &str, sets: &[String]) -> Vec<usize> {
    let mut next = text.len() + 1;
    let base = |set: &String| {
        let this = next;
        next += set.len() + 1;
        this
    };
    sets.iter().map(base).collect()
}

impl std::error::Error for Problems {}

/// In the style of rustc, with a count in the last line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bases = set_bases(&self.text, &self.sets);
        let newlines = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts: Vec<usize> = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        for problem in self.list.iter().take(SHOWN) {
            writeln!(f, "error: {}", problem.message)?;
            let set = bases.partition_point(|base| *base <= problem.span.start);
            if set > 0 {
                let (text, base) = (&self.sets[set - 1], bases[set - 1]);
                let first_line = text.lines().next().unwrap_or_default();
                writeln!(f, "  --> --set {}", shorten(first_line, WIDTH))?;
                let span = problem.span.start - base..problem.span.end.saturating_sub(base);
                excerpt(f, "", first_line, span)?;
            } else if problem.span == (0..0) {
                writeln!(f, "  --> {}", self.file.display())?;
            } else {
                let line = starts.partition_point(|start| *start <= problem.span.start) - 1;
                let (start, rest) = (starts[line], &self.text[starts[line]..]);
                let written = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
                let span = problem.span.start - start..problem.span.end.saturating_sub(start);
                let before = &written[..boundary(written, span.start)];
                let column = before.chars().count() + 1;
                writeln!(f, "  --> {}:{}:{column}", self.file.display(), line + 1)?;
                excerpt(f, &(line + 1).to_string(), written, span)?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(f, "  = help: {hint}")?;
            }
            writeln!(f)?;
        }
        if self.list.len() > SHOWN {
            writeln!(f, "... and {} more", self.list.len() - SHOWN)?;
            writeln!(f)?;
        }
        let count = self.list.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in {}", self.file.display())
    }
}

/// One line of text with the bytes of `span` underlined, cut to [`WIDTH`] columns around them.
fn excerpt(f: &mut fmt::Formatter<'_>, number: &str, line: &str, span: Span) -> fmt::Result {
    let from = boundary(line, span.start);
    let to = boundary(line, span.end.max(from));
    let column = line[..from].chars().count();
    let marked = line[from..to].chars().count().max(1);
    let skipped = if column + marked.min(WIDTH / 2) > WIDTH { column - WIDTH / 4 } else { 0 };
    let left = if skipped > 0 { "..." } else { "" };
    let right = if line.chars().nth(skipped + WIDTH).is_some() { "..." } else { "" };
    let shown: String = line.chars().skip(skipped).take(WIDTH).map(printable).collect();
    let marks = "^".repeat(marked.min(skipped + WIDTH - column.min(skipped + WIDTH - 1)));
    let gutter = " ".repeat(number.len());
    writeln!(f, "{gutter} |")?;
    writeln!(f, "{number} | {left}{shown}{right}")?;
    writeln!(f, "{gutter} | {}{marks}", " ".repeat(left.len() + column - skipped))
}

/// The nearest character boundary at or before a byte, within the text.
fn boundary(text: &str, byte: usize) -> usize {
    (0..=byte.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Replaces characters that could move the cursor or colour the terminal.
fn printable(character: char) -> char {
    if character == '\t' {
        ' '
    } else if character.is_control() {
        '\u{fffd}'
    } else {
        character
    }
}

/// At most `most` characters, without control characters.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).map(printable).collect();
    if text.chars().nth(most).is_some() {
        short.push_str("...");
    }
    short
}

/// User input in backquotes, safe to print in a message.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", shorten(text, 60))
}

/// The candidate that was probably meant.
pub(crate) fn closest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are not misspellings of keys.
    const LONGEST: usize = 64;
    /// Longer lists are compared only up to this number.
    const MANY: usize = 1000;
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let written = written.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        let length = written.chars().count().max(candidate.chars().count());
        let prefix = written.chars().count() >= 3
            && candidate.chars().count() >= 3
            && (candidate.starts_with(&written) || written.starts_with(&candidate));
        let edits = strsim::damerau_levenshtein(&written, &candidate);
        (prefix || edits <= (length / 3).max(1)).then_some(edits)
    };
    let near =
        candidates.into_iter().take(MANY).filter_map(|candidate| Some((distance(candidate)?, candidate)));
    near.min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// "did you mean `x`?" or, without a close candidate, the list of candidates.
pub(crate) fn suggestion<'a>(
    written: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    match closest(written, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("{what}: {}", candidates.into_iter().take(30).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Span) -> String {
        let problem = Problem::at(span, "wrong").hint("right it");
        Problems::new("a.toml".into(), text.into(), vec!["x=1".into()], vec![problem]).to_string()
    }

    #[test]
    fn a_place_is_shown_with_line_column_and_underline() {
        assert_eq!(
            shown("a = 1\nbc = 22\n", 11..13),
            "error: wrong\n  --> a.toml:2:6\n  |\n2 | bc = 22\n  |      ^^\n  = help: right it\n\n1 problem in a.toml"
        );
    }

    #[test]
    fn spans_behind_the_text_point_into_the_sets() {
        assert_eq!(
            shown("a = 1", 8..9),
            "error: wrong\n  --> --set x=1\n |\n | x=1\n |   ^\n  = help: right it\n\n1 problem in a.toml"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert!(shown("ä = \"ü\" é", 10..12).contains("a.toml:1:9\n  |\n1 | ä = \"ü\" é\n  |         ^\n"));
    }

    #[test]
    fn any_span_can_be_shown() {
        let text = format!("ä\u{7}\t{}\r\nü", "xy€".repeat(500));
        for start in 0..text.len() + 8 {
            for length in [0, 1, 2, 300, 5000] {
                assert!(shown(&text, start..start + length).contains("error: wrong"));
            }
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("key = \"{}\" # {}", "a".repeat(300), "b".repeat(300));
        let shown = shown(&text, 310..311);
        assert!(shown.lines().all(|line| line.chars().count() < 120), "{shown}");
        assert!(shown.contains("...") && shown.contains('^') && shown.contains("a.toml:1:311"));
    }

    #[test]
    fn closest_words() {
        let keys = ["from_token", "wrap", "short", "logit_lens", "cosine"];
        for (written, meant) in [
            ("form_token", Some("from_token")),
            ("logitlens", Some("logit_lens")),
            ("Wrap", Some("wrap")),
            ("cos", Some("cosine")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(closest(written, keys), meant, "{written}");
        }
    }
}
