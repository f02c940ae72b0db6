//! Stories as tokens, and which tokens are pooled. Depends on the model's tokenizer only, so that a shard can be read
//! while a device computes another.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use tch::Device;

use super::{Long, Params, Short};
use crate::lm::{Chat, Tokenizer, Tokens};
use crate::stages::stories::{self, Story};
use crate::store::table::{Column, Table};

/// The table of the stories that are skipped or cut; schema `exceptions/1`.
pub const EXCEPTIONS: &str = "exceptions";

/// A tokenized shard of stories.
pub struct Read {
    /// The stories that the model reads, in the shard's order.
    pub rows: Vec<Row>,
    /// [`EXCEPTIONS`]: `story_id`, `n_tokens` (the number of tokens of the full input) and `what`, one of
    /// [`Exception::word`].
    pub exceptions: Table,
}

/// What happens to a story that is skipped or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Skipped: it has no token at `from_token`.
    Short,
    /// Skipped: it has more tokens than the context.
    Long,
    /// Cut at the end of the context.
    Cut,
}

impl Exception {
    /// The spelling in the table.
    pub fn word(self) -> &'static str {
        match self {
            Exception::Short => "short",
            Exception::Long => "long",
            Exception::Cut => "cut",
        }
    }
}

impl Read {
    /// Up to `most` tokens of each story, evenly spaced among those that would be pooled, each as a row of its own:
    /// the text up to that token, since no later token changes its residuals.
    pub fn one_by_one(self, most: usize) -> Read {
        let tokens = |Row { story, ids, pooled }: Row| {
            let n = most.min(pooled.len());
            let row = move |at: usize| {
                let token = pooled.start + at * pooled.len() / n;
                Row { story: story.clone(), ids: ids[..=token].to_vec(), pooled: token..token + 1 }
            };
            (0..n).map(row).collect::<Vec<_>>()
        };
        Read { rows: self.rows.into_iter().flat_map(tokens).collect(), ..self }
    }

    /// A message about texts longer than `context` and what happened to them; `None` if there are none.
    pub fn said(&self, context: usize) -> Option<String> {
        let whats = self.exceptions.str("what").unwrap_or_default();
        let said = |what: Exception, done: &str| {
            let n = whats.iter().filter(|w| *w == what.word()).count();
            (n > 0).then(|| format!("{n} longer than the model's context of {context} tokens: {done}"))
        };
        said(Exception::Long, "skipped").or_else(|| said(Exception::Cut, "cut to it"))
    }
}

/// The tokens of a story.
pub struct Row {
    pub(super) story: Story,
    pub(super) ids: Vec<i64>,
    /// The range of pooled tokens.
    pub(super) pooled: Range<usize>,
}

/// Tokenizes the stories on all cores and treats those that are too short or too long as `params` says. `chat` holds
/// the options of the chat template where `params.wrap` uses one; `context` is the largest number of tokens that the
/// model reads.
///
/// An error names the story: one that is too short or too long where that is an error, or one that cannot be wrapped.
pub fn read(
    params: &Params,
    chat: Chat,
    stories: &Table,
    tokenizer: &Tokenizer,
    context: usize,
) -> Result<Read> {
    let place = |story: &Story| -> Result<(Tokens, Placed)> {
        let tokens = tokenizer.encode_wrapped(&story.text, params.wrap, chat)?;
        let placed = placed(params, &tokens, context)?;
        Ok((tokens, placed))
    };
    let stories = stories::rows(stories)?;
    // Collect all results before looking for an error, so that the first story's error is the one reported.
    let placed: Vec<_> = stories.par_iter().map(|story| place(story).with_context(|| name(story))).collect();
    let (mut rows, mut ids, mut lengths, mut whats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (story, placed) in stories.into_iter().zip(placed) {
        let (mut tokens, Placed { pooled, exception }) = placed?;
        if let Some(exception) = exception {
            ids.push(story.story_id.clone());
            lengths.push(i32::try_from(tokens.ids.len())?);
            whats.push(exception.word().to_string());
        }
        if let Some(pooled) = pooled {
            tokens.ids.truncate(context);
            rows.push(Row { story, ids: tokens.ids, pooled });
        }
    }
    let columns = vec![
        ("story_id", Column::Str(ids)),
        ("n_tokens", Column::I32(lengths)),
        ("what", Column::Str(whats)),
    ];
    Ok(Read { rows, exceptions: Table::new("exceptions/1", columns) })
}

/// A bound on the tokens of a batch of these stories that needs no tokenizer. `tokens`: the number of tokens
/// per story that are rows of their own.
pub fn largest_batch(
    params: &Params,
    tokens: Option<usize>,
    stories: &Table,
    device: Device,
) -> Result<usize> {
    let stories = stories::rows(stories)?;
    // Every token has at least one byte.
    let longest = stories.iter().map(|story| story.text.len()).max().unwrap_or(0) + TEMPLATE;
    Ok(params.batch_tokens(device).min(stories.len() * tokens.unwrap_or(1) * longest))
}

/// A bound on the total tokens of these stories including the chat template; needs no tokenizer.
pub fn most_tokens(tokens: Option<usize>, stories: &Table) -> Result<usize> {
    // Every token has at least one byte.
    let all: usize = stories::rows(stories)?.iter().map(|story| story.text.len() + TEMPLATE).sum();
    Ok(all * tokens.unwrap_or(1))
}

/// An upper bound on the tokens that a chat template adds to a text.
const TEMPLATE: usize = 64;

/// How a story is treated.
#[derive(Debug, PartialEq)]
struct Placed {
    /// The range of pooled tokens; `None` if the story is skipped.
    pooled: Option<Range<usize>>,
    exception: Option<Exception>,
}

/// How a text with these `tokens` is treated. If it is cut, `short` considers only the tokens that are read.
fn placed(params: &Params, tokens: &Tokens, context: usize) -> Result<Placed> {
    let all = tokens.ids.len();
    let (text, cut) = match params.long {
        _ if all <= context => (tokens.text.clone(), None),
        Long::Error => bail!(
            "has {all} tokens, and the model's context is {context}: with `long = \"skip\"` in `[activations]` such \
             texts are skipped and counted, with `long = \"cut\"` their first {context} tokens are read"
        ),
        Long::Skip => return Ok(Placed { pooled: None, exception: Some(Exception::Long) }),
        Long::Cut => {
            let text = tokens.text.start.min(context)..tokens.text.end.min(context);
            (text, (tokens.text.end > context).then_some(Exception::Cut))
        }
    };
    let (n, from) = (text.len(), params.from_token);
    match params.short {
        _ if from < n => Ok(Placed { pooled: Some(text.start + from..text.end), exception: cut }),
        Short::Skip => Ok(Placed { pooled: None, exception: Some(Exception::Short) }),
        Short::Error => bail!("has {n} tokens, none at `from_token` = {from}"),
        Short::Whole => {
            ensure!(n > 0, "has no token at all");
            Ok(Placed { pooled: Some(text), exception: cut })
        }
    }
}

/// A description of a story for people: its name, its place and how it begins.
pub(super) fn name(story: &Story) -> String {
    let emotion = story.emotion.as_deref().unwrap_or("neutral");
    let start: String = story.text.chars().take(40).collect();
    format!("story {} ({emotion}, {}, {start:?})", story.story_id, story.index)
}

#[cfg(test)]
mod tests {
    use super::super::{StoreDtype, Wrap};
    use super::*;

    fn params(short: Short, long: Long) -> Params {
        let store_dtype = StoreDtype::F32;
        Params { from_token: 3, wrap: Wrap::Raw, short, long, batch_tokens: None, store_dtype }
    }

    /// A text with the token range `text`, followed by `after` more tokens.
    fn tokens(text: Range<usize>, after: usize) -> Tokens {
        Tokens { ids: vec![7; text.end + after], text }
    }

    fn placed(short: Short, long: Long, tokens: &Tokens) -> (Option<Range<usize>>, Option<Exception>) {
        let Placed { pooled, exception } = super::placed(&params(short, long), tokens, 10).unwrap();
        (pooled, exception)
    }

    fn error(short: Short, long: Long, tokens: &Tokens) -> String {
        super::placed(&params(short, long), tokens, 10).unwrap_err().to_string()
    }

    #[test]
    fn pooling_counts_from_the_texts_first_token() {
        let check = |short, text, want| {
            assert_eq!(placed(short, Long::Error, &tokens(text, 0)), want);
        };
        check(Short::Skip, 1..9, (Some(4..9), None));
        check(Short::Skip, 1..5, (Some(4..5), None));
        check(Short::Skip, 1..4, (None, Some(Exception::Short)));
        check(Short::Whole, 1..4, (Some(1..4), None));
        check(Short::Whole, 1..5, (Some(4..5), None));
        let told = error(Short::Error, Long::Error, &tokens(1..4, 0));
        assert_eq!(told, "has 3 tokens, none at `from_token` = 3");
        assert_eq!(error(Short::Whole, Long::Error, &tokens(1..1, 0)), "has no token at all");
    }

    #[test]
    fn a_text_beyond_the_context_is_an_error_or_skipped_or_cut_to_it() {
        let fits = tokens(1..8, 2);
        for long in [Long::Error, Long::Skip, Long::Cut] {
            assert_eq!(placed(Short::Skip, long, &fits), (Some(4..8), None));
        }
        let beyond = tokens(1..11, 0);
        let told = error(Short::Skip, Long::Error, &beyond);
        assert!(told.starts_with("has 11 tokens, and the model's context is 10"), "{told}");
        assert!(told.contains("`long = \"skip\"`") && told.contains("`long = \"cut\"`"), "{told}");
        assert_eq!(placed(Short::Skip, Long::Skip, &beyond), (None, Some(Exception::Long)));
        assert_eq!(placed(Short::Skip, Long::Cut, &beyond), (Some(4..10), Some(Exception::Cut)));
        // Only the end of the template is beyond the context: no token of the text is lost.
        assert_eq!(placed(Short::Skip, Long::Cut, &tokens(4..9, 2)), (Some(7..9), None));
    }

    #[test]
    fn what_is_read_of_a_cut_text_may_be_too_short() {
        let late = tokens(8..20, 0);
        assert_eq!(placed(Short::Skip, Long::Cut, &late), (None, Some(Exception::Short)));
        assert_eq!(placed(Short::Whole, Long::Cut, &late), (Some(8..10), Some(Exception::Cut)));
        assert_eq!(error(Short::Error, Long::Cut, &late), "has 2 tokens, none at `from_token` = 3");
        assert_eq!(error(Short::Whole, Long::Cut, &tokens(12..20, 0)), "has no token at all");
    }
}
