//! What a model does in a situation when an emotion's vector is added: what it would choose, or what it writes. `docs/behaviour.md`
//! says what each set can and cannot show.

mod choices;
mod figures;
mod outcomes;
mod samples;
mod set;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result};

pub use set::{LETTERS, Outcome, Question, Set, Verdict, compiled, names, shipped};

use super::preferences::{emotions, strength};
use super::steering::Layers;
use super::{Claim, Input, Inputs, Kind, LayerVectors, Tables};
use crate::lm::{Layer, Positions};
use crate::params::problem::quoted;
use crate::params::{Params as _, Parts, Problem, Read, Reader, TextOrFields, Type, params, presets, words};
use crate::report::figure::Figure;
use crate::stages::batches::Batches;
use crate::stages::rollouts::{Steering, Texts, Writing, cells};
use crate::stages::scores::Scorer;
use crate::stages::scores::judge::{Judge, Who};
use crate::stages::statistics::shares::seen_above;
use crate::store::table::Table;

/// Raised when the same vectors would give other tables.
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
        /// always acts; `pattern`: what it writes, by patterns; `judge`: the same, by what a judge says of it.
        pub evidence: Evidence = "choices";
        /// With `evidence = "judge"`: one of `[judges]`.
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
        // `None` with `choices`.
        #[of(Type::Inline(Texts::TABLE))]
        #[with(texts)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub texts: Option<Texts>;
        /// Draws of cases with replacement behind the intervals.
        pub bootstrap: usize = 1000, 0..=100_000;
    }
}

/// Where a set is from: one that ships, or a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source(Option<PathBuf>);

fn source(reader: &Reader<'_>, name: &str) -> Read<Source> {
    match reader.get(name)? {
        TextOrFields::Fields(_) => Ok(Source(None)),
        TextOrFields::Text(named) => {
            let named = reader.with_something_in_it(name, named)?;
            Ok(Source(shipped(&named).is_none().then(|| reader.scope.project.join(named))))
        }
    }
}

fn content(reader: &Reader<'_>, _: &str) -> Read<Set> {
    let (written, evidence) = (reader.get("set")?, reader.get("evidence")?);
    let set = match written {
        TextOrFields::Text(named) => shipped(&named).unwrap_or_default(),
        TextOrFields::Fields(fields) => match set::given(fields) {
            Ok(set) => set,
            Err(error) => {
                let problem =
                    Problem::at(reader.span_of("set"), format!("this is no set of scenarios: {error:#}"));
                return reader.wrong(problem.hint("docs/behaviour.md, \"A set of your own\", has its keys"));
            }
        },
    };
    Ok(of(set, evidence))
}

fn texts(reader: &Reader<'_>, _: &str) -> Read<Option<Texts>> {
    let (texts, evidence) = (Texts::read(reader)?, reader.get::<Evidence>("evidence")?);
    Ok((evidence != Evidence::Choices).then_some(texts))
}

/// The judge's name, where one is asked.
fn judge(reader: &Reader<'_>, name: &str) -> Read<Option<String>> {
    let (named, evidence) = (reader.get::<Option<String>>(name)?, reader.get::<Evidence>("evidence")?);
    if evidence != Evidence::Judge {
        return Ok(None);
    }
    let there: Vec<&str> = reader.scope.names("judges").collect();
    let wrong = |message: String| {
        let hint = match there.is_empty() {
            true => "add a table `[judges.<name>]`".to_string(),
            false => format!("it is one of {}", there.join(", ")),
        };
        reader.wrong(Problem::at(reader.span_of(name), message).hint(hint))
    };
    match (named, there.as_slice()) {
        (Some(named), there) if there.contains(&named.as_str()) => Ok(Some(named)),
        (Some(named), _) => wrong(format!("there is no judge {}", quoted(&named))),
        (None, [only]) => Ok(Some(only.to_string())),
        (None, []) => wrong("this evidence needs a judge".to_string()),
        (None, _) => wrong("which judge is asked?".to_string()),
    }
}

fn nobody(_: &Reader<'_>, _: &str) -> Read<Option<Who>> {
    Ok(None) // found when all judges are read
}

/// What of a set has to do with the evidence, and so is in keys.
fn of(set: Set, evidence: Evidence) -> Set {
    match evidence {
        Evidence::Choices => Set { outcomes: Vec::new(), judge: None, ..set },
        Evidence::Pattern => Set { choices: None, judge: None, ..set },
        Evidence::Judge => Set { choices: None, outcomes: Vec::new(), ..set },
    }
}

fn has_evidence(reader: &Reader<'_>, parts: &Parts<Scenario>) -> Read<()> {
    let (Ok(Source(None)), Ok(set), Ok(evidence)) = (&parts.set, &parts.content, &parts.evidence) else {
        return Ok(()); // a file is read later
    };
    match lacks(set, *evidence) {
        None => Ok(()),
        Some(why) => reader.wrong(Problem::at(reader.span_of("evidence"), why)),
    }
}

/// What a set would need for the evidence.
fn lacks(set: &Set, evidence: Evidence) -> Option<String> {
    match evidence {
        Evidence::Choices if set.choices.is_none() => Some("the set declares no `choices`".into()),
        Evidence::Pattern if set.outcomes.is_empty() => Some("the set declares no `outcomes`".into()),
        Evidence::Judge if set.judge.is_none() => Some("the set declares no `judge`".into()),
        _ => None,
    }
}

impl Scenario {
    /// Reads a set of the user's, which then is in keys.
    ///
    /// # Errors
    /// Those of [`set::of_file`]; a set without what the evidence needs.
    pub fn load(&mut self) -> Result<()> {
        if let Source(Some(path)) = &self.set {
            let known = || names().collect::<Vec<_>>().join(", ");
            let set = set::of_file(path).with_context(|| format!("sets that ship: {}", known()))?;
            self.content = of(set, self.evidence);
            if let Some(why) = lacks(&self.content, self.evidence) {
                anyhow::bail!("{}: {why}", path.display());
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// With what the model is steered.
    fn steering(&self) -> Steering {
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
        "What the model does in a situation when an emotion's vector is added to its residual stream, beside random \
         directions of the same norm."
    }

    fn inputs(&self) -> Inputs {
        let chosen = self.evidence == Evidence::Choices;
        Inputs { model: chosen, seed: true, chat: chosen, batches: chosen, ..Inputs::VECTORS }
    }

    fn writes(&self) -> Option<(Writing, Scorer)> {
        let scorer = match self.evidence {
            Evidence::Choices => return None,
            Evidence::Pattern => Scorer::Pattern(self.content.outcomes.clone()),
            Evidence::Judge => {
                let Who { by, orders } = self.who.clone()?;
                Scorer::Judge(Judge { question: self.content.judge.clone()?, orders, by })
            }
        };
        let (cases, texts) = (self.content.asked(), self.texts.clone()?);
        Some((Writing { cases, steering: self.steering(), texts }, scorer))
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
        let seen = |from: f64| {
            let to =
                seen_above(from, n).map_or("never".to_string(), |to| format!("from {:.0} % on", 100.0 * to));
            format!("from {:.0} % {to}", 100.0 * from)
        };
        Some(format!(
            "with {n} texts a cell that have ground for the act, a rise is seen four times in five {}, {}",
            seen(0.0),
            seen(0.22)
        ))
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        let (_, scorer) = self.writes().context("this evidence writes no texts")?;
        let rollouts = input.rollouts.context("there are no texts")?;
        let samples = samples::read(&rollouts, &self.content.asked())?;
        let first = input.set.layers.first().context("there are no vectors")?;
        outcomes::tables(self, (input.set, first.layer), &samples, &scorer.outcomes(), input.seed)
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
    /// One that ships, with little beside it.
    pub fn plain(set: &str) -> Scenario {
        Scenario {
            set: Source(None),
            content: shipped(set).expect("a set that ships"),
            evidence: Evidence::Choices,
            judge: None,
            who: None,
            emotions: Vec::new(),
            strength: vec![0.1],
            layers: Layers::Default,
            positions: Positions::All,
            random: 3,
            texts: None,
            bootstrap: 100,
        }
    }
}

#[cfg(test)]
mod tests;
