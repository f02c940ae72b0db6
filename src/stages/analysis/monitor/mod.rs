//! Early warning along transcripts: an alarm is raised when the running mean of an emotion's reading exceeds a
//! threshold calibrated on neutral transcripts, at a stated rate of false alarms. See docs/monitor.md for its use.

mod figures;
mod lead;
mod lexicon;
mod rule;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result, ensure};

use super::named::unknown;
use super::reads::{Moments, TextRead, running};
use super::steering::Layers;
use super::{Claim, Input, Inputs, Kind, Reads, Tables, VectorSet};
use crate::lm::Layer;
use crate::params::{Problem, Read, Reader, params, words};
use crate::report::figure::Figure;
use crate::stages::readings::{From, Wanted, names};
use crate::stages::statistics::draws::Draws;
use crate::store::table::Table;
use lexicon::Lexicon;
use rule::{Threshold, class_of, edges};

/// Must be increased when the same readings would give different tables.
const VERSION: u32 = 3;

/// The name of the words-only baseline among the directions.
const WORDS: &str = "words alone";

/// The fraction of the neutral transcripts used for mean, deviation and length classes, and also the fraction that is
/// held out; the rest calibrates the threshold.
const SHARE: f64 = 0.2;

params! {
    /// An alarm along transcripts, calibrated on neutral ones: see docs/monitor.md.
    pub struct Monitor {
        /// The transcripts that are watched, one of `[transcripts]`.
        #[with(source)]
        #[serde(skip)]
        pub transcripts: String;
        /// The neutral transcripts on which the alarm is calibrated, another of `[transcripts]`: of the same kind as those that are
        /// watched (the same task, the same length, the same roles), or the rate says nothing of them.
        #[with(source)]
        #[serde(skip)]
        pub neutral: String;
        /// When there is an alarm.
        pub alarm: Alarm;
        /// Whose turns are read.
        pub roles: Roles = "all";
        /// Tokens whose mean is judged: single tokens are noise.
        pub window: usize = 16, 1..=4096;
        /// So many tokens at a transcript's beginning are not judged: with little before them their readings are unlike later ones.
        pub skip: usize = 16, 0..=4096;
        /// Length classes, each with its own threshold: the longer a transcript, the larger its maximum. Each needs
        /// as many neutral transcripts as a single class.
        pub classes: usize = 1, 1..=20;
        /// The label of transcripts in which the monitored event happens; all other labels mean that it does not.
        #[unset("no outcomes")]
        #[with(crate::params::maybe_filled)]
        pub outcome: Option<String>;
        /// Which of the kept layers are read; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Random directions of the same covariance, each with its own alarm by the same rule. 19 is the least number of which p
        /// can be .05.
        pub random: usize = 19, 1..=1000;
        /// Bootstrap resamples of the transcripts, for the interval of the AUROC.
        pub resamples: usize = 1000, 2..=100_000;
    }
}

params! {
    /// When there is an alarm.
    pub struct Alarm {
        /// The emotion whose reading sets it off.
        #[with(emotion)]
        pub on: String;
        /// The probability of an alarm in a neutral transcript: 0.01 needs 99 of them for the threshold alone, which are three fifths
        /// of all.
        pub false_alarms: f64 = 0.01, above 0.0..=0.5;
    }
}

words! {
    /// Whose turns are read.
    pub enum Roles {
        All = "all",
        User = "user",
        Assistant = "assistant",
    }
}

/// A table of `[transcripts]`.
pub(super) fn source(reader: &Reader<'_>, name: &str) -> Read<String> {
    let written = reader.filled(name)?;
    if super::readings::sources_of(reader).any(|known| known == written) {
        return Ok(written);
    }
    let problem = Problem::at(reader.span_of(name), format!("there are no transcripts `{written}`"));
    reader.wrong(problem.hint(super::readings::known(reader)))
}

fn emotion(reader: &Reader<'_>, name: &str) -> Read<String> {
    let word = reader.filled(name)?;
    match unknown(reader, &word, &reader.span_of(name)) {
        true => Err(crate::params::Reported),
        false => Ok(word),
    }
}

impl Kind for Monitor {
    fn kind(&self) -> &'static str {
        "monitor"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Alarms along transcripts"
    }

    fn intro(&self) -> &'static str {
        "Where an emotion's reading along a transcript exceeds that of neutral transcripts, at a stated rate of false \
         alarms, compared with alarms from random directions and from words alone by the same rule."
    }

    fn inputs(&self) -> Inputs {
        Inputs { seed: true, chat: true, ..Inputs::VECTORS }
    }

    fn reads(&self) -> Option<Wanted> {
        let from = [&self.neutral, &self.transcripts].map(|name| From::Transcripts(name.clone()));
        Some(Wanted { from: from.to_vec(), random: self.random, words: true })
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        let reads = input.reads.context("this analysis needs readings")?;
        self.run_on(input.set, &reads, input.seed)
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

/// A transcript at one layer.
struct Watched {
    id: String,
    place: String,
    label: Option<String>,
    event: Option<usize>,
    pieces: Vec<String>,
    tokens: Vec<(usize, usize)>,
    /// `[direction][token]`, for the judged directions; the last is the words-only baseline.
    values: Vec<Vec<f32>>,
}

impl Watched {
    /// `judged`: indices of directions.
    fn of(read: &TextRead, monitor: &Monitor, judged: &[usize], lexicon: &Lexicon) -> Watched {
        let is_read = |turn: usize| match monitor.roles {
            Roles::All => read.text.role(turn) != "system",
            Roles::User => read.text.role(turn) == "user",
            Roles::Assistant => read.text.role(turn) == "assistant",
        };
        let mut own = read.of(0, is_read);
        // For a shorter transcript, all tokens.
        if own.len() > monitor.skip {
            own.drain(..monitor.skip);
        }
        let words = lexicon.scores(read.pieces);
        let mut values: Vec<Vec<f32>> = judged
            .iter()
            .map(|direction| {
                own.iter().map(|(token, _)| read.values[token * read.width + direction]).collect()
            })
            .collect();
        values.push(own.iter().map(|(token, _)| words[*token] as f32).collect());
        Watched {
            id: read.text.id.clone(),
            place: read.text.place.clone(),
            label: read.text.label.clone(),
            event: read.text.event,
            pieces: read.pieces.to_vec(),
            tokens: own.iter().map(|(token, _)| (*token, read.turns[*token].unwrap_or_default())).collect(),
            values,
        }
    }

    /// The running mean of z along the transcript.
    fn along(&self, direction: usize, calibration: &Moments, window: usize) -> Vec<f64> {
        let z: Vec<f64> = self.values[direction].iter().map(|&x| calibration.z(f64::from(x))).collect();
        running(&z, window)
    }
}

fn peak(along: &[f64]) -> f64 {
    along.iter().copied().fold(f64::MIN, f64::max)
}

/// Three disjoint parts of the neutral transcripts.
struct Parts {
    /// For mean, standard deviation and length classes.
    scale: Vec<usize>,
    /// For the threshold.
    threshold: Vec<usize>,
    held_out: Vec<usize>,
}

impl Parts {
    fn draw(n: usize, seed: u64) -> Parts {
        let mut order = Draws::new("monitor parts", &[seed]).shuffled(n);
        let each = ((n as f64 * SHARE).floor() as usize).max(1).min(n / 3);
        let held_out = order.split_off(n - each);
        let threshold = order.split_off(each);
        Parts { scale: order, threshold, held_out }
    }
}

impl Monitor {
    /// The tables `monitor` (one row per direction and length class: its threshold and rates), `monitor_alarms` (one
    /// row per transcript) and `monitor_outcomes` (one row per direction: the AUROC), at each layer.
    ///
    /// An error if there are too few neutral transcripts for the rate, overall or in a length class.
    fn run_on(&self, set: &VectorSet, reads: &Reads, seed: u64) -> Result<Tables> {
        let stories: Vec<Table> =
            (0..reads.n_stories).map(|shard| (reads.stories)(shard)).collect::<Result<_>>()?;
        let lexicon = Lexicon::of(&stories, &self.alarm.on)?;
        let neutral = reads.sources.first().context("no neutral transcripts")?;
        let mut all: BTreeMap<usize, [Vec<Watched>; 2]> = BTreeMap::new();
        let mut seen: HashSet<(usize, bool, String)> = HashSet::new();
        reads.each(set, &mut |read| {
            let is_watched = read.source != neutral;
            let known = !seen.insert((read.layer, is_watched, read.text.id.clone()));
            let one = Watched::of(read, self, &self.judged(&set.layers[read.layer].emotions)?, &lexicon);
            // A duplicate transcript counts once: its copies are not exchangeable with others.
            if !known && !one.tokens.is_empty() {
                all.entry(read.layer).or_insert_with(|| [Vec::new(), Vec::new()])[usize::from(is_watched)]
                    .push(one);
            }
            Ok(())
        })?;
        let mut out = tables::Out::default();
        for (at, [neutral, watched]) in &all {
            let (emotions, here) = (&set.layers[*at].emotions, set.layers[*at].layer);
            let all = names(emotions, self.random);
            let judged = self.judged(emotions)?;
            let names =
                judged.into_iter().map(|direction| all[direction].clone()).chain([WORDS.into()]).collect();
            self.layer(set, here, names, (neutral, watched), seed, &mut out)
                .with_context(|| format!("calibrate the alarm at layer {here}"))?;
        }
        Ok(out.tables())
    }

    /// The indices of the judged directions: the emotion first, then the random ones.
    fn judged(&self, emotions: &[String]) -> Result<Vec<usize>> {
        let own = emotions.iter().position(|emotion| *emotion == self.alarm.on);
        let own = own.with_context(|| format!("there is no vector of `{}`", self.alarm.on))?;
        Ok(std::iter::once(own).chain(emotions.len()..emotions.len() + self.random).collect())
    }

    /// `names`: of the judged directions.
    fn layer(
        &self,
        set: &VectorSet,
        layer: Layer,
        names: Vec<String>,
        (neutral, watched): (&[Watched], &[Watched]),
        seed: u64,
        out: &mut tables::Out,
    ) -> Result<()> {
        let ids: HashSet<&str> = neutral.iter().map(|one| one.id.as_str()).collect();
        let both = watched.iter().filter(|one| ids.contains(one.id.as_str())).count();
        ensure!(
            both == 0,
            "{both} of the transcripts that are watched are among the neutral ones: take them out of these"
        );
        let parts = Parts::draw(neutral.len(), seed);
        let lengths: Vec<usize> = parts.scale.iter().map(|&i| neutral[i].tokens.len()).collect();
        let edges = edges(&lengths, self.classes);
        for (direction, name) in names.iter().enumerate() {
            let mut scale = Moments::default();
            for value in parts.scale.iter().flat_map(|&i| &neutral[i].values[direction]) {
                scale.add(f64::from(*value));
            }
            let along = |one: &Watched| one.along(direction, &scale, self.window);
            let class = |one: &Watched| class_of(one.tokens.len(), &edges);
            let peaks = |part: &[usize]| -> Vec<(usize, f64)> {
                part.iter().map(|&i| (class(&neutral[i]), peak(&along(&neutral[i])))).collect()
            };
            let (calibration, held_out) = (peaks(&parts.threshold), peaks(&parts.held_out));
            let of_class = |peaks: &[(usize, f64)], wanted: usize| -> Vec<f64> {
                peaks.iter().filter(|(class, _)| *class == wanted).map(|(_, peak)| *peak).collect()
            };
            let mut thresholds = Vec::new();
            for wanted in 0..=edges.len() {
                let own = of_class(&calibration, wanted);
                let all = neutral.len();
                let need = rule::fewest(self.alarm.false_alarms) as f64;
                let total = (need * self.classes as f64 / (1.0 - 2.0 * SHARE)).ceil();
                thresholds.push(Threshold::of(&own, self.alarm.false_alarms).with_context(|| {
                    let class = if edges.is_empty() { String::new() } else { format!(", length class {}", wanted + 1) };
                    format!(
                        "of {all} neutral transcripts three fifths set the threshold{class}; about {total} in all would do: \
                         bring more, or raise `false_alarms`"
                    )
                })?);
            }
            let alarmed = |(class, peak): &(usize, f64)| *peak > thresholds[*class].value;
            let found: Vec<(usize, Vec<f64>)> = watched.iter().map(|one| (class(one), along(one))).collect();
            for (wanted, threshold) in thresholds.iter().enumerate() {
                let here =
                    |peaks: &[(usize, f64)]| peaks.iter().filter(|(class, _)| *class == wanted).count();
                let alarms = |peaks: &[(usize, f64)]| {
                    peaks.iter().filter(|peak| peak.0 == wanted && alarmed(peak)).count()
                };
                let watched: Vec<(usize, f64)> =
                    found.iter().map(|(class, along)| (*class, peak(along))).collect();
                out.rule.push(
                    set,
                    layer,
                    tables::Rule {
                        direction: name.clone(),
                        class: wanted,
                        most_tokens: edges.get(wanted).copied(),
                        threshold: *threshold,
                        held_out: (alarms(&held_out), here(&held_out)),
                        watched: (alarms(&watched), here(&watched)),
                        mean: scale.mean(),
                        sd: scale.sd(),
                    },
                );
            }
            if direction == 0 {
                for (one, (class, along)) in watched.iter().zip(&found) {
                    let own = of_class(&calibration, *class);
                    out.alarms.push(
                        set,
                        layer,
                        tables::Alarmed::of(one, *class, along, &thresholds[*class], &own),
                    );
                }
            }
            if let Some(outcome) = &self.outcome {
                let labelled = || watched.iter().zip(&found).filter(|(one, _)| one.label.is_some());
                let side = |yes: bool| -> Vec<f64> {
                    let of = labelled().filter(|(one, _)| (one.label.as_ref() == Some(outcome)) == yes);
                    of.map(|(_, (_, along))| peak(along)).collect()
                };
                let sides = [side(true), side(false)];
                let events = || labelled().filter(|(one, _)| one.label.as_ref() == Some(outcome));
                let leads = lead::Leads::of(
                    events().filter_map(|(one, (class, along))| {
                        let alarm = along.iter().position(|&x| x > thresholds[*class].value);
                        let turns = one.tokens.last()?.1 + 1;
                        Some(lead::Case { alarm: alarm.map(|at| one.tokens[at].1), event: one.event?, turns })
                    }),
                    seed,
                );
                out.outcomes.push(set, layer, tables::Outcome::of(name, &sides, leads, self.resamples, seed));
            }
        }
        Ok(())
    }
}
