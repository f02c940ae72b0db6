//! Criteria compared with the results, and when each was declared. Independent of the individual analyses.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::claims::Found;
use super::comparison::{cell, distinct};
use super::page::table_figure;
use super::provenance::utc;
use super::{atomic, runs};
use crate::config::{Criterion, Of};
use crate::plan::key::{Digest, Key};
use crate::report::figure::{Cell, Figure, Place, Target};
use crate::report::short;

/// The file in a results folder that records when criteria were declared: at the first run there whose experiment
/// file had them.
const FILE: &str = "criteria.json";

/// When the criteria of an experiment were declared, as recorded in its results folder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Declared {
    /// Start of the first run, in seconds since 1970; `None` if there was no run.
    first_run: Option<u64>,
    criteria: Vec<(Key, u64)>,
}

impl Declared {
    /// Reads the record in `dir`; empty if there is no such file.
    ///
    /// # Errors
    /// An invalid file.
    pub fn read(dir: &Path) -> Result<Declared> {
        let path = dir.join(FILE);
        match fs_err::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} does not say when criteria were declared: remove it to forget that",
                    path.display()
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Declared::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Records the new criteria of a run that starts in `dir` at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// A disk error, or an invalid file.
    pub fn remember(dir: &Path, criteria: &[Criterion], now: u64) -> Result<()> {
        let mut declared = Declared::read(dir)?;
        // Earlier runs, from versions that did not write this file.
        let earlier = match declared.first_run {
            Some(first) => Some(first),
            None => runs::earliest(dir)?,
        };
        declared.first_run = Some(earlier.unwrap_or(now).min(now));
        for criterion in criteria {
            let key = key(criterion);
            if declared.criteria.iter().all(|(known, _)| *known != key) {
                declared.criteria.push((key, now));
            }
        }
        atomic::replace_flushed(&dir.join(FILE), &serde_json::to_vec_pretty(&declared)?)
    }

    /// `9c1f03a2, 2026-11-29: before the first run`.
    fn of(&self, criterion: &Criterion) -> String {
        let key = key(criterion);
        match self.criteria.iter().find(|(known, _)| *known == key) {
            None => format!("{}, since the last run", key.short()),
            Some((_, at)) => {
                let before = self.first_run.is_none_or(|first| *at <= first);
                let when = if before { "before the first run" } else { "after the first run" };
                format!("{}, {}: {when}", key.short(), &utc(*at)[..10])
            }
        }
    }
}

/// Identifies the content of a criterion: everything but its name.
pub fn key(criterion: &Criterion) -> Key {
    let Criterion { name: _, analysis, claim, at_least, at_most, p, of, span: _ } = criterion;
    let text = serde_json::to_string(&(analysis, claim, at_least, at_most, p, of));
    Digest::of(text.expect("strings and numbers").as_bytes())
}

/// The outcome of a criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Fail,
    NotTested,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::NotTested => "not tested",
        }
    }

    /// The verdict on one claim: not tested if the estimate is NaN, or if p is required but unknown.
    fn of(criterion: &Criterion, found: &Found) -> Verdict {
        let estimate = found.claim.estimate;
        if estimate.is_nan() || (criterion.p.is_some() && found.claim.p().is_none()) {
            return Verdict::NotTested;
        }
        let least = criterion.at_least.is_none_or(|least| estimate >= least);
        let most = criterion.at_most.is_none_or(|most| estimate <= most);
        let chance = criterion.p.is_none_or(|most| found.claim.p().is_some_and(|p| p <= most));
        if least && most && chance { Verdict::Pass } else { Verdict::Fail }
    }

    /// The verdict over all claims of a criterion.
    fn over(of: &Of, each: &[Verdict]) -> Verdict {
        let any = |wanted| each.contains(&wanted);
        match of {
            _ if each.is_empty() => Verdict::NotTested,
            Of::Any if any(Verdict::Pass) => Verdict::Pass,
            Of::Every | Of::Model(_) if any(Verdict::Fail) => Verdict::Fail,
            _ if any(Verdict::NotTested) => Verdict::NotTested,
            Of::Any => Verdict::Fail,
            Of::Every | Of::Model(_) => Verdict::Pass,
        }
    }
}

/// Each criterion with its conditions and its outcome, overall and on each set of vectors. `None` without criteria.
pub fn figure(criteria: &[Criterion], found: &[Found], declared: &Declared) -> Option<Figure> {
    if criteria.is_empty() {
        return None;
    }
    let mut rows = Vec::new();
    for criterion in criteria {
        let on = |found: &&Found| match &criterion.of {
            Of::Every | Of::Any => true,
            Of::Model(model) => {
                let is = |other: &String| other == model || other.starts_with(&format!("{model} on "));
                found.claim.model == *model || found.claim.other.as_ref().is_some_and(is)
            }
        };
        let is = |found: &&Found| {
            found.is_reported
                && found.analysis == criterion.analysis
                && [&found.claim.what, &found.claim.name()].contains(&&criterion.claim)
        };
        let claims: Vec<&Found> = found.iter().filter(on).filter(is).collect();
        let each: Vec<Verdict> = claims.iter().map(|found| Verdict::of(criterion, found)).collect();
        let verdict = Verdict::over(&criterion.of, &each);
        rows.push(vec![
            Cell::Text(criterion.name.clone()),
            Cell::Link(
                format!("{}: {}", criterion.analysis, criterion.claim),
                Target::Place(Place::section(&criterion.analysis)),
            ),
            Cell::Text(asked(criterion)),
            Cell::Empty,
            Cell::Empty,
            Cell::Text(verdict.name().to_string()),
            Cell::Text(match claims.is_empty() {
                true => none(criterion, found),
                false => declared.of(criterion),
            }),
        ]);
        rows.extend(claims.iter().zip(&each).map(|(found, verdict)| {
            let variant = found.variant();
            let other = found.claim.other.as_deref().unwrap_or_default();
            let set = [found.claim.model.as_str(), &found.claim.stories, other, &variant];
            let set = set.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" \u{b7} ");
            vec![
                Cell::Empty,
                Cell::Text(set),
                Cell::Text(format!("layer {}", found.claim.layer)),
                cell(&found.claim),
                found.claim.p().map_or(Cell::Empty, |p| Cell::Number(p, 3)),
                Cell::Text(verdict.name().to_string()),
                Cell::Empty,
            ]
        }));
    }
    let columns = ["criterion", "claim", "asked", "estimate", "p", "verdict", "declared"];
    let caption = "The criteria for a finding that the experiment file declares. \u{201c}Not tested\u{201d}: there is \
         no such claim, or no p although one is required. Declared: the criterion's key, and when a run in this \
         results folder first had it.";
    Some(table_figure("findings-criteria", "Criteria", caption, &columns, rows))
}

/// `at least 0.6, p at most 0.05, every model`.
fn asked(criterion: &Criterion) -> String {
    let least = criterion.at_least.map(|x| format!("at least {}", short(x)));
    let most = criterion.at_most.map(|x| format!("at most {}", short(x)));
    let p = criterion.p.map(|x| format!("p at most {}", short(x)));
    let of = match &criterion.of {
        Of::Every => "every model".to_string(),
        Of::Any => "any model".to_string(),
        Of::Model(name) => name.clone(),
    };
    [least, most, p, Some(of)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Why a criterion has no matching claim.
fn none(criterion: &Criterion, found: &[Found]) -> String {
    let of = found.iter().filter(|found| found.analysis == criterion.analysis);
    let known = distinct(of.map(|found| found.claim.what.as_str()));
    match known.is_empty() {
        true => format!("there are no claims of {} yet", criterion.analysis),
        false => format!("no such claim; {} has: {}", criterion.analysis, known.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::tests::found;
    use super::*;
    use crate::lm::Layer;
    use crate::report::figure::Body;

    fn criterion(claim: &str, at_least: Option<f64>, p: Option<f64>, of: Of) -> Criterion {
        Criterion {
            name: "valence".into(),
            analysis: "rated".into(),
            claim: claim.into(),
            at_least,
            at_most: None,
            p,
            of,
            span: 0..0,
        }
    }

    /// The verdicts on one criterion: overall, then on each set.
    fn verdicts(criterion: Criterion, found: &[Found]) -> Vec<String> {
        let figure = figure(&[criterion], found, &Declared::default()).unwrap();
        let Body::Table(table) = &figure.body else { panic!("{figure:?}") };
        let text = |row: &Vec<Cell>| match &row[5] {
            Cell::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        table.rows.iter().map(text).collect()
    }

    fn claims() -> Vec<Found> {
        let mut claims = vec![
            found("rated", "own", Layer::Block(2), "PC1, valence", 0.81, Some(0.001)),
            found("rated", "file", Layer::Block(2), "PC1, valence", 0.5, Some(0.2)),
            found("rated", "own", Layer::Block(2), "plane", 0.5, None),
            found("rated", "own", Layer::Block(1), "PC1, valence", 0.1, Some(0.9)),
        ];
        claims[1].claim.model = "other".into();
        (0..3).for_each(|at| claims[at].is_reported = true);
        claims
    }

    #[test]
    fn every_model_must_meet_it_or_any_or_one() {
        let found = claims();
        let of = |of| verdicts(criterion("PC1, valence", Some(0.6), Some(0.05), of), &found);
        assert_eq!(of(Of::Every), ["fail", "pass", "fail"]);
        assert_eq!(of(Of::Any), ["pass", "pass", "fail"]);
        assert_eq!(of(Of::Model("m".into())), ["pass", "pass"]);
        assert_eq!(of(Of::Model("other".into())), ["fail", "fail"]);
    }

    #[test]
    fn what_has_no_p_or_is_not_there_is_not_tested() {
        let found = claims();
        assert_eq!(verdicts(criterion("plane", Some(0.4), Some(0.05), Of::Every), &found), ["not tested"; 2]);
        assert_eq!(verdicts(criterion("plane", Some(0.4), None, Of::Every), &found), ["pass"; 2]);
        assert_eq!(verdicts(criterion("PC3", Some(0.4), None, Of::Every), &found), ["not tested"]);
    }

    #[test]
    fn a_criterion_is_declared_when_a_run_first_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, mut two) =
            (criterion("plane", Some(0.4), None, Of::Every), criterion("PC1", Some(0.4), None, Of::Every));
        let seconds = 1_795_910_400; // date -ud 2026-11-29 +%s
        Declared::remember(dir.path(), std::slice::from_ref(&one), seconds).unwrap();
        Declared::remember(dir.path(), &[one.clone(), two.clone()], seconds + 86_400).unwrap();
        let declared = Declared::read(dir.path()).unwrap();
        assert!(declared.of(&one).ends_with(", 2026-11-29: before the first run"), "{}", declared.of(&one));
        assert!(declared.of(&two).ends_with(", 2026-11-30: after the first run"), "{}", declared.of(&two));
        // A renamed criterion is the same; one with another bound is not.
        two.name = "renamed".into();
        assert!(declared.of(&two).contains("2026-11-30"));
        two.at_least = Some(0.3);
        assert!(declared.of(&two).ends_with("since the last run"));
    }
}
