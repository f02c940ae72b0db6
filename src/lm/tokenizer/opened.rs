//! A conversation whose answer has been begun: its tokens, which of them are of which parts of the last turn, and those of
//! what may follow. Knows nothing of what is asked.

use super::{PLACE, Tokenizer, ids};
use crate::lm::template::{Chat, Message, Role};
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// A conversation with the model's turn opened and begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the model reads.
    pub ids: Vec<i64>,
    /// The tokens of each part that was asked for: those that hold a byte of it.
    pub spans: Vec<Range<usize>>,
    /// The tokens of each continuation, after `ids`.
    pub continuations: Vec<Vec<i64>>,
}

impl Tokenizer {
    /// `messages`, then the model's turn opened (`chat`: what the template is told; `None`: no template, the last message as it
    /// stands), then `answer`, which is what the model has said so far. `parts` are ranges of bytes of the last message.
    ///
    /// A continuation's tokens are those that the tokenizer adds behind the rest; where it would join the two, those that
    /// it has standing alone.
    ///
    /// # Errors
    /// No message; no chat template, or one that refuses the conversation, or changes the last message; a continuation without a
    /// token.
    pub fn encode_opened(
        &self,
        messages: &[Message],
        answer: &str,
        parts: &[Range<usize>],
        continuations: &[&str],
        chat: Option<Chat>,
    ) -> Result<Opened> {
        let (last, before) = messages.split_last().context("a conversation without a turn")?;
        let (start, text) = match chat {
            None => (0, format!("{}{answer}", last.content)),
            Some(chat) => {
                let with = |content: &str| [before, &[Message::new(last.role, content)]].concat();
                let empty = self.render_chat(&with(PLACE), true, chat)?;
                let start = empty.find(PLACE).context("the chat template leaves the text out")?;
                let rendered = self.render_chat(messages, true, chat)?;
                ensure!(
                    rendered.get(start..).is_some_and(|rest| rest.starts_with(&last.content)),
                    "the chat template changes the text, so that its tokens cannot be told"
                );
                (start, format!("{rendered}{answer}"))
            }
        };
        let special = chat.is_none();
        let encoding = self.encoding(&text, special)?;
        let own = |text: &str| -> Result<Vec<i64>> {
            if special { Ok(self.encode(text)?.ids) } else { Ok(ids(&self.encoding(text, false)?)) }
        };
        let all = own(&text)?;
        let continuation = |more: &&str| -> Result<Vec<i64>> {
            let joined = own(&format!("{text}{more}"))?;
            let found = match joined.strip_prefix(all.as_slice()) {
                Some(rest) => rest.to_vec(),
                None => ids(&self.encoding(more, false)?),
            };
            ensure!(!found.is_empty(), "{more:?} has no token of its own after {answer:?}");
            Ok(found)
        };
        let span =
            |part: &Range<usize>| self.tokens_within(&encoding, &(start + part.start..start + part.end));
        Ok(Opened {
            spans: parts.iter().map(span).collect(),
            continuations: continuations.iter().map(continuation).collect::<Result<_>>()?,
            ids: all,
        })
    }

    /// The conversation as the chat template takes it: instructions that it refuses or passes over stand at the beginning
    /// of the user's first turn, with a blank line after them.
    pub fn with_instructions(&self, messages: &[Message], chat: Chat) -> Vec<Message> {
        let [system, user, rest @ ..] = messages else { return messages.to_vec() };
        if system.role != Role::System || user.role != Role::User {
            return messages.to_vec();
        }
        let asked = [Message::new(Role::System, PLACE), user.clone()];
        if self.render_chat(&asked, true, chat).is_ok_and(|text| text.contains(PLACE)) {
            return messages.to_vec();
        }
        let user = Message::new(Role::User, format!("{}\n\n{}", system.content, user.content));
        [&[user], rest].concat()
    }
}
