//! Compressed content of a page: texts packed into blocks, each inflated by the page's script when one of its texts is
//! needed. Independent of the content of the texts.

use std::io::{Read, Write};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use rayon::prelude::*;

/// Size in bytes at which a block is closed: it inflates within a few milliseconds, and figures of neighbouring layers
/// share it, so that stepping through layers rarely inflates anything.
const FULL: usize = 96 << 10;

/// Separator between the texts of a block; never occurs in markup.
const BETWEEN: &str = "\0";

/// Packs the texts of `groups` into blocks, none of which is shared by two groups. Also returns the block and the index
/// within it of each text.
pub fn pack(groups: &[Vec<String>]) -> (Vec<String>, Vec<Vec<(usize, usize)>>) {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut places = Vec::new();
    for group in groups {
        let mut size = FULL;
        let of_group = group.iter().map(|text| {
            if size >= FULL {
                blocks.push(Vec::new());
                size = 0;
            }
            size += text.len();
            let block = blocks.last_mut().expect("there is one now");
            block.push(text);
            let at = block.len() - 1;
            (blocks.len() - 1, at)
        });
        places.push(of_group.collect());
    }
    (blocks.par_iter().map(|texts| deflated(&texts.join(BETWEEN))).collect(), places)
}

fn deflated(text: &str) -> String {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("a vector takes everything");
    STANDARD.encode(encoder.finish().expect("a vector takes everything"))
}

/// Unpacks the texts of a block.
///
/// # Errors
/// The block was not written by [`pack`].
pub fn unpack(block: &str) -> Result<Vec<String>> {
    let bytes = STANDARD.decode(block).context("a block that is not base64")?;
    let mut text = String::new();
    DeflateDecoder::new(bytes.as_slice()).read_to_string(&mut text).context("inflate a block")?;
    Ok(text.split(BETWEEN).map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_in_its_place_and_groups_share_no_block() {
        let group = |name: &str, n: usize| (0..n).map(|at| format!("{name}{at} ").repeat(9_000)).collect();
        let groups: Vec<Vec<String>> = vec![group("a", 5), vec![], group("怒", 1), group("b", 2)];
        let (blocks, places) = pack(&groups);
        // "a0 " is 27 kB: the fourth fills a block.
        assert_eq!(places[0], [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]);
        assert_eq!(
            (&places[1..], blocks.len()),
            ([vec![], vec![(2, 0)], vec![(3, 0), (3, 1)]].as_slice(), 4)
        );
        for (texts, places) in groups.iter().zip(&places) {
            for (text, &(block, at)) in texts.iter().zip(places) {
                assert!(unpack(&blocks[block]).unwrap()[at] == *text);
            }
        }
        assert!(unpack("AAAA").is_err() && unpack("\"").is_err());
    }
}
