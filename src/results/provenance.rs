//! The report's chapter on provenance: the experiment file that was run, the automatic choices, models and data by
//! their content, and when and by which versions each node was computed.

use std::time::UNIX_EPOCH;

use anyhow::Result;

use super::page::table_figure;
use super::{Shown, model};
use crate::plan::Node;
use crate::record::{EMOFLOW, LIBTORCH};
use crate::report::Section;
use crate::report::figure::{Body, Cell, Figure};

/// The chapter's name.
pub const PROVENANCE: &str = "provenance";

/// When and by which versions the units of a node were computed.
pub struct Computed<'a> {
    node: &'a Node,
    /// Number of cached units.
    units: usize,
    /// The earliest and the latest, in seconds since 1970.
    between: Option<(u64, u64)>,
    pub seconds: f64,
    /// The distinct program versions.
    by: Vec<String>,
}

/// For every node of the plan.
///
/// # Errors
/// The store cannot be read.
pub fn computed<'a>(shown: &Shown<'a>) -> Result<Vec<Computed<'a>>> {
    let mut all = Vec::new();
    for node in &shown.plan.nodes {
        let mut of = Computed { node, units: 0, between: None, seconds: 0.0, by: Vec::new() };
        for unit in &node.units {
            let Some(manifest) = shown.store.manifest(node.work.stage(), &unit.key) else { continue };
            of.units += 1;
            of.seconds += manifest.cost.seconds;
            let (first, last) = of.between.unwrap_or((manifest.created, manifest.created));
            of.between = Some((first.min(manifest.created), last.max(manifest.created)));
            let by: Vec<String> =
                manifest.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            if !of.by.contains(&by.join(", ")) {
                of.by.push(by.join(", "));
            }
        }
        all.push(of);
    }
    Ok(all)
}

/// The chapter.
pub fn section(shown: &Shown, computed: &[Computed]) -> Section {
    let experiment = &shown.resolved.experiment;
    let file = fs_err::metadata(&experiment.file).and_then(|file| file.modified()).ok();
    let file = file.and_then(|time| Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs()));
    let mut figures = vec![nodes(computed, file), choices(shown)];
    figures.extend(models(shown));
    let name = experiment.file.file_name().unwrap_or_default().to_string_lossy();
    let sets = match experiment.sets.as_slice() {
        [] => String::new(),
        sets => format!(" With --set: {}.", sets.join(", ")),
    };
    let changed = file.map_or(String::new(), |at| format!(" Last changed {}.", utc(at)));
    let caption = format!("The file as it was read for this report.{changed}{sets}");
    figures.push(code(
        "experiment-file",
        &format!("The experiment file {name}"),
        caption,
        experiment.text.clone(),
    ));
    let understood = serde_json::to_value(experiment).and_then(|value| serde_json::to_string_pretty(&value));
    if let Ok(text) = understood {
        let caption = "The same with every default filled in, as run.json has it.".to_string();
        figures.push(code("experiment-understood", "The resolved experiment", caption, text));
    }
    Section {
        id: PROVENANCE.to_string(),
        title: "Provenance".to_string(),
        intro: "Every result has a key: the digest of everything that can change it. An older result remains valid as \
             long as nothing in its key has changed; results that are not in the cache yet are not shown."
            .to_string(),
        figures,
        ..Section::default()
    }
}

fn code(name: &str, title: &str, caption: String, text: String) -> Figure {
    let mut figure = table_figure(name, title, &caption, &[], Vec::new());
    figure.body = Body::Code(text);
    figure
}

/// One row per node: when and by which versions it was computed, and whether that was before the file's last change.
fn nodes(computed: &[Computed], file: Option<u64>) -> Figure {
    let rows = computed.iter().map(|of| {
        let age = match of.between.zip(file) {
            None => "",
            Some(((first, _), file)) if first < file => "yes",
            Some(_) => "no",
        };
        let key = of.node.units.first().map_or(String::new(), |unit| unit.key.short());
        vec![
            Cell::Text(of.node.name()),
            Cell::Text(format!("{} of {}", of.units, of.node.units.len())),
            of.between.map_or(Cell::Empty, |(first, _)| Cell::Text(utc(first))),
            of.between.map_or(Cell::Empty, |(_, last)| Cell::Text(utc(last))),
            Cell::Text(age.to_string()),
            Cell::Number(of.seconds, 1),
            Cell::Text(of.by.join("; ")),
            Cell::Text(key),
        ]
    });
    let columns = [
        "node",
        "units stored",
        "first",
        "last",
        "older than the file",
        "seconds",
        "computed by",
        "first key",
    ];
    let caption = "Times are UTC. Older than the file: the node's first unit was computed before the experiment file \
         was last changed; the change did not affect anything that the node depends on. All keys are in run.json.";
    table_figure("provenance-nodes", "When each result was computed", caption, &columns, rows.collect())
}

/// The automatic choices, and their reasons.
fn choices(shown: &Shown) -> Figure {
    let resolved = shown.resolved;
    let experiment = &resolved.experiment;
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut add = |what: String, value: String, why: &str| rows.push([what, value, why.to_string()]);
    let device = &resolved.device;
    add("device".to_string(), device.shown(), &device.reason);
    add(
        "backend".to_string(),
        device.backend.name().to_string(),
        "the kernels used on the device; part of the keys",
    );
    add("emoflow".to_string(), EMOFLOW.to_string(), "the program that wrote this report");
    add("libtorch".to_string(), LIBTORCH.to_string(), "the platform it was built for");
    add(
        "seed".to_string(),
        experiment.seed.to_string(),
        "of all random draws, together with the name of what is drawn",
    );
    add("date".to_string(), experiment.date.to_string(), "the date given to chat templates");
    add(
        "shard".to_string(),
        experiment.shard.to_string(),
        "number of stories that are generated, read and stored together",
    );
    for model in resolved.readers() {
        let of = |what: &str| format!("{what} of {}", model.name);
        add(of("dtype"), model.dtype.name().to_string(), model.dtype_reason);
        if model.compute_dtype != model.dtype {
            add(
                of("arithmetic"),
                model.compute_dtype.name().to_string(),
                "the dtype of computation on this device",
            );
        }
        let layers: Vec<String> = model.layers.iter().map(ToString::to_string).collect();
        add(
            of("layers"),
            layers.join(", "),
            "kept; the layer nearest to two thirds of the depth is shown first",
        );
        if let Some(from) = model.dequantised_from() {
            add(of("weights"), format!("dequantised from {from}"), "from the checkpoint");
        }
        if let Some(note) = &model.tokenizer_note {
            add(of("tokenizer"), note.clone(), "a peculiarity of the tokenizer");
        }
        for (what, fields) in
            [("config fields ignored", &model.ignored), ("ignored config fields", &model.unread)]
        {
            if !fields.is_empty() {
                add(of(what), fields.join(", "), "of config.json");
            }
        }
        if !model.spec.names.towers.is_empty() {
            add(of("tensors not read"), model.spec.names.towers.join(" "), "not part of the language model");
        }
    }
    for absent in &shown.plan.absent {
        add(format!("left out: {}", absent.subject), String::new(), &absent.why);
    }
    for (source, files) in resolved.story_files() {
        for note in files.notes(source) {
            add(format!("rows of {source}"), note, "from its files");
        }
    }
    let rows = rows.into_iter().map(|row| row.map(Cell::Text).to_vec()).collect();
    let caption = "Automatic choices with their reasons, and other settings common to all results.";
    table_figure("provenance-choices", "Automatic choices", caption, &["choice", "value", "why"], rows)
}

/// Models and data sets by their content.
fn models(shown: &Shown) -> Option<Figure> {
    let resolved = shown.resolved;
    let text = |text: &str| Cell::Text(text.to_string());
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for of in resolved.readers().map(model::described) {
        let adapter = of.adapter.as_ref().map(|adapter| format!(" with {}", adapter.name));
        let tokenizer = of.tokenizer.as_ref().map(|other| format!(", tokenizer of {}", other.name));
        rows.push(vec![
            text(&format!("model {}", of.name)),
            Cell::Text(format!(
                "{}{}{}",
                of.repo,
                adapter.unwrap_or_default(),
                tokenizer.unwrap_or_default()
            )),
            text(of.commit.as_deref().unwrap_or("a folder")),
            Cell::Text(of.digest.to_string()),
            Cell::Text(format!(
                "{:.1} M parameters, {} blocks of d_model {}",
                of.n_params as f64 / 1e6,
                of.n_layers,
                of.d_model
            )),
        ]);
    }
    for (source, files) in resolved.story_files() {
        let (repo, commit) = files
            .dataset
            .as_ref()
            .map_or(("files", "a folder"), |pinned| (pinned.repo.as_str(), pinned.commit.as_str()));
        let digests: Vec<String> = files.digests.iter().map(ToString::to_string).collect();
        rows.push(vec![
            text(&format!("stories {source}")),
            text(repo),
            text(commit),
            Cell::Text(digests.join(" ")),
            Cell::Text(format!("{} files", files.digests.len())),
        ]);
    }
    let caption = "Hub commits and SHA-256 digests of the content: equal digests mean equal files.";
    let columns = ["what", "from", "commit", "content", "size"];
    (!rows.is_empty()).then(|| table_figure("provenance-models", "Models and data", caption, &columns, rows))
}

/// `2026-03-01 14:05`: seconds since 1970 as a date and a time in UTC.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Years starting in March, in eras of 400 years, so that the leap day is the last day of a year.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", rest / 3600, rest / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Values from Python's datetime.
        let cases = [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_709_251_199, "2024-02-29 23:59"),
            (1_767_225_599, "2025-12-31 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ];
        for (seconds, wanted) in cases {
            assert_eq!(utc(seconds), wanted, "{seconds}");
        }
    }
}
