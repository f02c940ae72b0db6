//! A table -> HTML. Knows nothing of the page around it.

use std::fmt::Write as _;

use super::figure::{Cell, TableFigure};
use super::markup::escape;
use super::number::{NONE, fixed, ranged};

/// The table; numbers stand right, in columns whose heads do so too.
pub fn html(table: &TableFigure) -> String {
    let numeric: Vec<bool> = (0..table.columns.len())
        .map(|i| table.rows.iter().any(|row| matches!(row.get(i), Some(Cell::Number(..) | Cell::Ranged(..)))))
        .collect();
    let dense = if table.columns.len() > DENSE { " class=\"dense\"" } else { "" };
    let mut out = format!("<table{dense}><thead><tr>");
    for (name, numeric) in table.columns.iter().zip(&numeric) {
        let class = if *numeric { " class=\"num\"" } else { "" };
        write!(out, "<th scope=\"col\"{class}>{}</th>", escape(name)).expect("a string takes everything");
    }
    out.push_str("</tr></thead><tbody>");
    for row in &table.rows {
        out.push_str("<tr>");
        for (i, numeric) in numeric.iter().enumerate() {
            match row.get(i) {
                Some(Cell::Number(value, decimals)) => {
                    out.push_str("<td class=\"num\">");
                    out.push_str(&fixed(*value, *decimals));
                }
                Some(Cell::Ranged(value, (low, high), decimals)) => {
                    out.push_str("<td class=\"num\">");
                    out.push_str(&ranged(*value, (*low, *high), *decimals));
                }
                Some(Cell::Text(text)) => {
                    out.push_str("<td>");
                    out.push_str(&escape(text));
                }
                Some(Cell::Empty) | None if *numeric => {
                    out.push_str("<td class=\"num\">");
                    out.push_str(NONE);
                }
                Some(Cell::Empty) | None => out.push_str("<td>"),
            }
            out.push_str("</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>");
    out
}

/// Tables with more columns than this are set closer.
const DENSE: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_and_escaped() {
        let table = TableFigure {
            columns: vec!["word".into(), "cosine".into()],
            rows: vec![
                vec![Cell::Text("<b>".into()), Cell::Number(-0.5, 3)],
                vec![Cell::Empty, Cell::Ranged(0.25, (-0.1, 0.5), 2)],
                vec![Cell::Empty, Cell::Empty],
                vec![Cell::Text("short row".into())],
            ],
        };
        assert_eq!(
            html(&table),
            "<table><thead><tr><th scope=\"col\">word</th><th scope=\"col\" class=\"num\">cosine</th></tr></thead>\
             <tbody><tr><td>&lt;b&gt;</td><td class=\"num\">−0.500</td></tr>\n\
             <tr><td></td><td class=\"num\">0.25 [−0.10, 0.50]</td></tr>\n\
             <tr><td></td><td class=\"num\">–</td></tr>\n\
             <tr><td>short row</td><td class=\"num\">–</td></tr>\n</tbody></table>"
        );
    }
}
