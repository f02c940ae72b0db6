//! The closed set of figures that an analysis may return, as data only. Independent of how they are drawn.

use crate::lm::Layer;

/// One figure of the report, and of `results/<name>/figures/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The analysis it belongs to; with model, stories and layer it names the file.
    pub name: String,
    pub title: String,
    /// What the figure shows and how to read it.
    pub caption: String,
    /// The model, story source and layer shown, if specific to one: matched by the report's selectors.
    pub model: Option<String>,
    pub stories: Option<String>,
    pub layer: Option<Layer>,
    /// Axes of a sweep on which it depends, each with its value: `("from_token", "50")`.
    pub axes: Vec<(String, String)>,
    pub body: Body,
}

impl Figure {
    /// `demo · own · layer 4 · from_token=50`: the selection that it shows; empty if independent of the selectors.
    pub fn place(&self) -> String {
        let layer = self.layer.map(|l| format!("layer {l}"));
        let parts = [&self.model, &self.stories, &layer].into_iter().flatten().cloned();
        let axes = self.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
        parts.chain(axes).collect::<Vec<_>>().join(" \u{b7} ")
    }

    /// Whether it is a drawing with its own files, an SVG and a PNG.
    pub fn is_drawn(&self) -> bool {
        !matches!(self.body, Body::Table(_) | Body::Texts(_) | Body::Samples(_) | Body::Code(_))
    }
}

/// The content of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Scatter(Scatter),
    Panels(Panels),
    Heatmap(Heatmap),
    Lines(Lines),
    Multiples(Multiples),
    Bars(Bars),
    Dots(Dots),
    Table(TableFigure),
    Texts(Texts),
    Samples(Samples),
    /// The unchanged text of a file.
    Code(String),
}

/// Labelled points in the plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Scatter {
    pub x: String,
    pub y: String,
    pub points: Vec<Point>,
}

/// One labelled point.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub label: String,
    pub x: f64,
    pub y: f64,
}

/// Scatter plots side by side, all of the same size, each with its own scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    pub panels: Vec<Panel>,
}

/// One of several scatter plots.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub title: String,
    /// Further properties that distinguish it from the others, in smaller lines below the title.
    pub details: Vec<String>,
    pub plane: Scatter,
}

/// A matrix as a heat map with a diverging colour scale around zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    /// Names of the row and column axes.
    pub row_axis: String,
    pub column_axis: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Row-major.
    pub values: Vec<f64>,
    /// Meaning of the colour, with its unit.
    pub value: String,
    /// End of the colour scale on both sides; `None`: the largest magnitude.
    pub limit: Option<f64>,
}

/// Curves over one axis, with optional bands behind them for null distributions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
    pub bands: Vec<Band>,
    /// The axis is logarithmic; every x must be above 0.
    pub log: bool,
}

/// A range of values over an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    pub name: String,
    /// x, low, high; in ascending order of x.
    pub points: Vec<(f64, f64, f64)>,
}

impl Lines {
    /// Extends the name of a layer axis to explain the number of `layer` if it is not a block.
    pub fn mark(&mut self, layer: Layer) {
        if layer == Layer::Embed {
            self.x = layer_axis([layer]);
        }
    }
}

impl Cell {
    /// A layer's number if it is a block, else its name.
    pub fn layer(layer: Layer) -> Cell {
        layer.block().map_or_else(|| Cell::Text(layer.to_string()), |block| Cell::Number(block as f64, 0))
    }
}

/// The name of an axis over `layers`, which explains the number of a layer that is not a block.
pub fn layer_axis(layers: impl IntoIterator<Item = Layer>) -> String {
    match layers.into_iter().any(|layer| layer == Layer::Embed) {
        true => format!("layer ({}: embed)", Layer::Embed.number()),
        false => "layer".to_string(),
    }
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    /// Interval of each point's value; empty if there are none.
    pub intervals: Vec<(f64, f64)>,
}

/// Small plots of curves, all over the same axis and of the same size, each with its own scale. Curves of the same name
/// look the same in all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Multiples {
    pub x: String,
    pub plots: Vec<Plot>,
}

/// One of several plots; its title names what its curves measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    pub title: String,
    pub series: Vec<Series>,
    /// Ranges under the null, each with the name and colour of its curve.
    pub bands: Vec<Band>,
}

/// One bar per label, with an optional band behind it for the null distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub y: String,
    pub bars: Vec<Bar>,
    /// Meaning of the band; empty if there is none.
    pub band: String,
}

/// One bar, with the range of its null distribution and the interval of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub band: Option<(f64, f64)>,
    pub interval: Option<(f64, f64)>,
}

/// One dot per label with its interval, and an optional band behind it for the null distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Dots {
    pub x: String,
    pub dots: Vec<Dot>,
    /// Decimals of the numbers printed next to the dots.
    pub decimals: usize,
    /// Meaning of the band; empty if there is none.
    pub band: String,
}

/// One dot, with its interval and the range of its null distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    pub label: String,
    pub value: f64,
    pub interval: Option<(f64, f64)>,
    pub band: Option<(f64, f64)>,
}

/// Rows of cells.
#[derive(Clone, Debug, PartialEq)]
pub struct TableFigure {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// Texts whose tokens are coloured by one of several measures, chosen by the reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    /// What the measures refer to, such as `emotion`.
    pub measure: String,
    pub measures: Vec<String>,
    /// Meaning of a value, with its unit.
    pub value: String,
    /// Number of values whose mean is shown next to the token's own.
    pub window: usize,
    pub texts: Vec<ShownText>,
}

/// One text.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownText {
    pub title: String,
    /// End of the colour scale on both sides.
    pub limit: f64,
    pub turns: Vec<ShownTurn>,
}

/// One turn of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownTurn {
    /// The speaker.
    pub role: String,
    pub tokens: Vec<String>,
    /// `[measure][token]`
    pub values: Vec<Vec<f32>>,
}

/// Texts that the reader can filter, search and sort.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Categories for filtering: `outcome`, ...
    pub by: Vec<String>,
    /// Names of the numbers for sorting.
    pub numbers: Vec<String>,
    /// Total number of texts, if only a part is included.
    pub all: Option<usize>,
    /// Names of the token measures.
    pub measures: Vec<String>,
    /// Meaning of a value, with its unit.
    pub value: String,
    pub samples: Vec<ShownSample>,
}

/// One of these texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownSample {
    /// A value for each category in `by`; empty if it has none.
    pub of: Vec<String>,
    /// A value for each of `numbers`; NaN if it has none.
    pub numbers: Vec<f64>,
    /// Additional information.
    pub note: String,
    /// The evidence for its classification: an excerpt, which is highlighted, or an explanation; empty if none.
    pub evidence: String,
    /// The text before it.
    pub earlier: String,
    pub text: String,
    /// Its tokens, if they have values.
    pub tokens: Option<ShownTokens>,
}

/// The tokens of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownTokens {
    pub pieces: Vec<String>,
    /// `[measure][token]`
    pub values: Vec<Vec<f32>>,
}

/// A place in the page, with a selection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The name of a section.
    pub section: String,
    pub model: Option<String>,
    pub stories: Option<String>,
    pub layer: Option<Layer>,
    pub axes: Vec<(String, String)>,
}

impl Place {
    /// A section, independent of the selection.
    pub fn section(name: impl Into<String>) -> Place {
        Place { section: name.into(), ..Place::default() }
    }
}

/// Target of a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Place(Place),
    /// A file of the results folder, with `/` between folders.
    File(String),
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Text(String),
    /// A text with a link.
    Link(String, Target),
    /// A number with its decimals, aligned right.
    Number(f64, usize),
    /// A number followed by its interval, with their decimals.
    Ranged(f64, (f64, f64), usize),
    Empty,
}
