//! Files of human ratings: read once for validation, and pinned by content. Independent of models.

use anyhow::Result;

use crate::config::problem::Problem;
use crate::config::{self, Asked, Experiment};
use crate::stages::analysis::Analysis;
use crate::stages::analysis::norms::Norms;
use crate::store::Store;

/// Problems with the files that an experiment refers to.
pub(super) fn check(asked: &Asked) -> Vec<Problem> {
    let problem = |analysis: &config::Analysis| {
        let Analysis::Norms(norms) = &analysis.kind else { return None };
        wrong(norms, analysis)
    };
    asked.analysis.iter().filter_map(problem).collect()
}

/// Stores the digest of each file with its analysis, where it becomes part of keys. Failures go to `problems`.
///
/// # Errors
/// A file cannot be digested.
pub(super) fn pin(experiment: &mut Experiment, store: &Store, problems: &mut Vec<Problem>) -> Result<()> {
    let variants = experiment.sweep.iter_mut().flat_map(|variant| &mut variant.experiment.analysis);
    for analysis in experiment.analysis.iter_mut().chain(variants) {
        let Analysis::Norms(norms) = &mut analysis.kind else { continue };
        let Some(path) = &norms.file else { continue };
        if path.is_file() {
            norms.content = Some(store.digest_file(path)?.to_string());
        }
        let Analysis::Norms(norms) = &analysis.kind else { continue };
        problems.extend(wrong(norms, analysis));
    }
    problems.dedup();
    Ok(())
}

fn wrong(norms: &Norms, analysis: &config::Analysis) -> Option<Problem> {
    let error = norms.ratings().err()?;
    Some(Problem::at(analysis.span.clone(), format!("{error:#}")))
}
