//! Stories from a Parquet, JSONL or CSV file. Knows no model.

mod read;

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use anyhow::{Context, Result, bail};

use self::read::Row;
use super::{Columns, Story, story_id, table};
use crate::store::table::Table;

/// Raised when the same file would give other stories.
pub const VERSION: u32 = 1;

/// How many stories the file holds for these emotions (`None`: neutral text, every row counts).
///
/// Reads the whole file. An error if there is none, if a column is missing, or at the first row that cannot be read.
pub fn count(path: &Path, columns: &Columns, emotions: Option<&[String]>) -> Result<usize> {
    let mut count = 0;
    let mut others = BTreeSet::new();
    each(path, columns, emotions, &mut |row, story| {
        match story {
            Some(_) => count += 1,
            None if others.len() < 8 => others.extend(row.emotion.clone()),
            None => {}
        }
        ControlFlow::Continue(())
    })?;
    if count == 0 && emotions.is_some() {
        let others = others.into_iter().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ");
        bail!("{}: no row has one of the experiment's emotions; it has {others}", path.display());
    }
    if count == 0 {
        bail!("{}: no row", path.display());
    }
    Ok(count)
}

/// The stories of `range` among those that [`count`] counts, in the file's order.
///
/// A row whose emotion is not among `emotions` is passed over; emotions are compared without regard to case and
/// surrounding space, and written as the experiment writes them. A story's index is its row in the file, from 0.
pub fn run(
    path: &Path,
    columns: &Columns,
    emotions: Option<&[String]>,
    range: Range<usize>,
) -> Result<Table> {
    let mut stories = Vec::new();
    let mut count = 0;
    each(path, columns, emotions, &mut |_, story| {
        if let Some(story) = story {
            if range.contains(&count) {
                stories.push(story);
            }
            count += 1;
        }
        if count < range.end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if count < range.end {
        bail!("{}: story {} was asked for, but it holds {count}", path.display(), range.end - 1);
    }
    Ok(table(&stories))
}

/// Calls `visit` with every row, and with its story if it is one of the experiment's, until told to stop.
fn each(
    path: &Path,
    columns: &Columns,
    emotions: Option<&[String]>,
    visit: &mut dyn FnMut(&Row, Option<Story>) -> ControlFlow<()>,
) -> Result<()> {
    if emotions.is_some() && columns.emotion.is_none() {
        bail!("{}: `columns` does not say which column holds the emotion", path.display());
    }
    let mut index = 0;
    read::rows(path, columns, &mut |row| {
        let emotion = match emotions {
            None => Some(None),
            Some(list) => row.emotion.as_ref().and_then(|found| find(list, found)).map(Some),
        };
        let story = match emotion {
            None => None,
            Some(emotion) => Some(story(columns, &row, emotion.cloned(), index)?),
        };
        index += 1;
        Ok(visit(&row, story))
    })
    .with_context(|| format!("read {}", path.display()))
}

/// The experiment's spelling of an emotion that a file names.
fn find<'a>(list: &'a [String], found: &str) -> Option<&'a String> {
    let found = found.trim().to_lowercase();
    list.iter().find(|word| word.to_lowercase() == found)
}

fn story(columns: &Columns, row: &Row, emotion: Option<String>, index: usize) -> Result<Story> {
    let text = row.text.as_deref().map(str::trim).unwrap_or_default();
    if text.is_empty() {
        let what = if row.text.is_none() { "null" } else { "empty" };
        bail!("{}: `{}` is {what}", row.place, columns.text);
    }
    Ok(Story {
        story_id: story_id(emotion.as_deref(), row.topic.as_deref(), index, text),
        emotion,
        topic: row.topic.clone(),
        index,
        text: text.to_string(),
        writer: "file".into(),
        prompt: None,
        seed: None,
        rejected: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn columns() -> Columns {
        Columns { emotion: Some("feeling".into()), text: "story".into(), topic: Some("about".into()) }
    }

    fn emotions() -> Vec<String> {
        ["happy", "sad"].map(String::from).to_vec()
    }

    /// A file of this name and content in a folder that lives as long as the first value.
    fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, content).unwrap();
        (folder, path)
    }

    /// Reads all; the error's whole chain.
    fn read_all(path: &Path) -> Result<Table, String> {
        let emotions = emotions();
        let count = count(path, &columns(), Some(&emotions)).map_err(|e| format!("{e:#}"))?;
        run(path, &columns(), Some(&emotions), 0..count).map_err(|e| format!("{e:#}"))
    }

    fn parquet(columns: Vec<(&str, ArrayRef)>) -> (tempfile::TempDir, PathBuf) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file("s.parquet", bytes)
    }

    #[test]
    fn the_three_formats_give_the_same_stories() {
        let feelings: DictionaryArray<Int32Type> = ["sad", "bored", "Happy "].into_iter().collect();
        let of_parquet = parquet(vec![
            ("extra", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
            ("feeling", Arc::new(feelings)),
            ("story", Arc::new(LargeStringArray::from(vec![Some("Rain, again."), None, Some("Sun!")]))),
            ("about", Arc::new(StringArray::from(vec![None, None, Some("weather")]))),
        ]);
        let jsonl = concat!(
            "{\"feeling\": \"sad\", \"story\": \"Rain, again.\", \"about\": null}\n\n",
            "{\"feeling\": \"bored\", \"story\": null}\n",
            "{\"story\": \" Sun!\\n\", \"feeling\": \"Happy \", \"about\": \"weather\", \"n\": 3}\n"
        );
        let csv = "feeling,story,about\nsad,\"Rain, again.\",\nbored,,\n\"Happy \",Sun!,weather\n";
        for (_folder, path) in [of_parquet, file("s.jsonl", jsonl), file("s.csv", csv)] {
            let table = read_all(&path).unwrap();
            assert_eq!(table.str("text").unwrap(), ["Rain, again.", "Sun!"], "{}", path.display());
            assert_eq!(table.opt_str("emotion").unwrap(), [Some("sad".into()), Some("happy".into())]);
            assert_eq!(table.opt_str("topic").unwrap(), [None, Some("weather".into())]);
            assert_eq!(table.i32("index").unwrap(), [0, 2]);
            let second = run(&path, &columns(), Some(&emotions()), 1..2).unwrap();
            assert_eq!(second.str("story_id").unwrap(), &table.str("story_id").unwrap()[1..]);
            assert!(run(&path, &columns(), Some(&emotions()), 1..3).is_err());
        }
    }

    #[test]
    fn neutral_text_takes_every_row_and_needs_no_emotion() {
        let (_folder, path) = file("n.csv", "text\nWater boils.\nIron rusts.\n");
        let columns = Columns { emotion: None, text: "text".into(), topic: None };
        assert_eq!(count(&path, &columns, None).unwrap(), 2);
        let table = run(&path, &columns, None, 0..2).unwrap();
        assert_eq!(table.opt_str("emotion").unwrap(), [None, None]);
        assert!(count(&path, &columns, Some(&emotions())).is_err());
    }

    #[test]
    fn errors_name_the_file_the_row_and_what_there_is() {
        let check = |(_folder, path): (tempfile::TempDir, PathBuf), wanted: &[&str]| {
            let error = read_all(&path).unwrap_err();
            for part in wanted.iter().chain([&path.to_str().unwrap()]) {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        };
        check(file("s.csv", "feeling,text\nsad,x\n"), &["no column `story`", "`feeling`, `text`"]);
        check(file("s.csv", "feeling,story,about\nsad,a,b\nsad,,b\n"), &["line 3", "`story` is empty"]);
        check(file("s.csv", "feeling,story,about\nsad,a,b\nsad,a\n"), &["line: 3", "2 fields"]);
        check(file("s.csv", b"feeling,story,about\nsad,\xff,b\n"), &["line 2", "utf-8"]);
        check(file("s.csv", ""), &["no column"]);
        check(file("s.csv", "feeling,story,about\nbored,a,b\n"), &["no row has one", "`bored`"]);
        check(file("s.jsonl", "{\"feeling\": \"sad\"}\n"), &["line 1", "no key `story`", "`feeling`"]);
        check(
            file("s.jsonl", "{\"feeling\": \"sad\", \"story\": null, \"about\": null}"),
            &["line 1", "`story` is null"],
        );
        check(
            file("s.jsonl", "{\"feeling\": \"sad\", \"story\": 5, \"about\": null}"),
            &["line 1", "`story` is a number"],
        );
        check(file("s.jsonl", "\n{\"feeling\": \n"), &["line 2", "not JSON"]);
        check(file("s.jsonl", "[1]\n"), &["line 1", "not a JSON object"]);
        check(file("s.jsonl", b"{\"feeling\": \"s\xff\"}\n"), &["line 1", "UTF-8"]);
        check(file("s.txt", "x"), &["`.parquet`", "`.jsonl`", "`.csv`"]);
        check(file("s.parquet", "PAR1 not really"), &["Parquet"]);
        let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        check(
            parquet(vec![("feeling", text(vec![Some("sad")])), ("about", text(vec![None]))]),
            &["no column `story`", "`feeling`, `about`"],
        );
        let number = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        check(
            parquet(vec![
                ("feeling", text(vec![Some("sad")])),
                ("about", text(vec![None])),
                ("story", number),
            ]),
            &["`story`", "Int64", "not text"],
        );
        check(
            parquet(vec![
                ("feeling", text(vec![Some("bored"), Some("sad")])),
                ("about", text(vec![None, None])),
                ("story", text(vec![None, None])),
            ]),
            &["row 2", "`story` is null"],
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = count(Path::new("/nowhere/s.csv"), &columns(), None).unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/s.csv"));
    }
}
