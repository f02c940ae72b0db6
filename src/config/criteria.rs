//! `[criteria]`: what a study declares in advance to count as a finding. Computes nothing.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::params::problem::{quoted, suggestion};
use crate::params::{
    Key, Node, Params as _, Parts, Problem, Read, Reader, Span, Type, Value, filled, params,
};

/// One `[criteria.<name>]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    pub name: String,
    pub analysis: String,
    /// A claim of that analysis.
    pub claim: String,
    /// The smallest and the largest estimate that meet it.
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
    /// The largest p that meets it; `None`: no test is required.
    pub p: Option<f64>,
    pub of: Of,
    #[serde(skip)]
    pub span: Span,
}

/// The models on which it has to be met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Every,
    Any,
    Model(String),
}

params! {
    /// What counts as a finding, declared before the study is run; see below. Not part of any key: nothing is computed again.
    #[check(says_something)]
    pub struct CriterionKeys {
        /// An analysis of the file and one of its claims: `"rated/PC1, valence"`. The report and `tables/claims.csv` list them.
        #[of(Type::Text)]
        #[with(named)]
        pub claim: (String, String);
        /// The least estimate that meets it.
        #[unset("no bound")]
        pub at_least: Option<f64>, -1e9..=1e9;
        /// The largest estimate that meets it.
        #[unset("no bound")]
        pub at_most: Option<f64>, -1e9..=1e9;
        /// Both: `[least, most]`.
        #[unset("no bounds")]
        #[of(Type::Numbers)]
        #[with(between)]
        pub between: Option<(f64, f64)>;
        /// The largest p against the claim's null that meets it.
        #[unset("may be untested")]
        pub p: Option<f64>, above 0.0..=1.0;
        /// `"every model"`, `"any model"` or a model's name: where it is to be met.
        pub r#where: Of = "every model";
    }
}

/// Every valid criterion, in the order of the file.
pub(super) fn criteria(root: &Reader<'_>, key: &str) -> Read<Vec<Criterion>> {
    if !root.has(key) {
        return Ok(Vec::new());
    }
    let read = root.named(key)?.into_iter().map(|(entry, reader)| criterion(entry.key, &reader));
    // Collected first, so that every problem is reported.
    read.collect::<Vec<_>>().into_iter().collect()
}

fn criterion(name: String, reader: &Reader<'_>) -> Read<Criterion> {
    let CriterionKeys { claim, at_least, at_most, between, p, r#where: of } = CriterionKeys::read(reader)?;
    let (analysis, claim) = claim;
    let (at_least, at_most) = between.map_or((at_least, at_most), |(least, most)| (Some(least), Some(most)));
    Ok(Criterion { name, analysis, claim, at_least, at_most, p, of, span: reader.span() })
}

fn says_something(reader: &Reader<'_>, parts: &Parts<CriterionKeys>) -> Read<()> {
    let (Ok(least), Ok(most), Ok(between), Ok(p)) = (parts.at_least, parts.at_most, parts.between, parts.p)
    else {
        return Ok(());
    };
    if (least, most, between, p) == (None, None, None, None) {
        let problem = Problem::at(reader.span(), "a criterion that is always met");
        return reader.wrong(problem.hint("write `at_least`, `at_most`, `between` or `p`"));
    }
    if between.is_some() && (least, most) != (None, None) {
        return reader.wrong(no_range(reader, "between"));
    }
    if least.zip(most).is_some_and(|(least, most)| least > most) {
        let problem = Problem::at(reader.span_of("at_most"), "`at_most` is below `at_least`");
        return reader.wrong(problem.hint("no estimate can satisfy both"));
    }
    Ok(())
}

/// The name of an analysis of the file and of a claim, as in `rated/PC1, valence`.
fn named(reader: &Reader<'_>, key: &str) -> Read<(String, String)> {
    let text = filled(reader, key)?;
    let span = reader.span_of(key);
    let Some((analysis, claim)) = text.split_once('/').map(|(a, c)| (a.trim(), c.trim())) else {
        let problem = Problem::at(span, format!("{} does not name an analysis", quoted(&text)));
        return reader.wrong(problem.hint("write an analysis and one of its claims: \"rated/PC1, valence\""));
    };
    let analyses: Vec<&str> = reader.scope.names("analysis").collect();
    if !analyses.contains(&analysis) {
        let problem = Problem::at(span, format!("there is no analysis {}", quoted(analysis)));
        return reader.wrong(problem.hint(suggestion(analysis, "analyses of this file", analyses)));
    }
    Ok((analysis.to_string(), claim.to_string()))
}

/// The smallest and the largest estimate.
fn between(reader: &Reader<'_>, key: &str) -> Read<Option<(f64, f64)>> {
    if !reader.has(key) {
        return Ok(None);
    }
    match reader.numbers(key)?.as_slice() {
        [(least, _), (most, _)] if least <= most => Ok(Some((*least, *most))),
        _ => reader.wrong(no_range(reader, key)),
    }
}

fn no_range(reader: &Reader<'_>, key: &str) -> Problem {
    let hint = "write `between = [least, most]`, and neither `at_least` nor `at_most`";
    Problem::at(reader.span_of(key), "an empty range of estimates").hint(hint)
}

impl Value for Of {
    const OF: Type = Type::Text;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Of> {
        let text = String::parse(reader, key, node)?;
        let mut models = reader.scope.names("models");
        match text.as_str() {
            "every model" => Ok(Of::Every),
            "any model" => Ok(Of::Any),
            name if models.any(|model| model == name) => Ok(Of::Model(text)),
            name => {
                let known: Vec<&str> =
                    ["every model", "any model"].into_iter().chain(reader.scope.names("models")).collect();
                let problem = Problem::at(node.span.clone(), format!("there is no model {}", quoted(name)));
                reader.wrong(problem.hint(suggestion(name, "known", known)))
            }
        }
    }
}
