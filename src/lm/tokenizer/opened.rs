//! A question with a partial answer: its tokens, which of them belong to given parts of the question, and the tokens
//! of possible continuations. Independent of the question's content.

use super::{PLACE, Tokenizer, ids};
use crate::lm::template::{Chat, Message, Role};
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// A question with a partial answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The input of the model.
    pub ids: Vec<i64>,
    /// The tokens of each requested part: those that hold at least one of its bytes.
    pub spans: Vec<Range<usize>>,
    /// The tokens of each continuation, after `ids`: see [`Tokenizer::behind`].
    pub continuations: Vec<Vec<i64>>,
}

impl Tokenizer {
    /// `question` as the user's turn, followed by the model's opened turn (`chat`: settings for the template; `None`:
    /// no template, the question as is), then `answer`, the beginning of the model's answer. `parts` are byte ranges
    /// of the question.
    ///
    /// # Errors
    /// No chat template, or one that refuses or changes the question; a continuation without tokens.
    pub fn encode_opened(
        &self,
        question: &str,
        answer: &str,
        parts: &[Range<usize>],
        continuations: &[&str],
        chat: Option<Chat>,
    ) -> Result<Opened> {
        let (start, text) = match chat {
            None => (0, format!("{question}{answer}")),
            Some(chat) => {
                let render =
                    |content: &str| self.render_chat(&[Message::new(Role::User, content)], true, chat);
                let start = render(PLACE)?.find(PLACE).context("the chat template leaves the text out")?;
                let rendered = render(question)?;
                ensure!(
                    rendered.get(start..).is_some_and(|rest| rest.starts_with(question)),
                    "the chat template changes the text, so that its tokens cannot be identified"
                );
                (start, format!("{rendered}{answer}"))
            }
        };
        let raw = chat.is_none();
        let read = |text: &str| -> Result<Vec<i64>> {
            if raw { Ok(self.encode(text)?.ids) } else { Ok(ids(&self.encoding(text, false)?)) }
        };
        let encoding = self.encoding(&text, raw)?;
        let span =
            |part: &Range<usize>| self.tokens_within(&encoding, &(start + part.start..start + part.end));
        let all = read(&text)?;
        let continuation = |more: &&str| self.behind(&all, more, &read(&format!("{text}{more}"))?);
        Ok(Opened {
            spans: parts.iter().map(span).collect(),
            continuations: continuations.iter().map(continuation).collect::<Result<_>>()?,
            ids: all,
        })
    }

    /// The tokens of `more` after a text with the tokens `before`: the rest of `joined`, the tokens of both texts
    /// together; or, if the tokenizer merges across the boundary, the tokens of `more` alone.
    ///
    /// # Errors
    /// There are no such tokens.
    pub fn behind(&self, before: &[i64], more: &str, joined: &[i64]) -> Result<Vec<i64>> {
        let found = match joined.strip_prefix(before) {
            Some(rest) => rest.to_vec(),
            None => ids(&self.encoding(more, false)?),
        };
        ensure!(!found.is_empty(), "{more:?} has no token of its own there");
        Ok(found)
    }
}
