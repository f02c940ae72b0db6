//! Draws a matrix as a heat map around zero. One path holds all cells of a colour, so that a 30 by 30 matrix takes
//! about 10 kB and needs no script; the packed values are included for the page's script.

use super::super::figure::Heatmap;
use super::super::markup::escape;
use super::super::number::{decimals, fixed, place, short};
use super::colour::{self, STEPS};
use super::{Anchor, Drawing, text};

/// Maximum number of rows and of columns for which values are printed in the cells.
const PRINTED: usize = 12;

/// Sizes in the drawing's units.
struct Layout {
    cell: f64,
    /// Font size of row and column labels.
    size: f64,
    /// Rotation of the column labels, clockwise.
    turn: f64,
    row_labels: f64,
    column_labels: f64,
}

pub(super) fn draw(heatmap: &Heatmap) -> Drawing {
    let (rows, columns) = (heatmap.rows.len(), heatmap.columns.len());
    let summary = format!(
        "heat map of {}, {rows} rows ({}) by {columns} columns ({})",
        heatmap.value, heatmap.row_axis, heatmap.column_axis
    );
    let largest =
        heatmap.values.iter().copied().filter(|v| v.is_finite()).fold(0.0f64, |a, v| a.max(v.abs()));
    if rows == 0 || columns == 0 || heatmap.values.iter().all(|v| v.is_nan()) {
        return Drawing::empty(summary);
    }
    let limit = heatmap.limit.filter(|l| l.is_finite() && *l > 0.0).unwrap_or(largest);
    let layout = layout(heatmap);
    let Layout { cell, size, turn, row_labels, column_labels } = layout;
    let (left, top) = (30.0 + row_labels, 24.0 + column_labels);
    let (width, height) = (cell * columns as f64, cell * rows as f64);
    // Slanted labels extend beyond the last column.
    let overhang = if turn == -45.0 { column_labels } else { 8.0 };
    let right = (left + width + overhang).max(LEGEND + 2.0 * 30.0);
    let mut drawing = Drawing::new(right, top + height + 74.0, summary);
    drawing.diverging = true;
    drawing.data = data(heatmap, largest);

    cells(&mut drawing, heatmap, limit, (left, top), cell);
    if rows <= PRINTED && columns <= PRINTED {
        print_values(&mut drawing, heatmap, limit, (left, top), cell);
    }

    drawing.text(
        left + width / 2.0,
        10.0,
        13.0,
        Anchor::Middle,
        "ink",
        &text::fit(&heatmap.column_axis, 13.0, right),
    );
    let row_axis = text::fit(&heatmap.row_axis, 13.0, (height + column_labels).max(80.0));
    drawing.turned((12.0, top + height / 2.0), -90.0, 13.0, Anchor::Middle, "ink", &row_axis);
    labels(&mut drawing, heatmap, &layout, (left, top), size);
    legend(
        &mut drawing,
        heatmap,
        limit,
        largest,
        ((left + (width - LEGEND) / 2.0).max(30.0), top + height + 26.0),
    );
    drawing
}

fn layout(heatmap: &Heatmap) -> Layout {
    let most = heatmap.rows.len().max(heatmap.columns.len());
    let (cell, size) = match most {
        0..=6 => (58.0, 12.5),
        7..=PRINTED => (46.0, 12.0),
        13..=20 => (28.0, 12.0),
        21..=40 => (20.0, 11.5),
        41..=80 => (14.0, 10.5),
        _ => (9.0, 8.0),
    };
    let widest = |names: &[String]| names.iter().map(|n| text::width(n, size)).fold(0.0, f64::max).min(LABEL);
    let (row_labels, across) = (widest(&heatmap.rows), widest(&heatmap.columns));
    let (turn, column_labels) = if across <= cell - 4.0 {
        (0.0, size)
    } else if cell >= 14.0 {
        (-45.0, (across + size) / 2f64.sqrt())
    } else {
        (-90.0, across)
    };
    Layout { cell, size, turn, row_labels, column_labels }
}

/// Labels wider than this are truncated with an ellipsis.
const LABEL: f64 = 150.0;
const LEGEND: f64 = 246.0;

/// The value of a cell; NaN if the matrix has too few values.
fn value(heatmap: &Heatmap, row: usize, column: usize) -> f64 {
    heatmap.values.get(row * heatmap.columns.len() + column).copied().unwrap_or(f64::NAN)
}

/// Draws each cell as a stroke of length and width 1 in a group scaled to the cell's size; neighbours of one colour are
/// one stroke. Pen movements are relative, which is shorter.
fn cells(drawing: &mut Drawing, heatmap: &Heatmap, limit: f64, (left, top): (f64, f64), cell: f64) {
    let mut paths = vec![(String::new(), (0, 0)); 2 * STEPS as usize + 1];
    for row in 0..heatmap.rows.len() {
        let mut column = 0;
        while column < heatmap.columns.len() {
            let class = colour::step(value(heatmap, row, column), limit);
            let start = column;
            while column < heatmap.columns.len() && colour::step(value(heatmap, row, column), limit) == class
            {
                column += 1;
            }
            let Some(class) = class else { continue };
            let (path, pen) = &mut paths[class as usize];
            let (dx, dy) = (start as i64 - pen.0, row as i64 - pen.1);
            *path += &format!("m{dx}{}{dy}h{}", if dy < 0 { "" } else { " " }, column - start);
            *pen = (column as i64, row as i64);
        }
    }
    drawing.raw(format_args!(
        "<g class=\"cells\" transform=\"translate({} {})scale({})\" shape-rendering=\"crispEdges\">",
        place(left),
        place(top),
        place(cell)
    ));
    for (class, (path, _)) in paths.iter().enumerate().filter(|(_, (path, _))| !path.is_empty()) {
        drawing.raw(format_args!("<path class=\"h{class}\" d=\"M0 .5{path}\"/>"));
    }
    drawing.raw(format_args!("</g>"));
    let (width, height) = (cell * heatmap.columns.len() as f64, cell * heatmap.rows.len() as f64);
    drawing.raw(format_args!(
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"grid\"/>",
        place(left),
        place(top),
        place(width),
        place(height)
    ));
}

fn print_values(drawing: &mut Drawing, heatmap: &Heatmap, limit: f64, (left, top): (f64, f64), cell: f64) {
    let decimals = decimals(limit / 40.0).min(3);
    for row in 0..heatmap.rows.len() {
        for column in 0..heatmap.columns.len() {
            let v = value(heatmap, row, column);
            let class = colour::text_class(colour::step(v, limit));
            let (x, y) = (left + (column as f64 + 0.5) * cell, top + (row as f64 + 0.5) * cell);
            let size: f64 = if cell > 50.0 { 13.0 } else { 12.0 };
            let label = fixed(v, decimals);
            // Minus signs and three decimals make labels of small values long.
            let size = size.min(size * (cell - 4.0) / text::width(&label, size)).max(9.0);
            let label = text::fit(&label, size, cell);
            drawing.text(x, y, size, Anchor::Middle, class, &label);
        }
    }
}

fn labels(drawing: &mut Drawing, heatmap: &Heatmap, layout: &Layout, (left, top): (f64, f64), size: f64) {
    let cell = layout.cell;
    drawing.raw(format_args!("<g class=\"rows ink\" font-size=\"{}\" text-anchor=\"end\">", place(size)));
    for (i, name) in heatmap.rows.iter().enumerate() {
        let y = top + (i as f64 + 0.5) * cell + 0.35 * size;
        label(drawing, &format!("x=\"{}\" y=\"{}\"", place(left - 6.0), place(y)), name, size);
    }
    let anchor = if layout.turn == 0.0 { " text-anchor=\"middle\"" } else { "" };
    drawing.raw(format_args!("</g><g class=\"cols ink\" font-size=\"{}\"{anchor}>", place(size)));
    for (i, name) in heatmap.columns.iter().enumerate() {
        let x = left + (i as f64 + 0.5) * cell;
        let at = match layout.turn {
            0.0 => format!("x=\"{}\" y=\"{}\"", place(x), place(top - 7.0)),
            turn => {
                // Centres the text's mid-line above the column.
                let shift = if turn == -45.0 { 0.25 * size } else { 0.35 * size };
                format!("transform=\"translate({} {})rotate({turn})\"", place(x + shift), place(top - 6.0))
            }
        };
        label(drawing, &at, name, size);
    }
    drawing.raw(format_args!("</g>"));
}

/// Draws the label of a row or column; a truncated one has its full text in a title.
fn label(drawing: &mut Drawing, attributes: &str, name: &str, size: f64) {
    let shown = text::fit(name, size, LABEL);
    let title = if shown == name { String::new() } else { format!("<title>{}</title>", escape(name)) };
    drawing.raw(format_args!("<text {attributes}>{}{title}</text>", escape(&shown)));
}

/// Draws the colour scale with the values at its ends and middle, and the meaning of the value.
fn legend(drawing: &mut Drawing, heatmap: &Heatmap, limit: f64, largest: f64, (x, y): (f64, f64)) {
    let classes = 2 * STEPS + 1;
    let step = LEGEND / classes as f64;
    drawing.raw(format_args!(
        "<g transform=\"translate({} {})scale({step:.4} 10)\" shape-rendering=\"crispEdges\">",
        place(x),
        place(y)
    ));
    for class in 0..classes {
        drawing.raw(format_args!("<path class=\"h{class}\" d=\"M{class} .5h1\"/>"));
    }
    drawing.raw(format_args!("</g>"));
    let (low, high) =
        if largest > limit * (1.0 + 1e-9) { ("\u{2264}\u{2009}", "\u{2265}\u{2009}") } else { ("", "") };
    let middle = x + LEGEND / 2.0;
    drawing.text(x, y + 20.0, 11.5, Anchor::Middle, "soft", &format!("{low}{}", short(-limit)));
    drawing.text(middle, y + 20.0, 11.5, Anchor::Middle, "soft", "0");
    drawing.text(x + LEGEND, y + 20.0, 11.5, Anchor::Middle, "soft", &format!("{high}{}", short(limit)));
    let name = text::fit(&heatmap.value, 12.5, drawing.width - 20.0);
    let half = text::width(&name, 12.5) / 2.0;
    let at = middle.min(drawing.width - 10.0 - half).max(10.0 + half);
    drawing.text(at, y + 38.0, 12.5, Anchor::Middle, "ink", &name);
}

/// Attributes with the cells' values, row-major.
fn data(heatmap: &Heatmap, largest: f64) -> String {
    let cells =
        (0..heatmap.rows.len()).flat_map(|row| (0..heatmap.columns.len()).map(move |column| (row, column)));
    let values: Vec<f64> = cells.map(|(row, column)| value(heatmap, row, column)).collect();
    format!(" {}", attributes(&values, largest))
}

/// Values as attributes, [`packed`].
pub fn attributes(values: &[f64], largest: f64) -> String {
    format!("data-values=\"{}\" data-largest=\"{largest}\"", packed(values, largest))
}

/// Encodes values of magnitude at most `largest` in three base-64 digits each: 0 for NaN, else the value in steps of
/// `largest / 131071` plus 131072. The page's script shows them next to the pointer.
pub fn packed(values: &[f64], largest: f64) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const HALF: f64 = 131071.0;
    let mut packed = String::new();
    for v in values {
        let share = if largest > 0.0 { (v / largest).clamp(-1.0, 1.0) } else { 0.0 };
        let code = if v.is_nan() { 0 } else { (share * HALF).round() as i32 + 131072 };
        for shift in [12, 6, 0] {
            packed.push(DIGITS[(code >> shift) as usize & 63] as char);
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heatmap(rows: usize, columns: usize, values: Vec<f64>) -> Heatmap {
        Heatmap {
            row_axis: "rows".into(),
            column_axis: "columns".into(),
            rows: (0..rows).map(|i| format!("r{i}")).collect(),
            columns: (0..columns).map(|i| format!("c{i}")).collect(),
            values,
            value: "value".into(),
            limit: None,
        }
    }

    #[test]
    fn cells_of_a_colour_are_one_path() {
        let marks = draw(&heatmap(2, 3, vec![1.0, 1.0, -1.0, f64::NAN, 1.0, -1.0])).marks;
        // Full red: columns 0-1 of row 0, then column 1 of row 1: back by one, down by one.
        assert!(marks.contains("<path class=\"h40\" d=\"M0 .5m0 0h2m-1 1h1\"/>"), "{marks}");
        assert!(marks.contains("<path class=\"h0\" d=\"M0 .5m2 0h1m-1 1h1\"/>"), "{marks}");
    }

    #[test]
    fn values_are_packed() {
        // -1 is 1 = AAB; 0 is 131072 = 32 * 4096 = gAA; 1 is 262143 = ___; no number is AAA.
        assert_eq!(
            data(&heatmap(1, 4, vec![-2.0, 0.0, 2.0, f64::NAN]), 2.0),
            " data-values=\"AABgAA___AAA\" data-largest=\"2\""
        );
    }

    #[test]
    fn thirty_by_thirty_is_small() {
        let values = (0..900).map(|i| ((i * 7919) % 2001) as f64 / 1000.0 - 1.0).collect();
        let drawing = draw(&heatmap(30, 30, values));
        assert!(drawing.marks.len() + drawing.data.len() < 20_000, "{}", drawing.marks.len());
    }
}
