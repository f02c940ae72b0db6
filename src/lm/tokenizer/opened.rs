//! A question whose answer has been begun: its tokens, which of them are of which parts of the question, and those of what may
//! follow. Knows nothing of what is asked.

use super::{PLACE, Tokenizer, ids};
use crate::lm::template::{Chat, Message, Role};
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// A question with its answer begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the model reads.
    pub ids: Vec<i64>,
    /// The tokens of each part that was asked for: those that hold a byte of it.
    pub spans: Vec<Range<usize>>,
    /// The tokens of each continuation, after `ids`: see [`Tokenizer::behind`].
    pub continuations: Vec<Vec<i64>>,
}

impl Tokenizer {
    /// `question` as the user's turn with the model's opened (`chat`: what the template is told; `None`: no template, the question
    /// as it stands), then `answer`, which is what the model has said so far. `parts` are ranges of bytes of the question.
    ///
    /// # Errors
    /// No chat template, or one that refuses the question or changes it; a continuation without a token.
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

    /// The tokens of `more` behind a text of the tokens `before`: those that `joined`, the tokens of both together, has behind them;
    /// where the tokenizer joins the two, those that `more` has standing alone.
    ///
    /// # Errors
    /// Nothing is behind it.
    pub fn behind(&self, before: &[i64], more: &str, joined: &[i64]) -> Result<Vec<i64>> {
        let found = match joined.strip_prefix(before) {
            Some(rest) => rest.to_vec(),
            None => ids(&self.encoding(more, false)?),
        };
        ensure!(!found.is_empty(), "{more:?} has no token of its own there");
        Ok(found)
    }
}
