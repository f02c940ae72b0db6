//! The order in which nodes are processed: model by model, starting with models that no other process is working on.
//! Independent of which units can be computed.

use std::collections::HashSet;
use std::ops::Range;

use super::work::Job;
use crate::plan::Plan;
use crate::store::Store;

/// The model that each node of `plan` belongs to: the one that it runs on, or that its inputs were run on; `None` for
/// stories that no model of the plan writes.
pub fn models(plan: &Plan) -> Vec<Option<usize>> {
    let mut models: Vec<Option<usize>> = Vec::new();
    for node in &plan.nodes {
        let input = node.units.iter().flat_map(|unit| &unit.inputs).next();
        models.push(node.model.or_else(|| input.and_then(|id| models[id.node])));
    }
    models
}

/// Ranges of `jobs` that belong to one model each, in the plan's order. Worker `which` of `of` starts with another
/// model than the other workers; jobs that belong to no model always come first.
pub fn sections(jobs: &[Job], models: &[Option<usize>], (which, of): (usize, usize)) -> Vec<Range<usize>> {
    let mut sections: Vec<Range<usize>> = Vec::new();
    for chunk in jobs.chunk_by(|a, b| models[a.index] == models[b.index]) {
        let from = sections.last().map_or(0, |section| section.end);
        sections.push(from..from + chunk.len());
    }
    let of_none = sections.iter().take_while(|section| models[jobs[section.start].index].is_none()).count();
    let rest = &mut sections[of_none..];
    rest.rotate_left(which * rest.len() / of);
    sections
}

/// Removes and returns the first section of `left` of which no other process is computing a unit, or else the first
/// section, so that each process loads few models.
pub fn next(left: &mut Vec<Range<usize>>, jobs: &[Job], store: &Store) -> Option<Range<usize>> {
    let taken = if left.len() > 1 { store.being_made() } else { HashSet::new() };
    let is_free = |job: &Job| {
        let stage = job.node.work.stage();
        let mut names = job.missing.iter().map(|&unit| Store::lease_name(stage, &job.node.units[unit].key));
        names.all(|name| !taken.contains(&name))
    };
    let free = left.iter().position(|section| taken.is_empty() || jobs[section.clone()].iter().all(is_free));
    (!left.is_empty()).then(|| left.remove(free.unwrap_or(0)))
}
