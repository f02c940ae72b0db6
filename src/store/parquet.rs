//! Conversion of tables to Arrow and Parquet and back. Handles column types and file metadata, and is independent of
//! which tables exist.
//!
//! | column | Arrow type |
//! |---|---|
//! | `Str` | Utf8, not null |
//! | `OptStr` | Utf8, nullable |
//! | `I32` | Int32, not null |
//! | `OptI64`, `OptF64` | Int64, Float64, nullable |
//! | `F32`, `F64`, `Bool` | Float32, Float64, Boolean, not null |
//! | `List` | FixedSizeList of Float32 (or Float16) of that width; neither the list nor its items are null |
//!
//! The same table with the same metadata gives the same bytes: no time stamps and nothing about the machine is written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, RecordBatchReader, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::ChunkReader;
use parquet::schema::types::ColumnPath;

use super::table::{Column, Table};
use crate::lm::panics::caught;

/// Metadata key for the schema's name and version, such as `pca/1`.
pub const SCHEMA: &str = "emoflow.schema";
/// Metadata key for the key of the unit that the table belongs to.
pub const KEY: &str = "emoflow.key";

/// Values (not rows) per row group; limits the memory for writing and reading to 64 MiB of float32.
const GROUP_VALUES: usize = 1 << 24;
/// Values per batch when reading.
const BATCH_VALUES: usize = 1 << 22;

/// Writes `table` as one Parquet file: zstd, with `emoflow.schema` and then `metadata` as key-value metadata. NaN and
/// infinities are errors that name their position.
pub fn write(table: &Table, metadata: &[(String, String)], writer: impl Write + Send) -> Result<()> {
    let batch = to_batch(table)?;
    write_batch(&batch, &table.schema, metadata, writer)
}

/// Reads a whole Parquet file (bytes or an open file) whose `emoflow.schema` must be `schema`.
pub fn read(file: impl ChunkReader + 'static, schema: &str) -> Result<Table> {
    let reader = open(file, schema)?;
    let fields = reader.schema().fields().clone();
    let mut columns = Vec::with_capacity(fields.len());
    for field in &fields {
        let column = empty_column(field).with_context(|| format!("read table `{schema}`"))?;
        columns.push((field.name().clone(), column));
    }
    for batch in batches(reader) {
        let batch = batch.with_context(|| format!("read table `{schema}`"))?;
        for ((_, column), array) in columns.iter_mut().zip(batch.columns()) {
            append(column, array);
        }
    }
    Ok(Table { schema: schema.to_string(), columns })
}

/// Opens a file and reads its footer.
///
/// # Errors
/// Not a Parquet file, or a footer with negative offsets, on which the reader would panic.
pub fn opened<R: ChunkReader + 'static>(file: R) -> Result<ParquetRecordBatchReaderBuilder<R>> {
    let builder = caught(|| ParquetRecordBatchReaderBuilder::try_new(file)).map_err(damaged)??;
    let columns = builder.metadata().row_groups().iter().flat_map(|group| group.columns());
    for column in columns {
        let dictionary = column.dictionary_page_offset().unwrap_or(0);
        let smallest = column.data_page_offset().min(column.compressed_size()).min(dictionary);
        ensure!(smallest >= 0, "the footer is damaged: `{}` begins before the file", column.column_path());
    }
    Ok(builder)
}

/// The batches of a file, up to the first that cannot be read. On some malformed files the library panics; that is
/// returned as an error too.
pub fn batches(mut reader: ParquetRecordBatchReader) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let next = match caught(|| reader.next()).map_err(damaged) {
            Ok(next) => next?.map_err(Error::from),
            Err(panicked) => Err(panicked),
        };
        ended = next.is_err();
        Some(next)
    })
}

fn damaged(panic: String) -> Error {
    Error::msg(format!("the file is damaged: its reader ends with: {panic}"))
}

/// The key-value metadata of a Parquet file.
pub fn metadata(file: impl ChunkReader + 'static) -> Result<BTreeMap<String, String>> {
    let builder = opened(file).context("read the footer")?;
    Ok(pairs(&builder))
}

/// The number of rows according to the footer of a file whose `emoflow.schema` must be `schema`. Reads no data.
pub fn rows(file: impl ChunkReader + 'static, schema: &str) -> Result<u64> {
    let builder = opened(file).context("read the Parquet footer")?;
    check_schema(&builder, schema)?;
    Ok(u64::try_from(builder.metadata().file_metadata().num_rows())?)
}

/// Converts the table to one Arrow batch. NaN and infinities are errors that name their position.
pub(super) fn to_batch(table: &Table) -> Result<RecordBatch> {
    table.check_finite()?;
    let mut fields = Vec::with_capacity(table.columns.len());
    let mut arrays = Vec::with_capacity(table.columns.len());
    for (name, column) in &table.columns {
        let array = to_array(column).with_context(|| format!("column `{name}` of `{}`", table.schema))?;
        let nullable = matches!(column, Column::OptStr(_) | Column::OptI64(_) | Column::OptF64(_));
        fields.push(Field::new(name, array.data_type().clone(), nullable));
        arrays.push(array);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .with_context(|| format!("table `{}`", table.schema))
}

/// Writes one Arrow batch as a Parquet file; see [`write`].
pub(super) fn write_batch(
    batch: &RecordBatch,
    schema: &str,
    metadata: &[(String, String)],
    writer: impl Write + Send,
) -> Result<()> {
    let mut pairs = vec![KeyValue::new(SCHEMA.to_string(), schema.to_string())];
    pairs.extend(metadata.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())));
    let mut seen = HashSet::new();
    for pair in &pairs {
        ensure!(seen.insert(&pair.key), "metadata `{}` is given twice for table `{schema}`", pair.key);
    }
    // Repeated in the Arrow schema, because readers that find metadata there (pyarrow) look no further.
    let shown: HashMap<String, String> =
        pairs.iter().map(|p| (p.key.clone(), p.value.clone().unwrap_or_default())).collect();
    let described = batch.schema().as_ref().clone().with_metadata(shown);
    let batch = batch.clone().with_schema(Arc::new(described))?;
    let properties = properties(&batch, pairs)?;
    let subject = || format!("write table `{schema}`");
    let mut writer = ArrowWriter::try_new(writer, batch.schema(), Some(properties)).with_context(subject)?;
    writer.write(&batch).with_context(subject)?;
    writer.close().with_context(subject)?;
    Ok(())
}

/// Checks that a newly written file holds `batch`: footer, schema, metadata, number of rows and every value.
pub(super) fn check(file: impl ChunkReader + 'static, schema: &str, batch: &RecordBatch) -> Result<()> {
    let reader = open(file, schema)?;
    ensure!(reader.schema().fields() == batch.schema().fields(), "the columns' types read back differently");
    let mut rows = 0;
    for part in reader {
        let part = part?;
        ensure!(rows + part.num_rows() <= batch.num_rows(), "more rows than were written");
        let expected = batch.slice(rows, part.num_rows());
        for (i, (found, expected)) in part.columns().iter().zip(expected.columns()).enumerate() {
            ensure!(found == expected, "column `{}` reads back differently", batch.schema().field(i).name());
        }
        rows += part.num_rows();
    }
    ensure!(rows == batch.num_rows(), "{rows} rows read back, {} written", batch.num_rows());
    Ok(())
}

fn open(file: impl ChunkReader + 'static, schema: &str) -> Result<ParquetRecordBatchReader> {
    let builder = opened(file).context("read the Parquet footer")?;
    check_schema(&builder, schema)?;
    let rows = (BATCH_VALUES / row_values(builder.schema())).clamp(1, 1 << 16);
    builder.with_batch_size(rows).build().context("read the Parquet footer")
}

fn check_schema<T>(
    builder: &parquet::arrow::arrow_reader::ArrowReaderBuilder<T>,
    schema: &str,
) -> Result<()> {
    match pairs(builder).get(SCHEMA) {
        Some(found) if found == schema => Ok(()),
        Some(found) => bail!("a table `{found}`, where `{schema}` was asked for"),
        None => bail!("not a table of emoflow: no `{SCHEMA}` in its metadata (`{schema}` was asked for)"),
    }
}

fn pairs<T>(builder: &parquet::arrow::arrow_reader::ArrowReaderBuilder<T>) -> BTreeMap<String, String> {
    let pairs = builder.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    pairs.map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect()
}

/// Values in one row; a list counts as its width.
fn row_values(schema: &Schema) -> usize {
    let width = |field: &Arc<Field>| match field.data_type() {
        DataType::FixedSizeList(_, width) => usize::try_from(*width).unwrap_or(0),
        _ => 1,
    };
    schema.fields().iter().map(width).sum::<usize>().max(1)
}

/// Writer settings: no dictionaries for floats, and no statistics for list items, where they are of no use.
fn properties(batch: &RecordBatch, pairs: Vec<KeyValue>) -> Result<WriterProperties> {
    let schema = batch.schema();
    let rows = (GROUP_VALUES / row_values(&schema)).clamp(1, 1 << 20);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(rows))
        .set_key_value_metadata(Some(pairs));
    for field in schema.fields() {
        let mut path = vec![field.name().clone()];
        match field.data_type() {
            DataType::FixedSizeList(item, _) => path.extend(["list".to_string(), item.name().clone()]),
            DataType::Float32 | DataType::Float64 => {}
            _ => continue,
        }
        let path = ColumnPath::new(path);
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if matches!(field.data_type(), DataType::FixedSizeList(..)) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

fn to_array(column: &Column) -> Result<ArrayRef> {
    Ok(match column {
        Column::Str(v) => {
            check_text(v.iter().map(String::len))?;
            Arc::new(StringArray::from_iter_values(v))
        }
        Column::OptStr(v) => {
            check_text(v.iter().flatten().map(String::len))?;
            Arc::new(v.iter().map(Option::as_deref).collect::<StringArray>())
        }
        Column::I32(v) => Arc::new(Int32Array::from(v.clone())),
        Column::OptI64(v) => Arc::new(Int64Array::from(v.clone())),
        Column::F32(v) => Arc::new(Float32Array::from(v.clone())),
        Column::F64(v) => Arc::new(Float64Array::from(v.clone())),
        Column::OptF64(v) => Arc::new(Float64Array::from(v.clone())),
        Column::Bool(v) => Arc::new(BooleanArray::from(v.clone())),
        Column::List { width, values, half } => {
            ensure!(*width > 0, "a list of width 0");
            ensure!(values.len() % width == 0, "{} values in rows of {width}", values.len());
            let items: ArrayRef = if *half {
                Arc::new(Float16Array::from_iter_values(values.iter().map(|&x| f16::from_f32(x))))
            } else {
                Arc::new(Float32Array::from(values.clone()))
            };
            let item = Arc::new(Field::new("item", items.data_type().clone(), false));
            Arc::new(FixedSizeListArray::try_new(item, i32::try_from(*width)?, items, None)?)
        }
    })
}

/// Checks that the text fits the 32-bit offsets of Arrow's Utf8 columns.
fn check_text(lengths: impl Iterator<Item = usize>) -> Result<()> {
    let total: usize = lengths.sum();
    ensure!(i32::try_from(total).is_ok(), "{total} bytes of text do not fit one column: split the table");
    Ok(())
}

fn empty_column(field: &Field) -> Result<Column> {
    let unknown = || {
        let null = if field.is_nullable() { "nullable" } else { "not null" };
        format!("column `{}` is {} ({null}), which no emoflow table has", field.name(), field.data_type())
    };
    Ok(match (field.data_type(), field.is_nullable()) {
        (DataType::Utf8, false) => Column::Str(Vec::new()),
        (DataType::Utf8, true) => Column::OptStr(Vec::new()),
        (DataType::Int32, false) => Column::I32(Vec::new()),
        (DataType::Int64, true) => Column::OptI64(Vec::new()),
        (DataType::Float32, false) => Column::F32(Vec::new()),
        (DataType::Float64, false) => Column::F64(Vec::new()),
        (DataType::Float64, true) => Column::OptF64(Vec::new()),
        (DataType::Boolean, false) => Column::Bool(Vec::new()),
        (DataType::FixedSizeList(item, width), false) if !item.is_nullable() && *width > 0 => {
            let half = match item.data_type() {
                DataType::Float32 => false,
                DataType::Float16 => true,
                _ => bail!(unknown()),
            };
            Column::List { width: usize::try_from(*width)?, values: Vec::new(), half }
        }
        _ => bail!(unknown()),
    })
}

/// Appends an array, whose type must be the one that `empty_column` got from the schema.
fn append(column: &mut Column, array: &ArrayRef) {
    match column {
        Column::Str(v) => v.extend(array.as_string::<i32>().iter().flatten().map(str::to_string)),
        Column::OptStr(v) => v.extend(array.as_string::<i32>().iter().map(|s| s.map(str::to_string))),
        Column::I32(v) => v.extend_from_slice(array.as_primitive::<Int32Type>().values()),
        Column::OptI64(v) => v.extend(array.as_primitive::<Int64Type>().iter()),
        Column::F32(v) => v.extend_from_slice(array.as_primitive::<Float32Type>().values()),
        Column::F64(v) => v.extend_from_slice(array.as_primitive::<Float64Type>().values()),
        Column::OptF64(v) => v.extend(array.as_primitive::<Float64Type>().iter()),
        Column::Bool(v) => v.extend(array.as_boolean().values().iter()),
        Column::List { values, half, .. } => {
            let items = array.as_fixed_size_list().values();
            if *half {
                values.extend(items.as_primitive::<Float16Type>().values().iter().map(|x| x.to_f32()));
            } else {
                values.extend_from_slice(items.as_primitive::<Float32Type>().values());
            }
        }
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
