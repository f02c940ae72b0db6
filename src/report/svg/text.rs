//! Estimates the width of a text without a font: from DejaVu Sans' advance widths, which are wider than those of the
//! sans-serif fonts of browsers, so that a text that fits here fits there.

/// Advance widths of DejaVu Sans 2.37 for U+0020 to U+007E, in thousandths of the font size.
#[rustfmt::skip]
const ADVANCE: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337,
    636, 636, 636, 636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531,
    1000, 684, 686, 698, 770, 632, 575, 775, 752, 295, 295, 656, 557, 863, 748, 787,
    603, 787, 695, 635, 611, 732, 684, 989, 685, 611, 685, 390, 337, 390, 838, 500,
    500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579, 278, 974, 634, 612,
    635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];

/// The width of `text` at font size `size`, in the drawing's units.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * size / 1000.0
}

/// `text`, truncated with an ellipsis if it is wider than `limit`.
pub fn fit(text: &str, size: f64, limit: f64) -> String {
    if width(text, size) <= limit {
        return text.to_string();
    }
    let mut left = limit * 1000.0 / size - 1000.0;
    let kept: String = text
        .chars()
        .take_while(|&c| {
            left -= advance(c);
            left >= 0.0
        })
        .collect();
    format!("{}\u{2026}", kept.trim_end())
}

fn advance(c: char) -> f64 {
    match c {
        ' '..='~' => ADVANCE[c as usize - ' ' as usize] as f64,
        // Combining marks and joiners have zero width; East Asian scripts and emoji have full width.
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}' => 0.0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ff60}' => 1000.0,
        '\u{10000}'.. => 1000.0,
        '\u{2212}' | '\u{2026}' => 1000.0,
        _ => 660.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_font_s() {
        // h 634 + i 278
        assert!((width("hi", 10.0) - 9.12).abs() < 1e-9);
        assert_eq!(width("", 10.0), 0.0);
    }

    #[test]
    fn fit_shortens_what_is_too_wide() {
        assert_eq!(fit("hi", 10.0, 9.2), "hi");
        // The ellipsis takes 10 of 30; three times 634 fit into the other 20, a fourth does not.
        assert_eq!(fit("hhhhhhhh", 10.0, 30.0), "hhh\u{2026}");
        assert_eq!(fit("hhhh", 10.0, 1.0), "\u{2026}");
    }
}
