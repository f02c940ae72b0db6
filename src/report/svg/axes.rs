//! The two axes of a plot: grid, ticks, zero lines, names. Independent of the plotted data.

use super::super::number::{decimals, fixed, tick};
use super::labels::Rect;
use super::scale::{Scale, log_ticks, ticks};
use super::{Anchor, Drawing, text};

/// One axis.
pub struct Axis<'a> {
    pub scale: &'a Scale,
    pub name: &'a str,
    /// Values are counts or indices: ticks only at integers.
    pub whole: bool,
    /// The scale holds the base-10 logarithms of the values.
    pub log: bool,
}

/// Font sizes, distances of the names from the plot, and approximate numbers of ticks.
pub struct Look {
    tick: f64,
    name: f64,
    /// Distance between the tick labels of y and the plot.
    beside: f64,
    /// Distances of the name of x below the plot, and of the name of y left of it.
    gaps: (f64, f64),
    ticks: (usize, usize),
}

/// For a plot as wide as the page: needs 64 units on its left and 52 below.
pub const FULL: Look = Look { tick: 11.5, name: 13.0, beside: 8.0, gaps: (36.0, 50.0), ticks: (8, 7) };
/// For one of several plots: needs 48 units on its left and 34 below.
pub const SMALL: Look = Look { tick: 9.0, name: 10.5, beside: 5.0, gaps: (26.0, 41.0), ticks: (5, 4) };

impl Axis<'_> {
    /// About `want` ticks with their labels.
    fn ticks(&self, want: usize) -> Vec<(f64, String)> {
        let (low, high) = (self.scale.low, self.scale.high);
        if self.log {
            return log_ticks(low, high).into_iter().map(|at| (at, power(at))).collect();
        }
        let (mut values, mut step) = ticks(low, high, want);
        if self.whole && step < 1.0 {
            (values, step) = ((low.ceil() as i64..=high.floor() as i64).map(|i| i as f64).collect(), 1.0);
        }
        values.into_iter().map(|v| (v, tick(v, step, low.abs().max(high.abs())))).collect()
    }
}

/// Ten to the power of `at` as a label with one significant digit.
fn power(at: f64) -> String {
    let value = 10f64.powf(at);
    fixed(value, decimals(value * (1.0 + 1e-9)))
}

/// Draws grid, ticks, zero lines and names of the axes around `plot`, which needs the margins that `look` requires.
pub fn draw(drawing: &mut Drawing, plot: &Rect, x: Axis, y: Axis, look: &Look) {
    // For counts and indices, zero is not special.
    let class =
        |axis: &Axis, value: f64| if value == 0.0 && !axis.log && !axis.whole { "axis" } else { "grid" };
    // Zero lines last, over the grid.
    let zero_last = |mut ticks: Vec<(f64, String)>| {
        ticks.sort_by_key(|(value, _)| *value == 0.0);
        ticks
    };
    let (x_ticks, y_ticks) = (zero_last(x.ticks(look.ticks.0)), zero_last(y.ticks(look.ticks.1)));
    for (value, label) in &x_ticks {
        let at = x.scale.at(*value);
        drawing.line((at, plot.top), (at, plot.bottom), class(&x, *value));
        drawing.text(at, plot.bottom + 2.5 + look.tick, look.tick, Anchor::Middle, "soft", label);
    }
    for (value, label) in &y_ticks {
        let at = y.scale.at(*value);
        drawing.line((plot.left, at), (plot.right, at), class(&y, *value));
        drawing.text(plot.left - look.beside, at, look.tick, Anchor::End, "soft", label);
    }
    let name = text::fit(x.name, look.name, plot.right - plot.left);
    let middle = (plot.left + plot.right) / 2.0;
    drawing.text(middle, plot.bottom + look.gaps.0, look.name, Anchor::Middle, "ink", &name);
    let name = text::fit(y.name, look.name, plot.bottom - plot.top);
    let at = (plot.left - look.gaps.1, (plot.top + plot.bottom) / 2.0);
    drawing.turned(at, -90.0, look.name, Anchor::Middle, "ink", &name);
}
