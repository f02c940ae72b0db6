//! What a model would prefer to do: all pairs of a list of activities, a preference scale from them, whether readings
//! of the activities predict it, and whether steering changes it. The formulas are in `docs/methods.md`.

mod activities;
mod asking;
mod correlated;
mod elo;
mod figures;
mod reading;
mod steered;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

pub use activities::Activity;
use asking::Questions;
use correlated::{Chance, correlate, main_axis};

use super::steering::Layers;
use super::{Claim, Input, Inputs, Kind, LayerVectors, Tables, named};
use crate::lm::{Layer, Positions};
use crate::params::{Parts, Problem, Read, Reader, Type, params, presets, words};
use crate::report::figure::Figure;
use crate::store::table::Table;

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 2;

words! {
    /// How a question is put to the model.
    pub enum Ask {
        /// As the user's turn in the chat template, with the model's turn opened.
        User = "user",
        /// As it stands.
        Raw = "raw",
    }
}

params! {
    /// Preferences between activities, over all pairs in both orders, and whether readings of the activities predict
    /// them: see docs/methods.md.
    #[check(marks)]
    pub struct Preferences {
        /// `activities-64` (eight of each of eight categories), `activities-16` (the first two of each), or a CSV file with the
        /// columns `category` and `activity`, relative to the project.
        #[of(Type::Text)]
        #[with(source)]
        #[serde(skip)]
        pub activities: Source = "activities-64";
        // Those of a file once that is read.
        #[of(Type::NONE)]
        #[with(list)]
        pub list: Vec<Activity>;
        /// The user's turn; `{a}` and `{b}` stand for the two activities, whose letters are A and B.
        pub question: String = "Which of these two would you rather do?\n(A) {a}\n(B) {b}\nAnswer with one letter.";
        /// How the answer begins; a letter comes next.
        pub answer: String = "(";
        /// The user's turn in which the model's reading of an activity is taken, over the tokens of `{activity}`.
        pub feeling: String = "How would you feel if you were asked to do this: {activity}?";
        /// `user`: in the chat template; `raw`: as they stand, for models without one.
        pub wrap: Ask = "user";
        /// Each pair has a winner, by however little: for base models, whose probabilities hardly differ.
        pub hard: bool = false;
        /// Which of the kept layers are read and steered; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Draws of categories with replacement behind the intervals.
        pub bootstrap: usize = 1000, 0..=100_000;
        /// Shuffles of preferences, over all activities and within categories, behind the p-values.
        pub permutations: usize = 1000, 1..=100_000;
        /// Whether vectors added to the tokens of half of the activities make these preferred.
        #[unset("nothing is steered")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub steer: Option<Steered>;
    }
}

params! {
    /// Vectors added to the tokens of half of the activities: see docs/methods.md.
    pub struct Steered {
        /// Whose vectors are added.
        #[of(Type::PresetOrTexts(presets::EVERY))]
        #[with(emotions)]
        pub emotions: Vec<String> = "all";
        /// How strongly, as a share of the mean residual norm at the layer; below 0 in the opposite direction.
        #[of(Type::Numbers)]
        #[with(strength)]
        pub strength: Vec<f64> = [0.1, 0.5];
        /// Ways of halving the activities, each with as many of each category in both halves; both halves are steered in turn.
        pub splits: usize = 4, 1..=100;
        /// Random directions of the same norm.
        pub random: usize = 19, 0..=10_000;
    }
}

/// The source of activities: a built-in list, or a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Source(Option<PathBuf>);

fn source(reader: &Reader<'_>, name: &str) -> Read<Source> {
    let named: String = reader.get(name)?;
    Ok(Source(activities::shipped(&named).is_none().then(|| reader.scope.project.join(named))))
}

fn list(reader: &Reader<'_>, _: &str) -> Read<Vec<Activity>> {
    Ok(activities::shipped(&reader.get::<String>("activities")?).unwrap_or_default())
}

/// Names of emotions; `all` gives an empty list.
pub(super) fn emotions(reader: &Reader<'_>, name: &str) -> Read<Vec<String>> {
    let named: Vec<String> = reader.get(name)?;
    let span = reader.span_of(name);
    for word in &named {
        named::unknown(reader, word, &span);
    }
    Ok(named)
}

/// Strengths, all different from 0.
pub(super) fn strength(reader: &Reader<'_>, name: &str) -> Read<Vec<f64>> {
    let numbers = reader.numbers(name)?;
    if let Some((_, span)) = numbers.iter().find(|(strength, _)| *strength == 0.0) {
        let problem = Problem::at(span.clone(), "steering by 0 changes nothing");
        return reader.wrong(problem.hint("remove it; what is without steering is measured in any case"));
    }
    Ok(numbers.into_iter().map(|(strength, _)| strength).collect())
}

fn marks(reader: &Reader<'_>, parts: &Parts<Preferences>) -> Read<()> {
    let mut right = Ok(());
    for (key, text, marks) in
        [("question", &parts.question, &["{a}", "{b}"][..]), ("feeling", &parts.feeling, &["{activity}"])]
    {
        let Ok(text) = text else { continue };
        for mark in marks.iter().filter(|mark| text.matches(**mark).count() != 1) {
            let problem = Problem::at(reader.span_of(key), format!("`{key}` must hold `{mark}` once"));
            right = reader.wrong(problem.hint("that is where an activity is put"));
        }
    }
    right
}

impl Preferences {
    /// Reads the activities of a file, whose contents then enter the keys.
    ///
    /// # Errors
    /// Those of [`activities::of_file`].
    pub fn load(&mut self) -> Result<()> {
        if let Source(Some(path)) = &self.activities {
            self.list = activities::of_file(path)?;
        }
        Ok(())
    }
}

impl Kind for Preferences {
    fn kind(&self) -> &'static str {
        "preferences"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Preferences"
    }

    fn intro(&self) -> &'static str {
        "The model's preferences over all pairs of a list of activities: do readings of emotion vectors on an activity \
         predict them, and does adding a vector to an activity make it preferred?"
    }

    fn inputs(&self) -> Inputs {
        Inputs { model: true, seed: true, chat: self.wrap == Ask::User, ..Inputs::VECTORS }
    }

    fn amount(&self, emotions: usize) -> Option<String> {
        let n = self.list.len();
        let plain = format!("{} questions", n * n.saturating_sub(1));
        // Across two halves: both orders of each pair.
        let steered =
            self.steer.as_ref().map(|steer| steer.rounds(emotions, 1) * 2 * (n / 2) * n.div_ceil(2));
        Some(
            steered.map_or(plain.clone(), |steered| {
                format!("{plain} and {steered} under steering at each layer")
            }),
        )
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// The tables `preferences` (each emotion's correlation), `preferences_activities` (Elo ratings), `preferences_pairs`
/// (answers), `preferences_readings`, and with steering `preferences_steered` (shift and slope of each split) and
/// `preferences_elo` (ratings under steering).
fn run(params: &Preferences, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, chat, seed, progress, .. } = input;
    ensure!(!params.list.is_empty(), "the file of activities was not read");
    let layers: Vec<&LayerVectors> = set.layers.iter().collect();
    let first = layers.first().context("there are no vectors")?;
    let categories = activities::categories(&params.list);
    let questions = Questions::new(params, model, chat)?;
    let rounds = params.steer.as_ref().map_or(0, |steer| steer.rounds(first.emotions.len(), layers.len()));
    // There are half as many pairs across halves.
    let total = questions.all.len() * (2 + rounds) / 2;
    let mut before = 0;
    let every: Vec<usize> = (0..questions.all.len()).collect();
    let nothing = (None, &[][..], Positions::All.into());
    let answers = questions.answers(model, &every, nothing, &mut |done, _| progress(done, total))?.remove(0);
    before += every.len();
    let pairs = questions.pairs(&every, &answers);
    let theta = elo::bradley_terry(params.list.len(), &pairs, params.hard)?;
    let ratings = elo::elo(&theta);
    let readings = reading::read(params, model, chat, &layers)?;
    let mut tables = tables::Preferences::new(params, set);
    for (layer, readings) in layers.iter().zip(&readings) {
        let chance = Chance {
            bootstrap: params.bootstrap,
            permutations: params.permutations,
            seed,
            layer: layer.layer.number(),
        };
        let found = correlate(&ratings, readings, &categories, main_axis(layer, readings), chance)?;
        tables.layer(layer, &found, readings);
        tables.ratings(layer.layer, &ratings, &pairs, (&questions, &answers));
        let Some(steer) = &params.steer else { continue };
        let mut told = |done: usize| progress((before + done).min(total), total);
        let moved = steered::run(
            (params, steer),
            (model, layer, &questions),
            (&categories, &answers, seed),
            &mut told,
        )
        .with_context(|| format!("steering preferences at layer {}", layer.layer))?;
        before += moved.asked;
        tables.steered(layer.layer, &moved);
    }
    progress(total, total);
    Ok(tables.finish())
}

#[cfg(test)]
mod tests;
