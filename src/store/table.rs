//! Tables in memory: named columns of equal length, and their CSV form. Independent of files and of the meaning of the
//! columns; `parquet.rs` stores tables on disk.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use half::f16;

/// The values of one column; all columns of a table have the same number of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    Str(Vec<String>),
    OptStr(Vec<Option<String>>),
    I32(Vec<i32>),
    OptI64(Vec<Option<i64>>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    OptF64(Vec<Option<f64>>),
    Bool(Vec<bool>),
    /// Rows of `width` values each, stored consecutively; `half`: stored as float16.
    List {
        width: usize,
        values: Vec<f32>,
        half: bool,
    },
}

/// A table: the schema's name and version (`"pca/1"`) and its columns in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub schema: String,
    pub columns: Vec<(String, Column)>,
}

macro_rules! typed {
    ($($name:ident, $variant:ident, $type:ty);+ $(;)?) => {$(
        /// The values of a column of this type; an error if the column is missing or has another type.
        pub fn $name(&self, name: &str) -> Result<&[$type]> {
            match self.column(name)? {
                Column::$variant(values) => Ok(values),
                _ => bail!("column `{name}` of table `{}` has another type", self.schema),
            }
        }
    )+};
}

impl Table {
    /// A table of these columns. Panics if their lengths differ, which is a bug of the caller.
    pub fn new(schema: &str, columns: Vec<(&str, Column)>) -> Table {
        let columns: Vec<_> = columns.into_iter().map(|(name, column)| (name.to_string(), column)).collect();
        let table = Table { schema: schema.to_string(), columns };
        for (name, column) in &table.columns {
            assert_eq!(column.len(), table.rows(), "column `{name}` of `{schema}`");
        }
        table
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// Appends the rows of `other`.
    ///
    /// # Errors
    /// The schemas or the columns differ.
    pub fn append(&mut self, other: Table) -> Result<()> {
        let same = self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(|((a, _), (b, _))| a == b);
        if self.schema != other.schema || !same {
            bail!("table `{}` does not continue table `{}`", other.schema, self.schema);
        }
        for ((name, column), (_, more)) in self.columns.iter_mut().zip(other.columns) {
            if !column.append(more) {
                bail!("column `{name}` of table `{}` changes its type", self.schema);
            }
        }
        Ok(())
    }

    /// A table of the given rows, in the given order.
    pub fn select(&self, rows: &[usize]) -> Table {
        let columns = self.columns.iter().map(|(name, column)| (name.clone(), column.select(rows)));
        Table { schema: self.schema.clone(), columns: columns.collect() }
    }

    /// A cell for display; of a list, its length and the first values.
    pub fn cell(&self, column: usize, row: usize) -> String {
        let column = &self.columns[column].1;
        match column {
            Column::List { width, values, .. } => {
                let first: Vec<String> =
                    values[row * width..].iter().take(3).map(|x| format!("{x:.3}")).collect();
                format!("[{}, ...] of {width}", first.join(", "))
            }
            other => other.text(row).unwrap_or_default(),
        }
    }

    fn column(&self, name: &str) -> Result<&Column> {
        let found = self.columns.iter().find(|(n, _)| n == name);
        found.map(|(_, c)| c).with_context(|| format!("table `{}` has no column `{name}`", self.schema))
    }

    typed! {
        str, Str, String;
        opt_str, OptStr, Option<String>;
        i32, I32, i32;
        opt_i64, OptI64, Option<i64>;
        f32, F32, f32;
        f64, F64, f64;
        opt_f64, OptF64, Option<f64>;
        bool, Bool, bool;
    }

    /// The width and the row-major values of a column of lists.
    pub fn list(&self, name: &str) -> Result<(usize, &[f32])> {
        match self.column(name)? {
            Column::List { width, values, .. } => Ok((*width, values)),
            _ => bail!("column `{name}` of table `{}` has another type", self.schema),
        }
    }

    /// Writes the table as CSV (RFC 4180, `\n` line ends): a header line, then one line per row. Floats are the
    /// shortest text that reads back as the same value (`1.0`, `-0.321`, `1e-7`); a null is an empty field. Fails for
    /// columns of lists, which have no CSV form, and for NaN and infinities.
    pub fn write_csv(&self, writer: impl Write) -> Result<()> {
        self.check_finite()?;
        let subject = || format!("write table `{}` as CSV", self.schema);
        let mut csv = csv::Writer::from_writer(writer);
        csv.write_record(self.columns.iter().map(|(name, _)| name)).with_context(subject)?;
        for row in 0..self.rows() {
            for (name, column) in &self.columns {
                let Some(field) = column.text(row) else {
                    bail!("column `{name}` of table `{}` holds lists, which have no CSV form", self.schema)
                };
                csv.write_field(field).with_context(subject)?;
            }
            csv.write_record(None::<&[u8]>).with_context(subject)?;
        }
        csv.flush().with_context(subject)
    }

    /// Fails on the first NaN or infinity, naming its table, column and row. Also fails on values that become infinite
    /// when rounded to float16 (magnitudes of 65520 and more).
    pub fn check_finite(&self) -> Result<()> {
        for (name, column) in &self.columns {
            let Some((at, value, half)) = column.first_non_finite() else { continue };
            let table = &self.schema;
            let place = match column {
                Column::List { width, .. } => {
                    format!(
                        "table `{table}`, column `{name}`, row {}, position {}",
                        at / (*width).max(1),
                        at % (*width).max(1)
                    )
                }
                _ => format!("table `{table}`, column `{name}`, row {at}"),
            };
            ensure!(!half || !value.is_finite(), "{value} is too large for float16 in {place}");
            bail!("{value} in {place}");
        }
        Ok(())
    }
}

impl Column {
    /// Appends the values of `more`; returns `false` if they have another type.
    fn append(&mut self, more: Column) -> bool {
        match (self, more) {
            (Column::Str(a), Column::Str(b)) => a.extend(b),
            (Column::OptStr(a), Column::OptStr(b)) => a.extend(b),
            (Column::I32(a), Column::I32(b)) => a.extend(b),
            (Column::OptI64(a), Column::OptI64(b)) => a.extend(b),
            (Column::F32(a), Column::F32(b)) => a.extend(b),
            (Column::F64(a), Column::F64(b)) => a.extend(b),
            (Column::OptF64(a), Column::OptF64(b)) => a.extend(b),
            (Column::Bool(a), Column::Bool(b)) => a.extend(b),
            (
                Column::List { width, values, half },
                Column::List { width: more_width, values: more, half: more_half },
            ) if *width == more_width && *half == more_half => values.extend(more),
            _ => return false,
        }
        true
    }

    fn select(&self, rows: &[usize]) -> Column {
        fn of<T: Clone>(values: &[T], rows: &[usize]) -> Vec<T> {
            rows.iter().map(|&row| values[row].clone()).collect()
        }
        match self {
            Column::Str(v) => Column::Str(of(v, rows)),
            Column::OptStr(v) => Column::OptStr(of(v, rows)),
            Column::I32(v) => Column::I32(of(v, rows)),
            Column::OptI64(v) => Column::OptI64(of(v, rows)),
            Column::F32(v) => Column::F32(of(v, rows)),
            Column::F64(v) => Column::F64(of(v, rows)),
            Column::OptF64(v) => Column::OptF64(of(v, rows)),
            Column::Bool(v) => Column::Bool(of(v, rows)),
            Column::List { width, values, half } => {
                let list = |&row: &usize| values[row * width..(row + 1) * width].iter().copied();
                Column::List { width: *width, values: rows.iter().flat_map(list).collect(), half: *half }
            }
        }
    }

    /// Position among the column's values, the value, and whether it is to be stored as float16.
    fn first_non_finite(&self) -> Option<(usize, f64, bool)> {
        let (at, value) = match self {
            Column::F64(v) => v.iter().enumerate().find(|(_, x)| !x.is_finite()).map(|(i, &x)| (i, x)),
            Column::OptF64(v) => {
                let mut known = v.iter().enumerate().filter_map(|(i, x)| Some((i, (*x)?)));
                known.find(|(_, x)| !x.is_finite())
            }
            Column::F32(v) => first_non_finite(v, |x| x.is_finite()),
            Column::List { values, half: false, .. } => first_non_finite(values, |x| x.is_finite()),
            Column::List { values, half: true, .. } => {
                first_non_finite(values, |x| f16::from_f32(x).is_finite())
            }
            _ => None,
        }?;
        Some((at, value, matches!(self, Column::List { half: true, .. })))
    }

    /// The text of one row's value; `None` for lists.
    fn text(&self, row: usize) -> Option<String> {
        Some(match self {
            Column::Str(v) => v[row].clone(),
            Column::OptStr(v) => v[row].clone().unwrap_or_default(),
            Column::I32(v) => v[row].to_string(),
            Column::OptI64(v) => v[row].map_or_else(String::new, |x| x.to_string()),
            Column::F32(v) => format!("{:?}", v[row]),
            Column::F64(v) => format!("{:?}", v[row]),
            Column::OptF64(v) => v[row].map_or_else(String::new, |x| format!("{x:?}")),
            Column::Bool(v) => v[row].to_string(),
            Column::List { .. } => return None,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Str(v) => v.len(),
            Column::OptStr(v) => v.len(),
            Column::I32(v) => v.len(),
            Column::OptI64(v) => v.len(),
            Column::F32(v) => v.len(),
            Column::F64(v) => v.len(),
            Column::OptF64(v) => v.len(),
            Column::Bool(v) => v.len(),
            Column::List { width, values, .. } => values.len() / (*width).max(1),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn first_non_finite(values: &[f32], finite: impl Fn(f32) -> bool) -> Option<(usize, f64)> {
    values.iter().position(|&x| !finite(x)).map(|i| (i, f64::from(values[i])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(table: &Table) -> String {
        let mut text = Vec::new();
        table.write_csv(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn csv_of_every_type() {
        let table = Table::new(
            "all/1",
            vec![
                ("s", Column::Str(vec!["a, \"b\"\nc".into(), "плюс".into()])),
                ("o", Column::OptStr(vec![None, Some("x".into())])),
                ("i", Column::I32(vec![-1, i32::MAX])),
                ("l", Column::OptI64(vec![Some(i64::MIN), None])),
                ("f", Column::F32(vec![0.1, 1e-30])),
                ("d", Column::F64(vec![0.1 + 0.2, -1.0])),
                ("e", Column::OptF64(vec![None, Some(-0.5)])),
                ("b", Column::Bool(vec![true, false])),
            ],
        );
        assert_eq!(
            csv(&table),
            "s,o,i,l,f,d,e,b\n\"a, \"\"b\"\"\nc\",,-1,-9223372036854775808,0.1,0.30000000000000004,,true\n\
             плюс,x,2147483647,,1e-30,-1.0,-0.5,false\n"
        );
    }

    #[test]
    fn rows_are_selected_in_every_column() {
        let table = |s: &[&str], i: Vec<i32>, values: Vec<f32>| {
            let strings = Column::Str(s.iter().map(|s| s.to_string()).collect());
            let list = Column::List { width: 2, values, half: false };
            Table::new("t/1", vec![("s", strings), ("i", Column::I32(i)), ("l", list)])
        };
        let all = table(&["a", "b", "c"], vec![1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(all.select(&[2, 0]), table(&["c", "a"], vec![3, 1], vec![5.0, 6.0, 1.0, 2.0]));
        assert_eq!(all.select(&[]).rows(), 0);
    }

    #[test]
    fn csv_floats_read_back_exactly() {
        // Bit patterns spread over the whole range, subnormals included.
        let values: Vec<f64> = (0..2000u64)
            .map(|i| f64::from_bits(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .filter(|x| x.is_finite())
            .collect();
        let text = csv(&Table::new("f/1", vec![("x", Column::F64(values.clone()))]));
        let back: Vec<f64> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
        assert_eq!(back, values);
    }

    #[test]
    fn csv_refuses_lists() {
        let table = Table::new("v/1", vec![("v", Column::List { width: 1, values: vec![1.0], half: false })]);
        let error = table.write_csv(Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "column `v` of table `v/1` holds lists, which have no CSV form");
    }

    #[test]
    fn non_finite_values_are_named_with_their_place() {
        let list = |values: Vec<f32>, half| Column::List { width: 2, values, half };
        let check = |column, expected: &str| {
            let error = Table::new("t/1", vec![("x", column)]).check_finite().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(Column::F32(vec![0.0, f32::NAN]), "NaN in table `t/1`, column `x`, row 1");
        check(Column::F64(vec![f64::NEG_INFINITY]), "-inf in table `t/1`, column `x`, row 0");
        check(Column::OptF64(vec![None, Some(f64::NAN)]), "NaN in table `t/1`, column `x`, row 1");
        check(
            list(vec![0.0, 0.0, 0.0, f32::INFINITY], false),
            "inf in table `t/1`, column `x`, row 1, position 1",
        );
        check(list(vec![0.0, f32::NAN], true), "NaN in table `t/1`, column `x`, row 0, position 1");
        check(
            list(vec![65504.0, 70000.0], true),
            "70000 is too large for float16 in table `t/1`, column `x`, row 0, position 1",
        );
        Table::new("t/1", vec![("x", list(vec![65504.0, 65519.0], true))]).check_finite().unwrap();
    }
}
