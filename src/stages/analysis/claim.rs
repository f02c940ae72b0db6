//! Claims: the findings of an analysis on one set of vectors, short enough to be listed next to their null
//! distribution, other sets and published values. Independent of how they are displayed.

use super::Group;
use crate::lm::Layer;
use crate::stages::statistics::Interval;

/// One number about one set of vectors, or two, at one layer, with its uncertainty.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub model: String,
    pub stories: String,
    /// Axes of the sweep, each with this set's value.
    pub axes: Vec<(String, String)>,
    pub layer: Layer,
    /// For a claim on two sets: the other set; `model`, `stories` and `layer` are then those of the set that it is
    /// listed under.
    pub other: Option<String>,
    /// What is claimed: identical for all sets and unique within an analysis. Criteria refer to it by this name.
    pub what: String,
    /// The unit of the estimate: `%`, `nats`, ...; empty for a pure number.
    pub unit: &'static str,
    pub estimate: f64,
    /// The number of decimals shown.
    pub decimals: usize,
    /// The 95 % interval and the method that gave it, if known.
    pub interval: Option<(Interval, &'static str)>,
    /// The null that it was tested against; `None`: not tested.
    pub null: Option<Null>,
    /// Published values: the same for all sets.
    pub published: Vec<Published>,
}

/// The distribution of an estimate under the null hypothesis.
#[derive(Clone, Debug, PartialEq)]
pub struct Null {
    /// What was drawn, in words.
    pub of: &'static str,
    /// The number of draws; 0: the distribution is exact.
    pub draws: usize,
    /// The mean of the null distribution, if known.
    pub mean: Option<f64>,
    /// The p-value of the estimate.
    pub p: f64,
}

/// A published value of the same quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// The authors, and what they measured it on.
    pub source: &'static str,
    pub value: f64,
    /// Why the value is not directly comparable; empty if it is.
    pub but: &'static str,
}

impl Published {
    /// A directly comparable value.
    pub fn of(source: &'static str, value: f64) -> Published {
        Published { source, value, but: "" }
    }
}

impl Group<'_> {
    /// A claim on this group, without interval, null or published values.
    pub(super) fn claim(
        &self,
        what: impl Into<String>,
        unit: &'static str,
        estimate: f64,
        decimals: usize,
    ) -> Claim {
        Claim {
            model: self.model.to_string(),
            stories: self.stories.to_string(),
            axes: self.axes(),
            layer: self.layer,
            other: None,
            what: what.into(),
            unit,
            estimate,
            decimals,
            interval: None,
            null: None,
            published: Vec::new(),
        }
    }
}

impl Claim {
    /// What is claimed, with its unit: a column heading.
    pub fn name(&self) -> String {
        if self.unit.is_empty() { self.what.clone() } else { format!("{}, {}", self.what, self.unit) }
    }

    /// The p-value under the null.
    pub fn p(&self) -> Option<f64> {
        self.null.as_ref().map(|null| null.p)
    }

    /// Both ends of the interval.
    pub fn ends(&self) -> Option<Interval> {
        self.interval.map(|(ends, _)| ends)
    }

    /// Adds the interval, if there is one.
    pub(in crate::stages) fn within(self, interval: Option<Interval>, method: &'static str) -> Claim {
        Claim { interval: interval.map(|ends| (ends, method)), ..self }
    }

    /// Adds the null, if it was tested.
    pub(in crate::stages) fn against(self, null: Option<Null>) -> Claim {
        Claim { null, ..self }
    }

    /// Adds published values.
    pub(super) fn beside(self, published: Vec<Published>) -> Claim {
        Claim { published, ..self }
    }
}

/// The adjusted p-values of Benjamini and Hochberg (1995) for a family: `q[i] = min over ranks k of p[i] or larger of
/// p_(k) m / k`, at most 1.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let mut q = vec![1.0; p.len()];
    let mut least = 1.0f64;
    for (at, &index) in order.iter().enumerate() {
        let rank = p.len() - at;
        least = least.min(p[index] * p.len() as f64 / rank as f64);
        q[index] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::statistics::draws::Draws;

    #[test]
    fn adjusted_are_those_of_scipy() {
        // scipy.stats.false_discovery_control([.01, .04, .03, .005, .2, .04])
        let got = adjusted(&[0.01, 0.04, 0.03, 0.005, 0.2, 0.04]);
        let wanted = [0.03, 0.048, 0.048, 0.03, 0.2, 0.048];
        assert!(got.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
        assert!(adjusted(&[]).is_empty());
        assert_eq!(adjusted(&[0.7]), [0.7]);
    }

    /// With `m` tests of pure noise, the smallest q is at most .05 in one family of twenty, and no more often (Simes).
    #[test]
    fn a_family_of_noise_has_a_small_q_one_time_in_twenty() {
        let any = |seed: u64| {
            let mut draws = Draws::new("noise", &[seed]);
            let p: Vec<f64> =
                (0..8).map(|_| (1 + draws.below(1 << 30)) as f64 / f64::from(1 << 30)).collect();
            adjusted(&p).iter().any(|&q| q <= 0.05)
        };
        let found = (0..400).filter(|&seed| any(seed)).count();
        // scipy.stats.binom.cdf(31, 400, .05) is .993, and cdf(9, 400, .05) .004.
        assert!((10..=31).contains(&found), "{found} of 400");
    }
}
