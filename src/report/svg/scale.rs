//! Linear and logarithmic scales and their ticks. Independent of what is drawn on them.

/// A linear map from values to coordinates of the drawing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// Maps `low..high` onto `start..end`; `start` may be larger than `end`, as on an upward axis.
    pub fn new((low, high): (f64, f64), (start, end): (f64, f64)) -> Scale {
        Scale { low, high, start, end }
    }

    /// The coordinate of `value`.
    pub fn at(&self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }
}

/// Ticks at the powers of ten inside `low..=high`, given as exponents, and at 2 and 5 times these if there are few.
pub fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let between = |steps: &[f64]| {
        let powers = low.floor() as i32..=high.ceil() as i32;
        let all = powers.flat_map(|power| steps.iter().map(move |step| f64::from(power) + step));
        all.filter(|at| (low..=high).contains(at)).collect::<Vec<_>>()
    };
    let whole = between(&[0.0]);
    if whole.len() > 3 { whole } else { between(&[0.0, 2f64.log10(), 5f64.log10()]) }
}

/// The range of the finite values, widened by `share` of its width on both sides and never of width zero: a single
/// value is centred in a range as wide as itself, or in `-1..1`.
pub fn extent(values: impl IntoIterator<Item = f64>, share: f64) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.into_iter().filter(|v| v.is_finite()) {
        low = low.min(value);
        high = high.max(value);
    }
    if low > high {
        return (-1.0, 1.0);
    }
    // Halves, since the difference of two finite values may overflow.
    let half = high / 2.0 - low / 2.0;
    if half <= 1e-12 * low.abs().max(high.abs()) {
        let reach = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
        return (low - reach, high + reach);
    }
    (low - share * 2.0 * half, high + share * 2.0 * half)
}

/// About `want` ticks inside `low..=high`, at multiples of 1, 2 or 5 times a power of ten, and their spacing.
pub fn ticks(low: f64, high: f64, want: usize) -> (Vec<f64>, f64) {
    let rough = (high - low) / want.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return (Vec::new(), 1.0);
    }
    let power = 10f64.powi(rough.log10().floor() as i32);
    // The step nearest to the desired one on a logarithmic scale: the bounds are the geometric means of neighbours in
    // 1, 2, 5, 10.
    let step = power
        * match rough / power {
            r if r < 2f64.sqrt() => 1.0,
            r if r < 10f64.sqrt() => 2.0,
            r if r < 50f64.sqrt() => 5.0,
            _ => 10.0,
        };
    let slack = 1e-9;
    let (first, last) = ((low / step - slack).ceil() as i64, (high / step + slack).floor() as i64);
    ((first..=last).map(|i| i as f64 * step).collect(), step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_ticks(low: f64, high: f64, want: usize, ticks_wanted: &[f64]) {
        let (got, step) = ticks(low, high, want);
        assert_eq!(got.len(), ticks_wanted.len(), "{got:?}, step {step}");
        for (a, b) in got.iter().zip(ticks_wanted) {
            assert!((a - b).abs() < 1e-9 * (high - low), "{got:?}, step {step}");
        }
    }

    #[test]
    fn ticks_are_round() {
        check_ticks(0.0, 10.0, 5, &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        check_ticks(-1.0, 1.0, 4, &[-1.0, -0.5, 0.0, 0.5, 1.0]);
        check_ticks(-0.37, 0.62, 5, &[-0.2, 0.0, 0.2, 0.4, 0.6]);
        check_ticks(1003.0, 1041.0, 4, &[1010.0, 1020.0, 1030.0, 1040.0]);
        check_ticks(0.0, 0.3, 3, &[0.0, 0.1, 0.2, 0.3]);
        check_ticks(1.0, 1.0, 5, &[]);
        check_ticks(f64::NAN, 1.0, 5, &[]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_or_between_them() {
        let values = |low: f64, high: f64| {
            log_ticks(low.log10(), high.log10())
                .into_iter()
                .map(|at| 10f64.powf(at).round())
                .collect::<Vec<_>>()
        };
        assert_eq!(values(1.0, 40000.0), [1.0, 10.0, 100.0, 1000.0, 10000.0]);
        assert_eq!(values(3.0, 240.0), [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
    }

    #[test]
    fn scale_maps_the_ends() {
        let scale = Scale::new((-2.0, 6.0), (100.0, 20.0));
        assert_eq!([scale.at(-2.0), scale.at(2.0), scale.at(6.0)], [100.0, 60.0, 20.0]);
    }

    #[test]
    fn extent_is_never_empty() {
        assert_eq!(extent([1.0, f64::NAN, 3.0, f64::INFINITY], 0.25), (0.5, 3.5));
        assert_eq!(extent([4.0], 0.1), (2.0, 6.0));
        assert_eq!(extent([0.0, 0.0], 0.1), (-1.0, 1.0));
        assert_eq!(extent([], 0.1), (-1.0, 1.0));
    }
}
