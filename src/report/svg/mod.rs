//! Draws figures as SVG. Depends on the closed set of figures; independent of analyses, pages and files.

mod axes;
mod bars;
pub(super) mod colour;
mod dots;
pub(super) mod heatmap;
mod labels;
mod lines;
mod multiples;
mod panels;
mod scale;
mod scatter;
mod text;

use std::fmt::Write as _;

use super::figure::Body;
use super::markup::escape;
use super::number::place;
use colour::Scheme;

/// Where the drawing will be shown: the marks are the same, only the source of the colours differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Inside the page, whose style sheet contains `page_rules`.
    Page,
    /// A separate file, light or dark according to the reader's system.
    File,
    /// Always light, with concrete colours and DejaVu Sans: input of the PNG renderer.
    Print,
}

/// Draws `body` as well-formed XML, whatever the labels contain; `None` for tables and texts. `title` is read out by
/// screen readers. The same input gives the same bytes.
pub fn draw(title: &str, body: &Body, dress: Dress) -> Option<String> {
    let drawing = match body {
        Body::Scatter(scatter) => scatter::draw(scatter),
        Body::Panels(panels) => panels::draw(panels),
        Body::Heatmap(heatmap) => heatmap::draw(heatmap),
        Body::Lines(lines) => lines::draw(lines),
        Body::Multiples(multiples) => multiples::draw(multiples),
        Body::Bars(bars) => bars::draw(bars),
        Body::Dots(dots) => dots::draw(dots),
        Body::Table(_) | Body::Texts(_) | Body::Samples(_) | Body::Code(_) => return None,
    };
    Some(drawing.finish(title, dress))
}

/// The style rules of drawings in `Dress::Page`, light and dark.
pub fn page_rules() -> String {
    let rules =
        |scheme| colour::base_rules(scheme) + &colour::scale_rules(scheme) + &colour::token_rules(scheme);
    format!(
        "{}@media screen and (prefers-color-scheme:dark){{{}}}",
        rules(Scheme::Light),
        rules(Scheme::Dark)
    )
}

/// A drawing under construction.
struct Drawing {
    width: f64,
    height: f64,
    /// Description for screen readers.
    summary: String,
    /// Whether it uses the diverging scale.
    diverging: bool,
    /// Attributes that the page's script reads.
    data: String,
    marks: String,
}

/// Alignment of a text relative to its position.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

impl Drawing {
    fn new(width: f64, height: f64, summary: String) -> Drawing {
        Drawing { width, height, summary, diverging: false, data: String::new(), marks: String::new() }
    }

    /// A drawing with a note that there is nothing to draw.
    fn empty(summary: String) -> Drawing {
        let mut drawing = Drawing::new(WIDTH, 80.0, summary);
        drawing.text(WIDTH / 2.0, 44.0, 13.0, Anchor::Middle, "soft", "no finite values to draw");
        drawing
    }

    fn raw(&mut self, marks: std::fmt::Arguments) {
        self.marks.write_fmt(marks).expect("a string takes everything");
    }

    /// Draws a text; `y` is approximately the middle of the lower-case letters.
    fn text(&mut self, x: f64, y: f64, size: f64, anchor: Anchor, class: &str, content: &str) {
        let (x, y, size) = (place(x), place(y + 0.35 * size), place(size));
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let content = escape(content);
        self.raw(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor} class=\"{class}\">{content}</text>"
        ));
    }

    /// Draws a text rotated clockwise by `degrees`; it starts, or is centred, at the position.
    fn turned(
        &mut self,
        (x, y): (f64, f64),
        degrees: f64,
        size: f64,
        anchor: Anchor,
        class: &str,
        content: &str,
    ) {
        self.raw(format_args!(
            "<g transform=\"translate({} {}) rotate({})\">",
            place(x),
            place(y),
            place(degrees)
        ));
        self.text(0.0, 0.0, size, anchor, class, content);
        self.raw(format_args!("</g>"));
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let (x1, y1, x2, y2) = (place(x1), place(y1), place(x2), place(y2));
        self.raw(format_args!("<path d=\"M{x1} {y1}L{x2} {y2}\" class=\"{class}\"/>"));
    }

    /// Draws a filled rectangle; `title` is its tooltip.
    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, title: &str) {
        let (x, y, width, height) = (place(x), place(y), place(width), place(height));
        let title =
            if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        self.raw(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\">{title}</rect>"
        ));
    }

    fn finish(self, title: &str, dress: Dress) -> String {
        let Drawing { width, height, summary, diverging, data, marks } = self;
        let (width, height) = (place(width.ceil()), place(height.ceil()));
        let rules = |scheme| {
            let scale = if diverging { colour::scale_rules(scheme) } else { String::new() };
            format!("{}{scale}", colour::base_rules(scheme))
        };
        let style = match dress {
            Dress::Page => String::new(),
            Dress::File => format!(
                "<!-- emoflow {} --><style>{}@media (prefers-color-scheme:dark){{{}}}</style>",
                env!("CARGO_PKG_VERSION"),
                rules(Scheme::Light),
                rules(Scheme::Dark)
            ),
            Dress::Print => format!("<style>{}</style>", rules(Scheme::Light)),
        };
        let font = if dress == Dress::Print { PRINT_FONT } else { FONT };
        let data = if dress == Dress::Page { data } else { String::new() };
        let paper =
            if dress == Dress::Page { "" } else { "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>" };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{}: {}\" font-family=\"{font}\" fill=\"none\"{data}>\
             {style}{paper}{marks}</svg>",
            escape(title),
            escape(&summary),
        )
    }
}

/// The default width of drawings: that of the page's text column.
const WIDTH: f64 = 820.0;

const FONT: &str = "system-ui,-apple-system,Segoe UI,Roboto,Helvetica Neue,Arial,sans-serif";
const PRINT_FONT: &str = "DejaVu Sans";

#[cfg(test)]
mod tests;
