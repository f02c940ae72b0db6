//! Draws curves over one axis, with bands behind them and a legend. Colour, marker and dashes together distinguish the
//! curves.

use super::super::figure::{Band, Lines, Series};
use super::super::markup::escape;
use super::super::number::{place, short};
use super::axes::{self, Axis};
use super::colour::SERIES;
use super::labels::Rect;
use super::scale::{Scale, extent};
use super::{Anchor, Drawing, WIDTH, text};

const SIZE: f64 = 12.0;
/// Names in the legend wider than this are truncated with an ellipsis.
const LONGEST: f64 = 330.0;
/// Curves with more points than this have no markers.
const MARKED: usize = 60;
const DASHES: [&str; 4] =
    ["", " stroke-dasharray=\"7 3\"", " stroke-dasharray=\"2 3\"", " stroke-dasharray=\"9 3 2 3\""];

pub fn draw(lines: &Lines) -> Drawing {
    let summary = format!("{} curves of {} over {}", lines.series.len(), lines.y, lines.x);
    let along = |x: f64| if lines.log { x.log10() } else { x };
    let curves = lines.series.iter().flat_map(|s| &s.points).map(|&(x, y)| (x, y));
    let edges = lines.bands.iter().flat_map(|b| &b.points).flat_map(|&(x, low, high)| [(x, low), (x, high)]);
    let all: Vec<(f64, f64)> = curves.chain(edges).map(|(x, y)| (along(x), y)).collect();
    let finite = || all.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
    if finite().next().is_none() {
        return Drawing::empty(summary);
    }
    let names: Vec<&str> = lines.series.iter().map(|series| series.name.as_str()).collect();
    let all: Vec<&str> =
        names.iter().copied().chain(lines.bands.iter().map(|band| band.name.as_str())).collect();
    let (places, legend_height) = legend(&all);
    let top = legend_height + 14.0;
    let height = top + 400.0 + 52.0;
    let plot = Rect { left: 64.0, top, right: WIDTH - 14.0, bottom: height - 52.0 };
    let x = Scale::new(extent(finite().map(|p| p.0), 0.02), (plot.left, plot.right));
    let ends = lines.series.iter().flat_map(|s| &s.intervals).flat_map(|&(low, high)| [low, high]);
    let y = Scale::new(extent(finite().map(|p| p.1).chain(ends), 0.06), (plot.bottom, plot.top));
    let mut drawing = Drawing::new(WIDTH, height, summary);
    let whole = !lines.log && finite().all(|(x, _)| x.fract() == 0.0);
    let across = |value: f64| x.at(along(value));
    for band in &lines.bands {
        self::band(&mut drawing, band, "class=\"band\"", &across, &y);
    }
    axes::draw(
        &mut drawing,
        &plot,
        Axis { scale: &x, name: &lines.x, whole, log: lines.log },
        Axis { scale: &y, name: &lines.y, whole: false, log: false },
        &axes::FULL,
    );
    for (i, series) in lines.series.iter().enumerate() {
        curve(&mut drawing, i, series, &across, &y);
    }
    entries(&mut drawing, &names, &places);
    for (band, &(left, top)) in lines.bands.iter().zip(&places[names.len()..]) {
        drawing.rect((left, top - 6.0), (26.0, 12.0), "band", "");
        drawing.text(left + 33.0, top, SIZE, Anchor::Start, "soft", &text::fit(&band.name, SIZE, LONGEST));
    }
    drawing
}

/// Draws the entries of the legend.
pub fn entries(drawing: &mut Drawing, names: &[&str], places: &[(f64, f64)]) {
    for (i, (name, &(left, top))) in names.iter().zip(places).enumerate() {
        let (class, dash) = (i % SERIES, DASHES[i / SERIES % DASHES.len()]);
        drawing.raw(format_args!(
            "<path d=\"M{} {}h26\" class=\"s{class}\" stroke-width=\"2\"{dash}/>",
            place(left),
            place(top)
        ));
        marker(drawing, i, (left + 13.0, top), "");
        drawing.text(left + 33.0, top, SIZE, Anchor::Start, "ink", &text::fit(name, SIZE, LONGEST));
    }
}

/// Positions of the legend's entries, row by row, and its height.
pub fn legend(names: &[&str]) -> (Vec<(f64, f64)>, f64) {
    let (mut x, mut y) = (64.0, 12.0);
    let places = names
        .iter()
        .map(|name| {
            let width = 33.0 + text::width(name, SIZE).min(LONGEST);
            if x > 64.0 && x + width > WIDTH - 8.0 {
                (x, y) = (64.0, y + 20.0);
            }
            let place = (x, y);
            x += width + 22.0;
            place
        })
        .collect();
    (places, y + 8.0)
}

/// Draws a curve, interrupted at missing values, with its intervals and markers.
pub fn curve(drawing: &mut Drawing, index: usize, series: &Series, across: &dyn Fn(f64) -> f64, y: &Scale) {
    let mut path = String::new();
    let mut pen_down = false;
    for &(a, b) in &series.points {
        let drawn = across(a).is_finite() && b.is_finite();
        if drawn {
            path += &format!("{}{} {}", if pen_down { 'L' } else { 'M' }, place(across(a)), place(y.at(b)));
        }
        pen_down = drawn;
    }
    drawing.raw(format_args!(
        "<path d=\"{path}\" class=\"s{} curve\" stroke-width=\"2\" stroke-linejoin=\"round\"{}><title>{}</title></path>",
        index % SERIES,
        DASHES[index / SERIES % DASHES.len()],
        escape(&series.name)
    ));
    for (&(a, b), &(low, high)) in series.points.iter().zip(&series.intervals) {
        if [across(a), b, low, high].iter().all(|x| x.is_finite()) {
            let (at, from, to) = (place(across(a)), place(y.at(low)), place(y.at(high)));
            drawing.raw(format_args!("<path d=\"M{at} {from}V{to}\" class=\"s{}\"/>", index % SERIES));
        }
    }
    let intervals = series.intervals.iter().copied().map(Some).chain(std::iter::repeat(None));
    for (&(a, b), ends) in series.points.iter().zip(intervals) {
        if !across(a).is_finite() || !b.is_finite() {
            continue;
        }
        let ends = ends.filter(|(low, high)| low.is_finite() && high.is_finite());
        let ends = ends.map_or(String::new(), |(low, high)| format!(" [{}, {}]", short(low), short(high)));
        let title = format!("{}: {}, {}{ends}", series.name, short(a), short(b));
        let at = (across(a), y.at(b));
        match series.points.len() <= MARKED {
            true => marker(drawing, index, at, &title),
            false => unseen(drawing, at, 0.0, &title),
        }
    }
}

/// An invisible vertical line for a value without a visible mark; it carries the title.
fn unseen(drawing: &mut Drawing, (x, y): (f64, f64), down: f64, title: &str) {
    let (x, y, down) = (place(x), place(y), place(down));
    let title = escape(title);
    drawing.raw(format_args!("<path d=\"M{x} {y}v{down}\" class=\"unseen\"><title>{title}</title></path>"));
}

/// Draws the range between the lower and upper bounds; `look`: attributes of its path.
pub fn band(drawing: &mut Drawing, band: &Band, look: &str, across: &dyn Fn(f64) -> f64, y: &Scale) {
    let there = |p: &&(f64, f64, f64)| across(p.0).is_finite() && p.1.is_finite() && p.2.is_finite();
    let points: Vec<_> = band.points.iter().filter(there).collect();
    let highs = points.iter().map(|p| (p.0, p.2));
    let lows = points.iter().rev().map(|p| (p.0, p.1));
    let path: String = highs
        .chain(lows)
        .enumerate()
        .map(|(i, (a, b))| {
            format!("{}{} {}", if i == 0 { 'M' } else { 'L' }, place(across(a)), place(y.at(b)))
        })
        .collect();
    drawing.raw(format_args!("<path d=\"{path}\" {look}><title>{}</title></path>", escape(&band.name)));
    for &&(a, low, high) in &points {
        let title = format!("{}: {} to {} at {}", band.name, short(low), short(high), short(a));
        let (from, to) = (y.at(high), y.at(low));
        unseen(drawing, (across(a), from), to - from, &title);
    }
}

/// Draws a disc, square, triangle or diamond, depending on the curve's index.
fn marker(drawing: &mut Drawing, index: usize, (x, y): (f64, f64), title: &str) {
    let shape = match index % 4 {
        0 => format!("M{} {}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z", place(x - 3.6), place(y)),
        1 => format!("M{} {}h6.4v6.4h-6.4z", place(x - 3.2), place(y - 3.2)),
        2 => format!("M{} {}l4.2 7.2h-8.4z", place(x), place(y - 4.5)),
        _ => format!("M{} {}l4.4 4.4l-4.4 4.4l-4.4 -4.4z", place(x), place(y - 4.4)),
    };
    let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
    drawing.raw(format_args!("<path d=\"{shape}\" class=\"d{}\">{title}</path>", index % SERIES));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_legend_stand_above_the_plot_and_doses_at_their_logarithms() {
        let points = vec![(1.0, 0.0), (10.0, 1.0), (100.0, 0.0)];
        let bands = vec![Band { name: "null".into(), points: vec![(1.0, -1.0, 1.0), (100.0, -1.0, 1.0)] }];
        let series = vec![Series { name: "a".into(), points, ..Series::default() }];
        let marks = draw(&Lines { x: "x".into(), y: "y".into(), series, bands, log: true }).marks;
        assert!(marks.contains("M64 12h26"), "{marks}");
        // An axis of two decades, with 2 % margin on each side.
        let at = |share: f64| place(64.0 + (WIDTH - 14.0 - 64.0) * (0.02 + share) / 1.04);
        for mark in [format!("\"M{} ", at(0.0)), format!("L{} ", at(0.5)), format!("L{} ", at(1.0))] {
            assert!(marks.contains(&mark), "{mark} in {marks}");
        }
    }
}
