//! Compares components and whole emotion vectors with human ratings of valence, arousal and dominance. The formulas
//! are in `docs/methods.md`.

mod alike;
mod figures;
mod plane;
pub mod ratings;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nalgebra::DMatrix;
use sha2::{Digest, Sha256};

use super::{Claim, Input, Inputs, Kind, LayerVectors, Tables, VectorSet};
use crate::params::{Read, Reader, Type, maybe_filled, params};
use crate::report::figure::Figure;
use crate::stages::principal::{self, dot};
use crate::stages::statistics::correlation::{partial, pearson, residuals, spearman};
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::{self, p_value, percentile, two_sided};
use crate::store::table::Table;
use alike::Alike;
use plane::{LeftOut, turn};
use ratings::{RATINGS, Rated, Ratings};
use tables::{Correlations, Planes, Words};

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 3;

/// The minimum number of rated emotions for a correlation: five numbers have only 120 orders.
const FEWEST: usize = 6;

/// The ridge penalty for predicting ratings from whole vectors, as a fraction of the mean square of a vector.
const PENALTY: f64 = 0.1;

/// The value of the column `component` for ratings predicted from whole vectors.
const WHOLE: &str = "whole vector, left out";

params! {
    /// Components and whole vectors compared with human ratings of the words: see docs/methods.md.
    pub struct Norms {
        // Absolute; not in the key: its content is.
        /// A file with columns `word`, `valence`, `arousal` and perhaps `dominance` (also under the names of NRC-VAD and of
        /// Warriner et al.) and `frequency` (a logarithm, as Zipf's scale), by comma or tab, relative to the project.
        #[unset("the circumplex: 28 words")]
        #[of(Type::Text)]
        #[with(file)]
        #[serde(skip)]
        pub file: Option<PathBuf>;
        /// SHA-256 of the file, once it is pinned.
        #[of(Type::NONE)]
        #[with(not_pinned)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub content: Option<String>;
        /// Emotions whose vectors have at least this cosine are near-synonyms, as are those with similar ratings:
        /// they are shuffled together.
        pub synonyms: f64 = 0.9, above 0.0..=1.0;
        /// How many are correlated with ratings.
        pub components: usize = 3, 2..=20;
        /// Bootstrap resamples of the emotions, for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Shuffles of the ratings over the emotions, for the nulls.
        pub permutations: usize = 1000, 0..=100_000;
    }
}

fn file(reader: &Reader<'_>, name: &str) -> Read<Option<PathBuf>> {
    Ok(maybe_filled(reader, name)?.map(|file| reader.scope.project.join(file)))
}

fn not_pinned(_: &Reader<'_>, _: &str) -> Read<Option<String>> {
    Ok(None)
}

impl Norms {
    /// The ratings.
    ///
    /// An error if the file does not exist, is not a ratings file, or differs from its pinned contents.
    pub fn ratings(&self) -> Result<Ratings> {
        let Some(path) = &self.file else { return Ok(Ratings::circumplex()) };
        let bytes = fs_err::read(path)?;
        let content = hex::encode(Sha256::digest(&bytes));
        let same = self.content.as_ref().is_none_or(|known| *known == content);
        ensure!(same, "{} was changed while this run was at work: run it again", path.display());
        Ratings::of(&bytes).with_context(|| format!("read {}", path.display()))
    }
}

impl Kind for Norms {
    fn kind(&self) -> &'static str {
        "norms"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Human ratings"
    }

    fn intro(&self) -> &'static str {
        "Do the vectors reflect human ratings of the words: valence, arousal, dominance?"
    }

    fn inputs(&self) -> Inputs {
        Inputs { seed: true, ..Inputs::VECTORS }
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input.set, input.seed)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// The tables `norms` (correlations), `norms_plane` (the best plane) and `norms_words` (the word matched to each
/// emotion, and its position in that plane), for every layer of the set. With fewer than [`FEWEST`] rated emotions,
/// only the last.
///
/// An error if no emotion is rated.
fn run(params: &Norms, set: &VectorSet, seed: u64) -> Result<Tables> {
    let ratings = params.ratings()?;
    let (mut correlations, mut planes, mut words) =
        (Correlations::default(), Planes::default(), Words::default());
    for layer in &set.layers {
        let rated = ratings.rated(&layer.emotions);
        ensure!(
            !rated.is_empty(),
            "none of the {} emotions is among {}: correlations need {FEWEST}",
            layer.emotions.len(),
            ratings.source
        );
        if rated.len() < FEWEST {
            rated.iter().for_each(|rated| words.push(set, layer, rated, None));
            continue;
        }
        let found = principal::components(&layer.vectors, layer.d_model).with_context(|| {
            format!("components at layer {} of {} on {}", layer.layer, set.model, set.stories)
        })?;
        let shown = params.components.min(found.ratios.len());
        let scores: Vec<Vec<f64>> = (0..shown)
            .map(|at| {
                let direction = &found.directions[at * layer.d_model..(at + 1) * layer.d_model];
                let middle = dot(&found.mean, direction);
                rated.iter().map(|r| dot(layer.vector(r.emotion), direction) - middle).collect()
            })
            .collect();
        let products = gram(layer, &rated);
        let left_out = LeftOut::new(&products, PENALTY)?;
        let same = |i: usize, j: usize| {
            products[(i, j)] >= params.synonyms * (products[(i, i)] * products[(j, j)]).sqrt()
        };
        let alike = Alike::of(&rated, same);
        let (controls, named) = controls(&layer.emotions, &rated);
        let controls: Vec<Vec<f64>> = controls.iter().map(|control| alike.together(control)).collect();
        let null =
            Null { params, alike: &alike, controls: &controls, seed, layer: layer.layer.number() as u64 };
        for (at, name) in RATINGS.iter().enumerate() {
            let Some(values) = rated.iter().map(|r| r.ratings[at]).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            for (number, scores) in scores.iter().enumerate() {
                let tested = Tested::of(scores, &values, &null, number * 3 + at);
                correlations.push(set, layer.layer, &format!("PC{}", number + 1), name, rated.len(), tested);
            }
            let tested = Tested::left_out(&left_out, &values, &null, at);
            correlations.push(set, layer.layer, WHOLE, name, rated.len(), tested);
        }
        correlations.controls.resize(correlations.rows(), named);
        correlations.blocks.resize(correlations.rows(), alike.blocks as i32);
        let both = |r: &Rated| Some([r.ratings[0]?, r.ratings[1]?]);
        let onto: Vec<[f64; 2]> = rated.iter().filter_map(both).collect();
        let from: Vec<[f64; 2]> = match scores.as_slice() {
            [x, y, ..] => x.iter().zip(y).map(|(x, y)| [*x, *y]).collect(),
            _ => Vec::new(),
        };
        let turned = if from.len() == onto.len() { turn(&from, &onto) } else { None };
        if let Some(turned) = &turned {
            let null = (0..params.permutations).filter_map(|number| {
                let parts = [seed, layer.layer.number() as u64, number as u64];
                let order = alike.order(0, &mut Draws::new("plane of ratings", &parts))?;
                let [x, y] = [0, 1].map(|at| {
                    alike.shuffled(&onto.iter().map(|rating| rating[at]).collect::<Vec<_>>(), &order)
                });
                let shuffled: Vec<[f64; 2]> = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
                turn(&from, &shuffled).map(|turned| turned.r2)
            });
            planes.push(set, layer.layer, rated.len(), turned.r2, null.collect());
        }
        for (at, rated) in rated.iter().enumerate() {
            words.push(set, layer, rated, turned.as_ref().map(|turned| turned.places[at]));
        }
    }
    Ok(vec![
        ("norms".into(), correlations.finish(&ratings.source)),
        ("norms_plane".into(), planes.finish()),
        ("norms_words".into(), words.finish()),
    ])
}

/// The dot products of all pairs of vectors of rated emotions.
fn gram(layer: &LayerVectors, rated: &[Rated]) -> DMatrix<f64> {
    DMatrix::from_fn(rated.len(), rated.len(), |i, j| {
        dot(layer.vector(rated[i].emotion), layer.vector(rated[j].emotion))
    })
}

/// Properties of words other than their ratings, and their description: length, and frequency if it is known for all.
fn controls(emotions: &[String], rated: &[Rated]) -> (Vec<Vec<f64>>, String) {
    let length = |rated: &Rated| emotions[rated.emotion].chars().count() as f64;
    let length: Vec<f64> = rated.iter().map(length).collect();
    match rated.iter().map(|rated| rated.frequency).collect::<Option<Vec<f64>>>() {
        Some(frequency) => (vec![length, frequency], "word length and frequency".to_string()),
        None => (vec![length], "word length".to_string()),
    }
}

/// The null of p-values: ratings shuffled over blocks of near-synonyms.
struct Null<'a> {
    params: &'a Norms,
    alike: &'a Alike,
    /// Means over blocks, like those of the shuffled ratings.
    controls: &'a [Vec<f64>],
    seed: u64,
    layer: u64,
}

impl Null<'_> {
    /// The `statistic` for each order of the blocks, drawn for `purpose` and `what`.
    fn drawn(
        &self,
        (purpose, what, controls): (&str, usize, usize),
        statistic: impl Fn(&[usize]) -> Option<f64>,
    ) -> Vec<f64> {
        let one = |number: usize| {
            let mut draws = Draws::new(purpose, &[self.seed, self.layer, what as u64, number as u64]);
            statistic(&self.alike.order(controls, &mut draws)?)
        };
        (0..self.params.permutations).filter_map(one).collect()
    }

    /// Ratings under an order of the blocks: the part predicted by the controls stays, and the residuals are shuffled
    /// (Freedman and Lane 1983).
    fn shuffled(&self, ratings: &[f64], order: &[usize]) -> Vec<f64> {
        let ratings = self.alike.together(ratings);
        let rest = residuals(&ratings, self.controls);
        let moved = self.alike.shuffled(&rest, order);
        ratings.iter().zip(rest).zip(moved).map(|((all, rest), moved)| all - rest + moved).collect()
    }

    fn bootstrap(&self, x: &[f64], y: &[f64], what: usize) -> Vec<f64> {
        let drawn = (0..self.params.resamples).map(|number| {
            let mut draws =
                Draws::new("emotions drawn", &[self.seed, self.layer, what as u64, number as u64]);
            let (x, y): (Vec<f64>, Vec<f64>) = (0..x.len())
                .map(|_| {
                    let at = draws.below(x.len());
                    (x[at], y[at])
                })
                .unzip();
            pearson(&x, &y)
        });
        drawn.collect()
    }
}

/// A correlation with its interval and p-value, and the partial correlation given the controls.
struct Tested {
    r: f64,
    rank: f64,
    interval: Option<interval::Interval>,
    p: Option<f64>,
    partial: Option<f64>,
    partial_p: Option<f64>,
}

impl Tested {
    /// For scores and ratings: percentiles over emotions drawn with replacement, and ratings shuffled over emotions,
    /// two-sided.
    fn of(x: &[f64], y: &[f64], null: &Null, what: usize) -> Tested {
        let drawn = null.bootstrap(x, y, what);
        let shuffled = null
            .drawn(("ratings shuffled", what, 0), |order| Some(pearson(x, &null.alike.shuffled(y, order))));
        let p = |r: f64, shuffled: &[f64]| (!shuffled.is_empty()).then(|| two_sided(r, shuffled));
        let beyond = |y: &[f64]| partial(x, y, null.controls);
        let left = null.drawn(("ratings less controls", what, null.controls.len()), |order| {
            beyond(&null.shuffled(y, order))
        });
        Tested {
            r: pearson(x, y),
            rank: spearman(x, y),
            interval: percentile(&drawn),
            p: p(pearson(x, &null.alike.together(y)), &shuffled),
            partial: beyond(y),
            partial_p: beyond(&null.alike.together(y)).and_then(|r| p(r, &left)),
        }
    }

    /// For ratings and their leave-one-out predictions by ridge regression on the vectors of all other emotions; the
    /// null refits the regression to shuffled ratings.
    fn left_out(of: &LeftOut, y: &[f64], null: &Null, what: usize) -> Tested {
        let x = of.predict(y);
        let drawn = null.bootstrap(&x, y, 100 + what);
        let foretold = |y: &[f64]| pearson(&of.predict(y), y);
        let shuffled =
            null.drawn(("ratings left out", what, 0), |order| Some(foretold(&null.alike.shuffled(y, order))));
        let p = |r: f64, shuffled: &[f64]| (!shuffled.is_empty()).then(|| p_value(r, shuffled));
        let beyond = |y: &[f64]| partial(&of.predict(y), y, null.controls);
        let left = null.drawn(("ratings left out less controls", what, null.controls.len()), |order| {
            beyond(&null.shuffled(y, order))
        });
        Tested {
            r: pearson(&x, y),
            rank: spearman(&x, y),
            interval: percentile(&drawn),
            p: p(foretold(&null.alike.together(y)), &shuffled),
            partial: beyond(y),
            partial_p: beyond(&null.alike.together(y)).and_then(|r| p(r, &left)),
        }
    }
}

#[cfg(test)]
mod tests;
