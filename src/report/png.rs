//! Renders SVG to PNG with embedded fonts: the same pixels on every machine. Independent of figures.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use png::{BitDepth, ColorType, DeflateCompression, Encoder, Filter};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Pixels per unit of the drawing.
pub const PIXELS_PER_UNIT: f32 = 2.0;

/// Limit on the pixels of a drawing (64 million: 256 MB during rendering).
const MOST_PIXELS: f32 = 64e6;

static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(without_kern(dejavu::sans::regular()));
    fonts.load_font_data(without_kern(dejavu::sans::bold()));
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// The font with its `kern` table renamed. The shaper would read the table anew for each text, which is half of the
/// time to parse a drawing; without it, it kerns with `GPOS`, which DejaVu has too.
fn without_kern(font: &[u8]) -> Vec<u8> {
    let mut font = font.to_vec();
    let tables = usize::from(u16::from_be_bytes([font[4], font[5]]));
    let (directory, _) = font[12..].as_chunks_mut::<16>();
    for table in directory.iter_mut().take(tables).filter(|table| table.starts_with(b"kern")) {
        table[..4].copy_from_slice(b"none");
    }
    font
}

/// Parses the drawing as SVG, with the fonts that `render` uses.
///
/// # Errors
/// `svg` is not well-formed XML or not SVG.
pub fn parse(svg: &str) -> Result<Tree> {
    let options =
        Options { fontdb: FONTS.clone(), font_family: "DejaVu Sans".to_string(), ..Options::default() };
    Tree::from_str(svg, &options).context("read the drawing as SVG")
}

/// Renders the drawing to the bytes of a PNG file, with two pixels per unit.
///
/// # Errors
/// `svg` is not SVG, or too large to be drawn.
pub fn render(svg: &str) -> Result<Vec<u8>> {
    let tree = parse(svg)?;
    let (width, height) = (tree.size().width() * PIXELS_PER_UNIT, tree.size().height() * PIXELS_PER_UNIT);
    ensure!(width * height <= MOST_PIXELS, "a drawing of {width} by {height} pixels is too large for a PNG");
    let mut pixels =
        Pixmap::new(width.ceil() as u32, height.ceil() as u32).context("a drawing without area")?;
    pixels.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(PIXELS_PER_UNIT, PIXELS_PER_UNIT), &mut pixels.as_mut());
    encode(&pixels).context("encode the drawing as PNG")
}

/// Encodes the opaque pixels with at most 256 colours, one byte per pixel: with three bytes, compression would be most
/// of the work. Most rows resemble the row above, so row differences are compressed; a level above 2 saves little.
fn encode(pixels: &Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let (palette, indices) = indexed(pixels.data());
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, pixels.width(), pixels.height());
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(palette.concat());
    encoder.set_deflate_compression(DeflateCompression::Level(2));
    encoder.set_filter(Filter::Up);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&indices)?;
    writer.finish()?;
    Ok(file)
}

/// The most frequent colours of `rgba`, at most 256, and for each pixel the index of its colour or of the nearest one.
/// A drawing has more than 256 colours if text lies on cells of many colours: only anti-aliased edges of letters are
/// then inexact.
fn indexed(rgba: &[u8]) -> (Vec<[u8; 3]>, Vec<u8>) {
    let (pixels, _) = rgba.as_chunks::<4>();
    // Colours are numbered in the order of their first pixels.
    let mut numbers: HashMap<[u8; 4], usize> = HashMap::new();
    let mut counts: Vec<([u8; 3], usize)> = Vec::new();
    let runs = pixels.chunk_by(|one, next| one == next).map(|run| {
        let [red, green, blue, _] = run[0];
        let number = *numbers.entry(run[0]).or_insert(counts.len());
        if number == counts.len() {
            counts.push(([red, green, blue], 0));
        }
        counts[number].1 += run.len();
        (number, run.len())
    });
    let runs: Vec<(usize, usize)> = runs.collect();
    let mut palette: Vec<([u8; 3], usize)> = counts.clone();
    palette.sort_by_key(|&(colour, count)| (Reverse(count), colour));
    let palette: Vec<[u8; 3]> = palette.into_iter().map(|(colour, _)| colour).take(256).collect();
    let nearest = |(colour, _): &([u8; 3], usize)| {
        let nearest = (0..palette.len()).min_by_key(|&at| distance(palette[at], *colour));
        nearest.unwrap_or_default() as u8
    };
    let places: Vec<u8> = counts.iter().map(nearest).collect();
    let mut indices = Vec::with_capacity(pixels.len());
    for (number, length) in runs {
        indices.resize(indices.len() + length, places[number]);
    }
    (palette, indices)
}

fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.iter().zip(other).map(|(one, other)| u32::from(one.abs_diff(other)).pow(2)).sum()
}

/// Whether `bytes` have the first and last bytes of a complete PNG file.
pub fn is_whole(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xae\x42\x60\x82")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_colours_are_exact_and_rare_ones_near() {
        // 256 colours twice each, then 44 others once, each nearest to one of the 256.
        let frequent: Vec<[u8; 3]> = (0..256).map(|grey| [grey as u8, grey as u8, 7]).collect();
        let rare: Vec<[u8; 3]> = (0..44).map(|grey| [grey * 2, grey * 2, 8]).collect();
        let drawn: Vec<[u8; 3]> = frequent.iter().chain(&frequent).chain(&rare).copied().collect();
        let rgba: Vec<u8> = drawn.iter().flat_map(|&[red, green, blue]| [red, green, blue, 255]).collect();
        let (palette, indices) = indexed(&rgba);
        assert_eq!((palette.len(), indices.len()), (256, drawn.len()));
        for (pixel, index) in drawn.iter().zip(indices) {
            let shown = palette[usize::from(index)];
            let expected = [pixel[0], pixel[1], 7];
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn a_font_without_kern_is_the_same_font() {
        let (whole, without) = (dejavu::sans::regular(), without_kern(dejavu::sans::regular()));
        let differ: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != without[at]).collect();
        assert_eq!(differ.len(), 4);
        assert_eq!(&whole[differ[0]..differ[0] + 4], b"kern");
    }
}
