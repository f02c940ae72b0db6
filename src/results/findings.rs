//! The report's first page: every claim with its null and its layer. Independent of the individual analyses.

use super::claims::{self, CLAIMS, Found};
use super::comparison::{cell, distinct};
use super::criteria::{self, Declared};
use crate::config::Criterion;
use crate::lm::Layer;
use crate::report::figure::{Body, Cell, Figure, Place, TableFigure, Target};
use crate::report::{Section, short};
use crate::stages::analysis::Claim;

/// The chapter's name.
const FINDINGS: &str = "findings";

/// The accepted false discovery rate.
const LEVEL: f64 = 0.05;

/// The criteria, and the claims on each set of vectors; `None` if there are none.
pub fn section(found: &[Found], asked: &[Criterion], declared: &Declared) -> Option<Section> {
    let mut figures: Vec<Figure> = criteria::figure(asked, found, declared).into_iter().collect();
    for set in distinct(found.iter().map(Found::set)) {
        let here: Vec<&Found> = found.iter().filter(|found| found.set() == set).collect();
        figures.push(claims_of(&here));
    }
    for place in distinct(found.iter().map(Found::place)) {
        let here: Vec<&Found> = found.iter().filter(|found| found.place() == place).collect();
        figures.extend(layers(&here));
    }
    (!figures.is_empty()).then(|| Section {
        id: FINDINGS.to_string(),
        title: "Findings".to_string(),
        intro: String::new(),
        figures,
        tables: vec![format!("tables/{CLAIMS}")],
        ..Section::default()
    })
}

/// A figure about one set of vectors, or two, over all layers.
fn figure(name: &str, title: &str, caption: String, of: &Found, body: TableFigure) -> Figure {
    let set = of.set().0;
    Figure {
        name: format!("{FINDINGS}-{name}"),
        title: title.to_string(),
        caption,
        model: set.map(|(model, _)| model.to_string()),
        stories: set.map(|(_, stories)| stories.to_string()),
        layer: None,
        axes: of.claim.axes.clone(),
        body: Body::Table(body),
    }
}

/// The reported claims on one set, or on all pairs of a variant: one row each, tested claims first.
fn claims_of(here: &[&Found]) -> Figure {
    let mut reported: Vec<&&Found> = here.iter().filter(|found| found.is_reported).collect();
    reported.sort_by_key(|found| found.claim.null.is_none());
    let rows = reported.iter().map(|found| {
        let Found { analysis, claim, q, .. } = found;
        // The smallest p that 9,999 draws give is .0001.
        let number =
            |x: Option<f64>| x.map_or(Cell::Empty, |x| Cell::Number(x, if x < 0.001 { 4 } else { 3 }));
        let published = claim.published.iter().filter(|p| p.but.is_empty());
        let published = published.map(|p| format!("{} ({})", short(p.value), p.source)).collect::<Vec<_>>();
        vec![
            Cell::Link(
                format!("{analysis}: {}{}", claim.name(), sides(found)),
                Target::Place(place(analysis, claim)),
            ),
            cell(claim),
            number(claim.p()),
            number(*q),
            Cell::Text(verdict(found).to_string()),
            Cell::layer(claim.layer),
            Cell::Text(null(found)),
            Cell::Text(published.join("; ")),
            Cell::Link("CSV".into(), Target::File(format!("tables/{analysis}.csv"))),
        ]
    });
    let tested = reported.iter().filter(|found| found.claim.null.is_some()).count();
    let mut caption = format!(
        "Every claim at the kept layer nearest to two thirds of the depth, with its 95 % interval where available. p: \
         the probability of such an estimate under the null; q: p adjusted over the {tested} tests of this table \
         (Benjamini and Hochberg 1995). Verdict: beyond its null if q <= {LEVEL}; claims without a null are not \
         tested, whatever their size. Published: comparable values from the literature. All layers: \
         tables/{CLAIMS}.csv."
    );
    let columns = ["claim", "estimate", "p", "q", "verdict", "layer", "null", "published", "table"];
    let mut table = TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() };
    if reported.iter().any(|found| found.precision.is_some() || found.unchecked.is_some()) {
        caption.push_str(
            " In f32: the difference when the same claim is computed on the same stories in f32; intervals are widened \
             by it. If only one of the two is beyond its null (p <= .05), the verdict depends on the precision of the \
             arithmetic.",
        );
        table.columns.insert(2, "in f32".to_string());
        for (row, found) in table.rows.iter_mut().zip(&reported) {
            let signed =
                |of: claims::Precision| format!("{:+.*}", found.claim.decimals.max(2), of.difference);
            let said = match (found.precision, &found.unchecked) {
                (Some(of), _) => signed(of),
                (None, Some(why)) => format!("not checked: {why}"),
                (None, None) => "not checked".to_string(),
            };
            row.insert(2, Cell::Text(said));
        }
    }
    match here[0].set() {
        (Some(_), _) => figure("claims", "Claims", caption, here[0], table),
        (None, _) => figure("claims-of-two", "Claims on two sets of vectors", caption, here[0], table),
    }
}

/// The location of the figures that show a claim.
fn place(analysis: &str, claim: &Claim) -> Place {
    Place {
        section: analysis.to_string(),
        model: Some(claim.model.clone()),
        stories: Some(claim.stories.clone()),
        layer: Some(claim.layer),
        axes: claim.axes.clone(),
    }
}

/// ` (demo on own, small)`: the sets of a claim on two sets; otherwise empty.
fn sides(found: &Found) -> String {
    let Claim { model, stories, other, .. } = &found.claim;
    other.as_ref().map_or(String::new(), |other| format!(" ({model} on {stories}, {other})"))
}

/// `1.25 (labels shuffled within topics, 1000 draws)`; empty if the claim is not tested.
fn null(found: &Found) -> String {
    let Some(null) = &found.claim.null else { return String::new() };
    let draws = match null.draws {
        0 => "exact".to_string(),
        n => format!("{n} draws"),
    };
    let mean = null.mean.map_or(String::new(), |mean| format!("mean {} of ", short(mean)));
    format!("{mean}{} ({draws})", null.of)
}

fn verdict(found: &Found) -> &'static str {
    match found.q {
        Some(_) if found.precision.is_some_and(|of| of.decides(LEVEL)) => "depends on the arithmetic",
        Some(q) if q <= LEVEL => "beyond its null",
        Some(_) => "within its null",
        None => "not tested",
    }
}

/// One row per layer with the estimate and p of each tested claim. `None` where no claim is tested at two layers.
fn layers(here: &[&Found]) -> Option<Figure> {
    let tested: Vec<&&Found> = here.iter().filter(|found| found.claim.null.is_some()).collect();
    let all = |analysis: &str, what: &str| -> Vec<&Found> {
        let of = tested.iter().filter(|found| found.analysis == analysis && found.claim.what == what);
        of.map(|found| **found).collect()
    };
    let mut names = distinct(tested.iter().map(|f| (f.analysis.as_str(), f.claim.what.as_str())));
    names.retain(|(analysis, what)| all(analysis, what).len() > 1);
    let first = all(names.first()?.0, names.first()?.1)[0];
    let mut layers: Vec<Layer> = distinct(tested.iter().map(|found| found.claim.layer));
    layers.sort_unstable();
    let at = |layer: Layer, (analysis, what): (&str, &str)| {
        let found = all(analysis, what).into_iter().find(|found| found.claim.layer == layer);
        found.map_or(Cell::Empty, |found| {
            let Found { claim, q_layers, .. } = found;
            let sign = if q_layers.is_some_and(|q| q <= LEVEL) { " *" } else { "" };
            let p = claim.p().map_or(String::new(), |p| format!(" (p {})", crate::report::fixed(p, 3)));
            Cell::Text(format!("{}{p}{sign}", crate::report::fixed(claim.estimate, claim.decimals)))
        })
    };
    let rows = layers.iter().map(|&layer| {
        std::iter::once(Cell::layer(layer)).chain(names.iter().map(|&name| at(layer, name))).collect()
    });
    let heads = names.iter().map(|(analysis, what)| format!("{analysis}: {what}"));
    let columns = std::iter::once("layer".to_string()).chain(heads).collect();
    let caption = format!(
        "Each tested claim at each kept layer: the estimate and its p. A star: q over the layers of that claim is at \
         most {LEVEL} (Benjamini and Hochberg 1995). If a layer is selected because it is the best here, its p does \
         not account for the selection."
    );
    let title = format!("Which layers are beyond chance?{}", sides(first));
    let mut figure = figure("layers", &title, caption, first, TableFigure { columns, rows: rows.collect() });
    if let Some(other) = &first.claim.other {
        figure.name = format!("{FINDINGS}-layers-of-two");
        figure.axes.push(("pair".to_string(), format!("{} and {other}", first.claim.model)));
    }
    Some(figure)
}

#[cfg(test)]
mod tests {
    use super::super::claims::tests::found;
    use super::*;

    fn table(figure: &Figure) -> &TableFigure {
        let Body::Table(table) = &figure.body else { panic!("{figure:?}") };
        table
    }

    #[test]
    fn a_claim_is_beyond_its_null_within_it_or_not_tested() {
        let mut all = [
            found("rated", "own", Layer::Block(2), "PC1, valence", 0.81, Some(0.001)),
            found("space", "own", Layer::Block(2), "PC1", 0.4, None),
            found("rated", "own", Layer::Block(2), "PC2, arousal", 0.1, Some(0.3)),
            found("rated", "own", Layer::Block(1), "PC1, valence", 0.7, Some(0.04)),
        ];
        (all[0].q, all[0].q_layers, all[2].q, all[3].q_layers) =
            (Some(0.002), Some(0.002), Some(0.3), Some(0.06));
        (0..3).for_each(|at| all[at].is_reported = true);
        let section = section(&all, &[], &Declared::default()).unwrap();
        let [claims, layers] = section.figures.as_slice() else { panic!("{section:?}") };
        let text = |row: usize, column: usize| match &table(claims).rows[row][column] {
            Cell::Text(text) | Cell::Link(text, _) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [text(0, 4), text(1, 4), text(2, 4)],
            ["beyond its null", "within its null", "not tested"]
        );
        assert_eq!(
            (text(0, 0), text(0, 6)),
            ("rated: PC1, valence".into(), "labels shuffled (999 draws)".into())
        );
        assert_eq!(
            table(claims).rows[0][0],
            Cell::Link(text(0, 0), Target::Place(place("rated", &all[0].claim)))
        );
        assert!(claims.caption.contains("over the 2 tests"), "{}", claims.caption);
        assert_eq!(table(layers).columns, ["layer", "rated: PC1, valence"]);
        let cells = |row: usize| table(layers).rows[row][1].clone();
        assert_eq!(cells(0), Cell::Text("0.70 (p 0.040)".into()));
        assert_eq!(cells(1), Cell::Text("0.81 (p 0.001) *".into()));
    }
}
