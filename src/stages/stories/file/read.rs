//! Rows of a Parquet, JSONL or CSV file, one at a time. Knows nothing of emotions or stories.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::Columns;

/// The cells of one row; a cell is `None` where the file has null, or where no column was asked for.
pub struct Row {
    /// Where it stands, for errors: "line 7" or "row 7", from 1.
    pub place: String,
    pub emotion: Option<String>,
    pub text: Option<String>,
    pub topic: Option<String>,
}

/// Receives rows until it breaks.
type Visit<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>> + 'a;

/// Rows decoded at a time from a Parquet file.
const BATCH_ROWS: usize = 1024;

/// Calls `visit` with each row of the file, whose format its extension tells.
pub fn rows(path: &Path, columns: &Columns, visit: &mut Visit) -> Result<()> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "parquet" => parquet(path, columns, visit),
        "jsonl" | "ndjson" => jsonl(path, columns, visit),
        "csv" => csv(path, columns, visit),
        _ => bail!("`.{extension}` is no format of stories: use `.parquet`, `.jsonl` or `.csv`"),
    }
}

/// The names of the columns asked for: emotion, text, topic.
fn names(columns: &Columns) -> [Option<&str>; 3] {
    [columns.emotion.as_deref(), Some(&columns.text), columns.topic.as_deref()]
}

fn missing(what: &str, name: &str, there: impl IntoIterator<Item = impl AsRef<str>>) -> anyhow::Error {
    let there: Vec<_> = there.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    let there = if there.is_empty() { "nothing".to_string() } else { there.join(", ") };
    anyhow::anyhow!("no {what} `{name}`; there is {there}")
}

fn parquet(path: &Path, columns: &Columns, visit: &mut Visit) -> Result<()> {
    let file = fs_err::File::open(path)?.into_file();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).context("not a readable Parquet file")?;
    let schema = builder.schema().clone();
    let mut wanted = Vec::new();
    for name in names(columns).into_iter().flatten() {
        wanted.push(text_column(&schema, name)?);
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
    let mut number = 0;
    for batch in batches {
        let batch = batch.with_context(|| format!("after row {number}"))?;
        let mut cells = Vec::with_capacity(3);
        for name in names(columns) {
            cells.push(name.map(|name| strings(&batch, name)).transpose()?);
        }
        for row in 0..batch.num_rows() {
            number += 1;
            let cell = |column: usize| {
                let values = cells[column].as_ref()?;
                values.is_valid(row).then(|| values.value(row).to_string())
            };
            let row = Row { place: format!("row {number}"), emotion: cell(0), text: cell(1), topic: cell(2) };
            if visit(row)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The number of the column of this name; an error if it is not there or holds no text.
fn text_column(schema: &Schema, name: &str) -> Result<usize> {
    let found = schema.column_with_name(name);
    let (index, field) =
        found.ok_or_else(|| missing("column", name, schema.fields().iter().map(|f| f.name().clone())))?;
    let is_text = |data_type: &DataType| {
        matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
    };
    match field.data_type() {
        DataType::Dictionary(_, values) if is_text(values) => Ok(index),
        data_type if is_text(data_type) => Ok(index),
        other => bail!("column `{name}` holds {other}, not text"),
    }
}

/// A column as plain strings, whatever its encoding.
fn strings(batch: &RecordBatch, name: &str) -> Result<StringArray> {
    let column = batch.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
    Ok(arrow::compute::cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn jsonl(path: &Path, columns: &Columns, visit: &mut Visit) -> Result<()> {
    let mut reader = BufReader::new(fs_err::File::open(path)?);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let row = jsonl_row(&bytes, columns, number).with_context(|| format!("line {number}"))?;
        if let Some(row) = row
            && visit(row)?.is_break()
        {
            break;
        }
    }
    Ok(())
}

/// The row of one line; `None` for an empty line.
fn jsonl_row(bytes: &[u8], columns: &Columns, number: usize) -> Result<Option<Row>> {
    let line = std::str::from_utf8(bytes).context("not UTF-8")?.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Ok(None);
    }
    let value: serde_json::Value = serde_json::from_str(line).context("not JSON")?;
    let object = value.as_object().context("not a JSON object")?;
    let cell = |name: &str| match object.get(name) {
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::Number(_)) => bail!("`{name}` is a number, not text"),
        Some(_) => bail!("`{name}` is not text"),
        None => Err(missing("key", name, object.keys())),
    };
    let emotion = columns.emotion.as_deref().map(cell).transpose()?.flatten();
    let topic = columns.topic.as_deref().and_then(|name| object.get(name).map(|_| cell(name)));
    Ok(Some(Row {
        place: format!("line {number}"),
        emotion,
        text: cell(&columns.text)?,
        topic: topic.transpose()?.flatten(),
    }))
}

fn csv(path: &Path, columns: &Columns, visit: &mut Visit) -> Result<()> {
    let file = fs_err::File::open(path)?;
    let mut reader = csv::Reader::from_reader(BufReader::new(file));
    let header = reader.headers()?.clone();
    let at = |name: &str| {
        let found = header.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
        found.ok_or_else(|| missing("column", name, &header))
    };
    let mut places = [None; 3];
    for (place, name) in places.iter_mut().zip(names(columns)) {
        *place = name.map(at).transpose()?;
    }
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, |p| p.line());
        let cell = |column: usize| Some(record.get(places[column]?)?.to_string());
        let topic = cell(2).filter(|topic| !topic.is_empty());
        let row = Row { place: format!("line {line}"), emotion: cell(0), text: cell(1), topic };
        if visit(row)?.is_break() {
            break;
        }
    }
    Ok(())
}
