//! Colours of all figures, light and dark, as CSS rules for classes: a drawing refers to classes only. Independent of
//! what is drawn.

/// The light or the dark colour scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

/// Classes of the diverging scale on either side of its neutral middle: few enough that one path per class stays small,
/// many enough that steps between neighbours are hardly visible.
pub const STEPS: i32 = 20;

/// The class of the text in a cell of class `step`. In the light scheme cells grow darker with magnitude, and text
/// switches from black to white; in the dark scheme they grow brighter, and text switches from white to black, earlier.
/// The bounds keep a contrast of at least 4.5 (WCAG 2.2, AA).
pub fn text_class(step: Option<i32>) -> &'static str {
    match step.map_or(0, |s| (s - STEPS).abs()) {
        0..=12 => "on",
        13..=15 => "mid",
        _ => "off",
    }
}

/// Classes `s0`, `s1`, ...: colours of series that are distinguishable with red-green colour blindness (after Okabe and
/// Ito, darkened or lightened to a contrast of 3 against the paper).
pub const SERIES: usize = 8;
const SERIES_LIGHT: [&str; SERIES] =
    ["#0072b2", "#d55e00", "#00845c", "#b2508a", "#8a6d00", "#2b95d6", "#6b4fbb", "#555555"];
const SERIES_DARK: [&str; SERIES] =
    ["#56b4e9", "#ff8c42", "#2fc59a", "#e39bc5", "#e6c35c", "#a5d8f7", "#b6a1f0", "#c8c8c8"];

/// The rules of all classes except the diverging scale's.
///
/// `ink`: text; `soft`: secondary text; `grid`, `axis`: lines; `lead`: leader lines; `halo`: around texts that may
/// cross lines; `dot`: points; `fill`: bars; `band`: band of the null; `whisker`: intervals; `paper`: background;
/// `s0`, ...: series (stroke); `d0`, ...: their markers (fill).
pub fn base_rules(scheme: Scheme) -> String {
    let (paper, ink, soft, grid, axis, lead, accent, band, series) = match scheme {
        Scheme::Light => (
            "#ffffff",
            "#1c2127",
            "#5a636e",
            "#e8ebee",
            "#9aa3ad",
            "#b4bbc3",
            "#2a6db0",
            "#d9dde2",
            SERIES_LIGHT,
        ),
        Scheme::Dark => (
            "#15181c",
            "#e7eaed",
            "#a3acb6",
            "#2a2f36",
            "#68717c",
            "#535c66",
            "#78b4ee",
            "#3a414a",
            SERIES_DARK,
        ),
    };
    let mut rules = format!(
        ".paper{{fill:{paper}}}.ink{{fill:{ink}}}.soft{{fill:{soft}}}.grid{{stroke:{grid}}}.axis{{stroke:{axis}}}\
         .lead{{stroke:{lead}}}.halo{{stroke:{paper};stroke-width:3;stroke-linejoin:round;paint-order:stroke}}.dot{{fill:{accent}}}.fill{{fill:{accent}}}.band{{fill:{band}}}\
         .whisker{{stroke:{ink};fill:none}}"
    );
    for (i, colour) in series.iter().enumerate() {
        rules.push_str(&format!(".s{i}{{stroke:{colour}}}.d{i}{{fill:{colour}}}"));
    }
    rules
}

/// The rules of the diverging scale: `h0` (most negative) to `h40` (most positive) as strokes, and of the texts in its
/// cells: `on` on weak colours, `mid`, `off` on strong ones.
pub fn scale_rules(scheme: Scheme) -> String {
    let [on, mid, off] = texts(scheme);
    let mut rules = format!(".on{{fill:{on}}}.mid{{fill:{mid}}}.off{{fill:{off}}}");
    for step in -STEPS..=STEPS {
        let [r, g, b] = diverging(step as f64 / STEPS as f64, scheme);
        rules.push_str(&format!(".h{}{{stroke:#{r:02x}{g:02x}{b:02x}}}", step + STEPS));
    }
    rules
}

/// The rules of tokens with the diverging scale as background.
pub fn token_rules(scheme: Scheme) -> String {
    let texts = texts(scheme);
    let rule = |step: i32| {
        let [r, g, b] = diverging(f64::from(step) / f64::from(STEPS), scheme);
        let text = match text_class(Some(step + STEPS)) {
            "on" => texts[0],
            "mid" => texts[1],
            _ => texts[2],
        };
        format!(".tokens .h{}{{background:#{r:02x}{g:02x}{b:02x};color:{text}}}", step + STEPS)
    };
    (-STEPS..=STEPS).map(rule).collect()
}

/// Text colours in cells, on weak, medium and strong colours.
fn texts(scheme: Scheme) -> [&'static str; 3] {
    match scheme {
        Scheme::Light => ["#000", "#000", "#fff"],
        Scheme::Dark => ["#fff", "#000", "#000"],
    }
}

/// The class of `value` on a scale from `-limit` to `limit`; `None` for NaN.
pub fn step(value: f64, limit: f64) -> Option<i32> {
    if value.is_nan() {
        return None;
    }
    let share = if limit > 0.0 { (value / limit).clamp(-1.0, 1.0) } else { 0.0 };
    Some((share * STEPS as f64).round() as i32 + STEPS)
}

/// The colour of `t` in -1..=1: blue, neutral, red. Equal steps of `t` are equal steps of lightness and chroma in
/// OKLCH, symmetric on both sides, so that neither sign looks stronger; blue and red are distinguishable with every
/// common colour blindness.
fn diverging(t: f64, scheme: Scheme) -> [u8; 3] {
    let (neutral, end, chroma, blue, red) = match scheme {
        Scheme::Light => (0.975, 0.46, 0.15, 257.0, 29.0),
        Scheme::Dark => (0.26, 0.74, 0.125, 250.0, 36.0),
    };
    let size = t.abs();
    oklch(neutral + (end - neutral) * size, chroma * size, if t < 0.0 { blue } else { red })
}

/// OKLCH -> sRGB, clipped (Björn Ottosson, "A perceptual color space for image processing", 2020).
fn oklch(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (a, b) = (chroma * hue.to_radians().cos(), chroma * hue.to_radians().sin());
    let l = (lightness + 0.3963377774 * a + 0.2158037573 * b).powi(3);
    let m = (lightness - 0.1055613458 * a - 0.0638541728 * b).powi(3);
    let s = (lightness - 0.0894841775 * a - 1.2914855480 * b).powi(3);
    [
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    ]
    .map(|linear: f64| {
        let x = linear.clamp(0.0, 1.0);
        let encoded = if x <= 0.0031308 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklch_is_the_published_one() {
        // Known triples: white, black, and sRGB red (OKLCH 0.62796, 0.25768, 29.234).
        assert_eq!(oklch(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(oklch(0.0, 0.0, 0.0), [0, 0, 0]);
        assert_eq!(oklch(0.62796, 0.25768, 29.234), [255, 0, 0]);
    }

    #[test]
    fn steps_are_symmetric_and_clamped() {
        assert_eq!(step(0.0, 1.0), Some(20));
        assert_eq!(step(1.0, 1.0), Some(40));
        assert_eq!(step(-7.0, 1.0), Some(0));
        assert_eq!(step(0.5, 1.0), Some(30));
        assert_eq!(step(f64::INFINITY, 1.0), Some(40));
        assert_eq!(step(f64::NAN, 1.0), None);
        assert_eq!(step(0.3, 0.0), Some(20));
    }

    /// Texts in cells have a contrast of at least 4.5 against every possible background.
    #[test]
    fn texts_in_cells_can_be_read() {
        for scheme in [Scheme::Light, Scheme::Dark] {
            for step in -STEPS..=STEPS {
                let class = ["on", "mid", "off"].iter().position(|c| *c == text_class(Some(step + STEPS)));
                let text = if texts(scheme)[class.unwrap()] == "#000" { [0; 3] } else { [255; 3] };
                let contrast = contrast(diverging(step as f64 / STEPS as f64, scheme), text);
                assert!(contrast >= 4.5, "{scheme:?} {step}: {contrast}");
            }
        }
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let luminance = |c: [u8; 3]| {
            let [r, g, b] = c.map(|x| {
                let x = x as f64 / 255.0;
                if x <= 0.04045 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}
