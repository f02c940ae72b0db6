//! Nodes for texts that are generated under steering, and for their scores.

use super::build::{Builder, unit};
use super::key::Digest;
use super::preimage::{RolloutParams, ScoreParams, key};
use super::{NEUTRAL, Subject, UnitId, Work};
use crate::lm::{Chat, Layer};
use crate::resolve::judged_by;
use crate::stages::analysis::Analysis;
use crate::stages::rollouts::{self, Writing};
use crate::stages::scores::judge::{self, By, Judge};
use crate::stages::scores::{self, Scorer};

impl Builder<'_> {
    /// Adds the texts that `model` writes for an analysis, steered at `layers` with vectors of the node `vectors`.
    /// Returns the vectors, then the texts of each case, then the scores of each case. Without a scorer only the texts
    /// are planned, and nothing is returned.
    pub(super) fn rollouts(
        &mut self,
        variant: usize,
        (model, source): (usize, &str),
        (vectors, layers): (usize, &[Layer]),
        analysis: &str,
        (writing, scorer): (Writing, Option<Scorer>),
    ) -> Vec<UnitId> {
        let (reader, experiment) = (&self.resolved.models[model], self.variants[variant]);
        let (chat, seed) = (self.chat(model), experiment.seed);
        let directions: Vec<UnitId> =
            layers.iter().flat_map(|&layer| self.at_layer(vectors, layer)).collect();
        let of_case = writing.of_case(experiment.emotions.len());
        let texts = |case: usize| case * of_case..(case + 1) * of_case;
        let written = writing.cases.iter().enumerate().map(|(at, case)| {
            let params = RolloutParams::of(&writing, case, layers, seed, chat);
            let (identity, numerics) = (Some(&reader.identity), Some(self.numerics(reader, None)));
            let keyed =
                key("rollouts", rollouts::VERSION, &params, &self.keys(&directions), identity, numerics);
            unit(keyed, texts(at), None, directions.clone())
        });
        let written = written.collect();
        let cases = writing.cases.clone();
        let work = Work::Rollouts { writing: writing.into(), chat, seed, set: self.set(reader, source) };
        let subject = Subject::rollouts(analysis, &reader.name, source);
        let node = self.push(variant, subject, work, Some(model), written);
        let written: Vec<UnitId> = (0..cases.len()).map(|unit| UnitId { node, unit }).collect();
        let Some(scorer) = scorer else { return Vec::new() };
        let (by, identity) = self.scored_by(variant, model, analysis, &scorer);
        let judge = by.map(|by| &self.resolved.models[by]);
        // A judge's verdict begins with its first token, so it must not think first.
        let chat = Chat { thinking: false, ..chat };
        let scored = written.iter().enumerate().map(|(at, &id)| {
            let params = ScoreParams::of(&scorer, &cases[at], chat);
            let identity = judge.map(|judge| &judge.identity).or(identity.as_ref());
            let numerics = judge.map(|judge| self.numerics(judge, Some(judge::BATCH_TOKENS)));
            let keyed = key("scores", scores::VERSION, &params, &self.keys(&[id]), identity, numerics);
            unit(keyed, texts(at), None, vec![id])
        });
        let scored = scored.collect();
        let subject = Subject::scores(analysis, &reader.name, source);
        let work = Work::Scores { scorer: scorer.into(), cases, chat, identity };
        let node = self.push(variant, subject, work, by, scored);
        let scored = (0..written.len()).map(|unit| UnitId { node, unit });
        directions.into_iter().chain(written.iter().copied()).chain(scored).collect()
    }

    /// Adds the analyses of texts of other models that `judge` judges.
    pub(super) fn judged(&mut self, variant: usize, judge: usize) {
        for model in 0..self.resolved.models.len() {
            let sources = self.sources(variant);
            let read = sources.iter().map(|texts| texts.name).filter(|name| *name != NEUTRAL);
            let imports = self.variants[variant].imports.iter().map(|import| import.name.as_str());
            for name in read.chain(imports) {
                let subject = Subject::vectors(&self.resolved.models[model].name, name);
                let vectors = self.merged.find(variant, &subject);
                if let Some(vectors) = vectors {
                    self.analyses(variant, model, name, vectors, Some(judge));
                }
            }
        }
    }

    /// The model of the experiment that scores the texts of `model`, or the identity of a judge on a server; neither
    /// for patterns.
    fn scored_by(
        &self,
        variant: usize,
        model: usize,
        analysis: &str,
        scorer: &Scorer,
    ) -> (Option<usize>, Option<Digest>) {
        let Scorer::Judge(Judge { by, .. }) = scorer else { return (None, None) };
        match by {
            By::Own => (Some(model), None),
            By::Model(name) => (self.place_of(name), None),
            By::Server(_) => (None, self.judge_at_server(variant, analysis)),
        }
    }

    fn judge_at_server(&self, variant: usize, analysis: &str) -> Option<Digest> {
        let own = self.variants[variant].analysis.iter().find(|own| own.name == analysis)?;
        let Analysis::Scenario(scenario) = &own.kind else { return None };
        self.resolved.served[variant].get(&judged_by(scenario.judge.as_ref()?)).copied()
    }

    /// The index of a model by its name; `None` if it is unavailable.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        self.resolved.models.iter().position(|model| model.name == name)
    }
}

/// The model of the experiment file that judges the texts of other models for an analysis.
pub(super) fn other_judge(analysis: &Analysis) -> Option<&str> {
    match analysis {
        Analysis::Scenario(scenario) => match &scenario.who.as_ref()?.by {
            By::Model(name) => Some(name),
            By::Own | By::Server(_) => None,
        },
        _ => None,
    }
}
