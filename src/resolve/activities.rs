//! Files of activities and of scenarios: read once, and in keys as what they say. Knows no model.

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment};
use crate::stages::analysis::Analysis;

/// What is wrong with the files that an experiment asks for.
pub(super) fn check(asked: &Asked) -> Vec<Problem> {
    asked.analysis.iter().filter_map(|analysis| read(&mut analysis.clone())).collect()
}

/// Puts what each file says where it is in keys. What is wrong goes to `problems`.
pub(super) fn pin(experiment: &mut Experiment, problems: &mut Vec<Problem>) {
    let variants = experiment.sweep.iter_mut().flat_map(|variant| &mut variant.experiment.analysis);
    problems.extend(experiment.analysis.iter_mut().chain(variants).filter_map(read));
    problems.dedup();
}

fn read(analysis: &mut config::Analysis) -> Option<Problem> {
    let read = match &mut analysis.kind {
        Analysis::Preferences(preferences) => preferences.load(),
        Analysis::Scenario(scenario) => scenario.load(),
        _ => return None,
    };
    let error = read.err()?;
    Some(Problem::at(analysis.span.clone(), format!("{error:#}")))
}
