//! The tables of steering as read by figures and claims: averaged over prompts, null directions separated from
//! emotions.

use std::collections::HashMap;

use anyhow::Result;

use super::estimates::{band, band_is, mean, p_at_least};
use super::steering_nulls::{NULLS, TOPIC, kind};
use super::{Group, groups};
use crate::store::table::Table;

/// The smallest number of directions for which p can reach .05.
const TOPICS_FOR_P: usize = 19;

/// Strength (as bits) and name.
type At = (u64, String);

/// The measurements of one group.
pub struct Deltas {
    pub unit: String,
    /// The layers at which the vectors are added simultaneously: `20`, `19 + 20`.
    layers: String,
    pub n_prompts: usize,
    /// In table order.
    pub strengths: Vec<f64>,
    pub emotions: Vec<String>,
    /// Names of the null directions.
    pub nulls: Vec<String>,
    /// By strength (as bits), steered name and measured word.
    deltas: HashMap<(u64, String, String), f64>,
    /// The same for each prompt separately: emotions' vectors on emotions' words.
    by_prompt: Vec<HashMap<(u64, String, String), f64>>,
    intervals: HashMap<At, (f64, f64)>,
    /// For the intervals: topics, resamples.
    pub resampled: Option<(i32, i32)>,
    /// The effect of each addition per token of neutral text.
    quiet: Vec<(At, f64)>,
    /// The number of tokens of neutral text.
    pub n_tokens: i32,
}

impl Deltas {
    /// Each group of the table `steering` with all its measurements.
    pub fn read(tables: &[(String, Table)]) -> Result<Vec<(Group<'_>, Deltas)>> {
        let (intervals, quiet) =
            (groups(tables, "steering_interval")?, groups(tables, "steering_coherence")?);
        let mut found = Vec::new();
        for group in groups(tables, "steering")? {
            let mut deltas = Deltas::of(&group)?;
            if let Some(there) = intervals.iter().find(|other| other.place() == group.place()) {
                deltas.add_intervals(there)?;
            }
            if let Some(there) = quiet.iter().find(|other| other.place() == group.place()) {
                deltas.add_quiet(there)?;
            }
            found.push((group, deltas));
        }
        Ok(found)
    }

    fn of(group: &Group) -> Result<Deltas> {
        let table = group.table;
        let (prompt, unit, strength) = (table.str("prompt")?, table.str("unit")?, table.f64("strength")?);
        let (steered, measured, delta) = (table.str("steered")?, table.str("measured")?, table.f64("delta")?);
        let mut sums: HashMap<(u64, String, String), (f64, usize)> = HashMap::new();
        let mut strengths: Vec<f64> = Vec::new();
        for &row in &group.rows {
            let key = (strength[row].to_bits(), steered[row].clone(), measured[row].clone());
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + delta[row], sum.1 + 1);
            if !strengths.contains(&strength[row]) {
                strengths.push(strength[row]);
            }
        }
        let prompts = super::distinct(prompt, &group.rows);
        let mut by_prompt = vec![HashMap::new(); prompts.len()];
        for &row in group.rows.iter().filter(|&&row| kind(&steered[row]).is_none()) {
            let at = prompts.iter().position(|known| *known == prompt[row]).unwrap_or_default();
            let key = (strength[row].to_bits(), steered[row].clone(), measured[row].clone());
            by_prompt[at].insert(key, delta[row]);
        }
        let all = super::distinct(steered, &group.rows).into_iter().map(String::from);
        let (nulls, emotions) = all.partition(|name| kind(name).is_some());
        Ok(Deltas {
            unit: unit[group.rows[0]].clone(),
            layers: table.str("layers")?[group.rows[0]].clone(),
            n_prompts: prompts.len(),
            by_prompt,
            strengths,
            emotions,
            nulls,
            deltas: sums.into_iter().map(|(key, (sum, n))| (key, sum / n as f64)).collect(),
            intervals: HashMap::new(),
            resampled: None,
            quiet: Vec::new(),
            n_tokens: 0,
        })
    }

    fn add_intervals(&mut self, group: &Group) -> Result<()> {
        let table = group.table;
        let (strength, emotion) = (table.f64("strength")?, table.str("emotion")?);
        let (low, high) = (table.f64("low")?, table.f64("high")?);
        for &row in &group.rows {
            self.intervals.insert((strength[row].to_bits(), emotion[row].clone()), (low[row], high[row]));
            self.resampled = Some((table.i32("topics")?[row], table.i32("resamples")?[row]));
        }
        Ok(())
    }

    fn add_quiet(&mut self, group: &Group) -> Result<()> {
        let table = group.table;
        let (strength, steered, delta) = (table.f64("strength")?, table.str("steered")?, table.f64("delta")?);
        for &row in &group.rows {
            self.quiet.push(((strength[row].to_bits(), steered[row].clone()), delta[row]));
            self.n_tokens = table.i32("n_tokens")?[row];
        }
        Ok(())
    }

    /// The effect of a vector on a word, averaged over prompts.
    pub fn delta(&self, strength: f64, steered: &str, measured: &str) -> Option<f64> {
        self.deltas.get(&(strength.to_bits(), steered.to_string(), measured.to_string())).copied()
    }

    /// The effect of each emotion's vector on its own word.
    pub fn own(&self, strength: f64) -> Vec<f64> {
        self.emotions.iter().filter_map(|emotion| self.delta(strength, emotion, emotion)).collect()
    }

    /// The mean of these effects over emotions, for each prompt.
    pub fn own_by_prompt(&self, strength: f64) -> Vec<f64> {
        let matrices = self.matrices(strength);
        let n = self.emotions.len();
        let own = |matrix: &Vec<f64>| mean(&(0..n).map(|at| matrix[at * n + at]).collect::<Vec<_>>());
        matrices.iter().filter_map(own).collect()
    }

    /// For each prompt `[emotion, word]`: the effect of each emotion's vector on each emotion's word. Incomplete
    /// matrices are skipped.
    pub fn matrices(&self, strength: f64) -> Vec<Vec<f64>> {
        let of = |deltas: &HashMap<(u64, String, String), f64>| {
            let rows = self
                .emotions
                .iter()
                .flat_map(|steered| self.emotions.iter().map(move |word| (steered, word)));
            let at = |(steered, word): (&String, &String)| {
                deltas.get(&(strength.to_bits(), steered.clone(), word.clone())).copied()
            };
            rows.map(at).collect::<Option<Vec<f64>>>()
        };
        self.by_prompt.iter().filter_map(of).collect()
    }

    /// The interval of that effect over resamples of topics.
    pub fn interval(&self, strength: f64, emotion: &str) -> Option<(f64, f64)> {
        self.intervals.get(&(strength.to_bits(), emotion.to_string())).copied()
    }

    /// The effects of the null directions of a kind on a word; `None`: all kinds.
    pub fn null(&self, strength: f64, measured: &str, of: Option<&str>) -> Vec<f64> {
        let nulls = self.nulls.iter().filter(|name| of.is_none() || kind(name) == of);
        nulls.filter_map(|null| self.delta(strength, null, measured)).collect()
    }

    /// For each null direction of a kind, the mean over emotions of its effect on the emotion's word.
    pub fn null_means(&self, strength: f64, of: Option<&str>) -> Vec<f64> {
        let mean_of = |null: &String| {
            let all = self.emotions.iter().filter_map(|emotion| self.delta(strength, null, emotion));
            mean(&all.collect::<Vec<_>>())
        };
        self.nulls.iter().filter(|name| of.is_none() || kind(name) == of).filter_map(mean_of).collect()
    }

    /// The kinds of null directions that are present.
    pub fn kinds(&self) -> Vec<&'static str> {
        NULLS.into_iter().filter(|null| self.nulls.iter().any(|name| kind(name) == Some(null))).collect()
    }

    /// The kinds against which an effect must be significant. Vectors of topics count only if there are enough of them
    /// for a p of .05: their number is limited by the stories, and with few of them the minimum p would decide instead
    /// of the effect.
    pub fn severe(&self) -> Vec<&'static str> {
        let few = |kind: &str| kind == TOPIC && self.number(kind) < TOPICS_FOR_P;
        self.kinds().into_iter().filter(|kind| !few(kind)).collect()
    }

    /// The share of null directions of a kind that change an emotion's word at least as much in the direction expected
    /// for this sign of the strength, with the emotion's vector itself counted in.
    pub fn p(&self, strength: f64, emotion: &str, of: Option<&str>) -> Option<f64> {
        let towards = |delta: f64| delta * strength.signum();
        let null: Vec<f64> = self.null(strength, emotion, of).into_iter().map(towards).collect();
        p_at_least(towards(self.delta(strength, emotion, emotion)?), &null)
    }

    /// The effects per token of neutral text: of the emotions' vectors or, with `nulls`, of the null directions of all
    /// kinds.
    pub fn quiet(&self, strength: f64, nulls: bool) -> Vec<f64> {
        let here = self
            .quiet
            .iter()
            .filter(|((at, name), _)| *at == strength.to_bits() && kind(name).is_some() == nulls);
        here.map(|(_, delta)| *delta).collect()
    }

    /// The effect of one emotion's vector per token of neutral text.
    pub fn quiet_of(&self, strength: f64, emotion: &str) -> Option<f64> {
        let here = |((at, name), _): &&(At, f64)| *at == strength.to_bits() && name == emotion;
        self.quiet.iter().find(here).map(|(_, delta)| *delta)
    }

    /// Strengths in ascending order.
    pub fn rising(&self) -> Vec<f64> {
        let mut strengths = self.strengths.clone();
        strengths.sort_by(f64::total_cmp);
        strengths
    }

    /// "resid norm".
    pub fn unit(&self) -> String {
        self.unit.replace('_', " ")
    }

    /// "strength 1 (vector), mean over 2 prompts".
    pub fn setting(&self, strength: f64) -> String {
        let prompts = if self.n_prompts > 1 {
            format!(", mean over {} prompts", self.n_prompts)
        } else {
            String::new()
        };
        let layers = match self.layers.contains('+') {
            true => format!(" shared by layers {}", self.layers),
            false => String::new(),
        };
        format!("strength {strength} ({}){layers}{prompts}", self.unit())
    }

    /// The band of the null, see [`band`].
    pub fn band(&self, strength: f64, measured: &str) -> Option<(f64, f64)> {
        band(&self.null(strength, measured, None))
    }

    /// "57 null directions of equal norm (19 random, ...): 2.5th to 97.5th percentile".
    pub fn band_name(&self) -> String {
        let n = self.nulls.len();
        format!("{} null directions of equal norm, {} ({})", n, band_is(n), self.counted())
    }

    /// "19 random, 19 permuted, 19 shuffled".
    pub fn counted(&self) -> String {
        let each = self.kinds().into_iter().map(|of| format!("{} {of}", self.number(of)));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The number of null directions of a kind.
    pub fn number(&self, of: &str) -> usize {
        self.nulls.iter().filter(|name| kind(name) == Some(of)).count()
    }
}
