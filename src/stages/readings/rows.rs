//! Tokenized texts with the token range of each turn, and the windows in which a long text is read.

use std::ops::Range;

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::Params;
use crate::lm::{Ending, LanguageModel, Message};
use crate::stages::{stories, texts};
use crate::store::table::Table;

/// A text to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    pub id: String,
    pub said: Said,
    /// A story's emotion, or a transcript's outcome.
    pub label: Option<String>,
    /// Its place, for people.
    pub place: String,
    /// The index of the turn in which the outcome happens.
    pub event: Option<usize>,
    /// Labels of a dialogue.
    pub labels: Option<texts::Labels>,
}

/// The content of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Plain(String),
    Turns(Vec<Message>),
}

impl Text {
    /// The texts of a table of stories or of transcripts.
    ///
    /// # Errors
    /// The table has another schema.
    pub fn of(table: &Table) -> Result<Vec<Text>> {
        if table.schema.starts_with("stories/") {
            let story = |story: stories::Story| Text {
                id: story.story_id,
                said: Said::Plain(story.text),
                place: story.topic.unwrap_or_default(),
                label: story.emotion,
                event: None,
                labels: None,
            };
            return Ok(stories::rows(table)?.into_iter().map(story).collect());
        }
        let transcript = |t: texts::Transcript| Text {
            id: t.id,
            said: Said::Turns(t.turns),
            label: t.label,
            place: t.place,
            event: t.event,
            labels: t.labels,
        };
        Ok(texts::rows(table)?.into_iter().map(transcript).collect())
    }

    /// The role of a turn's speaker.
    pub fn role(&self, turn: usize) -> &'static str {
        match &self.said {
            Said::Plain(_) => "text",
            Said::Turns(turns) => turns.get(turn).map_or("", |turn| turn.role.name()),
        }
    }
}

/// A tokenized text.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub text_id: String,
    pub ids: Vec<i64>,
    /// The token range of each turn; for a plain text, the range of its own tokens.
    pub turns: Vec<Range<usize>>,
    pub windows: Vec<Window>,
}

impl Row {
    /// The turn to which a token belongs; `None` for a template token.
    pub fn turn_of(&self, token: usize) -> Option<usize> {
        self.turns.iter().position(|turn| turn.contains(&token))
    }
}

/// A part of a text that is read in one pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub span: Range<usize>,
    /// The tokens whose readings are taken from this window.
    pub kept: Range<usize>,
}

/// Windows of at most `context` tokens that cover `n` tokens.
fn windows(n: usize, context: usize) -> Vec<Window> {
    if n <= context {
        return vec![Window { span: 0..n, kept: 0..n }];
    }
    let step = (context / 2).max(1);
    let (mut windows, mut read) = (Vec::new(), 0);
    while read < n {
        let start = if read == 0 { 0 } else { read + step - context };
        let span = start..(start + context).min(n);
        windows.push(Window { kept: read..span.end, span: span.clone() });
        read = span.end;
    }
    windows
}

/// The tokenized texts in their order, and those that cannot be read, with the reason. On all cores.
pub fn rows(texts: &[Text], params: &Params, model: &LanguageModel) -> (Vec<Row>, Vec<(String, String)>) {
    rows_ending(texts, params, false, model)
}

/// Like [`rows`]; with `open`, conversations end with the assistant's turn opened.
pub fn rows_ending(
    texts: &[Text],
    params: &Params,
    open: bool,
    model: &LanguageModel,
) -> (Vec<Row>, Vec<(String, String)>) {
    let ending = if open { Ending::Open } else { Ending::Closed };
    let (tokenizer, context) = (model.tokenizer(), model.spec.context);
    let row = |text: &Text| -> Result<Row> {
        let (ids, turns) = match &text.said {
            Said::Plain(said) => {
                let tokens = tokenizer.encode_wrapped(said, params.wrap, params.chat)?;
                (tokens.ids, vec![tokens.text])
            }
            Said::Turns(turns) => {
                let turns = tokenizer.encode_turns(turns, ending, params.chat)?;
                (turns.ids, turns.spans)
            }
        };
        ensure!(turns.iter().any(|turn| !turn.is_empty()), "it has no token of its own");
        Ok(Row { text_id: text.id.clone(), windows: windows(ids.len(), context), ids, turns })
    };
    let all: Vec<(&Text, Result<Row>)> = texts.par_iter().map(|text| (text, row(text))).collect();
    let (mut rows, mut unread) = (Vec::new(), Vec::new());
    for (text, row) in all {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => {
                let place = if text.place.is_empty() { &text.id } else { &text.place };
                unread.push((text.id.clone(), format!("{place}: {error:#}")));
            }
        }
    }
    (rows, unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_keep_every_token_once_with_half_a_context_before_it() {
        assert_eq!(windows(7, 10), [Window { span: 0..7, kept: 0..7 }]);
        for (n, context) in [(11, 10), (25, 10), (100, 7), (1001, 64)] {
            let windows = windows(n, context);
            let kept: Vec<usize> = windows.iter().flat_map(|w| w.kept.clone()).collect();
            assert!(kept.into_iter().eq(0..n), "{n} {context}");
            for window in &windows {
                assert!(window.span.len() <= context && window.span.end == window.kept.end);
                let before = window.kept.start - window.span.start;
                assert!(window.kept.start == 0 || before >= context - context / 2, "{window:?}");
            }
        }
    }
}
