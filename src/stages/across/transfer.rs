//! Whether a linear map between two models, fitted on some topics, maps the emotion vectors of one onto those of the
//! other.

use anyhow::{Context, Result};
use tch::Kind::Double;
use tch::Tensor;

use super::cells::Cells;
use super::chance::interval;
use super::map::Map;
use super::{Input, Shared, nearest, pairs, steered, transfer_figures};
use crate::lm::Layer;
use crate::params::{Params as _, Read, Reader, Type, inline, params, words};
use crate::report::figure::Figure;
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::analysis::{Claim, Inputs, Kind, Progress, Sets, Tables, named};
use crate::stages::statistics::Interval;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{mean, p_value, quantile};
use crate::store::table::{Column, Table};

/// Increment when the same activations would give different tables.
const VERSION: u32 = 5;

/// Shuffles that are computed together: their orders of 17,100 cells take 70 MB.
const TOGETHER: usize = 1024;

params! {
    /// From each model to each other that read the same stories: emotion vectors through a linear map, fitted on some topics
    /// and tested on others.
    pub struct Transfer {
        /// `ridge`: least squares with shrinkage; `procrustes`: a rotation.
        pub map: Kinds = "ridge";
        /// The shrinkage of a ridge map, as a multiple of the mean eigenvalue of the Gram matrix of what it maps.
        #[with(of_a_ridge)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ridge: Option<f64> = 0.1, above 0.0..=1e6;
        /// Which of the target's kept layers are reached; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Folds of the topics (of templates: passages); in turn, vectors are mapped from one fold and tested on
        /// another, and the map is fitted on the rest.
        pub folds: usize = 5, 3..=1000;
        /// Random orders behind a p-value, which cannot be below 1 / (1 + this).
        pub permutations: usize = 1000, 1..=1_000_000;
        /// Draws with replacement behind an interval.
        pub bootstrap: usize = 1000, 1..=1_000_000;
        /// `None`: the mapped vectors are not added to the model.
        #[of(Type::Inline(SteerKeys::TABLE))]
        #[with(steer)]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub steer: Option<Steer>;
    }
}

params! {
    /// Whether, and how, mapped vectors are added to the target.
    pub struct SteerKeys {
        /// Whether the mapped vectors are also added to the target, as in `steering`.
        pub steer: bool = false;
        #[of(Type::Inline(Steer::TABLE))]
        #[with(inline::<Steer>)]
        pub how: Steer;
    }
}

fn of_a_ridge(reader: &Reader<'_>, name: &str) -> Read<Option<f64>> {
    let (ridge, map) = (reader.get(name)?, reader.get::<Kinds>("map")?);
    Ok(Some(ridge).filter(|_| map == Kinds::Ridge))
}

fn steer(reader: &Reader<'_>, _: &str) -> Read<Option<Steer>> {
    SteerKeys::read(reader).map(|SteerKeys { steer, how }| steer.then_some(how))
}

words! {
    /// Which maps there are.
    pub enum Kinds {
        Ridge = "ridge",
        Procrustes = "procrustes",
    }
}

words! {
    /// Which of the target's kept layers are reached.
    pub enum Layers {
        /// The kept layer nearest to 2/3 of the depth.
        Default = "default",
        All = "all",
    }
}

params! {
    /// What the mapped vectors are added to.
    pub struct Steer {
        /// With `steer`: the beginnings after which each emotion's word is measured.
        #[with(named::prompts)]
        pub prompts: Vec<String> = ["He feels"];
        /// With `steer`: the norm of the added vector, as a multiple of the norm of the target's own vector.
        pub strength: f64 = 1.0, above 0.0..=1e6;
        /// With `steer`: random directions of the same norm, and as many mapped vectors of shuffled cells: the nulls.
        pub random: usize = 20, 0..=10_000;
    }
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
        "Whether emotion vectors of one model work as emotion vectors of another after a linear map between their \
         spaces, fitted on both models' activations of the same texts."
    }

    fn inputs(&self) -> Inputs {
        Inputs { model: self.steer.is_some(), ..Inputs::of_two(Sets::Target) }
    }

    fn layers_of_two(&self, kept: [&[Layer]; 2], n_layers: [usize; 2]) -> [Vec<Layer>; 2] {
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

    fn run_two(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        transfer_figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        transfer_figures::claims(tables, self.permutations)
    }

    fn reading(&self) -> &'static str {
        transfer_figures::READING
    }
}

/// The tables `transfer` (one row per layer of the second model), `transfer_emotions`, and, if the second model is
/// steered, `transfer_steering` for the layer nearest to two thirds of the depth.
///
/// The map is fitted on the means of each emotion's stories on each topic (cells), so its cost depends on emotions
/// times topics, not on stories. Topics are assigned at random to `folds` parts, without splitting any, and the parts
/// rotate ([`Design::rotations`](crate::stages::statistics::Design::rotations)): the map is fitted on the cells of
/// all parts but two; each emotion's vector of the first model, from one of these two, is mapped and compared by
/// cosine with all the second model's vectors, from the other. `rank`: 1 plus the number of other emotions' vectors
/// that are nearer than its own; `mean_rank` is the mean over rotations and emotions, `top1` the share of ranks of 1.
/// `low` and `high` of both: 2.5 and 97.5 percentiles over emotions and rotations, drawn independently with
/// replacement (Owen 2007); not computed for fewer than five emotions or rotations. Topics are not resampled within a
/// part: a topic drawn twice makes vectors noisier, and every rank worse. `r2`: the share of the sum of squares of
/// the second model's vectors that the mapped vectors predict, averaged over rotations.
///
/// `p` and `r2_p` are one-sided p-values of the mean rank and of `r2`. Their null: within each topic, the cells that
/// a map is fitted on are shuffled among the emotions in one model, and every map is fitted again, so that the same
/// vectors go through maps between unrelated cells. `rank_null`: the mean of the mean ranks under the null;
/// `r2_null`: the 95th percentile of `r2` under the null.
///
/// An error if there are fewer than three topics, or if an emotion has no story in the topics of a part.
fn run(params: &Transfer, input: Input) -> Result<Tables> {
    let Input { sides, model, seed, progress } = input;
    let shared = Shared::read(&sides, seed)?;
    let mut rows = Lines::default();
    let mut emotions = Emotions::default();
    let mut steering = steered::Rows::default();
    let [a, b] = &sides;
    let steered_at = nearest_two_thirds(&b.layers, b.n_layers);
    for (done, &to) in b.layers.iter().enumerate() {
        let from = nearest(to, b.n_layers, &a.layers, a.n_layers).context("a set without layers")?;
        let cells = Cells::read(&shared, &sides, [from, to])?;
        let mut told = |part: usize, of: usize| progress(done * of + part, b.layers.len() * of);
        let steer = params.steer.as_ref().filter(|_| to == steered_at);
        let nulls = steer.map_or(0, |steer| steer.random);
        let found = tested(params, &shared, &cells, nulls, &mut told)
            .with_context(|| format!("from layer {from} to layer {to}"))?;
        rows.push((from, to, to.depth(b.n_layers)), &found, &shared);
        emotions.push((from, to), &found, &shared.emotions);
        if let Some(steer) = steer {
            let model = model.context("this analysis needs the model")?;
            let own = (b.vectors)(to)?;
            steering.add(steer, (from, to), &own, &found.mapped, model, seed)?;
        }
    }
    let mut tables =
        vec![("transfer".to_string(), rows.finish()), ("transfer_emotions".to_string(), emotions.finish())];
    if params.steer.is_some() {
        tables.push(("transfer_steering".to_string(), steering.finish()));
    }
    Ok(tables)
}

/// The comparison of one model's mapped vectors with the other model's vectors.
pub(super) struct Found {
    /// For each emotion: its rank and the cosine of its mapped vector with its own vector, averaged over rotations.
    pub ranks: Vec<f64>,
    pub cosines: Vec<f64>,
    pub mean_rank: f64,
    pub top1: f64,
    pub rank_interval: Option<Interval>,
    pub top1_interval: Option<Interval>,
    pub p: f64,
    pub rank_null: f64,
    pub r2: f64,
    pub r2_p: f64,
    pub r2_null: f64,
    pub rotations: usize,
    /// `[emotion, d]` each: the mapped vectors, averaged over rotations; then those of the first shuffles.
    pub mapped: Vec<Vec<f64>>,
}

/// The results of one rotation: with the true cells, and under each shuffle.
struct Turn {
    ranks: Vec<f64>,
    cosines: Vec<f64>,
    r2: f64,
    /// Mean rank and `r2` under each shuffle.
    null: Vec<(f64, f64)>,
    mapped: Vec<Vec<f64>>,
}

/// Compares mapped vectors with the target vectors in every rotation. `kept`: the number of shuffles whose mapped
/// vectors are kept.
fn tested(
    params: &Transfer,
    shared: &Shared,
    cells: &Cells,
    kept: usize,
    progress: &mut Progress,
) -> Result<Found> {
    let rotations = shared.design.rotations(params.folds)?;
    let (n, count, shuffles) = (shared.emotions.len(), rotations.count(), params.permutations.max(kept));
    let flat = |values: &Tensor| Vec::<f64>::try_from(values.to_kind(Double).reshape(-1));
    let turns = rotations.each(|number, rotation| {
        let read = |side: usize| cells.rows(side, &rotation.fit, Double);
        let vectors = cells.rows(0, &rotation.source, Double).vectors();
        let map = match params.map {
            Kinds::Ridge => Map::ridge(read(0), &vectors, params.ridge.unwrap_or_default())?,
            Kinds::Procrustes => Map::procrustes(read(0), read(1), &vectors)?,
        };
        let y = read(1);
        let mapped = map.carried(&y)?;
        let own = cells.rows(1, &rotation.target, Double).vectors();
        let compared = mapped.beside(&own);
        let mut turn = Turn {
            ranks: compared.ranks()?,
            cosines: compared.own()?,
            r2: compared.r2,
            null: Vec::new(),
            mapped: vec![flat(&mapped.values)?],
        };
        // Thousands of maps, in single precision, because only ranks and a share are computed from them.
        let (y, own) = (y.single(), own.single());
        for first in (0..shuffles).step_by(TOGETHER) {
            let numbers = first..shuffles.min(first + TOGETHER);
            let orders = cells.orders(&rotation.fit, numbers.clone())?;
            turn.null.extend(map.in_orders(&y, &own, &orders)?);
            for order in orders.iter().take(kept.saturating_sub(first)) {
                turn.mapped.push(flat(&map.carried(&y.ordered(order))?.values)?);
            }
            progress(number * shuffles + numbers.end, count * shuffles);
        }
        Ok(turn)
    })?;
    let over = |of: &dyn Fn(&Turn) -> f64| mean(&turns.iter().map(of).collect::<Vec<_>>());
    let mean_rank = over(&|turn| mean(&turn.ranks));
    let r2 = over(&|turn| turn.r2);
    let ranks: Vec<f64> = (0..params.permutations).map(|at| over(&|turn| turn.null[at].0)).collect();
    let r2s: Vec<f64> = (0..params.permutations).map(|at| over(&|turn| turn.null[at].1)).collect();
    // Emotions and rotations are resampled independently.
    let drawn = rounds(shared.design.seed(), "transfer bootstrap", params.bootstrap, |dice| {
        let (emotions, turned) = (dice.resampled(n), dice.resampled(count));
        let drawn = turned.iter().flat_map(|&turn| emotions.iter().map(move |&emotion| (turn, emotion)));
        let ranks: Vec<f64> = drawn.map(|(turn, emotion)| turns[turn].ranks[emotion]).collect();
        (mean(&ranks), share_of_firsts(&ranks))
    });
    let groups = n.min(count);
    let average = |of: &dyn Fn(&Turn) -> &[f64]| -> Vec<f64> {
        let mut sum = vec![0.0; of(&turns[0]).len()];
        turns.iter().for_each(|turn| sum.iter_mut().zip(of(turn)).for_each(|(s, x)| *s += x / count as f64));
        sum
    };
    Ok(Found {
        ranks: average(&|turn| &turn.ranks),
        cosines: average(&|turn| &turn.cosines),
        mean_rank,
        top1: over(&|turn| share_of_firsts(&turn.ranks)),
        rank_interval: interval(
            &drawn.iter().map(|(rank, _)| *rank).collect::<Vec<_>>(),
            (1.0, n as f64),
            groups,
        ),
        top1_interval: interval(&drawn.iter().map(|(_, top1)| *top1).collect::<Vec<_>>(), (0.0, 1.0), groups),
        p: p_value(-mean_rank, &ranks.iter().map(|rank| -rank).collect::<Vec<_>>()),
        rank_null: mean(&ranks),
        r2,
        r2_p: p_value(r2, &r2s),
        r2_null: quantile(&r2s, 0.95),
        rotations: count,
        mapped: (0..=kept).map(|at| average(&|turn| &turn.mapped[at])).collect(),
    })
}

fn share_of_firsts(ranks: &[f64]) -> f64 {
    ranks.iter().filter(|&&rank| rank == 1.0).count() as f64 / ranks.len() as f64
}

#[derive(Default)]
struct Lines {
    layers: Vec<(Layer, Layer, f64)>,
    /// Number of emotions, topics and rotations.
    counts: [Vec<i32>; 3],
    values: [Vec<f64>; 7],
    /// Intervals of the mean rank and of `top1`.
    ends: [Vec<Option<Interval>>; 2],
}

const VALUES: [&str; 7] = ["mean_rank", "top1", "p", "rank_null", "r2", "r2_p", "r2_null"];

impl Lines {
    fn push(&mut self, place: (Layer, Layer, f64), found: &Found, shared: &Shared) {
        self.layers.push(place);
        let counts = [shared.emotions.len(), shared.design.groups(), found.rotations];
        self.counts.iter_mut().zip(counts).for_each(|(column, count)| column.push(count as i32));
        let ends = [found.rank_interval, found.top1_interval];
        self.ends.iter_mut().zip(ends).for_each(|(column, ends)| column.push(ends));
        let Found { mean_rank, top1, p, rank_null, r2, r2_p, r2_null, .. } = *found;
        let values = [mean_rank, top1, p, rank_null, r2, r2_p, r2_null];
        self.values.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }

    fn finish(self) -> Table {
        let values = VALUES.into_iter().zip(self.values).map(|(name, values)| (name, Column::F64(values)));
        let counts = ["emotions", "topics", "folds"].into_iter().zip(self.counts);
        let counts = counts.map(|(name, counts)| (name, Column::I32(counts)));
        let [[low, high], [top1_low, top1_high]] = self.ends.each_ref().map(|ends| pairs::columns(ends));
        let ends = [("low", low), ("high", high), ("top1_low", top1_low), ("top1_high", top1_high)];
        pairs::table("transfer/3", self.layers, values.chain(ends).chain(counts).collect())
    }
}

/// One row per emotion and layer.
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
            self.rank.push(found.ranks[at]);
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
