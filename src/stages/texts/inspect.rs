//! Inspect logs: a ZIP of `samples/*.json` (`.eval`), or one JSON document with `samples`.

use std::io::{Read, Seek};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use zip::ZipArchive;

use super::{Said, json};

/// Limit on a sample, which is read into memory; in bytes, unpacked.
const LARGEST: u64 = 256 << 20;
/// A log with more files than this is rejected.
const MOST: usize = 200_000;

/// The indices and names of a log's samples, sorted by name.
pub fn samples<R: Read + Seek>(zip: &mut ZipArchive<R>) -> Result<Vec<(usize, String)>> {
    ensure!(zip.len() <= MOST, "it holds {} files; at most {MOST} are read", zip.len());
    let mut samples = Vec::new();
    for at in 0..zip.len() {
        let name = zip.by_index_raw(at)?.name().to_string();
        if name.starts_with("samples/") && name.ends_with(".json") {
            samples.push((at, name));
        }
    }
    ensure!(!samples.is_empty(), "it holds no `samples/*.json`: no log of Inspect");
    samples.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(samples)
}

/// The sample at an index.
pub fn sample<R: Read + Seek>(zip: &mut ZipArchive<R>, at: usize) -> Result<Value> {
    let entry = zip.by_index_raw(at)?;
    let wanted = entry.crc32();
    #[allow(deprecated)] // the number of any method, also of those that the crate cannot unpack itself
    let method = entry.compression().to_u16();
    let unpacked: Box<dyn Read> = match method {
        0 => Box::new(entry),
        8 => Box::new(flate2::read::DeflateDecoder::new(entry)),
        93 => Box::new(zstd::stream::read::Decoder::new(entry)?),
        other => bail!("it is packed by method {other}; stored, deflate and zstd are read"),
    };
    let mut bytes = Vec::new();
    unpacked.take(LARGEST + 1).read_to_end(&mut bytes).context("it cannot be unpacked")?;
    ensure!(bytes.len() as u64 <= LARGEST, "it has more than {} MiB", LARGEST >> 20);
    let mut sum = flate2::Crc::new();
    sum.update(&bytes);
    ensure!(sum.sum() == wanted, "its checksum is wrong: the log is damaged");
    serde_json::from_slice(&bytes).context("not JSON")
}

/// The turns of a sample.
pub fn turns(sample: &Value) -> Result<Vec<Said>> {
    let attachments = sample.get("attachments");
    let resolve = |name: &str| Some(attachments?.get(name)?.as_str()?.to_string());
    json::turns(sample, &resolve)
}

/// The label of a sample: the value at a dotted path, or else the value of the scorer with this name.
pub fn label(sample: &Value, path: &str) -> Result<Option<String>> {
    match json::field(sample, path)? {
        Some(label) => Ok(Some(label)),
        None => json::field(sample, &format!("scores.{path}.value")),
    }
}
