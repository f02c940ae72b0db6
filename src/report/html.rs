//! The report's page: one HTML file with its style, script and drawings inside, which asks for nothing from
//! elsewhere. Without its script everything is shown; with it, one model, story source, layer and variant at a time.

use std::fmt::Write as _;

use super::figure::{Body, Figure};
use super::markup::escape;
use super::slots::{self, Chapter, Choices, Named, Slot};
use super::svg::{self, Dress};
use super::{Report, samples, table, texts};
use crate::lm::Layer;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page. Figures' files are linked as `figures/<name>.svg` and `.png`. The same report gives the same bytes.
pub fn render(report: &Report) -> String {
    let chapters = slots::arrange(report);
    let mut out = String::new();
    let title = escape(&report.title);
    // The policy lets nothing be loaded: not even a text that got around the escaping could call home.
    push(
        &mut out,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{}\n</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#main\">Skip to the results</a>\n",
            svg::page_rules()
        ),
    );
    contents(&mut out, &chapters);
    push(&mut out, format_args!("<div class=\"page\">\n<header>\n<h1>{title}</h1>\n"));
    paragraphs(&mut out, &report.description);
    facts(&mut out, &report.facts);
    out.push_str("</header>\n");
    let choices = slots::choices(report);
    selectors(&mut out, &choices);
    out.push_str("<main id=\"main\">\n");
    for chapter in &chapters {
        push(
            &mut out,
            format_args!("<section id=\"{}\">\n<h2>{}</h2>\n", chapter.id, escape(&chapter.section.title)),
        );
        paragraphs(&mut out, &chapter.section.intro);
        for slot in &chapter.slots {
            show_slot(&mut out, slot, &choices, &chapters);
        }
        out.push_str("</section>\n");
    }
    push(&mut out, format_args!("</main>\n</div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    out
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("a string takes everything");
}

/// Paragraphs are parted by empty lines.
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
    out.push_str("<dl class=\"facts\">\n");
    for (name, value) in facts {
        push(out, format_args!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
    }
    out.push_str("</dl>\n");
}

/// The bar is hidden until the script is there to serve it; the script fills in the layers of the chosen model.
fn selectors(out: &mut String, choices: &Choices) {
    let several = choices.models.len() > 1 || choices.stories.len() > 1 || choices.layers.len() > 1;
    if !several && choices.axes.is_empty() {
        return;
    }
    out.push_str("<form class=\"bar\" id=\"bar\" aria-label=\"What is shown\" hidden>\n");
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
    out.push_str("</form>\n");
}

/// Names the slot in links, whichever of its figures is shown.
fn slot_id(slot: &Slot) -> String {
    format!("slot-{}", slot.figures[0].stem)
}

fn show_slot(out: &mut String, slot: &Slot, choices: &Choices, chapters: &[Chapter]) {
    push(
        out,
        format_args!(
            "<div class=\"slot\" id=\"{}\">\n<p class=\"note\" role=\"status\" hidden></p>\n",
            slot_id(slot)
        ),
    );
    for named in &slot.figures {
        show_figure(out, named, choices, chapters);
    }
    out.push_str("</div>\n");
}

fn show_figure(out: &mut String, Named { stem, figure }: &Named, choices: &Choices, chapters: &[Chapter]) {
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
    push(out, format_args!("<figure id=\"fig-{stem}\"{data}>\n<h3>{title}{}</h3>\n", place(figure)));
    match svg::draw(&figure.title, &figure.body, Dress::Page) {
        Some(drawing) => push(out, format_args!("<div class=\"drawing\">{drawing}</div>\n")),
        None => {
            if let Body::Texts(body) = &figure.body {
                out.push_str(&texts::html(body));
            }
            if let Body::Samples(body) = &figure.body {
                out.push_str(&samples::html(body));
            }
            if let Body::Table(body) = &figure.body {
                let section = |name: &str| {
                    let of = chapters.iter().find(|chapter| chapter.section.id == name);
                    of.map(|chapter| chapter.id.clone())
                };
                push(
                    out,
                    format_args!(
                        "<div class=\"table\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">{}</div>\n",
                        table::html(body, &section)
                    ),
                );
            }
        }
    }
    out.push_str("<figcaption>\n");
    paragraphs(out, &figure.caption);
    if !matches!(figure.body, Body::Table(_) | Body::Texts(_) | Body::Samples(_)) {
        push(
            out,
            format_args!(
                "<p class=\"files\"><a href=\"figures/{stem}.svg\">SVG</a> <a href=\"figures/{stem}.png\">PNG</a></p>\n"
            ),
        );
    }
    out.push_str("</figcaption>\n</figure>\n");
}

/// Which model, stories, layer and variant the figure shows, for readers on paper and without the script.
fn place(figure: &Figure) -> String {
    match figure.place() {
        place if place.is_empty() => place,
        place => format!(" <span class=\"at\">{}</span>", escape(&place)),
    }
}
