//! `[analysis]`: the kinds of analyses. Computes nothing.

use serde::Serialize;

use super::{Across, Analysis, Scale};
use crate::params::{Chosen, Kind, Params, Problem, Read, Reader, Table, Texts, params};
use crate::stages::across::{cka, rsa, shift, transfer};
use crate::stages::analysis::{
    Analysis as One, cosine, deflection, geometry, implicit, intensity, logit_lens, monitor, norms, pca,
    preferences, probe, readings, scenario, speakers, steering,
};

/// First parts of the names of other stages' nodes, and the names of the tables over all analyses.
const TAKEN: [&str; 14] = [
    "stories",
    "neutral",
    "activations",
    "vectors",
    "texts",
    "readings",
    "rollouts",
    "scores",
    "report",
    "comparison",
    "layers",
    "claims",
    "findings",
    "methods",
];

/// A kind of analysis.
struct Row {
    kind: &'static str,
    table: &'static Table,
    read: fn(&Reader<'_>) -> Read<Found>,
    /// The key whose value is used as the location in messages about what the analysis refers to; `None`: the table.
    place: Option<&'static str>,
}

/// The parsed form of an analysis table.
enum Found {
    /// Reads one set of vectors.
    One(One),
    /// Reads two sets.
    Two(One),
    /// Reads the metrics of other analyses, over models.
    Scale(ScaleKeys),
}

/// One row: the kind, its parameters, and their parsed form.
macro_rules! row {
    ($kind:literal, $T:ty, $found:expr) => {
        row!($kind, $T, $found, None)
    };
    ($kind:literal, $T:ty, $found:expr, $place:expr) => {
        Row {
            kind: $kind,
            table: <$T as Params>::TABLE,
            read: |reader| <$T as Params>::read(reader).map($found),
            place: $place,
        }
    };
}

/// All kinds of analyses.
static ANALYSES: &[Row] = &[
    row!("pca", pca::Pca, |a| Found::One(One::Pca(a))),
    row!("cosine", cosine::Cosine, |a| Found::One(One::Cosine(a))),
    row!("logit_lens", logit_lens::LogitLens, |a| Found::One(One::LogitLens(a))),
    row!("steering", steering::Steering, |a| Found::One(One::Steering(a))),
    row!("implicit", implicit::Implicit, |a| Found::One(One::Implicit(a))),
    row!("intensity", intensity::Intensity, |a| Found::One(One::Intensity(a))),
    row!("geometry", geometry::Geometry, |a| Found::One(One::Geometry(a))),
    row!("probe", probe::Probe, |a| Found::One(One::Probe(a))),
    row!("norms", norms::Norms, |a| Found::One(One::Norms(a)), Some("file")),
    row!("preferences", preferences::Preferences, |a| Found::One(One::Preferences(a)), Some("activities")),
    row!("scenario", scenario::Scenario, |a| Found::One(One::Scenario(Box::new(a))), Some("set")),
    row!("readings", readings::Readings, |a| Found::One(One::Readings(a))),
    row!("monitor", monitor::Monitor, |a| Found::One(One::Monitor(a))),
    row!("speakers", speakers::Speakers, |a| Found::One(One::Speakers(a))),
    row!("deflection", deflection::Deflection, |a| Found::One(One::Deflection(a))),
    row!("rsa", rsa::Rsa, |a| Found::Two(One::Rsa(a))),
    row!("cka", cka::Cka, |a| Found::Two(One::Cka(a))),
    row!("transfer", transfer::Transfer, |a| Found::Two(One::Transfer(a))),
    row!("shift", shift::Shift, |a| Found::Two(One::Shift(a))),
    row!("scale", ScaleKeys, Found::Scale),
];

params! {
    /// The claims of analyses of single models, over the models' parameters and over the depth. Made with the
    /// report.
    pub struct ScaleKeys {
        /// Names of the analyses whose numbers are shown.
        #[unset("all")]
        pub of: Option<Vec<String>>;
        /// Random orders behind a p-value, which cannot be below 1 / (1 + this).
        pub permutations: usize = 1000, 1..=1_000_000;
    }
}

/// The analyses of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Analyses {
    pub single: Vec<Analysis>,
    pub across: Vec<Across>,
    pub scale: Vec<Scale>,
}

/// The tables of every kind.
pub(super) fn kinds() -> Vec<Kind> {
    ANALYSES.iter().map(|row| Kind { name: row.kind, table: row.table, texts: Texts::Stories }).collect()
}

/// Every valid analysis, in the order of the file.
pub(super) fn analyses(root: &Reader<'_>, name: &str) -> Read<Analyses> {
    let mut analyses = Analyses::default();
    for Chosen { name, kind, span, reader } in root.named_kinds(name)? {
        if TAKEN.contains(&name.as_str()) {
            let problem = Problem::at(span.clone(), format!("an analysis cannot be named `{name}`"));
            reader.note(problem.hint(format!(
                "that is the name of a stage or of a general table; choose another name than {}",
                TAKEN.join(", ")
            )));
        }
        let row = ANALYSES.iter().find(|row| row.kind == kind.name).expect("kinds are those of the rows");
        let Ok(found) = (row.read)(&reader) else { continue };
        let span = row.place.map_or(span, |key| reader.span_of(key));
        match found {
            Found::One(kind) => analyses.single.push(Analysis { name, kind, span }),
            Found::Two(kind) => analyses.across.push(Across { name, kind, span }),
            Found::Scale(ScaleKeys { of, permutations }) => {
                let of_spans = reader.spans_in("of");
                analyses.scale.push(Scale { name, of, of_spans, permutations, span });
            }
        }
    }
    Ok(analyses)
}
