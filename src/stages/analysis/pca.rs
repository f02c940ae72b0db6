//! Principal components of the emotion vectors. Does not depend on a model.

use anyhow::{Context, Result};

use super::published::{self, EXPLAINED_VARIANCE};
use super::{Claim, Group, Input, Kind, Places, Published, Tables, VectorSet, distinct, groups, pca_panels};
use crate::params::params;
use crate::report::figure::{Body, Cell, Figure, Point, Scatter, TableFigure};
use crate::stages::principal::{self, dot, norm};
use crate::stages::statistics::correlation::pearson;
use crate::store::table::{Column, Table};

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 1;

params! {
    /// Principal components of the emotion vectors.
    pub struct Pca {
        /// How many are kept.
        pub components: usize = 4, 1..;
    }
}

impl Kind for Pca {
    fn kind(&self) -> &'static str {
        "pca"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Principal components"
    }

    fn intro(&self) -> &'static str {
        "The principal components of the emotion vectors of a layer."
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input.set)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        claims(tables)
    }

    fn reading(&self) -> &'static str {
        READING
    }

    fn side_by_side(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        Ok(pca_panels::figure(name, tables)?.into_iter().collect())
    }
}

/// The tables `pca` (scores), `pca_variance` and `pca_checks`, for every layer of the set.
///
/// Components of the vectors centred on their mean, in float64, with a fixed sign of each direction. There is at most
/// one fewer than emotions. `pca_checks` holds `|r(PC1, norm)|`, the correlation over emotions of the first score with
/// the vector's norm: near 1, PC1 is only the length of the vectors, not a direction of meaning.
pub(super) fn run(params: &Pca, set: &VectorSet) -> Result<Tables> {
    let (mut scores, mut variance, mut checks) = (Places::default(), Places::default(), Places::default());
    let (mut emotions, mut components, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let (mut numbers, mut ratios, mut r) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &set.layers {
        let found = principal::components(&layer.vectors, layer.d_model)
            .with_context(|| format!("pca at layer {} of {} on {}", layer.layer, set.model, set.stories))?;
        let kept = params.components.min(found.ratios.len());
        let mut first = Vec::new();
        for (index, emotion) in layer.emotions.iter().enumerate() {
            let centred: Vec<f64> = layer.vector(index).iter().zip(&found.mean).map(|(x, m)| x - m).collect();
            for (component, direction) in found.directions.chunks_exact(layer.d_model).take(kept).enumerate()
            {
                scores.push(set, layer.layer);
                emotions.push(emotion.clone());
                components.push(component as i32 + 1);
                values.push(dot(&centred, direction));
            }
            first.push(dot(&centred, &found.directions[..layer.d_model]));
        }
        for (component, ratio) in found.ratios[..kept].iter().enumerate() {
            variance.push(set, layer.layer);
            numbers.push(component as i32 + 1);
            ratios.push(*ratio);
        }
        let norms: Vec<f64> = (0..layer.emotions.len()).map(|i| norm(layer.vector(i))).collect();
        checks.push(set, layer.layer);
        r.push(pearson(&first, &norms).abs());
    }
    let scores = scores.table(
        "pca/1",
        vec![
            ("emotion", Column::Str(emotions)),
            ("component", Column::I32(components)),
            ("score", Column::F64(values)),
        ],
    );
    let variance = variance.table(
        "pca_variance/1",
        vec![("component", Column::I32(numbers)), ("explained_variance_ratio", Column::F64(ratios))],
    );
    let names = vec![NORM_CHECK.to_string(); r.len()];
    let checks = checks.table("pca_checks/1", vec![("check", Column::Str(names)), ("value", Column::F64(r))]);
    Ok(vec![("pca".into(), scores), ("pca_variance".into(), variance), ("pca_checks".into(), checks)])
}

const NORM_CHECK: &str = "|r(PC1, norm)|";

/// A scatter plot of the first two components and a table of variances for each set and layer.
fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let (scores, checks) = (groups(tables, "pca")?, groups(tables, "pca_checks")?);
    let mut figures = Vec::new();
    for variance in groups(tables, "pca_variance")? {
        let same = |g: &&Group| g.place() == variance.place();
        let ratios = ratios(&variance)?;
        let check = match checks.iter().find(same) {
            Some(group) => group.table.f64("value")?[group.rows[0]],
            None => continue,
        };
        if let Some(group) = scores.iter().find(same)
            && ratios.len() > 1
        {
            figures.push(scatter(name, group, &ratios, check)?);
        }
        figures.push(variances(name, &variance, &ratios, check));
    }
    Ok(figures)
}

/// What the claims of this analysis mean.
const READING: &str = "The share of the variance among the emotion vectors explained by the first and the second \
     component, and |r(PC1, norm)|: near 1, the first component would only reflect the vectors' norm.";

/// The shares of the first two components, and the norm check.
fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let scores = groups(tables, "pca")?;
    for group in groups(tables, "pca_variance")? {
        let of_place = scores.iter().find(|other| other.place() == group.place());
        let emotions = match of_place {
            Some(scores) => distinct(scores.table.str("emotion")?, &scores.rows).len(),
            None => 0,
        };
        for (at, ratio) in ratios(&group)?.into_iter().take(2).enumerate() {
            let published = EXPLAINED_VARIANCE.iter().map(|&(source, list)| Published {
                source,
                value: list[at],
                but: published::unlike(source, emotions),
            });
            let claim = group.claim(format!("PC{}", at + 1), "% of variance", 100.0 * ratio, 1);
            claims.push(claim.beside(published.collect()));
        }
    }
    for group in groups(tables, "pca_checks")? {
        claims.push(group.claim(NORM_CHECK, "", group.table.f64("value")?[group.rows[0]], 2));
    }
    Ok(claims)
}

/// The explained variance ratios of a group of the table `pca_variance`.
pub(super) fn ratios(group: &Group) -> Result<Vec<f64>> {
    let all = group.table.f64("explained_variance_ratio")?;
    Ok(group.rows.iter().map(|&row| all[row]).collect())
}

/// The emotions of a group of the table `pca` in the plane of the first two components.
pub(super) fn plane(group: &Group) -> Result<Vec<Point>> {
    let (emotions, components) = (group.table.str("emotion")?, group.table.i32("component")?);
    let scores = group.table.f64("score")?;
    let of = |component: i32| {
        let rows = group.rows.iter().filter(move |&&row| components[row] == component);
        rows.map(|&row| (emotions[row].clone(), scores[row]))
    };
    Ok(of(1).zip(of(2)).map(|((label, x), (_, y))| Point { label, x, y }).collect())
}

fn scatter(name: &str, group: &Group, ratios: &[f64], check: f64) -> Result<Figure> {
    let points = plane(group)?;
    let axis =
        |component: usize| format!("PC{component} ({:.1} % of variance)", 100.0 * ratios[component - 1]);
    Ok(group.figure(
        name.to_string(),
        "Emotion space".into(),
        format!(
            "Each point is an emotion's vector projected onto the first two principal components of all vectors; \
             emotions with similar vectors lie close together. The sign of a component is arbitrary (fixed by its \
             largest entry). {NORM_CHECK} = {check:.2}: near 1, the first component would only reflect the vectors' \
             norm."
        ),
        Body::Scatter(Scatter { x: axis(1), y: axis(2), points }),
    ))
}

fn variances(name: &str, group: &Group, ratios: &[f64], check: f64) -> Figure {
    let percent = |ratio: f64| Cell::Number(100.0 * ratio, 1);
    let published =
        |list: &[f64; 2], at: usize| list.get(at).map_or(Cell::Empty, |&share| Cell::Number(share, 1));
    let mut sum = 0.0;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for (at, &ratio) in ratios.iter().enumerate() {
        sum += ratio;
        let mut row = vec![Cell::Text(format!("PC{}", at + 1)), percent(ratio), percent(sum)];
        row.extend(EXPLAINED_VARIANCE.iter().map(|(_, list)| published(list, at)));
        rows.push(row);
    }
    let columns = ["component", "explained variance, %", "cumulative, %"].map(String::from).into_iter();
    let columns = columns.chain(EXPLAINED_VARIANCE.iter().map(|(label, _)| format!("{label}: published, %")));
    group.figure(
        format!("{name}-variance"),
        "Explained variance".into(),
        format!(
            "The share of the variance among the emotion vectors that each component explains, with published values \
             for other models and emotions. {NORM_CHECK} = {check:.3}."
        ),
        Body::Table(TableFigure { columns: columns.collect(), rows }),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::set;
    use super::*;
    use crate::lm::Layer;

    #[test]
    fn scores_variance_and_the_norm_check_by_hand() {
        // Centred on (1, 1): (3, 0), (-3, 0), (0, 1), (0, -1).
        let set = set(&["a", "b", "c", "d"], &[&[4.0, 1.0], &[-2.0, 1.0], &[1.0, 2.0], &[1.0, 0.0]]);
        let tables = run(&Pca { components: 5 }, &set).unwrap();
        let (scores, variance, checks) = (&tables[0].1, &tables[1].1, &tables[2].1);
        let wanted = [3.0, 0.0, -3.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        for (got, want) in scores.f64("score").unwrap().iter().zip(wanted) {
            assert!((got - want).abs() < 1e-12);
        }
        assert_eq!(scores.i32("component").unwrap(), [1, 2, 1, 2, 1, 2, 1, 2]);
        assert_eq!(scores.i32("layer").unwrap(), [3; 8]);
        for (got, want) in variance.f64("explained_variance_ratio").unwrap().iter().zip([0.9, 0.1]) {
            assert!((got - want).abs() < 1e-12);
        }
        // Norms: sqrt 17, sqrt 5, sqrt 5, 1; the scores 3, -3, 0, 0 have mean 0 and norm sqrt 18.
        let norms = [17f64.sqrt(), 5f64.sqrt(), 5f64.sqrt(), 1.0];
        let mean = norms.iter().sum::<f64>() / 4.0;
        let spread = norms.iter().map(|n| (n - mean).powi(2)).sum::<f64>().sqrt();
        let wanted = 3.0 * (norms[0] - norms[1]) / (18f64.sqrt() * spread);
        assert!((checks.f64("value").unwrap()[0] - wanted).abs() < 1e-12);
    }

    #[test]
    fn a_first_component_that_is_the_norm_is_seen() {
        let set = set(&["a", "b", "c"], &[&[1.0, 0.0], &[2.0, 0.0], &[4.0, 0.0]]);
        let tables = run(&Pca { components: 2 }, &set).unwrap();
        assert!((tables[2].1.f64("value").unwrap()[0] - 1.0).abs() < 1e-12);
        assert_eq!(tables[1].1.rows(), 1);
    }

    #[test]
    fn claims_by_hand() {
        // As above: ratios 0.9 and 0.1.
        let mut set = set(&["a", "b", "c", "d"], &[&[4.0, 1.0], &[-2.0, 1.0], &[1.0, 2.0], &[1.0, 0.0]]);
        set.model = "x".into();
        let tables = run(&Pca { components: 5 }, &set).unwrap();
        let claims = claims(&tables).unwrap();
        assert_eq!(
            claims.iter().map(|c| (c.what.as_str(), c.estimate.round(), c.decimals)).collect::<Vec<_>>(),
            [("PC1", 90.0, 1), ("PC2", 10.0, 1), (NORM_CHECK, 1.0, 2)]
        );
        assert_eq!((claims[0].model.as_str(), claims[0].stories.as_str()), ("x", "s"));
        let published: Vec<f64> = claims[1].published.iter().map(|p| p.value).collect();
        assert_eq!(published, [15.0, 12.7, 18.3]);
    }

    #[test]
    fn figures_are_one_a_layer() {
        let mut two = set(&["a", "b", "c"], &[&[1.0, 0.0], &[0.0, 2.0], &[-3.0, 0.0]]);
        let params = Pca { components: 2 };
        let figures = |set: &VectorSet| figures("space", &run(&params, set).unwrap()).unwrap();
        let names = |list: &[Figure]| {
            list.iter().map(|f| (f.name.clone(), f.layer.map(Layer::number))).collect::<Vec<_>>()
        };
        let one = figures(&two);
        assert_eq!(names(&one), [("space".into(), Some(3)), ("space-variance".into(), Some(3))]);
        let Body::Scatter(scatter) = &one[0].body else { panic!("{:?}", one[0]) };
        assert_eq!(scatter.points.iter().map(|p| p.label.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(scatter.x.starts_with("PC1 (") && scatter.x.ends_with(" % of variance)"), "{}", scatter.x);
        let mut next = two.layers[0].clone();
        next.layer = Layer::Block(4);
        two.layers.push(next);
        let both = figures(&two);
        assert_eq!(names(&both)[2..], [("space".into(), Some(4)), ("space-variance".into(), Some(4))]);
    }
}
