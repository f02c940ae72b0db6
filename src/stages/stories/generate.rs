//! Stories written by a model here. Knows neither the plan nor the writer's checkpoint, nor how texts are judged.

use anyhow::{Context, Result, ensure};

use super::writing::{Ask, Draft, End, REPLIES, Reply, Seeds, Written};
use super::{Generate, Item, thought};
use crate::lm::{Chat, LanguageModel, Sampling};
use crate::stages::batches::{self, Batches};
use crate::store::table::Table;

/// Raised when the same model and seeds would give other stories.
pub const VERSION: u32 = 7;

/// Sequences written side by side. A constant: batches change low bits, so they may hang on nothing but the plan.
pub const BATCH: usize = 128;

/// Tokens at the end of a request in which a mark is looked for.
const TAIL: usize = 16;

/// The stories of `items`, in their order, written by `model`, and what was rejected on the way.
///
/// Through the chat template where the model has one, which is told `chat`; else from the bare prompt. A template
/// without a system turn gets `system` at the beginning of the user's, with a blank line after it. What `reject` refuses is written
/// again with another seed, all refused stories together, up to `reject.attempts` times in all; a story that no
/// attempt brought is left out of the table, so fewer rows than items tell how many are missing. `batches` is told
/// how many stories are settled or being settled, and keeps the replies of each batch.
///
/// An error if the template refuses the request, and, before anything is written, if a prompt with `max_new_tokens` more
/// does not fit the model's context.
pub fn run(
    params: &Generate,
    items: &[Item],
    model: &LanguageModel,
    chat: Chat,
    writer: &str,
    seeds: &Seeds,
    batches: &mut dyn Batches,
) -> Result<Written> {
    let tokens = |text: &str| Ok(model.encode(text)?.text.len());
    let mut draft = Draft::new(params, items, seeds, writer);
    for ask in Draft::new(params, items, seeds, writer).asks(0) {
        let tokens = request(params, &ask.prompt, model, chat)?.len();
        let (wanted, context) = (params.max_new_tokens, model.spec.context);
        ensure!(
            tokens + wanted <= context,
            "a prompt of {tokens} tokens and `max_new_tokens` = {wanted} do not fit the model's context of {context}: \
             lower `max_new_tokens`, or shorten the prompt"
        );
    }
    let mut number = 0;
    for attempt in 0..params.reject.attempts.max(1) {
        for asks in draft.asks(attempt).chunks(BATCH) {
            let (settled, stories) =
                (draft.settled(), asks.iter().map(|ask| ask.places.len()).sum::<usize>());
            let whole = |kept: &Table| Reply::rows(kept, asks).is_some();
            let kept = batches::batch(batches, number, REPLIES, whole, |batches| {
                let mut at = |ended: usize| batches.at(settled + ended * stories / asks.len(), items.len());
                let replies = replies(params, asks, model, chat, &mut at);
                let subject = || format!("{writer} writes stories from {}", draft.name(&asks[0]));
                Ok(Reply::table(asks, &replies.with_context(subject)?))
            })?;
            number += 1;
            let replies = Reply::rows(&kept, asks).context("a batch of replies to other requests")?;
            for (ask, reply) in asks.iter().zip(replies) {
                draft.take(attempt, ask, &reply, &tokens)?;
            }
            batches.at(draft.settled(), items.len());
        }
    }
    batches.at(items.len(), items.len());
    Ok(draft.written())
}

/// What the model answers to each of `asks`; `at` is told how many answers have ended.
fn replies(
    params: &Generate,
    asks: &[Ask],
    model: &LanguageModel,
    chat: Chat,
    at: &mut dyn FnMut(usize),
) -> Result<Vec<Reply>> {
    let sampling = Sampling {
        max_new_tokens: params.max_new_tokens,
        temperature: params.temperature,
        top_k: params.top_k,
        top_p: params.top_p,
    };
    let requests =
        asks.iter().map(|ask| request(params, &ask.prompt, model, chat)).collect::<Result<Vec<_>>>()?;
    let seeds = asks.iter().map(|ask| ask.seed);
    let seeded: Vec<(Vec<i64>, u64)> = requests.into_iter().zip(seeds).collect();
    let mut ended = 0;
    let written = model.in_halves(&seeded, &mut |part| {
        let (requests, seeds): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
        let written = model.generate(&requests, &sampling, &seeds, &mut [], &mut |more| at(ended + more))?;
        ended += part.len();
        Ok(written)
    })?;
    let replies = seeded.iter().zip(written.concat()).map(|((request, _), ids)| {
        // A template may open the thought itself.
        let tail = &request[request.len().saturating_sub(TAIL)..];
        let opened = thought::opened(&model.decode_with(tail, &thought::is_mark)?).unwrap_or_default();
        let text = format!("{opened}{}", model.decode_with(&ids, &thought::is_mark)?);
        let cut = ids.len() >= params.max_new_tokens;
        Ok(Reply { text, end: if cut { End::Cut } else { End::Whole } })
    });
    replies.collect()
}

/// The request as tokens.
fn request(params: &Generate, prompt: &str, model: &LanguageModel, chat: Chat) -> Result<Vec<i64>> {
    match model.has_chat_template() {
        true => model.encode_request(&params.system, prompt, chat),
        false => Ok(model.encode(prompt)?.ids),
    }
}
