//! Renders a table to HTML. Independent of the page around it.

use std::fmt::Write as _;

use super::figure::{Cell, Place, TableFigure, Target};
use super::markup::escape;
use super::number::{NONE, fixed, ranged};

/// The table as HTML; numbers and the headers of their columns are right-aligned. `address`: the address of a place in
/// the page.
pub fn html(table: &TableFigure, address: &dyn Fn(&Place) -> Option<String>) -> String {
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
                    let long = text.chars().count() > LONG;
                    out.push_str(if long { "<td class=\"long\">" } else { "<td>" });
                    out.push_str(&escape(text));
                }
                Some(Cell::Link(text, target)) => {
                    let address = match target {
                        Target::Place(place) => address(place),
                        Target::File(path) => Some(path.clone()),
                    };
                    let text = escape(text);
                    out.push_str("<td>");
                    match address {
                        Some(address) => {
                            write!(out, "<a href=\"{}\">{text}</a>", escape(&address)).expect("a string")
                        }
                        None => out.push_str(&text),
                    }
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

/// Tables with more columns than this are set more compactly.
const DENSE: usize = 7;

/// Texts with more characters than this are wrapped.
const LONG: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_sections_that_are_there_and_to_files() {
        let link = |text: &str, target| Cell::Link(text.into(), target);
        let table = TableFigure {
            columns: vec!["claim".into()],
            rows: vec![
                vec![link("a<b", Target::Place(Place::section("space")))],
                vec![link("gone", Target::Place(Place::section("other")))],
                vec![link("CSV", Target::File("tables/space.csv".into()))],
            ],
        };
        let html = html(&table, &|place| (place.section == "space").then(|| "#space-2".to_string()));
        assert!(html.contains("<td><a href=\"#space-2\">a&lt;b</a></td>"), "{html}");
        assert!(html.contains("<td>gone</td>"), "{html}");
        assert!(html.contains("<td><a href=\"tables/space.csv\">CSV</a></td>"), "{html}");
    }

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
            html(&table, &|_| None),
            "<table><thead><tr><th scope=\"col\">word</th><th scope=\"col\" class=\"num\">cosine</th></tr></thead>\
             <tbody><tr><td>&lt;b&gt;</td><td class=\"num\">−0.500</td></tr>\n\
             <tr><td></td><td class=\"num\">0.25 [−0.10, 0.50]</td></tr>\n\
             <tr><td></td><td class=\"num\">–</td></tr>\n\
             <tr><td>short row</td><td class=\"num\">–</td></tr>\n</tbody></table>"
        );
    }
}
