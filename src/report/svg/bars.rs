//! Draws horizontal bars, with the band of their null distribution behind and the interval of their value in front.

use super::super::figure::Bars;
use super::super::markup::escape;
use super::super::number::{decimals, fixed, place, short, tick};
use super::scale::{Scale, extent, ticks};
use super::{Anchor, Drawing, WIDTH, text};

const SIZE: f64 = 12.0;

pub fn draw(bars: &Bars) -> Drawing {
    let summary = format!("{} bars of {}", bars.bars.len(), bars.y);
    if bars.bars.iter().all(|b| !b.value.is_finite()) {
        return Drawing::empty(summary);
    }
    let row = if bars.bars.len() > 60 { 17.0 } else { 22.0 };
    let banded = !bars.band.is_empty() && bars.bars.iter().any(|b| b.band.is_some());
    let labels = bars.bars.iter().map(|b| text::width(&b.label, SIZE)).fold(0.0, f64::max).min(200.0);

    let reach = bars.bars.iter().flat_map(|b| {
        let ((low, high), (from, to)) = (b.band.unwrap_or_default(), b.interval.unwrap_or_default());
        [0.0, b.value, low, high, from, to]
    });
    let (low, high) = extent(reach, 0.03);
    let values: Vec<String> = {
        let digits = decimals((high - low) / 100.0);
        bars.bars.iter().map(|b| fixed(b.value, digits)).collect()
    };
    let values_width = values.iter().map(|v| text::width(v, SIZE)).fold(0.0, f64::max);
    let top = if banded { 34.0 } else { 10.0 };
    let (left, right) = (labels + 14.0, WIDTH - values_width - 18.0);
    let bottom = top + row * bars.bars.len() as f64;
    let x = Scale::new((low, high), (left, right));
    let mut drawing = Drawing::new(WIDTH, bottom + 50.0, summary);

    let (at, step) = ticks(low, high, 8);
    for value in at {
        let across = x.at(value);
        drawing.line((across, top), (across, bottom), "grid");
        let label = tick(value, step, low.abs().max(high.abs()));
        drawing.text(across, bottom + 13.0, 11.5, Anchor::Middle, "soft", &label);
    }
    for (i, (bar, value)) in bars.bars.iter().zip(&values).enumerate() {
        let y = top + row * i as f64;
        let finite = |ends: Option<(f64, f64)>| ends.filter(|(a, b)| a.is_finite() && b.is_finite());
        if let Some((a, b)) = finite(bar.band) {
            let (from, to) = (x.at(a.min(b)), x.at(a.max(b)));
            let title = format!("{}: {} to {}", bars.band, short(a.min(b)), short(a.max(b)));
            drawing.rect((from, y + 1.5), ((to - from).max(1.0), row - 3.0), "band", &title);
        }
        if bar.value.is_finite() {
            let (from, to) = (x.at(bar.value.min(0.0)), x.at(bar.value.max(0.0)));
            let thick = (row * 0.42).round();
            let interval = finite(bar.interval);
            let interval = interval.map_or(String::new(), |(a, b)| format!(" [{}, {}]", short(a), short(b)));
            let band = finite(bar.band);
            let band = band.map_or(String::new(), |(a, b)| {
                format!("; {}: {} to {}", bars.band, short(a.min(b)), short(a.max(b)))
            });
            let title = format!("{}: {}{interval}{band}", bar.label, short(bar.value));
            drawing.rect((from, y + (row - thick) / 2.0), ((to - from).max(0.5), thick), "fill", &title);
        }
        if let Some((a, b)) = finite(bar.interval) {
            let (from, to, middle) = (x.at(a), x.at(b), y + row / 2.0);
            drawing.raw(format_args!(
                "<path d=\"M{} {}v8m0 -4H{}m0 -4v8\" class=\"whisker\"><title>{}</title></path>",
                place(from),
                place(middle - 4.0),
                place(to),
                escape(&format!("{}: {} to {}", bar.label, short(a), short(b)))
            ));
        }
        let middle = y + row / 2.0;
        drawing.text(labels + 8.0, middle, SIZE, Anchor::End, "ink", &text::fit(&bar.label, SIZE, 200.0));
        drawing.text(WIDTH - 8.0, middle, SIZE, Anchor::End, "ink", value);
    }
    drawing.line((x.at(0.0), top), (x.at(0.0), bottom), "axis");
    let name = text::fit(&bars.y, 13.0, WIDTH - 20.0);
    let half = text::width(&name, 13.0) / 2.0;
    let middle = ((left + right) / 2.0).min(WIDTH - 8.0 - half).max(8.0 + half);
    drawing.text(middle, bottom + 34.0, 13.0, Anchor::Middle, "ink", &name);
    if banded {
        drawing.rect((left, 7.0), (22.0, row - 7.0), "band", "");
        let name = text::fit(&bars.band, SIZE, WIDTH - left - 40.0);
        drawing.text(left + 29.0, 7.0 + (row - 7.0) / 2.0, SIZE, Anchor::Start, "soft", &name);
    }
    drawing
}
