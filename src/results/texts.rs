//! The report's chapter on the texts: their number and quality, the rejected ones, and samples to read. Depends on
//! the stories' tables, not on who wrote them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::page::table_figure;
use super::stories::{STAGE, source, source_and_own};
use super::{Shown, cells};
use crate::plan::{NEUTRAL, Node};
use crate::report::Section;
use crate::report::figure::{Bar, Bars, Body, Cell, Figure};
use crate::stages::activations::{EXCEPTIONS, Exception};
use crate::stages::stories::REJECTED;
use crate::stages::stories::likeness::NEAR;
use crate::stages::stories::quality::{OfEmotion, Quality};
use crate::store::table::Table;

/// Number of emotions with one printed story per source; number of texts where there are no emotions.
const SAMPLES: usize = 6;
/// Rejected texts printed for each reason.
const REJECTED_SAMPLES: usize = 2;
/// Number of emotions listed as having the fewest stories.
const FEWEST: usize = 3;
/// More bars than this are reduced to the longest and the shortest.
const BARS: usize = 40;
/// Number of standard errors that contain 95 % of the means of a normal distribution.
const NINETY_FIVE: f64 = 1.96;

/// The texts of every complete source.
pub fn section(shown: &Shown) -> Result<Section> {
    let (mut counts, mut qualities) = (Vec::new(), Vec::new());
    let mut figures = Vec::new();
    for node in in_order(shown) {
        let Some(table) = shown.whole(node)? else { continue };
        let emotions = table.opt_str("emotion")?.iter().map(Option::as_deref);
        let texts: Vec<_> = emotions.zip(table.str("text")?.iter().map(String::as_str)).collect();
        let quality = Quality::of(&texts, &shown.resolved.experiment.emotions);
        let rejected = shown.whole_of(node, REJECTED)?;
        counts.push(count_row(shown, node, &quality)?);
        qualities.push(quality_row(node, &quality, rejected.as_ref())?);
        figures.extend(lengths(&quality).into_iter().map(|figure| of_source(figure, node)));
        let cells = cells::figure(&table, &shown.resolved.experiment.emotions)?;
        figures.extend(cells.map(|figure| of_source(figure, node)));
        figures.push(of_source(samples(&texts, &shown.resolved.experiment.emotions), node));
        if let Some(rejected) = rejected.filter(|table| table.rows() > 0) {
            figures.push(of_source(rejected_samples(&rejected)?, node));
        }
    }
    let counts = table_figure(
        "texts",
        "Texts by source",
        "Per emotion: the number of accepted stories. Words per text: median, quartiles and range. Too short: texts \
         that end before the first pooled token, which are skipped. Too long: texts longer than the model's context, \
         which are skipped, or truncated where stated. Both per reader. All texts are in stories/, including the \
         rejected ones.",
        &[
            "source",
            "requested",
            "accepted",
            "per emotion",
            "words (quartiles)",
            "range",
            "too short",
            "too long",
        ],
        counts,
    );
    let caption = format!(
        "Name their emotion: the text contains the emotion's word or a word of its stem, so it may be close to the \
         vector because of that word alone. Copies repeat an earlier text of the source; near copies have a Jaccard \
         similarity of word 3-grams of at least {NEAR}. Length by emotion: eta squared, the share of the variance of \
         the story length (in words) between emotions, and its expectation if length is unrelated to emotion, (k - \
         1)/(n - 1) for n stories of k emotions. If it is far above that, vectors may encode length instead of \
         emotion."
    );
    let columns =
        ["source", "name their emotion", "exact copies", "near copies", "length by emotion", "rejected"];
    let qualities = table_figure("quality", "Quality", &caption, &columns, qualities);
    figures.splice(0..0, [counts, qualities]);
    Ok(Section {
        id: "texts".to_string(),
        title: "Text".to_string(),
        intro: String::new(),
        figures,
        ..Section::default()
    })
}

/// The nodes of texts in the order of the experiment's sources, which is also the order of the page's selectors;
/// neutral text last.
fn in_order<'a>(shown: &'a Shown) -> Vec<&'a Node> {
    let sources = &shown.resolved.experiment.stories;
    let mut nodes: Vec<_> = shown.plan.nodes.iter().filter(|node| node.work.stage() == STAGE).collect();
    nodes.sort_by_key(|node| {
        let (name, _) = source_and_own(node);
        sources.iter().position(|source| source.name == name).unwrap_or(sources.len())
    });
    nodes
}

/// A figure about the texts of `node`, shown according to the selectors. Neutral text is not a story source, so its
/// figures are always shown.
fn of_source(mut figure: Figure, node: &Node) -> Figure {
    let (source, own) = source_and_own(node);
    figure.model = own.map(String::from);
    figure.axes = node.id.axes.clone();
    if source == NEUTRAL {
        figure.name = format!("{NEUTRAL}_{}", figure.name);
        figure.title = format!("{}: neutral text", figure.title);
    } else {
        figure.stories = Some(source.to_string());
    }
    figure
}

fn count_row(shown: &Shown, node: &Node, quality: &Quality) -> Result<Vec<Cell>> {
    let asked: usize = node.units.iter().map(|unit| unit.stories.len()).sum();
    let mut row = vec![
        Cell::Text(source(node).to_string()),
        Cell::Number(asked as f64, 0),
        Cell::Number(quality.stories as f64, 0),
        spread(&quality.emotions),
    ];
    match quality.words {
        None => row.extend([Cell::Empty, Cell::Empty]),
        Some([least, first, median, third, most]) => row.extend([
            Cell::Text(format!("{median:.0} ({first:.0} to {third:.0})")),
            Cell::Text(format!("{least:.0} to {most:.0}")),
        ]),
    }
    let readers = readers(shown, node)?;
    row.push(by_reader(&readers, |odd| odd.short.to_string()));
    row.push(by_reader(&readers, |odd| match odd.cut {
        0 => odd.long.to_string(),
        cut => format!("{cut} (cut)"),
    }));
    Ok(row)
}

/// The number of stories per emotion; if it differs, with the names of the emotions that have the fewest.
fn spread(emotions: &[OfEmotion]) -> Cell {
    let counts = || emotions.iter().map(|emotion| emotion.stories);
    let (Some(fewest), Some(most)) = (counts().min(), counts().max()) else { return Cell::Empty };
    if fewest == most {
        return Cell::Text(most.to_string());
    }
    let mut sorted: Vec<_> = emotions.iter().filter(|emotion| emotion.stories < most).collect();
    sorted.sort_by_key(|emotion| emotion.stories);
    let named: Vec<_> = sorted
        .iter()
        .take(FEWEST)
        .map(|emotion| format!("{} {}", emotion.emotion, emotion.stories))
        .collect();
    let more = if sorted.len() > FEWEST { ", ..." } else { "" };
    Cell::Text(format!("{fewest} to {most} (fewest: {}{more})", named.join(", ")))
}

fn quality_row(node: &Node, quality: &Quality, rejected: Option<&Table>) -> Result<Vec<Cell>> {
    let share = |count: usize| {
        let percent = 100.0 * count as f64 / quality.stories.max(1) as f64;
        Cell::Text(format!("{count} ({percent:.0} %)"))
    };
    let naming = if quality.emotions.is_empty() { Cell::Empty } else { share(quality.naming) };
    let length = match (quality.eta_squared, quality.expected_eta_squared) {
        (Some(eta), Some(chance)) => Cell::Text(format!("{eta:.3} ({chance:.3} by chance)")),
        _ => Cell::Empty,
    };
    let rejected = match rejected {
        None => Cell::Empty,
        Some(table) => {
            let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
            table.str("reason")?.iter().for_each(|reason| *reasons.entry(reason.as_str()).or_default() += 1);
            let reasons: Vec<_> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            Cell::Text(match reasons.is_empty() {
                true => "none".to_string(),
                false => format!("{}: {}", table.rows(), reasons.join(", ")),
            })
        }
    };
    let name = Cell::Text(source(node).to_string());
    Ok(vec![name, naming, share(quality.copies.exact), share(quality.copies.near), length, rejected])
}

/// The lengths of each emotion's stories; `None` where fewer than two emotions have stories.
fn lengths(quality: &Quality) -> Option<Figure> {
    let (eta, chance) = quality.eta_squared.zip(quality.expected_eta_squared)?;
    let mut told: Vec<&OfEmotion> = quality.emotions.iter().filter(|emotion| emotion.stories > 0).collect();
    told.sort_by(|a, b| b.mean_words.total_cmp(&a.mean_words));
    let cut = match told.len() > BARS {
        true => {
            format!(" Of {} emotions the {} with the longest and the shortest stories.", told.len(), BARS)
        }
        false => String::new(),
    };
    if told.len() > BARS {
        told.drain(BARS / 2..told.len() - BARS / 2);
    }
    let bars = told.iter().map(|emotion| {
        let reach = NINETY_FIVE * quality.deviation / (emotion.stories as f64).sqrt();
        Bar {
            label: emotion.emotion.clone(),
            value: emotion.mean_words,
            band: Some((quality.mean_words - reach, quality.mean_words + reach)),
            interval: None,
        }
    });
    let bars = Bars {
        y: "mean words per story".to_string(),
        bars: bars.collect(),
        band: "95 % of means of as many stories of any emotion".to_string(),
    };
    Some(Figure {
        name: "lengths".to_string(),
        title: "Length of the stories".to_string(),
        caption: format!(
            "Bars outside their band: story length is related to the emotion, and the vectors may encode it. Eta \
             squared {eta:.3}, by chance {chance:.3}.{cut}"
        ),
        model: None,
        stories: None,
        layer: None,
        axes: Vec::new(),
        body: Body::Bars(bars),
    })
}

/// One story for each of a few emotions, or a few texts.
fn samples(texts: &[(Option<&str>, &str)], emotions: &[String]) -> Figure {
    let text = |text: &str| Cell::Text(text.to_string());
    let told = texts.iter().any(|(emotion, _)| emotion.is_some());
    let (columns, rows): (&[&str], Vec<Vec<Cell>>) = if told {
        let every = emotions.len().div_ceil(SAMPLES).max(1);
        let first = |emotion: &String| texts.iter().find(|(e, _)| *e == Some(emotion.as_str()));
        let rows = emotions.iter().step_by(every).filter_map(first);
        (&["emotion", "story"], rows.map(|(e, t)| vec![text(e.unwrap_or_default()), text(t)]).collect())
    } else {
        let every = texts.len().div_ceil(SAMPLES).max(1);
        (&["text"], texts.iter().step_by(every).map(|(_, t)| vec![text(t)]).collect())
    };
    let caption = if told { "One story for each of several emotions." } else { "Some of the texts." };
    table_figure("samples", "Samples", caption, columns, rows)
}

/// The first few texts for each reason.
fn rejected_samples(rejected: &Table) -> Result<Figure> {
    let (reasons, emotions) = (rejected.str("reason")?, rejected.opt_str("emotion")?);
    let (topics, texts) = (rejected.opt_str("topic")?, rejected.str("text")?);
    let mut rows: BTreeMap<&str, Vec<Vec<Cell>>> = BTreeMap::new();
    for at in 0..rejected.rows() {
        let rows = rows.entry(reasons[at].as_str()).or_default();
        if rows.len() < REJECTED_SAMPLES {
            let cell = |text: Option<&str>| text.map_or(Cell::Empty, |text| Cell::Text(text.to_string()));
            let cells = [
                Some(reasons[at].as_str()),
                emotions[at].as_deref(),
                topics[at].as_deref(),
                Some(&texts[at]),
            ];
            rows.push(cells.map(cell).to_vec());
        }
    }
    Ok(table_figure(
        "rejected",
        "Rejected texts",
        "The first rejected texts for each reason; all are in stories/, in the files named `.rejected`. Rejected texts \
         are generated again, up to `reject.attempts` times.",
        &["reason", "emotion", "topic", "text"],
        rows.into_values().flatten().collect(),
    ))
}

/// Texts that a model did not read in full.
#[derive(Default)]
struct Odd {
    short: usize,
    long: usize,
    cut: usize,
}

/// The models that read the texts of `node`, and how many texts they did not read in full; only models for which all
/// shards are cached.
fn readers(shown: &Shown, node: &Node) -> Result<Vec<(String, Odd)>> {
    let mut readers = Vec::new();
    for reader in shown.nodes().filter(|reader| reader.work.stage() == "activations") {
        let Some(first) = reader.units.first() else { continue };
        if !std::ptr::eq(&shown.plan.nodes[first.inputs[0].node], node) {
            continue;
        }
        let mut odd = Some(Odd::default());
        // The exceptions are the same at each layer.
        for unit in reader.units.iter().filter(|unit| unit.layer == first.layer) {
            let (Some(sum), Some(entry)) = (&mut odd, shown.entry(reader, unit)?) else {
                odd = None;
                break;
            };
            if entry.manifest.file(EXCEPTIONS)?.rows == 0 {
                continue;
            }
            let table = entry.read(EXCEPTIONS)?;
            let count = |what: Exception| {
                table.str("what").map(|all| all.iter().filter(|w| *w == what.word()).count())
            };
            sum.short += count(Exception::Short)?;
            sum.long += count(Exception::Long)?;
            sum.cut += count(Exception::Cut)?;
        }
        let model = reader.model.map_or("", |model| shown.resolved.models[model].name.as_str());
        let variant = reader
            .id
            .axes
            .iter()
            .map(|(axis, value)| format!("{axis}={value}"))
            .collect::<Vec<_>>()
            .join(", ");
        let who = if variant.is_empty() { model.to_string() } else { format!("{model} ({variant})") };
        readers.extend(odd.map(|odd| (who, odd)));
    }
    Ok(readers)
}

fn by_reader(readers: &[(String, Odd)], say: impl Fn(&Odd) -> String) -> Cell {
    match readers {
        [] => Cell::Empty,
        [(_, one)] => Cell::Text(say(one)),
        more => {
            let each: Vec<_> = more.iter().map(|(who, odd)| format!("{who}: {}", say(odd))).collect();
            Cell::Text(each.join(", "))
        }
    }
}
