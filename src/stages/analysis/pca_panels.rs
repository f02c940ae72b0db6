//! The planes of the first two components of several sets of vectors, side by side. Does not depend on a model.

use std::collections::HashMap;

use anyhow::Result;

use super::groups;
use super::pca::{plane, ratios};
use crate::report::figure::{Body, Figure, Panel, Panels, Point, Scatter};
use crate::stages::statistics::correlation::pearson;
use crate::store::table::Table;

/// The maximum number of panels that is still readable.
const MOST: usize = 24;

/// One panel per set, for the first [`MOST`] sets, from tables that hold one layer of each; `None` if fewer than two
/// sets have two components.
///
/// Signs of components are arbitrary, so planes of different sets may be mirrored: each component is negated if that
/// brings its scores closer to those of the first panel.
pub fn figure(name: &str, tables: &[(String, Table)]) -> Result<Option<Figure>> {
    let variances = groups(tables, "pca_variance")?;
    let groups = groups(tables, "pca")?;
    let several_sources = groups.iter().any(|g| g.stories != groups[0].stories);
    let mut panels: Vec<Panel> = Vec::new();
    for group in &groups {
        let Some(variance) = variances.iter().find(|v| v.place() == group.place()) else { continue };
        let ratios = ratios(variance)?;
        if ratios.len() < 2 {
            continue;
        }
        let mut points = plane(group)?;
        if let Some(first) = panels.first() {
            turn_over(&mut points, &first.plane.points);
        }
        let axis = |at: usize| format!("PC{} ({:.1} %)", at + 1, 100.0 * ratios[at]);
        let mut details: Vec<String> = Vec::new();
        details.extend(several_sources.then(|| group.stories.to_string()));
        details.extend(group.axes().iter().map(|(axis, value)| format!("{axis}={value}")));
        details.push(format!("layer {}", group.layer));
        panels.push(Panel {
            title: group.model.to_string(),
            details,
            plane: Scatter { x: axis(0), y: axis(1), points },
        });
    }
    let all = panels.len();
    panels.truncate(MOST);
    let left_out = if all > MOST { format!(" The first {MOST} of {all} sets.") } else { String::new() };
    Ok((panels.len() > 1).then(|| Figure {
        name: format!("{name}-planes"),
        title: "Emotion space, side by side".into(),
        caption: format!(
            "Each panel shows one set of vectors on its own first two principal components, with the share of variance \
             that each explains; each panel has its own scale. The sign of a component is arbitrary: in this figure \
             only, components are flipped so that their scores correlate positively with the first panel's over the \
             emotions in common. Components are not exchanged or rotated.{left_out}"
        ),
        model: None,
        stories: None,
        layer: None,
        axes: Vec::new(),
        body: Body::Panels(Panels { panels }),
    }))
}

/// Negates either coordinate of `points` if it correlates negatively with that of `first` over the common labels.
fn turn_over(points: &mut [Point], first: &[Point]) {
    let there: HashMap<&str, &Point> = first.iter().map(|p| (p.label.as_str(), p)).collect();
    let common: Vec<(&Point, &Point)> =
        points.iter().filter_map(|p| Some((p, *there.get(p.label.as_str())?))).collect();
    let mirrored = |of: fn(&Point) -> f64| {
        let (here, there): (Vec<f64>, Vec<f64>) = common.iter().map(|(p, q)| (of(p), of(q))).unzip();
        pearson(&here, &there) < 0.0
    };
    let (mirror_x, mirror_y) = (mirrored(|p| p.x), mirrored(|p| p.y));
    for point in points {
        if mirror_x {
            point.x = -point.x;
        }
        if mirror_y {
            point.y = -point.y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pca::{Pca, run};
    use super::super::tests::set;
    use super::super::{Tables, VectorSet};
    use super::*;

    fn points(list: &[(&str, f64, f64)]) -> Vec<Point> {
        list.iter().map(|&(label, x, y)| Point { label: label.into(), x, y }).collect()
    }

    #[test]
    fn each_component_is_turned_over_on_its_own_over_common_emotions() {
        let first = points(&[("a", 1.0, 5.0), ("b", 2.0, 4.0), ("c", 3.0, 0.0)]);
        let check = |list: &[(&str, f64, f64)], wanted: &[(&str, f64, f64)]| {
            let mut got = points(list);
            turn_over(&mut got, &first);
            assert_eq!(got, points(wanted));
        };
        // x falls where the first panel's rises; y falls in both.
        check(
            &[("a", 3.0, 3.0), ("b", 2.0, 2.0), ("c", 1.0, 1.0)],
            &[("a", -3.0, 3.0), ("b", -2.0, 2.0), ("c", -1.0, 1.0)],
        );
        // `d` would reverse the correlation of x, but is not in the first panel.
        check(
            &[("c", 3.0, 1.0), ("a", 1.0, 0.0), ("d", -99.0, 7.0)],
            &[("c", 3.0, -1.0), ("a", 1.0, -0.0), ("d", -99.0, -7.0)],
        );
        check(&[("c", -3.0, 1.0), ("d", 4.0, 0.0)], &[("c", -3.0, 1.0), ("d", 4.0, 0.0)]);
    }

    #[test]
    fn one_panel_a_set_where_there_are_several() {
        let of = |sets: &[VectorSet]| {
            let mut all: Tables = Vec::new();
            for set in sets {
                for (name, table) in run(&Pca { components: 3 }, set).unwrap() {
                    match all.iter_mut().find(|(n, _)| *n == name) {
                        Some((_, known)) => known.append(table).unwrap(),
                        None => all.push((name, table)),
                    }
                }
            }
            figure("space", &all).unwrap()
        };
        let one = set(&["a", "b", "c", "d"], &[&[4.0, 1.0], &[-2.0, 1.0], &[1.0, 2.0], &[1.0, 0.0]]);
        // Mirrored along the first axis: the same plane once its signs are aligned with the first one.
        let mut two = set(&["a", "b", "c", "d"], &[&[-4.0, 1.0], &[2.0, 1.0], &[-1.0, 2.0], &[-1.0, 0.0]]);
        two.model = "n".into();
        // Two emotions have one component.
        let mut three = set(&["a", "b"], &[&[1.0, 0.0], &[0.0, 1.0]]);
        three.model = "o".into();
        assert_eq!(of(&[one.clone(), three.clone()]), None);
        let figure = of(&[one, two, three]).unwrap();
        assert_eq!((&figure.model, &figure.stories, figure.layer), (&None, &None, None));
        let Body::Panels(Panels { panels }) = &figure.body else { panic!() };
        let titles: Vec<_> = panels.iter().map(|p| (p.title.as_str(), p.details.as_slice())).collect();
        assert_eq!(titles, [("m", ["layer 3".to_string()].as_slice()), ("n", &["layer 3".to_string()])]);
        assert_eq!(panels[0].plane.x, "PC1 (90.0 %)");
        for (a, b) in panels[0].plane.points.iter().zip(&panels[1].plane.points) {
            assert!((a.x - b.x).abs() < 1e-12 && (a.y - b.y).abs() < 1e-12, "{a:?} {b:?}");
        }
    }
}
