//! Renders tables and figures to one self-contained HTML file and its figure files. Independent of individual analyses.

mod blocks;
pub mod figure;
mod files;
mod html;
mod markup;
mod number;
pub mod png;
mod samples;
mod slots;
pub mod svg;
mod table;
mod texts;

use std::collections::BTreeMap;

use crate::lm::Layer;
use figure::Figure;
pub use files::write;
pub use html::{inflated, render};
pub use number::{fixed, short};

/// The content of the page, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub title: String,
    pub description: String,
    /// Facts about the run: models, device and the reason for its choice, time, counts, versions.
    pub facts: Vec<(String, String)>,
    pub sections: Vec<Section>,
    /// Emotions that the reader can highlight in every figure.
    pub emotions: Vec<String>,
    /// The layer shown first, by model. For other models: the layer nearest to 2/3 of the last one, the depth at which
    /// the paper reads its vectors.
    pub default_layers: BTreeMap<String, Layer>,
}

/// A chapter of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Identifier of the chapter in links; made safe and unique when the page is rendered.
    pub id: String,
    pub title: String,
    /// Introduction to the chapter; empty if the figures need none.
    pub intro: String,
    pub figures: Vec<Figure>,
    /// Tables with the data shown: each exists as `<name>.csv` and `<name>.parquet`.
    pub tables: Vec<String>,
    pub origins: Vec<Origin>,
}

/// Provenance of a chapter's content: a node of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// Model, stories and axes of the node; empty where it does not depend on them.
    pub model: Option<String>,
    pub stories: Option<String>,
    pub axes: Vec<(String, String)>,
    /// Its name in the plan.
    pub node: String,
    /// Layer and key of each of its units.
    pub keys: Vec<(Option<Layer>, String)>,
    /// Command that recomputes it.
    pub command: String,
}

impl Origin {
    /// Whether the figure may show results of this node.
    fn is_of(&self, figure: &Figure) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        let axes =
            |(axis, value): &(String, String)| figure.axes.iter().all(|(a, v)| a != axis || v == value);
        same(&self.model, &figure.model) && same(&self.stories, &figure.stories) && self.axes.iter().all(axes)
    }
}
