//! The report's content: what was run, the checks, and the figures of the analyses.

use anyhow::Result;

use super::across::{self, Compared};
use super::scale::Trends;
use super::{Analysed, Shown, norms, origins, provenance, reading, texts};
use crate::config::Variant;
use crate::lm::{Layer, Wrap};
use crate::plan::key::Key;
use crate::plan::{NEUTRAL, Work};
use crate::record::{EMOFLOW, LIBTORCH};
use crate::report::figure::{Body, Cell, Figure, TableFigure};
use crate::report::{Report, Section};
use crate::stages::analysis::steering::nearest_two_thirds;

/// The report on everything in `shown`: the findings, `summaries` of all analyses, then each of `analyses`. `pairs`
/// and `trends`: the results across models.
pub fn report(
    shown: &Shown,
    analyses: &[Analysed],
    (findings, summaries): (Option<Section>, Vec<Section>),
    (pairs, trends): (&[Compared], Vec<Trends>),
    key: Key,
) -> Result<Report> {
    let experiment = &shown.resolved.experiment;
    let mut sections: Vec<Section> = findings.into_iter().collect();
    sections.push(texts::section(shown)?);
    sections.extend(reading::section(shown, analyses)?);
    sections.extend(summaries);
    sections.extend(norms::section(shown)?);
    sections.extend(neutral(shown)?);
    for Analysed { name, analysis, tables } in analyses {
        let figures = analysis.figures(name, tables)?;
        match sections.iter_mut().find(|section| section.id == *name) {
            Some(section) => section.figures.extend(figures),
            None => sections.push(Section {
                id: name.clone(),
                title: analysis.title().to_string(),
                intro: analysis.intro().to_string(),
                figures,
                ..Section::default()
            }),
        }
    }
    sections.extend(across::sections(pairs)?);
    sections.extend(trends.into_iter().map(|trend| trend.section));
    // Several analyses of one kind are distinguished by their names.
    let titles: Vec<String> = sections.iter().map(|section| section.title.clone()).collect();
    for section in &mut sections {
        if titles.iter().filter(|title| **title == section.title).count() > 1 {
            section.title = format!("{} ({})", section.title, section.id);
        }
    }
    origins::fill(shown, analyses, pairs, &mut sections);
    let computed = provenance::computed(shown)?;
    sections.push(provenance::section(shown, &computed));
    Ok(Report {
        title: experiment.name.clone(),
        description: experiment.description.clone(),
        facts: facts(shown, key, computed.iter().map(|of| of.seconds).sum())?,
        emotions: experiment.emotions.clone(),
        sections,
        default_layers: shown
            .resolved
            .readers()
            .map(|m| (m.name.clone(), nearest_two_thirds(&m.layers, m.spec.n_layers())))
            .collect(),
    })
}

/// What was run, and on which models and data.
fn facts(shown: &Shown, key: Key, seconds: f64) -> Result<Vec<(String, String)>> {
    let resolved = shown.resolved;
    let mut facts = Vec::new();
    for model in resolved.readers() {
        let blocks = model.layers.iter().filter(|layer| layer.block().is_some()).count();
        let layers = match blocks == model.spec.n_layers() {
            true if model.layers.len() > blocks => "all layers and the embeddings kept".to_string(),
            true => "all layers kept".to_string(),
            false => format!("layers {} kept", listed(&model.layers)),
        };
        let towers = match model.spec.names.towers {
            [] => String::new(),
            towers => format!("; text part only, not read: {}", towers.join(" ")),
        };
        let dequantised = model.dequantised_from();
        let dequantised =
            dequantised.map_or(String::new(), |from| format!("; weights dequantised from {from}"));
        let adapter = model.adapter.as_ref();
        let adapter =
            adapter.map_or(String::new(), |of| format!(" with the adapter {}", of.shown(&model.origin)));
        let ignored = match model.ignored.as_slice() {
            [] => String::new(),
            ignored => format!("; of its config.json ignored: {}", ignored.join(", ")),
        };
        let tokenizer = model.tokenizer.as_ref().map_or(String::new(), |of| match &of.commit {
            Some(commit) => format!("; tokenizer of {} at {}", of.name, &commit[..commit.len().min(7)]),
            None => format!("; tokenizer of {}", of.name),
        });
        let odd = model.tokenizer_note.as_ref().map_or(String::new(), |note| format!("; {note}"));
        let computed = match model.compute_dtype {
            compute if compute == model.dtype => String::new(),
            compute => format!(", computed in {}", compute.name()),
        };
        facts.push((
            format!("Model {}", model.name),
            format!(
                "{}{adapter}, {} ({}{dequantised}){computed}, {:.1} M parameters, {} blocks of d_model {}, {layers}{towers}{ignored}{tokenizer}{odd}; content {}",
                model.shown(),
                model.dtype.name(),
                model.dtype_reason,
                model.spec.n_params() as f64 / 1e6,
                model.spec.n_layers(),
                model.spec.d_model,
                model.identity.short()
            ),
        ));
    }
    for absent in &shown.plan.absent {
        facts.push((format!("Missing: {}", absent.subject), absent.why.clone()));
    }
    for (source, files) in resolved.story_files() {
        if let Some(pinned) = &files.dataset {
            let at = format!("{} at {}", pinned.repo, &pinned.commit[..pinned.commit.len().min(7)]);
            facts.push((format!("Stories {source}"), format!("dataset {at}, files: {}", pinned.files.len())));
        }
        for note in files.notes(source) {
            facts.push((format!("Rows of {source}"), note));
        }
    }
    facts.push(("Emotions".to_string(), resolved.experiment.emotions.join(", ")));
    if !resolved.experiment.sweep.is_empty() {
        facts.push(("Sweep".to_string(), sweep(&resolved.experiment.sweep)));
    }
    let activations = &resolved.experiment.activations;
    facts.push((
        "Activations".to_string(),
        format!(
            "resid_post, blocks counted from 0, mean over each story's own tokens from token {} on, wrap = {}",
            activations.from_token,
            match activations.wrap {
                Wrap::Raw => "raw",
                Wrap::User => "user",
                Wrap::Assistant => "assistant",
            }
        ),
    ));
    facts.push(("Device".to_string(), {
        let device = &resolved.device;
        format!("{}, computed by {} ({})", device.shown(), device.backend.name(), device.reason)
    }));
    facts.push(("Computed in".to_string(), format!("{seconds:.1} s, all stages together")));
    facts.push(("Versions".to_string(), format!("emoflow {}, libtorch {}", EMOFLOW, LIBTORCH)));
    let missing = shown.missing();
    if !missing.is_empty() {
        facts.push(("Missing: failed, or not run yet".to_string(), missing.join(", ")));
    }
    facts.push(("Results key".to_string(), key.short()));
    Ok(facts)
}

/// Every axis of a sweep with its values; the other facts are those of the first variant.
fn sweep(variants: &[Variant]) -> String {
    let axes = variants[0].settings.iter().enumerate().map(|(axis, setting)| {
        let mut values: Vec<&str> = Vec::new();
        for value in variants.iter().map(|variant| variant.settings[axis].value.as_str()) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        format!("{} = {}", setting.key, values.join(", "))
    });
    let axes = axes.collect::<Vec<_>>().join("; ");
    format!("{axes}: {} variants; all other facts here refer to the first", variants.len())
}

fn listed(layers: &[Layer]) -> String {
    layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", ")
}

/// The components projected out of the vectors, by layer.
fn neutral(shown: &Shown) -> Result<Option<Section>> {
    let mut figures = Vec::new();
    for node in shown.nodes().filter(|n| matches!(n.work, Work::Neutral(_))) {
        let Some(table) = shown.whole(node)? else { continue };
        let (layers, removed) = (table.i32("layer")?, table.bool("removed")?);
        let ratios = table.f32("explained_variance_ratio")?;
        let mut rows: Vec<(i32, usize, f64, f64)> = Vec::new();
        for ((&layer, &removed), &ratio) in layers.iter().zip(removed).zip(ratios) {
            if rows.last().is_none_or(|row| row.0 != layer) {
                rows.push((layer, 0, 0.0, f64::from(ratio)));
            }
            if let (true, Some(row)) = (removed, rows.last_mut()) {
                row.1 += 1;
                row.2 += f64::from(ratio);
            }
        }
        let rows = rows.into_iter().map(|(layer, count, explained, first)| {
            let percent = |share: f64| Cell::Number(100.0 * share, 1);
            vec![
                Layer::of_number(layer).map_or(Cell::Empty, Cell::layer),
                Cell::Number(count as f64, 0),
                percent(explained),
                percent(first),
            ]
        });
        let model = node.id.subject.model().map(str::to_string);
        let columns = ["layer", "components removed", "% of neutral variance", "% in the first"];
        let caption =
            "Principal components of the neutral text's activations that were projected out of every vector.";
        let mut figure = table_figure(NEUTRAL, "Neutral components", caption, &columns, rows.collect());
        figure.model = model;
        figure.axes = node.id.axes.clone();
        figures.push(figure);
    }
    let section = || Section {
        id: NEUTRAL.to_string(),
        title: "Denoising".to_string(),
        intro: String::new(),
        figures,
        ..Section::default()
    };
    Ok((!shown.resolved.models.is_empty()).then(section).filter(|s| !s.figures.is_empty()))
}

pub(super) fn table_figure(
    name: &str,
    title: &str,
    caption: &str,
    columns: &[&str],
    rows: Vec<Vec<Cell>>,
) -> Figure {
    Figure {
        name: name.to_string(),
        title: title.to_string(),
        caption: caption.to_string(),
        model: None,
        stories: None,
        layer: None,
        axes: Vec::new(),
        body: Body::Table(TableFigure { columns: columns.iter().map(|c| c.to_string()).collect(), rows }),
    }
}
