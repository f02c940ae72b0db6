//! Conversations as plain text: a turn begins with a line that names the speaker.

use anyhow::{Result, ensure};

use super::{Said, Speaker};

/// The speaker of a line that begins with each mark.
const MARKS: [(&str, Speaker); 6] = [
    ("Human:", Speaker::User),
    ("User:", Speaker::User),
    ("H:", Speaker::User),
    ("Assistant:", Speaker::Assistant),
    ("A:", Speaker::Assistant),
    ("System:", Speaker::System),
];

/// The conversations of a text, each with the number of its first line. They are separated by lines of three or more
/// dashes or equals signs and nothing else.
pub fn conversations(text: &str) -> Vec<(usize, Result<Vec<Said>>)> {
    let is_end = |line: &str| {
        let line = line.trim();
        line.len() >= 3 && (line.bytes().all(|b| b == b'-') || line.bytes().all(|b| b == b'='))
    };
    let mut parts: Vec<(usize, Vec<&str>)> = vec![(1, Vec::new())];
    for (number, line) in text.lines().enumerate() {
        if is_end(line) {
            parts.push((number + 2, Vec::new()));
        } else if let Some((_, lines)) = parts.last_mut() {
            lines.push(line);
        }
    }
    parts.retain(|(_, lines)| lines.iter().any(|line| !line.trim().is_empty()));
    parts.into_iter().map(|(number, lines)| (number, turns(number, &lines, &MARKS))).collect()
}

/// The speaker of a line that begins with one of `marks`, also in Markdown's bold type, and the rest of the line.
pub fn mark<'l>(line: &'l str, marks: &[(&str, Speaker)]) -> Option<(Speaker, &'l str)> {
    let plain = line.trim_start();
    let bold = plain.strip_prefix("**");
    let found = |(mark, role): &(&str, Speaker)| match bold {
        None => Some((*role, plain.strip_prefix(mark)?)),
        Some(bold) => {
            let name = mark.trim_end_matches(':');
            let rest = bold.strip_prefix(name)?;
            Some((*role, rest.strip_prefix(":**").or_else(|| rest.strip_prefix("**:"))?))
        }
    };
    marks.iter().find_map(found)
}

/// The turns of `lines`, the first of which is line number `first`.
///
/// # Errors
/// Text before the first speaker is named.
pub fn turns(first: usize, lines: &[&str], marks: &[(&str, Speaker)]) -> Result<Vec<Said>> {
    let mut turns: Vec<Said> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        match (mark(line, marks), turns.last_mut()) {
            (Some((role, rest)), _) => turns.push(Said { role, content: rest.trim_start().to_string() }),
            (None, Some(turn)) => {
                turn.content.push('\n');
                turn.content.push_str(line);
            }
            (None, None) => ensure!(
                line.trim().is_empty(),
                "line {}: a text that nobody says: a turn begins with a line such as `Human:` or `Assistant:`",
                first + number
            ),
        }
    }
    for turn in &mut turns {
        turn.content.truncate(turn.content.trim_end().len());
    }
    Ok(turns)
}
