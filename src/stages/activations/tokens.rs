//! Stories as tokens, and which of them are pooled. Knows no model but its tokenizer, so that a shard can be read while a
//! device computes another.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use tch::Device;

use super::{Params, Short};
use crate::lm::{Chat, Tokenizer};
use crate::stages::stories::{self, Story};
use crate::store::table::Table;

/// A story's tokens.
pub struct Row {
    pub(super) story: Story,
    pub(super) ids: Vec<i64>,
    /// Which of them are pooled.
    pub(super) pooled: Range<usize>,
}

/// The stories that are long enough, as tokens; on all cores. `chat` is what the chat template is told where `params.wrap`
/// asks for it.
///
/// An error names the story: one that is too short where `short` says so, or one that cannot be wrapped.
pub fn read(params: &Params, chat: Chat, stories: &Table, tokenizer: &Tokenizer) -> Result<Vec<Row>> {
    let row = |story: Story| -> Result<Option<Row>> {
        let tokens =
            tokenizer.encode_wrapped(&story.text, params.wrap, chat).with_context(|| name(&story))?;
        let pooled = pooled(params, tokens.text).with_context(|| name(&story))?;
        Ok(pooled.map(|pooled| Row { story, ids: tokens.ids, pooled }))
    };
    // All of them before the first error is looked for: it is the first in the stories' order.
    let rows: Vec<Result<Option<Row>>> = stories::rows(stories)?.into_par_iter().map(row).collect();
    rows.into_iter().filter_map(Result::transpose).collect()
}

/// Bound on the padded tokens of a batch of these stories, known before there is a tokenizer.
pub fn largest_batch(params: &Params, stories: &Table, device: Device) -> Result<usize> {
    let stories = stories::rows(stories)?;
    // No token is shorter than a byte.
    let longest = stories.iter().map(|story| story.text.len()).max().unwrap_or(0) + TEMPLATE;
    Ok(params.batch_tokens(device).min(stories.len() * longest))
}

/// Bound on the tokens of these stories with what is wrapped around them, known before there is a tokenizer.
pub fn most_tokens(stories: &Table) -> Result<usize> {
    // No token is shorter than a byte.
    Ok(stories::rows(stories)?.iter().map(|story| story.text.len() + TEMPLATE).sum())
}

/// What a chat template puts around a text, in tokens.
const TEMPLATE: usize = 64;

/// Which tokens are pooled of a text that became the tokens `text`; `None` if the story is left out.
fn pooled(params: &Params, text: Range<usize>) -> Result<Option<Range<usize>>> {
    let (n, from) = (text.len(), params.from_token);
    match params.short {
        _ if from < n => Ok(Some(text.start + from..text.end)),
        Short::Skip => Ok(None),
        Short::Error => bail!("has {n} tokens, none at `from_token` = {from}"),
        Short::Whole => {
            ensure!(n > 0, "has no token at all");
            Ok(Some(text))
        }
    }
}

/// A story for people: its name, its place and how it begins.
pub(super) fn name(story: &Story) -> String {
    let emotion = story.emotion.as_deref().unwrap_or("neutral");
    let start: String = story.text.chars().take(40).collect();
    format!("story {} ({emotion}, {}, {start:?})", story.story_id, story.index)
}

#[cfg(test)]
mod tests {
    use super::super::{StoreDtype, Wrap};
    use super::*;

    fn params(short: Short) -> Params {
        let store_dtype = StoreDtype::F32;
        Params { from_token: 3, wrap: Wrap::Raw, short, batch_tokens: None, store_dtype }
    }

    #[test]
    fn pooling_counts_from_the_texts_first_token() {
        let check =
            |short, text, want: Option<Range<usize>>| assert_eq!(pooled(&params(short), text).unwrap(), want);
        check(Short::Skip, 1..9, Some(4..9));
        check(Short::Skip, 1..5, Some(4..5));
        check(Short::Skip, 1..4, None);
        check(Short::Whole, 1..4, Some(1..4));
        check(Short::Whole, 1..5, Some(4..5));
        let error = pooled(&params(Short::Error), 1..4).unwrap_err().to_string();
        assert_eq!(error, "has 3 tokens, none at `from_token` = 3");
        assert!(pooled(&params(Short::Whole), 1..1).is_err());
    }
}
