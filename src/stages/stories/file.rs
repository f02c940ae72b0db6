//! Stories from Parquet, JSONL or CSV files. Knows no model, and not where the files are from.

mod read;

use std::collections::{BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use self::read::Row;
use super::{Columns, Story, story_id, table};
use crate::store::table::Table;

/// Raised when the same files would give other stories.
pub const VERSION: u32 = 1;

/// The formats, each by the ending of a file's name.
const FORMATS: [&str; 3] = ["parquet", "jsonl", "csv"];

/// What the formats are, for people.
pub const KNOWN: &str = "known formats, by the file's ending: .parquet, .jsonl, .csv";

/// Why a file of this name is not read; `None`: it is.
pub fn refused(name: &str) -> Option<&'static str> {
    let ending = name.rsplit('/').next()?.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    match ending.as_deref() {
        Some(ending) if FORMATS.contains(&ending) => None,
        Some("gz" | "zst" | "bz2" | "xz" | "zip" | "tar") => Some("is packed, and only plain files are read"),
        Some("json") => Some("is `.json`: only JSONL, one object a line, is read"),
        _ => Some("is of no known format"),
    }
}

/// Files of stories, and which of their rows are meant.
#[derive(Clone, Debug)]
pub struct Files {
    /// In the order in which they are read.
    pub paths: Vec<PathBuf>,
    pub columns: Columns,
    /// `None`: neutral text, of which every row counts.
    pub emotions: Option<Vec<String>>,
    /// The first so many of each emotion; `None`: all.
    pub limit_per_emotion: Option<usize>,
}

impl Files {
    /// How many stories they hold.
    ///
    /// Reads the files until every emotion has its limit, or to the end. An error if there is no story, if a file or a
    /// column is missing, or at the first row that cannot be read.
    pub fn count(&self) -> Result<usize> {
        let mut count = 0;
        let mut others = BTreeSet::new();
        self.each(&mut |row, story| {
            match story {
                Some(_) => count += 1,
                None if others.len() < 8 => others.extend(row.emotion.clone()),
                None => {}
            }
            ControlFlow::Continue(())
        })?;
        if count == 0 && self.emotions.is_some() {
            let others = others.into_iter().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(", ");
            bail!("{}: no row has one of the experiment's emotions; there are {others}", self.shown());
        }
        if count == 0 {
            bail!("{}: no row", self.shown());
        }
        Ok(count)
    }

    /// The stories of each of `ranges`, which ascend, among those that [`Files::count`] counts, in the files' order.
    ///
    /// A row whose emotion is not among `emotions` is passed over; emotions are compared without regard to case and
    /// surrounding space, and written as the experiment writes them. A story's index is its row, from 0, counted over
    /// all files.
    pub fn run(&self, ranges: &[Range<usize>]) -> Result<Vec<Table>> {
        let end = ranges.last().map_or(0, |range| range.end);
        let mut stories = vec![Vec::new(); ranges.len()];
        let mut count = 0;
        self.each(&mut |_, story| {
            if let Some(story) = story {
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

    /// Calls `visit` with every row, and with its story if it is one that is meant, until told to stop or until there
    /// can be no more.
    fn each(&self, visit: &mut dyn FnMut(&Row, Option<Story>) -> ControlFlow<()>) -> Result<()> {
        if self.emotions.is_some() && self.columns.emotion.is_none() {
            bail!("{}: `columns` does not say which column holds the emotion", self.shown());
        }
        // The experiment's spelling of each emotion, and how many more stories of it are meant.
        let limit = self.limit_per_emotion.unwrap_or(usize::MAX);
        let words = self.emotions.iter().flatten().map(|word| (word.to_lowercase(), (word, limit)));
        let mut left: HashMap<String, (&String, usize)> = words.collect();
        let (mut index, mut open, mut ended) = (0, left.len(), false);
        for path in &self.paths {
            let read = read::rows(path, &self.columns, &mut |row| {
                let emotion = match &self.emotions {
                    None => Some(None),
                    Some(_) => row.emotion.as_ref().and_then(|found| {
                        let (word, left) = left.get_mut(&found.trim().to_lowercase())?;
                        *left = left.checked_sub(1)?;
                        open -= usize::from(*left == 0);
                        Some(Some(word.to_string()))
                    }),
                };
                let story = match emotion {
                    None => None,
                    Some(emotion) => Some(story(&self.columns, &row, emotion, index)?),
                };
                index += 1;
                let flow = visit(&row, story);
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
    fn shown(&self) -> String {
        match self.paths.as_slice() {
            [first, _, ..] => format!("{} and {} more", first.display(), self.paths.len() - 1),
            paths => paths.iter().map(|path| path.display().to_string()).collect(),
        }
    }
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
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn columns() -> Columns {
        Columns { emotion: Some("feeling".into()), text: "story".into(), topic: Some("about".into()) }
    }

    fn files(paths: &[&Path], limit_per_emotion: Option<usize>) -> Files {
        let emotions = Some(["happy", "sad"].map(String::from).to_vec());
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        Files { paths, columns: columns(), emotions, limit_per_emotion }
    }

    /// Of one file, with a column `text` alone.
    fn neutral(path: &Path) -> Files {
        let columns = Columns { emotion: None, text: "text".into(), topic: None };
        Files { paths: vec![path.into()], columns, emotions: None, limit_per_emotion: None }
    }

    /// A file of this name and content in a folder that lives as long as the first value.
    fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, content).unwrap();
        (folder, path)
    }

    fn one(files: &Files, range: Range<usize>) -> Result<Table> {
        Ok(files.run(&[range])?.remove(0))
    }

    /// Reads all; the error's whole chain.
    fn read_all(path: &Path) -> Result<Table, String> {
        let files = files(&[path], None);
        let count = files.count().map_err(|e| format!("{e:#}"))?;
        one(&files, 0..count).map_err(|e| format!("{e:#}"))
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
            let second = one(&files(&[&path], None), 1..2).unwrap();
            assert_eq!(second.str("story_id").unwrap(), &table.str("story_id").unwrap()[1..]);
            assert!(one(&files(&[&path], None), 1..3).is_err());
        }
    }

    #[test]
    fn neutral_text_takes_every_row_and_needs_no_emotion() {
        let (_folder, path) = file("n.csv", "text\nWater boils.\nIron rusts.\n");
        assert_eq!(neutral(&path).count().unwrap(), 2);
        let table = one(&neutral(&path), 0..2).unwrap();
        assert_eq!(table.opt_str("emotion").unwrap(), [None, None]);
        let told = Files { emotions: files(&[], None).emotions, ..neutral(&path) };
        assert!(told.count().is_err());
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
        let error = neutral(Path::new("/nowhere/s.csv")).count().unwrap_err();
        assert!(format!("{error:#}").contains("/nowhere/s.csv"));
    }

    #[test]
    fn several_files_are_read_in_their_order_up_to_a_limit() {
        let (_a, first) =
            file("a.csv", "feeling,story,about\nsad,one,\nbored,two,\nHAPPY,three,\nsad,four,\n");
        let (_b, second) = file(
            "b.jsonl",
            concat!(
                "{\"feeling\": \"happy\", \"story\": \"five\"}\n",
                "{\"feeling\": \"sad\", \"story\": \"six\"}\n",
                "{\"feeling\": \"happy\", \"story\": \"seven\"}\n",
                "{\"feeling\": \"happy\", \"story\": null}\n",
            ),
        );
        let told = |paths: [&Path; 2], limit: usize| {
            let files = files(&paths, Some(limit));
            let table = one(&files, 0..files.count().unwrap()).unwrap();
            (table.str("text").unwrap().to_vec(), table.i32("index").unwrap().to_vec())
        };
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told([&first, &second], 1), (owned(&["one", "three"]), vec![0, 2]));
        assert_eq!(told([&first, &second], 2), (owned(&["one", "three", "four", "five"]), vec![0, 2, 3, 4]));
        assert_eq!(told([&second, &first], 1), (owned(&["five", "six"]), vec![0, 1]));
        // The row after the last that is meant has no text; nobody asks for it.
        let (all, rows) = told([&first, &second], 3);
        assert_eq!((all.last().unwrap().as_str(), rows), ("seven", vec![0, 2, 3, 4, 5, 6]));
        let error = format!("{:#}", files(&[&first, &second], Some(4)).count().unwrap_err());
        assert!(error.contains("b.jsonl") && error.contains("line 4: `story` is null"), "{error}");
        // Ranges within, with something between them.
        let parts = files(&[&first, &second], Some(3)).run(&[1..3, 4..6]).unwrap();
        assert_eq!(parts[0].str("text").unwrap(), ["three", "four"]);
        assert_eq!(parts[1].str("text").unwrap(), ["six", "seven"]);
    }

    /// As published files are: nested columns beside, several row groups, topics that are null.
    #[test]
    fn columns_that_nobody_asked_for_are_not_looked_at() {
        use arrow::array::{ListArray, StructArray};
        use arrow::datatypes::{DataType, Field};
        use parquet::file::properties::WriterProperties;

        let count = 2500;
        let text = |f: &dyn Fn(usize) -> Option<String>| {
            Arc::new(StringArray::from_iter((0..count).map(f))) as ArrayRef
        };
        let numbers = Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef;
        let inner = Arc::new(Field::new("n", DataType::Int64, false));
        let lists = ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(
            (0..count).map(|i| Some(vec![Some(i as i64); i % 3])),
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("meta", Arc::new(StructArray::from(vec![(inner, numbers)]))),
            ("story", text(&|i| Some(format!("story {i}")))),
            ("tags", Arc::new(lists)),
            ("about", text(&|i| (i % 4 == 0).then(|| "rain".to_string()))),
            ("feeling", text(&|i| (i != 7).then(|| ["sad", "bored", "happy"][i % 3].to_string()))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let few = WriterProperties::builder().set_max_row_group_row_count(Some(300)).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(few)).unwrap();
        writer.write(&batch).unwrap();
        assert!(writer.close().unwrap().num_row_groups() > 8);
        let (_folder, path) = file("s.parquet", bytes);
        let table = read_all(&path).unwrap();
        let rows: Vec<i32> = (0..count as i32).filter(|i| i % 3 != 1 && *i != 7).collect();
        assert_eq!(table.i32("index").unwrap(), rows);
        assert_eq!(table.str("text").unwrap()[1000], format!("story {}", rows[1000]));
        let topics = table.opt_str("topic").unwrap().iter().zip(&rows);
        assert!(topics.into_iter().all(|(topic, row)| topic.is_some() == (row % 4 == 0)));
    }

    #[test]
    fn what_is_not_read_is_told_by_its_name() {
        for name in ["a.parquet", "x/a.JSONL", "a.b.csv"] {
            assert_eq!(refused(name), None, "{name}");
        }
        for (name, why) in [
            ("a.jsonl.gz", "is packed"),
            ("a.json", "one object a line"),
            ("README.md", "no known format"),
            ("x.csv/a", "no known format"),
        ] {
            assert!(refused(name).is_some_and(|said| said.contains(why)), "{name}");
        }
    }
}
