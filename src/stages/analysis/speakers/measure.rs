//! Compares four sets of vectors from dialogues with one another and with those of stories. Independent of the tables.

use anyhow::{Context, Result};

use super::super::labelled::{Labelled, likeness};
use super::super::tested::Tested;
use crate::stages::principal::{cosine, dot, norm};
use crate::stages::statistics::correlation::{pearson, spearman};
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{Scale, basic, mean, p_value};

/// The sets: whose turns (0: the person's, 1: the assistant's), and whose emotion.
pub const SETS: [[usize; 2]; 4] = [[0, 0], [0, 1], [1, 0], [1, 1]];
/// The index of the stories' vectors, which follow them.
pub const STORIES: usize = 4;

/// What two sets have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    /// Both are the speaker's own emotion, or both the other speaker's.
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

    /// For two different sets.
    pub fn of(a: usize, b: usize) -> Common {
        let ([speaker, owner], [other, others]) = (SETS[a], SETS[b]);
        match (speaker == other, owner == others) {
            (true, _) => Common::Speaker,
            (_, true) => Common::Owner,
            _ => Common::Relation,
        }
    }
}

/// All pairs of the sets and the stories' vectors.
pub fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..=STORIES).flat_map(|a| (a + 1..=STORIES).map(move |b| (a, b)))
}

/// The vectors of the sets and of the stories, each `[emotion, d]`.
type Vectors = [Vec<f64>; 5];

/// Cosines, `[emotion of a][emotion of b]`.
fn between(a: &[f64], b: &[f64], d: usize) -> Vec<Vec<f64>> {
    let units = |set: &[f64]| -> Vec<Vec<f64>> {
        let unit = |row: &[f64]| {
            let length = norm(row);
            row.iter().map(|x| if length > 0.0 { x / length } else { 0.0 }).collect()
        };
        set.chunks_exact(d).map(unit).collect()
    };
    let b = units(b);
    units(a).iter().map(|x| b.iter().map(|y| dot(x, y)).collect()).collect()
}

/// Spearman's correlation of the cosines between emotions of two sets, under these permutations of the emotions.
fn rsa(a: &[Vec<f64>], b: &[Vec<f64>], [names_a, names_b]: [&[usize]; 2]) -> f64 {
    let n = a.len();
    let pairs = || (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
    let x: Vec<f64> = pairs().map(|(i, j)| a[names_a[i]][names_a[j]]).collect();
    let y: Vec<f64> = pairs().map(|(i, j)| b[names_b[i]][names_b[j]]).collect();
    spearman(&x, &y)
}

/// A pair of sets.
pub struct Pair {
    pub sets: (usize, usize),
    pub cosine: Tested,
    /// The correlation of their cosines between emotions, and its p.
    pub rsa: (f64, f64),
}

/// The results at one layer.
pub struct Found {
    pub pairs: Vec<Pair>,
    /// The mean cosine over the two pairs with this in common.
    pub common: Vec<(Common, Tested)>,
    /// The difference of two such means, tested against emotions with exchanged owners.
    pub contrasts: Vec<((Common, Common), Tested)>,
    /// Whether an aroused speaker goes with a calm other one, if the arousal of five emotions is known.
    pub regulation: Option<Tested>,
    /// `[emotion, d]`: the mean of both speakers' vectors of their own emotion.
    pub present: Vec<f64>,
}

/// The numbers of random draws.
pub struct Draw {
    pub shuffles: usize,
    pub resamples: usize,
    pub seed: u64,
}

/// Measures dialogues at one layer; spans are the person's turns and the assistant's. `stories`: `[emotion, d]`.
/// `removed`: directions removed from the dialogues' vectors, as they are from the stories'. `arousal`: by the index
/// of the emotion.
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
    let (d, n) = (read.d, read.emotions.len());
    // The vectors of all sets, given the labels of both owners and the weights of the groups.
    let sets = |labels: &[Vec<usize>; 2], weights: Option<&[f64]>| -> Option<Vectors> {
        let [a, b, c, d] =
            SETS.map(|[speaker, owner]| read.vectors(speaker, &labels[owner], weights, removed));
        Some([a?, b?, c?, d?, stories.to_vec()])
    };
    let labels = [0, 1].map(|owner| read.labels(owner));
    let vectors = sets(&labels, None).with_context(|| {
        let lacks = |owner: usize| (0..n).find(|emotion| !labels[owner].contains(emotion));
        let (who, emotion) = match lacks(0) {
            Some(emotion) => ("person", Some(emotion)),
            None => ("assistant", lacks(1)),
        };
        let emotion = emotion.map_or("", |at| &read.emotions[at]);
        format!("there is no dialogue in which the {who} feels `{emotion}`: write more of them, or take the emotion out")
    })?;
    let all_pairs: Vec<(usize, usize)> = pairs().collect();
    let common = |&(a, b): &(usize, usize)| (b != STORIES).then(|| Common::of(a, b));
    let cosines =
        |v: &Vectors| -> Vec<f64> { all_pairs.iter().map(|&(a, b)| likeness(&v[a], &v[b], d)).collect() };
    let tables: Vec<Vec<Vec<f64>>> = vectors.iter().map(|set| between(set, set, d)).collect();
    let across: Vec<Vec<Vec<f64>>> =
        all_pairs.iter().map(|&(a, b)| between(&vectors[a], &vectors[b], d)).collect();
    // For each pair, the mean cosine of the same emotion and the correlation of the cosines between emotions.
    let under = |names: [&[usize]; 5]| -> Vec<[f64; 2]> {
        let of_pair = |(across, &(a, b)): (&Vec<Vec<f64>>, &(usize, usize))| {
            let same = names[a].iter().zip(names[b]).map(|(&x, &y)| across[x][y]);
            [mean(&same.collect::<Vec<_>>()), rsa(&tables[a], &tables[b], [names[a], names[b]])]
        };
        across.iter().zip(&all_pairs).map(of_pair).collect()
    };
    let own: Vec<usize> = (0..n).collect();
    let found = under([&own; 5]);
    // The emotions of the assistant and of the stories are permuted: whatever a set contains about its own emotions,
    // if it is unrelated to another set then all permutations are equally likely.
    let named = rounds(draw.seed, "speakers names", draw.shuffles, |draws| {
        let [other, told] = [(); 2].map(|()| draws.shuffled(n));
        under([&own, &other, &own, &other, &told])
    });
    // Two sets of one owner come from the same dialogues for each emotion, and the contents of a dialogue are alike
    // whatever is felt. Therefore each owner's emotions are shuffled among the dialogues on a topic, for both
    // speakers' turns together.
    let shuffled = rounds(draw.seed, "speakers labels", draw.shuffles, |draws| {
        let v = sets(&[0, 1].map(|owner| read.shuffled(owner, false, draws)), None)?;
        let of_pair = |pair @ &(a, b): &(usize, usize)| match common(pair) {
            Some(Common::Owner) => {
                let [first, second] = [&v[a], &v[b]].map(|set| between(set, set, d));
                [likeness(&v[a], &v[b], d), rsa(&first, &second, [&own; 2])]
            }
            _ => [f64::NAN; 2],
        };
        Some(all_pairs.iter().map(of_pair).collect())
    });
    let shuffled: Vec<Vec<[f64; 2]>> = shuffled.into_iter().flatten().collect();
    let resampled = rounds(draw.seed, "speakers topics", read.resamples(draw.resamples), |draws| {
        Some(cosines(&sets(&labels, Some(&read.resampled(draws)))?))
    });
    let resampled: Vec<Vec<f64>> = resampled.into_iter().flatten().collect();
    // In all dialogues on a topic the two emotions exchange their owners with probability 1/2: if each emotion is
    // first once and second once, this is preserved.
    let swapped = rounds(draw.seed, "speakers owners", draw.shuffles, |draws| {
        let swap: Vec<usize> = (0..read.groups).map(|_| draws.below(2)).collect();
        let labels =
            [0, 1].map(|owner| read.rows.iter().map(|row| row.labels[owner ^ swap[row.group]]).collect());
        Some(cosines(&sets(&labels, None)?))
    });
    let swapped: Vec<Vec<f64>> = swapped.into_iter().flatten().collect();
    let null = |of: Option<Common>| if of == Some(Common::Owner) { &shuffled } else { &named };
    let tested = |value: f64, null: &[f64], drawn: Vec<f64>| {
        let interval = basic(value, &drawn, Scale::Correlation);
        Tested { value, interval, null_mean: mean(null), p: p_value(value, null) }
    };
    let of_pair = |(at, pair): (usize, &(usize, usize))| {
        let of = common(pair);
        let drawn = resampled.iter().map(|cosines| cosines[at]).collect();
        let [cosines, rsas] =
            [0, 1].map(|of_both| null(of).iter().map(|pairs| pairs[at][of_both]).collect::<Vec<_>>());
        let [cosine, rsa] = found[at];
        Pair { sets: *pair, cosine: tested(cosine, &cosines, drawn), rsa: (rsa, p_value(rsa, &rsas)) }
    };
    // The mean over both pairs of sets with this in common.
    let of_common = |of: Common, cosine: &dyn Fn(usize) -> f64| {
        let own = (0..all_pairs.len()).filter(|&at| common(&all_pairs[at]) == Some(of));
        mean(&own.map(cosine).collect::<Vec<_>>())
    };
    let in_common = |of: Common| {
        let null: Vec<f64> = null(Some(of)).iter().map(|pairs| of_common(of, &|at| pairs[at][0])).collect();
        let drawn = resampled.iter().map(|cosines| of_common(of, &|at| cosines[at])).collect();
        (of, tested(of_common(of, &|at| found[at][0]), &null, drawn))
    };
    let contrasts = [(0, 1), (0, 2), (1, 2)].map(|(a, b)| (Common::ALL[a], Common::ALL[b]));
    let contrasted = |(a, b): (Common, Common)| {
        let minus = |cosine: &dyn Fn(usize) -> f64| of_common(a, cosine) - of_common(b, cosine);
        let get = |cosines: &Vec<f64>| minus(&|at| cosines[at]);
        let [null, drawn] = [&swapped, &resampled].map(|all| all.iter().map(get).collect::<Vec<f64>>());
        let value = minus(&|at| found[at][0]);
        ((a, b), Tested::on_either_side(value, &null, basic(value, &drawn, Scale::Plain)))
    };
    Ok(Found {
        pairs: all_pairs.iter().enumerate().map(of_pair).collect(),
        common: Common::ALL.map(in_common).to_vec(),
        contrasts: contrasts.map(contrasted).to_vec(),
        regulation: regulation(&vectors, d, arousal, draw),
        present: vectors[0]
            .iter()
            .zip(&vectors[3])
            .map(|(person, assistant)| (person + assistant) / 2.0)
            .collect(),
    })
}

/// The minimum number of rated emotions for a correlation.
const FEWEST: usize = 5;

/// The correlation, over emotions of the other speaker, of their arousal with that of the speaker's own emotions that
/// their vectors point at: for each, the covariance of its cosines with the speaker's own vectors of the other
/// emotions and the arousal of these emotions. The mean over both speakers. Null: arousal shuffled over the emotions.
fn regulation(vectors: &Vectors, d: usize, arousal: &[(usize, f64)], draw: &Draw) -> Option<Tested> {
    if arousal.len() < FEWEST {
        return None;
    }
    let set = |wanted: [usize; 2]| &vectors[SETS.iter().position(|set| *set == wanted).unwrap_or(0)];
    // For each speaker, [other speaker's emotion][own emotion].
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
