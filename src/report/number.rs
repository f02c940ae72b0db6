//! Formatting of numbers for readers. Independent of figures.

/// Shown in place of a missing number.
pub const NONE: &str = "\u{2013}";

/// `value` with a fixed number of decimals, the minus sign U+2212 and no negative zero.
pub fn fixed(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        return NONE.to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "\u{221e}" } else { "\u{2212}\u{221e}" }.to_string();
    }
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.bytes().all(|b| b == b'0' || b == b'.');
    if value < 0.0 && !zero { format!("\u{2212}{digits}") } else { digits }
}

/// `value` with its interval: `0.42 [0.38, 0.45]`.
pub fn ranged(value: f64, (low, high): (f64, f64), decimals: usize) -> String {
    format!("{} [{}, {}]", fixed(value, decimals), fixed(low, decimals), fixed(high, decimals))
}

/// `value` with three significant digits; in scientific notation outside 0.0001 to 10,000,000.
pub fn short(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return fixed(value, 0);
    }
    let size = value.abs();
    if !(1e-4..1e7).contains(&size) {
        return scientific(value, 2);
    }
    fixed(value, (2 - exponent(size)).clamp(0, 6) as usize)
}

/// The number of decimals that distinguishes multiples of `step`, at most 6.
pub fn decimals(step: f64) -> usize {
    if !step.is_finite() || step <= 0.0 {
        return 0;
    }
    (-exponent(step)).clamp(0, 6) as usize
}

/// The label of a tick on an axis with ticks every `step` and the largest magnitude `largest`.
pub fn tick(value: f64, step: f64, largest: f64) -> String {
    if value == 0.0 {
        "0".to_string()
    } else if step < 1e-6 || largest >= 1e7 {
        scientific(value, (exponent(largest) - exponent(step)).clamp(0, 6) as usize)
    } else {
        fixed(value, decimals(step))
    }
}

/// A length or coordinate in a drawing: at most one decimal.
pub fn place(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".to_string() } else { format!("{rounded}") }
}

/// `m × 10ⁿ`, written `m` e `n`, with the minus sign U+2212.
fn scientific(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$e}").replace('-', "\u{2212}")
}

/// The power of ten of the leading digit, robust to rounding errors of 0.1, 0.001 and so on.
fn exponent(size: f64) -> i32 {
    (size.log10() + 1e-9).floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_has_a_true_minus_and_no_negative_zero() {
        let cases = [
            (1.005, 1, "1.0"),
            (-0.004, 2, "0.00"),
            (-0.006, 2, "−0.01"),
            (-0.0, 0, "0"),
            (-12.5, 3, "−12.500"),
            (f64::NAN, 2, "–"),
            (f64::NEG_INFINITY, 2, "−∞"),
            (f64::INFINITY, 2, "∞"),
        ];
        for (value, decimals, want) in cases {
            assert_eq!(fixed(value, decimals), want, "fixed({value}, {decimals})");
        }
    }

    #[test]
    fn short_keeps_three_digits() {
        let cases = [
            (0.0, "0"),
            (-0.92345, "−0.923"),
            (0.012345, "0.0123"),
            (0.1, "0.100"),
            (36.25, "36.2"),
            (1234.0, "1234"),
            (0.0000123, "1.23e−5"),
            (-2.0e8, "−2.00e8"),
        ];
        for (value, want) in cases {
            assert_eq!(short(value), want, "short({value})");
        }
    }

    #[test]
    fn tick_labels_tell_ticks_apart() {
        assert_eq!(tick(0.30000000000000004, 0.1, 1.0), "0.3");
        assert_eq!(tick(-0.25, 0.05, 1.0), "−0.25");
        assert_eq!(tick(-40.0, 20.0, 100.0), "−40");
        assert_eq!(tick(0.0, 0.01, 0.1), "0");
        assert_eq!(tick(2.5e7, 5e6, 3e7), "2.5e7");
        assert_eq!(tick(3e-8, 1e-8, 5e-8), "3e−8");
    }

    #[test]
    fn places_are_short() {
        assert_eq!([place(3.04), place(-0.01), place(12.5), place(7.0)], ["3", "0", "12.5", "7"]);
    }
}
