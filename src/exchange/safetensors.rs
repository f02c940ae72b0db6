//! The safetensors format: one tensor `<emotion>` of shape `[layers, d_model]` per emotion.

use std::borrow::Cow;
use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors, View};
use serde_json::Value;

use super::Directions;
use super::read::{About, Array, numbers};
use crate::lm::Layer;

/// The file's bytes. Metadata values are strings; lists are encoded as JSON.
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

/// Reads a file: its metadata, and its tensors in the order of their names.
///
/// # Errors
/// The file is invalid.
pub fn read(bytes: &[u8]) -> Result<(About, Vec<Array>)> {
    let wrong = "it is no safetensors file";
    let (_, metadata) = SafeTensors::read_metadata(bytes).context(wrong)?;
    let file = SafeTensors::deserialize(bytes).context(wrong)?;
    let said = |key: &str| metadata.metadata().as_ref()?.get(key);
    let layers = said("emoflow.layers").map(|text| serde_json::from_str::<Vec<Layer>>(text));
    let norms = said("emoflow.resid_norm").map(|text| serde_json::from_str::<Vec<f32>>(text));
    let about = About {
        layers: layers.transpose().context("`emoflow.layers` is no list of layers")?,
        resid_norm: norms.transpose().context("`emoflow.resid_norm` is no list of numbers")?,
    };
    let mut names = file.names();
    names.sort_unstable();
    let array = |name: &str| {
        let tensor = file.tensor(name)?;
        let kind = match tensor.dtype() {
            Dtype::F16 => "<f2",
            Dtype::BF16 => "bf16",
            Dtype::F32 => "<f4",
            Dtype::F64 => "<f8",
            other => bail!("`{name}` is of type {other:?}; floats are read"),
        };
        Ok(Array {
            name: name.to_string(),
            shape: tensor.shape().to_vec(),
            values: numbers(kind, tensor.data())?,
        })
    };
    Ok((about, names.into_iter().map(array).collect::<Result<_>>()?))
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
