//! The leading columns of every analysis table. Independent of the analyses.

use super::VectorSet;
use crate::lm::Layer;
use crate::store::table::{Column, Table};

/// The columns with which every analysis table starts: `model`, `stories`, `layer`, one entry per row.
#[derive(Default)]
pub(in crate::stages) struct Places {
    model: Vec<String>,
    stories: Vec<String>,
    layer: Vec<i32>,
}

impl Places {
    pub(in crate::stages) fn push(&mut self, set: &VectorSet, layer: Layer) {
        self.model.push(set.model.clone());
        self.stories.push(set.stories.clone());
        self.layer.push(layer.number());
    }

    pub(in crate::stages) fn table(self, schema: &str, columns: Vec<(&str, Column)>) -> Table {
        let places = [
            ("model", Column::Str(self.model)),
            ("stories", Column::Str(self.stories)),
            ("layer", Column::I32(self.layer)),
        ];
        Table::new(schema, places.into_iter().chain(columns).collect())
    }
}
