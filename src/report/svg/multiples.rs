//! Draws small plots of curves over the same axis, with a common legend.

use super::super::figure::{Multiples, Plot, Series};
use super::axes::{self, Axis};
use super::colour::SERIES;
use super::labels::Rect;
use super::lines::{band, curve, entries, legend};
use super::scale::{Scale, extent};
use super::{Anchor, Drawing, WIDTH, text};

const IN_A_ROW: usize = 3;
const GAP: f64 = 16.0;
/// Margins of a plot: for the axis on its left, and on its right.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 4.0;
const HEIGHT: f64 = 120.0;
const ABOVE: f64 = 26.0;
const BELOW: f64 = 50.0;

pub fn draw(Multiples { x: name, plots }: &Multiples) -> Drawing {
    let summary = format!("{} plots of curves over {name}", plots.len());
    let points = || plots.iter().flat_map(|plot| &plot.series).flat_map(|series| &series.points);
    let finite = || points().copied().filter(|(x, y)| x.is_finite() && y.is_finite());
    if finite().next().is_none() {
        return Drawing::empty(summary);
    }
    let names = names(plots);
    // A single curve per plot needs no legend.
    let (places, above) = if names.len() > 1 { legend(&names) } else { (Vec::new(), 0.0) };
    let (width, rows) =
        ((WIDTH - (IN_A_ROW - 1) as f64 * GAP) / IN_A_ROW as f64, plots.len().div_ceil(IN_A_ROW));
    let mut drawing =
        Drawing::new(WIDTH, above + 6.0 + rows as f64 * (ABOVE + HEIGHT + BELOW) - 8.0, summary);
    entries(&mut drawing, &names, &places);
    let whole = finite().all(|(x, _)| x.fract() == 0.0);
    let reach = extent(finite().map(|point| point.0), 0.02);
    for (at, Plot { title, series, bands }) in plots.iter().enumerate() {
        let left = (at % IN_A_ROW) as f64 * (width + GAP);
        let top = above + 6.0 + (at / IN_A_ROW) as f64 * (ABOVE + HEIGHT + BELOW) + ABOVE;
        let plot = Rect { left: left + LEFT, top, right: left + width - RIGHT, bottom: top + HEIGHT };
        let shown = text::fit(title, 11.0, width - RIGHT);
        drawing.text(left + 4.0, top - 13.0, 11.0, Anchor::Start, "ink", &shown);
        let ends = series.iter().flat_map(|series| &series.intervals).flat_map(|&(low, high)| [low, high]);
        let edges = bands.iter().flat_map(|band| &band.points).flat_map(|&(_, low, high)| [low, high]);
        let values =
            series.iter().flat_map(|series| &series.points).map(|point| point.1).chain(ends).chain(edges);
        let x = Scale::new(reach, (plot.left, plot.right));
        let y = Scale::new(extent(values, 0.08), (plot.bottom, plot.top));
        let place = |name: &str| names.iter().position(|other| *other == name).unwrap_or(0);
        for own in bands {
            let look = format!("class=\"d{}\" opacity=\".16\"", place(&own.name) % SERIES);
            band(&mut drawing, own, &look, &|value| x.at(value), &y);
        }
        axes::draw(
            &mut drawing,
            &plot,
            Axis { scale: &x, name, whole, log: false },
            Axis { scale: &y, name: "", whole: false, log: false },
            &axes::SMALL,
        );
        for series in series {
            curve(&mut drawing, place(&series.name), series, &|value| x.at(value), &y);
        }
    }
    drawing
}

/// The distinct names of all curves, in order of appearance: the index of a name determines its colour in every plot.
fn names(plots: &[Plot]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for Series { name, .. } in plots.iter().flat_map(|plot| &plot.series) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::super::figure::Band;
    use super::super::{Body, Dress, draw as svg};
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        Series { name: name.into(), points: points.to_vec(), ..Series::default() }
    }

    #[test]
    fn a_curve_has_one_colour_in_every_plot_and_one_entry_in_the_legend() {
        let plots = vec![
            Plot {
                title: "a".into(),
                series: vec![series("own", &[(0.0, 1.0), (1.0, 2.0)])],
                bands: Vec::new(),
            },
            Plot {
                title: "b".into(),
                series: vec![series("other", &[(0.0, 5.0), (1.0, 3.0)])],
                bands: Vec::new(),
            },
            Plot {
                title: "c".into(),
                series: vec![series("own", &[(0.0, 0.1)]), series("other", &[])],
                bands: vec![Band { name: "other".into(), points: vec![(0.0, 7.0, 9.0), (1.0, 7.0, 8.0)] }],
            },
        ];
        assert_eq!(names(&plots), ["own", "other"]);
        let drawing =
            svg("t", &Body::Multiples(Multiples { x: "layer".into(), plots }), Dress::Page).unwrap();
        assert_eq!(drawing.matches("<title>own</title>").count(), 2);
        assert_eq!(drawing.matches(">own</text>").count(), 1);
        // A band has the colour of its curve.
        assert_eq!(drawing.matches("class=\"d1\" opacity=\".16\"><title>other</title>").count(), 1);
        for (name, class) in [("own", "s0"), ("other", "s1")] {
            let curves = drawing
                .split("<path")
                .filter(|path| path.contains(&format!("<title>{name}</title>")) && !path.contains("opacity"));
            assert!(curves.into_iter().all(|path| path.contains(&format!("class=\"{class} "))), "{name}");
        }
    }

    #[test]
    fn plots_are_in_rows_of_three_and_nothing_is_drawn_of_nothing() {
        let plot = |i: usize| Plot {
            title: i.to_string(),
            series: vec![series("s", &[(0.0, 1.0), (1.0, 0.5)])],
            bands: Vec::new(),
        };
        let height = |n: usize| draw(&Multiples { x: "x".into(), plots: (0..n).map(plot).collect() }).height;
        assert_eq!(height(1), height(3));
        assert!(height(4) > height(3));
        let empty = Multiples { x: "x".into(), plots: vec![] };
        assert!(svg("t", &Body::Multiples(empty), Dress::Page).unwrap().contains("no finite values"));
    }
}
