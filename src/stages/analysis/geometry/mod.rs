//! Uncertainty of the geometry of the emotion vectors: intervals for cosines and components, null distributions for
//! both, and the reliability of each vector. Does not depend on a model. All formulas are in `docs/methods.md`.

mod control;
mod figures;
mod gather;
mod measures;
mod resample;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Claim, Input, Inputs, Kind, Places, Tables, VectorSet, named};
use crate::lm::Layer;
use crate::params::problem::quoted;
use crate::params::{Problem, Read, Reader, Reported, Type, params};
use crate::report::figure::Figure;
use crate::stages::principal::{self, dot};
use crate::stages::statistics::Interval;
use crate::stages::statistics::interval::{self, Scale, basic, p_value, percentile};
use crate::store::table::{Column, Table};
use control::Compared;
use measures::{Frame, Measures, pairs};
use resample::{Resampler, Rounds, estimate};

/// Must be increased when the same activations would give different tables.
const VERSION: u32 = 4;

params! {
    /// Intervals and nulls for cosines and components, and the reliability of each vector: see docs/methods.md. Reads the
    /// activations, a layer at a time.
    pub struct Geometry {
        // Not in the key: the table has every pair.
        /// Pairs whose cosines are shown with their intervals.
        #[of(Type::Pairs)]
        #[with(named::pairs)]
        #[serde(skip)]
        pub pairs: Vec<(String, String)> = [];
        /// Emotions that belong together, by name: `{ joy = ["happy", "joyful"], anger = ["angry", "furious"] }`. Cosines within
        /// families are compared with those between them.
        #[of(Type::NamedTexts)]
        #[with(families)]
        pub families: Vec<Family> = {};
        /// Bootstrap resamples of the topics (of a template: of its passages), for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Shuffles of the emotions' labels within topics, for the nulls.
        pub permutations: usize = 1000, 0..=100_000;
        /// Random splits of the topics into halves, for the reliability.
        pub halves: usize = 100, 0..=10_000;
    }
}

/// Emotions that belong together, as given in the experiment file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    /// Not part of the key: no table contains it.
    #[serde(skip)]
    pub name: String,
    pub words: Vec<String>,
}

/// Families of emotions; no emotion is in two of them.
fn families(reader: &Reader<'_>, name: &str) -> Read<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut wrong = false;
    for (name, _, texts) in reader.named_texts(name)? {
        let mut words = Vec::new();
        for (word, span) in texts {
            if let Some(other) = families.iter().find(|family| family.words.contains(&word)) {
                let message = format!("{} is in two families, `{}` and `{name}`", quoted(&word), other.name);
                reader.note(Problem::at(span, message).hint("keep it in one of them"));
                wrong = true;
            } else if named::unknown(reader, &word, &span) {
                wrong = true;
            } else {
                words.push(word);
            }
        }
        families.push(Family { name, words });
    }
    if wrong { Err(Reported) } else { Ok(families) }
}

impl Kind for Geometry {
    fn kind(&self) -> &'static str {
        "geometry"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Uncertainty of the geometry"
    }

    fn intro(&self) -> &'static str {
        "How much the geometry depends on the choice of topics: intervals of cosines and components, their values \
         under shuffled labels, and the split-half reliability of the vectors."
    }

    fn inputs(&self) -> Inputs {
        Inputs { activations: true, seed: true, ..Inputs::VECTORS }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(self, name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// Names of statistics in the table `geometry`.
const VARIANCE: &str = "variance among the vectors";
const SHARES: [&str; 2] = ["PC1 share", "PC2 share"];
const NORM: &str = "|r(PC1, norm)|";
const WITHIN: &str = "cosine within families";
const BETWEEN: &str = "cosine between families";
/// Compared with vectors of topics, which are not emotions.
const VARIANCE_BESIDE: &str = "variance over that of topics";
const SHARE_BESIDE: &str = "PC1 share less that of topics";
const SHARES_BESIDE: [&str; 2] = ["PC1 share of as many emotions", "PC1 share of as many topics"];
const COMPARED: &str = "emotions and topics compared";
const GAP: &str = "within minus between";
const EMOTION_LENGTH: [&str; 2] = ["r(PC1, length) of emotions", "r(PC2, length) of emotions"];
const STORY_LENGTH: [&str; 2] = ["r(PC1, length) of stories", "r(PC2, length) of stories"];

/// The kind of a statistic's interval.
#[derive(Clone, Copy)]
enum Ends {
    Basic(Scale),
    Percentile,
}

/// All statistics of a set of vectors and their stories, with their names; `None` if a statistic is not available.
fn listed(m: &Measures, stories: [f64; 2]) -> [(&'static str, Ends, Option<f64>); 11] {
    let correlation = Ends::Basic(Scale::Correlation);
    [
        (VARIANCE, Ends::Basic(Scale::Plain), Some(m.variance)),
        (SHARES[0], Ends::Basic(Scale::Share), Some(m.shares[0])),
        (SHARES[1], Ends::Basic(Scale::Share), Some(m.shares[1])),
        (WITHIN, correlation, m.within),
        (BETWEEN, correlation, m.between),
        (GAP, Ends::Basic(Scale::Plain), m.gap()),
        (NORM, Ends::Percentile, Some(m.norm)),
        (EMOTION_LENGTH[0], correlation, Some(m.lengths[0])),
        (EMOTION_LENGTH[1], correlation, Some(m.lengths[1])),
        (STORY_LENGTH[0], correlation, Some(stories[0])),
        (STORY_LENGTH[1], correlation, Some(stories[1])),
    ]
}

/// The statistics that are also computed under shuffled labels, and are larger if there is structure.
const TESTED: [&str; 4] = [VARIANCE, SHARES[0], SHARES[1], GAP];

/// The tables `geometry` (statistics), `geometry_cosines` (all pairs of emotions) and `geometry_reliability` (one row
/// per emotion) of one layer.
///
/// Groups of stories are drawn with replacement for intervals, labels are shuffled within groups for null
/// distributions; all from `input.seed`. An error if there are fewer than two groups.
fn run(params: &Geometry, input: Input) -> Result<Tables> {
    let Input { set, activations, seed, progress, .. } = input;
    let activations = activations.context("this analysis needs the activations")?;
    let [layer] = set.layers.as_slice() else { anyhow::bail!("one layer at a time") };
    let (n, d) = (layer.emotions.len(), layer.d_model);
    let found = principal::components(&layer.vectors, d).with_context(|| {
        format!("components at layer {} of {} on {}", layer.layer, set.model, set.stories)
    })?;
    let nothing = vec![0.0; d];
    let direction = |at: usize| found.directions.chunks_exact(d).nth(at).unwrap_or(&nothing);
    let directions = [direction(0), direction(1)];
    let gathered = gather::gather(&activations, layer, directions, seed)?;
    let signs = directions.map(|u| {
        let score = |i: usize| dot(layer.vector(i), u) - dot(&found.mean, u);
        nalgebra::DVector::from_iterator(n, (0..n).map(score))
    });
    let place = |word: &String| params.families.iter().position(|family| family.words.contains(word));
    let frame = Frame {
        families: layer.emotions.iter().map(place).collect(),
        normalize: activations.params.normalize,
        signs: Some(signs),
    };
    let stories = gathered.design.stories(&gathered.design.every());
    let mut lengths = vec![0.0; n];
    for group in gathered.tokens.chunks_exact(n) {
        lengths.iter_mut().zip(group).for_each(|(sum, x)| *sum += x);
    }
    lengths.iter_mut().zip(&stories).for_each(|(sum, count)| *sum /= count);
    let own = estimate(&frame, layer, &lengths)?;
    let mut moments = [[0.0; 6]; 2];
    for (sum, more) in gathered.moments.iter().flat_map(|of| [0, 1].map(|at| (at, of[at]))) {
        moments[sum].iter_mut().zip(more).for_each(|(x, y)| *x += y);
    }
    let own_stories = moments.map(gather::correlation);
    let resampler = Resampler { gathered: &gathered, frame, center: activations.params.center };
    let resamples = gathered.design.resamples(params.resamples);
    let rounds = Rounds { resamples, permutations: params.permutations, halves: params.halves };
    let resampled = resampler.run(rounds, progress)?;

    let mut statistics = Statistics::default();
    for (at, (name, ends, value)) in listed(&own, own_stories).into_iter().enumerate() {
        let Some(value) = value else { continue };
        let drawn = resampled.bootstrap.iter().filter_map(|r| listed(&r.measures, r.stories)[at].2);
        let drawn: Vec<f64> = drawn.collect();
        let interval = match ends {
            Ends::Basic(scale) => basic(value, &drawn, scale),
            Ends::Percentile => percentile(&drawn),
        };
        let null = TESTED.contains(&name).then(|| {
            resampled.shuffled.iter().filter_map(|m| listed(m, [0.0; 2])[at].2).collect::<Vec<f64>>()
        });
        statistics.push(set, layer.layer, name, value, interval, null.filter(|null| !null.is_empty()));
    }
    if let Some(control) = &gathered.control
        && let Some(found) = control.compared()?
    {
        let dealt = control.dealt(params.permutations, seed)?;
        let null = |of: fn(&Compared) -> f64| {
            let null: Vec<f64> = dealt.iter().map(of).collect();
            (!null.is_empty()).then_some(null)
        };
        let (variance, more) = (found.variance, found.more());
        statistics.push(set, layer.layer, VARIANCE_BESIDE, variance, None, null(|c| c.variance));
        statistics.push(set, layer.layer, SHARE_BESIDE, more, None, null(Compared::more));
        for (name, value) in SHARES_BESIDE.into_iter().zip(found.shares) {
            statistics.push(set, layer.layer, name, value, None, None);
        }
        statistics.push(set, layer.layer, COMPARED, control.size as f64, None, None);
    }
    Ok(vec![
        ("geometry".into(), statistics.finish(gathered.design.grouped())),
        ("geometry_cosines".into(), cosines(set, &own, &resampled)),
        ("geometry_reliability".into(), reliability(set, &resampled)),
    ])
}

/// The columns of the table `geometry`.
#[derive(Default)]
struct Statistics {
    places: Places,
    name: Vec<String>,
    value: Vec<f64>,
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
    p: Vec<Option<f64>>,
    null: [Vec<Option<f64>>; 3],
}

impl Statistics {
    fn push(
        &mut self,
        set: &VectorSet,
        layer: Layer,
        name: &str,
        value: f64,
        interval: Option<Interval>,
        null: Option<Vec<f64>>,
    ) {
        self.places.push(set, layer);
        self.name.push(name.to_string());
        self.value.push(value);
        self.low.push(interval.map(|i| i.low));
        self.high.push(interval.map(|i| i.high));
        self.p.push(null.as_ref().map(|null| p_value(value, null)));
        let band = null.as_ref().and_then(|null| percentile(null));
        let of = [null.as_ref().map(|null| interval::mean(null)), band.map(|b| b.low), band.map(|b| b.high)];
        self.null.iter_mut().zip(of).for_each(|(column, x)| column.push(x));
    }

    fn finish(self, grouped: &str) -> Table {
        let groups = vec![grouped.to_string(); self.name.len()];
        let [mean, low, high] = self.null;
        let columns = vec![
            ("statistic", Column::Str(self.name)),
            ("value", Column::F64(self.value)),
            ("low", Column::OptF64(self.low)),
            ("high", Column::OptF64(self.high)),
            ("p", Column::OptF64(self.p)),
            ("null_mean", Column::OptF64(mean)),
            ("null_low", Column::OptF64(low)),
            ("null_high", Column::OptF64(high)),
            ("groups", Column::Str(groups)),
        ];
        self.places.table("geometry/1", columns)
    }
}

/// All pairs of emotions with the interval of their cosine.
fn cosines(set: &VectorSet, own: &Measures, resampled: &resample::Resampled) -> Table {
    use rayon::prelude::*;
    let layer = &set.layers[0];
    let ends: Vec<Option<Interval>> = (0..own.cosines.len())
        .into_par_iter()
        .map(|pair| {
            let drawn = resampled.bootstrap.iter().map(|r| f64::from(r.measures.cosines[pair]));
            basic(f64::from(own.cosines[pair]), &drawn.collect::<Vec<_>>(), Scale::Correlation)
        })
        .collect();
    let mut places = Places::default();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (i, j) in pairs(layer.emotions.len()) {
        places.push(set, layer.layer);
        a.push(layer.emotions[i].clone());
        b.push(layer.emotions[j].clone());
    }
    let columns = vec![
        ("emotion_a", Column::Str(a)),
        ("emotion_b", Column::Str(b)),
        ("cosine", Column::F64(own.cosines.iter().map(|&x| f64::from(x)).collect())),
        ("low", Column::OptF64(ends.iter().map(|e| e.map(|e| e.low)).collect())),
        ("high", Column::OptF64(ends.iter().map(|e| e.map(|e| e.high)).collect())),
    ];
    places.table("geometry_cosines/1", columns)
}

/// For every emotion: the mean cosine of the vectors of two halves, the central 95 % over the splits, and the
/// Spearman-Brown estimate for all groups together.
fn reliability(set: &VectorSet, resampled: &resample::Resampled) -> Table {
    let layer = &set.layers[0];
    let mut places = Places::default();
    let (mut emotion, mut count, mut half) = (Vec::new(), Vec::new(), Vec::new());
    let (mut low, mut high, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    // None if no two halves have every emotion.
    let rows = if resampled.halves.is_empty() { 0 } else { layer.emotions.len() };
    for at in 0..rows {
        let of: Vec<f64> = resampled.halves.iter().map(|cosines| cosines[at]).collect();
        let mean = interval::mean(&of);
        places.push(set, layer.layer);
        emotion.push(layer.emotions[at].clone());
        count.push(layer.n_stories[at] as i32);
        half.push(mean);
        let ends = percentile(&of);
        low.push(ends.map(|e| e.low));
        high.push(ends.map(|e| e.high));
        whole.push(spearman_brown(mean));
    }
    let columns = vec![
        ("emotion", Column::Str(emotion)),
        ("n_stories", Column::I32(count)),
        ("half", Column::F64(half)),
        ("low", Column::OptF64(low)),
        ("high", Column::OptF64(high)),
        ("reliability", Column::F64(whole)),
    ];
    places.table("geometry_reliability/1", columns)
}

/// The reliability of a measure of twice the length: `2 r / (1 + r)` (Spearman 1910, Brown 1910); 0 for halves that
/// have nothing in common.
fn spearman_brown(half: f64) -> f64 {
    let half = half.max(0.0);
    2.0 * half / (1.0 + half)
}

#[cfg(test)]
mod tests;
