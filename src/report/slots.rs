//! Assigns figures to slots of the page, collects the values of the selectors, and names the figures. Independent of
//! HTML and of the content of files.

use std::collections::{BTreeMap, BTreeSet};

use super::figure::{Body, Figure};
use super::markup::{safe_name, unique};
use super::{Report, Section};
use crate::lm::Layer;

/// A section with its figures, grouped into slots.
pub struct Chapter<'a> {
    /// Safe and unique in the page.
    pub id: String,
    pub section: &'a Section,
    pub slots: Vec<Slot<'a>>,
}

/// Figures that differ only in model, stories, layer and axes; the selectors choose one of them.
pub struct Slot<'a> {
    pub figures: Vec<Named<'a>>,
}

/// A figure and the stem of its file names, which also identifies it in links.
pub struct Named<'a> {
    pub stem: String,
    pub figure: &'a Figure,
}

/// The values offered by the selectors.
#[derive(Debug, PartialEq)]
pub struct Choices {
    /// Each model with the layer shown first, in the order of the figures.
    pub models: Vec<(String, Option<Layer>)>,
    pub stories: Vec<String>,
    /// Ascending.
    pub layers: Vec<Layer>,
    /// Each axis of the sweep with several values, and these values, in the order of the figures.
    pub axes: Vec<(String, Vec<String>)>,
}

impl Choices {
    /// The data attribute of each selector except the layer's, with the value that `figure` has for it.
    pub fn of<'a>(&self, figure: &'a Figure) -> Vec<(String, Option<&'a str>)> {
        let mut of = vec![
            ("model".to_string(), figure.model.as_deref()),
            ("stories".to_string(), figure.stories.as_deref()),
        ];
        for (at, (axis, _)) in self.axes.iter().enumerate() {
            let value = figure.axes.iter().find(|(a, _)| a == axis).map(|(_, value)| value.as_str());
            of.push((format!("axis-{at}"), value));
        }
        of
    }
}

/// Arranges the report's figures in chapters and slots, in the order of the report.
pub fn arrange(report: &Report) -> Vec<Chapter<'_>> {
    let mut ids = BTreeSet::from(
        ["main", "model", "stories", "layer", "emotion", "bar", "index", "blocks"].map(String::from),
    );
    ids.extend((0..choices(report).axes.len()).map(|at| format!("axis-{at}")));
    let mut stems = BTreeSet::new();
    let crowded = names_of_several_slots(report);
    report
        .sections
        .iter()
        .map(|section| {
            let id = unique(safe_name(&section.id), &mut ids);
            let mut slots: Vec<(SlotKey, Slot)> = Vec::new();
            for (key, figure) in keys(section) {
                let stem = unique(stem(&key, figure, crowded.contains(key.0)), &mut stems);
                let named = Named { stem, figure };
                match slots.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, slot)) => slot.figures.push(named),
                    None => slots.push((key, Slot { figures: vec![named] })),
                }
            }
            Chapter { id, section, slots: slots.into_iter().map(|(_, slot)| slot).collect() }
        })
        .collect()
}

/// The values offered by the selectors for all figures of the report.
pub fn choices(report: &Report) -> Choices {
    let figures = || report.sections.iter().flat_map(|s| &s.figures);
    let mut models: Vec<String> = Vec::new();
    let mut stories: Vec<String> = Vec::new();
    let mut axes: Vec<(String, Vec<String>)> = Vec::new();
    for figure in figures() {
        figure.model.iter().for_each(|model| add(&mut models, model));
        figure.stories.iter().for_each(|source| add(&mut stories, source));
        for (axis, value) in &figure.axes {
            let at = axes.iter().position(|(a, _)| a == axis).unwrap_or_else(|| {
                axes.push((axis.clone(), Vec::new()));
                axes.len() - 1
            });
            add(&mut axes[at].1, value);
        }
    }
    axes.retain(|(_, values)| values.len() > 1);
    let layers_of = |model: &str| -> BTreeSet<Layer> {
        figures().filter(|f| f.model.as_deref().is_none_or(|m| m == model)).filter_map(|f| f.layer).collect()
    };
    let models = models
        .into_iter()
        .map(|model| {
            let wanted = report.default_layers.get(&model).copied();
            let layers = layers_of(&model);
            let first = wanted.filter(|w| layers.contains(w)).or_else(|| default_layer(&layers));
            (model, first)
        })
        .collect();
    Choices {
        models,
        stories,
        layers: figures().filter_map(|f| f.layer).collect::<BTreeSet<_>>().into_iter().collect(),
        axes,
    }
}

/// Adds `value` to `values` unless present.
fn add(values: &mut Vec<String>, value: &str) {
    if !values.iter().any(|v| v == value) {
        values.push(value.to_string());
    }
}

/// The layer nearest to 2/3 of the last one; on a tie, the deeper one.
fn default_layer(layers: &BTreeSet<Layer>) -> Option<Layer> {
    let last = layers.last()?.number();
    layers.iter().copied().rev().min_by_key(|l| (3 * l.number()).abs_diff(2 * last))
}

/// Name, kind, and index among the figures with the same name and kind for one model, source, layer and variant.
type SlotKey<'a> = (&'a str, &'static str, usize);

fn keys(section: &Section) -> Vec<(SlotKey<'_>, &Figure)> {
    let mut seen = BTreeMap::new();
    section
        .figures
        .iter()
        .map(|figure| {
            let (name, kind) = (figure.name.as_str(), kind(&figure.body));
            let place = (&figure.model, &figure.stories, figure.layer, &figure.axes);
            let alike: &mut usize = seen.entry((name, kind, place)).or_default();
            *alike += 1;
            ((name, kind, *alike - 1), figure)
        })
        .collect()
}

fn names_of_several_slots(report: &Report) -> BTreeSet<&str> {
    let mut slots: BTreeMap<&str, BTreeSet<(usize, SlotKey)>> = BTreeMap::new();
    for (i, section) in report.sections.iter().enumerate() {
        for (key, figure) in keys(section) {
            slots.entry(&figure.name).or_default().insert((i, key));
        }
    }
    slots.into_iter().filter(|(_, slots)| slots.len() > 1).map(|(name, _)| name).collect()
}

/// `name[_kind[-2]][_model][_stories][_layer-10][_from_token-50]`, with the kind only if the name is ambiguous.
fn stem(&(name, kind, alike): &SlotKey, figure: &Figure, crowded: bool) -> String {
    let mut parts = vec![safe_name(name)];
    if crowded {
        parts.push(if alike == 0 { kind.to_string() } else { format!("{kind}-{}", alike + 1) });
    }
    parts.extend(figure.model.iter().chain(&figure.stories).map(|s| safe_name(s)));
    parts.extend(figure.layer.map(|l| format!("layer-{l}")));
    parts.extend(figure.axes.iter().map(|(axis, value)| safe_name(&format!("{axis}-{value}"))));
    parts.join("_")
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Scatter(_) => "scatter",
        Body::Panels(_) => "panels",
        Body::Multiples(_) => "multiples",
        Body::Heatmap(_) => "heatmap",
        Body::Lines(_) => "lines",
        Body::Bars(_) => "bars",
        Body::Dots(_) => "dots",
        Body::Table(_) => "table",
        Body::Texts(_) => "texts",
        Body::Samples(_) => "samples",
        Body::Code(_) => "code",
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Bars, TableFigure};
    use super::*;

    fn figure(
        name: &str,
        bars: bool,
        model: Option<&str>,
        stories: Option<&str>,
        layer: Option<usize>,
    ) -> Figure {
        let body = if bars {
            Body::Bars(Bars { y: String::new(), bars: vec![], band: String::new() })
        } else {
            Body::Table(TableFigure { columns: vec![], rows: vec![] })
        };
        Figure {
            name: name.into(),
            title: String::new(),
            caption: String::new(),
            model: model.map(Into::into),
            stories: stories.map(Into::into),
            layer: layer.map(Layer::Block),
            axes: vec![],
            body,
        }
    }

    fn report(figures: Vec<Figure>) -> Report {
        Report {
            sections: vec![Section { id: "s".into(), figures, ..Default::default() }],
            ..Default::default()
        }
    }

    fn stems(report: &Report) -> Vec<Vec<String>> {
        arrange(report)
            .into_iter()
            .flat_map(|c| c.slots)
            .map(|slot| slot.figures.into_iter().map(|f| f.stem).collect())
            .collect()
    }

    #[test]
    fn figures_that_differ_only_in_what_is_selected_share_a_slot() {
        let report = report(vec![
            figure("space", true, Some("m"), Some("own"), Some(3)),
            figure("causes", true, Some("m"), Some("own"), Some(3)),
            figure("causes", false, Some("m"), Some("own"), Some(3)),
            figure("causes", false, Some("m"), Some("own"), Some(3)),
            figure("space", true, Some("m"), Some("own"), Some(5)),
            figure("space", true, Some("n/x"), Some("own"), Some(5)),
            figure("counts", false, None, None, None),
        ]);
        assert_eq!(
            stems(&report),
            [
                vec!["space_m_own_layer-3", "space_m_own_layer-5", "space_n-x_own_layer-5"],
                vec!["causes_bars_m_own_layer-3"],
                vec!["causes_table_m_own_layer-3"],
                vec!["causes_table-2_m_own_layer-3"],
                vec!["counts"],
            ]
        );
    }

    #[test]
    fn stems_are_unique_on_every_file_system() {
        let report =
            report(vec![figure("a", true, Some("M"), None, None), figure("a", true, Some("m"), None, None)]);
        assert_eq!(stems(&report), [vec!["a_M", "a_m-2"]]);
    }

    #[test]
    fn the_first_layer_is_near_two_thirds() {
        let nearest = |layers: &[usize]| {
            default_layer(&layers.iter().copied().map(Layer::Block).collect()).map(Layer::number)
        };
        assert_eq!(nearest(&(0..16).collect::<Vec<_>>()), Some(10));
        assert_eq!(nearest(&[10, 14]), Some(10));
        assert_eq!(nearest(&[0, 4, 8, 12]), Some(8));
        assert_eq!(nearest(&[0, 1, 3]), Some(3)); // 2 lies as near to 1 as to 3
        assert_eq!(nearest(&[28]), Some(28));
        assert_eq!(nearest(&[]), None);
    }

    #[test]
    fn choices_are_per_model() {
        let mut report = report(vec![
            figure("a", true, Some("m"), Some("own"), Some(6)),
            figure("a", true, Some("m"), Some("own"), Some(3)),
            figure("a", true, Some("n"), Some("file"), Some(9)),
            figure("b", true, None, None, None),
        ]);
        report.default_layers.insert("m".into(), Layer::Block(3));
        report.default_layers.insert("n".into(), Layer::Block(77));
        let want = Choices {
            models: vec![("m".into(), Some(Layer::Block(3))), ("n".into(), Some(Layer::Block(9)))],
            stories: vec!["own".into(), "file".into()],
            layers: [3, 6, 9].map(Layer::Block).to_vec(),
            axes: vec![],
        };
        assert_eq!(choices(&report), want);
    }

    /// `f` as a figure of one variant of a sweep.
    fn variant(f: Figure, axes: &[(&str, &str)]) -> Figure {
        Figure { axes: axes.iter().map(|(a, v)| (a.to_string(), v.to_string())).collect(), ..f }
    }

    #[test]
    fn variants_share_a_slot_and_their_files_say_which() {
        let space = || figure("space", true, Some("m"), Some("own"), Some(3));
        let report = report(vec![
            variant(space(), &[("from_token", "0"), ("denoise", "none")]),
            variant(space(), &[("from_token", "50"), ("denoise", "none")]),
            variant(figure("texts", true, None, None, None), &[("temperature", "0.7")]),
        ]);
        let wanted = [
            vec![
                "space_m_own_layer-3_from_token-0_denoise-none",
                "space_m_own_layer-3_from_token-50_denoise-none",
            ],
            vec!["texts_temperature-0.7"],
        ];
        assert_eq!(stems(&report), wanted);
    }

    #[test]
    fn only_axes_of_several_values_are_offered() {
        let space = || figure("space", true, Some("m"), Some("own"), Some(3));
        let report = report(vec![
            variant(space(), &[("seed", "7"), ("wrap", "raw")]),
            variant(space(), &[("seed", "7"), ("wrap", "user"), ("from_token", "0")]),
            variant(space(), &[("from_token", "50")]),
        ]);
        let choices = choices(&report);
        let texts = |list: [&str; 2]| list.map(String::from).to_vec();
        let wanted =
            [("wrap".to_string(), texts(["raw", "user"])), ("from_token".into(), texts(["0", "50"]))];
        assert_eq!(choices.axes, wanted);
        let figures = &report.sections[0].figures;
        let of = |at: usize| choices.of(&figures[at]).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(of(1), [Some("m"), Some("own"), Some("user"), Some("0")]);
        assert_eq!(of(2), [Some("m"), Some("own"), None, Some("50")]);
        assert_eq!(choices.of(&figures[0])[2].0, "axis-0");
    }
}
