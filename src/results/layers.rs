//! Every claim over the layers: one figure per model. Independent of the individual analyses.

use super::claims::{CLAIMS, Found};
use super::comparison::distinct;
use crate::report::Section;
use crate::report::figure::{Body, Figure, Multiples, Plot, Series, layer_axis};

/// The chapter's name.
pub const LAYERS: &str = "layers";

/// The claims over the layers; `None` where no claim is made at two layers.
pub fn section(found: &[Found]) -> Option<Section> {
    let figures = figures(found);
    (!figures.is_empty()).then(|| Section {
        id: LAYERS.to_string(),
        title: "Layers".to_string(),
        intro: format!(
            "Each value that the analyses below estimate, at each kept layer. The same in long form: \
             tables/{CLAIMS}.csv."
        ),
        figures,
        tables: vec![format!("tables/{CLAIMS}")],
        ..Section::default()
    })
}

/// One figure per model: a plot for each number known at two or more layers, with one curve per set of vectors.
fn figures(found: &[Found]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for model in distinct(found.iter().map(|found| found.claim.model.as_str())) {
        let of_model: Vec<&Found> = found.iter().filter(|found| found.claim.model == model).collect();
        let mut plots = Vec::new();
        for (analysis, name) in distinct(of_model.iter().map(|f| (f.analysis.as_str(), f.claim.name()))) {
            let here = of_model.iter().filter(|f| f.analysis == analysis && f.claim.name() == name);
            let here: Vec<&Found> = here.copied().collect();
            let sets = distinct(here.iter().map(|found| set(found)));
            let mut series: Vec<Series> = sets.into_iter().flat_map(|set| curves(&here, set)).collect();
            series.retain(|series| series.points.len() > 1);
            if !series.is_empty() {
                plots.push(Plot { title: format!("{analysis}: {name}"), series, bands: Vec::new() });
            }
        }
        if plots.is_empty() {
            continue;
        }
        figures.push(Figure {
            name: LAYERS.to_string(),
            title: "Every estimate by layer".to_string(),
            caption: "One plot per estimate, one curve per source of stories, with 95 % intervals where available; for \
                 tested estimates also the mean of the null. What increases with depth is computed by the model; what \
                 is already there in the first layers is a property of the words."
                .to_string(),
            model: Some(model.to_string()),
            stories: None,
            layer: None,
            axes: Vec::new(),
            body: Body::Multiples(Multiples { x: layer_axis(of_model.iter().map(|f| f.claim.layer)), plots }),
        });
    }
    figures
}

/// The estimates of the claims on one set over the layers, and the means of their nulls.
fn curves(claims: &[&Found], name: String) -> [Series; 2] {
    let mut here: Vec<&Found> = claims.iter().filter(|found| set(found) == name).copied().collect();
    here.sort_by_key(|found| found.claim.layer);
    let x = |found: &Found| f64::from(found.claim.layer.number());
    let ends = |found: &&Found| found.claim.ends().map_or((f64::NAN, f64::NAN), |i| (i.low, i.high));
    let intervals = match here.iter().any(|found| found.claim.interval.is_some()) {
        true => here.iter().map(ends).collect(),
        false => Vec::new(),
    };
    let null = |found: &&Found| Some((x(found), found.claim.null.as_ref()?.mean?));
    let (null, null_name) = (here.iter().filter_map(null).collect(), format!("{name}: null"));
    [
        Series {
            name,
            points: here.iter().map(|found| (x(found), found.claim.estimate)).collect(),
            intervals,
        },
        Series { name: null_name, points: null, ..Series::default() },
    ]
}

/// Distinguishes the sets of vectors of one model.
fn set(found: &Found) -> String {
    let axes = found.claim.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
    let other = found.claim.other.iter().map(|other| format!("beside {other}"));
    std::iter::once(found.claim.stories.clone()).chain(axes).chain(other).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::claims::tests::found;
    use super::*;
    use crate::lm::Layer;

    #[test]
    fn a_plot_a_claim_a_curve_a_source_and_nothing_of_one_layer() {
        let mut all = [
            found("space", "own", Layer::Block(2), "PC1", 0.5, Some(0.1)),
            found("space", "own", Layer::Block(2), "PC2", 0.25, None),
            found("space", "own", Layer::Embed, "PC1", 0.125, Some(0.1)),
            found("space", "file", Layer::Block(2), "PC1", 0.75, None),
            found("words", "own", Layer::Block(2), "rank", 7.0, None),
            found("words", "own", Layer::Block(0), "rank", 9.0, None),
        ];
        for of in &mut all {
            if let Some(null) = &mut of.claim.null {
                null.mean = Some(0.0625);
            }
        }
        let figures = figures(&all);
        assert_eq!((figures.len(), figures[0].model.as_deref()), (1, Some("m")));
        let Body::Multiples(Multiples { x, plots }) = &figures[0].body else { panic!("{figures:?}") };
        assert_eq!(x, "layer (-1: embed)");
        let curve = |name: &str, points: [(f64, f64); 2]| Series {
            name: name.into(),
            points: points.to_vec(),
            ..Series::default()
        };
        assert_eq!(plots.len(), 2);
        assert_eq!(plots[0].title, "space: PC1");
        let wanted =
            [curve("own", [(-1.0, 0.125), (2.0, 0.5)]), curve("own: null", [(-1.0, 0.0625), (2.0, 0.0625)])];
        assert_eq!(plots[0].series, wanted);
        assert_eq!(plots[1].title, "words: rank");
        assert_eq!(plots[1].series, [curve("own", [(0.0, 9.0), (2.0, 7.0)])]);
    }
}
