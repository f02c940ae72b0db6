//! Serves the results folder: files unchanged, and rows of tables, filtered, searched and sorted. Never reads outside
//! that folder.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::{Value, json};

use super::http::{self, Request};
use super::refusal::Refusal;
use crate::store::parquet;
use crate::store::table::{Column, Table};

/// Limit on the listed files.
const LISTED: usize = 20_000;
/// Limit on the rows of a reply.
const ROWS: usize = 500;
/// Limit on the values of a column that are offered as a choice.
const CHOICES: usize = 200;
/// Limit on the numbers shown of a cell.
const WIDEST: usize = 8;

/// Navigation that the server appends to the report.
const NAV: &str = "<style>.served{position:fixed;right:1rem;bottom:1rem;z-index:5;display:flex;gap:1rem;padding:.45rem .9rem;\
border:1px solid var(--rule,#ccc);border-radius:6px;background:var(--paper,#fff);font-size:.875rem}@media print{.served{display:none}}\
</style><nav class=\"served\" aria-label=\"Server\"><a href=\"../playground\">Playground</a><a href=\"../tables\">Tables and texts</a>\
<a href=\"../\">Run</a></nav>";

/// Serves a file of the folder `root`.
///
/// # Errors
/// I/O errors; the client has disconnected.
pub fn file(root: &Path, name: &str, to: &mut TcpStream) -> io::Result<()> {
    let found = inside(root, name).and_then(|path| Some((fs::File::open(&path).ok()?, path)));
    let Some((mut file, path)) = found else { return missing(to, name) };
    let length = file.metadata()?.len();
    let kind = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let content = match kind {
        "html" => "text/html; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "csv" => "text/csv; charset=utf-8",
        "md" | "bib" | "toml" | "txt" | "sh" | "log" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    let policy = match kind {
        "html" => http::WITHIN,
        _ => "default-src 'none'; style-src 'unsafe-inline'",
    };
    let more = format!("Content-Security-Policy: {policy}\r\n");
    if name == "report.html" {
        let mut page = String::new();
        io::Read::read_to_string(&mut file, &mut page)?;
        let at = page.rfind("</body>").unwrap_or(page.len());
        page.insert_str(at, NAV);
        return http::answer(to, 200, content, &more, page.as_bytes());
    }
    http::copy(to, content, &more, file.into_parts().0, length)
}

fn missing(to: &mut TcpStream, name: &str) -> io::Result<()> {
    let refusal = Refusal::none("path", format!("the results have no file `{name}`"));
    http::json(to, refusal.status, &refusal.json())
}

/// The path of a file below `root`, also after resolving symbolic links; `None` if there is none.
fn inside(root: &Path, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    let (root, path) = (fs::canonicalize(root).ok()?, fs::canonicalize(root.join(name)).ok()?);
    (plain && !hidden && path.starts_with(&root) && path.is_file()).then_some(path)
}

/// Names and sizes of all files.
pub fn list(root: &Path) -> Value {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if name.to_string_lossy().starts_with('.') || all.len() >= LISTED {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_file() => {
                    let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                    let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                    all.insert(name, bytes);
                }
                _ => {}
            }
        }
    }
    all.into_iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect()
}

/// Caches the last table, since a reader who pages through a table requests it repeatedly.
#[derive(Default)]
pub struct Tables(Mutex<Option<Held>>);

struct Held {
    path: PathBuf,
    changed: Option<SystemTime>,
    table: Table,
}

impl Tables {
    /// Serves rows of a Parquet file. Query: `file`, `q` (a text contained in a row), `sort` (a column, with `-` for
    /// descending order), `from`, `n`, and `is.<column>` (a value of that column).
    ///
    /// # Errors
    /// The client has disconnected.
    pub fn rows(&self, root: &Path, request: &Request, to: &mut TcpStream) -> io::Result<()> {
        let name = request.asked("file").unwrap_or_default();
        let Some(path) = inside(root, name).filter(|path| path.extension().is_some_and(|is| is == "parquet"))
        else {
            return missing(to, name);
        };
        match self.found(path, request) {
            Ok(found) => http::json(to, 200, &found),
            Err(error) => {
                let refusal = Refusal::from(error);
                http::json(to, refusal.status, &refusal.json())
            }
        }
    }

    fn found(&self, path: PathBuf, request: &Request) -> Result<Value> {
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = fs::metadata(&path)?.modified().ok();
        if !held.as_ref().is_some_and(|held| held.path == path && held.changed == changed) {
            *held = None; // frees the memory first
            let open = || Ok::<_, anyhow::Error>(fs::File::open(&path)?.into_parts().0);
            let pairs = parquet::metadata(open()?)?;
            let schema = pairs.get("emoflow.schema").context("this file is not a table of emoflow")?;
            let table = parquet::read(open()?, schema)?;
            *held = Some(Held { path, changed, table });
        }
        let table = &held.as_ref().expect("just read").table;
        selected(table, request)
    }
}

fn selected(table: &Table, request: &Request) -> Result<Value> {
    let column = |name: &str| {
        let at = table.columns.iter().position(|(known, _)| known == name);
        at.ok_or_else(|| Refusal::of(name, format!("the table has no column `{name}`")))
    };
    let count = |name: &str, otherwise: usize| -> Result<usize, Refusal> {
        let parsed = request.asked(name).map(str::parse).transpose();
        parsed
            .map(|n| n.unwrap_or(otherwise))
            .map_err(|_| Refusal::of(name, format!("`{name}` is not a number")))
    };
    let (from, n) = (count("from", 0)?, count("n", 50)?.min(ROWS));
    let mut rows: Vec<usize> = (0..table.rows()).collect();
    for (name, value) in &request.query {
        if let Some(name) = name.strip_prefix("is.") {
            let at = column(name)?;
            rows.retain(|&row| table.cell(at, row) == *value);
        }
    }
    if let Some(q) = request.asked("q").filter(|q| !q.is_empty()) {
        let q = q.to_lowercase();
        let texts: Vec<usize> = (0..table.columns.len())
            .filter(|&at| !matches!(table.columns[at].1, Column::List { .. }))
            .collect();
        rows.retain(|&row| texts.iter().any(|&at| table.cell(at, row).to_lowercase().contains(&q)));
    }
    if let Some(sort) = request.asked("sort").filter(|sort| !sort.is_empty()) {
        let (name, down) = sort.strip_prefix('-').map_or((sort, false), |name| (name, true));
        let at = column(name)?;
        let key = |row: usize| {
            let cell = table.cell(at, row);
            (cell.parse::<f64>().ok(), cell)
        };
        let mut keyed: Vec<((Option<f64>, String), usize)> =
            rows.into_iter().map(|row| (key(row), row)).collect();
        keyed.sort_by(|(a, _), (b, _)| {
            let order = match (a.0, b.0) {
                (Some(x), Some(y)) => x.total_cmp(&y),
                _ => a.1.cmp(&b.1),
            };
            if down { order.reverse() } else { order }
        });
        rows = keyed.into_iter().map(|(_, row)| row).collect();
    }
    let shown: Vec<Vec<Value>> = rows
        .iter()
        .skip(from)
        .take(n)
        .map(|&row| (0..table.columns.len()).map(|at| cell(table, at, row)).collect())
        .collect();
    let columns: Vec<Value> =
        table.columns.iter().enumerate().map(|(at, it)| described(table, at, it)).collect();
    Ok(json!({ "total": table.rows(), "found": rows.len(), "from": from, "columns": columns, "rows": shown }))
}

fn cell(table: &Table, at: usize, row: usize) -> Value {
    match &table.columns[at].1 {
        Column::List { width, values, .. } => {
            let own = &values[row * width..(row + 1) * width];
            let some: Vec<String> = own.iter().take(WIDEST).map(|x| format!("{x:.3}")).collect();
            let more = if *width > WIDEST { format!(" ... ({width} numbers)") } else { String::new() };
            Value::from(format!("{}{more}", some.join(" ")))
        }
        Column::Str(values) => Value::from(values[row].as_str()),
        Column::OptStr(values) => values[row].as_deref().map_or(Value::Null, Value::from),
        Column::F64(values) => json!(values[row]),
        Column::OptF64(values) => json!(values[row]),
        _ => {
            let text = table.cell(at, row);
            text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from)
        }
    }
}

/// Describes a column, with its values if there are few.
fn described(table: &Table, at: usize, (name, column): &(String, Column)) -> Value {
    let is_text = matches!(column, Column::Str(_) | Column::OptStr(_));
    let mut values = std::collections::BTreeSet::new();
    if is_text || matches!(column, Column::I32(_)) {
        for row in 0..table.rows() {
            values.insert(table.cell(at, row));
            if values.len() > CHOICES {
                values.clear();
                break;
            }
        }
    }
    json!({ "name": name, "text": is_text, "values": values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_folder_is_given() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("results");
        fs::create_dir_all(root.join("tables")).unwrap();
        fs::write(root.join("tables/a.csv"), "x").unwrap();
        fs::write(root.join(".hidden"), "x").unwrap();
        fs::write(place.path().join("secret"), "x").unwrap();
        assert!(inside(&root, "tables/a.csv").is_some());
        for name in [
            "../secret",
            "tables/../../secret",
            "/etc/passwd",
            ".hidden",
            "tables",
            "none",
            "",
            "tables//../a",
        ] {
            assert!(inside(&root, name).is_none(), "{name}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(place.path().join("secret"), root.join("link")).unwrap();
            assert!(inside(&root, "link").is_none());
        }
        assert_eq!(list(&root), json!([{ "name": "tables/a.csv", "bytes": 1 }]));
    }
}
