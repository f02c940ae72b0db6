//! Cosines between emotion vectors. Does not depend on a model.

use anyhow::{Result, ensure};

use super::published::{self, GEMMA, GEMMA_COSINES, LLAMA, LLAMA_COSINES};
use super::{
    Claim, Group, Input, Kind, Places, Published, Tables, VectorSet, cluster, distinct, groups, named,
};
use crate::params::{Type, params};
use crate::report::figure::{Body, Cell, Figure, Heatmap, TableFigure};
use crate::stages::principal::{dot, norm};
use crate::store::table::{Column, Table};

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 1;

params! {
    /// Cosines between all emotion vectors.
    pub struct Cosine {
        // Not in the key: the table has every pair.
        /// Pairs that get a row in the report, with published values where available.
        #[of(Type::Pairs)]
        #[with(named::pairs)]
        #[serde(skip)]
        pub pairs: Vec<(String, String)> = [];
    }
}

impl Kind for Cosine {
    fn kind(&self) -> &'static str {
        "cosine"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Similarity"
    }

    fn intro(&self) -> &'static str {
        "Cosine similarity between the emotion vectors of a layer."
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(input.set)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures(self, name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        READING
    }
}

/// The table `cosine`: every ordered pair of emotions at every layer, including a vector with itself.
///
/// An error if a vector is zero.
fn run(set: &VectorSet) -> Result<Tables> {
    let mut places = Places::default();
    let (mut first, mut second, mut cosines) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &set.layers {
        let norms: Vec<f64> = (0..layer.emotions.len()).map(|i| norm(layer.vector(i))).collect();
        for (emotion, norm) in layer.emotions.iter().zip(&norms) {
            ensure!(
                *norm > 0.0,
                "the vector of `{emotion}` at layer {} is zero: it has no cosine",
                layer.layer
            );
        }
        for (a, emotion_a) in layer.emotions.iter().enumerate() {
            for (b, emotion_b) in layer.emotions.iter().enumerate() {
                places.push(set, layer.layer);
                first.push(emotion_a.clone());
                second.push(emotion_b.clone());
                let cosine = dot(layer.vector(a), layer.vector(b)) / (norms[a] * norms[b]);
                cosines.push(if a == b { 1.0 } else { cosine });
            }
        }
    }
    let columns = vec![
        ("emotion_a", Column::Str(first)),
        ("emotion_b", Column::Str(second)),
        ("cosine", Column::F64(cosines)),
    ];
    Ok(vec![("cosine".into(), places.table("cosine/1", columns))])
}

/// A clustered heat map and a table of pairs for each set and layer.
fn figures(params: &Cosine, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for group in groups(tables, "cosine")? {
        let (emotions, cosines) = square(&group)?;
        figures.push(heatmap(name, &group, &emotions, &cosines));
        figures.extend(pairs(params, name, &group, &emotions, &cosines));
    }
    Ok(figures)
}

/// What the claims of this analysis mean.
const READING: &str = "Separation: the mean distance of an emotion from the most similar other one, that is, the mean \
     over emotions e of 1 - max over other emotions f of cos(e, f). 0: every emotion has a duplicate; 1: the nearest \
     other one is orthogonal. (The mean over all pairs is not informative: vectors centred on their mean cannot all be \
     similar.) Then the cosines of selected pairs.";

/// The separation of the emotions, and the cosine of each pair in the report.
fn claims(params: &Cosine, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for group in groups(tables, "cosine")? {
        let (emotions, cosines) = square(&group)?;
        claims.extend(separation(&cosines, emotions.len()).map(|x| group.claim("separation", "", x, 3)));
        let at = |emotion: &str| emotions.iter().position(|e| *e == emotion);
        for (a, b) in shown_pairs(params) {
            let (Some(i), Some(j)) = (at(a), at(b)) else { continue };
            let known = PUBLISHED.iter().filter_map(|(source, list)| {
                let but = published::unlike(source, emotions.len());
                Some(Published { source, value: published::cosine(list, a, b)?, but })
            });
            let cosine = cosines[i * emotions.len() + j];
            claims.push(group.claim(format!("{a} / {b}"), "", cosine, 3).beside(known.collect()));
        }
    }
    Ok(claims)
}

/// The mean over `n` emotions e of `1 - max over f != e of cos(e, f)`; `None` for a single emotion. `cosines`: `[n,
/// n]`.
fn separation(cosines: &[f64], n: usize) -> Option<f64> {
    let nearest =
        |e: usize| (0..n).filter(|&f| f != e).map(|f| cosines[e * n + f]).fold(f64::NEG_INFINITY, f64::max);
    (n > 1).then(|| (0..n).map(|e| 1.0 - nearest(e)).sum::<f64>() / n as f64)
}

/// The emotions of a group and their cosines, `[emotion, emotion]`.
fn square<'a>(group: &'a Group) -> Result<(Vec<&'a str>, Vec<f64>)> {
    let emotions = distinct(group.table.str("emotion_a")?, &group.rows);
    let all = group.table.f64("cosine")?;
    let cosines: Vec<f64> = group.rows.iter().map(|&row| all[row]).collect();
    ensure!(
        cosines.len() == emotions.len().pow(2),
        "the cosine table of layer {} of {} on {} is not square",
        group.layer,
        group.model,
        group.stories
    );
    Ok((emotions, cosines))
}

/// A pair of emotions and their cosine.
type Pair = (&'static str, &'static str, f64);

/// Published cosines, by source.
const PUBLISHED: [(&str, &[Pair]); 2] = [(LLAMA, &LLAMA_COSINES), (GEMMA, &GEMMA_COSINES)];

/// The pairs named in the experiment, then those with published values.
fn shown_pairs(params: &Cosine) -> Vec<(&str, &str)> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let named = params.pairs.iter().map(|(a, b)| (a.as_str(), b.as_str()));
    for (a, b) in named.chain(PUBLISHED.iter().flat_map(|(_, list)| list.iter().map(|(a, b, _)| (*a, *b)))) {
        if !pairs.contains(&(a, b)) && !pairs.contains(&(b, a)) {
            pairs.push((a, b));
        }
    }
    pairs
}

fn heatmap(name: &str, group: &Group, emotions: &[&str], cosines: &[f64]) -> Figure {
    let n = emotions.len();
    let distances: Vec<f64> = cosines.iter().map(|cosine| 1.0 - cosine).collect();
    let order = cluster::order(&distances, n);
    let labels: Vec<String> = order.iter().map(|&i| emotions[i].to_string()).collect();
    let values = order.iter().flat_map(|&a| order.iter().map(move |&b| cosines[a * n + b])).collect();
    group.figure(
        name.to_string(),
        "Cosines".into(),
        "Cosine similarity of every pair of emotion vectors: 1 same direction, 0 orthogonal, -1 opposite. Emotions are \
         ordered by average-linkage clustering, so that clusters of similar emotions appear as blocks."
            .into(),
        Body::Heatmap(Heatmap {
            row_axis: "emotion".into(),
            column_axis: "emotion".into(),
            rows: labels.clone(),
            columns: labels,
            values,
            value: "cosine".into(),
            limit: Some(1.0),
        }),
    )
}

/// A table of single pairs; `None` if no pair has both emotions present.
fn pairs(params: &Cosine, name: &str, group: &Group, emotions: &[&str], cosines: &[f64]) -> Option<Figure> {
    let at = |emotion: &str| emotions.iter().position(|e| *e == emotion);
    let mut rows = Vec::new();
    for (a, b) in shown_pairs(params) {
        let (Some(i), Some(j)) = (at(a), at(b)) else { continue };
        let number = |value: Option<f64>| value.map_or(Cell::Empty, |value| Cell::Number(value, 3));
        let mut row = vec![Cell::Text(format!("{a} / {b}")), number(Some(cosines[i * emotions.len() + j]))];
        row.extend(PUBLISHED.iter().map(|(_, list)| number(published::cosine(list, a, b))));
        rows.push(row);
    }
    let columns = ["pair", "cosine"].map(String::from).into_iter();
    let columns = columns.chain(PUBLISHED.iter().map(|(label, _)| format!("{label}: published")));
    (!rows.is_empty()).then(|| {
        group.figure(
            format!("{name}-pairs"),
            "Named pairs".into(),
            "Cosines of selected pairs, with published values for other models and texts where available."
                .into(),
            Body::Table(TableFigure { columns: columns.collect(), rows }),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::set;
    use super::*;

    #[test]
    fn cosines_by_hand() {
        let set = set(&["a", "b", "c"], &[&[3.0, 4.0], &[-4.0, 3.0], &[0.0, -2.0]]);
        let tables = run(&set).unwrap();
        let wanted = [1.0, 0.0, -0.8, 0.0, 1.0, -0.6, -0.8, -0.6, 1.0];
        for (got, want) in tables[0].1.f64("cosine").unwrap().iter().zip(wanted) {
            assert!((got - want).abs() < 1e-15);
        }
        assert_eq!(tables[0].1.str("emotion_b").unwrap()[..4], ["a", "b", "c", "a"]);
        let zero = super::super::tests::set(&["a", "b"], &[&[1.0], &[0.0]]);
        assert!(run(&zero).unwrap_err().to_string().contains("`b`"));
    }

    #[test]
    fn claims_by_hand() {
        // happy to joyful 0.6, joyful to sad 0.8, happy to sad 0: nearest 0.6, 0.8, 0.8.
        let set = set(&["happy", "sad", "joyful"], &[&[1.0, 0.0], &[0.0, 2.0], &[0.6, 0.8]]);
        let params = Cosine { pairs: vec![("sad".into(), "joyful".into()), ("sad".into(), "nobody".into())] };
        let claims = claims(&params, &run(&set).unwrap()).unwrap();
        let names: Vec<_> = claims.iter().map(|c| c.what.as_str()).collect();
        assert_eq!(names, ["separation", "sad / joyful", "happy / joyful", "happy / sad"]);
        let wanted = [(0.4 + 0.2 + 0.2) / 3.0, 0.8, 0.6, 0.0];
        for (claim, want) in claims.iter().zip(wanted) {
            assert!((claim.estimate - want).abs() < 1e-12, "{claim:?}");
        }
        assert_eq!(claims[1].published, []);
        // Three emotions here, thirty in the published set: cosines of centred vectors depend on all of them.
        let published = &claims[2].published;
        assert_eq!((published.len(), published[0].source, published[0].value), (1, LLAMA, 0.923));
        assert!(!published[0].but.is_empty());
        assert_eq!(separation(&[1.0], 1), None);
    }

    #[test]
    fn the_heat_map_is_clustered_and_pairs_stand_beside_published_values() {
        let set = set(&["happy", "sad", "joyful"], &[&[1.0, 0.0], &[-1.0, 0.1], &[1.0, 0.1]]);
        let params = Cosine { pairs: vec![("sad".into(), "happy".into()), ("sad".into(), "nobody".into())] };
        let figures = figures(&params, "similarity", &run(&set).unwrap()).unwrap();
        let Body::Heatmap(map) = &figures[0].body else { panic!() };
        assert_eq!(map.rows, ["happy", "joyful", "sad"]);
        assert_eq!(map.columns, map.rows);
        assert!(map.values[1] > 0.99 && map.values[2] < -0.9);
        let Body::Table(table) = &figures[1].body else { panic!() };
        assert_eq!(table.rows.len(), 2);
        assert_eq!(table.rows[0][0], Cell::Text("sad / happy".into()));
        assert_eq!(table.rows[0][2..], [Cell::Number(-0.321, 3), Cell::Empty]);
        assert_eq!(table.rows[1][0], Cell::Text("happy / joyful".into()));
    }
}
