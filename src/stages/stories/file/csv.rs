//! Rows of a CSV file (RFC 4180), read strictly: an unclosed quote does not swallow rows. Lines are counted here, as
//! the crate `csv` counts them one too low at CRLF and does not report an open quote.

use std::ops::ControlFlow;

use anyhow::{Result, bail, ensure};

use super::format::Format;
use super::text::LONGEST;
use super::{Label, Row, Rows, Visit, missing};

/// Possible delimiters; the first with which the header has the requested columns is used.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];

/// Calls `visit` with each row.
pub fn rows(rows: &Rows, format: Format, visit: &mut Visit) -> Result<()> {
    let mut lines = rows.lines()?;
    let Some(mut first) = lines.next()?.map(str::to_string) else {
        bail!("it is empty: not even a header line")
    };
    let mut delimiters = DELIMITERS.to_vec();
    if format == Format::Tsv {
        delimiters.sort_by_key(|delimiter| *delimiter != '\t');
    }
    // A line that Excel writes.
    if let Some(said) = first.strip_prefix("sep=").and_then(|rest| rest.chars().next()) {
        delimiters = vec![said];
        first = lines.next()?.unwrap_or_default().to_string();
    }
    let header_line = lines.number;
    let mut headers = Vec::new();
    for &delimiter in &delimiters {
        let mut nothing = |_: &mut String| Ok(None);
        headers.push((delimiter, record(first.clone(), header_line, delimiter, &mut nothing)?));
    }
    let fits = |(_, header): &&(char, Vec<String>)| rows.names().flatten().all(|n| at(header, n).is_some());
    let widest = || headers.iter().rev().max_by_key(|(_, header)| header.len());
    let (delimiter, header) = headers.iter().find(fits).or_else(widest).expect("there are delimiters");
    let mut places = [None; 3];
    for (place, name) in places.iter_mut().zip(rows.names()) {
        let Some(name) = name else { continue };
        *place = at(header, name);
        let twice = header.iter().filter(|h| h.trim() == name).count() > 1;
        ensure!(!twice, "line {header_line}: there are two columns `{name}`");
    }
    let [emotion, text, topic] = places;
    let by_name = emotion.is_none();
    for (place, name) in places.iter().zip(rows.names()) {
        let needless = name == rows.columns.emotion.as_deref() && by_name && rows.stem.is_some();
        if let (None, Some(name), false) = (place, name, needless) {
            return Err(missing("column", name, header));
        }
    }
    while let Some(line) = lines.next()?.map(str::to_string) {
        if line.trim().is_empty() {
            continue;
        }
        let number = lines.number;
        let mut more = |line: &mut String| {
            let next = lines.next()?.map(str::to_string);
            Ok(next.map(|next| (*line = next, lines.number).1))
        };
        let fields = record(line, number, *delimiter, &mut more)?;
        // Spreadsheets pad rows with empty fields.
        let used = fields.len() - fields.iter().rev().take_while(|field| field.trim().is_empty()).count();
        if fields.len() < header.len() || used > header.len() {
            bail!(
                "line {number} has {} fields, the header {}: a text that holds `{}` must stand in quotes",
                fields.len(),
                header.len(),
                delimiter.escape_default()
            );
        }
        let cell = |place: Option<usize>| Some(fields[place?].clone());
        let row = Row {
            place: format!("line {number}"),
            emotion: if by_name { rows.by_name() } else { Label::of(cell(emotion)) },
            by_name,
            text: cell(text),
            topic: cell(topic).filter(|topic| !topic.is_empty()),
        };
        if let ControlFlow::Break(()) = visit(row)? {
            break;
        }
    }
    Ok(())
}

fn at(header: &[String], name: &str) -> Option<usize> {
    header.iter().position(|h| h.trim() == name)
}

/// The fields of the record that begins with `line`, whose number is `number`. `more` replaces the line by the next
/// one and returns its number.
///
/// An error names the line with an opening quote that is never closed, or whose closing quote is not followed by a
/// delimiter.
fn record(
    mut line: String,
    mut number: usize,
    delimiter: char,
    more: &mut dyn FnMut(&mut String) -> Result<Option<usize>>,
) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut from = 0;
    loop {
        let rest = &line[from..];
        let blank = rest.len() - rest.trim_start_matches(' ').len();
        if !rest[blank..].starts_with('"') {
            let end = rest.find(delimiter);
            fields.push(rest[..end.unwrap_or(rest.len())].to_string());
            match end {
                Some(end) => from += end + delimiter.len_utf8(),
                None => return Ok(fields),
            }
            continue;
        }
        let (opened, mut field) = (number, String::new());
        from += blank + 1;
        loop {
            let Some(end) = line[from..].find('"').map(|end| from + end) else {
                field.push_str(&line[from..]);
                field.push('\n');
                ensure!(
                    field.len() <= LONGEST,
                    "line {opened}: the quote that opens here closes nowhere near"
                );
                match more(&mut line)? {
                    Some(next) => (number, from) = (next, 0),
                    None => bail!("line {opened}: a quote opens here that never closes"),
                }
                continue;
            };
            field.push_str(&line[from..end]);
            from = end + 1;
            if line[from..].starts_with('"') {
                field.push('"');
                from += 1;
                continue;
            }
            let after = line[from..].trim_start_matches(' ');
            from = line.len() - after.len();
            if !(after.is_empty() || after.starts_with(delimiter)) {
                let shown: String = after.chars().take(20).collect();
                let hint = match field.ends_with('\\') {
                    true => {
                        "a quote in a quoted text is written twice (\"\"), not with a backslash: \
                             pandas.read_csv(file, escapechar='\\\\').to_csv(new, index=False) converts it"
                    }
                    false => {
                        "it is not closed there, or a quote within a quoted text is not written twice (\"\")"
                    }
                };
                let place = if number == opened { String::new() } else { format!(" of line {number}") };
                bail!(
                    "line {opened}: a quote opens here, and the next one{place} is followed by `{shown}`: {hint}"
                );
            }
            break;
        }
        fields.push(field);
        if from == line.len() {
            return Ok(fields);
        }
        from += delimiter.len_utf8();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The records of a text, as Python's `csv` module reads them.
    fn all(text: &str, delimiter: char) -> Result<Vec<Vec<String>>> {
        let mut lines = text.lines().map(str::to_string).enumerate();
        let mut records = Vec::new();
        while let Some((at, line)) = lines.next() {
            let mut more = |line: &mut String| {
                Ok(lines.next().map(|(at, next)| {
                    *line = next;
                    at + 1
                }))
            };
            records.push(record(line, at + 1, delimiter, &mut more)?);
        }
        Ok(records)
    }

    #[test]
    fn quotes_hold_delimiters_lines_and_doubled_quotes() {
        for (text, delimiter, want) in [
            ("a,b,,", ',', vec![vec!["a", "b", "", ""]]),
            ("a,\"b, c\"\nd,e", ',', vec![vec!["a", "b, c"], vec!["d", "e"]]),
            ("a,\"b\n\n\"\"c\"\"\"\nd,\"\"", ',', vec![vec!["a", "b\n\n\"c\""], vec!["d", ""]]),
            ("a; \"b\" ;5\" c", ';', vec![vec!["a", "b", "5\" c"]]),
            ("a\t\"b\tc\"", '\t', vec![vec!["a", "b\tc"]]),
        ] {
            assert_eq!(all(text, delimiter).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn a_quote_that_does_not_close_is_told_where_it_opens() {
        for (text, wanted) in [
            ("a,b\nc,\"d\ne,f\ng,h", "line 2: a quote opens here that never closes"),
            (
                "a,b\nc,\"d\ne,\"f\"",
                "line 2: a quote opens here, and the next one of line 3 is followed by `f\"`",
            ),
            ("a,\"say \\\"no\\\" now\"", "not with a backslash"),
            ("\"a\" b,c", "line 1: a quote opens here, and the next one is followed by `b,c`"),
        ] {
            let said = format!("{:#}", all(text, ',').unwrap_err());
            assert!(said.contains(wanted), "{said}");
        }
    }
}
