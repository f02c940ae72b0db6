//! The two axes of a plot: grid, ticks, zero lines, names. Knows nothing of what is plotted.

use super::super::number::tick;
use super::labels::Rect;
use super::scale::{Scale, ticks};
use super::{Anchor, Drawing, text};

/// One axis.
pub struct Axis<'a> {
    pub scale: &'a Scale,
    pub name: &'a str,
    /// Its values are counts or indices: no ticks between whole numbers.
    pub whole: bool,
}

impl Axis<'_> {
    /// Its ticks with their labels, about `want` of them.
    fn ticks(&self, want: usize) -> Vec<(f64, String)> {
        let (low, high) = (self.scale.low, self.scale.high);
        let (mut values, mut step) = ticks(low, high, want);
        if self.whole && step < 1.0 {
            (values, step) = ((low.ceil() as i64..=high.floor() as i64).map(|i| i as f64).collect(), 1.0);
        }
        values.into_iter().map(|v| (v, tick(v, step, low.abs().max(high.abs())))).collect()
    }
}

/// Draws grid, ticks, zero lines and names of the axes around `plot`, which leaves 64 units to its left and 52
/// below.
pub fn draw(drawing: &mut Drawing, plot: &Rect, x: Axis, y: Axis) {
    let class = |value: f64| if value == 0.0 { "axis" } else { "grid" };
    // Zero lines last, over the grid.
    let zero_last = |mut ticks: Vec<(f64, String)>| {
        ticks.sort_by_key(|(value, _)| *value == 0.0);
        ticks
    };
    let (x_ticks, y_ticks) = (zero_last(x.ticks(8)), zero_last(y.ticks(7)));
    for (value, label) in &x_ticks {
        let at = x.scale.at(*value);
        drawing.line((at, plot.top), (at, plot.bottom), class(*value));
        drawing.text(at, plot.bottom + 14.0, 11.5, Anchor::Middle, "soft", label);
    }
    for (value, label) in &y_ticks {
        let at = y.scale.at(*value);
        drawing.line((plot.left, at), (plot.right, at), class(*value));
        drawing.text(plot.left - 8.0, at, 11.5, Anchor::End, "soft", label);
    }
    let name = text::fit(x.name, 13.0, plot.right - plot.left);
    drawing.text((plot.left + plot.right) / 2.0, plot.bottom + 36.0, 13.0, Anchor::Middle, "ink", &name);
    let name = text::fit(y.name, 13.0, plot.bottom - plot.top);
    drawing.turned((14.0, (plot.top + plot.bottom) / 2.0), -90.0, 13.0, Anchor::Middle, "ink", &name);
}
