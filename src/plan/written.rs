//! What of a source that is written is in keys: the same for a model here and at a server.

use serde::Serialize;

use crate::lm::Chat;
use crate::stages::stories::{Generate, Item, Protocol, Reject, Several};

/// What the keys of written stories have besides their writer. Field order, and so the JSON, is fixed.
#[derive(Serialize)]
pub(super) struct WrittenParams<'a> {
    stories: &'a [Item],
    seed: u64,
    max_new_tokens: usize,
    temperature: f64,
    top_p: f64,
    top_k: usize,
    prompt: &'a str,
    system: &'a str,
    /// `None` at a server, which has the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<Chat>,
    /// `None` without a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    several: Option<&'a Several>,
    reject: &'a Reject,
}

impl<'a> WrittenParams<'a> {
    /// Those of `stories` of `source`, written by a model of the experiment, whose template is told `chat`.
    pub(super) fn here(
        source: &'a Generate,
        stories: &'a [Item],
        seed: u64,
        chat: Chat,
    ) -> WrittenParams<'a> {
        WrittenParams { chat: Some(chat), ..WrittenParams::of(source, stories, seed) }
    }

    /// The same, at a server.
    pub(super) fn at_server(
        source: &'a Generate,
        stories: &'a [Item],
        seed: u64,
        protocol: Protocol,
    ) -> WrittenParams<'a> {
        WrittenParams { protocol: Some(protocol), ..WrittenParams::of(source, stories, seed) }
    }

    fn of(source: &'a Generate, stories: &'a [Item], seed: u64) -> WrittenParams<'a> {
        WrittenParams {
            stories,
            seed,
            max_new_tokens: source.max_new_tokens,
            temperature: source.temperature,
            top_p: source.top_p,
            top_k: source.top_k,
            prompt: &source.prompt,
            system: &source.system,
            chat: None,
            protocol: None,
            several: source.several.as_ref(),
            reject: &source.reject,
        }
    }
}
