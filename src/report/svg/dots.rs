//! Draws dots with their intervals, one per row, with the band of their null distribution behind.

use super::super::figure::Dots;
use super::super::markup::escape;
use super::super::number::{fixed, place, ranged, short, tick};
use super::scale::{Scale, extent, ticks};
use super::{Anchor, Drawing, WIDTH, text};

const SIZE: f64 = 12.0;

pub fn draw(dots: &Dots) -> Drawing {
    let summary = format!("{} dots of {} with their intervals", dots.dots.len(), dots.x);
    if dots.dots.iter().all(|d| !d.value.is_finite()) {
        return Drawing::empty(summary);
    }
    let row = if dots.dots.len() > 60 { 17.0 } else { 22.0 };
    let banded = !dots.band.is_empty() && dots.dots.iter().any(|d| d.band.is_some());
    let labels = dots.dots.iter().map(|d| text::width(&d.label, SIZE)).fold(0.0, f64::max).min(240.0);
    let finite = |ends: Option<(f64, f64)>| ends.filter(|(a, b)| a.is_finite() && b.is_finite());

    let reach = dots.dots.iter().flat_map(|d| {
        let ends = [finite(d.interval), finite(d.band)].into_iter().flatten();
        ends.flat_map(|(low, high)| [low, high]).chain([0.0, d.value]).collect::<Vec<_>>()
    });
    let (low, high) = extent(reach, 0.03);
    let spelt = dots.dots.iter().map(|d| match finite(d.interval) {
        Some(ends) if d.value.is_finite() => ranged(d.value, ends, dots.decimals),
        _ => fixed(d.value, dots.decimals),
    });
    let values: Vec<String> = spelt.collect();
    let values_width = values.iter().map(|v| text::width(v, SIZE)).fold(0.0, f64::max);
    let top = if banded { 34.0 } else { 10.0 };
    let (left, right) = (labels + 18.0, WIDTH - values_width - 22.0);
    let bottom = top + row * dots.dots.len() as f64;
    let x = Scale::new((low, high), (left, right));
    let mut drawing = Drawing::new(WIDTH, bottom + 50.0, summary);

    let (at, step) = ticks(low, high, 8);
    for value in at {
        let place = x.at(value);
        drawing.line((place, top), (place, bottom), "grid");
        let label = tick(value, step, low.abs().max(high.abs()));
        drawing.text(place, bottom + 13.0, 11.5, Anchor::Middle, "soft", &label);
    }
    drawing.line((x.at(0.0), top), (x.at(0.0), bottom), "axis");
    for (i, (dot, value)) in dots.dots.iter().zip(&values).enumerate() {
        let y = top + row * i as f64;
        let middle = y + row / 2.0;
        if let Some((a, b)) = finite(dot.band) {
            let (from, to) = (x.at(a.min(b)), x.at(a.max(b)));
            let title = format!("{}: {} to {}", dots.band, short(a.min(b)), short(a.max(b)));
            drawing.rect((from, y + 1.5), ((to - from).max(1.0), row - 3.0), "band", &title);
        }
        if let Some((a, b)) = finite(dot.interval) {
            let (from, to, middle) = (place(x.at(a)), place(x.at(b)), place(middle));
            drawing.raw(format_args!("<path d=\"M{from} {middle}H{to}\" class=\"s0\" stroke-width=\"2\"/>"));
        }
        if dot.value.is_finite() {
            let (at, middle) = (place(x.at(dot.value)), place(middle));
            let band = finite(dot.band).map_or(String::new(), |(a, b)| {
                format!("; {}: {} to {}", dots.band, short(a.min(b)), short(a.max(b)))
            });
            let title = escape(&format!("{}: {value}{band}", dot.label));
            drawing.raw(format_args!(
                "<circle cx=\"{at}\" cy=\"{middle}\" r=\"4\" class=\"dot\"><title>{title}</title></circle>"
            ));
        }
        drawing.text(labels + 8.0, middle, SIZE, Anchor::End, "ink", &text::fit(&dot.label, SIZE, 240.0));
        drawing.text(WIDTH - 8.0, middle, SIZE, Anchor::End, "ink", value);
    }
    let name = text::fit(&dots.x, 13.0, WIDTH - 20.0);
    let half = text::width(&name, 13.0) / 2.0;
    let middle = ((left + right) / 2.0).min(WIDTH - 8.0 - half).max(8.0 + half);
    drawing.text(middle, bottom + 34.0, 13.0, Anchor::Middle, "ink", &name);
    if banded {
        drawing.rect((left, 7.0), (22.0, row - 7.0), "band", "");
        let name = text::fit(&dots.band, SIZE, WIDTH - left - 40.0);
        drawing.text(left + 29.0, 7.0 + (row - 7.0) / 2.0, SIZE, Anchor::Start, "soft", &name);
    }
    drawing
}
