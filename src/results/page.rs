//! The report's content: what was run, the texts, the checks, and the figures that the analyses return.

use anyhow::Result;

use super::{Analysed, Shown, VERSIONS};
use crate::config::Variant;
use crate::lm::{Held, Wrap};
use crate::plan::key::Key;
use crate::plan::{NEUTRAL, Node, Work};
use crate::report::figure::{Body, Cell, Figure, TableFigure};
use crate::report::{Report, Section};
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::stories::names_emotion;
use crate::store::table::Table;

/// Emotions of which the report prints one story of each source.
const SAMPLES: usize = 6;

/// The report on everything that `shown` has.
pub fn report(shown: &Shown, key: Key) -> Result<Report> {
    let experiment = &shown.resolved.experiment;
    let mut sections = vec![texts(shown)?];
    sections.extend(neutral(shown)?);
    for Analysed { name, analysis, tables } in shown.analyses()? {
        let figures = analysis.figures(&name, &tables)?;
        match sections.iter_mut().find(|section| section.id == name) {
            Some(section) => section.figures.extend(figures),
            None => sections.push(Section {
                id: name,
                title: analysis.title().to_string(),
                intro: analysis.intro().to_string(),
                figures,
            }),
        }
    }
    Ok(Report {
        title: experiment.name.clone(),
        description: experiment.description.clone(),
        facts: facts(shown, key)?,
        sections,
        default_layers: shown
            .resolved
            .models
            .iter()
            .map(|m| (m.name.clone(), nearest_two_thirds(&m.layers, m.spec.n_layers())))
            .collect(),
    })
}

/// What was run, on what.
fn facts(shown: &Shown, key: Key) -> Result<Vec<(String, String)>> {
    let resolved = shown.resolved;
    let mut facts = Vec::new();
    for model in &resolved.models {
        let layers = match model.layers.len() {
            n if n == model.spec.n_layers() => "all layers kept".to_string(),
            _ => format!("layers {} kept", listed(&model.layers)),
        };
        let towers = match model.spec.names.towers {
            [] => String::new(),
            towers => format!("; text part only, not read: {}", towers.join(" ")),
        };
        facts.push((
            format!("Model {}", model.name),
            format!(
                "{}, {} ({}), {:.1} M parameters, {} blocks of d_model {}, {layers}{towers}; content {}",
                model.shown(),
                match model.held() {
                    Held { weights, compute, .. } if weights == compute => weights.name().to_string(),
                    Held { weights, compute, .. } => {
                        format!("{}, computed in {}", weights.name(), compute.name())
                    }
                },
                model.dtype_reason,
                model.spec.n_params() as f64 / 1e6,
                model.spec.n_layers(),
                model.spec.d_model,
                model.identity.short()
            ),
        ));
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
    facts.push(("Device".to_string(), format!("{} ({})", resolved.device.shown(), resolved.device.reason)));
    let mut seconds = 0.0;
    for node in &shown.plan.nodes {
        for unit in &node.units {
            seconds += shown.entry(node, unit)?.map_or(0.0, |entry| entry.manifest.cost.seconds);
        }
    }
    facts.push(("Computed in".to_string(), format!("{seconds:.1} s, all stages together")));
    facts.push((
        "Versions".to_string(),
        format!("emoflow {}, libtorch {}", VERSIONS.emoflow, VERSIONS.libtorch),
    ));
    let missing = shown.missing();
    if !missing.is_empty() {
        facts.push(("Not here: failed, or not run yet".to_string(), missing.join(", ")));
    }
    facts.push(("Results key".to_string(), key.short()));
    Ok(facts)
}

/// Every axis of a sweep with its values: the other facts are those of the first variant.
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
    format!("{axes}: {} variants; what else is said here is said of the first", variants.len())
}

fn listed(layers: &[usize]) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// The stories of every source: how many, what was thrown away, and what could be mistaken for a concept.
fn texts(shown: &Shown) -> Result<Section> {
    let mut rows = Vec::new();
    let mut samples = Vec::new();
    for node in shown.plan.nodes.iter().filter(|n| n.work.stage() == "stories") {
        let Some(table) = shown.whole(node)? else { continue };
        let source = node.name.trim_start_matches("stories/");
        let asked: usize = node.units.iter().map(|u| u.stories.len()).sum();
        let emotions = table.opt_str("emotion")?;
        let texts = table.str("text")?;
        let told: Vec<(&str, &str)> =
            emotions.iter().zip(texts).filter_map(|(e, t)| Some((e.as_deref()?, t.as_str()))).collect();
        let naming = told.iter().filter(|(emotion, text)| names_emotion(text, emotion)).count();
        let rejected: i32 = table.i32("rejected")?.iter().sum();
        let words: usize = texts.iter().map(|t| t.split_whitespace().count()).sum();
        let share = if told.is_empty() {
            Cell::Empty
        } else {
            Cell::Text(format!("{naming} ({:.0} %)", 100.0 * naming as f64 / told.len() as f64))
        };
        rows.push(vec![
            Cell::Text(source.to_string()),
            Cell::Number(asked as f64, 0),
            Cell::Number(table.rows() as f64, 0),
            Cell::Number(f64::from(rejected), 0),
            share,
            Cell::Number(words as f64 / table.rows().max(1) as f64, 0),
            Cell::Text(too_short(shown, node, &table)?),
        ]);
        let every = shown.resolved.experiment.emotions.len().div_ceil(SAMPLES);
        for emotion in shown.resolved.experiment.emotions.iter().step_by(every) {
            let first = told.iter().find(|(e, _)| e == emotion);
            samples.extend(
                first.map(|&(e, text)| [source, e, text].map(|t| Cell::Text(t.to_string())).to_vec()),
            );
        }
    }
    let columns = [
        "source",
        "asked for",
        "kept",
        "attempts thrown away",
        "name their emotion",
        "words a text",
        "too short",
    ];
    let counts = table_figure(
        "texts",
        "What was read",
        "Stories that name their emotion can be close to its vector by their words alone. Too short: texts without a \
         token at the place where pooling begins, by reader; they are left out.",
        &columns,
        rows,
    );
    let samples = table_figure(
        "samples",
        "Some of it",
        "One story of each of a few emotions.",
        &["source", "emotion", "story"],
        samples,
    );
    Ok(Section {
        id: "texts".to_string(),
        title: "Text".to_string(),
        intro: String::new(),
        figures: vec![counts, samples],
    })
}

/// How many stories of `node` each reader left out, in words.
fn too_short(shown: &Shown, node: &Node, stories: &Table) -> Result<String> {
    let source = node.name.trim_start_matches("stories/").split('@').next().unwrap_or_default();
    let mut counts = Vec::new();
    for reader in &shown.plan.nodes {
        let Work::Vectors { set, .. } = &reader.work else { continue };
        if set.stories != source
            || (node.name.contains('@') && !node.name.ends_with(&format!("@{}", set.model)))
        {
            continue;
        }
        let Some(entry) = shown.entry(reader, &reader.units[0])? else { continue };
        let read: i32 = entry.read("vectors")?.i32("n_stories")?.iter().sum();
        counts.push((set.model.as_str(), stories.rows() - read as usize));
    }
    Ok(match counts.as_slice() {
        [] => String::new(),
        [(_, one)] => one.to_string(),
        more => more.iter().map(|(model, n)| format!("{model}: {n}")).collect::<Vec<_>>().join(", "),
    })
}

/// What was projected out of the vectors, by layer.
fn neutral(shown: &Shown) -> Result<Option<Section>> {
    let mut figures = Vec::new();
    for node in shown.plan.nodes.iter().filter(|n| matches!(n.work, Work::Neutral(_))) {
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
                Cell::Number(f64::from(layer), 0),
                Cell::Number(count as f64, 0),
                percent(explained),
                percent(first),
            ]
        });
        let model = node.name.trim_start_matches("neutral/").to_string();
        let columns = ["layer", "components removed", "% of neutral variance", "% in the first"];
        let caption =
            "Principal components of the neutral text's activations that were projected out of every vector.";
        let mut figure = table_figure(NEUTRAL, "Neutral components", caption, &columns, rows.collect());
        figure.model = Some(model);
        figures.push(figure);
    }
    let section =
        || Section { id: NEUTRAL.to_string(), title: "Denoising".to_string(), intro: String::new(), figures };
    Ok((!shown.resolved.models.is_empty()).then(section).filter(|s| !s.figures.is_empty()))
}

fn table_figure(name: &str, title: &str, caption: &str, columns: &[&str], rows: Vec<Vec<Cell>>) -> Figure {
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
