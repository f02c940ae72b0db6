//! Files of activities and of scenarios: read once; their content goes into keys. Independent of models.

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment};
use crate::stages::analysis::Analysis;

/// Problems with the files that an experiment refers to.
pub(super) fn check(asked: &Asked) -> Vec<Problem> {
    asked.analysis.iter().filter_map(|analysis| read(&mut analysis.clone())).collect()
}

/// Loads the content of each file into its analysis, and so into keys. Failures go to `problems`.
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
