//! Control vectors of llama.cpp and repeng: GGUF version 3 with one tensor `direction.N` per block N, from 1.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use anamnesis::{GgufType, ParseLimits, parse_gguf_front_matter_from_reader_with_limits};
use anyhow::{Context, Result, anyhow, bail, ensure};

use super::read::{Theirs, numbers};
use super::{CONVENTION, Directions, Emotion};
use crate::lm::Layer;

/// Alignment of the tensor section and of each tensor's data, in bytes.
const ALIGNMENT: usize = 32;

/// Codes of the format for value and tensor types.
mod kind {
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const TEXT: u32 = 8;
    pub const LIST: u32 = 9;
    pub const F32_TENSOR: u32 = 0;
}

/// The control vector of one emotion as a file. `direction.N` is added to the residual stream after block N (0-based)
/// at every token position.
///
/// # Errors
/// A layer that the format cannot hold: the embedding, or block 0.
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

/// Limits on the size of a header, which is untrusted input: no control vector has more.
const LARGEST_HEADER: u64 = 16 << 20;
const MOST_ITEMS: u64 = 10_000;

/// Reads a control vector of llama.cpp, repeng or emoflow: `direction.N` is the vector after block N. `name`: the
/// emotion's name if the file has none. `bytes`: the complete content of `file`.
///
/// # Errors
/// The file is no valid control vector.
pub fn read(file: impl Read + Seek, bytes: &[u8], name: &str) -> Result<Theirs> {
    let limits = ParseLimits::default().with_max_total_bytes(LARGEST_HEADER).with_max_item_count(MOST_ITEMS);
    let front =
        parse_gguf_front_matter_from_reader_with_limits(file, &limits).map_err(|error| anyhow!("{error}"))?;
    let word = |key: &str| front.metadata.get(key).and_then(|value| value.as_string()).map(str::to_string);
    let kind = word("general.architecture").unwrap_or_default();
    ensure!(kind == "controlvector", "it is no control vector: `general.architecture` is `{kind}`");
    let (mut rows, mut room) = (BTreeMap::new(), bytes.len());
    for info in &front.tensor_infos {
        let block = info.name.strip_prefix("direction.").and_then(|block| block.parse::<usize>().ok());
        let Some(block) = block.filter(|block| *block < 100_000) else {
            bail!("tensor `{}` is no `direction.N`", info.name)
        };
        let [width] = info.shape[..] else { bail!("`{}` has {} axes", info.name, info.shape.len()) };
        let (kind, each) = match info.dtype {
            GgufType::F32 => ("<f4", 4),
            GgufType::F16 => ("<f2", 2),
            other => bail!("`{}` is of type {other}; F32 and F16 are read", info.name),
        };
        let begin = usize::try_from(info.data_offset)?;
        let end = width.checked_mul(each).and_then(|bytes| begin.checked_add(bytes));
        let data = end.and_then(|end| bytes.get(begin..end));
        let data = data.with_context(|| format!("`{}` goes on beyond the file's end", info.name))?;
        room = room.checked_sub(data.len()).context("its tensors lie over each other")?;
        rows.insert(Layer::Block(block), numbers(kind, data)?);
    }
    let listed = |key: &str| front.metadata.get(key).and_then(|value| value.as_array());
    let norms = listed("emoflow.resid_norm").and_then(|norms| norms.as_f32_slice());
    // Files of emoflow list the norms in the order of the tensors.
    let norms = norms.filter(|norms| norms.len() == rows.len()).into_iter().flatten().copied();
    let norms = front.tensor_infos.iter().zip(norms).filter_map(|(info, norm)| {
        Some((Layer::Block(info.name.strip_prefix("direction.")?.parse().ok()?), norm))
    });
    let norms = norms.collect();
    Theirs::single(word("emoflow.emotion").unwrap_or_else(|| name.to_string()), rows, norms)
}

/// Encoded key-value pairs of the header.
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
