//! Whether a linear map between two models, fitted on some topics, brings the emotion vectors of one to those of the
//! other.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::cells::Cells;
use super::chance::interval;
use super::map::Map;
use super::{Input, Kind, nearest, pairs, shared, steered, transfer_figures};
use crate::lm::Layer;
use crate::report::figure::Figure;
use crate::stages::analysis::Tables;
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::p_value;
use crate::store::table::{Column, Table};

/// Raised when the same activations would give other tables.
const VERSION: u32 = 2;

/// `[analysis.<name>.transfer]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transfer {
    pub map: Kinds,
    /// Only of a ridge map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ridge: Option<f64>,
    pub layers: Layers,
    pub folds: usize,
    pub permutations: usize,
    pub bootstrap: usize,
    /// `None`: the mapped vectors are not added to the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steer: Option<Steer>,
}

/// Which maps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kinds {
    Ridge,
    Procrustes,
}

/// Which of the target's kept layers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// The kept layer nearest to 2/3 of the depth.
    Default,
    All,
}

/// What the mapped vectors are added to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Steer {
    pub prompts: Vec<String>,
    /// Times the norm of the target's own vector.
    pub strength: f64,
    /// Random directions of the same norm.
    pub random: usize,
}

impl Kind for Transfer {
    fn kind(&self) -> &'static str {
        "transfer"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Transfer"
    }

    fn intro(&self) -> &'static str {
        "Whether emotion vectors of one model are emotion vectors of another once a linear map, fitted on how both \
         models place the same texts, has brought them there."
    }

    fn reads_activations(&self) -> bool {
        true
    }

    fn is_directed(&self) -> bool {
        true
    }

    fn needs_model(&self) -> bool {
        self.steer.is_some()
    }

    fn layers(&self, kept: [&[Layer]; 2], n_layers: [usize; 2]) -> [Vec<Layer>; 2] {
        let reached = match self.layers {
            Layers::All => kept[1].to_vec(),
            Layers::Default => vec![nearest_two_thirds(kept[1], n_layers[1])],
        };
        let from = reached.iter().filter_map(|&layer| nearest(layer, n_layers[1], kept[0], n_layers[0]));
        let mut from: Vec<Layer> = from.collect();
        from.sort_unstable();
        from.dedup();
        [from, reached]
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        transfer_figures::figures(name, tables)
    }
}

/// The tables `transfer` (one row a layer of the second model), `transfer_emotions`, and where it is steered
/// `transfer_steering`, of the layer nearest to two thirds of the depth.
///
/// The means of each emotion's stories on each topic (cells) are what the map is fitted on: its cost hangs on emotions
/// times topics, not on stories. Topics are dealt into `folds` parts at random, none split. For each part the map is fitted on
/// the cells of the other topics; each emotion's vector of the first model, from those topics, is mapped and compared by
/// cosine with all the second model's vectors, from the part's own topics. `rank`: 1 plus how many other emotions' vectors are
/// nearer than its own; the mean over parts and emotions is `mean_rank`, `top1` the share of ranks of 1. `low` and
/// `high` of both: 2.5 and 97.5 percentiles over emotions and parts drawn with replacement, each by themselves (Owen 2007).
/// Topics are not drawn within a part: a topic that is drawn twice makes vectors noisier, and every rank worse.
/// `p`, one-sided: the mean rank where the second model's emotions have each other's names. `r2`: the share of variance of
/// the part's cells that the map foretells, mean over parts.
///
/// An error if an emotion has no story in the topics of a part, or if there are fewer than two topics.
fn run(params: &Transfer, input: Input) -> Result<Tables> {
    let Input { sides, model, seed, progress } = input;
    let stories = shared(&sides)?;
    let mut rows = Lines::default();
    let mut emotions = Emotions::default();
    let mut steering = steered::Rows::default();
    let steered_at = nearest_two_thirds(&sides[1].layers, sides[1].n_layers);
    for (done, &to) in sides[1].layers.iter().enumerate() {
        let [a, b] = &sides;
        let from = nearest(to, b.n_layers, &a.layers, a.n_layers).context("a set without layers")?;
        let own = (b.vectors)(to)?;
        let cells = Cells::read(&sides, (from, to), &stories, &own.emotions)?;
        let place = (from, to, to.depth(b.n_layers));
        let found =
            tested(params, &cells, seed).with_context(|| format!("from layer {from} to layer {to}"))?;
        rows.push(place, &found, &cells);
        emotions.push((from, to), &found, &own.emotions);
        if let Some(steer) = params.steer.as_ref().filter(|_| to == steered_at) {
            let model = model.context("this analysis needs the model")?;
            let all = cells.cells(|_| true);
            let map = fitted(params, &cells, &all)?;
            let theirs = (a.vectors)(from)?;
            ensure!(theirs.emotions == own.emotions, "the two sets are of different emotions");
            let mapped = map.differences(&theirs.vectors)?;
            steering.add(steer, (from, to), &own, &mapped, model, seed)?;
        }
        progress(done + 1, sides[1].layers.len());
    }
    let mut tables =
        vec![("transfer".to_string(), rows.finish()), ("transfer_emotions".to_string(), emotions.finish())];
    if params.steer.is_some() {
        tables.push(("transfer_steering".to_string(), steering.finish()));
    }
    Ok(tables)
}

fn fitted(params: &Transfer, cells: &Cells, which: &[usize]) -> Result<Map> {
    let [x, y] = &cells.sides;
    match params.map {
        Kinds::Ridge => Map::ridge(x, y, which, params.ridge.unwrap_or_default()),
        Kinds::Procrustes => Map::procrustes(x, y, which),
    }
}

/// What the mapped vectors of one model are to the vectors of the other.
pub(super) struct Found {
    /// `[emotion, emotion]`: the rank of the second's vector among all as seen from the first's mapped one, mean over parts.
    pub ranks: Vec<f64>,
    /// Of each emotion: the cosine of its mapped vector with its own, mean over parts.
    pub cosines: Vec<f64>,
    pub mean_rank: f64,
    pub top1: f64,
    pub rank_interval: (f64, f64),
    pub top1_interval: (f64, f64),
    pub p: f64,
    pub r2: f64,
    pub folds: usize,
}

/// Compares mapped vectors with the others, part after part.
pub(super) fn tested(params: &Transfer, cells: &Cells, seed: u64) -> Result<Found> {
    let (topics, n) = (cells.groups.len(), cells.emotions.len());
    ensure!(
        topics >= 2,
        "the stories are of {topics} topic, and a map is tested on others than it was fitted on"
    );
    let folds = params.folds.min(topics);
    let mut part_of = vec![0; topics];
    let order = Draws::new("transfer folds", &[seed, 0]).shuffled(topics);
    order.into_iter().enumerate().for_each(|(at, topic)| part_of[topic] = at % folds);
    let d = cells.sides[1].d;
    let missing = "an emotion has no story that both models read in the topics of a part: set fewer `folds`";
    let (mut ranks, mut cosines) = (vec![0.0; n * n], vec![0.0; n]);
    let (mut firsts, mut r2) = (0, 0.0);
    let mut own: Vec<Vec<f64>> = Vec::new();
    for part in 0..folds {
        let inside = |topic: usize| part_of[topic] == part;
        let weights = |wanted: bool| -> Vec<f64> {
            (0..topics).map(|topic| f64::from(u8::from(inside(topic) == wanted))).collect()
        };
        let map = fitted(params, cells, &cells.cells(|topic| !inside(topic)))?;
        r2 += map.foretold(&cells.sides[0], &cells.sides[1], &cells.cells(inside)) / folds as f64;
        let vectors = cells.vectors(&cells.sides[0], &weights(false)).context(missing)?;
        let mut mapped = map.differences(&vectors)?;
        unit(&mut mapped, d);
        let theirs = cells.vectors(&cells.sides[1], &weights(true)).context(missing)?;
        let found = similarities(&mapped, theirs, d);
        for emotion in 0..n {
            let row = &found[emotion * n..][..n];
            cosines[emotion] += row[emotion] / folds as f64;
            firsts += usize::from(rank(row, emotion) == 1);
            (0..n).for_each(|other| ranks[emotion * n + other] += rank(row, other) as f64 / folds as f64);
        }
        own.push((0..n).map(|emotion| rank(&found[emotion * n..][..n], emotion) as f64).collect());
    }
    let mean = |of: &dyn Fn(usize) -> usize| (0..n).map(|e| ranks[e * n + of(e)]).sum::<f64>() / n as f64;
    let mean_rank = mean(&|emotion| emotion);
    // Lower is better.
    let null: Vec<f64> = (0..params.permutations)
        .map(|round| {
            let order = Draws::new("transfer permutations", &[seed, round as u64]).shuffled(n);
            -mean(&|emotion| order[emotion])
        })
        .collect();
    // Emotions and parts are drawn each by themselves.
    let drawn = rounds(seed, "transfer bootstrap", params.bootstrap, |dice| {
        let (emotions, parts) = (dice.resampled(n), dice.resampled(folds));
        let drawn = parts.iter().flat_map(|&part| emotions.iter().map(move |&emotion| (part, emotion)));
        let ranks: Vec<f64> = drawn.map(|(part, emotion)| own[part][emotion]).collect();
        let firsts = ranks.iter().filter(|&&rank| rank == 1.0).count();
        (ranks.iter().sum::<f64>() / ranks.len() as f64, firsts as f64 / ranks.len() as f64)
    });
    Ok(Found {
        rank_interval: interval(&drawn.iter().map(|(rank, _)| *rank).collect::<Vec<_>>(), (1.0, n as f64)),
        top1_interval: interval(&drawn.iter().map(|(_, top1)| *top1).collect::<Vec<_>>(), (0.0, 1.0)),
        p: p_value(-mean_rank, &null),
        ranks,
        cosines,
        mean_rank,
        top1: firsts as f64 / (n * folds) as f64,
        r2,
        folds,
    })
}

/// Brings rows to unit length; those of zeros stay.
fn unit(rows: &mut [f64], d: usize) {
    for row in rows.chunks_exact_mut(d) {
        let length = norm(row);
        row.iter_mut().filter(|_| length > 0.0).for_each(|x| *x /= length);
    }
}

/// `[n, n]`: the cosines of rows of unit length with others.
fn similarities(mapped: &[f64], mut own: Vec<f64>, d: usize) -> Vec<f64> {
    unit(&mut own, d);
    let row = |a: &'_ [f64]| own.chunks_exact(d).map(|b| dot(a, b)).collect::<Vec<_>>();
    mapped.chunks_exact(d).flat_map(row).collect()
}

/// 1 and how many of `cosines` are greater than that at `own`.
fn rank(cosines: &[f64], own: usize) -> usize {
    1 + cosines.iter().filter(|&&cosine| cosine > cosines[own]).count()
}

#[derive(Default)]
struct Lines {
    layers: Vec<(Layer, Layer, f64)>,
    /// Emotions, topics, folds.
    counts: [Vec<i32>; 3],
    values: [Vec<f64>; 8],
}

const VALUES: [&str; 8] = ["mean_rank", "low", "high", "top1", "top1_low", "top1_high", "p", "r2"];

impl Lines {
    fn push(&mut self, place: (Layer, Layer, f64), found: &Found, cells: &Cells) {
        self.layers.push(place);
        let counts = [cells.emotions.len(), cells.groups.len(), found.folds];
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.push(count as i32));
        let (rank, top1) = (found.rank_interval, found.top1_interval);
        let values = [found.mean_rank, rank.0, rank.1, found.top1, top1.0, top1.1, found.p, found.r2];
        self.values.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }

    fn finish(self) -> Table {
        let values = VALUES.into_iter().zip(self.values).map(|(name, values)| (name, Column::F64(values)));
        let counts = ["emotions", "topics", "folds"].into_iter().zip(self.counts);
        let counts = counts.map(|(name, counts)| (name, Column::I32(counts)));
        pairs::table("transfer/1", self.layers, values.chain(counts).collect())
    }
}

/// A row an emotion and a layer.
#[derive(Default)]
struct Emotions {
    layers: [Vec<i32>; 2],
    emotion: Vec<String>,
    rank: Vec<f64>,
    cosine: Vec<f64>,
}

impl Emotions {
    fn push(&mut self, (from, to): (Layer, Layer), found: &Found, emotions: &[String]) {
        for (at, emotion) in emotions.iter().enumerate() {
            self.layers[0].push(from.number());
            self.layers[1].push(to.number());
            self.emotion.push(emotion.clone());
            self.rank.push(found.ranks[at * emotions.len() + at]);
            self.cosine.push(found.cosines[at]);
        }
    }

    fn finish(self) -> Table {
        let [from, to] = self.layers;
        Table::new(
            "transfer_emotions/1",
            vec![
                ("layer_a", Column::I32(from)),
                ("layer_b", Column::I32(to)),
                ("emotion", Column::Str(self.emotion)),
                ("rank", Column::F64(self.rank)),
                ("cosine", Column::F64(self.cosine)),
            ],
        )
    }
}
