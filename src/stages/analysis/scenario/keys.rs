//! Parses the table of a scenario. Independent of models and texts.

use std::path::PathBuf;

use super::labels::Label;
use super::set::{self, shipped};
use super::{Evidence, Scenario, Set, Told};
use crate::params::problem::quoted;
use crate::params::{Params as _, Parts, Problem, Read, Reader, TextOrFields, maybe_filled};
use crate::stages::rollouts::Texts;
use crate::stages::scores::judge::Who;
use crate::stages::scores::run::Sandbox;

/// The source of a set: built in, or a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source(pub(super) Option<PathBuf>);

pub(super) fn source(reader: &Reader<'_>, name: &str) -> Read<Source> {
    match reader.get(name)? {
        TextOrFields::Fields(_) => Ok(Source(None)),
        TextOrFields::Text(named) => {
            let named = reader.with_something_in_it(name, named)?;
            Ok(Source(shipped(&named).is_none().then(|| reader.scope.project.join(named))))
        }
    }
}

pub(super) fn content(reader: &Reader<'_>, _: &str) -> Read<Set> {
    let (written, told) = (reader.get("set")?, asked(reader)?);
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
    Ok(of(set, told))
}

pub(super) fn texts(reader: &Reader<'_>, _: &str) -> Read<Option<Texts>> {
    let (texts, evidence) = (Texts::read(reader)?, reader.get::<Evidence>("evidence")?);
    Ok((evidence != Evidence::Choices).then_some(texts))
}

pub(super) fn told(reader: &Reader<'_>, name: &str) -> Read<Option<Told>> {
    let (told, evidence) = (reader.get::<Told>(name)?, reader.get::<Evidence>("evidence")?);
    Ok((evidence == Evidence::Probe).then_some(told))
}

/// How many texts of a case in a cell are read: with `probe`, all.
pub(super) fn reading(reader: &Reader<'_>, name: &str) -> Read<usize> {
    let (read, evidence) = (reader.get::<usize>(name)?, reader.get::<Evidence>("evidence")?);
    Ok(match evidence {
        Evidence::Choices => 0,
        Evidence::Probe => usize::MAX,
        _ => read,
    })
}

pub(super) fn nothing(read: &usize) -> bool {
    *read == 0
}

/// The scorer that assigns outcomes to texts; `None`: choices are read, and nothing is generated.
pub(super) fn telling(evidence: Evidence, told_by: Option<Told>) -> Option<Told> {
    match evidence {
        Evidence::Choices => None,
        Evidence::Pattern => Some(Told::Pattern),
        Evidence::Judge => Some(Told::Judge),
        Evidence::Run => Some(Told::Run),
        Evidence::Probe => told_by,
    }
}

/// The same while the table is being parsed.
pub(super) fn asked(reader: &Reader<'_>) -> Read<Option<Told>> {
    Ok(telling(reader.get("evidence")?, Some(reader.get::<Told>("told_by")?)))
}

pub(super) fn label_file(reader: &Reader<'_>, name: &str) -> Read<Option<PathBuf>> {
    let Some(path) = maybe_filled(reader, name)? else { return Ok(None) };
    if reader.get::<Evidence>("evidence")? == Evidence::Choices {
        let problem = Problem::at(reader.span_of(name), "labels are of texts, and `choices` writes none");
        return reader.wrong(problem.hint("remove it, or another `evidence`"));
    }
    Ok(Some(reader.scope.project.join(path)))
}

pub(super) fn unlabelled(_: &Reader<'_>, _: &str) -> Read<Vec<Label>> {
    Ok(Vec::new())
}

pub(super) fn sandbox(reader: &Reader<'_>, _: &str) -> Read<Option<Sandbox>> {
    let (sandbox, told) = (Sandbox::read(reader)?, asked(reader)?);
    Ok((told == Some(Told::Run)).then_some(sandbox))
}

/// The name of the judge, if there is one.
pub(super) fn judge(reader: &Reader<'_>, name: &str) -> Read<Option<String>> {
    let (named, told) = (reader.get::<Option<String>>(name)?, asked(reader)?);
    if told != Some(Told::Judge) {
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

pub(super) fn nobody(_: &Reader<'_>, _: &str) -> Read<Option<Who>> {
    Ok(None) // found when all judges are read
}

/// The part of a set that is relevant to the evidence, and therefore enters the keys.
pub(super) fn of(set: Set, told: Option<Told>) -> Set {
    let Set { about, system, mut cases, choices, outcomes, judge, run } = set;
    if told != Some(Told::Run) {
        cases.iter_mut().for_each(|case| (case.shown, case.hidden) = Default::default());
    }
    let bare = Set { about, system, cases, ..Set::default() };
    match told {
        None => Set { choices, ..bare },
        Some(Told::Pattern) => Set { outcomes, ..bare },
        Some(Told::Judge) => Set { judge, ..bare },
        Some(Told::Run) => Set { run, ..bare },
    }
}

pub(super) fn has_evidence(reader: &Reader<'_>, parts: &Parts<Scenario>) -> Read<()> {
    let (Ok(Source(None)), Ok(set), Ok(told)) = (&parts.set, &parts.content, asked(reader)) else {
        return Ok(()); // a file is read later
    };
    match lacks(set, told) {
        None => Ok(()),
        Some(why) => reader.wrong(Problem::at(reader.span_of("evidence"), why)),
    }
}

/// What a set lacks for the evidence.
pub(super) fn lacks(set: &Set, told: Option<Told>) -> Option<String> {
    match told {
        None if set.choices.is_none() => Some("the set declares no `choices`".into()),
        Some(Told::Pattern) if set.outcomes.is_empty() => Some("the set declares no `outcomes`".into()),
        Some(Told::Judge) if set.judge.is_none() => Some("the set declares no `judge`".into()),
        Some(Told::Run) if set.run.is_none() => {
            Some("the set declares no `run`: its cases are no programming tasks".into())
        }
        _ => None,
    }
}
