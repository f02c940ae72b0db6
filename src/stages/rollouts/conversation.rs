//! A case as tokens, and which of them are steered. Independent of the content of cases.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::Asked;
use crate::lm::tokenizer::Ending;
use crate::lm::{Chat, LanguageModel, Message, Positions, Role};

/// A conversation up to the point where the model continues.
pub struct Conversation {
    pub ids: Vec<i64>,
    /// Ranges of steered tokens; the last may be open-ended.
    pub spans: Vec<Range<usize>>,
}

/// The turns of a case up to the one that the model is to answer: `replies` are its earlier answers, `last` is
/// appended to the user's last turn.
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

/// The conversation with the model's turn opened and begun with `answer`.
///
/// Steered tokens: `all` means all tokens; `prompt` those before the model's answer; `generated` those whose outputs
/// predict the tokens of its answers, earlier ones included: the last token before each answer, and the answer's own
/// tokens.
///
/// # Errors
/// The model has no chat template; the template refuses the conversation; it is longer than the context.
pub fn open(
    model: &LanguageModel,
    messages: &[Message],
    answer: &str,
    positions: Positions,
    chat: Chat,
) -> Result<Conversation> {
    ensure!(model.has_chat_template(), "the model has no chat template, so there is nobody who could answer");
    let ending = if answer.is_empty() { Ending::Open } else { Ending::Prefill(answer) };
    let turns = model.tokenizer().encode_turns(messages, ending, chat)?;
    model.check_length(turns.ids.len()).context("the conversation")?;
    let first = if answer.is_empty() { turns.ids.len() } else { turns.spans[messages.len()].start };
    let spans = match positions {
        Positions::All => vec![0..usize::MAX],
        Positions::Prompt => vec![0..first],
        Positions::Generated => {
            let own =
                messages.iter().zip(&turns.spans).filter(|(message, _)| message.role == Role::Assistant);
            let own = own.map(|(_, span)| span.start.saturating_sub(1)..span.end);
            own.chain([first.saturating_sub(1)..usize::MAX]).collect()
        }
    };
    Ok(Conversation { ids: turns.ids, spans })
}

/// The token of each of `letters` after the beginning of the answer: see
/// [`Tokenizer::behind`](crate::lm::tokenizer::Tokenizer::behind).
///
/// # Errors
/// A letter is not one token.
pub fn letters(
    model: &LanguageModel,
    messages: &[Message],
    answer: &str,
    letters: &[&str],
    chat: Chat,
) -> Result<Vec<i64>> {
    let read = |answer: &str| {
        model.tokenizer().encode_turns(messages, Ending::Prefill(answer), chat).map(|turns| turns.ids)
    };
    let before = read(answer)?;
    let token = |letter: &&str| -> Result<i64> {
        let ids = model.tokenizer().behind(&before, letter, &read(&format!("{answer}{letter}"))?)?;
        ensure!(
            ids.len() == 1,
            "the letter {letter} after {answer:?} is not one token: choose another `choices.answer`"
        );
        Ok(ids[0])
    };
    letters.iter().map(token).collect()
}
