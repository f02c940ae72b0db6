//! Control vectors of llama.cpp and repeng: GGUF version 3 with a tensor `direction.N` for block N, from 1.

use anyhow::{Context, Result, ensure};

use super::{CONVENTION, Directions, Emotion};

/// Where tensors begin, and the data of each.
const ALIGNMENT: usize = 32;

/// Numbers that stand for types of values and of tensors in the format.
mod kind {
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const TEXT: u32 = 8;
    pub const LIST: u32 = 9;
    pub const F32_TENSOR: u32 = 0;
}

/// The control vector of one emotion. `direction.N` is added to the residual stream after block N, counted from 0, at
/// every position.
///
/// # Errors
/// A layer that the format has not: the embedding, and block 0.
pub fn bytes(directions: &Directions, emotion: &Emotion) -> Result<Vec<u8>> {
    let blocks = directions.layers.iter().map(|layer| {
        let block = layer.block().filter(|&block| block > 0);
        block.with_context(|| format!("a GGUF control vector has no place for layer {layer}"))
    });
    let blocks = blocks.collect::<Result<Vec<usize>>>()?;
    ensure!(!blocks.is_empty(), "a control vector of no layer");
    let mut values = Values::default();
    values.text("general.architecture", "controlvector");
    values.text("controlvector.model_hint", &directions.model_type);
    values.number("controlvector.layer_count", blocks.len() as u32);
    values.text("emoflow.emotion", &emotion.name);
    let places = blocks.iter().flat_map(|&block| (block as i32).to_le_bytes()).collect();
    values.list("emoflow.layers", kind::I32, blocks.len(), places);
    values.text("emoflow.layer_convention", CONVENTION);
    values.floats("emoflow.resid_norm", &directions.resid_norm);
    values.floats("emoflow.strength_1", &directions.strength_1(emotion));
    for (key, value) in directions.provenance.iter().filter(|(key, _)| key != "emoflow.layer_convention") {
        values.text(key, value);
    }

    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend((blocks.len() as u64).to_le_bytes());
    bytes.extend(values.count.to_le_bytes());
    bytes.extend(values.bytes);
    let d_model = directions.d_model;
    let each = (size_of::<f32>() * d_model).next_multiple_of(ALIGNMENT);
    for (at, block) in blocks.iter().enumerate() {
        text(&mut bytes, &format!("direction.{block}"));
        bytes.extend(1u32.to_le_bytes()); // one axis
        bytes.extend((d_model as u64).to_le_bytes());
        bytes.extend(kind::F32_TENSOR.to_le_bytes());
        bytes.extend(((at * each) as u64).to_le_bytes());
    }
    let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    pad(&mut bytes);
    for row in emotion.values.chunks_exact(d_model) {
        bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
        pad(&mut bytes);
    }
    Ok(bytes)
}

/// Keys and values, as they stand in the file.
#[derive(Default)]
struct Values {
    count: u64,
    bytes: Vec<u8>,
}

impl Values {
    fn key(&mut self, key: &str, kind: u32) {
        self.count += 1;
        text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, kind::TEXT);
        text(&mut self.bytes, value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.key(key, kind::U32);
        self.bytes.extend(value.to_le_bytes());
    }

    fn list(&mut self, key: &str, of: u32, count: usize, items: Vec<u8>) {
        self.key(key, kind::LIST);
        self.bytes.extend(of.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
        self.bytes.extend(items);
    }

    fn floats(&mut self, key: &str, values: &[f32]) {
        let items = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.list(key, kind::F32, values.len(), items);
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.bytes());
}
