//! Reads stories from files in many formats. Independent of the model and of where the files come from.

mod columnar;
mod csv;
mod format;
mod json;
mod label;
#[cfg(test)]
mod tests;
pub(in crate::stages) mod text;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::format::{Format, stem};
pub use self::format::{KNOWN, Packing, refused};
pub(in crate::stages) use self::json::not_json;
use self::label::{Emotions, Label};
use self::text::Lines;
use super::words::is_blank;
use super::{Columns, Story, story_id, table};
use crate::params::words;
use crate::store::table::Table;

/// Increased when the same files would give different stories.
pub const VERSION: u32 = 2;

/// The number of unknown labels that are counted individually.
const LABELS: usize = 2000;
/// The number of skipped rows whose places are reported.
const PLACES: usize = 3;

words! {
    /// What becomes of a row without a text.
    pub enum Empty {
        /// It is skipped, and counted.
        Skip = "skip",
        Error = "error",
    }
}

/// Story files, and which of their rows are used.
#[derive(Clone, Debug)]
pub struct Files {
    /// In reading order.
    pub paths: Vec<PathBuf>,
    pub columns: Columns,
    /// `None`: neutral text, of which every row is used.
    pub emotions: Option<Vec<String>>,
    /// The emotions that labels stand for, where a label is not the emotion's name.
    pub labels: BTreeMap<String, String>,
    pub empty: Empty,
    /// The maximum number of stories per emotion, taken from the beginning; `None`: all.
    pub limit_per_emotion: Option<usize>,
}

/// What a set of story files contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Stories that are used.
    pub stories: usize,
    /// Stories per emotion; empty for neutral text.
    pub of_emotion: Vec<usize>,
    /// Labels that match no emotion of the experiment, each with its number of rows.
    pub others: BTreeMap<String, usize>,
    /// Rows with further such labels.
    pub more: usize,
    /// Rows without a label, and rows with several.
    pub unlabelled: usize,
    pub several: usize,
    /// Rows of an emotion without a text, and the places of the first of them.
    pub empty: usize,
    pub empty_at: Vec<String>,
    /// For each file, the label given by its name if its rows have none of their own.
    pub by_name: Vec<Option<String>>,
}

/// How a row is treated.
enum Fate {
    /// A story, and the index of its emotion.
    Story(Story, Option<usize>),
    Empty,
    Other,
}

impl Files {
    /// Surveys the files.
    ///
    /// Reads the files until every emotion has reached its limit, or to the end. An error if a file or a column is
    /// missing, if a row cannot be read, or if there are no rows at all.
    pub fn survey(&self) -> Result<Survey> {
        let mut survey = Survey {
            of_emotion: vec![0; self.emotions.as_ref().map_or(0, Vec::len)],
            by_name: vec![None; self.paths.len()],
            ..Survey::default()
        };
        let mut rows = 0;
        self.each(&mut |file, row, fate| {
            rows += 1;
            if row.by_name && survey.by_name[file].is_none() {
                survey.by_name[file] = row.emotion.shown().map(str::to_string);
            }
            match (fate, &row.emotion) {
                (Fate::Story(_, place), _) => {
                    survey.stories += 1;
                    place.into_iter().for_each(|place| survey.of_emotion[place] += 1);
                }
                (Fate::Empty, _) => {
                    survey.empty += 1;
                    if survey.empty_at.len() < PLACES {
                        survey.empty_at.push(format!("{}, {}", name_of(&self.paths[file]), row.place));
                    }
                }
                (Fate::Other, Label::Missing) => survey.unlabelled += 1,
                (Fate::Other, Label::Several) => survey.several += 1,
                (Fate::Other, label) => {
                    let label = label.shown().unwrap_or_default();
                    if survey.others.len() < LABELS || survey.others.contains_key(label) {
                        *survey.others.entry(label.to_string()).or_default() += 1;
                    } else {
                        survey.more += 1;
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        if rows == 0 {
            bail!("{}: no row", self.shown());
        }
        if survey.stories == 0 && self.emotions.is_none() {
            bail!("{}: {rows} rows, none of which has a text in `{}`", self.shown(), self.columns.text);
        }
        Ok(survey)
    }

    /// The stories of each of `ranges` (in ascending order) among those that [`Files::survey`] counts, in the files'
    /// order.
    ///
    /// A row whose label matches none of `emotions` is skipped; emotions are spelled as in the experiment. A story's
    /// index is its row, from 0, counted over all files; a row with a list of texts counts as that many rows.
    pub fn run(&self, ranges: &[Range<usize>]) -> Result<Vec<Table>> {
        let end = ranges.last().map_or(0, |range| range.end);
        let mut stories = vec![Vec::new(); ranges.len()];
        let mut count = 0;
        self.each(&mut |_, _, fate| {
            if let Fate::Story(story, _) = fate {
                let place = ranges.partition_point(|range| range.end <= count);
                if ranges.get(place).is_some_and(|range| range.contains(&count)) {
                    stories[place].push(story);
                }
                count += 1;
            }
            if count < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if count < end {
            bail!("{}: story {} was asked for, but there are {count}", self.shown(), end - 1);
        }
        Ok(stories.iter().map(|stories| table(stories)).collect())
    }

    /// Calls `visit` with every row, the number of its file and how it is treated, until `visit` breaks or no further
    /// story can be used.
    fn each(&self, visit: &mut dyn FnMut(usize, &Row, Fate) -> ControlFlow<()>) -> Result<()> {
        if self.emotions.is_some() && self.columns.emotion.is_none() {
            bail!("{}: `columns` does not say which column holds the emotion", self.shown());
        }
        let words = self.emotions.as_deref().unwrap_or_default();
        let emotions = Emotions::new(words, &self.labels);
        // The number of stories of each emotion that may still be used.
        let mut left = vec![self.limit_per_emotion.unwrap_or(usize::MAX); words.len()];
        let (mut index, mut open, mut ended) = (0, left.len(), false);
        for (file, path) in self.paths.iter().enumerate() {
            let read = rows(path, &self.columns, &emotions, &mut |row| {
                let place = emotions.place(&row.emotion);
                let fate = match place {
                    None if self.emotions.is_some() => Fate::Other,
                    Some(place) if left[place] == 0 => Fate::Other,
                    _ if row.text.as_deref().is_none_or(is_blank) => match self.empty {
                        Empty::Skip => Fate::Empty,
                        Empty::Error => {
                            let what = if row.text.is_none() { "null" } else { "empty" };
                            let column = &self.columns.text;
                            bail!("{}: `{column}` is {what}; `empty = \"skip\"` skips such rows", row.place);
                        }
                    },
                    place => {
                        if let Some(place) = place {
                            left[place] -= 1;
                            open -= usize::from(left[place] == 0);
                        }
                        Fate::Story(story(&row, place.map(|place| words[place].clone()), index), place)
                    }
                };
                // Rows of an emotion that has reached its limit are not reported.
                let counted = !(matches!(fate, Fate::Other) && place.is_some());
                index += 1;
                let flow = if counted { visit(file, &row, fate) } else { ControlFlow::Continue(()) };
                ended = flow.is_break() || (self.emotions.is_some() && open == 0);
                Ok(if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            read.with_context(|| format!("read {}", path.display()))?;
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// For people: the file, or the first of several.
    pub fn shown(&self) -> String {
        match self.paths.as_slice() {
            [first, _, ..] => format!("{} and {} more", first.display(), self.paths.len() - 1),
            paths => paths.iter().map(|path| path.display().to_string()).collect(),
        }
    }
}

fn story(row: &Row, emotion: Option<String>, index: usize) -> Story {
    let text = row.text.as_deref().map(str::trim).unwrap_or_default();
    Story {
        story_id: story_id(emotion.as_deref(), row.topic.as_deref(), index, text),
        emotion,
        other: None,
        topic: row.topic.clone(),
        index,
        text: text.to_string(),
        writer: "file".into(),
        prompt: None,
        seed: None,
        rejected: 0,
    }
}

/// One text of a file with its metadata.
struct Row {
    /// Its position, for errors: "line 7" or "row 7", from 1.
    place: String,
    emotion: Label,
    /// The label is the file's name.
    by_name: bool,
    /// `None`: null.
    text: Option<String>,
    /// `None` if the file has null, or if no topic column was configured.
    topic: Option<String>,
}

/// Receives rows until it breaks.
type Visit<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>> + 'a;

/// A file to read.
struct Rows<'a> {
    path: &'a Path,
    packing: Packing,
    columns: &'a Columns,
    /// The label of rows without one of their own: the file's name, if it matches an emotion.
    stem: Option<&'a str>,
}

impl Rows<'_> {
    /// The configured column names: emotion, text, topic.
    fn names(&self) -> impl Iterator<Item = Option<&str>> {
        let Columns { emotion, text, topic } = self.columns;
        [emotion.as_deref(), Some(text.as_str()), topic.as_deref()].into_iter()
    }

    fn lines(&self) -> Result<Lines> {
        Lines::open(self.path, self.packing)
    }

    /// The file's name as a label.
    fn by_name(&self) -> Label {
        Label::of(self.stem.map(str::to_string))
    }
}

/// Calls `visit` with each row of the file; the format is determined by the file's name.
fn rows(path: &Path, columns: &Columns, emotions: &Emotions, visit: &mut Visit) -> Result<()> {
    let name = name_of(path);
    let (format, packing) = Format::of(&name).map_err(|why| anyhow::anyhow!("it {why}; {KNOWN}"))?;
    let stem = Some(stem(&name)).filter(|_| columns.emotion.is_some());
    // Plain lines have only the file's name as a label.
    let means =
        |stem: &&str| format == Format::Lines || emotions.place(&Label::of(Some(stem.to_string()))).is_some();
    let rows = Rows { path, packing, columns, stem: stem.filter(means) };
    text::refuse_pointer(path)?;
    match format {
        Format::Parquet => columnar::rows(&rows, packing, visit),
        Format::JsonLines => json::lines(&rows, visit),
        Format::Json => json::document(&rows, visit),
        Format::Csv | Format::Tsv => csv::rows(&rows, format, visit),
        Format::Lines => lines(&rows, visit),
    }
}

/// One text per line; empty lines are skipped.
fn lines(rows: &Rows, visit: &mut Visit) -> Result<()> {
    let mut lines = rows.lines()?;
    while let Some(line) = lines.next()? {
        if is_blank(line) {
            continue;
        }
        let text = Some(line.to_string());
        let place = format!("line {}", lines.number);
        let row = Row { place, emotion: rows.by_name(), by_name: rows.stem.is_some(), text, topic: None };
        if visit(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The name of the format of the file at `path`; empty if unknown.
pub fn format_of(path: &Path) -> &'static str {
    Format::of(&name_of(path)).map_or("", |(format, _)| format.name())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn missing(what: &str, name: &str, there: impl IntoIterator<Item = impl AsRef<str>>) -> anyhow::Error {
    let there: Vec<_> = there.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    let there = if there.is_empty() { "nothing".to_string() } else { there.join(", ") };
    anyhow::anyhow!("no {what} `{name}`; there is {there}; `columns = {{ ... }}` says which is meant")
}
