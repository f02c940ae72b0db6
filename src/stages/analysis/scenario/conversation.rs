//! A case as tokens, and which of them are steered. Knows nothing of what is asked.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::set::Asked;
use crate::lm::{Chat, LanguageModel, Message, Positions, Role};

/// A conversation up to the point where the model goes on.
pub struct Conversation {
    pub ids: Vec<i64>,
    /// Tokens that are steered; the last may be open.
    pub spans: Vec<Range<usize>>,
}

/// The turns of a case up to the one that the model is to answer: `replies` are its earlier answers, `last` is put behind
/// the user's last turn.
pub fn messages(asked: &Asked, replies: &[String], last: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    if !asked.system.is_empty() {
        messages.push(Message::new(Role::System, asked.system.as_str()));
    }
    for (turn, reply) in asked.turns.iter().zip(replies) {
        messages.push(Message::new(Role::User, turn.as_str()));
        messages.push(Message::new(Role::Assistant, reply.as_str()));
    }
    messages.push(Message::new(Role::User, format!("{}{last}", asked.turns[replies.len()])));
    messages
}

/// The conversation with the model's turn opened and begun with `answer`; and the tokens of what may follow.
///
/// Steered tokens: `all` are all; `prompt` those before the model's answer; `generated` those from which the tokens of its
/// answer come forth, its earlier answers' too: the last one of each opened turn, and the answer's own.
///
/// # Errors
/// No chat template; what it refuses; what is longer than the context.
pub fn open(
    model: &LanguageModel,
    messages: &[Message],
    answer: &str,
    after: &[&str],
    positions: Positions,
    chat: Chat,
) -> Result<(Conversation, Vec<Vec<i64>>)> {
    ensure!(model.has_chat_template(), "the model has no chat template, so there is nobody who could answer");
    let tokenizer = model.tokenizer();
    let whole = tokenizer.with_instructions(messages, chat);
    let opened = tokenizer.encode_opened(&whole, answer, &[], after, Some(chat))?;
    model.check_length(opened.ids.len()).context("the conversation")?;
    let first = |messages: &[Message]| -> Result<usize> {
        let opened = tokenizer.encode_opened(messages, "", &[], &[], Some(chat))?;
        Ok(common(&opened.ids, &tokenizer.encode_opened(&whole, answer, &[], &[], Some(chat))?.ids) - 1)
    };
    let spans = match positions {
        Positions::All => vec![0..usize::MAX],
        Positions::Prompt => vec![0..first(&whole)? + 1],
        Positions::Generated => {
            let mut spans = Vec::new();
            for (at, message) in whole.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant) {
                let start = first(&whole[..at])?;
                let said = tokenizer.encode_opened(&whole[..at], &message.content, &[], &[], Some(chat))?;
                spans.push(start..common(&said.ids, &opened.ids));
            }
            spans.push(first(&whole)?..usize::MAX);
            spans
        }
    };
    Ok((Conversation { ids: opened.ids, spans }, opened.continuations))
}

/// How many tokens both begin with; at least one.
fn common(a: &[i64], b: &[i64]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count().max(1)
}
