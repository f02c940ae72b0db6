//! Centred kernel alignment of the activations of the same stories in two models.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use nalgebra::DMatrix;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tch::Tensor;

use super::halves::{Chance, Halves, Likeness, Splits, ceiling, crossed, partial};
use super::hsic::{Estimates, Gram, cka};
use super::pairs::{self, Measure};
use super::{Input, Shared, Side, Story, equal_depth};
use crate::lm::Layer;
use crate::params::params;
use crate::report::figure::Figure;
use crate::stages::analysis::{Claim, Inputs, Kind, Null, Sets, Tables};
use crate::stages::statistics::Interval;
use crate::stages::statistics::design::FEWEST as FEWEST_GROUPS;
use crate::stages::statistics::draws::rounds;
use crate::stages::statistics::interval::{p_value, t_95};
use crate::store::table::{Column, Table};

/// Increment when the same activations would give different tables.
const VERSION: u32 = 3;

params! {
    /// Between two models that read the same stories: linear centred kernel alignment of their activations.
    pub struct Cka {
        /// At most so many stories of a source, always the same: time and memory grow with the square.
        pub stories: usize = 1000, 10..=20_000;
        /// Random orders behind a p-value, which cannot be below 1 / (1 + this).
        pub permutations: usize = 1000, 1..=1_000_000;
    }
}

/// The fewest stories: the debiased estimate divides by `n - 3`, and the jackknife leaves out a tenth of the stories.
const FEWEST: usize = 10;

/// The fewest emotions whose vectors can be aligned: see [`FEWEST`].
const FEWEST_EMOTIONS: usize = 4;

/// Maximum number of jackknife parts.
const PARTS: usize = 20;

impl Kind for Cka {
    fn kind(&self) -> &'static str {
        "cka"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Kernel alignment"
    }

    fn intro(&self) -> &'static str {
        "Whether two models represent the same stories with the same geometry, up to rotation and scale: linear \
         centred kernel alignment (CKA) of all activations, whether or not related to emotion."
    }

    fn inputs(&self) -> Inputs {
        Inputs::of_two(Sets::Readers)
    }

    fn run_two(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        let measure = Measure {
            column: "cka_debiased",
            short: "debiased CKA",
            title: "Alignment of activations",
            caption: "Linear CKA between the activations of the same stories; 1: equal up to rotation and scale. With \
                 few stories and many dimensions the plain estimate is above 0 even for unrelated models; the debiased \
                 estimate is 0 on average."
                .to_string(),
            tested: "The same values with the plain estimates. The interval is a jackknife over topics (none with \
                 fewer than five); p: how often a value as large occurs when the stories of one model are shuffled. \
                 Beyond the surface: with the alignment of the embeddings partialled out, if these are kept. Of \
                 emotions: the debiased alignment of emotion vectors, computed from one half of the topics in one \
                 model and from the other half in the other, since models that read the same stories share the \
                 stories' noise; its ceiling: the value expected for two models that differ only by the noise of \
                 halves; and its p, the larger of two, with emotions permuted and with cells' emotions shuffled.",
            others: &[
                ("cka", "plain CKA", 3),
                ("partial", "beyond the surface", 3),
                ("emotions", "of emotions", 3),
                ("emotions_ceiling", "ceiling", 3),
                ("emotions_p", "p of emotions", 4),
            ],
            all_sets: false,
        };
        pairs::figures(name, tables, ("cka", "cka_layers"), &measure)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for pair in pairs::pairs(tables, "cka")? {
            for &row in &pair.rows {
                let at = |column: &str| Ok::<_, anyhow::Error>(pair.table.f64(column)?[row]);
                let maybe = |column: &str| Ok::<_, anyhow::Error>(pair.table.opt_f64(column)?[row]);
                let claim = |what: &str, estimate| pair.claim((0, row), what, "", estimate, 2);
                let null = |of, p| Null { of, draws: self.permutations, mean: None, p };
                let stories = null("stories of one model shuffled", at("p")?);
                let interval = pair.ends(row, ("low", "high"))?;
                let whole = claim("CKA of stories", at("cka_debiased")?)?;
                claims.push(
                    whole.within(interval, "jackknife over topics, Student's t").against(Some(stories)),
                );
                let partial = maybe("partial")?;
                claims.extend(partial.map(|x| claim("beyond the surface", x)).transpose()?);
                let emotions = (maybe("emotions")?, maybe("emotions_p")?, maybe("emotions_ceiling")?);
                if let (Some(aligned), Some(p), Some(ceiling)) = emotions {
                    let of = "emotions under each other's names, or shuffled within topics: the larger p";
                    claims.push(claim("CKA of emotions", aligned)?.against(Some(null(of, p))));
                    claims.push(claim("ceiling of it", ceiling)?);
                }
            }
        }
        Ok(claims)
    }

    fn reading(&self) -> &'static str {
        "Debiased alignment of the activations of the same stories; the same with the embeddings' alignment partialled \
         out; that of emotion vectors, computed from different halves of the topics in the two models; and its \
         ceiling, the value expected for two models that differ only by the noise of halves."
    }
}

/// The tables `cka` (layers at equal depth) and `cka_layers` (each layer with each).
///
/// `cka`: Kornblith et al. 2019, `|Y'X|^2 / (|X'X| |Y'Y|)` of centred activations. `cka_debiased`: the same with the
/// unbiased estimates of Song et al. 2012, as used by Nguyen et al. 2021 and Murphy et al. 2024. Both are computed
/// from Gram matrices of the stories in float64. If there are more than `stories` stories, those whose ids have the
/// smallest digests are used. `p` is the one-sided p-value of the debiased estimate, from shuffled orders of the
/// second model's stories. `low` and `high`: standard errors of the jackknife that leaves out topics (Efron and
/// Tibshirani 1993, chapter 11), assigned to at most 20 parts, times the 97.5th percentile of Student's t with one
/// degree of freedom fewer than parts; not computed for fewer than five topics. There is no bootstrap: a story drawn
/// twice would be perfectly similar to itself in both models. `partial`: the debiased estimate with those of the
/// embeddings partialled out, for models that keep their embeddings.
///
/// `emotions`: the debiased alignment of emotion vectors, with one row per emotion, between one model's vectors from
/// one half of the topics and the other model's vectors from the other half, averaged over both directions and
/// several pairs of halves; `emotions_ceiling` and `emotions_p` as in `rsa`. Requires four or more emotions, and
/// topics that can be split into halves.
///
/// In memory: one layer's activations of one model, one Gram matrix for each layer of the first model and one for the
/// second model.
fn run(params: &Cka, input: Input) -> Result<Tables> {
    let Input { sides, seed, progress, .. } = input;
    let shared = Shared::read(&sides, seed)?;
    let splits = Splits::of(&shared).filter(|_| shared.emotions.len() >= FEWEST_EMOTIONS);
    let stories = chosen(shared.stories.clone(), params.stories);
    let n = stories.len();
    ensure!(n >= FEWEST, "both models have activations of only {n} stories; {FEWEST} are needed");
    let matched = equal_depth(&sides)?;
    let [a, b] = &sides;
    let steps = a.layers.len() + 2 * b.layers.len();
    let mut first: Vec<(Layer, Gram, Estimates)> = Vec::new();
    for &layer in &a.layers {
        let gram = gram(a, layer, &stories)?;
        let own = gram.own();
        first.push((layer, gram, own));
        progress(first.len(), steps);
    }
    let embedded = |side: &Side| -> Result<Option<(Gram, Estimates)>> {
        let read = |layer: Layer| gram(side, layer, &stories).map(|gram| (gram.own(), gram));
        let read = side.layers.contains(&Layer::Embed).then_some(Layer::Embed).map(read).transpose()?;
        Ok(read.map(|(own, gram)| (gram, own)))
    };
    let embedded = [embedded(a)?, embedded(b)?];
    let kept = kept(&stories);
    let orders = rounds(seed, "cka permutations", params.permutations, |dice| dice.shuffled(n));
    let (mut plain, mut debiased) = (pairs::Layers::default(), Vec::new());
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for (done, &lb) in b.layers.iter().enumerate() {
        let second = gram(b, lb, &stories)?;
        let own = second.own();
        for (la, gram, of) in &first {
            let found = cka(gram, &second, [*of, own], None);
            plain.push(*la, lb, found.plain);
            debiased.push(found.debiased);
        }
        progress(a.layers.len() + 2 * done + 1, steps);
        for (at, (la, gram, of)) in first.iter().enumerate() {
            if !matched.contains(&(*la, lb)) {
                continue;
            }
            let found = cka(gram, &second, [*of, own], None);
            let null = |order: &Vec<usize>| cka(gram, &second, [*of, own], Some(order)).debiased;
            let null: Vec<f64> = orders.par_iter().map(null).collect();
            let left_out = |rows: &Vec<usize>| {
                let (x, y) = (gram.of(rows), second.of(rows));
                cka(&x, &y, [x.own(), y.own()], None).debiased
            };
            let error = jackknife(&kept.par_iter().map(left_out).collect::<Vec<_>>());
            let surface =
                embedded.iter().flatten().filter(|_| *la != Layer::Embed).map(|(gram, own)| (gram, *own));
            let all: Vec<(&Gram, Estimates)> =
                [(gram, *of), (&second, own)].into_iter().chain(surface).collect();
            let aligned =
                |x: &(&Gram, Estimates), y: &(&Gram, Estimates)| cka(x.0, y.0, [x.1, y.1], None).debiased;
            let emotions = match &splits {
                None => None,
                Some(splits) => Some(of_emotions((&shared, splits), &sides, (*la, lb), params.permutations)?),
            };
            rows.push((
                at,
                Row {
                    layers: (*la, lb),
                    found,
                    interval: (kept.len() >= FEWEST_GROUPS).then(|| {
                        let reach = t_95(kept.len() - 1) * error;
                        Interval { low: found.debiased - reach, high: found.debiased + reach }
                    }),
                    p: p_value(found.debiased, &null),
                    partial: if all.len() == 2 { None } else { partial(&all, aligned) },
                    emotions,
                },
            ));
        }
        progress(a.layers.len() + 2 * (done + 1), steps);
    }
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let mut layers = plain.finish("cka_layers/1", "cka");
    layers.columns.push(("cka_debiased".to_string(), Column::F64(debiased)));
    Ok(vec![("cka".into(), finish(&rows, n, a.n_layers)), ("cka_layers".into(), layers)])
}

/// The alignment of emotion vectors.
struct Alignment;

impl Likeness for Alignment {
    type Form = (Gram, Estimates);

    fn form(&self, gram: DMatrix<f64>) -> (Gram, Estimates) {
        let gram = Gram::new(gram.as_slice().to_vec(), gram.nrows());
        let own = gram.own();
        (gram, own)
    }

    fn like(&self, a: &Self::Form, b: &Self::Form, order: Option<&[usize]>) -> f64 {
        cka(&a.0, &b.0, [a.1, b.1], order).debiased
    }
}

/// The alignment, its ceiling and p.
fn of_emotions(
    of: (&Shared, &Splits),
    sides: &[Side; 2],
    layers: (Layer, Layer),
    permutations: usize,
) -> Result<[f64; 3]> {
    let a = Halves::read(&Alignment, of, &sides[0], layers.0)?;
    let b = Halves::read(&Alignment, of, &sides[1], layers.1)?;
    let found = crossed(&Alignment, &a.forms, &b.forms, None);
    let p = Chance::of(&Alignment, (&a, &b), found, permutations)?.p();
    Ok([found, ceiling(&Alignment, &a.forms, &b.forms), p])
}

struct Row {
    layers: (Layer, Layer),
    found: Estimates,
    interval: Option<Interval>,
    p: f64,
    partial: Option<f64>,
    emotions: Option<[f64; 3]>,
}

fn finish(rows: &[Row], stories: usize, n_layers: usize) -> Table {
    let layers = rows.iter().map(|row| (row.layers.0, row.layers.1, row.layers.0.depth(n_layers)));
    let column = |of: &dyn Fn(&Row) -> f64| Column::F64(rows.iter().map(of).collect());
    let emotions = |at: usize| Column::OptF64(rows.iter().map(|row| row.emotions.map(|of| of[at])).collect());
    let [low, high] = pairs::columns(&rows.iter().map(|row| row.interval).collect::<Vec<_>>());
    let columns = vec![
        ("cka", column(&|row| row.found.plain)),
        ("cka_debiased", column(&|row| row.found.debiased)),
        ("low", low),
        ("high", high),
        ("p", column(&|row| row.p)),
        ("partial", Column::OptF64(rows.iter().map(|row| row.partial).collect())),
        ("emotions", emotions(0)),
        ("emotions_ceiling", emotions(1)),
        ("emotions_p", emotions(2)),
        ("stories", Column::I32(vec![stories as i32; rows.len()])),
    ];
    pairs::table("cka/3", layers.collect(), columns)
}

/// At most `most` of `stories`, in their order: the selection depends only on their ids.
fn chosen(stories: Vec<Story>, most: usize) -> Vec<Story> {
    let mut digests: Vec<_> = stories.iter().map(|story| Sha256::digest(story.id.as_bytes())).collect();
    let all = digests.clone();
    digests.sort_unstable();
    let Some(bound) = digests.get(most) else { return stories };
    stories.into_iter().zip(all).filter(|(_, digest)| digest < bound).map(|(story, _)| story).collect()
}

/// For each part that is left out, the remaining stories.
fn kept(stories: &[Story]) -> Vec<Vec<usize>> {
    let mut places: HashMap<usize, usize> = HashMap::new();
    let mut groups: Vec<usize> = Vec::with_capacity(stories.len());
    for story in stories {
        let next = places.len();
        groups.push(*places.entry(story.group).or_insert(next));
    }
    let parts = PARTS.min(places.len());
    let stay = |part: usize| (0..stories.len()).filter(|&at| groups[at] % parts != part).collect();
    (0..parts).map(stay).collect()
}

/// The jackknife standard error from the values with each part left out in turn.
fn jackknife(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    ((n - 1.0) / n * values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()).sqrt()
}

/// The Gram matrix of the centred activations of `stories` at a layer.
fn gram(side: &Side, layer: Layer, stories: &[Story]) -> Result<Gram> {
    let places: HashMap<&str, usize> =
        stories.iter().enumerate().map(|(at, story)| (story.id.as_str(), at)).collect();
    let mut rows: Vec<f64> = Vec::new();
    let mut found = 0;
    let mut d = 0;
    for shard in 0..side.shards {
        let table = (side.activations)(layer, shard)?;
        if table.rows() == 0 {
            continue;
        }
        let (width, values) = table.list("activation")?;
        if rows.is_empty() {
            d = width;
            rows = vec![0.0; stories.len() * d];
        }
        ensure!(d == width, "activations of different widths at layer {layer}");
        for (id, values) in table.str("story_id")?.iter().zip(values.chunks_exact(d)) {
            let Some(&at) = places.get(id.as_str()) else { continue };
            rows[at * d..][..d].iter_mut().zip(values).for_each(|(to, &from)| *to = f64::from(from));
            found += 1;
        }
    }
    ensure!(found == stories.len(), "{found} of {} stories are there at layer {layer}", stories.len());
    let n = stories.len();
    let rows = Tensor::from_slice(&rows).view([n as i64, d as i64]);
    let rows = &rows - rows.mean_dim(0, true, tch::Kind::Double);
    let values = Vec::<f64>::try_from(rows.matmul(&rows.tr()).reshape(-1)).context("a Gram matrix")?;
    Ok(Gram::new(values, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        // Means of 1, 2, 4, 9 with each left out in turn; numpy.std([1, 2, 4, 9], ddof=1) / 2.
        let left_out = [5.0, 14.0 / 3.0, 4.0, 7.0 / 3.0];
        assert!((jackknife(&left_out) - 1.779_513_042_005_219_5).abs() < 1e-12);
    }

    #[test]
    fn topics_are_left_out_whole() {
        let story = |number: usize, group: usize| Story { id: number.to_string(), emotion: 0, group };
        let stories: Vec<Story> = (0..15).map(|at| story(at, at % 5)).collect();
        let kept = kept(&stories);
        assert_eq!(kept.len(), 5);
        assert_eq!(kept[1], [0, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14]);
        let few: Vec<Story> = (0..40).map(|at| story(at, at % 2)).collect();
        assert_eq!(super::kept(&few).iter().map(Vec::len).collect::<Vec<_>>(), [20; 2]);
    }

    #[test]
    fn a_choice_of_stories_does_not_hang_on_their_order() {
        let story = |id: String| Story { id, emotion: 0, group: 0 };
        let all: Vec<Story> = (0..50).map(|at| story(at.to_string())).collect();
        let mut ids: Vec<String> = chosen(all.clone(), 20).into_iter().map(|s| s.id).collect();
        let mut back: Vec<String> =
            chosen(all.iter().rev().cloned().collect(), 20).into_iter().map(|s| s.id).collect();
        assert_eq!(ids.len(), 20);
        ids.sort();
        back.sort();
        assert_eq!(ids, back);
        assert_eq!(chosen(all.clone(), 50), all);
    }
}
