//! `[analysis.<name>.scale]`: the claims on all models over the number of parameters and over the depth. Independent
//! of the individual analyses.

use std::path::Path;

use anyhow::{Context, Result};

use super::claims::Found;
use super::comparison::distinct;
use super::{Shown, metadata, write_table};
use crate::config::Scale;
use crate::lm::Layer;
use crate::plan::Work;
use crate::report::Section;
use crate::report::figure::{Body, Cell, Figure, Lines, Panel, Panels, Point, Scatter, Series, TableFigure};
use crate::resolve::Model;
use crate::stages::across::{spearman, spearman_p};

use crate::stages::analysis::Claim;
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::store::table::{Column, Table};

/// The tables and figures of one `scale`.
pub struct Trends {
    name: String,
    tables: [(&'static str, Table); 3],
    pub section: Section,
}

/// One number of one set of vectors at all of its layers.
struct Metric<'a> {
    analysis: &'a str,
    name: String,
    model: &'a Model,
    stories: &'a str,
    axes: &'a [(String, String)],
    /// In ascending order.
    layers: Vec<(Layer, f64)>,
}

impl Metric<'_> {
    /// The value at the layer nearest to two thirds of the depth.
    fn value(&self) -> f64 {
        let layers: Vec<Layer> = self.layers.iter().map(|(layer, _)| *layer).collect();
        let wanted = nearest_two_thirds(&layers, self.model.spec.n_layers());
        self.layers.iter().find(|(layer, _)| *layer == wanted).map_or(f64::NAN, |(_, value)| *value)
    }

    fn depths(&self) -> Vec<(f64, f64)> {
        let n_layers = self.model.spec.n_layers();
        self.layers.iter().map(|&(layer, value)| (layer.depth(n_layers), value)).collect()
    }

    /// The rank correlation with the depth; `None` for two or fewer layers, or if the value is constant.
    fn along(&self) -> Option<f64> {
        let (depths, values): (Vec<f64>, Vec<f64>) = self.depths().into_iter().unzip();
        Some(spearman(&depths, &values)).filter(|rho| depths.len() > 2 && rho.is_finite())
    }

    fn variant(&self) -> String {
        self.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(", ")
    }

    /// Identifies metrics that are compared between models: those with the same place differ only in the model.
    fn place(&self) -> (&str, &str, &str, &[(String, String)]) {
        (self.analysis, &self.name, self.stories, self.axes)
    }
}

/// Every `scale` of the experiment that has numbers.
pub fn trends(shown: &Shown, claims: &[Found]) -> Result<Vec<Trends>> {
    let models = &shown.resolved.models;
    let mut all = Vec::new();
    for scale in &shown.resolved.experiment.scale {
        let metrics = metrics(
            claims.iter().filter(|found| found.claim.other.is_none() && scale.shows(&found.analysis)),
            models,
        )?;
        if !metrics.is_empty() && shown.resolved.readers().count() > 1 {
            all.push(one(scale, &metrics, shown.resolved.experiment.seed));
        }
    }
    Ok(all)
}

fn metrics<'a>(claims: impl Iterator<Item = &'a Found>, models: &'a [Model]) -> Result<Vec<Metric<'a>>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for Found { analysis, claim, .. } in claims {
        let model = models.iter().find(|model| model.name == claim.model);
        let model = model.with_context(|| format!("a table of the unknown model `{}`", claim.model))?;
        let Claim { stories, axes, layer, estimate, .. } = claim;
        let name = claim.name();
        let place = (analysis.as_str(), name.as_str(), stories.as_str(), axes.as_slice());
        let known = metrics.iter_mut().find(|m| m.place() == place && m.model.name == model.name);
        match known {
            Some(metric) => metric.layers.push((*layer, *estimate)),
            None => metrics.push(Metric {
                analysis,
                name,
                model,
                stories,
                axes,
                layers: vec![(*layer, *estimate)],
            }),
        }
    }
    metrics.iter_mut().for_each(|metric| metric.layers.sort_by_key(|(layer, _)| *layer));
    Ok(metrics)
}

/// The models of one metric, source and variant.
struct Group<'a> {
    metrics: Vec<&'a Metric<'a>>,
    rho: f64,
    p: Option<f64>,
}

impl Group<'_> {
    fn first(&self) -> &Metric<'_> {
        self.metrics[0]
    }
}

fn one(scale: &Scale, metrics: &[Metric], seed: u64) -> Trends {
    let places = distinct(metrics.iter().map(Metric::place));
    let groups = places.into_iter().map(|place| {
        let metrics: Vec<&Metric> = metrics.iter().filter(|metric| metric.place() == place).collect();
        let parameters: Vec<f64> = metrics.iter().map(|m| m.model.spec.n_params() as f64).collect();
        let values: Vec<f64> = metrics.iter().map(|m| m.value()).collect();
        let rho = spearman(&parameters, &values);
        let p = spearman_p(&parameters, &values, scale.permutations, seed);
        Group { metrics, rho, p }
    });
    let groups: Vec<Group> = groups.collect();
    Trends {
        name: scale.name.clone(),
        tables: [
            ("scale", points(metrics)),
            ("scale_parameters", over_models(&groups)),
            ("scale_depth", over_depth(metrics)),
        ],
        section: Section {
            id: scale.name.clone(),
            title: "Over models and depth".to_string(),
            intro: "How the estimates of single models change with the models' size, and with the depth in each model."
                .to_string(),
            figures: figures(&scale.name, &groups),
            ..Section::default()
        },
    }
}

/// One row per number and layer.
fn points(metrics: &[Metric]) -> Table {
    let lines: Vec<(&Metric, Layer, f64)> =
        metrics.iter().flat_map(|m| m.layers.iter().map(move |&(layer, value)| (m, layer, value))).collect();
    let text = |of: &dyn Fn(&Metric) -> String| Column::Str(lines.iter().map(|(m, ..)| of(m)).collect());
    let layers = |m: &Metric| m.model.spec.n_layers();
    Table::new(
        "scale/1",
        vec![
            ("model", text(&|m| m.model.name.clone())),
            ("stories", text(&|m| m.stories.to_string())),
            ("variant", text(&|m| m.variant())),
            ("layer", Column::I32(lines.iter().map(|(_, layer, _)| layer.number()).collect())),
            ("depth", Column::F64(lines.iter().map(|(m, layer, _)| layer.depth(layers(m))).collect())),
            ("n_layers", Column::I32(lines.iter().map(|(m, ..)| layers(m) as i32).collect())),
            (
                "n_params",
                Column::OptI64(lines.iter().map(|(m, ..)| Some(m.model.spec.n_params() as i64)).collect()),
            ),
            ("analysis", text(&|m| m.analysis.to_string())),
            ("name", text(&|m| m.name.clone())),
            ("value", Column::F64(lines.iter().map(|(.., value)| *value).collect())),
        ],
    )
}

/// The smallest p-value possible with `n` models: of all orders, the ascending and the descending one.
fn least_p(n: usize) -> f64 {
    2.0 / (1..=n).map(|i| i as f64).product::<f64>().max(2.0)
}

/// Correlations with the number of parameters, over models. Undefined ones are omitted.
fn over_models(groups: &[Group]) -> Table {
    let groups: Vec<(&Group, f64)> = groups.iter().filter_map(|group| Some((group, group.p?))).collect();
    let metrics: Vec<&Metric> = groups.iter().map(|(group, _)| group.first()).collect();
    let number =
        |of: &dyn Fn(&Group, f64) -> f64| Column::F64(groups.iter().map(|(g, p)| of(g, *p)).collect());
    let columns = vec![
        ("models", Column::I32(groups.iter().map(|(group, _)| group.metrics.len() as i32).collect())),
        ("spearman", number(&|group, _| group.rho)),
        ("p", number(&|_, p| p)),
        ("least_p", number(&|group, _| least_p(group.metrics.len()))),
    ];
    Table::new("scale_parameters/1", named(&metrics).into_iter().chain(columns).collect())
}

/// Correlations with the depth, over the layers of each model. Undefined ones are omitted.
fn over_depth(metrics: &[Metric]) -> Table {
    let found: Vec<(&Metric, f64)> = metrics.iter().filter_map(|m| Some((m, m.along()?))).collect();
    let metrics: Vec<&Metric> = found.iter().map(|(metric, _)| *metric).collect();
    let columns = vec![
        ("model", Column::Str(metrics.iter().map(|m| m.model.name.clone()).collect())),
        ("layers", Column::I32(metrics.iter().map(|m| m.layers.len() as i32).collect())),
        ("spearman", Column::F64(found.iter().map(|(_, rho)| *rho).collect())),
    ];
    Table::new("scale_depth/1", named(&metrics).into_iter().chain(columns).collect())
}

/// The columns that identify the number, stories and variant of a row.
fn named(metrics: &[&Metric]) -> Vec<(&'static str, Column)> {
    let text = |of: &dyn Fn(&Metric) -> String| Column::Str(metrics.iter().map(|m| of(m)).collect());
    vec![
        ("analysis", text(&|m| m.analysis.to_string())),
        ("name", text(&|m| m.name.clone())),
        ("stories", text(&|m| m.stories.to_string())),
        ("variant", text(&|m| m.variant())),
    ]
}

/// For each source and variant: the points of all models, a table of correlations, and curves over the depth.
fn figures(name: &str, groups: &[Group]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (stories, axes) in distinct(groups.iter().map(|group| (group.first().stories, group.first().axes))) {
        let here = |group: &&Group| (group.first().stories, group.first().axes) == (stories, axes);
        let here: Vec<&Group> = groups.iter().filter(here).collect();
        let figure = |part: &str, title: &str, caption: String, body: Body| Figure {
            name: format!("{name}-{part}"),
            title: title.to_string(),
            caption,
            model: None,
            stories: Some(stories.to_string()),
            layer: None,
            axes: axes.to_vec(),
            body,
        };
        let analyses = distinct(here.iter().map(|group| group.first().analysis));
        for analysis in &analyses {
            let of = here.iter().filter(|group| group.first().analysis == *analysis);
            let panels = Body::Panels(Panels { panels: of.map(|group| panel(group)).collect() });
            let caption =
                "A point is a model, at its kept layer nearest to two thirds of the depth.".to_string();
            let title = format!("{analysis} by number of parameters");
            figures.push(figure(&format!("{analysis}-parameters"), &title, caption, panels));
        }
        figures.push(figure(
            "correlations",
            "Correlations with size and depth",
            caption(&here),
            table(&here),
        ));
        for group in here.iter().filter(|group| group.metrics.iter().any(|m| m.layers.len() > 1)) {
            let series = group.metrics.iter().filter(|metric| metric.layers.len() > 1);
            let series = series
                .map(|m| Series { name: m.model.name.clone(), points: m.depths(), ..Series::default() })
                .collect();
            let metric = &group.first().name;
            let lines =
                Lines { x: "relative depth".into(), y: metric.to_string(), series, ..Lines::default() };
            let caption = "Block l of n has the depth (l + 0.5) / n.".to_string();
            let mut curves = figure("depth", "Over the depth", caption, Body::Lines(lines));
            curves.axes.push(("metric".to_string(), format!("{}: {metric}", group.first().analysis)));
            figures.push(curves);
        }
    }
    figures
}

fn panel(group: &Group) -> Panel {
    let point = |metric: &&Metric| Point {
        label: metric.model.name.clone(),
        x: (metric.model.spec.n_params() as f64).log10(),
        y: metric.value(),
    };
    let plane = Scatter {
        x: "log10 of parameters".into(),
        y: String::new(),
        points: group.metrics.iter().map(point).collect(),
    };
    let rho = if group.rho.is_finite() { format!("rho = {:.2}", group.rho) } else { String::new() };
    Panel { title: group.first().name.clone(), details: vec![rho], plane }
}

fn caption(groups: &[&Group]) -> String {
    let n = groups.iter().map(|group| group.metrics.len()).max().unwrap_or_default();
    let least = least_p(n);
    let nothing = match least > 0.05 {
        true => ": nothing can be concluded from so few",
        false => "",
    };
    format!(
        "Spearman's rank correlation of each estimate with the number of parameters, over models, and with the depth, \
         over the layers of each model. p, two-sided: over all permutations of the models (random ones for more than \
         eight models); with {n} models of different sizes it cannot be below {least:.2}{nothing}. For the depth no p \
         is given, since neighbouring layers are not independent."
    )
}

fn table(groups: &[&Group]) -> Body {
    let models =
        distinct(groups.iter().flat_map(|group| group.metrics.iter().map(|m| m.model.name.as_str())));
    let number =
        |value: f64, decimals| if value.is_finite() { Cell::Number(value, decimals) } else { Cell::Empty };
    let row = |group: &&Group| {
        let mut row = vec![
            Cell::Text(group.first().analysis.to_string()),
            Cell::Text(group.first().name.clone()),
            Cell::Number(group.metrics.len() as f64, 0),
            number(group.rho, 2),
            number(group.p.unwrap_or(f64::NAN), 3),
        ];
        row.extend(models.iter().map(|model| {
            let metric = group.metrics.iter().find(|metric| metric.model.name == *model);
            let rho = metric.and_then(|metric| metric.along());
            number(rho.unwrap_or(f64::NAN), 2)
        }));
        row
    };
    let heads = ["analysis", "number", "models", "rho with parameters", "p"].map(String::from);
    let heads = heads.into_iter().chain(models.iter().map(|model| format!("rho with depth: {model}")));
    Body::Table(TableFigure { columns: heads.collect(), rows: groups.iter().map(row).collect() })
}

/// Writes `tables/<name>.*`, and the correlations as `<name>.scale_parameters.*` and `<name>.scale_depth.*`.
pub fn write(shown: &Shown, all: &[Trends], dir: &Path) -> Result<()> {
    let nodes = shown.plan.nodes.iter().filter(|node| matches!(node.work, Work::Analysis { .. }));
    let metadata = metadata(shown.resolved, nodes);
    for Trends { name, tables, .. } in all {
        for (at, (table_name, table)) in tables.iter().enumerate() {
            let stem = if at == 0 { name.clone() } else { format!("{name}.{table_name}") };
            write_table(table, &dir.join("tables").join(stem), &metadata)?;
        }
    }
    Ok(())
}
