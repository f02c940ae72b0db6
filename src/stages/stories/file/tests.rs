//! Story files that the tests write, in every layout, and the rows expected from them.

use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;

use super::*;

fn columns() -> Columns {
    Columns { emotion: Some("feeling".into()), text: "story".into(), topic: Some("about".into()) }
}

fn files(paths: &[&Path], limit_per_emotion: Option<usize>) -> Files {
    let emotions = Some(["happy", "sad"].map(String::from).to_vec());
    let paths = paths.iter().map(|path| path.to_path_buf()).collect();
    Files {
        paths,
        columns: columns(),
        emotions,
        labels: BTreeMap::new(),
        empty: Empty::Error,
        limit_per_emotion,
    }
}

/// One file of neutral text, with only a column `text`.
fn neutral(path: &Path) -> Files {
    let columns = Columns { emotion: None, text: "text".into(), topic: None };
    Files {
        paths: vec![path.into()],
        columns,
        emotions: None,
        labels: BTreeMap::new(),
        empty: Empty::Error,
        limit_per_emotion: None,
    }
}

/// A file with this name and content, in a folder that lives as long as the first value.
fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs_err::write(&path, content).unwrap();
    (folder, path)
}

fn one(files: &Files, range: Range<usize>) -> Result<Table> {
    Ok(files.run(&[range])?.remove(0))
}

/// Reads everything; an error is returned with its whole chain.
fn read_all(path: &Path) -> Result<Table, String> {
    let files = files(&[path], None);
    let count = files.survey().map_err(|e| format!("{e:#}"))?.stories;
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
    assert_eq!(neutral(&path).survey().unwrap().stories, 2);
    let table = one(&neutral(&path), 0..2).unwrap();
    assert_eq!(table.opt_str("emotion").unwrap(), [None, None]);
    let told = Files { emotions: files(&[], None).emotions, ..neutral(&path) };
    assert!(told.survey().is_err());
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
    check(file("s.csv", "feeling,story,about\nsad,a,b\nsad,a\n"), &["line 3", "2 fields", "the header 3"]);
    check(file("s.csv", b"feeling,story,about\nsad,\xff,b\n"), &["line 2", "UTF-8", "iconv"]);
    check(file("s.csv", ""), &["empty"]);
    check(file("s.csv", "feeling,story,about\r\nsad,a,b\r\nsad,,b\r\n"), &["line 3", "`story` is empty"]);
    check(file("s.csv", "feeling,story,about\nsad,\"a,b\nsad,c,d\n"), &["line 2", "never closes"]);
    check(file("s.csv", "feeling,story,about\nsad,a,b,c\n"), &["line 2 has 4 fields", "in quotes"]);
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
    check(file("s.jsonl", "{\"feeling\": NaN}\n"), &["line 1", "not JSON", "write null"]);
    check(file("s.jsonl", "{'feeling': 'sad'}\n"), &["line 1", "not JSON", "`json.dumps`"]);
    check(file("s.jsonl", "{\"feeling\": \"sad\"},\n"), &["line 1", "not JSON", "no comma"]);
    check(file("s.jsonl", "1\n"), &["line 1", "not a JSON object"]);
    check(file("s.jsonl", b"{\"feeling\": \"s\xff\"}\n"), &["line 1", "UTF-8"]);
    check(file("s.md", "x"), &[".parquet", ".jsonl", ".csv"]);
    check(file("s.parquet", "PAR1 not really"), &["Parquet"]);
    let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    check(
        parquet(vec![("feeling", text(vec![Some("sad")])), ("about", text(vec![None]))]),
        &["no column `story`", "`feeling`, `about`"],
    );
    let number = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    check(
        parquet(vec![("feeling", text(vec![Some("sad")])), ("about", text(vec![None])), ("story", number)]),
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
    let error = neutral(Path::new("/nowhere/s.csv")).survey().unwrap_err();
    assert!(format!("{error:#}").contains("/nowhere/s.csv"));
}

#[test]
fn several_files_are_read_in_their_order_up_to_a_limit() {
    let (_a, first) = file("a.csv", "feeling,story,about\nsad,one,\nbored,two,\nHAPPY,three,\nsad,four,\n");
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
        let table = one(&files, 0..files.survey().unwrap().stories).unwrap();
        (table.str("text").unwrap().to_vec(), table.i32("index").unwrap().to_vec())
    };
    let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told([&first, &second], 1), (owned(&["one", "three"]), vec![0, 2]));
    assert_eq!(told([&first, &second], 2), (owned(&["one", "three", "four", "five"]), vec![0, 2, 3, 4]));
    assert_eq!(told([&second, &first], 1), (owned(&["five", "six"]), vec![0, 1]));
    // The row after the last requested one has no text, but is never read.
    let (all, rows) = told([&first, &second], 3);
    assert_eq!((all.last().unwrap().as_str(), rows), ("seven", vec![0, 2, 3, 4, 5, 6]));
    let error = format!("{:#}", files(&[&first, &second], Some(4)).survey().unwrap_err());
    assert!(error.contains("b.jsonl") && error.contains("line 4: `story` is null"), "{error}");
    // Ranges within the file, with a gap between them.
    let parts = files(&[&first, &second], Some(3)).run(&[1..3, 4..6]).unwrap();
    assert_eq!(parts[0].str("text").unwrap(), ["three", "four"]);
    assert_eq!(parts[1].str("text").unwrap(), ["six", "seven"]);
}

/// Like published files: additional nested columns, several row groups, topics that are null.
#[test]
fn columns_that_nobody_asked_for_are_not_looked_at() {
    use arrow_array::{ListArray, StructArray};
    use arrow_schema::{DataType, Field};
    use parquet::file::properties::WriterProperties;

    let count = 2500;
    let text =
        |f: &dyn Fn(usize) -> Option<String>| Arc::new(StringArray::from_iter((0..count).map(f))) as ArrayRef;
    let numbers = Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef;
    let inner = Arc::new(Field::new("n", DataType::Int64, false));
    let lists = ListArray::from_iter_primitive::<arrow_array::types::Int64Type, _, _>(
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

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// The emotions and texts of a file, and its survey.
fn told(files: &Files) -> (Vec<(String, String)>, Survey) {
    let survey = files.survey().unwrap();
    let table = one(files, 0..survey.stories).unwrap();
    let emotions =
        table.opt_str("emotion").unwrap().iter().map(|emotion| emotion.clone().unwrap_or_default());
    (emotions.zip(table.str("text").unwrap().iter().cloned()).collect(), survey)
}

/// The content of every layout below.
fn four() -> Vec<(String, String)> {
    let four = [("sad", "Rain."), ("sad", "Fog."), ("happy", "Sun."), ("happy", "Wind.")];
    four.map(|(emotion, text)| (emotion.to_string(), text.to_string())).to_vec()
}

#[test]
fn every_layout_in_which_people_keep_texts_gives_the_same_stories() {
    let row = |emotion: &str, text: &str| format!("{{\"feeling\": \"{emotion}\", \"story\": \"{text}\"}}");
    let rows: Vec<String> = four().iter().map(|(emotion, text)| row(emotion, text)).collect();
    let list = |emotion: &str, texts: &str| format!("{{\"feeling\": \"{emotion}\", \"story\": [{texts}]}}");
    let lists = [list("sad", "\"Rain.\", \"Fog.\""), list("happy", "\"Sun.\", \"Wind.\"")];
    let by_emotion = r#"{"sad": ["Rain.", "Fog."], "happy": ["Sun.", "Wind."]}"#;
    let by_topic = r#"{"sad": {"x": ["Rain."], "y": ["Fog."]}, "happy": {"x": ["Sun.", "Wind."]}}"#;
    let by_column =
        r#"{"feeling": ["sad", "sad", "happy", "happy"], "story": ["Rain.", "Fog.", "Sun.", "Wind."]}"#;
    let pandas = r#"{"feeling": {"0": "sad", "1": "sad", "2": "happy", "3": "happy"},
                     "story": {"0": "Rain.", "1": "Fog.", "2": "Sun.", "3": "Wind."}}"#;
    let csv = |delimiter: &str| {
        let rows: Vec<String> = four()
            .iter()
            .map(|(emotion, text)| format!("7{delimiter}{emotion}{delimiter}\"{text}\""))
            .collect();
        format!("{delimiter}feeling{delimiter}story\r\n{}\r\n", rows.join("\r\n"))
    };
    let marked: Vec<u8> =
        std::iter::once(0xfeff).chain(csv("\t").encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("s.json", format!("[{}]", rows.join(",\n")).into()),
        ("s.jsonl", format!("[{}]", rows.join(",\n")).into()),
        ("s.json", rows.join("\n").into()),
        (
            "s.json",
            format!("{{\"made\": \"2024\", \"tags\": [1], \"stories\": [{}]}}", rows.join(",")).into(),
        ),
        ("s.jsonl", lists.join("\n").into()),
        ("s.json", by_emotion.into()),
        ("s.json", by_topic.into()),
        ("s.json", by_column.into()),
        ("s.json", pandas.into()),
        ("s.csv", csv(",").into()),
        ("s.csv", csv(";").into()),
        ("s.csv", format!("\u{feff}sep=;\r\n{}", csv(";")).into()),
        ("s.csv", csv("|").into()),
        ("s.csv", csv("\t").into()),
        ("s.tsv", csv("\t").into()),
        ("s.txt.csv", marked),
        ("s.csv.zst", zstd::stream::encode_all(csv(";").as_bytes(), 1).unwrap()),
    ];
    for (name, content) in cases {
        let (_folder, path) = file(name, &content);
        let files = Files { columns: Columns { topic: None, ..columns() }, ..files(&[&path], None) };
        assert_eq!(told(&files).0, four(), "{name}: {}", String::from_utf8_lossy(&content));
    }
}

#[test]
fn a_layout_that_is_none_is_told_with_the_command_that_converts_it() {
    let (_folder, path) = file("s.json", r#"{"a": {"b": 1}, "c": "d"}"#);
    let said = read_all(&path).unwrap_err();
    assert!(said.contains("`a`, `c`") && said.contains("jq -c"), "{said}");
}

#[test]
fn a_file_s_name_is_the_emotion_where_its_rows_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        fs_err::write(folder.path().join(name), content).unwrap();
        folder.path().join(name)
    };
    let sad = path("Sad.txt", "Rain.\n\nFog.\n");
    let happy = path("happy.jsonl", "{\"story\": \"Sun.\"}\n{\"story\": \"Wind.\"}\n");
    let bored = path("bored.txt", "Dust.\n");
    let (stories, survey) = told(&files(&[&sad, &happy, &bored], None));
    assert_eq!(stories, four());
    assert_eq!(survey.by_name, ["Sad", "happy", "bored"].map(|name| Some(name.to_string())));
    assert_eq!(survey.others, [("bored".to_string(), 1)].into());
    // A file name that is not an emotion is not a label.
    let other = path("other.jsonl", "{\"story\": \"Sun.\"}\n");
    assert!(read_all(&other).unwrap_err().contains("no key `feeling`"));
    // For neutral text, a file name is not a label.
    let files = Files { columns: Columns { text: "story".into(), ..neutral(&sad).columns }, ..neutral(&sad) };
    assert_eq!((told(&files).0.len(), files.survey().unwrap().by_name), (2, vec![None]));
}

#[test]
fn numbers_are_labels_by_the_file_s_names_or_the_experiment_s() {
    use arrow_array::ListArray;
    use arrow_array::types::Int64Type;
    use parquet::file::metadata::KeyValue;

    let written = |numbers: ArrayRef, metadata: Option<&str>| {
        let story = text(&["Rain.", "Sun.", "Fog.", "Dust.", "Wind."]);
        let batch = RecordBatch::try_from_iter(vec![("feeling", numbers), ("story", story)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        if let Some(value) = metadata {
            writer.append_key_value_metadata(KeyValue::new("huggingface".into(), value.to_string()));
        }
        writer.close().unwrap();
        file("s.parquet", bytes)
    };
    let numbers = || Arc::new(Int64Array::from(vec![0, 1, 0, 2, 1])) as ArrayRef;
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        [vec![0], vec![1], vec![0], vec![1, 2], vec![1]]
            .map(|l| Some(l.into_iter().map(Some).collect::<Vec<_>>())),
    );
    let names = r#"{"names": ["sad", "happy", "bored"], "_type": "ClassLabel"}"#;
    let info = |feature: &str| format!(r#"{{"info": {{"features": {{"feeling": {feature}}}}}}}"#);
    let want: Vec<_> = [("sad", "Rain."), ("happy", "Sun."), ("sad", "Fog."), ("happy", "Wind.")]
        .map(|(emotion, text)| (emotion.to_string(), text.to_string()))
        .to_vec();
    let columns = Columns { topic: None, ..columns() };
    let of = |path: &Path, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(label, word)| (label.to_string(), word.to_string())).collect();
        Files { columns: columns.clone(), labels, ..files(&[path], None) }
    };
    let (_a, path) = written(numbers(), Some(&info(names)));
    let (stories, survey) = told(&of(&path, &[]));
    assert_eq!((stories, survey.others), (want.clone(), [("bored".to_string(), 1)].into()));
    let listed = format!(r#"{{"feature": {names}, "_type": "List"}}"#);
    let (_b, path) = written(Arc::new(lists), Some(&info(&listed)));
    let (stories, survey) = told(&of(&path, &[]));
    assert_eq!((stories, survey.several), (want.clone(), 1));
    // Without names, in any format, only the experiment can say what the numbers mean.
    let (_c, bare) = written(numbers(), None);
    let csv = "story,feeling\nRain.,0\nSun.,1\nFog.,0\nDust.,2\nWind.,1\n";
    let jsonl: String = [("Rain.", "0"), ("Sun.", "1"), ("Fog.", "0.0"), ("Dust.", "2"), ("Wind.", "[1]")]
        .map(|(story, feeling)| format!("{{\"story\": \"{story}\", \"feeling\": {feeling}}}\n"))
        .concat();
    let (_d, csv) = file("s.csv", csv);
    let (_e, jsonl) = file("s.jsonl", jsonl);
    for path in [&bare, &csv, &jsonl] {
        assert_eq!(told(&of(path, &[("0", "sad"), ("1", "happy")])).0, want, "{}", path.display());
        let survey = of(path, &[]).survey().unwrap();
        let others = [("0", 2), ("1", 2), ("2", 1)].map(|(label, rows)| (label.to_string(), rows));
        assert_eq!((survey.stories, survey.others), (0, others.into()), "{}", path.display());
    }
}

#[test]
fn topics_that_are_numbers_are_their_digits_in_every_format() {
    let numbers = Arc::new(Int64Array::from(vec![Some(0), None])) as ArrayRef;
    let (feelings, stories) = (text(&["sad", "sad"]), text(&["Rain.", "Fog."]));
    let parquet = parquet(vec![("feeling", feelings), ("story", stories), ("about", numbers)]);
    let jsonl = concat!(
        "{\"feeling\": \"sad\", \"story\": \"Rain.\", \"about\": 0}\n",
        "{\"feeling\": \"sad\", \"story\": \"Fog.\", \"about\": null}\n"
    );
    let csv = "feeling,story,about\nsad,Rain.,0\nsad,Fog.,\n";
    for (_folder, path) in [parquet, file("s.jsonl", jsonl), file("s.csv", csv)] {
        let table = read_all(&path).unwrap();
        assert_eq!(table.opt_str("topic").unwrap(), [Some("0".into()), None], "{}", path.display());
    }
}

#[test]
fn empty_texts_are_skipped_and_counted_and_use_up_no_limit() {
    let content =
        "feeling,story,about\nsad,,\nsad,Rain.,\nhappy,\u{200b} ,\nbored,,\nsad,Fog.,\nhappy,Sun.,\n";
    let (_folder, path) = file("s.csv", content);
    assert!(read_all(&path).unwrap_err().contains("line 2: `story` is empty; `empty = \"skip\"`"));
    let files = Files { empty: Empty::Skip, limit_per_emotion: Some(1), ..files(&[&path], None) };
    let (stories, survey) = told(&files);
    assert_eq!(stories, [("sad".into(), "Rain.".into()), ("happy".into(), "Sun.".into())]);
    assert_eq!((survey.empty, survey.empty_at), (2, vec!["s.csv, line 2".into(), "s.csv, line 4".into()]));
    assert_eq!(survey.of_emotion, [1, 1]);
    let (_folder, path) = file("n.jsonl", "{\"text\": null}\n{\"text\": \"\"}\n");
    let none = Files { empty: Empty::Skip, ..neutral(&path) };
    assert!(none.survey().unwrap_err().to_string().contains("2 rows, none of which has a text"));
}
