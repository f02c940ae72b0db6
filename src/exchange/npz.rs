//! One array `<emotion>` of `[layers, d_model]` in a file of NumPy's: a ZIP of NPY files.

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use serde_json::Value;
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Directions;

/// All that is said of the vectors, as JSON in one text.
const SAID: &str = "emoflow";

/// The file, uncompressed as `numpy.savez` writes it. Beside the emotions it has the arrays `emoflow.layers` (integers, -1 is
/// the embedding), `emoflow.resid_norm`, and `emoflow`, a text.
pub fn bytes(directions: &Directions) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, kind: &str, shape: &[usize], data: Vec<u8>| -> Result<()> {
        // The time in it is always the same, so that the same vectors are the same bytes.
        let options = FileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(format!("{name}.npy"), options).with_context(|| format!("array `{name}`"))?;
        zip.write_all(&header(kind, shape))?;
        Ok(zip.write_all(&data)?)
    };
    let n = directions.layers.len();
    for emotion in &directions.emotions {
        add(&emotion.name, "<f4", &[n, directions.d_model], floats(&emotion.values))?;
    }
    let layers = directions.layers.iter().flat_map(|layer| i64::from(layer.number()).to_le_bytes());
    add("emoflow.layers", "<i8", &[n], layers.collect())?;
    add("emoflow.resid_norm", "<f4", &[n], floats(&directions.resid_norm))?;
    // NumPy's texts are UTF-32, of a fixed length.
    let said = Value::Object(directions.said()).to_string();
    let characters: Vec<u8> = said.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    add(SAID, &format!("<U{}", characters.len() / 4), &[], characters)?;
    Ok(zip.finish()?.into_inner())
}

/// The head of an NPY file, version 1.0: `kind` as in NumPy's `dtype.str`, the last axis running fastest.
fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let said = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", axes.trim_end());
    // Data begin at a multiple of 64 bytes.
    let (before, end) = (10, 1);
    let padded = (before + said.len() + end).next_multiple_of(64) - before - end;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((padded + end) as u16).to_le_bytes());
    bytes.extend(format!("{said:<padded$}\n").bytes());
    bytes
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
