//! The report's page: one self-contained HTML file with inline style, script and figures and no external requests. Only
//! the frame is plain HTML; figures, tables and texts are compressed, and the script inflates those in view.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::figure::{Body, Figure};
use super::markup::escape;
use super::slots::{self, Chapter, Choices, Named, Slot};
use super::svg::{self, Dress};
use super::{Origin, Report, Section, blocks, samples, table, texts};
use crate::lm::Layer;

const STYLE: &str = include_str!("page.css");
/// The script, concatenated from several files that share one scope.
const SCRIPT: &str = concat!(
    "\"use strict\";\n{\n",
    include_str!("page.js"),
    include_str!("page/tables.js"),
    include_str!("page/marks.js"),
    include_str!("page/texts.js"),
    include_str!("page/reading.js"),
    include_str!("page/start.js"),
    "}\n"
);

/// Renders the page. Figure files are linked as `figures/<name>.svg` and `.png`. The same report gives the same bytes.
pub fn render(report: &Report) -> String {
    let chapters = slots::arrange(report);
    let choices = slots::choices(report);
    let slots: Vec<(&Chapter, &Slot)> =
        chapters.iter().flat_map(|chapter| chapter.slots.iter().map(move |slot| (chapter, slot))).collect();
    let figures = slots.par_iter().map(|(chapter, slot)| {
        let figure = |named| figure(named, chapter.section, &choices, &chapters);
        slot.figures.par_iter().map(figure).collect()
    });
    let (blocks, places) = blocks::pack(&figures.collect::<Vec<Vec<String>>>());
    let index = index(report, &choices, &slots, &places);
    frame(report, &chapters, &choices, &index, &blocks)
}

fn frame(
    report: &Report,
    chapters: &[Chapter],
    choices: &Choices,
    index: &Value,
    blocks: &[String],
) -> String {
    let mut out = String::new();
    let title = escape(&report.title);
    let digest = STANDARD.encode(Sha256::digest(SCRIPT));
    // The policy forbids loading resources and running other scripts, even for a text that evaded the escaping.
    push(
        &mut out,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'; script-src 'sha256-{digest}'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{}\n</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#main\">Skip to the results</a>\n",
            svg::page_rules()
        ),
    );
    contents(&mut out, chapters);
    push(&mut out, format_args!("<div class=\"page\">\n<header>\n<h1>{title}</h1>\n"));
    paragraphs(&mut out, &report.description);
    facts(&mut out, &report.facts);
    out.push_str("</header>\n");
    selectors(&mut out, choices, &report.emotions);
    out.push_str("<main id=\"main\" tabindex=\"-1\">\n");
    out.push_str(
        "<noscript><p>The figures and tables of this page are compressed and need JavaScript, which is switched off \
         here. The folders figures, tables and stories beside this file have the same content.</p></noscript>\n",
    );
    for chapter in chapters {
        push(
            &mut out,
            format_args!("<section id=\"{}\">\n<h2>{}</h2>\n", chapter.id, escape(&chapter.section.title)),
        );
        paragraphs(&mut out, &chapter.section.intro);
        for slot in &chapter.slots {
            push(
                &mut out,
                format_args!(
                    "<div class=\"slot\" id=\"{}\"><p class=\"note\" role=\"status\" hidden></p></div>\n",
                    slot_id(slot)
                ),
            );
        }
        out.push_str("</section>\n");
    }
    let index = index.to_string().replace('<', "\\u003c");
    push(
        &mut out,
        format_args!(
            "</main>\n</div>\n<script type=\"application/json\" id=\"index\">{index}</script>\n\
             <script type=\"text/plain\" id=\"blocks\">{}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
            blocks.join("\n")
        ),
    );
    out
}

/// The complete content of a page as one text: its frame, followed by all compressed parts.
///
/// # Errors
/// The page was not written by [`render`].
pub fn inflated(page: &str) -> anyhow::Result<String> {
    let (start, end) = ("<script type=\"text/plain\" id=\"blocks\">", "</script>");
    let Some((frame, rest)) = page.split_once(start) else { anyhow::bail!("not a report of emoflow") };
    let packed = rest.split_once(end).map_or(rest, |(packed, _)| packed);
    let mut whole = frame.to_string();
    for block in packed.lines() {
        whole.push_str(&blocks::unpack(block)?.join("\n"));
    }
    Ok(whole)
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes everything");
}

/// The index for the script: the location of each figure, and the selection that it shows.
fn index(
    report: &Report,
    choices: &Choices,
    slots: &[(&Chapter, &Slot)],
    places: &[Vec<(usize, usize)>],
) -> Value {
    let of_figure = |(Named { stem, figure }, &(block, at)): (&Named, &(usize, usize))| {
        let mut entry = Map::new();
        entry.insert("stem".into(), json!(stem));
        for (name, value) in choices.of(figure) {
            if let Some(value) = value {
                entry.insert(name, json!(value));
            }
        }
        if let Some(layer) = figure.layer {
            entry.insert("layer".into(), json!(layer.number()));
        }
        entry.insert("at".into(), json!([block, at]));
        Value::Object(entry)
    };
    let of_slot = |((chapter, slot), places): (&(&Chapter, &Slot), &Vec<(usize, usize)>)| {
        let figures: Vec<Value> = slot.figures.iter().zip(places).map(of_figure).collect();
        let title = &slot.figures[0].figure.title;
        json!({"id": slot_id(slot), "section": chapter.id, "title": title, "figures": figures})
    };
    let axes: Vec<&str> = choices.axes.iter().map(|(axis, _)| axis.as_str()).collect();
    let slots: Vec<Value> = slots.iter().zip(places).map(of_slot).collect();
    json!({"axes": axes, "emotions": report.emotions, "slots": slots})
}

/// Writes the paragraphs of `text`, which are separated by empty lines.
fn paragraphs(out: &mut String, text: &str) {
    for paragraph in text.split("\n\n").map(str::trim).filter(|p| !p.is_empty()) {
        push(out, format_args!("<p>{}</p>\n", escape(paragraph)));
    }
}

fn contents(out: &mut String, chapters: &[Chapter]) {
    out.push_str("<nav class=\"toc\" aria-label=\"Contents\">\n<p>Contents</p>\n<ol>\n");
    for chapter in chapters {
        push(out, format_args!("<li><a href=\"#{}\">{}</a>", chapter.id, escape(&chapter.section.title)));
        if chapter.slots.len() > 1 {
            out.push_str("\n<ol>\n");
            for slot in &chapter.slots {
                let first = &slot.figures[0];
                push(
                    out,
                    format_args!(
                        "<li><a href=\"#{}\">{}</a></li>\n",
                        slot_id(slot),
                        escape(&first.figure.title)
                    ),
                );
            }
            out.push_str("</ol>\n");
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n</nav>\n");
}

fn facts(out: &mut String, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    // Open for readers without the script. The script closes it, so that the findings come first.
    out.push_str(
        "<details class=\"run\" open><summary>Models, data and versions</summary>\n<dl class=\"facts\">\n",
    );
    for (name, value) in facts {
        push(out, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
    }
    out.push_str("</dl>\n</details>\n");
}

/// The bar of selectors, hidden until the script runs; the script fills in the layers of the selected model.
fn selectors(out: &mut String, choices: &Choices, emotions: &[String]) {
    let several = choices.models.len() > 1 || choices.stories.len() > 1 || choices.layers.len() > 1;
    if !several && choices.axes.is_empty() && emotions.is_empty() {
        return;
    }
    out.push_str(
        "<form class=\"bar\" id=\"bar\" aria-label=\"What is shown\" autocomplete=\"off\" hidden>\n",
    );
    let mut selector = |id: &str, name: &str, options: &[(String, Option<Layer>)], shown: bool| {
        let hidden = if shown { "" } else { " hidden" };
        push(out, format_args!("<label{hidden}><span>{name}</span> <select id=\"{id}\">"));
        for (value, layer) in options {
            let layer = layer.map(|l| format!(" data-layer=\"{}\"", l.number())).unwrap_or_default();
            let value = escape(value);
            push(out, format_args!("<option value=\"{value}\"{layer}>{value}</option>"));
        }
        out.push_str("</select></label>\n");
    };
    let plain = |names: Vec<String>| names.into_iter().map(|n| (n, None)).collect::<Vec<_>>();
    selector("model", "Model", &choices.models, choices.models.len() > 1);
    selector("stories", "Stories", &plain(choices.stories.clone()), choices.stories.len() > 1);
    let layers = plain(choices.layers.iter().map(|l| l.to_string()).collect());
    selector("layer", "Layer", &layers, choices.layers.len() > 1);
    if choices.layers.len() > 1 {
        out.push_str(
            "<span class=\"steps\"><button type=\"button\" data-step=\"-1\" aria-label=\"Layer before\">\u{2039}</button>\
             <button type=\"button\" data-step=\"1\" aria-label=\"Layer after\">\u{203a}</button></span>\n",
        );
    }
    for (at, (axis, values)) in choices.axes.iter().enumerate() {
        push(out, format_args!("<label><span>{}</span> <select id=\"axis-{at}\">", escape(axis)));
        for value in values.iter().map(|value| escape(value)) {
            push(out, format_args!("<option value=\"{value}\">{value}</option>"));
        }
        out.push_str("</select></label>\n");
    }
    if !emotions.is_empty() {
        out.push_str("<label><span>Emotion</span> <select id=\"emotion\"><option value=\"\">none</option>");
        for emotion in emotions.iter().map(|emotion| escape(emotion)) {
            push(out, format_args!("<option value=\"{emotion}\">{emotion}</option>"));
        }
        out.push_str("</select></label>\n");
    }
    out.push_str("</form>\n");
}

/// Identifier of a slot in links, independent of the figure shown.
fn slot_id(slot: &Slot) -> String {
    format!("slot-{}", slot.figures[0].stem)
}

/// The HTML of a figure in its slot.
fn figure(
    Named { stem, figure }: &Named,
    section: &Section,
    choices: &Choices,
    chapters: &[Chapter],
) -> String {
    let mut out = String::new();
    let mut data = String::new();
    for (name, value) in choices.of(figure) {
        if let Some(value) = value {
            push(&mut data, format_args!(" data-{name}=\"{}\"", escape(value)));
        }
    }
    if let Some(layer) = figure.layer {
        push(&mut data, format_args!(" data-layer=\"{}\"", layer.number()));
    }
    let title = escape(&figure.title);
    push(&mut out, format_args!("<figure id=\"fig-{stem}\"{data}>\n<h3>{title}{}</h3>\n", place(figure)));
    match (svg::draw(&figure.title, &figure.body, Dress::Page), &figure.body) {
        (Some(drawing), _) => push(
            &mut out,
            format_args!(
                "<div class=\"drawing\" tabindex=\"0\" role=\"group\" aria-label=\"{title}: values with the arrow keys\">{drawing}</div>\n"
            ),
        ),
        (None, Body::Texts(body)) => out.push_str(&texts::html(body)),
        (None, Body::Samples(body)) => out.push_str(&samples::html(body)),
        (None, Body::Code(text)) => push(
            &mut out,
            format_args!(
                "<pre class=\"code\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">{}</pre>\n",
                escape(text)
            ),
        ),
        (None, Body::Table(body)) => push(
            &mut out,
            format_args!(
                "<div class=\"table\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">{}</div>\n",
                table::html(body, &|place| address(place, chapters))
            ),
        ),
        (None, _) => {}
    }
    out.push_str("<figcaption>\n");
    paragraphs(&mut out, &figure.caption);
    origin(&mut out, stem, figure, section);
    out.push_str("</figcaption>\n</figure>\n");
    out
}

/// The model, stories, layer and variant that the figure shows, for print.
fn place(figure: &Figure) -> String {
    match figure.place() {
        place if place.is_empty() => place,
        place => format!(" <span class=\"at\">{}</span>", escape(&place)),
    }
}

/// The address of a section and a selection within the page; `None` if there is no such section.
fn address(place: &super::figure::Place, chapters: &[Chapter]) -> Option<String> {
    let chapter = chapters.iter().find(|chapter| chapter.section.id == place.section)?;
    let mut address = format!("#{}", chapter.id);
    let layer = place.layer.map(|layer| layer.number().to_string());
    let named = [("model", &place.model), ("stories", &place.stories), ("layer", &layer)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let axes = place.axes.iter().map(|(axis, value)| (axis.as_str(), value));
    for (at, (name, value)) in named.chain(axes).enumerate() {
        let before = if at == 0 { '?' } else { '&' };
        push(&mut address, format_args!("{before}{}={}", percent(name), percent(value)));
    }
    Some(address)
}

/// Percent-encodes `text` for an address.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(byte as char),
            _ => push(&mut out, format_args!("%{byte:02X}")),
        }
    }
    out
}

/// Maximum number of nodes that a figure's origin lists individually.
const NAMED: usize = 4;

/// The figure's files and provenance: its tables, its nodes with their keys, the command.
fn origin(out: &mut String, stem: &str, figure: &Figure, section: &Section) {
    let mut files = Vec::new();
    if figure.is_drawn() {
        files.extend(["svg", "png"].map(|kind| (format!("figures/{stem}.{kind}"), kind.to_uppercase())));
    }
    let tables = &section.tables;
    for table in tables {
        for (kind, name) in [("csv", "CSV"), ("parquet", "Parquet")] {
            let of = table.rsplit('/').next().unwrap_or(table);
            files.push((
                format!("{table}.{kind}"),
                if tables.len() > 1 { format!("{of}: {name}") } else { name.to_string() },
            ));
        }
    }
    if !files.is_empty() {
        out.push_str("<p class=\"files\">");
        for (path, name) in &files {
            push(out, format_args!("<a href=\"{}\">{}</a> ", escape(path), escape(name)));
        }
        out.push_str("</p>\n");
    }
    let here: Vec<&Origin> = section.origins.iter().filter(|origin| origin.is_of(figure)).collect();
    if here.is_empty() {
        return;
    }
    out.push_str("<details class=\"origin\"><summary>Provenance</summary>\n<dl>\n");
    for Origin { node, keys, command, .. } in here.iter().take(NAMED) {
        let keys: Vec<String> = keys
            .iter()
            .filter(|(layer, _)| layer.is_none() || figure.layer.is_none() || *layer == figure.layer)
            .map(|(layer, key)| match layer {
                Some(layer) if figure.layer.is_none() => format!("layer {layer}: <code>{key}</code>"),
                _ => format!("<code>{key}</code>"),
            })
            .collect();
        push(
            out,
            format_args!(
                "<dt>Node</dt><dd><code>{}</code></dd>\n<dt>Key</dt><dd class=\"keys\" tabindex=\"0\">{}</dd>\n\
                 <dt>Command</dt><dd><code>{}</code> <button type=\"button\" class=\"copy\">Copy</button></dd>\n",
                escape(node),
                keys.join(" "),
                escape(command)
            ),
        );
    }
    if here.len() > NAMED {
        push(out, format_args!("<dt>And</dt><dd>{} more nodes of this chapter</dd>\n", here.len() - NAMED));
    }
    out.push_str("</dl>\n</details>\n");
}
