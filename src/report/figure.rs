//! The closed set of figures that an analysis may return: data only, nothing of how they are drawn.

use crate::lm::Layer;

/// One figure of the report, and of `results/<name>/figures/`.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The analysis it belongs to; with model, stories and layer it names the file.
    pub name: String,
    pub title: String,
    /// What one sees and how to read it.
    pub caption: String,
    /// The model, story source and layer it shows, where it shows one: the report's selectors.
    pub model: Option<String>,
    pub stories: Option<String>,
    pub layer: Option<Layer>,
    /// Axes of a sweep on which it depends, each with the value that it shows: `("from_token", "50")`.
    pub axes: Vec<(String, String)>,
    pub body: Body,
}

impl Figure {
    /// `demo · own · layer 4 · from_token=50`: what the title leaves to the selectors; empty where it shows everything.
    pub fn place(&self) -> String {
        let layer = self.layer.map(|l| format!("layer {l}"));
        let parts = [&self.model, &self.stories, &layer].into_iter().flatten().cloned();
        let axes = self.axes.iter().map(|(axis, value)| format!("{axis}={value}"));
        parts.chain(axes).collect::<Vec<_>>().join(" \u{b7} ")
    }

    /// Whether it has files of its own: an SVG and a PNG.
    pub fn is_drawn(&self) -> bool {
        !matches!(self.body, Body::Table(_) | Body::Texts(_) | Body::Samples(_) | Body::Code(_))
    }
}

/// What is drawn.
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
    /// A file's text, as it is.
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

/// Planes side by side, all of the same size, each with a scale of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Panels {
    pub panels: Vec<Panel>,
}

/// One of several planes.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub title: String,
    /// What else tells it from the others, in lesser lines below the title.
    pub details: Vec<String>,
    pub plane: Scatter,
}

/// A matrix in colours, diverging around zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    /// What the rows and the columns are.
    pub row_axis: String,
    pub column_axis: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// Row after row.
    pub values: Vec<f64>,
    /// What the colour means, with its unit.
    pub value: String,
    /// The colour scale ends at plus and minus this; `None`: the largest magnitude.
    pub limit: Option<f64>,
}

/// Curves over one axis, with bands behind them for nulls where there are any.
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
    /// x, low, high; in rising order of x.
    pub points: Vec<(f64, f64, f64)>,
}

impl Lines {
    /// Says on an axis over layers what the number of `layer` means, where it is no block's.
    pub fn mark(&mut self, layer: Layer) {
        if layer == Layer::Embed {
            self.x = layer_axis([layer]);
        }
    }
}

impl Cell {
    /// A layer's number, or its name.
    pub fn layer(layer: Layer) -> Cell {
        layer.block().map_or_else(|| Cell::Text(layer.to_string()), |block| Cell::Number(block as f64, 0))
    }
}

/// The name of the axis over `layers`, which says what the number means that is no block's.
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
    /// Of each point the interval of its value; empty where there are none.
    pub intervals: Vec<(f64, f64)>,
}

/// Small plots of curves, all over the same axis and of the same size, each with a scale of its own. Curves of the same
/// name look alike in all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Multiples {
    pub x: String,
    pub plots: Vec<Plot>,
}

/// One of several plots: its title is what its curves measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    pub title: String,
    pub series: Vec<Series>,
    /// What chance gives, each by the name of its curve and in its colour.
    pub bands: Vec<Band>,
}

/// One bar a label, with a band behind it for the null where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    pub y: String,
    pub bars: Vec<Bar>,
    /// What the band is; empty where there is none.
    pub band: String,
}

/// One bar, the range of its null, and the interval in which its value lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub label: String,
    pub value: f64,
    pub band: Option<(f64, f64)>,
    pub interval: Option<(f64, f64)>,
}

/// One dot a label with its interval, and a band behind it for the null where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Dots {
    pub x: String,
    pub dots: Vec<Dot>,
    /// Decimals of the numbers that stand beside the dots.
    pub decimals: usize,
    /// What the band is; empty where there is none.
    pub band: String,
}

/// One dot, its interval and the range of its null.
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

/// Texts whose tokens are coloured by one of several measures, which the reader chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Texts {
    /// What the measures are of: `emotion`.
    pub measure: String,
    pub measures: Vec<String>,
    /// What a value means, with its unit.
    pub value: String,
    /// Values whose mean is shown beside a token's own.
    pub window: usize,
    pub texts: Vec<ShownText>,
}

/// One text.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownText {
    pub title: String,
    /// The colour scale ends at plus and minus this.
    pub limit: f64,
    pub turns: Vec<ShownTurn>,
}

/// One turn of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownTurn {
    /// Who speaks.
    pub role: String,
    pub tokens: Vec<String>,
    /// `[measure][token]`
    pub values: Vec<Vec<f32>>,
}

/// Texts among which the reader chooses by what they are of, searches and sorts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// What can be chosen: `outcome`, ...
    pub by: Vec<String>,
    /// By what numbers they can be sorted.
    pub numbers: Vec<String>,
    /// How many there are in all, where these are a part.
    pub all: Option<usize>,
    /// Of what the values of tokens are; what a value means, with its unit.
    pub measures: Vec<String>,
    pub value: String,
    pub samples: Vec<ShownSample>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownSample {
    /// What it is of: a value for each of `by`; empty where it has none.
    pub of: Vec<String>,
    /// A value for each of `numbers`; NaN where it has none.
    pub numbers: Vec<f64>,
    /// What else is to be known of it.
    pub note: String,
    /// What told what it is: a piece of it, which is marked, or words about it; empty: nothing.
    pub evidence: String,
    /// What came before it.
    pub earlier: String,
    pub text: String,
    /// Its tokens, where they have values.
    pub tokens: Option<ShownTokens>,
}

/// The tokens of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShownTokens {
    pub pieces: Vec<String>,
    /// `[measure][token]`
    pub values: Vec<Vec<f32>>,
}

/// A place of the page, with what is chosen there.
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
    /// The section, whatever is chosen.
    pub fn section(name: impl Into<String>) -> Place {
        Place { section: name.into(), ..Place::default() }
    }
}

/// Where a link leads.
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
    /// A text that leads elsewhere.
    Link(String, Target),
    /// Shown with so many decimals, aligned right.
    Number(f64, usize),
    /// The same with its interval behind it.
    Ranged(f64, (f64, f64), usize),
    Empty,
}
