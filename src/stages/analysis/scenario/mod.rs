//! What a model does in a situation when an emotion's vector is added: what it would choose, or what it writes.
//! `docs/behaviour.md` describes what each set can and cannot show.

mod accuracy;
mod choices;
mod coloured;
mod figures;
mod keys;
mod labels;
mod outcomes;
mod probe;
mod read_figures;
mod samples;
mod set;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result};

pub use set::{LETTERS, Outcome, Question, Set, Tested, Verdict, compiled, names, shipped};

use super::preferences::{emotions, strength};
use super::steering::Layers;
use super::{Claim, Input, Inputs, Kind, LayerVectors, Tables};
use crate::lm::{Layer, Positions};
use crate::params::{Params as _, Type, params, presets, words};
use crate::report::figure::Figure;
use crate::stages::batches::Batches;
use crate::stages::readings::{From, Wanted};
use crate::stages::rollouts::{Steering, Texts, Writing, cells};
use crate::stages::scores::Scorer;
use crate::stages::scores::judge::{self, Judge, Who};
use crate::stages::scores::pattern;
use crate::stages::scores::run::{self, Run, Sandbox};
use crate::stages::statistics::shares::seen_above;
use crate::store::table::Table;
use keys::{
    Source, content, has_evidence, judge, label_file, lacks, nobody, nothing, of, reading, sandbox, source,
    telling, texts, told, unlabelled,
};
use labels::Label;

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 1;

words! {
    /// How it is told what a model does.
    pub enum Evidence {
        /// By the probabilities of declared choices, without sampling.
        Choices = "choices",
        /// By patterns in what it writes.
        Pattern = "pattern",
        /// By what a judge says of that.
        Judge = "judge",
        /// By what the program in it does.
        Run = "run",
        /// By what emotion vectors read in it, without steering.
        Probe = "probe",
    }
}

words! {
    /// How it is told what a text is.
    pub enum Told {
        Pattern = "pattern",
        Judge = "judge",
        Run = "run",
    }
}

params! {
    /// What the model does in a situation when an emotion's vector is added: see docs/behaviour.md.
    #[check(has_evidence)]
    pub struct Scenario {
        /// `mailbox`, `impossible-code`, `are-you-sure`, `feedback` or `refusal`; or a TOML file of the same form, relative to the
        /// project; or what would be in that, as a table.
        #[of(Type::TextOrFields)]
        #[with(source)]
        #[serde(skip)]
        pub set: Source;
        // What it says, once it is read.
        #[of(Type::NONE)]
        #[with(content)]
        pub content: Set;
        /// `choices`: the log-odds of the act among declared choices: no sampling, so that it works where a model hardly ever or
        /// always acts; `pattern`: what it writes, by patterns; `judge`: the same, by what a judge says of it; `run`: the same, by what
        /// the program in it does in a sandbox; `probe`: without steering, whether the readings of emotions in what it writes go with
        /// what that is found to be.
        pub evidence: Evidence = "choices";
        /// With `probe`: how the outcome of a text is determined.
        #[with(told)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub told_by: Option<Told> = "pattern";
        /// With a judge: one of `[judges]`.
        #[unset("the only one")]
        #[with(judge)]
        #[serde(skip)]
        pub judge: Option<String>;
        // Who that is.
        #[of(Type::NONE)]
        #[with(nobody)]
        #[serde(skip)]
        pub who: Option<Who>;
        /// Whose vectors are added.
        #[of(Type::PresetOrTexts(presets::EVERY))]
        #[with(emotions)]
        pub emotions: Vec<String> = "all";
        /// How strongly, as a share of the mean residual norm at the layer; below 0 in the opposite direction. The situation
        /// without steering is always among the cells.
        #[of(Type::Numbers)]
        #[with(strength)]
        pub strength: Vec<f64> = [-0.1, -0.05, 0.05, 0.1];
        /// Which of the kept layers are steered, all at once; each has an equal part of the strength. `default`: the one nearest to
        /// 2/3 of the depth.
        pub layers: Layers = "default";
        /// Which tokens' residual streams the vector is added to; `generated`: those from which the model's answers come forth.
        pub positions: Positions = "all";
        /// Random directions of the same norm, measured as often as each emotion.
        pub random: usize = 19, 0..=10_000;
        // With `run`.
        #[of(Type::Inline(Sandbox::TABLE))]
        #[with(sandbox)]
        #[serde(skip)]
        pub sandbox: Option<Sandbox>;
        /// But for `choices`: a CSV file of texts that people have labelled, relative to the project: see docs/behaviour.md.
        #[unset("-")]
        #[of(Type::Text)]
        #[with(label_file)]
        #[serde(skip)]
        pub labels: Option<PathBuf>;
        // What it says, once it is read.
        #[of(Type::NONE)]
        #[with(unlabelled)]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub labelled: Vec<Label>;
        /// But for `choices`: of how many texts of each case in each cell, the first, emotion vectors read every token, to be shown in the
        /// report; with `probe` of all.
        #[with(reading)]
        #[serde(skip_serializing_if = "nothing")]
        pub read: usize = 1, 0..=100_000;
        // `None` with `choices`.
        #[of(Type::Inline(Texts::TABLE))]
        #[with(texts)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub texts: Option<Texts>;
        /// Draws of cases with replacement behind the intervals.
        pub bootstrap: usize = 1000, 0..=100_000;
    }
}

impl Scenario {
    /// Reads a set and labels from the user's files, which then enter the keys, and looks for the sandbox for
    /// programs.
    ///
    /// # Errors
    /// Those of [`set::of_file`] and [`labels::of_file`]; a set that lacks what the evidence needs; a missing sandbox.
    pub fn load(&mut self) -> Result<()> {
        if let Source(Some(path)) = &self.set {
            let known = || names().collect::<Vec<_>>().join(", ");
            let set = set::of_file(path).with_context(|| format!("sets that ship: {}", known()))?;
            self.content = of(set, self.told());
            if let Some(why) = lacks(&self.content, self.told()) {
                anyhow::bail!("{}: {why}", path.display());
            }
        }
        if let Some(path) = &self.labels {
            self.labelled = labels::of_file(path, &self.outcomes())?;
        }
        self.sandbox.as_mut().map_or(Ok(()), Sandbox::find)?;
        Ok(())
    }
}

impl Scenario {
    /// The scorer that assigns outcomes; `None`: choices are read.
    fn told(&self) -> Option<Told> {
        telling(self.evidence, self.told_by)
    }

    /// The possible outcomes of a text, and whether each is the act; empty with `choices`.
    fn outcomes(&self) -> Vec<(&str, bool)> {
        let Set { outcomes, judge, .. } = &self.content;
        match self.told() {
            None => Vec::new(),
            Some(Told::Pattern) => pattern::outcomes(outcomes),
            Some(Told::Judge) => judge.as_ref().map_or_else(Vec::new, judge::outcomes),
            Some(Told::Run) => run::OUTCOMES.to_vec(),
        }
    }

    /// The steering of the model.
    fn steering(&self) -> Steering {
        if self.evidence == Evidence::Probe {
            return Steering {
                emotions: Vec::new(),
                strength: Vec::new(),
                positions: Positions::All,
                random: 0,
            };
        }
        Steering {
            emotions: self.emotions.clone(),
            strength: self.strength.clone(),
            positions: self.positions,
            random: self.random,
        }
    }
}

impl Kind for Scenario {
    fn kind(&self) -> &'static str {
        "scenario"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Scenario"
    }

    fn intro(&self) -> &'static str {
        "What the model does in a situation when an emotion's vector is added to its residual stream, compared with \
         random directions of the same norm."
    }

    fn inputs(&self) -> Inputs {
        let chosen = self.evidence == Evidence::Choices;
        Inputs { model: chosen, seed: true, chat: chosen, batches: chosen, ..Inputs::VECTORS }
    }

    fn writes(&self) -> Option<(Writing, Scorer)> {
        let scorer = match self.told()? {
            Told::Pattern => Scorer::Pattern(self.content.outcomes.clone()),
            Told::Judge => {
                let Who { by, orders } = self.who.clone()?;
                Scorer::Judge(Judge { question: self.content.judge.clone()?, orders, by })
            }
            Told::Run => {
                let gives_up = self.content.run.clone()?.gives_up;
                Scorer::Run(Run { gives_up, sandbox: self.sandbox.clone()? })
            }
        };
        let (cases, texts) = (self.content.asked(), self.texts.clone()?);
        Some((Writing { cases, steering: self.steering(), texts }, scorer))
    }

    fn reads(&self) -> Option<Wanted> {
        let random = if self.evidence == Evidence::Probe { self.random } else { 0 };
        let from = vec![From::Rollouts(self.read)];
        (self.read > 0).then_some(Wanted { from, random, words: false })
    }

    fn amount(&self, emotions: usize) -> Option<String> {
        let cells = self.steering().cells(emotions);
        let asked = self.content.asked();
        let cases = asked.len();
        let Some(Texts { samples, .. }) = self.texts else {
            let orders = self.content.choices.as_ref().map_or(0, |choices| choices.options.len());
            let questions = cells * cases * orders;
            return Some(format!("{questions} questions: {cells} cells x {cases} cases x {orders} orders"));
        };
        let n = samples * asked.iter().filter(|asked| !asked.control).count();
        if self.evidence == Evidence::Probe {
            return Some(format!("{n} texts of {cases} cases, without controls, are read token by token"));
        }
        let seen = |from: f64| {
            let to =
                seen_above(from, n).map_or("never".to_string(), |to| format!("from {:.0} % on", 100.0 * to));
            format!("from {:.0} % {to}", 100.0 * from)
        };
        Some(format!(
            "with {n} texts per cell (without controls), an increase is detected with a power of 80 % {}, {}",
            seen(0.0),
            seen(0.22)
        ))
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        let rollouts = input.rollouts.context("there are no texts")?;
        let samples = samples::read(&rollouts, &self.content.asked())?;
        let first = input.set.layers.first().context("there are no vectors")?;
        let place = (input.set, first.layer);
        let mut tables = outcomes::tables(self, place, &samples, &self.outcomes(), input.seed)?;
        if let Some(reads) = &input.reads {
            if self.evidence == Evidence::Probe {
                let probe = probe::table(input.set, &samples, reads, (self.bootstrap, input.seed))?;
                tables.extend(probe.map(|table| ("scenario_probe".to_string(), table)));
            }
            let tokens = coloured::table(input.set, &samples, reads)?;
            tables.extend(tokens.map(|table| ("scenario_tokens".to_string(), table)));
        }
        Ok(tables)
    }

    fn run_in_batches(&self, input: Input, batches: &mut dyn Batches) -> Result<Tables> {
        let model = input.model()?;
        let Input { set, chat, seed, .. } = input;
        let layers: Vec<&LayerVectors> = set.layers.iter().collect();
        let first = layers.first().context("there are no vectors")?;
        let cells = cells::cells(&self.steering(), &layers, seed)?;
        let steered = cells::steered(&layers);
        let asked = self.content.asked();
        let choices = self.content.choices.as_ref().context("the set declares no choices")?;
        let mut told = |done: usize, of: usize| batches.at(done, of);
        let odds = choices::odds(self, choices, &asked, (model, chat), (&steered, &cells), &mut told)?;
        Ok(tables::choices(self, (set, first.layer), &asked, &cells, &odds, seed))
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

#[cfg(test)]
impl Scenario {
    /// A built-in set with minimal settings.
    pub fn plain(set: &str) -> Scenario {
        Scenario {
            set: Source(None),
            content: shipped(set).expect("a set that ships"),
            evidence: Evidence::Choices,
            told_by: None,
            judge: None,
            who: None,
            emotions: Vec::new(),
            strength: vec![0.1],
            layers: Layers::Default,
            positions: Positions::All,
            random: 3,
            sandbox: None,
            labels: None,
            labelled: Vec::new(),
            read: 0,
            texts: None,
            bootstrap: 100,
        }
    }
}

#[cfg(test)]
mod tests;
