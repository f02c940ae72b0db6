//! `[criteria]`: what a study says before it is run that it will take for a finding. Computes nothing.

use serde::{Deserialize, Serialize};

use crate::params::problem::{quoted, suggestion};
use crate::params::{Problem, Read, Reader, Reported, Span, filled};

/// One `[criteria.<name>]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    pub name: String,
    pub analysis: String,
    /// One of its claims.
    pub claim: String,
    /// The least and the largest estimate that meets it.
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// The largest p that meets it; `None`: it may be untested.
    pub p: Option<f64>,
    pub of: Of,
    #[serde(skip)]
    pub span: Span,
}

/// On which models it is to be met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Every,
    Any,
    Model(String),
}

/// Every criterion that is right in itself, in the order of the file. `analyses`, `models`: names in the file.
pub(super) fn criteria(root: &Reader<'_>, analyses: &[&str], models: &[String]) -> Read<Vec<Criterion>> {
    if !root.has("criteria") {
        return Ok(Vec::new());
    }
    let read = root.named("criteria")?.into_iter();
    let read = read.map(|(entry, reader)| criterion(entry.key, &reader, analyses, models));
    // All problems, before any stops.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn criterion(name: String, reader: &Reader<'_>, analyses: &[&str], models: &[String]) -> Read<Criterion> {
    let (claim, bounds) = (named(reader, analyses), bounds(reader));
    let (p, of) = (reader.get::<Option<f64>>("p"), of(reader, models));
    let (analysis, claim) = claim?;
    let ((at_least, at_most), p) = (bounds?, p?);
    if (at_least, at_most, p) == (None, None, None) {
        let problem = Problem::at(reader.span(), "a criterion that everything meets");
        return reader.wrong(problem.hint("write `at_least`, `at_most`, `between` or `p`"));
    }
    Ok(Criterion { name, analysis, claim, at_least, at_most, p, of: of?, span: reader.span() })
}

/// An analysis of the file and a claim, as in `rated/PC1, valence`.
fn named(reader: &Reader<'_>, analyses: &[&str]) -> Read<(String, String)> {
    let text = filled(reader, "claim")?;
    let span = reader.span_of("claim");
    let Some((analysis, claim)) = text.split_once('/').map(|(a, c)| (a.trim(), c.trim())) else {
        let problem = Problem::at(span, format!("{} names no analysis", quoted(&text)));
        return reader.wrong(problem.hint("write an analysis and one of its claims: \"rated/PC1, valence\""));
    };
    if !analyses.contains(&analysis) {
        let problem = Problem::at(span, format!("there is no analysis {}", quoted(analysis)));
        return reader.wrong(problem.hint(suggestion(
            analysis,
            "analyses of this file",
            analyses.iter().copied(),
        )));
    }
    Ok((analysis.to_string(), claim.to_string()))
}

/// The least and the largest estimate.
fn bounds(reader: &Reader<'_>) -> Read<(Option<f64>, Option<f64>)> {
    let (least, most) = (reader.get::<Option<f64>>("at_least"), reader.get::<Option<f64>>("at_most"));
    let between = if reader.has("between") { reader.numbers("between").map(Some) } else { Ok(None) };
    let (least, most, between) = (least?, most?, between?);
    let Some(between) = between else {
        if least.zip(most).is_some_and(|(least, most)| least > most) {
            let problem = Problem::at(reader.span_of("at_most"), "`at_most` is below `at_least`");
            return reader.wrong(problem.hint("no estimate is both"));
        }
        return Ok((least, most));
    };
    let hint = "write `between = [least, most]`, and neither `at_least` nor `at_most`";
    match between.as_slice() {
        [(a, _), (b, _)] if a <= b && (least, most) == (None, None) => Ok((Some(*a), Some(*b))),
        _ => {
            reader.note(Problem::at(reader.span_of("between"), "no range of estimates").hint(hint));
            Err(Reported)
        }
    }
}

fn of(reader: &Reader<'_>, models: &[String]) -> Read<Of> {
    let text: String = reader.get("where")?;
    match text.as_str() {
        "every model" => Ok(Of::Every),
        "any model" => Ok(Of::Any),
        name if models.iter().any(|model| model == name) => Ok(Of::Model(text)),
        name => {
            let known = ["every model", "any model"].into_iter().chain(models.iter().map(String::as_str));
            let problem = Problem::at(reader.span_of("where"), format!("there is no model {}", quoted(name)));
            reader.wrong(problem.hint(suggestion(name, "known", known)))
        }
    }
}
