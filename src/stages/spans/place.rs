//! Named spans of a conversation, as ranges of its tokens. Does not depend on any model.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::stages::readings::{Row, Said, Text};

/// The number of tokens at an answer's beginning over which is averaged: as in the replicated study.
pub const ANSWER: usize = 20;

/// Named token spans of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// All user turns.
    User,
    /// All assistant turns.
    Assistant,
    /// The last token of the last user turn that has an answer or is to be answered.
    UserLast,
    /// The last token before the answer to that turn, which belongs to the chat template if there is one.
    BeforeAnswer,
    /// The first [`ANSWER`] tokens of the answer to that turn.
    AnswerStart,
}

impl Span {
    /// The spelling in tables.
    pub fn name(self) -> &'static str {
        match self {
            Span::User => "user",
            Span::Assistant => "assistant",
            Span::UserLast => "user_last",
            Span::BeforeAnswer => "before_answer",
            Span::AnswerStart => "answer_start",
        }
    }

    /// The span's token ranges in a text; only [`Span::BeforeAnswer`] contains template tokens.
    ///
    /// # Errors
    /// The text has no such span.
    pub fn of(self, text: &Text, row: &Row) -> Result<Vec<Range<usize>>> {
        let said = |role: &'static str| {
            let turns = row.turns.iter().enumerate();
            turns.filter(move |(turn, tokens)| text.role(*turn) == role && !tokens.is_empty())
        };
        let all = |role| said(role).map(|(_, tokens)| tokens.clone()).collect::<Vec<_>>();
        // The last user turn that is followed by an answer; if there is no answer yet, the last user turn.
        let answer = said("assistant").rfind(|(turn, _)| *turn > 0);
        let asked = || match &answer {
            Some((turn, _)) => said("user").rfind(|(asked, _)| asked < turn),
            None => said("user").next_back(),
        };
        let ranges = match self {
            Span::User => all("user"),
            Span::Assistant => all("assistant"),
            Span::UserLast => {
                let end = asked().context("there is no user turn before the answer")?.1.end;
                vec![end - 1..end]
            }
            Span::BeforeAnswer => {
                // In plain text, the last of its own tokens; with a template, the last token of all.
                let end = match (&answer, &text.said) {
                    (Some((_, tokens)), _) => tokens.start,
                    (None, Said::Plain(_)) => row.turns.last().map_or(0, |tokens| tokens.end),
                    (None, Said::Turns(_)) => row.ids.len(),
                };
                ensure!(end > 0, "there is nothing before the answer");
                vec![end - 1..end]
            }
            Span::AnswerStart => {
                let tokens = answer.context("there is no answer")?.1;
                vec![tokens.start..tokens.end.min(tokens.start + ANSWER)]
            }
        };
        ensure!(!ranges.is_empty(), "there is no turn of the {}", self.name());
        Ok(ranges)
    }
}

/// The number of tokens in the ranges.
pub fn tokens(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(Range::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Message, Role};

    #[test]
    fn spans_are_the_speakers_own_tokens_and_those_around_the_answer() {
        let said = |role, text: &str| Message::new(role, text.to_string());
        let turns = vec![
            said(Role::System, "s"),
            said(Role::User, "a"),
            said(Role::Assistant, "b"),
            said(Role::User, "c"),
            said(Role::Assistant, "d"),
        ];
        let of = |turns: Vec<Message>, spans: Vec<Range<usize>>, n: usize| {
            let text = Text {
                id: "t".into(),
                said: Said::Turns(turns),
                label: None,
                place: String::new(),
                event: None,
                labels: None,
            };
            let row = Row { text_id: "t".into(), ids: vec![0; n], turns: spans, windows: Vec::new() };
            move |span: Span| span.of(&text, &row).ok()
        };
        let whole = of(turns.clone(), vec![1..3, 4..7, 9..12, 14..16, 19..50], 52);
        assert_eq!(whole(Span::User), Some(vec![4..7, 14..16]));
        assert_eq!(whole(Span::Assistant), Some(vec![9..12, 19..50]));
        assert_eq!(whole(Span::UserLast), Some(vec![15..16]));
        assert_eq!(whole(Span::BeforeAnswer), Some(vec![18..19]));
        assert_eq!(whole(Span::AnswerStart), Some(vec![19..39]));
        // The answer is still to come.
        let open = of(turns[1..2].to_vec(), vec![1..4], 8);
        assert_eq!((open(Span::UserLast), open(Span::BeforeAnswer)), (Some(vec![3..4]), Some(vec![7..8])));
        assert_eq!((open(Span::Assistant), open(Span::AnswerStart)), (None, None));
        let plain = Text {
            id: "t".into(),
            said: Said::Plain("Human: a".into()),
            label: None,
            place: String::new(),
            event: None,
            labels: None,
        };
        let row = Row { text_id: "t".into(), ids: vec![0; 9], turns: vec![1..8], windows: Vec::new() };
        assert_eq!(Span::BeforeAnswer.of(&plain, &row).unwrap(), [7..8]);
    }
}
