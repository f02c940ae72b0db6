//! Tables: rows <-> Arrow <-> Parquet. One schema each, versioned in the file's metadata.

use anyhow::{Context, Result, bail};

/// One column's name and values; every column of a table has the same number of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    Str(Vec<String>),
    OptStr(Vec<Option<String>>),
    I32(Vec<i32>),
    OptI64(Vec<Option<i64>>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    /// Rows of `width` values each, one after another; `half`: stored as float16.
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
        /// The values of a column of this type; an error if it is not there or is of another type.
        pub fn $name(&self, name: &str) -> Result<&[$type]> {
            match self.column(name)? {
                Column::$variant(values) => Ok(values),
                _ => bail!("column `{name}` of table `{}` has another type", self.schema),
            }
        }
    )+};
}

impl Table {
    /// A table of these columns. Panics if their lengths differ: a bug of the caller.
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
        bool, Bool, bool;
    }

    /// The width and the values, row after row, of a column of lists.
    pub fn list(&self, name: &str) -> Result<(usize, &[f32])> {
        match self.column(name)? {
            Column::List { width, values, .. } => Ok((*width, values)),
            _ => bail!("column `{name}` of table `{}` has another type", self.schema),
        }
    }
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Column::Str(v) => v.len(),
            Column::OptStr(v) => v.len(),
            Column::I32(v) => v.len(),
            Column::OptI64(v) => v.len(),
            Column::F32(v) => v.len(),
            Column::F64(v) => v.len(),
            Column::Bool(v) => v.len(),
            Column::List { width, values, .. } => values.len() / (*width).max(1),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
