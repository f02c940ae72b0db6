//! The figures and claims of `norms`. Depends only on its tables.

use anyhow::Result;

use super::super::{Claim, Group, Null, Published, groups};
use super::{FEWEST, Norms};
use crate::report::figure::{Body, Cell, Dot, Dots, Figure, Panel, Panels, Point, Scatter, TableFigure};
use crate::stages::analysis::published::{PAPER_NORMS, PAPER_WORDS};
use crate::stages::statistics::Interval;
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Absolute correlations over emotions of a component's scores with human ratings (a \
     component's sign is arbitrary); partial correlations controlling for word length (and frequency, if the ratings \
     file has it); and the share of the ratings' variance explained by the rotated plane of the first two components.";

/// For each set and layer: the correlations, the aligned plane compared with that of the ratings, and the words
/// matched to emotions.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "norms")? {
        figures.push(correlations(name, &group)?);
        figures.push(table(name, &group)?);
    }
    let planes = groups(tables, "norms_plane")?;
    for group in groups(tables, "norms_words")? {
        let plane = planes.iter().find(|plane| plane.place() == group.place());
        figures.extend(plane.map(|plane| turned(name, &group, plane)).transpose()?);
        figures.push(words(name, &group)?);
    }
    Ok(figures)
}

/// The correlations that the paper published, as magnitudes, and the share of the plane.
pub fn claims(params: &Norms, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let null = |p: Option<f64>| {
        let of = "ratings shuffled over emotions";
        p.map(|p| Null { of, draws: params.permutations, mean: None, p })
    };
    for group in groups(tables, "norms")? {
        let table = group.table;
        let (component, rating, r) = (table.str("component")?, table.str("rating")?, table.f64("pearson")?);
        let (low, high, p) = (table.opt_f64("low")?, table.opt_f64("high")?, table.opt_f64("p")?);
        let controls = table.str("controls")?;
        for (of_component, with, published) in PAPER_NORMS {
            let here = |&&row: &&usize| component[row] == of_component && rating[row] == with;
            let Some(&row) = group.rows.iter().find(here) else { continue };
            let interval = low[row].zip(high[row]).map(|(low, high)| magnitudes(low, high));
            let claim = group.claim(format!("{of_component}, {with}"), "|r|", r[row].abs(), 2);
            let claim = claim.within(interval, "percentile bootstrap over emotions").against(null(p[row]));
            claims.push(claim.beside(vec![Published::of(PAPER_WORDS, published)]));
            let (partial, p) = (table.opt_f64("partial")?[row], table.opt_f64("partial_p")?[row]);
            let of = "residuals of the ratings on the controls, shuffled over emotions";
            claims.extend(partial.map(|partial| {
                let what = format!("{of_component}, {with} beyond {}", controls[row]);
                let null = p.map(|p| Null { of, draws: params.permutations, mean: None, p });
                group.claim(what, "|r|", partial.abs(), 2).against(null)
            }));
        }
    }
    for group in groups(tables, "norms_plane")? {
        let (row, table) = (group.rows[0], group.table);
        let claim = group.claim("plane", "R\u{b2}", table.f64("r2")?[row], 2);
        claims.push(claim.against(null(table.opt_f64("p")?[row])));
    }
    Ok(claims)
}

/// The interval of magnitudes for a signed interval.
pub(super) fn magnitudes(low: f64, high: f64) -> Interval {
    let least = if low <= 0.0 && high >= 0.0 { 0.0 } else { low.abs().min(high.abs()) };
    Interval { low: least, high: low.abs().max(high.abs()) }
}

fn correlations(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (component, rating, r) = (table.str("component")?, table.str("rating")?, table.f64("pearson")?);
    let (low, high) = (table.opt_f64("low")?, table.opt_f64("high")?);
    let dots = group.rows.iter().map(|&row| Dot {
        label: format!("{}, {}", component[row], rating[row]),
        value: r[row],
        interval: low[row].zip(high[row]),
        band: None,
    });
    let first = group.rows[0];
    let published = PAPER_NORMS.map(|(of, with, r)| format!("{of} with {with} {r:.2}")).join(", ");
    Ok(group.figure(
        name.to_string(),
        "Ratings and components".into(),
        format!(
            "Pearson's correlation over {} rated emotions ({}), with the 95 % interval of the percentile bootstrap \
             over emotions. Signs of components are arbitrary. Whole vector: leave-one-out predictions of a ridge \
             regression on the other emotions' vectors. Published for {PAPER_WORDS}: {published}.",
            table.i32("n_emotions")?[first],
            table.str("ratings")?[first]
        ),
        Body::Dots(Dots { x: "correlation".into(), dots: dots.collect(), decimals: 2, band: String::new() }),
    ))
}

fn table(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (component, rating) = (table.str("component")?, table.str("rating")?);
    let (r, rank, p) = (table.f64("pearson")?, table.f64("spearman")?, table.opt_f64("p")?);
    let (low, high) = (table.opt_f64("fisher_low")?, table.opt_f64("fisher_high")?);
    let (partial, partial_p) = (table.opt_f64("partial")?, table.opt_f64("partial_p")?);
    let (first, n) = (group.rows[0], table.i32("n_emotions")?);
    let controls = &table.str("controls")?[first];
    let less = format!("less {controls}");
    let rows = group.rows.iter().map(|&row| {
        let published =
            PAPER_NORMS.iter().find(|(of, with, _)| component[row] == *of && rating[row] == *with);
        vec![
            Cell::Text(component[row].clone()),
            Cell::Text(rating[row].clone()),
            low[row].zip(high[row]).map_or(Cell::Number(r[row], 2), |ends| Cell::Ranged(r[row], ends, 2)),
            Cell::Number(rank[row], 2),
            p[row].map_or(Cell::Empty, |p| Cell::Number(p, 3)),
            partial[row].map_or(Cell::Empty, |r| Cell::Number(r, 2)),
            partial_p[row].map_or(Cell::Empty, |p| Cell::Number(p, 3)),
            published.map_or(Cell::Empty, |(_, _, r)| Cell::Number(*r, 2)),
        ]
    });
    let published = format!("published: {PAPER_WORDS}");
    let columns =
        ["component", "rating", "Pearson [Fisher\u{2019}s 95 %]", "Spearman", "p", &less, "p ", &published];
    Ok(group.figure(
        format!("{name}-correlations"),
        "Correlations".into(),
        format!(
            "Fisher\u{2019}s interval assumes normality and is shown for comparison with the bootstrap. p: ratings shuffled over emotions; \
             two-sided for components, one-sided for whole vectors. Near-synonyms (similar ratings, or vectors with a large cosine) are \
             shuffled together: {} words form {} independent groups; with fewer than six, plus one for each control, no p is given. Also \
             the partial correlation controlling for {controls}, with its p{}.",
            n[first],
            table.i32("blocks")?[first],
            if controls.contains("frequency") { "" } else { "; word frequency is not controlled for, since the ratings \
                 lack it for some words" }
        ),
        Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() }),
    ))
}

fn turned(name: &str, group: &Group, plane: &Group) -> Result<Figure> {
    let table = group.table;
    let emotion = table.str("emotion")?;
    let of = |x: &str, y: &str| -> Result<Vec<Point>> {
        let (x, y) = (table.opt_f64(x)?, table.opt_f64(y)?);
        let point = |&row: &usize| Some(Point { label: emotion[row].clone(), x: x[row]?, y: y[row]? });
        Ok(group.rows.iter().filter_map(point).collect())
    };
    let panel = |title: &str, points: Vec<Point>| Panel {
        title: title.to_string(),
        details: Vec::new(),
        plane: Scatter { x: "valence".into(), y: "arousal".into(), points },
    };
    let row = plane.rows[0];
    let (r2, p) = (plane.table.f64("r2")?[row], plane.table.opt_f64("p")?[row]);
    let (mean, high) = (plane.table.opt_f64("null_mean")?[row], plane.table.opt_f64("null_high")?[row]);
    let null = match (p, mean, high) {
        (Some(p), Some(mean), Some(high)) => {
            format!(
                " With ratings shuffled over emotions it is {mean:.2} on average and {high:.2} at its 97.5th percentile: p = {p:.3}."
            )
        }
        _ => String::new(),
    };
    let panels = vec![
        panel("people's ratings", of("valence", "arousal")?),
        panel("the vectors' first two components, rotated", of("turned_valence", "turned_arousal")?),
    ];
    Ok(group.figure(
        format!("{name}-plane"),
        "The best plane".into(),
        format!(
            "The plane of the first two components, rotated, reflected and uniformly scaled to fit valence and arousal \
             (Procrustes). It explains R\u{b2} = {r2:.2} of the ratings' variance.{null}"
        ),
        Body::Panels(Panels { panels }),
    ))
}

fn words(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (emotion, word, exact) = (table.str("emotion")?, table.str("word")?, table.bool("exact")?);
    let ratings = [table.opt_f64("valence")?, table.opt_f64("arousal")?, table.opt_f64("dominance")?];
    let rows = group.rows.iter().map(|&row| {
        let how = if exact[row] { "itself" } else { "same stem" };
        let mut cells =
            [&emotion[row], &word[row], how].map(|text: &str| Cell::Text(text.to_string())).to_vec();
        cells.extend(ratings.iter().map(|of| of[row].map_or(Cell::Empty, |x| Cell::Number(x, 2))));
        cells
    });
    let columns = ["emotion", "rated word", "found as", "valence", "arousal", "dominance"];
    Ok(group.figure(
        format!("{name}-words"),
        "Rated words".into(),
        format!(
            "The rated word for each emotion. Emotions that are not listed have no rating.{}",
            match group.rows.len() {
                n if n < FEWEST =>
                    format!(" {n} are too few: correlations need at least {FEWEST} rated emotions."),
                _ => String::new(),
            }
        ),
        Body::Table(TableFigure { columns: columns.map(String::from).to_vec(), rows: rows.collect() }),
    ))
}
