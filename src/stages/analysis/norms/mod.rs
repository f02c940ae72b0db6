//! Do the vectors know what people say of the words: components and whole vectors beside ratings of valence, arousal and
//! dominance. `docs/methods.md` has the formulas.

mod alike;
mod figures;
mod plane;
pub mod ratings;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nalgebra::DMatrix;
use sha2::{Digest, Sha256};

use super::{Claim, Input, Inputs, Kind, LayerVectors, Places, Tables, VectorSet};
use crate::lm::Layer;
use crate::params::{Read, Reader, Type, maybe_filled, params};
use crate::report::figure::Figure;
use crate::stages::principal::{self, dot};
use crate::stages::statistics::correlation::{fisher, pearson, spearman};
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::{self, p_value, percentile, two_sided};
use crate::store::table::{Column, Table};
use alike::Alike;
use plane::{LeftOut, turn};
use ratings::{RATINGS, Rated, Ratings};

/// Raised when the same vectors would give other tables.
const VERSION: u32 = 2;

/// Fewer rated emotions are no ground for a correlation.
const FEWEST: usize = 5;

/// The ridge's penalty where ratings are read off whole vectors, as a part of the mean square of a vector.
const PENALTY: f64 = 0.1;

/// What stands in the column `component` where ratings are read off whole vectors.
const WHOLE: &str = "whole vector, left out";

params! {
    /// Components and whole vectors beside people's ratings of the words: see docs/methods.md.
    pub struct Norms {
        // Absolute; not in the key: its content is.
        /// A file with columns `word`, `valence`, `arousal` and perhaps `dominance` (also under the names of NRC-VAD and of
        /// Warriner et al.), by comma or tab, relative to the project.
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
    /// An error if the file is not there, is none, or is not what it was when it was pinned.
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
        "Whether the vectors know what people say of the words: how pleasant they are, how intense, how much in control."
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

/// The tables `norms` (correlations), `norms_plane` (the best plane) and `norms_words` (which word stands for which emotion,
/// and where it lies in that plane), for every layer of the set.
///
/// An error if fewer than [`FEWEST`] emotions are rated.
fn run(params: &Norms, set: &VectorSet, seed: u64) -> Result<Tables> {
    let ratings = params.ratings()?;
    let (mut correlations, mut planes, mut words) =
        (Correlations::default(), Planes::default(), Words::default());
    for layer in &set.layers {
        let rated = ratings.rated(&layer.emotions);
        ensure!(
            rated.len() >= FEWEST,
            "{} of {} emotions are among {}: correlations need {FEWEST}",
            rated.len(),
            layer.emotions.len(),
            ratings.source
        );
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
        let left_out = LeftOut::new(&gram(layer, &rated), PENALTY)?;
        let alike = Alike::of(&rated);
        for (at, name) in RATINGS.iter().enumerate() {
            let Some(values) = rated.iter().map(|r| r.ratings[at]).collect::<Option<Vec<f64>>>() else {
                continue;
            };
            for (number, scores) in scores.iter().enumerate() {
                let tested =
                    Tested::of(scores, &values, (params, &alike, seed, layer.layer), number * 3 + at);
                correlations.push(set, layer.layer, &format!("PC{}", number + 1), name, rated.len(), tested);
            }
            let tested = Tested::left_out(&left_out, &values, (params, &alike, seed, layer.layer), at);
            correlations.push(set, layer.layer, WHOLE, name, rated.len(), tested);
        }
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
                let order = alike.order(&mut Draws::new("plane of ratings", &parts))?;
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

/// The products of each two vectors of rated emotions.
fn gram(layer: &LayerVectors, rated: &[Rated]) -> DMatrix<f64> {
    DMatrix::from_fn(rated.len(), rated.len(), |i, j| {
        dot(layer.vector(rated[i].emotion), layer.vector(rated[j].emotion))
    })
}

/// A correlation with what is known of its chance.
struct Tested {
    r: f64,
    rank: f64,
    interval: Option<interval::Interval>,
    p: Option<f64>,
}

impl Tested {
    /// Of scores and ratings: percentiles over emotions drawn with replacement, and ratings shuffled over emotions, both
    /// ways.
    fn of(
        x: &[f64],
        y: &[f64],
        (params, alike, seed, layer): (&Norms, &Alike, u64, Layer),
        what: usize,
    ) -> Tested {
        let layer = layer.number() as u64;
        let drawn = bootstrap(x, y, params, seed, layer, what);
        let null = (0..params.permutations).filter_map(|number| {
            let mut draws = Draws::new("ratings shuffled", &[seed, layer, what as u64, number as u64]);
            Some(pearson(x, &alike.shuffled(y, &alike.order(&mut draws)?)))
        });
        let r = pearson(x, y);
        let null: Vec<f64> = null.collect();
        let p = (!null.is_empty()).then(|| two_sided(pearson(x, &alike.together(y)), &null));
        Tested { r, rank: spearman(x, y), interval: percentile(&drawn), p }
    }

    /// Of ratings and what a ridge regression on the vectors of all other emotions makes of them; the chance of as large a
    /// correlation, with regressions on shuffled ratings.
    fn left_out(
        of: &LeftOut,
        y: &[f64],
        (params, alike, seed, layer): (&Norms, &Alike, u64, Layer),
        what: usize,
    ) -> Tested {
        let layer = layer.number() as u64;
        let x = of.predict(y);
        let drawn = bootstrap(&x, y, params, seed, layer, 100 + what);
        let foretold = |y: &[f64]| pearson(&of.predict(y), y);
        let null = (0..params.permutations).filter_map(|number| {
            let mut draws = Draws::new("ratings left out", &[seed, layer, what as u64, number as u64]);
            Some(foretold(&alike.shuffled(y, &alike.order(&mut draws)?)))
        });
        let (r, null) = (pearson(&x, y), null.collect::<Vec<f64>>());
        let p = (!null.is_empty()).then(|| p_value(foretold(&alike.together(y)), &null));
        Tested { r, rank: spearman(&x, y), interval: percentile(&drawn), p }
    }
}

fn bootstrap(x: &[f64], y: &[f64], params: &Norms, seed: u64, layer: u64, what: usize) -> Vec<f64> {
    let drawn = (0..params.resamples).map(|number| {
        let mut draws = Draws::new("emotions drawn", &[seed, layer, what as u64, number as u64]);
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

#[derive(Default)]
struct Correlations {
    places: Places,
    component: Vec<String>,
    rating: Vec<String>,
    n: Vec<i32>,
    pearson: Vec<f64>,
    ends: [Vec<Option<f64>>; 4],
    spearman: Vec<f64>,
    p: Vec<Option<f64>>,
}

impl Correlations {
    fn push(
        &mut self,
        set: &VectorSet,
        layer: Layer,
        component: &str,
        rating: &str,
        n: usize,
        tested: Tested,
    ) {
        self.places.push(set, layer);
        self.component.push(component.to_string());
        self.rating.push(rating.to_string());
        self.n.push(n as i32);
        self.pearson.push(tested.r);
        let closed = fisher(tested.r, n);
        let ends = [
            tested.interval.map(|i| i.low),
            tested.interval.map(|i| i.high),
            closed.map(|i| i.low),
            closed.map(|i| i.high),
        ];
        self.ends.iter_mut().zip(ends).for_each(|(column, end)| column.push(end));
        self.spearman.push(tested.rank);
        self.p.push(tested.p);
    }

    fn finish(self, source: &str) -> Table {
        let source = vec![source.to_string(); self.n.len()];
        let [low, high, fisher_low, fisher_high] = self.ends;
        let columns = vec![
            ("component", Column::Str(self.component)),
            ("rating", Column::Str(self.rating)),
            ("n_emotions", Column::I32(self.n)),
            ("pearson", Column::F64(self.pearson)),
            ("low", Column::OptF64(low)),
            ("high", Column::OptF64(high)),
            ("fisher_low", Column::OptF64(fisher_low)),
            ("fisher_high", Column::OptF64(fisher_high)),
            ("spearman", Column::F64(self.spearman)),
            ("p", Column::OptF64(self.p)),
            ("ratings", Column::Str(source)),
        ];
        self.places.table("norms/1", columns)
    }
}

#[derive(Default)]
struct Planes {
    places: Places,
    n: Vec<i32>,
    r2: Vec<f64>,
    p: Vec<Option<f64>>,
    null: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
}

impl Planes {
    fn push(&mut self, set: &VectorSet, layer: Layer, n: usize, r2: f64, null: Vec<f64>) {
        self.places.push(set, layer);
        self.n.push(n as i32);
        self.r2.push(r2);
        self.p.push((!null.is_empty()).then(|| p_value(r2, &null)));
        self.null.push((!null.is_empty()).then(|| interval::mean(&null)));
        self.high.push(percentile(&null).map(|i| i.high));
    }

    fn finish(self) -> Table {
        let columns = vec![
            ("n_emotions", Column::I32(self.n)),
            ("r2", Column::F64(self.r2)),
            ("p", Column::OptF64(self.p)),
            ("null_mean", Column::OptF64(self.null)),
            ("null_high", Column::OptF64(self.high)),
        ];
        self.places.table("norms_plane/1", columns)
    }
}

#[derive(Default)]
struct Words {
    places: Places,
    emotion: Vec<String>,
    word: Vec<String>,
    exact: Vec<bool>,
    ratings: [Vec<Option<f64>>; 3],
    turned: [Vec<Option<f64>>; 2],
}

impl Words {
    fn push(&mut self, set: &VectorSet, layer: &LayerVectors, rated: &Rated, place: Option<[f64; 2]>) {
        self.places.push(set, layer.layer);
        self.emotion.push(layer.emotions[rated.emotion].clone());
        self.word.push(rated.word.clone());
        self.exact.push(rated.exact);
        self.ratings.iter_mut().zip(rated.ratings).for_each(|(column, rating)| column.push(rating));
        self.turned.iter_mut().enumerate().for_each(|(at, column)| column.push(place.map(|p| p[at])));
    }

    fn finish(self) -> Table {
        let [valence, arousal, dominance] = self.ratings;
        let [x, y] = self.turned;
        let columns = vec![
            ("emotion", Column::Str(self.emotion)),
            ("word", Column::Str(self.word)),
            ("exact", Column::Bool(self.exact)),
            ("valence", Column::OptF64(valence)),
            ("arousal", Column::OptF64(arousal)),
            ("dominance", Column::OptF64(dominance)),
            ("turned_valence", Column::OptF64(x)),
            ("turned_arousal", Column::OptF64(y)),
        ];
        self.places.table("norms_words/1", columns)
    }
}

#[cfg(test)]
mod tests;
