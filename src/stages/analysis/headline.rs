//! Headline numbers: what an analysis found on one set of vectors, so short that it can stand beside other sets and
//! beside what others published. Knows nothing of how they are shown.

use super::Group;
use crate::lm::Layer;
use crate::stages::statistics::Interval;

/// One number about one set of vectors at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Headline {
    pub model: String,
    pub stories: String,
    /// Axes of the sweep, each with the set's value.
    pub axes: Vec<(String, String)>,
    pub layer: Layer,
    /// What it is, with its unit: the same for all sets, and only once in an analysis.
    pub name: String,
    pub value: f64,
    /// In which 95 % lie, where that is known.
    pub interval: Option<Interval>,
    /// The chance of such a value where there is nothing, where that is known.
    pub p: Option<f64>,
    /// With how many it is shown.
    pub decimals: usize,
    /// What others measured, by where they did: the same for all sets.
    pub published: Vec<(&'static str, f64)>,
}

impl Group<'_> {
    /// A headline number of this group, for which nothing is published.
    pub(super) fn headline(&self, name: impl Into<String>, value: f64, decimals: usize) -> Headline {
        Headline {
            model: self.model.to_string(),
            stories: self.stories.to_string(),
            axes: self.axes(),
            layer: self.layer,
            name: name.into(),
            value,
            interval: None,
            p: None,
            decimals,
            published: Vec::new(),
        }
    }
}

impl Headline {
    /// The same with what is known of its chance.
    pub(super) fn within(self, interval: Option<Interval>, p: Option<f64>) -> Headline {
        Headline { interval, p, ..self }
    }

    /// The same with what others published.
    pub(super) fn beside(self, published: Vec<(&'static str, f64)>) -> Headline {
        Headline { published, ..self }
    }
}
