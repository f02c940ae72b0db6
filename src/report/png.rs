//! SVG -> PNG, with fonts of its own: the same pixels on every machine. Knows nothing of figures.

use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use png::{BitDepth, ColorType, Compression, Encoder, Filter};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Pixels per unit of the drawing.
pub const PIXELS_PER_UNIT: f32 = 2.0;

/// No drawing is turned into more pixels than this (64 million: 256 MB while it is drawn).
const MOST_PIXELS: f32 = 64e6;

static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// The drawing parsed as SVG, with the fonts that `render` uses.
///
/// # Errors
/// Where `svg` is not well-formed XML or not SVG.
pub fn parse(svg: &str) -> Result<Tree> {
    let options =
        Options { fontdb: FONTS.clone(), font_family: "DejaVu Sans".to_string(), ..Options::default() };
    Tree::from_str(svg, &options).context("read the drawing as SVG")
}

/// The drawing as a PNG file's bytes, two pixels a unit.
///
/// # Errors
/// Where `svg` is not SVG, or too large to be drawn.
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

/// The opaque pixels as a file. A drawing is mostly rows like the one above: their differences are tried alone,
/// as trying every filter takes longer. (The fast packing takes a fifth less of the report's time, and three times the room.)
fn encode(pixels: &Pixmap) -> Result<Vec<u8>, png::EncodingError> {
    let mut colours = vec![0; pixels.data().len() / 4 * 3];
    for (colour, pixel) in colours.chunks_exact_mut(3).zip(pixels.data().chunks_exact(4)) {
        colour.copy_from_slice(&pixel[..3]);
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, pixels.width(), pixels.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    encoder.set_filter(Filter::Up);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(file)
}

/// Whether `bytes` begin and end as a PNG file does.
pub fn is_whole(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xae\x42\x60\x82")
}
