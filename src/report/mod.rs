//! Tables and figures -> one self-contained HTML file and its figure files. Knows no analysis by name.

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

/// Everything that the page shows, in the order in which it shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub title: String,
    pub description: String,
    /// What was run: models, device and why that one, time, counts, versions.
    pub facts: Vec<(String, String)>,
    pub sections: Vec<Section>,
    /// Those of which the reader can have one marked in every figure.
    pub emotions: Vec<String>,
    /// Model -> the layer that is shown first. A model that is not here: the layer nearest to 2/3 of
    /// its last one, the depth at which the paper reads its vectors.
    pub default_layers: BTreeMap<String, Layer>,
}

/// A chapter of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Names the chapter in links; made safe and unique when the page is rendered.
    pub id: String,
    pub title: String,
    /// What the chapter shows; empty where the figures say it all.
    pub intro: String,
    pub figures: Vec<Figure>,
    /// The tables of all that it shows: each is `<this>.csv` and `<this>.parquet`.
    pub tables: Vec<String>,
    pub origins: Vec<Origin>,
}

/// Where what a chapter shows comes from: a node of the plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// What it is about; nothing of what it is not told apart by.
    pub model: Option<String>,
    pub stories: Option<String>,
    pub axes: Vec<(String, String)>,
    /// As the plan names it.
    pub node: String,
    /// Of each of its units, and the layer that it is about.
    pub keys: Vec<(Option<Layer>, String)>,
    /// What makes it again.
    pub command: String,
}

impl Origin {
    /// Whether the figure shows something of it.
    fn is_of(&self, figure: &Figure) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        let axes =
            |(axis, value): &(String, String)| figure.axes.iter().all(|(a, v)| a != axis || v == value);
        same(&self.model, &figure.model) && same(&self.stories, &figure.stories) && self.axes.iter().all(axes)
    }
}
