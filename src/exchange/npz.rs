//! NumPy's npz format, a ZIP of NPY files: one array `<emotion>` of shape `[layers, d_model]` per emotion.

use std::io::{Cursor, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Directions;
use super::read::{About, Array, numbers};
use crate::lm::Layer;

/// Name of the array with all metadata, a JSON string.
const SAID: &str = "emoflow";

/// The file, uncompressed as `numpy.savez` writes it. In addition to the emotions it holds the arrays `emoflow.layers`
/// (integers; -1 is the embedding), `emoflow.resid_norm`, and `emoflow`, a string.
pub fn bytes(directions: &Directions) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, kind: &str, shape: &[usize], data: Vec<u8>| -> Result<()> {
        // The time stamp is constant, so that the same vectors give the same bytes.
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
    // NumPy's strings are UTF-32 of fixed length.
    let said = Value::Object(directions.said()).to_string();
    let characters: Vec<u8> = said.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    add(SAID, &format!("<U{}", characters.len() / 4), &[], characters)?;
    Ok(zip.finish()?.into_inner())
}

/// Limit on the number of arrays in a file.
const MOST: usize = 10_000;
/// Limit on the ratio of unpacked size to file size: floats hardly compress, so a larger ratio is no file of vectors.
const MOST_PACKED: u64 = 16;

/// Reads a file of `numpy.savez` or `numpy.savez_compressed`: the metadata in `emoflow.*`, and all other arrays.
///
/// # Errors
/// The file is invalid or too large.
pub fn read(bytes: &[u8]) -> Result<(About, Vec<Array>)> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).context("it is no npz file, which is a ZIP")?;
    ensure!(zip.len() <= MOST, "it holds {} files; at most {MOST} are read", zip.len());
    let mut room = MOST_PACKED * bytes.len() as u64 + (1 << 20);
    let (mut about, mut arrays) = (About::default(), Vec::new());
    for at in 0..zip.len() {
        let entry = zip.by_index_raw(at)?;
        let Some(name) = entry.name().strip_suffix(".npy").map(str::to_string) else { continue };
        if name == SAID {
            continue; // the metadata string, for human readers only
        }
        #[allow(deprecated)] // the raw method number, since entries are unpacked here and not by `zip`
        let unpacked: Box<dyn Read> = match entry.compression().to_u16() {
            0 => Box::new(entry),
            8 => Box::new(flate2::read::DeflateDecoder::new(entry)),
            other => bail!("`{name}` is packed by method {other}; stored and deflate are read"),
        };
        let mut data = Vec::new();
        unpacked
            .take(room + 1)
            .read_to_end(&mut data)
            .with_context(|| format!("`{name}` cannot be unpacked"))?;
        let left = room.checked_sub(data.len() as u64);
        room = left.with_context(|| format!("it unpacks to more than {MOST_PACKED} times its size"))?;
        let (kind, shape, data) = array(&data).with_context(|| format!("array `{name}`"))?;
        match name.as_str() {
            "emoflow.layers" => {
                ensure!(kind == "<i8", "`{name}` is of type `{kind}`, not `<i8`");
                let number = |chunk: &[u8]| i64::from_le_bytes(chunk.try_into().expect("eight bytes"));
                let layer = |number: i64| Layer::of_number(i32::try_from(number).ok()?);
                let layers = data.chunks_exact(8).map(|chunk| layer(number(chunk)));
                about.layers =
                    Some(layers.collect::<Option<_>>().context("no such layer in `emoflow.layers`")?);
            }
            "emoflow.resid_norm" => about.resid_norm = Some(numbers(&kind, data)?),
            _ => arrays.push(Array {
                values: numbers(&kind, data).with_context(|| format!("array `{name}`"))?,
                name,
                shape,
            }),
        }
    }
    Ok((about, arrays))
}

/// The dtype, shape and data of an NPY file.
fn array(file: &[u8]) -> Result<(String, Vec<usize>, &[u8])> {
    let cut = "it is cut short";
    ensure!(file.starts_with(b"\x93NUMPY"), "it is no NPY file");
    let (length, begin) = match file.get(6).context(cut)? {
        1 => (usize::from(u16::from_le_bytes(file.get(8..10).context(cut)?.try_into()?)), 10),
        2 | 3 => (u32::from_le_bytes(file.get(8..12).context(cut)?.try_into()?) as usize, 12),
        version => bail!("version {version} of NPY is not read"),
    };
    let end = begin + length;
    let head = std::str::from_utf8(file.get(begin..end).context(cut)?).context("its head is no text")?;
    let after = |key: &str| head.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let kind = after("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\''));
    let (kind, _) = kind.context("its head names no simple type")?;
    ensure!(after("fortran_order").is_some_and(|rest| rest.starts_with("False")), "it is in Fortran's order");
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.context("its head names no shape")?;
    let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty()).map(str::parse::<usize>);
    let shape = axes.collect::<Result<Vec<_>, _>>().context("its head names no shape")?;
    let size: usize =
        kind.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().context("its type has no size")?;
    let bytes = shape.iter().try_fold(size, |bytes, axis| bytes.checked_mul(*axis));
    let data = &file[end..];
    ensure!(bytes == Some(data.len()), "its data are not of the size that its head says");
    Ok((kind.to_string(), shape, data))
}

/// The header of an NPY file, version 1.0: `kind` as in NumPy's `dtype.str`, in C order (last axis fastest).
fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let said = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", axes.trim_end());
    // The data are aligned to 64 bytes.
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
