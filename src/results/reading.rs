//! The report's chapter of texts to read: stories, rejected replies, dialogues and transcripts, each with the
//! projections onto its emotion's vector in the models that read it. Texts written under steering are in the chapter
//! of their analysis.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};

use super::comparison::distinct;
use super::projection::{Directions, Projected};
use super::stories::{STAGE, source};
use super::{Analysed, Shown, page};
use crate::lm::Layer;
use crate::plan::{Node, Set, Work};
use crate::report::Section;
use crate::report::figure::{Body, Figure, Samples, ShownSample, ShownTokens};
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::stories::REJECTED;
use crate::store::table::Table;

/// Maximum number of texts in the page, exceeded by at most one shard per source; all texts are in the files of
/// stories/.
const TEXTS: usize = 3000;
/// Maximum size of these texts in bytes, in the same way.
const BYTES: usize = 3 << 20;

/// The filters of the chapter.
const BY: [&str; 6] = ["source", "writer", "emotion", "second emotion", "topic", "outcome"];

/// The chapter; `None` if there are no texts.
pub fn section(shown: &Shown, analyses: &[Analysed]) -> Result<Option<Section>> {
    let nodes: Vec<&Node> = shown.nodes().filter(|node| has_texts(node)).collect();
    let share = |all: usize| all / nodes.len().max(1);
    let (measures, coloured) = tokens(analyses, &shown.resolved.experiment.emotions)?;
    let mut texts = Texts { readers: readers(shown, analyses)?, coloured, samples: Vec::new(), all: 0 };
    for (at, node) in shown.plan.nodes.iter().enumerate() {
        if !nodes.iter().any(|with_texts| std::ptr::eq(*with_texts, node)) {
            continue;
        }
        let (mut rows, mut bytes) = (0, 0);
        for (shard, unit) in node.units.iter().enumerate() {
            let Some(entry) = shown.entry(node, unit)? else { continue };
            let is_full = rows >= share(TEXTS) || bytes >= share(BYTES);
            for name in [node.work.stage(), REJECTED] {
                let Ok(file) = entry.manifest.file(name) else { continue };
                if is_full {
                    texts.all += usize::try_from(file.rows)?;
                    continue;
                }
                let read = texts.read_with(shown, at, shard)?;
                let added = texts.add(node, &entry.read(name)?, &read)?;
                (rows, bytes) = (rows + added.0, bytes + added.1);
            }
        }
    }
    if texts.samples.is_empty() {
        return Ok(None);
    }
    let Texts { readers, samples, all, .. } = texts;
    let mut numbers = Vec::new();
    for model in models(&readers) {
        let probed = readers.iter().any(|reader| reader.set.model == model && reader.told.is_some());
        numbers.push(format!("projection ({model})"));
        numbers.push(format!(
            "{} ({model})",
            if probed { "misclassified by the probe" } else { "nearer to another" }
        ));
    }
    let all = (all > samples.len()).then_some(all);
    let (by, value) = (BY.map(String::from).to_vec(), "z-score".to_string());
    let samples = Samples { by, numbers, all, measures, value, samples };
    Ok(Some(Section {
        id: "reading".to_string(),
        title: "All texts".to_string(),
        tables: nodes
            .iter()
            .filter(|n| n.work.stage() == STAGE)
            .map(|n| format!("stories/{}", source(n)))
            .collect(),
        figures: vec![figure(&readers, samples)],
        ..Section::default()
    }))
}

fn figure(readers: &[Reader], samples: Samples) -> Figure {
    let mut caption = "All accepted texts and all rejected replies. ".to_string();
    if let Some(all) = samples.all {
        caption = format!(
            "The first {} of {all} texts, of each source in the order of its shards, which contain all emotions \
             equally; the others are in the files of stories/. ",
            samples.samples.len()
        );
    }
    if !readers.is_empty() {
        let layer =
            |model| readers.iter().find(|reader| reader.set.model == model).map(|reader| reader.layer);
        let layers = models(readers).into_iter().filter_map(|model| Some((model, layer(model)?)));
        let layers: Vec<String> = layers.map(|(model, layer)| format!("{model} at layer {layer}")).collect();
        caption.push_str(&format!(
            "Projection: of the story's mean activation, minus the mean of the emotions' means, onto the unit vector \
             of its own emotion ({}). ",
            layers.join(", ")
        ));
        if readers.iter().any(|reader| reader.told.is_some()) {
            caption.push_str(
                "Misclassified by the probe: the largest score of another emotion minus the score of the story's own, \
                 by the classifier that was not trained on its topic; above 0 it is classified as that other emotion, \
                 which is named. ",
            );
        }
        if readers.iter().any(|reader| reader.told.is_none()) {
            caption.push_str(
                "Nearer to another: the largest projection onto another emotion's vector minus that onto its own; \
                 above 0 the story is closer to that other emotion, which is named. The vectors are means of these \
                 same stories, so each story is slightly closer to its own than a new one would be: an analysis \
                 `probe` classifies held-out stories, and is then used here instead.",
            );
        }
    }
    let mut figure =
        page::table_figure("texts-to-read", "Search, filter and sort the texts", &caption, &[], Vec::new());
    figure.body = Body::Samples(samples);
    figure
}

fn has_texts(node: &Node) -> bool {
    node.work.stage() == STAGE || matches!(node.work, Work::Texts(_) | Work::Dialogues | Work::Written(_))
}

struct Texts<'a> {
    readers: Vec<Reader<'a>>,
    coloured: Coloured,
    samples: Vec<ShownSample>,
    /// The number of texts, including those that are not shown.
    all: usize,
}

/// The tokens of texts, by node name and text id.
type Coloured = HashMap<(String, String), ShownTokens>;

/// The emotions with token-level readings, and the tokens: of the first set of vectors and layer that has any.
fn tokens(analyses: &[Analysed], emotions: &[String]) -> Result<(Vec<String>, Coloured)> {
    let mut all = Coloured::new();
    let tables = analyses.iter().flat_map(|of| &of.tables).map(|(_, table)| table);
    let Some(table) = tables.into_iter().find(|t| t.schema.starts_with("readings_tokens/") && t.rows() > 0)
    else {
        return Ok((Vec::new(), all));
    };
    let (model, set, variant) = (table.str("model")?, table.str("stories")?, table.str("variant")?);
    let (layer, source, id) = (table.i32("layer")?, table.str("source")?, table.str("text_id")?);
    let (piece, direction, z) = (table.str("piece")?, table.str("direction")?, table.f64("z")?);
    let is_first = |row: &usize| {
        let of = |row: usize| (&model[row], &set[row], &variant[row], layer[row]);
        of(*row) == of(0)
    };
    let is_read = |emotion: &&String| direction.contains(*emotion);
    let measures: Vec<String> = emotions.iter().filter(is_read).cloned().collect();
    for row in (0..table.rows()).filter(is_first) {
        let Some(measure) = measures.iter().position(|m| *m == direction[row]) else { continue };
        let of = all.entry((source[row].clone(), id[row].clone())).or_default();
        of.values.resize(measures.len(), Vec::new());
        if measure == 0 {
            of.pieces.push(piece[row].clone());
        }
        of.values[measure].push(z[row] as f32);
    }
    // Token readings are shown only for texts that have every value at every token.
    all.retain(|_, of| of.values.iter().all(|values| values.len() == of.pieces.len()));
    Ok((measures, all))
}

/// For each model its projections of stories, by story id.
type Read<'a> = Vec<(&'a str, HashMap<String, Projected>)>;

impl<'a> Texts<'a> {
    /// Each model's projections of a shard of a node's texts.
    fn read_with(&self, shown: &Shown, node: usize, shard: usize) -> Result<Read<'a>> {
        let of_model = |model: &'a str| {
            let mut all = HashMap::new();
            for reader in self.readers.iter().filter(|reader| reader.set.model == model) {
                all.extend(reader.read(shown, node, shard)?);
            }
            Ok((model, all))
        };
        models(&self.readers).into_iter().map(of_model).collect()
    }

    /// Adds the texts of a table; returns their number and their bytes.
    fn add(&mut self, node: &Node, table: &Table, read: &Read) -> Result<(usize, usize)> {
        let mut added = match table.schema.split('/').next().unwrap_or_default() {
            "texts" => conversations(node, table)?,
            _ => stories(node, table, read)?,
        };
        for (id, sample) in &mut added {
            sample.tokens = self.coloured.remove(&(node.name(), std::mem::take(id)));
        }
        let bytes = added.iter().map(|(_, sample)| sample.text.len()).sum();
        let count = added.len();
        self.all += count;
        self.samples.extend(added.into_iter().map(|(_, sample)| sample));
        Ok((count, bytes))
    }
}

/// One row per story or rejected reply.
fn stories(node: &Node, table: &Table, read: &Read) -> Result<Vec<(String, ShownSample)>> {
    let (emotion, topic) = (table.opt_str("emotion")?, table.opt_str("topic")?);
    let text = table.str("text")?;
    let (other, writer) = (table.opt_str("other").ok(), table.str("writer").ok());
    let (id, reason) = (table.str("story_id").ok(), table.str("reason").ok());
    let optional =
        |of: Option<&[Option<String>]>, row: usize| of.and_then(|of| of[row].clone()).unwrap_or_default();
    let rows = (0..table.rows()).map(|row| {
        let id = id.map_or("", |id| id[row].as_str());
        let numbers =
            read.iter().flat_map(|(_, all)| all.get(id).map_or([f64::NAN; 2], |of| [of.own, of.beyond]));
        let nearest = read.iter().filter_map(|(model, all)| {
            let of = all.get(id).filter(|of| of.beyond > 0.0)?;
            Some(format!("closest to {} ({model})", of.other))
        });
        let note: Vec<String> =
            std::iter::once(id.to_string()).filter(|id| !id.is_empty()).chain(nearest).collect();
        let sample = ShownSample {
            of: vec![
                source(node),
                writer.map_or(String::new(), |writer| writer[row].clone()),
                emotion[row].clone().unwrap_or_default(),
                optional(other, row),
                topic[row].clone().unwrap_or_default(),
                reason.map_or("accepted".to_string(), |reason| format!("rejected: {}", reason[row])),
            ],
            numbers: numbers.collect(),
            note: note.join(" \u{b7} "),
            text: text[row].clone(),
            ..ShownSample::default()
        };
        (id.to_string(), sample)
    });
    Ok(rows.collect())
}

/// One row per conversation, with its turns as text.
fn conversations(node: &Node, table: &Table) -> Result<Vec<(String, ShownSample)>> {
    let (id, role) = (table.str("text_id")?, table.str("role")?);
    let (content, label) = (table.str("content")?, table.opt_str("label")?);
    let column = |name: &str| table.opt_str(name).ok();
    let (emotion, other, topic) = (column("emotion"), column("other"), column("topic"));
    let mut samples: Vec<(String, ShownSample)> = Vec::new();
    for row in 0..table.rows() {
        let turn = format!("{}: {}", role[row], content[row]);
        match samples.last_mut().filter(|last| last.0 == id[row]) {
            Some((_, last)) => last.text.push_str(&format!("\n\n{turn}")),
            None => {
                let of = |column: Option<&[Option<String>]>| {
                    column.and_then(|of| of[row].clone()).unwrap_or_default()
                };
                let sample = ShownSample {
                    of: vec![node.name(), String::new(), of(emotion), of(other), of(topic), of(Some(label))],
                    note: id[row].clone(),
                    text: turn,
                    ..ShownSample::default()
                };
                samples.push((id[row].clone(), sample));
            }
        }
    }
    Ok(samples)
}

/// A set of vectors at the layer that is shown first.
struct Reader<'a> {
    set: &'a Set,
    layer: Layer,
    /// By node of the texts and shard: the node and unit of its activations at the layer.
    shards: BTreeMap<(usize, usize), (&'a Node, usize)>,
    directions: Directions,
    /// The probe's classification of each story, if there is a probe of this set at this layer: the emotion and the
    /// margin.
    told: Option<HashMap<String, (String, f64)>>,
}

/// The distinct models of the readers.
fn models<'a>(readers: &[Reader<'a>]) -> Vec<&'a str> {
    distinct(readers.iter().map(|reader| reader.set.model.as_str()))
}

/// Every available set of vectors; for a sweep, in its first variant.
fn readers<'a>(shown: &Shown<'a>, analyses: &[Analysed]) -> Result<Vec<Reader<'a>>> {
    let mut readers: Vec<Reader> = Vec::new();
    for node in &shown.plan.nodes {
        let Work::Vectors { set, .. } = &node.work else { continue };
        let known = readers.iter().any(|r| (&r.set.model, &r.set.stories) == (&set.model, &set.stories));
        if known || set.is_check {
            continue;
        }
        let layers: Vec<Layer> = node.units.iter().filter_map(|unit| unit.layer).collect();
        let layer = nearest_two_thirds(&layers, set.n_layers);
        let Some(unit) = node.units.iter().find(|unit| unit.layer == Some(layer)) else { continue };
        let Some(entry) = shown.entry(node, unit)? else { continue };
        let table = entry.read("vectors")?;
        let mut shards = BTreeMap::new();
        for input in &unit.inputs {
            let read = &shown.plan.nodes[input.node];
            if let (Work::Activations { .. }, Some(of)) = (&read.work, read.units[input.unit].inputs.first())
            {
                shards.insert((of.node, of.unit), (read, input.unit));
            }
        }
        // Activations may have been evicted from the cache while their results are still there.
        let is_there =
            |(read, at): &&(&Node, usize)| shown.store.contains(read.work.stage(), &read.units[*at].key);
        if shards.is_empty() || shards.values().filter(is_there).count() < shards.len() {
            continue;
        }
        let first = shards.values().take(MEAN_SHARDS).map(|&(read, at)| activations(shown, read, at));
        let directions = Directions::of(&table, first)?;
        let told = told(analyses, set, layer)?;
        readers.push(Reader { set, layer, shards, directions, told });
    }
    Ok(readers)
}

/// The classification of the stories by the first probe of the set at the layer.
fn told(analyses: &[Analysed], set: &Set, layer: Layer) -> Result<Option<HashMap<String, (String, f64)>>> {
    let tables = analyses.iter().flat_map(|of| &of.tables).map(|(_, table)| table);
    for table in tables.filter(|table| table.schema.starts_with("probe_stories/")) {
        let (model, stories, variant) = (table.str("model")?, table.str("stories")?, table.str("variant")?);
        let (at, id) = (table.i32("layer")?, table.str("story_id")?);
        let (told, margin) = (table.str("told_as")?, table.f64("margin")?);
        let own = set.variant();
        let is_of = |row: &usize| {
            model[*row] == set.model
                && stories[*row] == set.stories
                && variant[*row] == own
                && at[*row] == layer.number()
        };
        let rows = (0..table.rows()).filter(is_of);
        let all: HashMap<_, _> =
            rows.map(|row| (id[row].clone(), (told[row].clone(), margin[row]))).collect();
        if !all.is_empty() {
            return Ok(Some(all));
        }
    }
    Ok(None)
}

impl Reader<'_> {
    /// The projections of a shard of texts; empty for a shard that the model did not read.
    fn read(&self, shown: &Shown, node: usize, shard: usize) -> Result<HashMap<String, Projected>> {
        let Some(&(read, at)) = self.shards.get(&(node, shard)) else { return Ok(HashMap::new()) };
        let mut read = self.directions.project(&activations(shown, read, at)?)?;
        for (id, of) in &mut read {
            if let Some((emotion, margin)) = self.told.as_ref().and_then(|told| told.get(id)) {
                (of.beyond, of.other) = (-margin, emotion.clone());
            }
        }
        Ok(read)
    }
}

fn activations(shown: &Shown, node: &Node, unit: usize) -> Result<Table> {
    let entry = shown.entry(node, &node.units[unit])?;
    entry.with_context(|| format!("{} is not in the cache any more", node.name()))?.read("activations")
}

/// Number of shards from which the mean of the emotions' means is computed: all shards in most experiments.
const MEAN_SHARDS: usize = 32;
