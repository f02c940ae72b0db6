//! Rows of a Parquet file, with the label names that Hugging Face's `datasets` stores for numeric labels.

use std::io::Read;
use std::ops::ControlFlow;

use ::parquet::arrow::ProjectionMask;
use ::parquet::file::reader::ChunkReader;
use anyhow::{Context, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, downcast_primitive_array};
use arrow_schema::{DataType, Schema};
use serde_json::Value;

use super::format::Packing;
use super::{Label, Row, Rows, Visit, missing, text};
use crate::store::parquet;

/// Limit on a compressed file, which is held in memory; in bytes.
const LARGEST: u64 = 2 << 30;
/// The number of rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// Calls `visit` with each row.
pub fn rows(rows: &Rows, packing: Packing, visit: &mut Visit) -> Result<()> {
    match packing {
        Packing::None => read(rows, fs_err::File::open(rows.path)?.into_file(), visit),
        packed => {
            let mut bytes = Vec::new();
            text::unpacked(rows.path, packed)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= LARGEST, "it unpacks to more than {} MiB", LARGEST >> 20);
            read(rows, bytes::Bytes::from(bytes), visit)
        }
    }
}

fn read(rows: &Rows, file: impl ChunkReader + 'static, visit: &mut Visit) -> Result<()> {
    let builder = parquet::opened(file).context("not a readable Parquet file")?;
    let schema = builder.schema().clone();
    let metadata = builder.metadata().file_metadata().key_value_metadata();
    let huggingface = metadata.into_iter().flatten().find(|entry| entry.key == "huggingface");
    let features: Option<Value> =
        huggingface.and_then(|entry| serde_json::from_str(entry.value.as_ref()?).ok());
    let [emotion, text, topic] = [0, 1, 2].map(|at| rows.names().nth(at).flatten());
    let by_name = rows.stem.is_some() && emotion.is_some_and(|name| schema.column_with_name(name).is_none());
    let emotion = emotion.filter(|_| !by_name);
    let mut wanted = Vec::new();
    for (name, holds) in [(emotion, Holds::Label), (text, Holds::Texts), (topic, Holds::Topic)] {
        wanted.extend(name.map(|name| column(&schema, name, holds)).transpose()?);
    }
    let names = emotion.and_then(|name| class_names(features.as_ref()?, name));
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
    let mut number = 0;
    for batch in parquet::batches(batches) {
        let batch = batch.with_context(|| format!("after row {number}"))?;
        let cells = |name: Option<&str>| name.map(|name| Cells::of(&batch, name)).transpose();
        let (emotions, texts, topics) = (cells(emotion)?, cells(text)?, cells(topic)?);
        for row in 0..batch.num_rows() {
            number += 1;
            let emotion = match &emotions {
                None if by_name => rows.by_name(),
                None => Label::Missing,
                Some(cells) => match <[_; 1]>::try_from(cells.at(row)) {
                    Ok([label]) => Label::of(label).named(names.as_deref()),
                    Err(labels) if labels.is_empty() => Label::Missing,
                    Err(_) => Label::Several,
                },
            };
            let topic = topics.as_ref().and_then(|cells| cells.at(row).pop()?);
            let texts = texts.as_ref().map_or(Vec::new(), |cells| cells.at(row));
            let one = texts.len() == 1;
            for (at, text) in texts.into_iter().enumerate() {
                let place =
                    if one { format!("row {number}") } else { format!("row {number}, text {}", at + 1) };
                let row = Row { place, emotion: emotion.clone(), by_name, text, topic: topic.clone() };
                if let ControlFlow::Break(()) = visit(row)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The type that a column must have.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    /// Text, numbers, or lists of either.
    Label,
    /// Text, or lists of texts.
    Texts,
    /// Text or numbers.
    Topic,
}

/// The index of the column with this name; an error if it is missing or has another type.
fn column(schema: &Schema, name: &str, holds: Holds) -> Result<usize> {
    let found = schema.column_with_name(name);
    let (index, field) =
        found.ok_or_else(|| missing("column", name, schema.fields().iter().map(|f| f.name().clone())))?;
    let fits = |plain: &DataType| {
        let plain = if let DataType::Dictionary(_, values) = plain { values } else { plain };
        let is_text =
            matches!(plain, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        is_text || (holds != Holds::Texts && (is_number(plain) || *plain == DataType::Boolean))
    };
    match (field.data_type(), listed(field.data_type())) {
        (plain, None) if fits(plain) => Ok(index),
        (_, Some(inner)) if holds != Holds::Topic && fits(inner) => Ok(index),
        (other, _) => bail!("column `{name}` holds {other}, not text"),
    }
}

/// Integers and floating-point numbers.
fn is_number(plain: &DataType) -> bool {
    plain.is_integer() || plain.is_floating()
}

/// The element type of a list column.
fn listed(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}

/// A column as text, in any encoding.
enum Cells {
    Plain(Vec<Option<String>>),
    Lists(Vec<Option<Vec<Option<String>>>>),
}

impl Cells {
    fn of(batch: &RecordBatch, name: &str) -> Result<Cells> {
        let column = batch.column_by_name(name).with_context(|| format!("no column `{name}`"))?;
        let list = |row: usize| match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().value(row),
            DataType::LargeList(_) => column.as_list::<i64>().value(row),
            _ => column.as_fixed_size_list().value(row),
        };
        let lists = |row: usize| column.is_valid(row).then(|| texts(&list(row))).transpose();
        Ok(match listed(column.data_type()) {
            None => Cells::Plain(texts(column)?),
            Some(_) => Cells::Lists((0..column.len()).map(lists).collect::<Result<_>>()?),
        })
    }

    /// The values of a row; a missing list is one missing value, an empty list gives none.
    fn at(&self, row: usize) -> Vec<Option<String>> {
        match self {
            Cells::Plain(values) => vec![values[row].clone()],
            Cells::Lists(lists) => lists[row].clone().unwrap_or(vec![None]),
        }
    }
}

/// Every value as text; numbers as Rust formats them, `1` or `1.0`.
fn texts(column: &dyn Array) -> Result<Vec<Option<String>>> {
    fn owned<T: ToString>(value: Option<T>) -> Option<String> {
        value.map(|value| value.to_string())
    }
    Ok(downcast_primitive_array!(
        column => column.iter().map(|value| value.map(|number| format!("{number:?}"))).collect(),
        DataType::Utf8 => column.as_string::<i32>().iter().map(owned).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(owned).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(owned).collect(),
        DataType::Boolean => column.as_boolean().iter().map(owned).collect(),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let values = texts(dictionary.values())?;
            let keys = if values.is_empty() { vec![0; column.len()] } else { dictionary.normalized_keys() };
            let value = |(row, key): (usize, usize)| match dictionary.keys().is_valid(row) {
                true => values[key].clone(),
                false => None,
            };
            keys.into_iter().enumerate().map(value).collect()
        }
        DataType::Null => vec![None; column.len()],
        other => bail!("a column of {other}, not of text"),
    ))
}

/// The names of a column's labels, in the order of their numbers, as `datasets` writes them into the metadata: the
/// column is a `ClassLabel`, or a list of them.
fn class_names(features: &Value, column: &str) -> Option<Vec<String>> {
    let mut feature = &features["info"]["features"][column];
    while feature["names"].is_null() {
        feature = match feature {
            Value::Array(list) => list.first()?,
            Value::Object(_) => feature.get("feature")?,
            _ => return None,
        };
    }
    feature["names"].as_array()?.iter().map(|name| Some(name.as_str()?.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `datasets` 2 and 4 write it.
    #[test]
    fn names_of_labels_are_found_in_every_form() {
        let names = serde_json::json!(["sadness", "joy"]);
        for feature in [
            serde_json::json!({"names": names, "_type": "ClassLabel"}),
            serde_json::json!({"feature": {"names": names, "_type": "ClassLabel"}, "length": -1, "_type": "Sequence"}),
            serde_json::json!({"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}),
            serde_json::json!([{"names": names, "_type": "ClassLabel"}]),
        ] {
            let all =
                serde_json::json!({"info": {"features": {"label": feature, "text": {"dtype": "string"}}}});
            assert_eq!(class_names(&all, "label").unwrap(), ["sadness", "joy"], "{all}");
            assert_eq!(class_names(&all, "text"), None);
            assert_eq!(class_names(&all, "other"), None);
        }
    }
}
