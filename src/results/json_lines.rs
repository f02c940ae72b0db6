//! A table as JSON lines, one object per row, for programs that follow alarms.

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use crate::store::table::{Column, Table};

/// The rows; a null is `null`.
///
/// # Errors
/// A column of lists.
pub fn lines(table: &Table) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for row in 0..table.rows() {
        let mut object = Map::new();
        for (name, column) in &table.columns {
            object.insert(name.clone(), value(column, row)?);
        }
        serde_json::to_writer(&mut out, &Value::Object(object))?;
        out.push(b'\n');
    }
    Ok(out)
}

fn value(column: &Column, row: usize) -> Result<Value> {
    Ok(match column {
        Column::Str(values) => json!(values[row]),
        Column::OptStr(values) => json!(values[row]),
        Column::I32(values) => json!(values[row]),
        Column::OptI64(values) => json!(values[row]),
        Column::F32(values) => json!(values[row]),
        Column::F64(values) => json!(values[row]),
        Column::OptF64(values) => json!(values[row]),
        Column::Bool(values) => json!(values[row]),
        Column::List { .. } => bail!("a list has no line of JSON here"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_an_object() {
        let columns = vec![
            ("place", Column::Str(vec!["a \"b\"".into(), "c".into()])),
            ("turn", Column::OptI64(vec![Some(3), None])),
            ("alarm", Column::Bool(vec![true, false])),
        ];
        let text = String::from_utf8(lines(&Table::new("x/1", columns)).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"place\":\"a \\\"b\\\"\",\"turn\":3,\"alarm\":true}\n{\"place\":\"c\",\"turn\":null,\"alarm\":false}\n"
        );
    }
}
