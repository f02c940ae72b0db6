//! Every headline number over the layers: one figure a model, and a table. Knows no analysis by name.

use anyhow::{Context, Result};

use super::comparison::distinct;
use super::{Analysed, Shown};
use crate::report::Section;
use crate::report::figure::{Body, Figure, Multiples, Plot, Series, layer_axis};
use crate::stages::analysis::Headline;
use crate::store::table::{Column, Table};

/// The chapter's name, and that of its table.
pub const LAYERS: &str = "layers";

/// What is shown of it, and what is written for others to plot.
pub struct Sweep {
    pub section: Section,
    pub table: Table,
}

/// A headline number with the analysis that it is from.
struct Number<'a> {
    analysis: &'a str,
    of: Headline,
}

/// The headline numbers of `analyses` over the layers; `None` where no number is known at two layers.
///
/// # Errors
/// A table without the columns that it should have.
pub fn of(shown: &Shown, analyses: &[Analysed]) -> Result<Option<Sweep>> {
    let mut numbers = Vec::new();
    for Analysed { name, analysis, tables } in analyses {
        numbers.extend(analysis.headlines(tables)?.into_iter().map(|of| Number { analysis: name, of }));
    }
    let figures = figures(&numbers);
    if figures.is_empty() {
        return Ok(None);
    }
    let n_layers = |model: &str| {
        let model = shown.resolved.models.iter().find(|m| m.name == model);
        model.map(|m| m.spec.n_layers()).context("a table of an unknown model")
    };
    let section = Section {
        id: LAYERS.to_string(),
        title: "Layers".to_string(),
        intro: format!(
            "Each number that the analyses below find, at each kept layer. The same, one a line: tables/{LAYERS}.csv."
        ),
        figures,
    };
    Ok(Some(Sweep { section, table: table(&numbers, &n_layers)? }))
}

/// One figure a model: a plot for each number that is known at two layers or more, a curve for each set of vectors.
fn figures(numbers: &[Number]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for model in distinct(numbers.iter().map(|number| number.of.model.as_str())) {
        let of_model: Vec<&Number> = numbers.iter().filter(|number| number.of.model == model).collect();
        let mut plots = Vec::new();
        for (analysis, name) in distinct(of_model.iter().map(|n| (n.analysis, n.of.name.as_str()))) {
            let here = of_model.iter().filter(|n| n.analysis == analysis && n.of.name == name);
            let here: Vec<&Headline> = here.map(|number| &number.of).collect();
            let sets = distinct(here.iter().map(|number| set(number)));
            let curve = |name: String| {
                let mut here: Vec<&&Headline> = here.iter().filter(|n| set(n) == name).collect();
                here.sort_by_key(|number| number.layer);
                let ends =
                    |number: &&&Headline| number.interval.map_or((f64::NAN, f64::NAN), |i| (i.low, i.high));
                let intervals = match here.iter().any(|number| number.interval.is_some()) {
                    true => here.iter().map(ends).collect(),
                    false => Vec::new(),
                };
                Series { name, points: here.iter().map(|number| point(number)).collect(), intervals }
            };
            let mut series: Vec<Series> = sets.into_iter().map(curve).collect();
            series.retain(|series| series.points.len() > 1);
            if !series.is_empty() {
                plots.push(Plot { title: format!("{analysis}: {name}"), series });
            }
        }
        if plots.is_empty() {
            continue;
        }
        figures.push(Figure {
            name: LAYERS.to_string(),
            title: "Every number by layer".to_string(),
            caption: "A plot for each number, a curve for each source of stories, with the 95 % intervals that are known. What \
                rises with depth is made by the model; what stands at the first layers already is in the words."
                .to_string(),
            model: Some(model.to_string()),
            stories: None,
            layer: None,
            axes: Vec::new(),
            body: Body::Multiples(Multiples { x: layer_axis(of_model.iter().map(|n| n.of.layer)), plots }),
        });
    }
    figures
}

/// What tells the sets of vectors of one model apart.
fn set(number: &Headline) -> String {
    let axes = number.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
    std::iter::once(number.stories.clone()).chain(axes).collect::<Vec<_>>().join(", ")
}

fn point(number: &Headline) -> (f64, f64) {
    (number.layer.number().into(), number.value)
}

/// The table `layers`: a number a line.
fn table(numbers: &[Number], n_layers: &dyn Fn(&str) -> Result<usize>) -> Result<Table> {
    let strings = |f: &dyn Fn(&Number) -> String| Column::Str(numbers.iter().map(f).collect());
    let variant = |n: &Number| {
        n.of.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(", ")
    };
    let depths = numbers.iter().map(|n| Ok(n.of.layer.depth(n_layers(&n.of.model)?)));
    let depths = depths.collect::<Result<Vec<_>>>()?;
    Ok(Table::new(
        "layers/1",
        vec![
            ("model", strings(&|n| n.of.model.clone())),
            ("stories", strings(&|n| n.of.stories.clone())),
            ("variant", strings(&variant)),
            ("layer", Column::I32(numbers.iter().map(|n| n.of.layer.number()).collect())),
            ("depth", Column::F64(depths)),
            ("analysis", strings(&|n| n.analysis.to_string())),
            ("name", strings(&|n| n.of.name.clone())),
            ("value", Column::F64(numbers.iter().map(|n| n.of.value).collect())),
            ("low", Column::OptF64(numbers.iter().map(|n| n.of.interval.map(|i| i.low)).collect())),
            ("high", Column::OptF64(numbers.iter().map(|n| n.of.interval.map(|i| i.high)).collect())),
            ("p", Column::OptF64(numbers.iter().map(|n| n.of.p).collect())),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::Layer;

    fn number(
        analysis: &'static str,
        stories: &str,
        layer: Layer,
        name: &str,
        value: f64,
    ) -> Number<'static> {
        let of = Headline {
            model: "m".into(),
            stories: stories.into(),
            axes: vec![],
            layer,
            name: name.into(),
            value,
            decimals: 1,
            published: vec![],
            interval: None,
            p: None,
        };
        Number { analysis, of }
    }

    #[test]
    fn a_plot_a_number_a_curve_a_source_and_nothing_of_one_layer() {
        let numbers = [
            number("space", "own", Layer::Block(2), "PC1", 0.5),
            number("space", "own", Layer::Block(2), "PC2", 0.25),
            number("space", "own", Layer::Embed, "PC1", 0.125),
            number("space", "file", Layer::Block(2), "PC1", 0.75),
            number("words", "own", Layer::Block(2), "rank", 7.0),
            number("words", "own", Layer::Block(0), "rank", 9.0),
        ];
        let figures = figures(&numbers);
        assert_eq!((figures.len(), figures[0].model.as_deref()), (1, Some("m")));
        let Body::Multiples(Multiples { x, plots }) = &figures[0].body else { panic!("{figures:?}") };
        assert_eq!(x, "layer (-1: embed)");
        let wanted =
            [("space: PC1", vec![(-1.0, 0.125), (2.0, 0.5)]), ("words: rank", vec![(0.0, 9.0), (2.0, 7.0)])];
        for (plot, (title, points)) in plots.iter().zip(wanted) {
            assert_eq!(plot.title, title);
            assert_eq!(plot.series, [Series { name: "own".into(), points, ..Series::default() }]);
        }
        assert_eq!(plots.len(), 2);
        let table = table(&numbers, &|_| Ok(4)).unwrap();
        assert_eq!(table.f64("depth").unwrap(), [0.625, 0.625, 0.0, 0.625, 0.625, 0.125]);
        assert_eq!(table.i32("layer").unwrap(), [2, 2, -1, 2, 2, 0]);
    }
}
