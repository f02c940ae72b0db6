//! A conversation of several turns as token ids, with the tokens of each turn's content. Independent of who speaks.

use std::ops::Range;

use super::{Tokenizer, ids};
use crate::lm::template::{Chat, Message, Role, is_space};
use anyhow::{Context, Result, bail, ensure};

/// A conversation as the input of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    /// All of its tokens.
    pub ids: Vec<i64>,
    /// For each turn the tokens of its content: as [`Tokens::text`](super::Tokens::text), without those added by the
    /// template. Empty if the content is only white space that the template drops. A prefill counts as one more turn.
    pub spans: Vec<Range<usize>>,
}

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'t> {
    /// After the last turn, as closed by the template.
    Closed,
    /// With the model's turn opened.
    Open,
    /// With the model's turn opened, followed by the beginning of its answer, unchanged. If the template has no marker
    /// that opens a turn, the text that it writes between the last turn and an answer comes first, as with
    /// `continue_final_message` of transformers.
    Prefill(&'t str),
}

/// A rendered template with the contents of the turns located in it.
struct Written {
    text: String,
    /// Byte range of each turn's content.
    contents: Vec<Range<usize>>,
}

impl Tokenizer {
    /// A conversation in the chat template. Instructions (a first turn with the system role) that the template refuses
    /// or omits are put into the first user turn, followed by a blank line, as in
    /// [`encode_request`](Self::encode_request).
    ///
    /// # Errors
    /// No turns; no chat template; a template that refuses the conversation, or omits a turn, writes it twice or
    /// changes it beyond white space at its ends (for example, thoughts that it drops from earlier turns).
    pub fn encode_turns(&self, turns: &[Message], ending: Ending, chat: Chat) -> Result<Turns> {
        ensure!(!turns.is_empty(), "a conversation without turns");
        let folded = match turns {
            [Message { role: Role::System, .. }, Message { role: Role::User, .. }, ..] => {
                !self.takes_instructions(turns, chat)
            }
            _ => false,
        };
        let written = self.write(turns, folded, ending, chat)?;
        let encoding = self.encoding(&written.text, false)?;
        let spans = written.contents.iter().map(|bytes| self.tokens_within(&encoding, bytes)).collect();
        Ok(Turns { ids: ids(&encoding), spans })
    }

    /// Whether the template renders the first turn.
    fn takes_instructions(&self, turns: &[Message], chat: Chat) -> bool {
        let marked = conversation(turns, false, &mark);
        self.render_chat(&marked, false, chat).is_ok_and(|text| text.contains(&mark(0)))
    }

    fn write(&self, turns: &[Message], folded: bool, ending: Ending, chat: Chat) -> Result<Written> {
        let said = |turn: usize| turns[turn].content.clone();
        let find = |turns: &[Message], said: &dyn Fn(usize) -> String, open: bool| {
            let marked = self.render_chat(&conversation(turns, folded, &mark), open, chat)?;
            let text = self.render_chat(&conversation(turns, folded, said), open, chat)?;
            let contents = places(&marked, &text, turns.len(), said)?;
            Ok::<_, anyhow::Error>(Written { text, contents })
        };
        let Ending::Prefill(prefill) = ending else { return find(turns, &said, ending == Ending::Open) };
        let mut open = find(turns, &said, true)?;
        if open.text == self.render_chat(&conversation(turns, folded, &said), false, chat)? {
            let mut longer = turns.to_vec();
            longer.push(Message::new(Role::Assistant, prefill));
            open = find(&longer, &|turn| longer[turn].content.clone(), false)?;
            let start = open.contents.pop().map_or(0, |bytes| bytes.start);
            ensure!(
                open.contents.iter().all(|bytes| bytes.end <= start),
                "the chat template writes another turn after the answer"
            );
            open.text.truncate(start);
        }
        let start = open.text.len();
        open.text.push_str(prefill);
        open.contents.push(start..open.text.len());
        Ok(open)
    }
}

/// Placeholder for a turn's content while its place in the template is located; no template writes it.
fn mark(turn: usize) -> String {
    format!("\u{e000}{turn}\u{e001}")
}

/// The turns with the contents given by `said`; `folded`: the first two turns, system and user, are merged into one.
fn conversation(turns: &[Message], folded: bool, said: &dyn Fn(usize) -> String) -> Vec<Message> {
    let mut messages: Vec<Message> =
        turns.iter().enumerate().map(|(turn, message)| Message::new(message.role, said(turn))).collect();
    if folded {
        let instructions = messages.remove(0).content;
        messages[0].content = format!("{instructions}\n\n{}", messages[0].content);
    }
    messages
}

/// Byte range in `text` of the content of each of `n` turns: `text` must equal `marked` with the contents in place of
/// the marks, apart from white space at their ends. The turns may appear in any order.
fn places(marked: &str, text: &str, n: usize, said: &dyn Fn(usize) -> String) -> Result<Vec<Range<usize>>> {
    let mut order = Vec::with_capacity(n);
    for turn in 0..n {
        let mark = mark(turn);
        let mut found = marked.match_indices(&mark).map(|(at, mark)| at..at + mark.len());
        let first =
            found.next().with_context(|| format!("the chat template leaves turn {} out", turn + 1))?;
        ensure!(found.next().is_none(), "the chat template writes turn {} twice", turn + 1);
        order.push((first, turn));
    }
    order.sort_by_key(|(at, _)| at.start);
    let mut contents = vec![0..0; n];
    let first = order.first().map_or(marked.len(), |(at, _)| at.start);
    let mut at = first;
    let changed = "so that its tokens cannot be identified";
    ensure!(text.starts_with(&marked[..first]), "the chat template depends on the content, {changed}");
    for (i, (place, turn)) in order.iter().enumerate() {
        let after = &marked[place.end..order.get(i + 1).map_or(marked.len(), |(next, _)| next.start)];
        let content = said(*turn);
        let Some(written) = written(&text[at..], &content, after) else {
            bail!("the chat template changes turn {} or what follows it, {changed}", turn + 1);
        };
        contents[*turn] = at + written.start..at + written.end;
        at += written.end + after.len();
    }
    ensure!(at == text.len(), "the chat template writes more after the last turn, {changed}");
    Ok(contents)
}

/// The byte range at the beginning of `text` that holds `content`, with as much of the white space at its ends as is
/// present, if it is directly followed by `after`.
fn written(text: &str, content: &str, after: &str) -> Option<Range<usize>> {
    let core = content.trim_matches(is_space);
    let leading = content.len() - content.trim_start_matches(is_space).len();
    if core.is_empty() {
        let suffixes = content.char_indices().map(|(at, _)| &content[at..]).chain([""]);
        let kept = |kept: &&str| text.strip_prefix(*kept).is_some_and(|rest| rest.starts_with(after));
        return suffixes.into_iter().find(kept).map(|kept| 0..kept.len());
    }
    let before = text.len() - text.trim_start_matches(is_space).len();
    let rest = text[before..].strip_prefix(core)?;
    if !content[..leading].ends_with(&text[..before]) {
        return None;
    }
    let trailing = &content[leading + core.len()..];
    let common: usize =
        trailing.chars().zip(rest.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let ends = trailing[..common].char_indices().map(|(at, _)| at).chain([common]);
    let end = ends.rev().find(|&end| rest[end..].starts_with(after))?;
    Some(0..before + core.len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_found_with_the_white_space_that_is_there() {
        let check = |text, content, after, want: Option<&str>| {
            let got = written(text, content, after).map(|bytes| &text[bytes]);
            assert_eq!(got, want, "{text:?} {content:?} {after:?}");
        };
        check(" a b \n<e>", " a b \n", "<e>", Some(" a b \n"));
        check("a b<e>", " a b \n", "<e>", Some("a b"));
        check("a b\n<e>", " a b\n", "\n<e>", Some("a b"));
        check("a b\n\n<e>", " a b\n", "\n<e>", Some("a b\n"));
        check("\na<e>", " \n\na", "<e>", Some("\na"));
        check("\ta<e>", " a", "<e>", None);
        check("A b<e>", "a b", "<e>", None);
        check("a b</e>", "a b", "<e>", None);
        check("<e>", " \n", "<e>", Some(""));
        check("\n<e>", " \n", "<e>", Some("\n"));
        check("a", "a\u{a0}", "", Some("a"));
    }

    #[test]
    fn turns_are_found_in_any_order_once_each() {
        let said = |turn: usize| ["one", "two "][turn].to_string();
        let marked = |first, second| format!("<{}|{}>", mark(first), mark(second));
        assert_eq!(places(&marked(0, 1), "<one|two>", 2, &said).unwrap(), [1..4, 5..8]);
        assert_eq!(places(&marked(1, 0), "<two |one>", 2, &said).unwrap(), [6..9, 1..5]);
        let error = |marked: &str, text| places(marked, text, 2, &said).unwrap_err().to_string();
        assert!(error(&marked(0, 0), "<one|one>").contains("writes turn 1 twice"));
        assert!(error(&mark(0), "one").contains("leaves turn 2 out"));
        assert!(error(&marked(0, 1), "<one|TWO>").contains("changes turn 2"));
        assert!(error(&marked(0, 1), "<one|two>!").contains("more after the last turn"));
        assert!(error(&marked(0, 1), "-one|two>").contains("depends on the content"));
    }
}
