//! Draws scatter plots of labelled points side by side.

use std::collections::BTreeSet;

use super::super::figure::{Panel, Panels, Point};
use super::axes::{self, Axis};
use super::labels::Rect;
use super::scale::{Scale, extent};
use super::scatter::{Dots, dots};
use super::{Anchor, Drawing, WIDTH, text};

/// Margins of a panel: for the axis on its left, and on its right.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 4.0;

/// Font size of the details.
const DETAIL: f64 = 10.0;

/// Maximum number of points per panel up to which all are labelled.
const ALL_LABELLED: usize = 40;

/// Number of labelled points otherwise: the outermost one in each of this many directions from the centre.
const DIRECTIONS: usize = 14;

pub fn draw(Panels { panels }: &Panels) -> Drawing {
    let summary = format!("{} planes of labelled points side by side", panels.len());
    let finite = |panel: &Panel| panel.plane.points.iter().any(is_finite);
    if !panels.iter().any(finite) {
        return Drawing::empty(summary);
    }
    let in_a_row = in_a_row(panels);
    let (height, size) = if in_a_row == 2 { (300.0, 9.5) } else { (212.0, 8.0) };
    let gap = 16.0;
    let width = (WIDTH - (in_a_row - 1) as f64 * gap) / in_a_row as f64;
    let details: Vec<Vec<String>> = panels.iter().map(|p| lines(&p.details, width - LEFT - RIGHT)).collect();
    let most = details.iter().map(Vec::len).max().unwrap_or_default();
    let (above, below) = (25.0 + DETAIL * 1.3 * most as f64, 52.0);
    let rows = panels.len().div_ceil(in_a_row);
    let mut drawing = Drawing::new(WIDTH, rows as f64 * (above + height + below) - 8.0, summary);
    let labelled = labelled(panels);
    let mut left_out = 0;
    for (at, panel) in panels.iter().enumerate() {
        let left = (at % in_a_row) as f64 * (width + gap);
        let top = (at / in_a_row) as f64 * (above + height + below) + above;
        let plot = Rect { left: left + LEFT, top, right: left + width - RIGHT, bottom: top + height };
        let name = text::fit(&panel.title, 12.0, plot.right - plot.left);
        drawing.text(plot.left, top - above + 11.0, 12.0, Anchor::Start, "ink", &name);
        for (line, detail) in details[at].iter().enumerate() {
            let y = top - above + 26.0 + DETAIL * 1.3 * line as f64;
            drawing.text(plot.left, y, DETAIL, Anchor::Start, "soft", detail);
        }
        let points: Vec<&Point> = panel.plane.points.iter().filter(|p| is_finite(p)).collect();
        let x = Scale::new(extent(points.iter().map(|p| p.x), 0.1), (plot.left, plot.right));
        let y = Scale::new(extent(points.iter().map(|p| p.y), 0.08), (plot.bottom, plot.top));
        axes::draw(
            &mut drawing,
            &plot,
            Axis { scale: &x, name: &panel.plane.x, whole: false, log: false },
            Axis { scale: &y, name: &panel.plane.y, whole: false, log: false },
            &axes::SMALL,
        );
        let look = Dots { size, radius: size / 3.5, widest: 90.0 };
        left_out += dots(&mut drawing, &points, (&x, &y), plot, look, |p| {
            labelled.as_ref().is_none_or(|some| some.contains(p.label.as_str()))
        });
    }
    let note = match (labelled, left_out) {
        (Some(some), _) => format!("{} points are labelled, the same in every panel", some.len()),
        (None, 0) => return drawing,
        (None, n) => format!("{n} labels do not fit"),
    };
    drawing.height += 18.0;
    let note = format!("{note}: point at a mark to see its label");
    drawing.text(WIDTH - 4.0, drawing.height - 10.0, 10.5, Anchor::End, "soft", &note);
    drawing
}

/// Panels per row: two large or three small ones. If all titles have the same number of panels, chosen such that no row
/// mixes two titles; otherwise to keep the drawing short.
fn in_a_row(panels: &[Panel]) -> usize {
    let runs: Vec<usize> = panels.chunk_by(|a, b| a.title == b.title).map(<[Panel]>::len).collect();
    let divides = |n: usize| runs.iter().all(|&run| run == runs[0]) && runs[0].is_multiple_of(n);
    match panels.len() {
        _ if divides(3) => 3,
        _ if divides(2) => 2,
        ..=4 => 2,
        _ => 3,
    }
}

fn is_finite(point: &Point) -> bool {
    point.x.is_finite() && point.y.is_finite()
}

/// Joins `parts` into as few lines as possible.
fn lines(parts: &[String], limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        let longer = lines.last().map(|line| format!("{line} \u{b7} {part}"));
        match (lines.last_mut(), longer.filter(|line| text::width(line, DETAIL) <= limit)) {
            (Some(line), Some(longer)) => *line = longer,
            _ => lines.push(text::fit(part, DETAIL, limit)),
        }
    }
    lines
}

/// The labels to draw; `None`: all. With many points, those of the outermost points of the first panel in each of
/// several directions, so that the same points can be followed from panel to panel.
fn labelled(panels: &[Panel]) -> Option<BTreeSet<&str>> {
    if panels.iter().all(|panel| panel.plane.points.len() <= ALL_LABELLED) {
        return None;
    }
    let points: Vec<&Point> = panels[0].plane.points.iter().filter(|p| is_finite(p)).collect();
    let (x, y) = (extent(points.iter().map(|p| p.x), 0.0), extent(points.iter().map(|p| p.y), 0.0));
    let centred = |value: f64, (low, high): (f64, f64)| 2.0 * (value - low) / (high - low) - 1.0;
    let mut outermost: Vec<Option<(f64, &str)>> = vec![None; DIRECTIONS];
    for point in points {
        let (x, y) = (centred(point.x, x), centred(point.y, y));
        let turn = y.atan2(x) / std::f64::consts::TAU + 0.5;
        let slot = &mut outermost[(turn * DIRECTIONS as f64) as usize % DIRECTIONS];
        if slot.is_none_or(|(farthest, _)| x.hypot(y) > farthest) {
            *slot = Some((x.hypot(y), &point.label));
        }
    }
    Some(outermost.into_iter().flatten().map(|(_, label)| label).collect())
}

#[cfg(test)]
mod tests {
    use super::super::super::figure::Scatter;
    use super::super::{Body, Dress, draw as svg};
    use super::*;

    /// A panel of `n` points on a spiral that winds outwards five times.
    fn panel(n: usize) -> Panel {
        let point = |i: usize| {
            let (angle, radius) = (i as f64 / n as f64 * 31.4, 1.0 + i as f64);
            Point { label: format!("word{i}"), x: radius * angle.cos(), y: radius * angle.sin() }
        };
        let plane = Scatter { x: "PC1".into(), y: "PC2".into(), points: (0..n).map(point).collect() };
        Panel { title: "m".into(), details: vec!["own".into()], plane }
    }

    #[test]
    fn few_points_are_all_labelled_and_of_many_the_outermost() {
        assert_eq!(labelled(&[panel(40), panel(3)]), None);
        let panels = [panel(100), panel(3)];
        let some = labelled(&panels).unwrap();
        assert_eq!(some.len(), DIRECTIONS);
        // The last turn of the spiral is its outermost: 20 of 100 points.
        assert!(some.contains("word99"));
        assert!(some.iter().all(|label| label[4..].parse::<usize>().unwrap() >= 75), "{some:?}");
    }

    #[test]
    fn a_row_holds_the_panels_of_one_title_where_it_can() {
        let check = |titles: &str, wanted: usize| {
            let panels = titles.chars().map(|c| Panel { title: c.to_string(), ..panel(1) });
            assert_eq!(in_a_row(&panels.collect::<Vec<_>>()), wanted, "{titles}");
        };
        check("aabbcc", 2);
        check("aaabbb", 3);
        check("aaa", 3);
        check("abc", 2);
        check("abcde", 3);
        check("aaaabbbb", 2);
        check("aaaaaabbbbbb", 3);
        check("aabbb", 3);
    }

    #[test]
    fn details_fill_as_few_lines_as_they_fit_into() {
        let parts = ["ab"; 3].map(String::from);
        let width = text::width("ab \u{b7} ab", DETAIL);
        assert_eq!(lines(&parts, 3.0 * width), ["ab \u{b7} ab \u{b7} ab"]);
        assert_eq!(lines(&parts, width), ["ab \u{b7} ab", "ab"]);
        assert_eq!(lines(&parts, width - 0.1), ["ab"; 3]);
        assert!(lines(&[], width).is_empty());
    }

    #[test]
    fn panels_are_of_one_size_and_in_rows() {
        let height = |n: usize| {
            let titled = |i: usize| Panel { title: i.to_string(), ..panel(5) };
            let drawing = draw(&Panels { panels: (0..n).map(titled).collect() });
            assert_eq!(drawing.width, WIDTH);
            drawing.height
        };
        assert_eq!(height(1), height(2));
        assert_eq!(height(3), height(4));
        assert_eq!(height(5), height(6));
        assert!(height(7) > height(6));
        let panels = Panels { panels: vec![panel(5), panel(5)] };
        let drawing = svg("t", &Body::Panels(panels), Dress::Page).unwrap();
        assert_eq!(drawing.matches("<circle").count(), 10);
        assert_eq!(drawing.matches(">word4</text>").count(), 2);
    }
}
