//! What four sets of vectors of dialogues have to do with one another and with those of stories. Knows no table.

use anyhow::{Context, Result};

use super::super::labelled::{BySpan, Labelled, Row, likeness};
use super::super::tested::Tested;
use crate::stages::principal::cosine;
use crate::stages::statistics::correlation::{pearson, spearman};
use crate::stages::statistics::design::Weights;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{Scale, basic, mean, p_value, two_sided};

/// The sets: whose turns (0: the person's, 1: the assistant's), and whose emotion.
pub const SETS: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];
/// The place of the stories' vectors behind them.
pub const STORIES: usize = 4;

/// What two sets have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    /// Both the speaker's own emotion, or both the other speaker's.
    Relation,
    /// Whose emotion it is.
    Owner,
    /// Who speaks.
    Speaker,
}

impl Common {
    pub const ALL: [Common; 3] = [Common::Relation, Common::Owner, Common::Speaker];

    pub fn name(self) -> &'static str {
        match self {
            Common::Relation => "same relation",
            Common::Owner => "same owner",
            Common::Speaker => "same speaker",
        }
    }

    /// Of two different sets.
    pub fn of(a: usize, b: usize) -> Common {
        let ([speaker, owner], [other, others]) = (SETS[a], SETS[b]);
        match (speaker == other, owner == others) {
            (true, _) => Common::Speaker,
            (_, true) => Common::Owner,
            _ => Common::Relation,
        }
    }
}

/// Every two of the sets and of the stories' vectors.
pub fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..=STORIES).flat_map(|a| (a + 1..=STORIES).map(move |b| (a, b)))
}

/// The vectors of the sets and of the stories, each `[emotion, d]`.
type Vectors = [Vec<f64>; 5];

/// Cosines between all pairs of emotions of a set.
fn between(a: &[f64], d: usize) -> Vec<Vec<f64>> {
    let rows = || a.chunks_exact(d);
    rows().map(|x| rows().map(|y| cosine(x, y)).collect()).collect()
}

/// Spearman's correlation of the cosines between emotions of two sets; `order`: under each other's names in the second.
fn rsa(a: &[Vec<f64>], b: &[Vec<f64>], order: &[usize]) -> f64 {
    let n = a.len();
    let pairs = || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let x: Vec<f64> = pairs().map(|(i, j)| a[i][j]).collect();
    let y: Vec<f64> = pairs().map(|(i, j)| b[order[i]][order[j]]).collect();
    spearman(&x, &y)
}

/// Two sets.
pub struct Pair {
    pub sets: (usize, usize),
    pub cosine: Tested,
    /// The correlation of their cosines between emotions, and its p.
    pub rsa: (f64, f64),
}

/// What is found at one layer.
pub struct Found {
    pub pairs: Vec<Pair>,
    /// The mean cosine over the two pairs with this in common.
    pub common: Vec<(Common, Tested)>,
    /// The difference of two of them, against emotions that change their owner.
    pub contrasts: Vec<((Common, Common), Tested)>,
    /// Whether an aroused speaker goes with a calm other one, where arousal is known of five emotions.
    pub regulation: Option<Tested>,
    /// `[emotion, d]`: the mean of both speakers' vectors of their own emotion.
    pub present: Vec<f64>,
}

/// How much is drawn.
pub struct Draw {
    pub shuffles: usize,
    pub resamples: usize,
    pub seed: u64,
}

/// Measures dialogues at one layer; spans are the person's turns and the assistant's. `stories`: `[emotion, d]`. `removed`: directions
/// that are taken out of the dialogues' vectors, as they are of the stories'. `arousal`: of emotions by their places.
///
/// # Errors
/// An emotion that a speaker feels in no dialogue.
pub fn measure(
    read: &Labelled,
    stories: &[f64],
    removed: &[Vec<f64>],
    arousal: &[(usize, f64)],
    draw: &Draw,
) -> Result<Found> {
    let d = read.d;
    let origins = [read.mean(0), read.mean(1)];
    let of = |label: &dyn Fn(&Row, usize) -> usize| -> Result<Vec<BySpan>> {
        let set = |[speaker, owner]: [usize; 2]| {
            read.sums(speaker, &origins[speaker], draw.seed, |row| label(row, owner))
        };
        SETS.into_iter().map(set).collect()
    };
    let own = of(&|row, owner| row.labels[owner])?;
    let with = |sets: [Vec<f64>; 4]| -> Vectors {
        let [a, b, c, d] = sets;
        [a, b, c, d, stories.to_vec()]
    };
    let weighted = |sets: &[BySpan], weights: &Weights| -> Option<Vectors> {
        let all: Vec<Vec<f64>> =
            sets.iter().map(|set| set.vectors(weights, removed)).collect::<Option<_>>()?;
        Some(with(all.try_into().ok()?))
    };
    let vectors = weighted(&own, &own[0].design.every()).with_context(|| {
        let lacks = |owner: usize| {
            let has = |emotion: usize| read.rows.iter().any(|row| row.labels[owner] == emotion);
            (0..read.emotions.len()).find(|&emotion| !has(emotion)).map(|at| &read.emotions[at])
        };
        let (who, emotion) = match lacks(0) {
            Some(emotion) => ("person", emotion.as_str()),
            None => ("assistant", lacks(1).map_or("", String::as_str)),
        };
        format!("there is no dialogue in which the {who} feels `{emotion}`: write more of them, or take the emotion out")
    })?;
    let all_pairs: Vec<(usize, usize)> = pairs().collect();
    let cosines =
        |v: &Vectors| -> Vec<f64> { all_pairs.iter().map(|&(a, b)| likeness(&v[a], &v[b], d)).collect() };
    let found = cosines(&vectors);
    // Emotions of each owner shuffled among the dialogues on a topic, of the two independently of each other.
    let shuffled: Vec<Vec<f64>> = rounds(draw.seed, "speakers labels", draw.shuffles, |draws| {
        let numbers = [draws.below(usize::MAX / 2), draws.below(usize::MAX / 2)];
        let set = |at: usize| {
            let shuffle = own[at].design.shuffle(numbers[SETS[at][1]]);
            own[at].shuffled(&shuffle, removed)
        };
        cosines(&with([set(0), set(1), set(2), set(3)]))
    });
    let resampled: Vec<Vec<f64>> =
        rounds(draw.seed, "speakers topics", own[0].design.resamples(draw.resamples), |draws| {
            let weights = own[0].design.drawn(draws.below(usize::MAX / 2)).ok()?;
            Some(cosines(&weighted(&own, &weights)?))
        })
        .into_iter()
        .flatten()
        .collect();
    let tested = |get: &dyn Fn(&[f64]) -> f64| {
        let value = get(&found);
        let null: Vec<f64> = shuffled.iter().map(|cosines| get(cosines)).collect();
        let draws: Vec<f64> = resampled.iter().map(|cosines| get(cosines)).collect();
        let interval = basic(value, &draws, Scale::Correlation);
        Tested { value, interval, null_mean: mean(&null), p: p_value(value, &null) }
    };
    let tables: Vec<Vec<Vec<f64>>> = vectors.iter().map(|set| between(set, d)).collect();
    let n = read.emotions.len();
    let straight: Vec<usize> = (0..n).collect();
    let of_pair = |(at, &(a, b)): (usize, &(usize, usize))| {
        let r = rsa(&tables[a], &tables[b], &straight);
        let null = rounds(draw.seed, "speakers rsa", draw.shuffles, |draws| {
            rsa(&tables[a], &tables[b], &draws.shuffled(n))
        });
        Pair { sets: (a, b), cosine: tested(&|cosines| cosines[at]), rsa: (r, p_value(r, &null)) }
    };
    let of_common = |common: Common, cosines: &[f64]| {
        let own =
            all_pairs.iter().zip(cosines).filter(|((a, b), _)| *b != STORIES && Common::of(*a, *b) == common);
        mean(&own.map(|(_, x)| *x).collect::<Vec<_>>())
    };
    // In all dialogues on a topic the two emotions change their owner with probability 1/2: where each emotion is first once and second
    // once, that stays so.
    let swapped: Vec<Vec<f64>> = rounds(draw.seed, "speakers owners", draw.shuffles, |draws| {
        let swap: Vec<usize> = (0..read.groups).map(|_| draws.below(2)).collect();
        let sets = of(&|row, owner| row.labels[owner ^ swap[row.group]]).ok()?;
        Some(cosines(&weighted(&sets, &sets[0].design.every())?))
    })
    .into_iter()
    .flatten()
    .collect();
    let contrasts = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (Common::ALL[a], Common::ALL[b]));
    let contrasted = |(a, b): (Common, Common)| {
        let get = |cosines: &[f64]| of_common(a, cosines) - of_common(b, cosines);
        let null: Vec<f64> = swapped.iter().map(|cosines| get(cosines)).collect();
        let draws: Vec<f64> = resampled.iter().map(|cosines| get(cosines)).collect();
        let value = get(&found);
        let interval = basic(value, &draws, Scale::Plain);
        ((a, b), Tested { value, interval, null_mean: mean(&null), p: two_sided(value, &null) })
    };
    Ok(Found {
        pairs: all_pairs.iter().enumerate().map(of_pair).collect(),
        common: Common::ALL.map(|common| (common, tested(&|cosines| of_common(common, cosines)))).to_vec(),
        contrasts: contrasts.map(contrasted).to_vec(),
        regulation: regulation(&vectors, d, arousal, draw),
        present: vectors[0]
            .iter()
            .zip(&vectors[3])
            .map(|(person, assistant)| (person + assistant) / 2.0)
            .collect(),
    })
}

/// Fewer rated emotions are no ground for a correlation.
const FEWEST: usize = 5;

/// Over emotions of the other speaker, the correlation of their arousal with that of the speaker's own emotions that their vectors
/// point at: for each the covariance of its cosines with the speaker's own vectors of the other emotions and these emotions' arousal. The mean
/// of both speakers'. Null: arousal shuffled over the emotions.
fn regulation(vectors: &Vectors, d: usize, arousal: &[(usize, f64)], draw: &Draw) -> Option<Tested> {
    if arousal.len() < FEWEST {
        return None;
    }
    let set = |wanted: [usize; 2]| &vectors[SETS.iter().position(|set| *set == wanted).unwrap_or(0)];
    // Of each speaker, [other speaker's emotion][own emotion].
    let cosines = [0, 1].map(|speaker| {
        let (other, present) = (set([speaker, 1 - speaker]), set([speaker, speaker]));
        let vector = |of: &[f64], at: usize| of[at * d..(at + 1) * d].to_vec();
        let row = |&(of, _): &(usize, f64)| -> Vec<f64> {
            arousal.iter().map(|&(to, _)| cosine(&vector(other, of), &vector(present, to))).collect()
        };
        arousal.iter().map(row).collect::<Vec<_>>()
    });
    let n = arousal.len();
    let r = |order: &[usize]| {
        let value = |at: usize| arousal[order[at]].1;
        let whole: Vec<f64> = (0..n).map(value).collect();
        let of_speaker = |cosines: &Vec<Vec<f64>>| {
            let leans = |at: usize| {
                let others = || (0..n).filter(move |&to| to != at);
                let middle = mean(&others().map(value).collect::<Vec<_>>());
                others().map(|to| cosines[at][to] * (value(to) - middle)).sum::<f64>()
            };
            pearson(&(0..n).map(leans).collect::<Vec<_>>(), &whole)
        };
        mean(&cosines.iter().map(of_speaker).collect::<Vec<_>>())
    };
    let value = r(&(0..n).collect::<Vec<_>>());
    let null =
        rounds(draw.seed, "speakers arousal", draw.shuffles, |draws: &mut Draws| r(&draws.shuffled(n)));
    Some(Tested::on_either_side(value, &null, None))
}
