//! Claims whose arithmetic could not be checked, for example because of too few stories, and why. Independent of the
//! individual analyses.

use anyhow::Result;

use super::{Shown, claims};
use crate::execute::NOT_CHECKED;
use crate::plan::{Set, Work};
use crate::store::Lookup;

/// A check that was impossible.
pub struct Unchecked {
    analysis: String,
    /// The set or the two sets of vectors that it would have checked.
    sets: Vec<Set>,
    pub why: String,
}

/// All impossible checks.
///
/// # Errors
/// The store cannot be read.
pub fn all(shown: &Shown) -> Result<Vec<Unchecked>> {
    let mut all = Vec::new();
    for node in &shown.plan.nodes {
        let (name, sets): (_, Vec<Vec<Set>>) = match &node.work {
            Work::Analysis { name, set, .. } if set.is_check => (name, vec![vec![set.clone()]]),
            Work::Across { name, pairs, .. } => (name, pairs.iter().map(|pair| pair.sets.to_vec()).collect()),
            _ => continue,
        };
        let checks = node.units.iter().zip(sets).filter(|(_, sets)| sets.iter().any(|set| set.is_check));
        for (unit, sets) in checks {
            let Lookup::Hit(entry) = shown.store.lookup(node.work.stage(), &unit.key)? else { continue };
            if entry.manifest.file(NOT_CHECKED).is_err() {
                continue;
            }
            let why = entry.read(NOT_CHECKED)?.str("reason")?.join("; ");
            let sets = sets.into_iter().map(|set| shown.proper(set)).collect();
            all.push(Unchecked { analysis: name.clone(), sets, why });
        }
    }
    Ok(all)
}

impl Unchecked {
    /// Whether this check would have checked `found`.
    pub fn is_of(&self, found: &claims::Found) -> bool {
        let claim = &found.claim;
        let is = |set: &Set| {
            (&set.model, &set.stories) == (&claim.model, &claim.stories) && set.axes == claim.axes
        };
        let other = |other: &Set, set: &Set| match other.stories == set.stories {
            true => other.model.clone(),
            false => format!("{} on {}", other.model, other.stories),
        };
        self.analysis == found.analysis
            && match (self.sets.as_slice(), &claim.other) {
                ([set], None) => is(set),
                ([a, b], Some(of)) => (is(a) && *of == other(b, a)) || (is(b) && *of == other(a, b)),
                _ => false,
            }
    }
}
