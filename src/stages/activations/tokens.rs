//! Stories as tokens, and which of them are pooled. Knows no model but its tokenizer, so that a shard can be read while a
//! device computes another.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use tch::Device;

use super::{Long, Params, Short};
use crate::lm::{Chat, Tokenizer, Tokens};
use crate::stages::stories::{self, Story};
use crate::store::table::{Column, Table};

/// The table of the stories that are not read whole; schema `exceptions/1`.
pub const EXCEPTIONS: &str = "exceptions";

/// A shard of stories as tokens.
pub struct Read {
    /// Those that are read, in the stories' order.
    pub rows: Vec<Row>,
    /// [`EXCEPTIONS`]: `story_id`, `n_tokens` (what the model would have read, all of it) and `what`, one of
    /// [`Exception::word`].
    pub exceptions: Table,
}

/// What happened to a story that is not read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// Skipped: no token at `from_token`.
    Short,
    /// Skipped: more tokens than the context.
    Long,
    /// Read up to the end of the context.
    Cut,
}

impl Exception {
    /// As the table has it.
    pub fn word(self) -> &'static str {
        match self {
            Exception::Short => "short",
            Exception::Long => "long",
            Exception::Cut => "cut",
        }
    }
}

impl Read {
    /// Up to `most` tokens of each story, evenly spaced among those that would be pooled, each a row by itself: of a text up to
    /// that token, since none that follows changes its residuals.
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

    /// For people: what was done with texts that are longer than `context`, if any is.
    pub fn said(&self, context: usize) -> Option<String> {
        let whats = self.exceptions.str("what").unwrap_or_default();
        let said = |what: Exception, done: &str| {
            let n = whats.iter().filter(|w| *w == what.word()).count();
            (n > 0).then(|| format!("{n} longer than the model's context of {context} tokens: {done}"))
        };
        said(Exception::Long, "skipped").or_else(|| said(Exception::Cut, "cut to it"))
    }
}

/// A story's tokens.
pub struct Row {
    pub(super) story: Story,
    pub(super) ids: Vec<i64>,
    /// Which of them are pooled.
    pub(super) pooled: Range<usize>,
}

/// The stories as tokens, those that are too short or too long treated as `params` says; on all cores. `chat` is what the
/// chat template is told where `params.wrap` asks for it, `context` the most tokens that the model reads.
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
    // All of them before the first error is looked for: it is the first in the stories' order.
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

/// Bound on the padded tokens of a batch of these stories, known before there is a tokenizer. `tokens`: of each story so many are
/// rows of their own.
pub fn largest_batch(
    params: &Params,
    tokens: Option<usize>,
    stories: &Table,
    device: Device,
) -> Result<usize> {
    let stories = stories::rows(stories)?;
    // No token is shorter than a byte.
    let longest = stories.iter().map(|story| story.text.len()).max().unwrap_or(0) + TEMPLATE;
    Ok(params.batch_tokens(device).min(stories.len() * tokens.unwrap_or(1) * longest))
}

/// Bound on the tokens of these stories with what is wrapped around them, known before there is a tokenizer.
pub fn most_tokens(tokens: Option<usize>, stories: &Table) -> Result<usize> {
    // No token is shorter than a byte.
    let all: usize = stories::rows(stories)?.iter().map(|story| story.text.len() + TEMPLATE).sum();
    Ok(all * tokens.unwrap_or(1))
}

/// What a chat template puts around a text, in tokens.
const TEMPLATE: usize = 64;

/// What becomes of a story.
#[derive(Debug, PartialEq)]
struct Placed {
    /// Which of its tokens are pooled; `None`: it is skipped.
    pooled: Option<Range<usize>>,
    exception: Option<Exception>,
}

/// What becomes of a text of these `tokens`. Of one that is cut, `short` counts the tokens that are read.
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

    fn params(short: Short, long: Long) -> Params {
        let store_dtype = StoreDtype::F32;
        Params { from_token: 3, wrap: Wrap::Raw, short, long, batch_tokens: None, store_dtype }
    }

    /// A text of the tokens `text` with `after` more behind it.
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
        // Only the end of the template is beyond: no token of the text is lost.
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
