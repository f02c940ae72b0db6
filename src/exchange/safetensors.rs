//! One tensor `<emotion>` of `[layers, d_model]` in a safetensors file.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::Result;
use safetensors::{Dtype, View};
use serde_json::Value;

use super::Directions;

/// The file. Its metadata are texts: lists are JSON.
pub fn bytes(directions: &Directions) -> Result<Vec<u8>> {
    let shape = [directions.layers.len(), directions.d_model];
    let tensors = directions.emotions.iter().map(|e| (&e.name, Rows { values: &e.values, shape }));
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let said: HashMap<String, String> =
        directions.said().into_iter().map(|(key, value)| (key, text(value))).collect();
    Ok(safetensors::serialize(tensors, Some(said))?)
}

struct Rows<'a> {
    values: &'a [f32],
    shape: [usize; 2],
}

impl View for Rows<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}
