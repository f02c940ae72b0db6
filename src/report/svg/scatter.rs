//! Draws labelled points in the plane.

use super::super::figure::{Point, Scatter};
use super::super::markup::escape;
use super::super::number::{place, short};
use super::axes::{self, Axis};
use super::labels::{self, Placed, Rect};
use super::scale::{Scale, extent};
use super::{Anchor, Drawing, WIDTH, text};

pub fn draw(scatter: &Scatter) -> Drawing {
    let points: Vec<_> = scatter.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
    let summary = format!("scatter of {} labelled points, {} against {}", points.len(), scatter.y, scatter.x);
    if points.is_empty() {
        return Drawing::empty(summary);
    }
    // With many labels, smaller fonts and a taller drawing.
    let (height, size, radius) = match points.len() {
        0..=40 => (600.0, 12.0, 4.0),
        41..=90 => (680.0, 10.5, 3.4),
        _ => (820.0, 9.5, 2.8),
    };
    let plot = Rect { left: 64.0, top: 10.0, right: WIDTH - 12.0, bottom: height - 52.0 };
    let x = Scale::new(extent(points.iter().map(|p| p.x), 0.08), (plot.left, plot.right));
    let y = Scale::new(extent(points.iter().map(|p| p.y), 0.06), (plot.bottom, plot.top));
    let mut drawing = Drawing::new(WIDTH, height, summary);
    axes::draw(
        &mut drawing,
        &plot,
        Axis { scale: &x, name: &scatter.x, whole: false, log: false },
        Axis { scale: &y, name: &scatter.y, whole: false, log: false },
        &axes::FULL,
    );
    let left_out =
        dots(&mut drawing, &points, (&x, &y), plot, Dots { size, radius, widest: 180.0 }, |_| true);
    if left_out > 0 {
        drawing.height += 16.0;
        let note =
            format!("{left_out} of {} labels do not fit: point at a mark to see its label", points.len());
        drawing.text(plot.right, height + 4.0, 10.5, Anchor::End, "soft", &note);
    }
    drawing
}

/// Sizes of points and labels.
pub struct Dots {
    /// Font size of the labels.
    pub size: f64,
    pub radius: f64,
    /// Maximum width of a label.
    pub widest: f64,
}

/// Draws the points and the labels of those that are `labelled`; returns how many labels have no room.
pub fn dots(
    drawing: &mut Drawing,
    points: &[&Point],
    (x, y): (&Scale, &Scale),
    plot: Rect,
    Dots { size, radius, widest }: Dots,
    labelled: impl Fn(&Point) -> bool,
) -> usize {
    let places: Vec<_> = points.iter().map(|p| (x.at(p.x), y.at(p.y))).collect();
    let names: Vec<_> = points.iter().map(|p| text::fit(&p.label, size, widest)).collect();
    let sizes: Vec<_> = points
        .iter()
        .zip(&names)
        .map(|(p, name)| labelled(p).then(|| (text::width(name, size) + 2.0, size)))
        .collect();
    let placed = labels::place(&places, &sizes, radius, plot);

    for (from, to) in placed.iter().flatten().filter_map(|p| p.leader) {
        drawing.line(from, to, "lead");
    }
    for (point, &(cx, cy)) in points.iter().zip(&places) {
        drawing.raw(format_args!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"dot\"><title>{}: {}, {}</title></circle>",
            place(cx),
            place(cy),
            place(radius),
            escape(&point.label),
            short(point.x),
            short(point.y)
        ));
    }
    for ((name, &(cx, _)), at) in names.iter().zip(&places).zip(&placed) {
        let Some(Placed { rect, .. }) = at else { continue };
        // Anchored at the side facing the point, which stays in place however wide the reader's font is.
        let (x, anchor) = if rect.left >= cx {
            (rect.left + 1.0, Anchor::Start)
        } else if rect.right <= cx {
            (rect.right - 1.0, Anchor::End)
        } else {
            ((rect.left + rect.right) / 2.0, Anchor::Middle)
        };
        drawing.text(x, (rect.top + rect.bottom) / 2.0, size, anchor, "ink halo", name);
    }
    sizes.iter().zip(&placed).filter(|(size, placed)| size.is_some() && placed.is_none()).count()
}
