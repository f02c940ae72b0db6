//! Tests of `parquet.rs`: round trips, deterministic bytes, and a file that pyarrow wrote.

use bytes::Bytes;

use super::*;

/// One column of each type; `rows` rows with values that depend on the row.
fn all_types(rows: usize) -> Table {
    let list = |half: bool| {
        let values = (0..rows * 3).map(|i| i as f32 * 0.25 - 1.0).collect();
        Column::List { width: 3, values, half }
    };
    let r = 0..rows;
    Table::new(
        "all/1",
        vec![
            ("str", Column::Str(r.clone().map(|i| format!("row {i} \"ü\"\n")).collect())),
            ("opt_str", Column::OptStr(r.clone().map(|i| (i % 3 != 0).then(|| i.to_string())).collect())),
            ("i32", Column::I32(r.clone().map(|i| i as i32 - 1).collect())),
            (
                "opt_i64",
                Column::OptI64(r.clone().map(|i| (i % 2 == 0).then_some(i64::MIN + i as i64)).collect()),
            ),
            ("f32", Column::F32(r.clone().map(|i| 0.1 * i as f32).collect())),
            ("f64", Column::F64(r.clone().map(|i| 0.1 * i as f64 - 1e300).collect())),
            ("opt_f64", Column::OptF64(r.clone().map(|i| (i % 3 == 0).then_some(0.1 * i as f64)).collect())),
            ("bool", Column::Bool(r.map(|i| i % 2 == 1).collect())),
            ("list", list(false)),
            ("half", list(true)),
        ],
    )
}

fn bytes(table: &Table) -> Bytes {
    let metadata = [("emoflow.key", "00"), ("emoflow.model", "demo")];
    let metadata: Vec<_> = metadata.map(|(k, v)| (k.to_string(), v.to_string())).to_vec();
    let mut out = Vec::new();
    write(table, &metadata, &mut out).unwrap();
    out.into()
}

#[test]
fn every_type_comes_back() {
    for rows in [0, 1, 5, 70_000] {
        let table = all_types(rows);
        // float16 keeps 11 bits: the values above are exact in it up to 511.75.
        let table = if rows > 600 { without_half(table) } else { table };
        assert_eq!(read(bytes(&table), "all/1").unwrap(), table, "{rows} rows");
    }
}

fn without_half(mut table: Table) -> Table {
    table.columns.pop();
    table
}

#[test]
fn half_lists_are_rounded_to_float16() {
    let list = |values| Table::new("h/1", vec![("v", Column::List { width: 2, values, half: true })]);
    let back = read(bytes(&list(vec![0.1, 2049.0])), "h/1").unwrap();
    // The float16 neighbours by IEEE 754: 0.1 -> 1638/16384, 2049 -> 2048 (tie to even).
    assert_eq!(back, list(vec![0.099_975_586, 2048.0]));
}

#[test]
fn vectors_wider_than_a_batch_come_back() {
    // 3 rows of 2^22 + 1 values: a batch holds one row, a row group three.
    let width = BATCH_VALUES + 1;
    let values: Vec<f32> = (0..3 * width).map(|i| (i % 1000) as f32).collect();
    let table = Table::new("v/1", vec![("v", Column::List { width, values, half: false })]);
    assert!(read(bytes(&table), "v/1").unwrap() == table);
}

#[test]
fn the_same_table_gives_the_same_bytes() {
    let first = bytes(&all_types(100));
    assert_eq!(first, bytes(&all_types(100)));
    let footer = ParquetRecordBatchReaderBuilder::try_new(first).unwrap();
    assert_eq!(
        footer.metadata().file_metadata().created_by(),
        Some("parquet-rs version 60.1.0"),
        "a new Parquet writer may give other bytes for the same table: look at what that does to caches"
    );
}

#[test]
fn metadata_is_kept() {
    let found = metadata(bytes(&all_types(1))).unwrap();
    assert_eq!(found[SCHEMA], "all/1");
    assert_eq!(found[KEY], "00");
    assert_eq!(found["emoflow.model"], "demo");
    let twice = [("a".to_string(), "1".to_string()), ("a".to_string(), "2".to_string())];
    let error = write(&all_types(1), &twice, Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "metadata `a` is given twice for table `all/1`");
}

#[test]
fn another_schema_is_refused() {
    let error = read(bytes(&all_types(1)), "pca/1").unwrap_err().to_string();
    assert_eq!(error, "a table `all/1`, where `pca/1` was asked for");
}

#[test]
fn types_of_no_table_are_refused() {
    let field = Field::new("x", DataType::Int64, false);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![1]))]).unwrap();
    let mut out = Vec::new();
    write_batch(&batch, "x/1", &[], &mut out).unwrap();
    let error = format!("{:#}", read(Bytes::from(out), "x/1").unwrap_err());
    assert_eq!(error, "read table `x/1`: column `x` is Int64 (not null), which no emoflow table has");
}

#[test]
fn ragged_lists_and_nan_are_refused() {
    let list = |width, values| Table {
        schema: "v/1".into(),
        columns: vec![("v".into(), Column::List { width, values, half: false })],
    };
    let error = |table| format!("{:#}", write(&table, &[], Vec::new()).unwrap_err());
    assert_eq!(error(list(2, vec![0.0; 3])), "column `v` of `v/1`: 3 values in rows of 2");
    assert_eq!(error(list(0, vec![])), "column `v` of `v/1`: a list of width 0");
    assert_eq!(error(list(2, vec![0.0, f32::NAN])), "NaN in table `v/1`, column `v`, row 0, position 1");
}

#[test]
fn check_sees_other_values_types_and_rows() {
    let table = all_types(5);
    let file = bytes(&table);
    check(file.clone(), "all/1", &to_batch(&table).unwrap()).unwrap();
    let error =
        |table: &Table| check(file.clone(), "all/1", &to_batch(table).unwrap()).unwrap_err().to_string();
    let mut other = table.clone();
    other.columns[5].1 = Column::F64(vec![0.0; 5]);
    assert_eq!(error(&other), "column `f64` reads back differently");
    assert_eq!(error(&without_half(table)), "the columns' types read back differently");
    assert_eq!(error(&all_types(6)), "5 rows read back, 6 written");
    assert_eq!(error(&all_types(4)), "more rows than were written");
}

#[test]
fn a_file_that_pyarrow_wrote_is_read() {
    let file = Bytes::from_static(include_bytes!("fixtures/pyarrow.parquet"));
    let expected = Table::new(
        "fixture/1",
        vec![
            ("str", Column::Str(vec!["happy".into(), "sad".into()])),
            ("opt_str", Column::OptStr(vec![None, Some("rain".into())])),
            ("i32", Column::I32(vec![-1, 7])),
            ("opt_i64", Column::OptI64(vec![Some(1 << 40), None])),
            ("f32", Column::F32(vec![0.5, -1.25])),
            ("f64", Column::F64(vec![0.1, 1e300])),
            ("bool", Column::Bool(vec![true, false])),
            ("list", Column::List { width: 3, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.5], half: false }),
            ("half", Column::List { width: 2, values: vec![0.5, -0.25, 1024.0, 65504.0], half: true }),
        ],
    );
    assert_eq!(read(file.clone(), "fixture/1").unwrap(), expected);
    assert_eq!(metadata(file).unwrap()[KEY], "abc");
}
