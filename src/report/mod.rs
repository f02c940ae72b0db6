//! Tables and figures -> one self-contained HTML file and its figure files. Knows no analysis by name.

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
pub use html::render;
pub use number::{fixed, short};

/// Everything that the page shows, in the order in which it shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub title: String,
    pub description: String,
    /// What was run: models, device and why that one, time, counts, versions.
    pub facts: Vec<(String, String)>,
    pub sections: Vec<Section>,
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
}
